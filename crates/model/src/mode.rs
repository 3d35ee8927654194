//! How a group stays able to act: a majority agrees to each change, or each side of a split may go on by itself.
//!
//! Always true: it never becomes weaker by itself. The third voter makes it `quorum`, unless an administrator chose; nothing
//! but an administrator makes it `availability` again.

use serde::{Deserialize, Serialize};

/// How a group stays able to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResilienceMode {
    /// The primary alone counts, and each side of a split may go on.
    Availability,
    /// A majority of the voters agrees to each change.
    Quorum,
}

impl ResilienceMode {
    /// From how many voters on a majority survives the loss of one.
    pub const QUORUM_FROM: usize = 3;

    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Availability => "availability",
            Self::Quorum => "quorum",
        }
    }
}
