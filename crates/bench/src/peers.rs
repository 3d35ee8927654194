//! The sides of each comparison: Stead, and what it is measured against.

pub(crate) mod certificates;
pub(crate) mod etcd;
pub(crate) mod haproxy;
pub(crate) mod native;
pub(crate) mod redis;
pub(crate) mod ssh;
pub(crate) mod stead;
