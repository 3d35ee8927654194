//! What the HTTP API says and is told, as JSON. Field names are a contract with scripts.
//!
//! Always true: a server is given by its name, times are RFC 3339 in UTC, and a length of time is in the unit that its
//! field's name ends with. The command line reads these types too, so that both ends agree. Start at [`status`].

mod adding;
mod advice;
mod audit;
mod backup;
mod certificates;
mod divergence;
mod events;
mod gateways;
mod group;
mod pause;
mod profiles;
mod records;
mod recovery;
mod reset;
mod secrets;
mod status;
mod time;
mod tokens;

pub use adding::{
    AddedServer, AdditionRequest, Candidate, EnteredGroup, EnteringRequest, HeldRecords,
    LookRequest, SeenAuthority,
};
pub use advice::{AdvisedSettings, MeasuredTrip, ResilienceAdvice};
pub use audit::AuditEntry;
pub use backup::BackupRequest;
pub use certificates::{CertificateUpload, ExternalCertificate, PrivateKeyText};
pub use divergence::{
    DivergedRecord, Divergence, DivergenceDecision, DivergenceRequest, RefusedRecord,
};
pub use events::{Event, EventKindInfo, ExplainedCandidate, Explanation, Reason};
pub use gateways::{Gateway, GatewayCreation, GatewayHere};
pub use group::{
    AuthorityRotation, Backup, BackupAddition, BackupMove, Certificate, Invitation,
    InvitationRequest, Login, LoginRequest, Member, OpenInvitation, PinnedClient, Plan, PlanCheck,
    PlannedSession, Promotion, PromotionRequest, Revocation, RotationState, SealRotation,
    SealState, SecretRotation, SecretState, Trust,
};
pub use pause::{GroupPause, Pause, PauseRequest};
pub use profiles::{EffectiveValue, PreferenceValue, Preferences, Profile, ProfileValue};
pub use records::{
    ApiToken, ApiTokenRequest, App, AppChange, BackendHere, Drain, External, MadeApiToken, Offline,
    OfflineRequest, OnlineRequest, Override, Password, PasswordRequest, Server, ServerBackend,
    ServerChange, Session, SessionMove, SessionRequest, Setting, SettingValue, User, UserChange,
    UserCreation,
};
pub use recovery::{Recovered, RecoveryRequest};
pub use reset::{GroupReset, ResetRequest};
pub use secrets::{SecretChange, StoredSecret};
pub use status::{
    Attention, Failover, FormationSummary, Primary, Quorum, Returning, ServerStatus, Status, View,
};
pub use time::rfc3339;
pub use tokens::{Token, TokenChange, TokenCreation};

use serde::{Deserialize, Deserializer};

/// Tells a field that is absent (`None`) from one that is `null` (`Some(None)`), for changes of records.
pub(crate) fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}
