//! The built plugin, run as a runtime runs it: a host and a pod of the test's own, an API server in memory, and scripts
//! as delegates.
//!
//! Where the cases of the original's own tests are:
//!
//! | Cases | Tests |
//! |---|---|
//! | `Reserve`: what is given, what is refused | `src/ipam/tests.rs`, by their names |
//! | `Reserve`: `resolvedConflictDuringUpdate`, `unresolvedConflictAfterUpdate`, `errorUpdate` | `conflicts.rs` |
//! | `Free` | `src/ipam/tests.rs`; after a conflict: `conflicts.rs` |
//! | `bitarray` | `src/ipam/bitmap.rs`, `src/ipam/subnet.rs` |
//! | `IsDelegationRequired`, `IsDeviceNeeded` | `src/delegate.rs` |
//! | `staticCniSuccess`, `staticCniNoConfig`, `staticCniNoBinary` | `delegates.rs` |
//! | `dynamicMacvlanIpv4`, `dynamicMacvlanIpv4Type020Result` | `delegates.rs` |
//! | `dynamicSriovNoDeviceId`, `dynamicSriovL3`, `dynamicSriovL2`, `popDevice` | `sriov.rs` |
//! | `bridgeWithV4Overwrite`, `bridgeL3OriginalNoCidr`, `bridgeL3OriginalNoIp` | `delegates.rs` |
//! | `DelegateInterfaceDelete`: `bridgeWithDanmIpam`, `bridgeWithExternalIpam` | `delegates.rs` |
//! | `TestMergeCniResults` | `src/result.rs` |
//! | `AggregatedResult`: an error, a delegate without end | `failure.rs` |
//! | `netadmit`, as far as an API server can ask it | `tests/kinds` |
//!
//! `confman` and `netdel` are the webhook's work, which goes on beside this plugin.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "the tests of the kernel room use all of it")]
#[path = "../../../../shared/kernel/tests/kernel/bed.rs"]
mod bed;
mod world;

mod access;
mod addresses;
mod conflicts;
mod delegates;
mod failure;
mod faults;
mod ipvlan;
mod kills;
mod sriov;
mod tracer;
mod verbs;
