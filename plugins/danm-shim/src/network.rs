//! tmp
use std::collections::BTreeMap;
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub cidr: String,
    pub alloc: String,
    pub routes: BTreeMap<String, String>,
    pub allocation_pool: Option<Pool>,
    pub net6: String,
    pub alloc6: String,
    pub routes6: BTreeMap<String, String>,
    pub allocation_pool_v6: Option<Pool>,
}
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pool {
    pub start: String,
    pub end: String,
    pub last_ip: String,
    pub cidr: String,
}
