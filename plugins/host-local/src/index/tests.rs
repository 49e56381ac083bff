//! The table by itself: searching, filling up, wrapping round.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::*;

const BOOT: BootId = BootId(*b"11111111-2222-3333-4444-555555555555");

/// A file of a test's own, removed with the value.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("host-local-index-{}-{count}", std::process::id());
        Place(std::env::temp_dir().join(name))
    }

    fn index(&self, entries: &[Entry]) -> Index {
        Index::create(&self.0, entries, 7, BOOT).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn entry(hash: u64, host: u32) -> Entry {
    let ip = match host.is_multiple_of(2) {
        true => IpAddr::from(host.to_be_bytes()),
        false => IpAddr::from(u128::from(host).to_be_bytes()),
    };
    Entry { hash, ip }
}

#[test]
fn the_hash_never_changes() {
    assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c);
    assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
}

#[test]
fn a_header_is_read_as_it_was_written() {
    let place = Place::new();
    let written = place.index(&[entry(1, 1)]).header;
    let read = Index::open(&place.0, false).unwrap();
    assert_eq!(read.header, written);
    assert!(read.is_valid(written.token, BOOT));
    assert!(!read.is_valid(written.token + Duration::from_nanos(1), BOOT));
    assert!(!read.is_valid(written.token, BootId([b'x'; 36])));
    assert!(written.token < SystemTime::now() - Duration::from_secs(9));
}

#[test]
fn searches_go_round_the_end_of_the_table() {
    let place = Place::new();
    let mut index = place.index(&[]);
    let last = u64::from(SMALLEST) - 2;
    for host in 0..20 {
        assert!(index.insert(entry(last, host)).unwrap());
    }
    assert_eq!(index.find(last).unwrap().len(), 20);
    for host in (0..20).step_by(3) {
        index.remove(entry(last, host)).unwrap();
    }
    assert_eq!(
        index.find(last).unwrap().len(),
        13,
        "a tombstone does not end a search"
    );
    let used = index.header.used;
    assert!(index.insert(entry(last, 99)).unwrap());
    assert_eq!(index.header.used, used, "a tombstone is used again");
    assert_eq!(index.find(last + 1).unwrap(), [] as [IpAddr; 0]);
}

#[test]
fn a_full_table_says_so() {
    let place = Place::new();
    let mut index = place.index(&[]);
    let fitted =
        (0..SMALLEST).take_while(|n| index.insert(entry(hash(&n.to_le_bytes()), *n)).unwrap());
    assert_eq!(fitted.count() as u32, SMALLEST / 4 * 3);
    let entries: Vec<Entry> = (0..1000).map(|n| entry(hash(&[n as u8]), n)).collect();
    let index = place.index(&entries);
    assert_eq!((index.header.slots, index.header.used), (2048, 1000));
    assert_eq!(index.find(hash(&[5])).unwrap().len(), 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_finds_what_a_list_would_find(
        start in prop::collection::vec((0u64..30, 0u32..40), 0..60),
        steps in prop::collection::vec((any::<bool>(), 0u64..30, 0u32..40), 0..120),
    ) {
        let mut model: Vec<Entry> = Vec::new();
        for (hash, host) in start {
            if !model.contains(&entry(hash, host)) {
                model.push(entry(hash, host));
            }
        }
        let place = Place::new();
        let mut index = place.index(&model);
        for (add, hash, host) in steps {
            let entry = entry(hash, host);
            let known = model.contains(&entry);
            if add && !known {
                if index.insert(entry).unwrap() {
                    model.push(entry);
                } else {
                    index = place.index(&model);
                }
            } else if !add {
                index.remove(entry).unwrap();
                model.retain(|other| *other != entry);
            }
            let reopened = Index::open(&place.0, false).unwrap();
            let mut found = reopened.find(hash).unwrap();
            let mut expected: Vec<IpAddr> =
                model.iter().filter(|e| e.hash == hash).map(|e| e.ip).collect();
            found.sort();
            expected.sort();
            prop_assert_eq!(found, expected);
        }
    }
}
