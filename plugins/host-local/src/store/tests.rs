//! The index against the files: whatever anybody did, what the pool answers is what reading all files answers.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::*;
use crate::lease::address_of;

/// A pool of a test's own, removed with the value.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("host-local-pool-{}-{count}", std::process::id());
        Place(std::env::temp_dir().join(name))
    }

    fn pool(&self) -> Pool {
        Pool::create(&self.0).unwrap()
    }

    fn file(&self, ip: IpAddr) -> PathBuf {
        self.0.join(ip.to_string())
    }

    /// Who holds what by the files alone.
    fn read_all(&self, content: &str) -> Vec<IpAddr> {
        let mut found: Vec<IpAddr> = fs::read_dir(&self.0)
            .unwrap()
            .filter_map(|entry| address_of(entry.unwrap().file_name().to_str()?))
            .filter(|ip| {
                fs::read_to_string(self.file(*ip)).is_ok_and(|text| text.trim() == content)
            })
            .collect();
        found.sort();
        found
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One thing that somebody does to a pool.
#[derive(Debug, Clone, Copy)]
enum Step {
    Reserve,
    ReserveAndFail,
    Release,
    Look,
    ForeignReserve,
    ForeignEmpty,
    ForeignLegacy,
    ForeignRelease,
    Scan,
}

fn steps() -> impl Strategy<Value = Vec<(Step, u32, u32)>> {
    let step = prop_oneof![
        4 => Just(Step::Reserve),
        1 => Just(Step::ReserveAndFail),
        3 => Just(Step::Release),
        3 => Just(Step::Look),
        1 => Just(Step::ForeignReserve),
        1 => Just(Step::ForeignEmpty),
        1 => Just(Step::ForeignLegacy),
        1 => Just(Step::ForeignRelease),
        1 => Just(Step::Scan),
    ];
    prop::collection::vec((step, 0u32..12, 0u32..5), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_index_says_what_the_files_say(steps in steps()) {
        let place = Place::new();
        drop(place.pool());
        for (step, host, who) in steps {
            let ip = IpAddr::from(Ipv4Addr::from_bits(0x0a09_0000 + host));
            let owner = Owner::new(&format!("c{who}"), "eth0");
            match step {
                Step::Reserve | Step::ReserveAndFail => {
                    let mut pool = place.pool();
                    pool.held_by(&owner).unwrap();
                    let before = fs::read_to_string(place.file(ip)).ok();
                    let free = pool.reserve(ip, &owner).unwrap();
                    prop_assert_eq!(free, before.is_none_or(|text| text.is_empty()));
                    if let Step::Reserve = step {
                        pool.keep(0);
                    } else if free {
                        drop(pool);
                        prop_assert!(!place.file(ip).exists());
                    }
                }
                Step::Release => {
                    let mut pool = place.pool();
                    for ip in pool.held_by(&owner).unwrap() {
                        pool.release(ip, owner.content()).unwrap();
                    }
                }
                Step::Look => {
                    let mut pool = Pool::open_read_only(&place.0).unwrap().unwrap();
                    pool.held_by(&owner).unwrap();
                }
                Step::ForeignReserve | Step::ForeignEmpty | Step::ForeignLegacy => {
                    let content = match step {
                        Step::ForeignReserve => owner.content(),
                        Step::ForeignLegacy => owner.container_id(),
                        _ => "",
                    };
                    let _ = write_new(&place.file(ip), content.as_bytes());
                }
                Step::ForeignRelease => {
                    let _ = fs::remove_file(place.file(ip));
                }
                Step::Scan => {
                    let errors = place.pool().scan(|_| true).unwrap();
                    prop_assert!(errors.is_empty());
                }
            }
            for who in 0..5 {
                let owner = Owner::new(&format!("c{who}"), "eth0");
                let mut pool = Pool::open_read_only(&place.0).unwrap().unwrap();
                let mut found = pool.held_by(&owner).unwrap();
                found.sort();
                prop_assert_eq!(found, place.read_all(owner.content()));
                let mut found = pool.held_by_container(&owner).unwrap();
                found.sort();
                prop_assert_eq!(found, place.read_all(owner.container_id()));
            }
        }
    }
}

fn by_index(place: &Place) -> bool {
    let pool = Pool::open_read_only(&place.0).unwrap().unwrap();
    matches!(pool.known, Known::ByIndex)
}

#[test]
fn our_own_changes_keep_the_index_valid_and_others_do_not() {
    let place = Place::new();
    let ip = |host: u32| IpAddr::from(Ipv4Addr::from_bits(0x0a09_0000 + host));
    for host in 2..1000 {
        let owner = Owner::new(&format!("c{host}"), "eth0");
        let mut pool = place.pool();
        pool.held_by(&owner).unwrap();
        assert!(pool.reserve(ip(host), &owner).unwrap());
        pool.keep(0);
    }
    // The last ADD may have filled the table; then the next command writes it anew.
    place.pool().held_by(&Owner::new("x", "eth0")).unwrap();
    assert!(by_index(&place));
    let owner = Owner::new("c500", "eth0");
    place.pool().release(ip(500), owner.content()).unwrap();
    assert!(by_index(&place));

    fs::write(place.file(ip(1001)), "new\r\neth0").unwrap();
    assert!(!by_index(&place), "a file was made");
    place.pool().held_by(&owner).unwrap();
    assert!(by_index(&place));
    fs::remove_file(place.file(ip(1001))).unwrap();
    assert!(!by_index(&place), "a file was removed");
    place.pool().held_by(&owner).unwrap();

    // A command that dies before its last system call: the change is there, the token is not.
    let mut pool = place.pool();
    assert!(pool.reserve(ip(500), &owner).unwrap());
    std::mem::forget(pool);
    assert!(
        matches!(Index::open(&place.0.join(".index/owners"), false), Ok(index)
        if !index.is_valid(fs::metadata(&place.0).unwrap().modified().unwrap(), index.header.boot))
    );
}
