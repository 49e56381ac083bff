//! Looking at all files of a pool, and making room among those that nobody needs any more.

use std::collections::HashSet;
use std::fs::{self, DirEntry};
use std::io;
use std::net::IpAddr;

use cni::Error;
use nix::unistd::AccessFlags;

use super::{Known, Pool};
use crate::boot::{self, Leftover};
use crate::files::failed;
use crate::index::{self, Entry};
use crate::lease::{Held, address_of};

impl Pool {
    /// Every address that has a file, whatever is in it.
    pub(crate) fn taken(&self) -> Result<HashSet<IpAddr>, Error> {
        self.names()?.map(|name| Ok(name?.0)).collect()
    }

    fn names(&self) -> Result<impl Iterator<Item = Result<(IpAddr, DirEntry), Error>>, Error> {
        let unreadable = |e: io::Error| failed("read", &self.path, &e);
        let entries = fs::read_dir(&self.path).map_err(unreadable)?;
        let address = |entry: &DirEntry| address_of(entry.file_name().to_str()?);
        Ok(entries.filter_map(move |entry| match entry {
            Ok(entry) => address(&entry).map(|ip| Ok((ip, entry))),
            Err(e) => Some(Err(unreadable(e))),
        }))
    }

    /// Reads all address files, once, and removes those that are nobody's or that `keep` says no to.
    ///
    /// Answers what could not be read, which stays and holds its address, and what could not be removed.
    pub(crate) fn scan(&mut self, keep: impl Fn(&[u8]) -> bool) -> Result<Vec<Error>, Error> {
        let (mut entries, mut unneeded, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for name in self.names()? {
            let (ip, file) = name?;
            if file.file_type().is_ok_and(|kind| kind.is_dir()) {
                log::warn!("{}: is a directory", self.file(ip).display());
                continue;
            }
            match self.read(ip) {
                Err(e) => errors.push(failed("open", &self.file(ip), &e)),
                Ok(Held::By(content)) if keep(&content) => entries.push(Entry {
                    hash: index::hash(&content),
                    ip,
                }),
                Ok(_) => unneeded.push(ip),
            }
        }
        let complete = errors.is_empty();
        if self.writable {
            for ip in unneeded {
                errors.extend(self.remove(ip).err());
            }
            self.write_down_leftovers()?;
        }
        self.known = Known::ByScan { entries, complete };
        Ok(errors)
    }

    /// Whether the machine has booted since the index was written.
    fn has_booted(&self) -> bool {
        matches!((&self.index, self.boot), (Some(index), Some(boot)) if index.header.boot != boot)
    }

    /// The first scan of a boot writes down what was there before (see boot.rs).
    fn write_down_leftovers(&self) -> Result<(), Error> {
        if !self.has_booted() {
            return Ok(());
        }
        let list = self.index_file("previous-boot");
        if let Err(e) = boot::write(&list, &self.leftovers()?) {
            log::warn!("{}", failed("write", &list, &e));
        }
        Ok(())
    }

    /// The reservations from before this boot whose files are still the ones that were written down; or that
    /// would be written down now, if this is the first look in this boot.
    fn leftovers(&self) -> Result<Vec<Leftover>, Error> {
        let modified = |ip: IpAddr| fs::symlink_metadata(self.file(ip))?.modified();
        if !self.has_booted() {
            let mut listed = boot::read(&self.index_file("previous-boot"));
            listed.retain(|leftover| modified(leftover.ip).ok() == Some(leftover.modified));
            return Ok(listed);
        }
        let Some(start) = boot::start() else {
            return Ok(Vec::new());
        };
        let all = self.taken()?.into_iter().filter_map(|ip| {
            let modified = modified(ip).ok()?;
            Some(Leftover { ip, modified })
        });
        Ok(all.filter(|leftover| leftover.modified < start).collect())
    }

    /// Makes room in a set that has none, among the addresses that `wanted` says yes to: removes the files
    /// that are nobody's and those that a reboot left behind (see boot.rs). `true` if there is room now.
    pub(crate) fn reclaim(&mut self, wanted: impl Fn(IpAddr) -> bool) -> Result<bool, Error> {
        let before = self.taken()?.len();
        for error in self.scan(|_| true)? {
            log::warn!("{error}");
        }
        for Leftover { ip, .. } in self.leftovers()? {
            if wanted(ip) {
                let path = self.file(ip);
                log::warn!(
                    "{}: was reserved before this boot, taking it",
                    path.display()
                );
                self.remove(ip)?;
                if let Known::ByScan { entries, .. } = &mut self.known {
                    entries.retain(|entry| entry.ip != ip);
                }
            }
        }
        Ok(self.taken()?.len() < before)
    }

    /// Whether address files could be made here; not on a file system that is mounted read-only, for one.
    pub(crate) fn check_writable(&self) -> Result<(), Error> {
        let access = nix::unistd::access(&self.path, AccessFlags::W_OK);
        access.map_err(|e| failed("open", &self.path, &e.into()))
    }

    /// Whether [`Pool::reclaim`] would make room.
    pub(crate) fn could_reclaim(&self, wanted: impl Fn(IpAddr) -> bool) -> Result<bool, Error> {
        let nobodys = |ip: IpAddr| self.read(ip).ok() == Some(Held::ByNobody);
        Ok(self.leftovers()?.iter().any(|leftover| wanted(leftover.ip))
            || self
                .taken()?
                .into_iter()
                .any(|ip| wanted(ip) && nobodys(ip)))
    }
}
