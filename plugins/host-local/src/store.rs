//! The pool of one network: a directory of address files that other implementations use as well.
//!
//! ```text
//! <dataDir>/<network>/         0755
//!     lock                     0750, empty; everybody holds flock(LOCK_EX) while reading or changing
//!     10.1.2.5                 0600, "<container id>\r\n<interface>"
//!     last_reserved_ip.<i>     0600, the address that range set i handed out last: a hint, nothing more
//!     .index/owners            who holds what (see index.rs)
//!     .index/new               an address file before it has its name
//!     .index/previous-boot     what a reboot left behind (see boot.rs)
//! ```
//!
//! An address file is written under another name and then linked to its own, so nobody ever sees it empty.
//! Nothing is synced to the disk: a reservation that a power cut takes away belonged to a container that it
//! took away too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cni::{Code, Error};
use skel::Lock;

use crate::boot::BootId;
use crate::files::{failed, is_missing, make_directory, write_new};
use crate::hint::Hint;
use crate::index::{self, Entry, Index};
use crate::lease::{Held, Owner};

mod scan;

/// How long to wait for the lock: as long as a kubelet waits for its runtime. Holders need milliseconds, but the original on a big
/// pool tenths of a second, and dozens of those may be in front of us.
const PATIENCE: Duration = Duration::from_secs(120);

/// A locked pool. Dropped without [`Pool::keep`] it gives back what was reserved through it.
#[derive(Debug)]
pub(crate) struct Pool {
    path: PathBuf,
    directory: File,
    writable: bool,
    boot: Option<BootId>,
    /// The index file if it can be read, valid or not: its header is worth something in any case.
    index: Option<Index>,
    known: Known,
    /// Hash of the range sets this command handed out from; 0 if it did not.
    ranges: u64,
    /// Whether `.index/new` is there and holds the owner's content.
    staged: bool,
    /// What this command reserved.
    reserved: Vec<Entry>,
    /// Whether this command made or removed a file in the directory.
    touched: bool,
    /// Closed last: that unlocks.
    _lock: File,
}

/// How the files of a container are found.
#[derive(Debug)]
enum Known {
    /// Not yet: the index is not valid and nobody asked.
    Nothing,
    /// By the index file, which is valid but for the changes of this command (they are written to it at once).
    ByIndex,
    /// By this list, made from all files. An index is made of it unless there were files that could not be read.
    ByScan { entries: Vec<Entry>, complete: bool },
}

impl Pool {
    /// Locks the pool for changes and makes its directory where it is missing.
    pub(crate) fn create(path: &Path) -> Result<Pool, Error> {
        if let Some(pool) = Pool::open(path)? {
            return Ok(pool);
        }
        make_directory(path)?;
        Pool::open(path)?.ok_or_else(|| {
            let gone = ErrorKind::NotFound.into();
            failed("open", path, &gone)
        })
    }

    /// Locks the pool for changes; `None` when there is none.
    pub(crate) fn open(path: &Path) -> Result<Option<Pool>, Error> {
        Pool::lock(path, true)
    }

    /// Locks the pool against changes by others and changes nothing; `None` when there is none.
    pub(crate) fn open_read_only(path: &Path) -> Result<Option<Pool>, Error> {
        Pool::lock(path, false)
    }

    fn lock(path: &Path, writable: bool) -> Result<Option<Pool>, Error> {
        let file = path.join("lock");
        let lock = match File::open(&file) {
            Err(e) if e.kind() == ErrorKind::NotFound => OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o750)
                .open(&file),
            opened => opened,
        };
        let lock = match lock {
            Err(e) if is_missing(&e) => return Ok(None),
            lock => lock.map_err(|e| failed("open", &file, &e))?,
        };
        let kind = if writable {
            Lock::Exclusive
        } else {
            Lock::Shared
        };
        let taken = kind.take(&lock, PATIENCE);
        if !taken.map_err(|e| failed("flock", &file, &e))? {
            let (path, seconds) = (file.display(), PATIENCE.as_secs());
            let why = format!("another process has kept {path} locked for {seconds} seconds");
            return Err(Error::new(Code::TryAgainLater, why).details("lslocks names it"));
        }
        let directory = File::open(path).map_err(|e| failed("open", path, &e))?;
        let index = Index::open(&path.join(".index/owners"), writable).ok();
        let mut pool = Pool {
            path: path.to_owned(),
            directory,
            writable,
            boot: index.as_ref().and_then(|_| BootId::current()),
            index,
            known: Known::Nothing,
            ranges: 0,
            staged: false,
            reserved: Vec::new(),
            touched: false,
            _lock: lock,
        };
        if let (Some(index), Some(boot), Ok(modified)) = (&pool.index, pool.boot, pool.modified())
            && index.is_valid(modified, boot)
        {
            pool.known = Known::ByIndex;
        }
        Ok(Some(pool))
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.directory.metadata()?.modified()
    }

    fn file(&self, ip: IpAddr) -> PathBuf {
        self.path.join(ip.to_string())
    }

    fn read(&self, ip: IpAddr) -> io::Result<Held> {
        Held::read(&self.directory, ip)
    }

    fn index_file(&self, name: &str) -> PathBuf {
        self.path.join(".index").join(name)
    }

    /// Hash of the range sets that addresses were last handed out from; `None` when that is not known.
    pub(crate) fn last_ranges(&self) -> Option<u64> {
        let last = self.index.as_ref()?.header.ranges;
        (last != 0).then_some(last)
    }

    /// The addresses whose files say that this interface of this container holds them.
    pub(crate) fn held_by(&mut self, owner: &Owner) -> Result<Vec<IpAddr>, Error> {
        self.find(owner.content())
    }

    /// The addresses whose files say that this container holds them and do not say for which interface.
    pub(crate) fn held_by_container(&mut self, owner: &Owner) -> Result<Vec<IpAddr>, Error> {
        self.find(owner.container_id())
    }

    fn find(&mut self, content: &str) -> Result<Vec<IpAddr>, Error> {
        let hash = index::hash(content.as_bytes());
        let mut found = match (&self.known, &self.index) {
            (Known::ByIndex, Some(index)) => index.find(hash).unwrap_or_else(|e| {
                log::info!("{}: {e}; reading all files", self.path.display());
                self.known = Known::Nothing;
                Vec::new()
            }),
            _ => Vec::new(),
        };
        if let Known::Nothing = self.known {
            for error in self.scan(|_| true)? {
                log::warn!("{error}");
            }
        }
        if let Known::ByScan { entries, .. } = &self.known {
            let same = entries.iter().filter(|entry| entry.hash == hash);
            found = same.map(|entry| entry.ip).collect();
        }
        // The files are the truth: two contents may have one hash, and a file may be gone.
        found.retain(|ip| self.read(*ip).is_ok_and(|held| held.is_by(content)));
        Ok(found)
    }

    /// Removes an address file; one that is not there is removed.
    fn remove(&mut self, ip: IpAddr) -> Result<(), Error> {
        self.touched = true;
        let path = self.file(ip);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(failed("remove", &path, &e)),
            _ => Ok(()),
        }
    }

    /// Takes an address for the owner; `false` when somebody has it.
    pub(crate) fn reserve(&mut self, ip: IpAddr, owner: &Owner) -> Result<bool, Error> {
        let path = self.file(ip);
        self.stage(owner, &path)?;
        let staged = self.index_file("new");
        let link = || match fs::hard_link(&staged, &path) {
            Err(e) if has_no_links(&e) => write_new(&path, owner.content().as_bytes()),
            linked => linked,
        };
        let mut linked = link();
        if matches!(&linked, Err(e) if e.kind() == ErrorKind::AlreadyExists) {
            if self.read(ip).ok() != Some(Held::ByNobody) {
                return Ok(false);
            }
            log::warn!("{}: names no container, taking it", path.display());
            self.remove(ip)?;
            linked = link();
        }
        self.touched = true;
        linked.map_err(|e| failed("open", &path, &e))?;
        let entry = Entry {
            hash: owner.hash(),
            ip,
        };
        self.reserved.push(entry);
        self.note(entry);
        Ok(true)
    }

    /// Writes `.index/new`. It may still be there, after a kill, and be linked to an address file: so it is
    /// never written a second time, but made anew.
    fn stage(&mut self, owner: &Owner, wanted: &Path) -> Result<(), Error> {
        if self.staged {
            return Ok(());
        }
        let staged = self.index_file("new");
        let write = || write_new(&staged, owner.content().as_bytes());
        let written = match write() {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                fs::remove_file(&staged).and_then(|()| write())
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.touched = true;
                make_directory(&self.index_file(""))?;
                write()
            }
            written => written,
        };
        // People know the address file; the place it is prepared in would tell them nothing.
        written.map_err(|e| match e.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => failed("write", wanted, &e),
            _ => failed("open", wanted, &e),
        })?;
        self.staged = true;
        Ok(())
    }

    /// Gives back an address whose file has this content.
    pub(crate) fn release(&mut self, ip: IpAddr, content: &str) -> Result<(), Error> {
        self.remove(ip)?;
        let hash = index::hash(content.as_bytes());
        self.forget(Entry { hash, ip });
        Ok(())
    }

    /// Tells the index, or the list, of a file that was made. When the index is full or can't be written, nothing
    /// is known from here on; the directory's time says the same to the commands after this one.
    fn note(&mut self, entry: Entry) {
        let noted = match (&mut self.known, &mut self.index) {
            (Known::ByScan { entries, .. }, _) => {
                entries.push(entry);
                true
            }
            (Known::ByIndex, Some(index)) => index.insert(entry).unwrap_or(false),
            _ => false,
        };
        if !noted {
            self.known = Known::Nothing;
        }
    }

    /// Tells the index, or the list, of a file that was removed.
    fn forget(&mut self, entry: Entry) {
        let forgotten = match (&mut self.known, &mut self.index) {
            (Known::ByScan { entries, .. }, _) => {
                entries.retain(|other| *other != entry);
                true
            }
            (Known::ByIndex, Some(index)) => index.remove(entry).is_ok(),
            _ => false,
        };
        if !forgotten {
            self.known = Known::Nothing;
        }
    }

    /// What range set `set` handed out last.
    pub(crate) fn hint(&self, set: usize) -> Hint {
        Hint::read(&self.path, set)
    }

    /// Writes down what a range set handed out last.
    pub(crate) fn set_hint(&mut self, hint: Hint, ip: IpAddr) {
        self.touched |= hint.write(ip);
    }

    /// The ADD succeeded: what it reserved, from range sets with this hash, stays. Answers the addresses.
    pub(crate) fn keep(mut self, ranges: u64) -> Vec<IpAddr> {
        self.ranges = ranges;
        let reserved = std::mem::take(&mut self.reserved);
        reserved.into_iter().map(|entry| entry.ip).collect()
    }

    /// Makes the index say what the directory says; the token comes last.
    fn finish_index(&mut self) -> io::Result<()> {
        if let (Known::ByIndex, Some(index)) = (&self.known, &mut self.index) {
            if self.ranges != 0 && index.header.ranges != self.ranges {
                index.set_ranges(self.ranges)?;
            }
            let stamp = self.touched.then(|| index.stamp(&self.directory));
            return stamp.unwrap_or(Ok(()));
        }
        let Known::ByScan {
            entries,
            complete: true,
        } = &self.known
        else {
            return Ok(());
        };
        let Some(boot) = BootId::current() else {
            return Ok(());
        };
        let ranges = match (self.ranges, &self.index) {
            (0, Some(index)) => index.header.ranges,
            (ranges, _) => ranges,
        };
        let path = self.index_file("owners");
        let created = match Index::create(&path, entries, ranges, boot) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                make_directory(&self.index_file("")).map_err(io::Error::other)?;
                Index::create(&path, entries, ranges, boot)
            }
            created => created,
        };
        created?.stamp(&self.directory)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !self.writable {
            return;
        }
        for entry in std::mem::take(&mut self.reserved) {
            if let Err(e) = self.remove(entry.ip) {
                log::error!("roll-back: {e}");
            }
            self.forget(entry);
        }
        if self.staged {
            let _ = fs::remove_file(self.index_file("new"));
        }
        if let Err(e) = self.finish_index() {
            log::info!("{}: no index: {e}", self.path.display());
        }
    }
}

/// Whether the file system has no hard links, or none here. EPERM is also what a directory without the right
/// to write says; the same comes out then when the file is made directly.
fn has_no_links(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied
            | ErrorKind::Unsupported
            | ErrorKind::CrossesDevices
            | ErrorKind::TooManyLinks
    )
}

#[cfg(test)]
mod tests;
