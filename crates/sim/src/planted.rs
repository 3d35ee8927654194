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
    /// What was changed in a formation that gives way is dropped.
    DifferenceDropped,
    /// A side goes on without asking the tie-breakers.
    IslandUnasked,
    /// A server that is told that it was removed does not listen.
    RemovalUnheard,
    /// Placement takes every server for one that is online.
    OfflineUnseen,
    /// Nobody moves the sessions of a server that is drained.
    DrainForgotten,
    /// Keepers that are told to end their sessions go on.
    KeepersStay,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::LyingDisk,
        Self::RoleAlone,
        Self::ListIgnored,
        Self::PauseIgnored,
        Self::ReturnIgnored,
        Self::DifferenceDropped,
        Self::IslandUnasked,
        Self::RemovalUnheard,
        Self::OfflineUnseen,
        Self::DrainForgotten,
        Self::KeepersStay,
    ];
}
