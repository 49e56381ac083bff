//! A delegate that answers as told and writes down how it was called. It is this very program under another name: a plugin
//! finds it on `CNI_PATH` like any other, and a script beside the file tells it what to say.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::requirement::{Stop, fail};
use crate::spec::Verb;
use crate::stage::Stage;
use crate::trial::Trial;

/// The notes that the spies of one folder share.
const JOURNAL: &str = "journal";

/// What a spy says to one verb.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Lines {
    /// Printed with `{{ifname}}`, `{{netns}}` and `{{containerid}}` filled in from the call.
    pub stdout: String,
    /// Printed as it is.
    pub stderr: String,
    /// Exit status.
    pub exit: u8,
    /// Wait at the gate before answering; see [`Spy::gate`].
    pub hold: bool,
}

impl Lines {
    /// Exit status 0 with this document.
    pub fn document(document: &Value) -> Self {
        Self {
            stdout: document.to_string(),
            ..Self::default()
        }
    }

    /// Exit status 1 with an error object.
    pub fn error(code: i64, msg: &str) -> Self {
        let error = serde_json::json!({"cniVersion": "1.0.0", "code": code, "msg": msg});
        Self {
            stdout: error.to_string(),
            exit: 1,
            ..Self::default()
        }
    }
}

/// How a spy was called.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Witness {
    /// The name of the spy's file: the `type` it was called as.
    #[serde(default)]
    pub name: String,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// The bytes of stdin, as text.
    pub stdin: String,
}

impl Witness {
    /// A variable; empty when it was not set.
    pub fn var(&self, name: &str) -> &str {
        self.env.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Whether it was called with this verb.
    pub fn is(&self, verb: Verb) -> bool {
        self.var("CNI_COMMAND") == verb.as_str()
    }

    /// stdin as JSON.
    pub fn config(&self) -> Value {
        serde_json::from_str(&self.stdin).unwrap_or_default()
    }
}

/// A spy lying in a folder of its own.
#[derive(Debug)]
pub struct Spy {
    /// The folder, for `CNI_PATH`.
    pub folder: PathBuf,
    file: PathBuf,
    script: BTreeMap<String, Lines>,
}

impl Spy {
    /// Puts a spy under this name (a config's `type`) into a new folder. It answers every verb with success and no output.
    pub fn hire(trial: &Trial<'_>, name: &str) -> Result<Self, Stop> {
        let folder = trial.stage.folder(&format!("spies/{}", trial.serial()))?;
        Ok(Self::hire_in(trial.stage, folder, name)?)
    }

    /// The same in a given folder.
    pub fn hire_in(stage: &Stage, folder: PathBuf, name: &str) -> io::Result<Self> {
        // One copy of this program on the stage's own file system; every spy is a link to it.
        let body = stage.folder("spies")?.join("body");
        if !body.exists() {
            fs::copy("/proc/self/exe", &body)?;
        }
        let file = folder.join(name);
        fs::hard_link(&body, &file)?;
        let spy = Self {
            folder,
            file,
            script: BTreeMap::new(),
        };
        spy.write_script()?;
        Ok(spy)
    }

    /// Tells it what to say to a verb from now on.
    pub fn says(&mut self, verb: Verb, lines: Lines) -> Result<&mut Self, Stop> {
        self.script.insert(verb.as_str().into(), lines);
        self.write_script()?;
        Ok(self)
    }

    fn write_script(&self) -> io::Result<()> {
        fs::write(
            beside(&self.file, "script"),
            serde_json::to_vec(&self.script)?,
        )
    }

    /// How it was called so far, in order.
    pub fn witnessed(&self) -> Result<Vec<Witness>, Stop> {
        read_notes(&beside(&self.file, "calls"))
    }

    /// The calls with this verb.
    pub fn witnessed_verb(&self, verb: Verb) -> Result<Vec<Witness>, Stop> {
        Ok(self
            .witnessed()?
            .into_iter()
            .filter(|witness| witness.is(verb))
            .collect())
    }

    /// Opens a gate at which a spy whose lines say `hold` waits: the way to stop a plugin in the middle of its work.
    pub fn gate(&self) -> Result<Gate, Stop> {
        Ok(Gate {
            listener: UnixListener::bind(beside(&self.file, "gate"))?,
        })
    }
}

/// How the spies of a folder were called so far, in order over all of them.
pub fn journal(folder: &Path) -> Result<Vec<Witness>, Stop> {
    read_notes(&folder.join(JOURNAL))
}

/// Forgets what the spies of a folder have seen together; each of them still knows its own.
pub fn forget_journal(folder: &Path) -> Result<(), Stop> {
    Ok(fs::write(folder.join(JOURNAL), "")?)
}

fn read_notes(file: &Path) -> Result<Vec<Witness>, Stop> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    text.lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .map_err(|e| fail(format!("spy's notes: {e}")))
}

/// Where a spy waits.
#[derive(Debug)]
pub struct Gate {
    listener: UnixListener,
}

impl Gate {
    /// Waits until a spy stands at the gate. It goes on when the returned guard is dropped.
    pub fn arrival(&self, limit: Duration) -> Result<UnixStream, Stop> {
        use std::os::fd::AsFd;
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut waiting = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        if poll(&mut waiting, timeout).map_err(io::Error::from)? == 0 {
            return Err(fail(format!(
                "the delegate was not called within {limit:?}"
            )));
        }
        Ok(self.listener.accept()?.0)
    }
}

/// Plays the spy when this program was started under the name of one; `None` when it was started as itself.
pub fn play() -> Option<ExitCode> {
    let me = std::env::current_exe().ok()?;
    let script: BTreeMap<String, Lines> =
        serde_json::from_slice(&fs::read(beside(&me, "script")).ok()?).ok()?;
    Some(match perform(&me, &script) {
        Ok(exit) => ExitCode::from(exit),
        // 99 is no status a script uses, so that a broken spy doesn't look like a scripted answer.
        Err(_) => ExitCode::from(99),
    })
}

fn perform(me: &Path, script: &BTreeMap<String, Lines>) -> io::Result<u8> {
    let mut stdin = Vec::new();
    io::stdin().read_to_end(&mut stdin)?;
    let env = std::env::vars_os()
        .map(|(k, v)| (k.to_string_lossy().into(), v.to_string_lossy().into()))
        .collect();
    let name = me.file_name().unwrap_or_default();
    let witness = Witness {
        name: name.to_string_lossy().into_owned(),
        env,
        stdin: String::from_utf8_lossy(&stdin).into_owned(),
    };
    let line = serde_json::to_string(&witness)? + "\n";
    // One write in append mode: calls at the same time stay whole lines.
    for notes in [beside(me, "calls"), me.with_file_name(JOURNAL)] {
        let mut notes = OpenOptions::new().create(true).append(true).open(notes)?;
        notes.write_all(line.as_bytes())?;
    }

    let lines = script
        .get(witness.var("CNI_COMMAND"))
        .cloned()
        .unwrap_or_default();
    if lines.hold {
        // Reads until the harness lets go of the other end.
        UnixStream::connect(beside(me, "gate"))?.read_to_end(&mut Vec::new())?;
    }
    io::stderr().write_all(lines.stderr.as_bytes())?;
    let stdout = [
        ("{{ifname}}", "CNI_IFNAME"),
        ("{{netns}}", "CNI_NETNS"),
        ("{{containerid}}", "CNI_CONTAINERID"),
    ]
    .iter()
    .fold(lines.stdout, |text, (word, variable)| {
        text.replace(word, witness.var(variable))
    });
    io::stdout().write_all(stdout.as_bytes())?;
    Ok(lines.exit)
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}
