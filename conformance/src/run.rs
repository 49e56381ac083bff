//! The run: every plugin, at every version, for every requirement that applies.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::answer::{Answer, Exchange};
use crate::call::Call;
use crate::cli::Options;
use crate::cluster::ControlPlane;
use crate::document::read_versions;
use crate::families;
use crate::known::Known;
use crate::process;
use crate::profile::Profile;
use crate::report::{self, Report};
use crate::requirement::{Case, Failure, Requirement, Stop, fail};
use crate::spec::{Level, Verb, Version};
use crate::stage::{Ground, Stage};
use crate::trial::{Plugin, Trial};

/// What came of one case at one version.
#[derive(Debug)]
pub enum Verdict {
    /// The requirement is kept.
    Pass,
    /// It is broken.
    Fail(Failure),
    /// It is broken as was known beforehand; the text says what is known.
    Known(Failure, String),
    /// It could not be asked; the text says why.
    Skip(String),
    /// It is left open by the specification.
    Note,
}

/// One line of the report.
#[derive(Debug)]
pub struct Outcome<'run> {
    /// Who was asked.
    pub plugin: &'run Plugin,
    /// At which version.
    pub version: Version,
    /// What was asked.
    pub requirement: &'static Requirement,
    /// How strongly.
    pub level: Level,
    /// By which case of it.
    pub case: &'static Case,
    /// With what result.
    pub verdict: Verdict,
    /// What was seen besides.
    pub notes: Vec<String>,
    /// The calls that were made.
    pub exchanges: Vec<Arc<Exchange>>,
    /// How long it took.
    pub took: Duration,
}

/// Asks everything that the options ask for. The answer is whether all of it is well.
///
/// # Errors
/// A sentence for the operator when the work could not be done.
pub fn run(options: &Options) -> Result<bool, String> {
    let known = options
        .known
        .as_ref()
        .map_or_else(|| Ok(Known::default()), |file| Known::load(file))?;
    let mut report = Report::new(options.json.as_deref(), options.verbose)?;
    let candidates = select(options)?;
    let mut ground = Ground::prepare()?;
    let mut plugins = Vec::new();
    for (profile, file) in candidates {
        let mut plugin = Plugin {
            profile,
            file,
            bin_dir: absolute(&options.bin_dir)?,
            claims: None,
        };
        plugin.claims = claims(&plugin);
        plugins.push(plugin);
    }
    // From this thread, with which it would end.
    let asks =
        |plugin: &Plugin| plugin.profile.name == "multus" || !plugin.profile.objects.is_empty();
    if plugins.iter().any(asks) {
        ground.control_plane = ControlPlane::from_environment()?;
        let server = ground.control_plane.as_ref().map_or_else(
            || {
                "the one in memory; KUBEBUILDER_ASSETS names no folder with etcd and kube-apiserver"
                    .into()
            },
            |real| format!("kube-apiserver {} of KUBEBUILDER_ASSETS", real.version()),
        );
        report::text(&format!("API server: {server}\n"));
    }
    let wanted =
        |version: &Version| options.versions.is_empty() || options.versions.contains(version);
    let lanes: Vec<_> = plugins
        .iter()
        .flat_map(|plugin| {
            Version::ALL
                .into_iter()
                .filter(wanted)
                .map(move |version| (plugin, version))
        })
        .collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (sender, finished) = mpsc::channel();
        let (lanes, next, ground) = (&lanes, &next, &ground);
        let workers = thread::available_parallelism()
            .map_or(1, usize::from)
            .min(lanes.len());
        for _ in 0..workers {
            let sender = sender.clone();
            scope.spawn(move || work(ground, options, lanes, next, &sender));
        }
        drop(sender);
        // Told in the order of the list, whichever is done first.
        let mut done = BTreeMap::new();
        let mut told = 0;
        for (index, lane) in finished {
            done.insert(index, lane?);
            while let Some(mut outcomes) = done.remove(&told) {
                let (plugin, version) = lanes[told];
                outcomes
                    .iter_mut()
                    .for_each(|outcome| outcome.excuse_by(&known));
                report.lane(plugin, version, &outcomes)?;
                told += 1;
            }
        }
        if told < lanes.len() {
            Err("a worker of the harness died; please report this".to_owned())
        } else {
            Ok(())
        }
    })?;
    report.finish(&known)
}

/// A plugin at a version.
type Lane<'run> = (&'run Plugin, Version);
/// The index of a lane, and what came of it.
type Finished<'run> = (usize, Result<Vec<Outcome<'run>>, String>);

/// Takes lanes from the list until none is left, on a stage of its own.
fn work<'run>(
    ground: &Ground,
    options: &Options,
    lanes: &[Lane<'run>],
    next: &AtomicUsize,
    sender: &mpsc::Sender<Finished<'run>>,
) {
    let stage = Stage::enter(ground);
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(&(plugin, version)) = lanes.get(index) else {
            return;
        };
        let lane = match &stage {
            Ok(stage) if plugin.claims(version) => Ok(ask_all(stage, plugin, version, options)),
            Ok(_) => Ok(Vec::new()),
            Err(why) => Err(why.clone()),
        };
        if sender.send((index, lane)).is_err() {
            return;
        }
    }
}

fn absolute(folder: &std::path::Path) -> Result<PathBuf, String> {
    folder
        .canonicalize()
        .map_err(|error| format!("{}: {error}", folder.display()))
}

/// The plugins to ask, each with its profile and file.
fn select(options: &Options) -> Result<Vec<(Profile, PathBuf)>, String> {
    let bin_dir = absolute(&options.bin_dir)?;
    let mut profiles: BTreeMap<_, _> = Profile::built_in()?
        .into_iter()
        .map(|p| (p.title(), p))
        .collect();
    for file in &options.profiles {
        let profile = Profile::load(file)?;
        profiles.insert(profile.title(), profile);
    }
    let present = |name: &str| bin_dir.join(name).is_file();
    let titles = match options.plugins.as_slice() {
        [] => profiles
            .iter()
            .filter(|(_, profile)| present(&profile.name))
            .map(|(title, _)| title.clone())
            .collect(),
        // A plugin's name stands for all its ways of working, a title for one.
        named => {
            let mut titles = Vec::new();
            for name in named {
                let of_name = |(title, profile): &(&String, &Profile)| {
                    *title == name || profile.name == *name
                };
                let found: Vec<_> = profiles
                    .iter()
                    .filter(of_name)
                    .map(|(title, _)| title.clone())
                    .collect();
                if found.is_empty() {
                    return Err(format!(
                        "no profile for {name}: write one and pass it with --profile"
                    ));
                }
                titles.extend(found);
            }
            titles
        }
    };
    let mut chosen = Vec::new();
    for profile in titles
        .into_iter()
        .filter_map(|title| profiles.remove(&title))
    {
        let name = &profile.name;
        let missing = [name]
            .into_iter()
            .chain(&profile.delegates)
            .find(|name| !present(name));
        if let Some(missing) = missing {
            return Err(format!(
                "{name} can't be asked: there is no {missing} in {}",
                bin_dir.display()
            ));
        }
        let file = bin_dir.join(name);
        chosen.push((profile, file));
    }
    Ok(chosen)
}

/// What the plugin says it speaks. A plugin from before VERSION refuses the verb and speaks 0.1.0; one that answers with
/// `cniVersion` 0.2.0 and no list speaks 0.1.0 and 0.2.0.
fn claims(plugin: &Plugin) -> Option<Vec<String>> {
    let call = Call::bare(Verb::Version)
        .config(&serde_json::json!({"cniVersion": "1.0.0"}))
        .invocation(&plugin.file);
    let outcome = process::run(&call).ok()?;
    let answer = Answer::judged(&Arc::new(Exchange { call, outcome })).ok()?;
    if let Ok(refusal) = answer.refused(&[]) {
        return refusal
            .msg
            .contains("unknown CNI_COMMAND: VERSION")
            .then(|| vec!["0.1.0".into()]);
    }
    let document = answer.document?;
    if document.get("supportedVersions").is_none() && document["cniVersion"] == "0.2.0" {
        return Some(vec!["0.1.0".into(), "0.2.0".into()]);
    }
    read_versions(&document).ok()
}

fn ask_all<'run>(
    stage: &Stage,
    plugin: &'run Plugin,
    version: Version,
    options: &Options,
) -> Vec<Outcome<'run>> {
    let mut outcomes = Vec::new();
    for requirement in families::requirements() {
        let Some(level) = requirement.level(version) else {
            continue;
        };
        let wanted = options.ids.is_empty()
            || options
                .ids
                .iter()
                .any(|prefix| requirement.id.starts_with(prefix));
        let asked = wanted && options.only.is_none_or(|only| only == level);
        if !asked || !families::concerns(requirement, &plugin.profile) {
            continue;
        }
        outcomes.extend(
            requirement
                .cases
                .iter()
                .map(|case| ask(stage, plugin, version, requirement, level, case)),
        );
    }
    outcomes
}

fn ask<'run>(
    stage: &Stage,
    plugin: &'run Plugin,
    version: Version,
    requirement: &'static Requirement,
    level: Level,
    case: &'static Case,
) -> Outcome<'run> {
    let started = Instant::now();
    let trial = Trial::new(stage, plugin, version);
    let said = catch_unwind(AssertUnwindSafe(|| (case.run)(&trial)))
        .unwrap_or_else(|_| Err(fail("the harness itself broke here; please report this")));
    let (exchanges, mut notes) = trial.into_records();
    let verdict = match said {
        _ if level == Level::Obs => {
            if let Err(Stop::Fail(Failure { what: seen, .. }) | Stop::Skip(seen)) = said {
                notes.push(seen);
            }
            Verdict::Note
        }
        Ok(()) => Verdict::Pass,
        Err(Stop::Skip(why)) => Verdict::Skip(why),
        Err(Stop::Fail(Failure { what, exchange })) => Verdict::Fail(Failure {
            what,
            exchange: exchange.or_else(|| exchanges.last().cloned()),
        }),
    };
    Outcome {
        plugin,
        version,
        requirement,
        level,
        case,
        verdict,
        notes,
        exchanges,
        took: started.elapsed(),
    }
}

impl Outcome<'_> {
    /// Turns a failure that is listed into a known one, and tells the list about a pass.
    fn excuse_by(&mut self, known: &Known) {
        let (plugin, id, case) = (
            self.plugin.profile.name.as_str(),
            self.requirement.id,
            self.case.name,
        );
        match &self.verdict {
            Verdict::Pass => known.passed(plugin, id, case, self.version),
            Verdict::Fail(failure) => {
                if let Some(why) = known.excuse(plugin, id, case, self.version) {
                    self.verdict = Verdict::Known(failure.clone(), why.to_owned());
                }
            }
            _ => {}
        }
    }
}
