//! What is known of a keeper.

use model::{AppName, EndReason, Token, UnixMillis, UserName};

/// What a keeper says of its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeper {
    /// Whose session.
    pub token: Token,
    /// Who logged in.
    pub user: UserName,
    /// Which application.
    pub app: AppName,
    /// When it was made.
    pub created: UnixMillis,
    /// Where it is.
    pub phase: Phase,
    /// The address of the attached client, if one is.
    pub client: Option<String>,
    /// When a client was last attached.
    pub last_attached: Option<UnixMillis>,
}

/// Where a keeper's session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// The backend does not accept yet.
    Starting,
    /// It can be used.
    Running,
    /// It is over.
    Ended(EndReason),
}
