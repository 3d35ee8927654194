//! The sides of each comparison: Stead, and what it is measured against.

pub(crate) mod etcd;
pub(crate) mod finds;
pub(crate) mod redis;
pub(crate) mod stead;
