//! Bugs that are planted on purpose, to show that the rules find them.
//!
//! Each stands in what the simulation itself puts around the code that ships (its disks, and what a server is told), so that
//! no such switch exists in what ships.

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// Changes are acknowledged before they are on disk.
    LyingDisk,
    /// Whoever leads acts as primary, whether a quorum was heard or not.
    RoleAlone,
    /// Any voter takes the office, on the list of backups or not.
    ListIgnored,
    /// Failover goes on during a pause.
    PauseIgnored,
    /// The original primary takes over again whatever `primary-return` says.
    ReturnIgnored,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::LyingDisk,
        Self::RoleAlone,
        Self::ListIgnored,
        Self::PauseIgnored,
        Self::ReturnIgnored,
    ];
}
