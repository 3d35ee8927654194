//! Tickets: what takes the place of a password. Signed by the group (EdDSA), bound to a token or to the API,
//! checked on any server from its replica.
//!
//! A ticket of a disabled user, or from before the password was last set, is refused wherever it is shown.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use model::{Directory, GroupId, Role, Token, UnixMillis, User, UserName};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use wire::client::Hidden;

/// Clocks of members may differ by as much as joining allows.
const LEEWAY: Duration = Duration::from_secs(60);
const TICKET_LIMIT: usize = 2048;

/// What a ticket is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Use {
    Session,
    Api,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    /// The group that signed it.
    iss: String,
    /// The user.
    sub: UserName,
    /// What it is for.
    r#use: Use,
    /// The token that it is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    tok: Option<Token>,
    /// When it was signed, in milliseconds.
    at: u64,
    /// When it stops being valid, in seconds.
    exp: u64,
}

/// Why a ticket is refused. Which of them it was is logged, not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It is longer than any ticket.
    #[error("{0} bytes are too long for a ticket")]
    TooLong(usize),
    /// The signature does not hold, it has expired, or it is no ticket at all.
    #[error("the ticket does not verify")]
    Verify(#[source] Arc<jsonwebtoken::errors::Error>),
    /// It is for something else, or another token.
    #[error("the ticket is for something else")]
    OtherUse,
    /// The user is gone, disabled, or has a new password.
    #[error("the ticket's user is gone, disabled, or has a new password")]
    User,
    /// This server holds no key to sign with.
    #[error("this server does not hold the ticket key")]
    NoKey,
    /// The signature could not be made.
    #[error("the ticket cannot be signed")]
    Sign(#[source] Arc<jsonwebtoken::errors::Error>),
}

impl PartialEq<TicketError> for Arc<TicketError> {
    fn eq(&self, other: &TicketError) -> bool {
        **self == *other
    }
}

/// A ticket and when it stops being valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The ticket.
    pub ticket: Hidden,
    /// When it stops being valid.
    pub expires: UnixMillis,
}

/// Signs and checks tickets.
pub struct Tickets {
    group: GroupId,
    signing: Option<EncodingKey>,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets")
            .field("group", &self.group)
            .field("signs", &self.signing.is_some())
            .finish()
    }
}

impl Tickets {
    /// With the private key (PKCS #8), on servers that hold it.
    pub fn new(group: GroupId, pkcs8: Option<&[u8]>) -> Self {
        Self {
            group,
            signing: pkcs8.map(EncodingKey::from_ed_der),
        }
    }

    /// Whether this server can sign.
    pub fn can_sign(&self) -> bool {
        self.signing.is_some()
    }

    /// A ticket for the sessions of a token.
    ///
    /// # Errors
    /// When this server holds no key.
    pub fn for_token(
        &self,
        user: &UserName,
        token: &Token,
        now: UnixMillis,
        lifetime: Duration,
    ) -> Result<Issued, TicketError> {
        self.sign(user, Use::Session, Some(token.clone()), now, lifetime)
    }

    /// A ticket for the HTTP API.
    ///
    /// # Errors
    /// When this server holds no key.
    pub fn for_api(
        &self,
        user: &UserName,
        now: UnixMillis,
        lifetime: Duration,
    ) -> Result<Issued, TicketError> {
        self.sign(user, Use::Api, None, now, lifetime)
    }

    fn sign(
        &self,
        user: &UserName,
        r#use: Use,
        tok: Option<Token>,
        now: UnixMillis,
        lifetime: Duration,
    ) -> Result<Issued, TicketError> {
        let key = self.signing.as_ref().ok_or(TicketError::NoKey)?;
        let expires = now.after(lifetime);
        let claims = Claims {
            iss: self.group.to_string(),
            sub: user.clone(),
            r#use,
            tok,
            at: now.0,
            exp: expires.0 / 1000,
        };
        let ticket = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, key)
            .map_err(|error| TicketError::Sign(Arc::new(error)))?;
        Ok(Issued {
            ticket: Hidden(ticket),
            expires,
        })
    }

    /// Checks a ticket for the sessions of a token; gives the user and the token.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn check_session(
        &self,
        ticket: &Hidden,
        directory: &Directory,
    ) -> Result<(Arc<User>, Token), TicketError> {
        let claims = self.verify(ticket, directory)?;
        match (claims.r#use, &claims.tok) {
            (Use::Session, Some(token)) => Ok((live_user(&claims, directory)?, token.clone())),
            _ => Err(TicketError::OtherUse),
        }
    }

    /// Checks a ticket for the HTTP API; gives the user and the role that it has now.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn check_api(
        &self,
        ticket: &Hidden,
        directory: &Directory,
    ) -> Result<(UserName, Role), TicketError> {
        let claims = self.verify(ticket, directory)?;
        if claims.r#use != Use::Api {
            return Err(TicketError::OtherUse);
        }
        let user = live_user(&claims, directory)?;
        Ok((user.name.clone(), user.role))
    }

    fn verify(&self, ticket: &Hidden, directory: &Directory) -> Result<Claims, TicketError> {
        if ticket.0.len() > TICKET_LIMIT {
            return Err(TicketError::TooLong(ticket.0.len()));
        }
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = LEEWAY.as_secs();
        validation.set_issuer(&[self.group.to_string()]);
        validation.validate_aud = false;
        let key = DecodingKey::from_ed_der(&directory.group().authority.ticket_public);
        let verified = jsonwebtoken::decode::<Claims>(&ticket.0, &key, &validation)
            .map_err(|error| TicketError::Verify(Arc::new(error)))?;
        Ok(verified.claims)
    }
}

fn live_user(claims: &Claims, directory: &Directory) -> Result<Arc<User>, TicketError> {
    let user = directory.user(&claims.sub).ok_or(TicketError::User)?;
    if user.disabled || claims.at < user.password_set.0 {
        return Err(TicketError::User);
    }
    Ok(user.clone())
}
