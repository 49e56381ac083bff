//! Family F: what a plugin does when its store is broken or its request is.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use super::add::{addresses, held, with_ranges};
use crate::attachment::Attachment;
use crate::ensure;
use crate::mutate::mutations;
use crate::requirement::{Requirement, Stop, Verdict, case, fail, skip};
use crate::spec::{Kind, Must, Should, V0_1_0, V1_1_0, Verb, Version, code};
use crate::trial::Trial;

/// The requirements of this family; F1 has a file of its own.
pub const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        id: "F2",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::LEASING,
        sentence: "A store that can't be written makes ADD an error that leaves no lease; when it can be written again, ADD works.",
        section: "Error",
        cases: &[case("ROB-03", read_only_store)],
    },
    Requirement {
        id: "F3",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::LEASING,
        sentence: "A full store makes ADD an error that leaves no lease, no empty one either; when there is room again, ADD works.",
        section: "Error",
        cases: &[case("ROB-04", full_store)],
    },
    Requirement {
        id: "F4",
        levels: &[(V0_1_0..=V1_1_0, Should)],
        kinds: Kind::LEASING,
        sentence: "A damaged store does not keep anybody from getting an address.",
        section: "Error",
        cases: &[case("ROB-05", damaged_store), case("ROB-09", empty_lease)],
    },
    Requirement {
        id: "F5",
        levels: &[(V0_1_0..=V1_1_0, Must)],
        kinds: Kind::ALL,
        sentence: "A request that is wrong in any way is answered or refused: no signal, no crash, no hang, never anything but JSON.",
        section: "Error",
        cases: &[case("ROB-07", mutated_requests)],
    },
];

/// How many mutated requests a plugin gets, each as ADD and as DEL.
const MUTATIONS: usize = 300;
/// The same requests every time.
const SEED: u64 = 20_170_301;

/// For cases that do not depend on the version: they are put at the newest one the plugin speaks.
pub(super) fn newest_only(trial: &Trial<'_>) -> Verdict {
    let newest = Version::ALL
        .into_iter()
        .rfind(|version| trial.plugin.claims(*version));
    match newest {
        Some(newest) if newest != trial.version => {
            Err(skip("asked once, at the newest version the plugin speaks"))
        }
        _ => Ok(()),
    }
}

/// A file system of its own over the store of one network; gone when dropped.
struct StoreMount(PathBuf);

impl StoreMount {
    fn over(attachment: &Attachment<'_>) -> Result<StoreMount, Stop> {
        if attachment.earlier.is_some() {
            return Err(skip(
                "addresses come from an earlier plugin, and there is no store",
            ));
        }
        let store = attachment.store()?;
        mount(
            Some("store"),
            &store,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=64k,mode=0755"),
        )
        .map_err(std::io::Error::from)?;
        Ok(StoreMount(store))
    }

    fn read_only(&self, read_only: bool) -> Verdict {
        let flags = if read_only {
            MsFlags::MS_RDONLY
        } else {
            MsFlags::empty()
        };
        let again = MsFlags::MS_REMOUNT | flags;
        mount(
            None::<&str>,
            &self.0,
            None::<&str>,
            again,
            Some("size=64k,mode=0755"),
        )
        .map_err(std::io::Error::from)?;
        Ok(())
    }

    /// Writes until nothing more fits; answers the file to remove for room.
    fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let mut size = 64 * 1024;
        let mut content = Vec::new();
        while size > 0 {
            content.resize(content.len() + size, b'x');
            if fs::write(&filler, &content).is_err() {
                content.truncate(content.len() - size);
                size /= 2;
            }
        }
        filler
    }
}

impl Drop for StoreMount {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// ADD is refused and leaves no lease. What it left in the pod, A9 and G10 ask; a runtime calls DEL now.
fn refused_without_lease(attachment: &Attachment<'_>) -> Verdict {
    attachment
        .ask(Verb::Add)?
        .refused(&[code::IO, code::TRY_AGAIN, code::OWN])?;
    let left = held(attachment)?;
    ensure!(left.is_empty(), "the failed ADD left {left:?}");
    Ok(())
}

fn read_only_store(trial: &Trial<'_>) -> Verdict {
    trial.needs_link_kind()?;
    let mut attachment = trial.attachment()?;
    let store = StoreMount::over(&attachment)?;
    store.read_only(true)?;
    refused_without_lease(&attachment)?;
    store.read_only(false)?;
    attachment.del()?;
    attachment.add()?;
    attachment.del().map(drop)
}

fn full_store(trial: &Trial<'_>) -> Verdict {
    trial.needs_link_kind()?;
    let mut attachment = trial.attachment()?;
    let store = StoreMount::over(&attachment)?;
    let filler = store.fill();
    refused_without_lease(&attachment)?;
    fs::remove_file(filler)?;
    attachment.del()?;
    attachment.add()?;
    attachment.del().map(drop)
}

/// The folder of the network inside the store, found by letting the plugin make it.
fn pool(trial: &Trial<'_>, attachment: &Attachment<'_>) -> Result<PathBuf, Stop> {
    let mut first = attachment.sibling()?;
    first.add()?;
    let leases = first.leases()?;
    first.del()?;
    let folder = leases
        .first()
        .and_then(|lease| lease.parent())
        .map(Path::to_owned);
    folder.ok_or_else(|| {
        skip(format!(
            "{} keeps no leases in the store",
            trial.plugin.profile.name
        ))
    })
}

fn damaged_store(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    let pool = pool(trial, &attachment)?;
    fs::write(pool.join("last_reserved_ip.0"), "no address\n")?;
    fs::write(pool.join("stray"), [0, 255, 13, 10])?;
    fs::create_dir_all(pool.join("10.88.0.2"))?;
    fs::write(pool.join("10.88.0.3"), "")?;
    let result = attachment.add()?;
    ensure!(!addresses(&result).is_empty(), "no address: {result}");
    attachment.del().map(drop)
}

/// What a crash between creating a lease and writing it leaves: the only address of a pool, held by nobody.
fn empty_lease(trial: &Trial<'_>) -> Verdict {
    let mut attachment = trial.attachment()?;
    let pool = pool(trial, &attachment)?;
    let only =
        json!([[{ "subnet": "10.88.0.0/24", "rangeStart": "10.88.0.9", "rangeEnd": "10.88.0.9" }]]);
    with_ranges(&mut attachment, only, json!([]))?;
    fs::write(pool.join("10.88.0.9"), "")?;
    let result = attachment.add()?;
    ensure!(
        addresses(&result) == ["10.88.0.9/24"],
        "got {:?}",
        addresses(&result)
    );
    attachment.del().map(drop)
}

/// The machine's own files can't be written while this lives: a mutated path may lead anywhere.
struct ReadOnlyRoot;

impl ReadOnlyRoot {
    fn new() -> Result<ReadOnlyRoot, Stop> {
        remount_root(MsFlags::MS_RDONLY).map_err(|e| {
            skip(format!(
                "the root file system can't be protected from mutated paths: {e}"
            ))
        })?;
        Ok(ReadOnlyRoot)
    }
}

impl Drop for ReadOnlyRoot {
    fn drop(&mut self) {
        let _ = remount_root(MsFlags::empty());
    }
}

fn remount_root(flags: MsFlags) -> nix::Result<()> {
    let bind = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags;
    mount(None::<&str>, "/", None::<&str>, bind, None::<&str>)
}

fn mutated_requests(trial: &Trial<'_>) -> Verdict {
    newest_only(trial)?;
    let attachment = trial.attachment()?;
    let before = attachment.pod.state()?;
    let base: Value = serde_json::from_slice(
        &attachment
            .call(Verb::Add)
            .invocation(&trial.plugin.file)
            .stdin,
    )
    .map_err(|e| fail(e.to_string()))?;
    let _root = ReadOnlyRoot::new()?;
    for request in mutations(&base, SEED, MUTATIONS) {
        for verb in [Verb::Add, Verb::Del] {
            // Whatever the answer is, it has kept the rules that hold for every answer.
            let answer = trial.run(&attachment.call(verb).stdin(request.clone()))?;
            if !answer.succeeded() {
                answer.refused(&[])?;
            }
        }
    }
    // A mutated name or store may have kept its lease from the DEL of another one; the pod must be clean in any case.
    attachment.del()?;
    let now = attachment.pod.state()?;
    ensure!(
        now == before,
        "after all the requests and a DEL the pod has {now:?}"
    );
    Ok(())
}
