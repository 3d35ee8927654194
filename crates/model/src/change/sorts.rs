//! What sort of change a command is, and how much one may carry.

use super::{Command, PauseChange};

impl Command {
    /// Whether it changes the group's structure, or how the group stays able to act.
    pub fn is_structural(&self) -> bool {
        match self {
            Self::AdmitServer { .. }
            | Self::RemoveServer { .. }
            | Self::SetBackups { .. }
            | Self::EditBackups { .. }
            // Among what is put in place may be any of these.
            | Self::ApplyDiverged { .. }
            | Self::Invite { .. }
            | Self::WithdrawInvitation { .. } => true,
            Self::SetSetting { key, .. } | Self::UnsetSetting { key, .. } => {
                key.starts_with("resilience.")
            }
            _ => false,
        }
    }

    /// The most sessions that one change registers.
    pub const REGISTRATION_LIMIT: usize = 5_000;
    /// The most observations that one change carries.
    pub const OBSERVATION_LIMIT: usize = 5_000;
    /// The most spooled events that one change carries.
    pub const EVENT_LIMIT: usize = 1_000;
    /// The most diverged records that one change keeps, applies or discards.
    pub const DIVERGED_LIMIT: usize = 5_000;
    /// The most refusals that the outcome of [`Command::ApplyDiverged`] lists.
    pub const REFUSED_LIMIT: usize = 100;

    /// Whether it changes what people change, as opposed to what servers note of themselves and of each other.
    ///
    /// Where two formations meet, one without such changes since the fork has nothing to keep.
    pub fn is_user_change(&self) -> bool {
        match self {
            Self::AdmitServer { .. }
            | Self::RemoveServer { .. }
            | Self::SetMode { .. }
            | Self::EditServer { .. }
            | Self::SetAddresses { .. }
            | Self::SetBackups { .. }
            | Self::EditBackups { .. }
            | Self::SetSetting { .. }
            | Self::UnsetSetting { .. }
            | Self::PutUser { .. }
            | Self::RemoveUser { .. }
            | Self::UnlockUser { .. }
            | Self::PutApp { .. }
            | Self::RemoveApp { .. }
            | Self::Invite { .. }
            | Self::WithdrawInvitation { .. }
            | Self::CreateSession { .. }
            | Self::EndSession { .. }
            | Self::SelectSession { .. }
            | Self::MoveSession { .. }
            | Self::PutGateway { .. }
            | Self::RemoveGateway { .. }
            | Self::PutCertificate { .. }
            | Self::RemoveCertificate { .. }
            | Self::PutToken { .. }
            | Self::RemoveToken { .. }
            | Self::ChangeAuthority { .. }
            | Self::ChangeSecret { .. }
            | Self::ChangeSeal { .. }
            | Self::RevokeCertificates { .. }
            | Self::ChangeStoredSecret { .. }
            | Self::ChangeProfile { .. }
            | Self::ApplyDiverged { .. }
            | Self::DiscardDiverged { .. } => true,
            Self::ChangePause { change } => !matches!(change, PauseChange::RunOut),
            Self::SetVoting { .. }
            | Self::ReportServer { .. }
            | Self::TakePrimary { .. }
            // What strangers claim is nobody's doing.
            | Self::BindToken { .. }
            | Self::LockUser { .. }
            | Self::ObserveSessions { .. }
            | Self::RegisterSessions { .. }
            | Self::OrphanSessions { .. }
            | Self::RecordEvents { .. }
            | Self::FinishDrain { .. }
            | Self::KeepDivergence { .. } => false,
        }
    }
}
