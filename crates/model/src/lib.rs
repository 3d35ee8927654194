//! The directory as a value: what a group knows, and how changes turn one state into the next.
//!
//! Pure: no clock, randomness, locale or I/O. [`Directory::apply`] gives the same outcome and the same
//! events on every server for the same changes in the same order. Start reading at [`directory`], then
//! [`change`].

pub mod application;
pub mod apply;
pub mod audit;
pub mod authentication;
pub mod backups;
pub mod certificate;
pub mod change;
pub mod difference;
pub mod directory;
pub mod divergence;
pub mod event;
pub mod fields;
pub mod formation;
pub mod gateway;
pub mod id;
mod mode;
pub mod name;
pub mod pause;
pub mod placeholder;
pub mod profile;
pub mod record;
pub mod run_as;
pub mod sealed;
pub mod secret;
pub mod server;
pub mod session;
pub mod settings;
pub mod time;
pub mod token;
pub mod trust;
pub mod user;

pub use application::{Application, Backend, OnDrain, Resumable, Weighted};
pub use audit::Audited;
pub use authentication::{Authenticate, LdapUrl, Origin};
pub use backups::BackupEdit;
pub use certificate::ExternalCertificate;
pub use change::{Applied, Author, Change, Command, Outcome, Refusal};
pub use difference::{Difference, difference};
pub use directory::Directory;
pub use divergence::{Content, Diverged, Divergence, Subject, three_way};
pub use event::{Event, EventKind, Reason, Severity};
pub use fields::Fields;
pub use formation::{
    Cause, ChangeName, Formation, FormationRef, LINEAGE_LIMIT, Left, Side, common_change,
};
pub use gateway::{Gateway, TokenFrom};
pub use id::{
    ChangeId, FormationId, GroupId, IncarnationId, InvitationId, ServerId, SessionId, StreamId,
};
pub use ipnet::IpNet;
pub use mode::ResilienceMode;
pub use name::{
    ApiTokenName, AppName, ExternalName, GatewayName, GroupName, NameError, RegionName, SecretName,
    ServerName, Token, UserName,
};
pub use pause::{Pause, PauseChange};
pub use profile::{Preferences, Profile, ProfileChange};
pub use record::{Group, Key, Record};
pub use run_as::RunAs;
pub use sealed::SealedAt;
pub use secret::{StoredSecret, StoredSecretChange};
pub use server::{Drain, ExternalAddress, Mode, Server, Standing};
pub use session::{EndReason, Observation, Registration, Seen, Session, SessionState};
pub use settings::{SettingError, Settings};
pub use time::UnixMillis;
pub use token::RegisteredToken;
pub use trust::{
    Authority, AuthorityChange, AuthorityMark, GroupSecret, Invitation, KeyMark, RotationPhase,
    SealChange, SealMark, SealPhase, SealRecord, SecretChange, SecretMark, Succession,
};
pub use user::{ApiToken, Lock, Role, User};

/// The newest feature level that this code can work at.
///
/// A group works at the lowest level among its members; a server older than the group's level is refused.
pub const FEATURE_LEVEL: u32 = 1;
