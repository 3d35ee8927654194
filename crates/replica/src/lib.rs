//! The directory replicated: consensus, log, snapshots, formations, and the interface for changes and reads.
//!
//! What a floor above needs is re-exported here; openraft is used inside only. In the order in which to read:
//!
//! - [`Replica`] (`replica`): open, read, answer other servers; `propose` (changes), `acting` (who acts as primary, status),
//!   `office` (campaigns, hand-over), `members`;
//! - [`formation`]: making, joining and selecting formations on disk; `switch`: from one into another while it runs;
//!   `threshold`: when a log that was begun anew counts;
//! - `core`: openraft on its thread; `published`, `state_machine`, `storage`, `network`, `inbound`, `messages`: what it stands on;
//! - [`log`], `snapshot`, `snapshot_store`, `compaction`: what is on disk; [`disk`]: the disk itself, replaceable;
//! - [`clock`], [`runtime`]: time and chance, replaceable.
//!
//! Always true: an acknowledged change is on disk on a majority of the voters; servers apply the same changes in the same
//! order; messages of different formations never meet: each names its own, and is refused elsewhere.

mod acting;
pub mod clock;
mod compaction;
mod core;
pub mod disk;
pub mod formation;
mod gather;
mod in_sync;
mod inbound;
mod left_behind;
pub mod log;
mod members;
mod messages;
mod network;
mod office;
mod promise;
mod proposals;
mod propose;
mod published;
mod replica;
pub mod runtime;
mod snapshot;
mod snapshot_store;
mod state_machine;
mod storage;
mod switch;
mod threshold;
mod timing;
mod types;
mod watch;

pub use acting::{Acting, NotActing, Progress, Role, Status};
pub use clock::Moment;
pub use compaction::Limits as SnapshotLimits;
pub use core::StartError;
pub use left_behind::{LeftBehind, on_disk};
pub use log::{Driver, LogOptions, LogOwner, Room};
pub use members::MembersError;
pub use messages::{MAX_MESSAGE, MessageError};
pub use network::{Lane, LinkAnswer, LinkError, Links};
pub use office::{CampaignRefused, HAND_OVER, TransferError};
pub use propose::{Applied, ProposeError, ReadError};
pub use replica::{NotRunning, OpenError, Options, Replica};
pub use snapshot::SnapshotError;
pub use state_machine::State;
pub use switch::{Founding, SwitchError};
pub use threshold::Threshold;
pub use timing::{Timing, TimingError};
pub use types::{ChangeCodecError, MAX_CHANGE};
