//! Passwords and tickets: who may come in, and what he is given for it.

use super::Node;
use crate::api_tokens;
use crate::clock;
use crate::keys;
use crate::login::LoginError;
use crate::tickets::{Issued, TicketError, Tickets};
use model::user::PasswordHash;
use model::{ApiTokenName, Directory, Role, Token, UnixMillis, UserName};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use wire::client::Hidden;
use wire::control::{Answer, Request};

/// How long a server that signs may take.
const TICKET_LIMIT: Duration = Duration::from_secs(5);
/// How long a login for the API holds.
const API_LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// A login for the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminLogin {
    /// The account.
    pub user: UserName,
    /// For `Authorization: Bearer`.
    pub token: Hidden,
    /// What the account may do now.
    pub role: Role,
    /// When the login ends.
    pub expires: UnixMillis,
}

/// Who shows a bearer token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The account.
    pub user: UserName,
    /// What it allows now.
    pub role: Role,
    /// The name of the token, where it is one for programs.
    pub token: Option<ApiTokenName>,
}

impl Node {
    /// Checks a password for the API and gives a token for it. A name that cannot exist fails like a wrong password does, so that
    /// names cannot be told apart.
    ///
    /// # Errors
    /// Wrong, locked, busy or behind; or no server at hand can sign.
    pub async fn login(
        &self,
        said: &str,
        password: &Hidden,
        from: SocketAddr,
    ) -> Result<AdminLogin, LoginError> {
        let user: Option<UserName> = said.parse().ok();
        let who = |_: &Directory| user.clone();
        let account = self.check_password(who, said, password, from).await?;
        let signed = self
            .tickets()
            .for_api(&account.name, clock::calendar(), API_LIFETIME);
        let issued = signed.map_err(|error| {
            tracing::warn!(%error, "a login cannot be answered here");
            LoginError::Busy
        })?;
        Ok(AdminLogin {
            user: account.name.clone(),
            token: issued.ticket,
            role: account.role,
            expires: issued.expires,
        })
    }

    /// Who shows this bearer token, and what he may do now.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn check_bearer(&self, bearer: &str) -> Result<Bearer, TicketError> {
        let directory = self.directory();
        if api_tokens::is_one(bearer) {
            let allowed = api_tokens::check(bearer, &directory, clock::calendar());
            let allowed = allowed.map_err(|error| {
                tracing::debug!(%error, "a token for the API is refused");
                TicketError::ApiToken
            })?;
            return Ok(Bearer {
                user: allowed.user,
                role: allowed.role,
                token: Some(allowed.name),
            });
        }
        let (user, role) = self.tickets().check_api(bearer, &directory)?;
        Ok(Bearer {
            user,
            role,
            token: None,
        })
    }

    /// Hashes a new password, in the pool.
    ///
    /// # Errors
    /// When it is unfit or too many wait.
    pub async fn hash_password(&self, password: Hidden) -> Result<PasswordHash, LoginError> {
        self.0.logins.hash(password).await
    }

    /// A ticket for a user who has logged in here; signed elsewhere when this server holds no key.
    ///
    /// # Errors
    /// When no server that is reached can sign.
    pub(crate) async fn issue_ticket(
        &self,
        user: &UserName,
        token: &Token,
    ) -> Result<Issued, TicketError> {
        let tickets = self.tickets();
        if tickets.can_sign() {
            let lifetime = self.directory().settings().ticket_lifetime();
            return tickets.for_token(user, token, clock::calendar(), lifetime);
        }
        let directory = self.directory();
        let request = Request::IssueTicket {
            user: user.clone(),
            token: token.clone(),
        };
        for server in directory
            .servers()
            .filter(|server| server.standing.may_lead())
        {
            if let Ok(Answer::Ticket { ticket, expires }) =
                self.call(server.id, &request, TICKET_LIMIT).await
            {
                return Ok(Issued { ticket, expires });
            }
        }
        Err(TicketError::NoKey)
    }

    /// Opens the ticket key once the directory has it, or has another; servers without the seal key sign nothing.
    pub(crate) fn open_ticket_key(&self) {
        let directory = self.directory();
        let public = &directory.group().authority.ticket_public;
        if self.tickets().signs_as(public) || self.seal_key().is_none() {
            return;
        }
        match keys::open_ticket_key(&directory, &self.trust().seals) {
            Ok(key) => {
                let tickets = Tickets::new(self.0.identity.group, Some(&key));
                self.0.tickets.store(Arc::new(tickets));
            }
            Err(error) => {
                tracing::error!(%error, "the ticket key cannot be opened: logins here are signed elsewhere")
            }
        }
    }
}
