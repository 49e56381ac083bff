//! Who holds which address, as a hash table in a file: looked up and changed by reading and writing a few slots.
//!
//! The address files are the truth, and other implementations change them without knowing of this file. The
//! index is a way to find the files of one container without reading all of them, nothing else:
//!
//! - It says something only while the pool directory's modification time is its *token*, a time that was set by
//!   hand and lies ten seconds in the past of that moment. Whoever makes or removes a file in the directory,
//!   this program as well, sets the time to the present, which can't be equal to a token however coarse the
//!   file system's clock is. So the index is invalid from the first change of a command to its very last
//!   system call, which sets the token again, and a command that is killed leaves it invalid, never wrong.
//! - It says something only in the boot it was written in. Slots and directory reach the disk in any
//!   order, so after a power cut the token may be back and a slot may not.
//! - What it says is checked by reading the address file. An entry that is wrong costs one read.
//! - When it can't be read or written, all files are read instead.
//!
//! A file system that keeps whole seconds only loses the token; there every command reads all files.
//!
//! What it can't see is a hand that changes the directory, without the lock, in the microseconds between the
//! look at the time and the token; or the text inside a file. The first is healed by the next change, the second
//! does not happen: nobody writes into an address file a second time.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::boot::BootId;

const MAGIC: u64 = u64::from_le_bytes(*b"hl-own-1");
const HEADER: usize = 128;
const SLOT: usize = 32;
/// Slots read at once: a page's worth of probing at most, and nearly always enough.
const CHUNK: u32 = 8;
const SMALLEST: u32 = 256;
/// How far a token lies in the past.
const PAST: Duration = Duration::from_secs(10);

/// 64-bit FNV-1a. Written here because `DefaultHasher` may change with the compiler and these hashes are kept.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// One address and the hash of its file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) hash: u64,
    pub(crate) ip: IpAddr,
}

/// What the file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The directory's modification time while the index is valid.
    token: SystemTime,
    /// A power of two.
    slots: u32,
    /// Slots that are not empty: live ones and tombstones.
    used: u32,
    /// Hash of the range sets the pool was last used with; 0 when not known.
    pub(crate) ranges: u64,
    /// The boot it was written in.
    pub(crate) boot: BootId,
}

/// The open index file. Valid or not is for [`Index::is_valid`] to say.
#[derive(Debug)]
pub(crate) struct Index {
    file: File,
    pub(crate) header: Header,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// Never used: a search ends here.
    Empty,
    /// Was used: a search goes on.
    Tombstone,
    Live(Entry),
}

impl Index {
    /// Opens the file and reads its header. Errors also when it was made by nobody we know.
    pub(crate) fn open(path: &Path, writable: bool) -> io::Result<Index> {
        let file = OpenOptions::new().read(true).write(writable).open(path)?;
        let mut bytes = [0; HEADER];
        file.read_exact_at(&mut bytes, 0)?;
        let header = Header::decode(&bytes).ok_or_else(damaged)?;
        Ok(Index { file, header })
    }

    /// Whether it speaks of the directory as it is now.
    pub(crate) fn is_valid(&self, modified: SystemTime, boot: BootId) -> bool {
        self.header.token == modified && self.header.boot == boot
    }

    /// The addresses whose files had content with this hash.
    pub(crate) fn find(&self, hash: u64) -> io::Result<Vec<IpAddr>> {
        let mut found = Vec::new();
        self.probe(hash, |_, slot| {
            match slot {
                Slot::Empty => return ControlFlow::Break(()),
                Slot::Live(entry) if entry.hash == hash && !found.contains(&entry.ip) => {
                    found.push(entry.ip);
                }
                _ => {}
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Adds an entry; `false` when the table is too full for another one and has to be written anew.
    pub(crate) fn insert(&mut self, entry: Entry) -> io::Result<bool> {
        if self.header.used / 3 >= self.header.slots / 4 {
            return Ok(false);
        }
        let mut place = None;
        self.probe(entry.hash, |position, slot| match slot {
            Slot::Live(_) => ControlFlow::Continue(()),
            free => {
                place = Some((position, free));
                ControlFlow::Break(())
            }
        })?;
        let Some((position, free)) = place else {
            return Ok(false);
        };
        self.write_slot(position, Slot::Live(entry))?;
        if free == Slot::Empty {
            self.header.used += 1;
            self.write_header()?;
        }
        Ok(true)
    }

    /// Takes an entry out, if it is in.
    pub(crate) fn remove(&mut self, entry: Entry) -> io::Result<()> {
        let mut place = None;
        self.probe(entry.hash, |position, slot| {
            if slot == Slot::Live(entry) {
                place = Some(position);
            }
            match slot {
                Slot::Live(other) if other != entry => ControlFlow::Continue(()),
                Slot::Tombstone => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        })?;
        match place {
            Some(position) => self.write_slot(position, Slot::Tombstone),
            None => Ok(()),
        }
    }

    /// Remembers the range sets that the pool is used with.
    pub(crate) fn set_ranges(&mut self, ranges: u64) -> io::Result<()> {
        self.header.ranges = ranges;
        self.write_header()
    }

    /// The last step of a command that changed the directory: what the index says is true again.
    pub(crate) fn stamp(&self, directory: &File) -> io::Result<()> {
        directory.set_modified(self.header.token)
    }

    /// Writes a new index with these entries beside the old one and puts it in its place.
    ///
    /// The old one must not be changed in place: its token may still be the directory's.
    pub(crate) fn create(
        path: &Path,
        entries: &[Entry],
        ranges: u64,
        boot: BootId,
    ) -> io::Result<Index> {
        let slots = u32::try_from(entries.len() * 2)
            .map_err(io::Error::other)?
            .next_power_of_two()
            .max(SMALLEST);
        let header = Header {
            token: SystemTime::now() - PAST,
            slots,
            used: u32::try_from(entries.len()).map_err(io::Error::other)?,
            ranges,
            boot,
        };
        let mut bytes = vec![0; HEADER + slots as usize * SLOT];
        let (head, table) = bytes.split_at_mut(HEADER);
        head.copy_from_slice(&header.encode());
        let (table, _) = table.as_chunks_mut::<SLOT>();
        for entry in entries {
            let home = home(entry.hash, slots) as usize;
            let (before, after) = table.split_at_mut(home);
            let mut ring = after.iter_mut().chain(before);
            if let Some(free) = ring.find(|slot| **slot == [0; SLOT]) {
                *free = Slot::Live(*entry).encode();
            }
        }
        let beside = path.with_extension("new");
        let _ = fs::remove_file(&beside);
        let write = || -> io::Result<File> {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all_at(&bytes, 0)?;
            fs::rename(&beside, path)?;
            Ok(file)
        };
        let file = write().inspect_err(|_| {
            // On a full disk the half of an index would take the room of an address.
            let _ = fs::remove_file(&beside);
        })?;
        Ok(Index { file, header })
    }

    /// Shows the slots in the order a search looks at them, until the visitor has seen enough.
    fn probe(
        &self,
        hash: u64,
        mut visit: impl FnMut(u32, Slot) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let slots = self.header.slots;
        let (mut position, mut seen) = (home(hash, slots), 0);
        while seen < slots {
            let count = CHUNK.min(slots - position);
            let mut bytes = [[0; SLOT]; CHUNK as usize];
            let (wanted, _) = bytes.split_at_mut(count as usize);
            self.file
                .read_exact_at(wanted.as_flattened_mut(), offset(position))?;
            for slot in wanted {
                let slot = Slot::decode(slot).ok_or_else(damaged)?;
                if visit(position, slot).is_break() {
                    return Ok(());
                }
                position += 1;
            }
            position %= slots;
            seen += count;
        }
        Ok(())
    }

    fn write_slot(&self, position: u32, slot: Slot) -> io::Result<()> {
        self.file.write_all_at(&slot.encode(), offset(position))
    }

    fn write_header(&self) -> io::Result<()> {
        self.file.write_all_at(&self.header.encode(), 0)
    }
}

/// Where the search for a hash begins. The high half is mixed in: FNV-1a's low bits alone are the weak ones.
fn home(hash: u64, slots: u32) -> u32 {
    ((hash ^ (hash >> 32)) as u32) & (slots - 1)
}

fn offset(position: u32) -> u64 {
    HEADER as u64 + u64::from(position) * SLOT as u64
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the index is damaged")
}

/// Reads numbers out of a fixed array from front to back; zero behind its end.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((taken, rest)) = self.0.split_first_chunk() else {
            return [0; N];
        };
        self.0 = rest;
        *taken
    }
}

/// Puts the fields one behind the other and fills up with zeros.
fn packed<const N: usize>(fields: &[&[u8]]) -> [u8; N] {
    let mut bytes = [0; N];
    let all = fields.iter().copied().flatten();
    bytes.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
    bytes
}

impl Header {
    fn encode(&self) -> [u8; HEADER] {
        let token = self.token.duration_since(UNIX_EPOCH).unwrap_or_default();
        let fields: [u8; HEADER - 8] = packed(&[
            &MAGIC.to_le_bytes(),
            &token.as_secs().to_le_bytes(),
            &token.subsec_nanos().to_le_bytes(),
            &self.slots.to_le_bytes(),
            &self.used.to_le_bytes(),
            &self.ranges.to_le_bytes(),
            &self.boot.0,
        ]);
        packed(&[&fields, &hash(&fields).to_le_bytes()])
    }

    fn decode(bytes: &[u8; HEADER]) -> Option<Header> {
        let (fields, sum) = bytes.split_last_chunk::<8>()?;
        let mut reader = Reader(fields);
        let magic = u64::from_le_bytes(reader.take());
        let seconds = Duration::from_secs(u64::from_le_bytes(reader.take()));
        let nanos = Duration::from_nanos(u32::from_le_bytes(reader.take()).into());
        let header = Header {
            token: UNIX_EPOCH.checked_add(seconds)?.checked_add(nanos)?,
            slots: u32::from_le_bytes(reader.take()),
            used: u32::from_le_bytes(reader.take()),
            ranges: u64::from_le_bytes(reader.take()),
            boot: BootId(reader.take()),
        };
        let ours = magic == MAGIC && hash(fields) == u64::from_le_bytes(*sum);
        (ours && header.slots.is_power_of_two()).then_some(header)
    }
}

impl Slot {
    fn encode(self) -> [u8; SLOT] {
        match self {
            Slot::Empty => [0; SLOT],
            Slot::Tombstone => packed(&[&[1]]),
            Slot::Live(Entry { hash, ip }) => {
                let hash = hash.to_le_bytes();
                match ip {
                    IpAddr::V4(ip) => packed(&[&[4], &hash, &ip.octets()]),
                    IpAddr::V6(ip) => packed(&[&[6], &hash, &ip.octets()]),
                }
            }
        }
    }

    /// `None` for bytes that [`Slot::encode`] does not make.
    fn decode(bytes: &[u8; SLOT]) -> Option<Slot> {
        let mut reader = Reader(bytes);
        let [kind] = reader.take();
        let hash = u64::from_le_bytes(reader.take());
        let slot = match kind {
            0 => Slot::Empty,
            1 => Slot::Tombstone,
            4 => Slot::Live(Entry {
                hash,
                ip: IpAddr::from(reader.take::<4>()),
            }),
            6 => Slot::Live(Entry {
                hash,
                ip: IpAddr::from(reader.take::<16>()),
            }),
            _ => return None,
        };
        (slot.encode() == *bytes).then_some(slot)
    }
}

#[cfg(test)]
mod tests;
