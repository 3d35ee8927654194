//! Tickets: what takes the place of a password. Signed by the group (EdDSA), bound to a token or to the API,
//! checked on any server from its replica.
//!
//! A ticket of a disabled user, or from before the password was last set, is refused wherever it is shown: whose it is and
//! until when it holds is looked at each time. Only that its signature was verified is remembered ([`Verified`]).

use crate::clock;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use model::{Directory, GroupId, Role, Token, UnixMillis, User, UserName};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wire::client::Hidden;
use zeroize::Zeroizing;

/// Clocks of members may differ by as much as joining allows.
const LEEWAY: Duration = Duration::from_secs(60);
const TICKET_LIMIT: usize = 2048;
/// How tickets begin (RFC 7519, RFC 8037).
const HEADER: &[u8] = br#"{"typ":"JWT","alg":"EdDSA"}"#;
/// Verified tickets that are remembered at least; twice as many at most.
const REMEMBERED: usize = 8192;

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
    /// It is a token for programs that is unknown, revoked, expired, or of a disabled user.
    #[error("the token is unknown, revoked or expired, or its user is disabled")]
    ApiToken,
    /// It is for something else, or another token.
    #[error("the ticket is for something else")]
    OtherUse,
    /// The user is gone, disabled, or has a new password.
    #[error("the ticket's user is gone, disabled, or has a new password")]
    User,
    /// It may be valid: this server has no change since it was issued, and does not know its user.
    #[error("this server is behind: it may not have what the ticket speaks of yet")]
    Behind,
    /// It was signed with the ticket key before the one in force, and is for the API.
    #[error("the group has another ticket key now: log in again")]
    FormerKey,
    /// This server holds no key to sign with.
    #[error("this server does not hold the ticket key")]
    NoKey,
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

/// What a ticket for a token's sessions says.
#[derive(Debug)]
pub struct ForSession {
    /// Whose it is.
    pub user: Arc<User>,
    /// For which token.
    pub token: Token,
    /// Whether the ticket key before the one in force signed it: the client should get itself another now.
    pub former: bool,
}

/// Signs and checks tickets.
pub struct Tickets {
    group: GroupId,
    /// Read once: that takes longer than to sign.
    signing: Option<Ed25519KeyPair>,
    verified: Mutex<Verified>,
    /// The same for the ticket key before the one in force.
    verified_before: Mutex<Verified>,
}

/// What verified tickets say: a client shows its ticket with every request, and verifying it takes longer than answering.
///
/// A signature that was verified with a key stays so; everything that can change is not in here. With another key nothing is
/// found. The oldest are forgotten, half of all at a time.
#[derive(Default)]
struct Verified {
    /// The key that they were verified with.
    public: Vec<u8>,
    newer: HashMap<Shown, Arc<Claims>>,
    older: HashMap<Shown, Arc<Claims>>,
}

/// A ticket as it was shown, wiped when it is forgotten.
#[derive(PartialEq, Eq)]
struct Shown(Zeroizing<String>);

impl Hash for Shown {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_str().hash(state);
    }
}

impl Borrow<str> for Shown {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Verified {
    fn find(&mut self, public: &[u8], ticket: &str) -> Option<Arc<Claims>> {
        if self.public != public {
            return None;
        }
        if let Some(claims) = self.newer.get(ticket) {
            return Some(Arc::clone(claims));
        }
        let (shown, claims) = self.older.remove_entry(ticket)?;
        self.keep(shown, Arc::clone(&claims));
        Some(claims)
    }

    fn put(&mut self, public: &[u8], ticket: &str, claims: Arc<Claims>) {
        if self.public != public {
            *self = Self::default();
            public.clone_into(&mut self.public);
        }
        self.keep(Shown(Zeroizing::new(ticket.to_owned())), claims);
    }

    fn keep(&mut self, shown: Shown, claims: Arc<Claims>) {
        if self.newer.len() >= REMEMBERED {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(shown, claims);
    }
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
    /// With the private key (PKCS #8), on servers that hold it. With one that cannot be read it signs nothing.
    pub fn new(group: GroupId, pkcs8: Option<&[u8]>) -> Self {
        let read = |pkcs8| match Ed25519KeyPair::from_pkcs8(pkcs8) {
            Ok(key) => Some(key),
            Err(error) => {
                tracing::error!(%error, "the ticket key cannot be read: logins here are signed elsewhere");
                None
            }
        };
        Self {
            group,
            signing: pkcs8.and_then(read),
            verified: Mutex::default(),
            verified_before: Mutex::default(),
        }
    }

    /// Whether this server can sign.
    pub fn can_sign(&self) -> bool {
        self.signing.is_some()
    }

    /// Whether this server can sign with the key whose public half that is.
    pub fn signs_as(&self, public: &[u8]) -> bool {
        let own = self.signing.as_ref().map(|key| key.public_key().as_ref());
        own == Some(public)
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
        let claims = serde_json::to_vec(&claims)
            .expect("invariant: names and numbers can be written as JSON");
        let mut ticket = BASE64URL_NOPAD.encode(HEADER);
        ticket.push('.');
        BASE64URL_NOPAD.encode_append(&claims, &mut ticket);
        let signature = key.sign(ticket.as_bytes());
        ticket.push('.');
        BASE64URL_NOPAD.encode_append(signature.as_ref(), &mut ticket);
        Ok(Issued {
            ticket: Hidden(ticket),
            expires,
        })
    }

    /// Checks a ticket for the sessions of a token.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn check_session(
        &self,
        ticket: &Hidden,
        directory: &Directory,
    ) -> Result<ForSession, TicketError> {
        let verified = self.verify(&ticket.0, directory);
        let (claims, former) = verified.map_err(|error| match &error {
            // A key that came into force since may have signed it. Whoever forges one has nothing of that but to ask again.
            TicketError::Verify(source)
                if *source.kind() == ErrorKind::InvalidSignature
                    && is_after(&ticket.0, directory.group().clock) =>
            {
                TicketError::Behind
            }
            _ => error,
        })?;
        match (claims.r#use, &claims.tok) {
            (Use::Session, Some(token)) => Ok(ForSession {
                user: live_user(&claims, directory)?,
                token: token.clone(),
                former,
            }),
            _ => Err(TicketError::OtherUse),
        }
    }

    /// Checks a ticket for the HTTP API; gives the user and the role that it has now.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn check_api(
        &self,
        ticket: &str,
        directory: &Directory,
    ) -> Result<(UserName, Role), TicketError> {
        let (claims, former) = self.verify(ticket, directory)?;
        // Whoever administers logs in again: these may do more than to see one session.
        if former {
            return Err(TicketError::FormerKey);
        }
        if claims.r#use != Use::Api {
            return Err(TicketError::OtherUse);
        }
        let user = live_user(&claims, directory)?;
        Ok((user.name.clone(), user.role))
    }

    /// What a ticket says; and whether the ticket key before the one in force signed it.
    fn verify(
        &self,
        ticket: &str,
        directory: &Directory,
    ) -> Result<(Arc<Claims>, bool), TicketError> {
        if ticket.len() > TICKET_LIMIT {
            return Err(TicketError::TooLong(ticket.len()));
        }
        let public = &directory.group().authority.ticket_public;
        if public.is_empty() {
            return Err(TicketError::Behind);
        }
        let now = clock::calendar();
        let error = match self.verify_with(&self.verified, public, ticket) {
            Ok(claims) => return Ok((claims, false)),
            Err(error) => error,
        };
        if let Some(former) = directory.group().seal.former_tickets(now)
            && let Ok(claims) = self.verify_with(&self.verified_before, &former.public, ticket)
        {
            return Ok((claims, true));
        }
        Err(error)
    }

    fn verify_with(
        &self,
        verified: &Mutex<Verified>,
        public: &[u8],
        ticket: &str,
    ) -> Result<Arc<Claims>, TicketError> {
        let verified = || verified.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = (clock::calendar().0 / 1000).saturating_sub(LEEWAY.as_secs());
        if let Some(claims) = verified().find(public, ticket)
            && claims.exp >= oldest
        {
            return Ok(claims);
        }
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = LEEWAY.as_secs();
        validation.set_issuer(&[self.group.to_string()]);
        validation.validate_aud = false;
        let key = DecodingKey::from_ed_der(public);
        let decoded = jsonwebtoken::decode::<Claims>(ticket, &key, &validation)
            .map_err(|error| TicketError::Verify(Arc::new(error)))?;
        let claims = Arc::new(decoded.claims);
        verified().put(public, ticket, Arc::clone(&claims));
        Ok(claims)
    }
}

/// Whether a ticket, whoever signed it, says that it was signed after that.
fn is_after(ticket: &str, clock: UnixMillis) -> bool {
    let said = jsonwebtoken::dangerous::insecure_decode::<Claims>(ticket);
    said.is_ok_and(|said| said.claims.at > clock.0)
}

fn live_user(claims: &Claims, directory: &Directory) -> Result<Arc<User>, TicketError> {
    let unknown = || match directory.group().clock.0 < claims.at {
        true => TicketError::Behind,
        false => TicketError::User,
    };
    let user = directory.user(&claims.sub).ok_or_else(unknown)?;
    if user.disabled || claims.at < user.password_set.0 {
        return Err(TicketError::User);
    }
    Ok(user.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::nobody_in;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    use model::trust::Sealed;
    use model::user::PasswordHash;
    use model::{Authority, Record};

    const LIFETIME: Duration = Duration::from_secs(3600);

    /// A group's ticket keys: the private and the public one.
    fn keys() -> (Vec<u8>, Vec<u8>) {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        (pkcs8.as_ref().to_vec(), pair.public_key().as_ref().to_vec())
    }

    fn ann() -> User {
        User {
            name: "ann".parse().unwrap(),
            password: PasswordHash(String::new()),
            role: Role::Operator,
            groups: Vec::new(),
            disabled: false,
            password_set: UnixMillis(0),
            version_number: 0,
            api_tokens: Vec::new(),
            lock: None,
            origin: model::Origin::Directory,
        }
    }

    fn directory(public: &[u8], user: Option<User>) -> Directory {
        directory_at(public, user, UnixMillis(0))
    }

    fn directory_at(public: &[u8], user: Option<User>, clock: UnixMillis) -> Directory {
        let authority = Authority {
            certificate: Vec::new(),
            fingerprint: String::new(),
            key: Sealed(Vec::new()),
            ticket_public: public.to_vec(),
            ticket_key: Sealed(Vec::new()),
            expires: UnixMillis(0),
        };
        let group = model::record::Group {
            clock,
            ..nobody_in(GroupId::default(), "testers".parse().unwrap(), authority)
        };
        let group = Record::Group(Arc::new(group));
        let user = user.map(|user| Record::User(Arc::new(user)));
        Directory::from_records([group].into_iter().chain(user)).unwrap()
    }

    fn tickets(private: &[u8]) -> Tickets {
        Tickets::new(GroupId::default(), Some(private))
    }

    #[test]
    fn a_verified_ticket_is_refused_once_its_user_may_not_use_it() {
        let (private, public) = keys();
        let tickets = tickets(&private);
        let token: Token = "card.1".parse().unwrap();
        let now = clock::calendar();
        let issued = tickets
            .for_token(&ann().name, &token, now, LIFETIME)
            .unwrap();
        for _ in 0..2 {
            let found = tickets
                .check_session(&issued.ticket, &directory(&public, Some(ann())))
                .unwrap();
            assert_eq!(
                (found.user.name.as_str(), found.token),
                ("ann", token.clone())
            );
            assert!(!found.former);
        }
        let disabled = User {
            disabled: true,
            ..ann()
        };
        let other_password = User {
            password_set: now.after(Duration::from_millis(1)),
            ..ann()
        };
        let refused = |directory: &Directory| {
            let refused = tickets.check_session(&issued.ticket, directory);
            refused.unwrap_err()
        };
        for user in [Some(disabled), Some(other_password)] {
            assert_eq!(refused(&directory(&public, user)), TicketError::User);
        }
        // Whoever removed the user did so after the ticket was issued.
        let removed = directory_at(&public, None, now.after(Duration::from_millis(1)));
        assert_eq!(refused(&removed), TicketError::User);
        let api = tickets.check_api(&issued.ticket.0, &directory(&public, Some(ann())));
        assert_eq!(api.unwrap_err(), TicketError::OtherUse);
    }

    #[test]
    fn a_server_that_is_behind_does_not_call_a_ticket_invalid() {
        let (private, public) = keys();
        let tickets = tickets(&private);
        let issued = tickets
            .for_api(&ann().name, clock::calendar(), LIFETIME)
            .unwrap();
        // It has received nothing of its group yet, or nothing since long before the user was made.
        for public in [&[][..], &public] {
            let refused = tickets.check_api(&issued.ticket.0, &directory(public, None));
            assert_eq!(refused.unwrap_err(), TicketError::Behind);
        }
    }

    #[test]
    fn what_was_verified_with_one_key_is_not_with_another() {
        let ((private, public), (_, other)) = (keys(), keys());
        let tickets = tickets(&private);
        let issued = tickets
            .for_api(&ann().name, clock::calendar(), LIFETIME)
            .unwrap();
        let check = |public: &[u8]| {
            tickets
                .check_api(&issued.ticket.0, &directory(public, Some(ann())))
                .map(|(_, role)| role)
        };
        assert_eq!(check(&public).unwrap(), Role::Operator);
        assert!(matches!(check(&other), Err(TicketError::Verify(_))));
        assert_eq!(check(&public).unwrap(), Role::Operator);
    }

    #[test]
    fn tickets_of_the_key_before_hold_for_a_while_and_only_for_sessions() {
        let ((before, old), (private, public)) = (keys(), keys());
        let (then, now) = (tickets(&before), tickets(&private));
        let token: Token = "card.1".parse().unwrap();
        let at = clock::calendar();
        let old_ticket = then.for_token(&ann().name, &token, at, LIFETIME).unwrap();
        let with = |until: u64| {
            let directory = directory(&public, Some(ann()));
            let mut group = directory.group().clone();
            group.clock = at;
            group.seal = Arc::new(model::SealRecord {
                tickets: Some(model::trust::FormerTickets {
                    public: old.clone(),
                    until: UnixMillis(until),
                }),
                ..Default::default()
            });
            Directory::from_records([
                Record::Group(Arc::new(group)),
                Record::User(Arc::new(ann())),
            ])
            .unwrap()
        };
        let (holds, over) = (with(at.0 + 60_000), with(at.0 - 1));
        for _ in 0..2 {
            let found = now.check_session(&old_ticket.ticket, &holds).unwrap();
            assert!(found.former);
        }
        let refused = now.check_session(&old_ticket.ticket, &over).unwrap_err();
        assert!(matches!(refused, TicketError::Verify(_)), "{refused:?}");
        let api = then.for_api(&ann().name, at, LIFETIME).unwrap();
        let refused = now.check_api(&api.ticket.0, &holds).unwrap_err();
        assert_eq!(refused, TicketError::FormerKey);
        // Of a key that this server does not know yet.
        let (newer, _) = keys();
        let later = at.after(Duration::from_secs(1));
        let issued = tickets(&newer)
            .for_token(&ann().name, &token, later, LIFETIME)
            .unwrap();
        let refused = now.check_session(&issued.ticket, &holds).unwrap_err();
        assert_eq!(refused, TicketError::Behind);
    }

    #[test]
    fn a_verified_ticket_expires() {
        let (private, public) = keys();
        let tickets = tickets(&private);
        let directory = directory(&public, Some(ann()));
        let past = UnixMillis(clock::calendar().0 - 7_200_000);
        let issued = tickets.for_api(&ann().name, past, LIFETIME).unwrap();
        let claims = Claims {
            iss: GroupId::default().to_string(),
            sub: ann().name,
            r#use: Use::Api,
            tok: None,
            at: past.0,
            exp: issued.expires.0 / 1000,
        };
        // As if it had been verified while it held.
        let verified = &tickets.verified;
        verified
            .lock()
            .unwrap()
            .put(&public, &issued.ticket.0, Arc::new(claims));
        let refused = tickets.check_api(&issued.ticket.0, &directory);
        assert!(matches!(refused, Err(TicketError::Verify(_))));
    }

    #[test]
    fn forged_tickets_are_refused_and_not_remembered() {
        let (private, public) = keys();
        let tickets = tickets(&private);
        let directory = directory(&public, Some(ann()));
        let issued = tickets
            .for_api(&ann().name, clock::calendar(), LIFETIME)
            .unwrap();
        let mut forged = issued.ticket.0.into_bytes();
        let last = forged.last_mut().unwrap();
        *last = if *last == b'A' { b'B' } else { b'A' };
        // The last letter of a signature holds two bits only; the one before it holds six.
        let before = forged.len() - 2;
        forged[before] = if forged[before] == b'x' { b'y' } else { b'x' };
        let forged = String::from_utf8(forged).unwrap();
        for _ in 0..2 {
            assert!(matches!(
                tickets.check_api(&forged, &directory),
                Err(TicketError::Verify(_))
            ));
        }
        assert!(tickets.verified.lock().unwrap().newer.is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_used_stays() {
        let mut verified = Verified::default();
        let claims = Arc::new(Claims {
            iss: String::new(),
            sub: ann().name,
            r#use: Use::Api,
            tok: None,
            at: 0,
            exp: 0,
        });
        let find = |verified: &mut Verified, number: usize| {
            verified.find(b"key", &number.to_string()).is_some()
        };
        verified.put(b"key", "0", Arc::clone(&claims));
        for number in 1..5 * REMEMBERED {
            verified.put(b"key", &number.to_string(), Arc::clone(&claims));
            assert!(find(&mut verified, 0));
            assert!(verified.newer.len() + verified.older.len() <= 2 * REMEMBERED);
        }
        assert!(!find(&mut verified, 1));
        verified.put(b"other", "1", claims);
        assert!(!find(&mut verified, 0));
        assert_eq!(verified.newer.len() + verified.older.len(), 1);
    }
}
