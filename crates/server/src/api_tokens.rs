//! Tokens that programs use the API with on a user's behalf: made of randomness, kept as a hash, checked in constant time.
//!
//! `stead_` and, in base 64, 32 secret bytes and the user's name: whose it is needs no table, and nobody can try names.

use crate::random::{self, NoRandomness};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use model::{ApiToken, ApiTokenName, Directory, Role, UnixMillis, User, UserName};
use std::time::Duration;
use wire::client::Hidden;
use zeroize::Zeroizing;

const PREFIX: &str = "stead_";
/// The most characters of a token: the secret and the longest name.
const LIMIT: usize = 256;

/// A token that was just made, and what is kept of it.
pub(crate) struct Made {
    /// What the program shows.
    pub(crate) text: Hidden,
    /// What the directory keeps.
    pub(crate) kept: ApiToken,
}

/// What a token allows: whose it is, what for, and its name.
pub(crate) struct Allowed {
    pub(crate) user: UserName,
    pub(crate) role: Role,
    pub(crate) name: ApiTokenName,
}

/// Why a token is refused. Which of them it was is logged, not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiTokenError {
    #[error("it is no token, or was revoked")]
    Unknown,
    #[error("the token has expired")]
    Expired,
    #[error("the token's user is disabled")]
    Disabled,
}

/// Whether a bearer is meant to be such a token.
pub(crate) fn is_one(bearer: &str) -> bool {
    bearer.starts_with(PREFIX)
}

/// Makes a token.
///
/// # Errors
/// When the system has no randomness to give.
pub(crate) fn make(
    user: &UserName,
    name: ApiTokenName,
    role: Role,
    now: UnixMillis,
    lifetime: Duration,
) -> Result<Made, NoRandomness> {
    let secret = Zeroizing::new(random::bytes::<32>()?);
    Ok(of(&secret, user, name, role, now, lifetime))
}

/// The token of a secret.
pub(crate) fn of(
    secret: &[u8; 32],
    user: &UserName,
    name: ApiTokenName,
    role: Role,
    now: UnixMillis,
    lifetime: Duration,
) -> Made {
    let mut bytes = Zeroizing::new(Vec::with_capacity(secret.len() + user.as_str().len()));
    bytes.extend_from_slice(secret);
    bytes.extend_from_slice(user.as_str().as_bytes());
    let mut text = String::with_capacity(PREFIX.len() + BASE64URL_NOPAD.encode_len(bytes.len()));
    text.push_str(PREFIX);
    BASE64URL_NOPAD.encode_append(&bytes, &mut text);
    Made {
        text: Hidden(text),
        kept: ApiToken {
            name,
            hash: hash(secret),
            role,
            created: now,
            expires: now.after(lifetime),
        },
    }
}

/// What a token allows now.
///
/// # Errors
/// Why it does not hold.
pub(crate) fn check(
    text: &str,
    directory: &Directory,
    now: UnixMillis,
) -> Result<Allowed, ApiTokenError> {
    let bytes = text
        .strip_prefix(PREFIX)
        .filter(|encoded| encoded.len() <= LIMIT)
        .and_then(|encoded| BASE64URL_NOPAD.decode(encoded.as_bytes()).ok());
    let bytes = Zeroizing::new(bytes.ok_or(ApiTokenError::Unknown)?);
    let (secret, name) = bytes
        .split_first_chunk::<32>()
        .ok_or(ApiTokenError::Unknown)?;
    let shown = hash(secret);
    let user: Option<UserName> = std::str::from_utf8(name)
        .ok()
        .and_then(|name| name.parse().ok());
    let user = user
        .and_then(|name| directory.user(&name))
        .ok_or(ApiTokenError::Unknown)?;
    let token = find(user, &shown).ok_or(ApiTokenError::Unknown)?;
    if token.expires <= now {
        return Err(ApiTokenError::Expired);
    }
    if user.disabled {
        return Err(ApiTokenError::Disabled);
    }
    Ok(Allowed {
        user: user.name.clone(),
        role: token.role.min(user.role),
        name: token.name.clone(),
    })
}

fn find<'a>(user: &'a User, shown: &[u8; 32]) -> Option<&'a ApiToken> {
    let mut tokens = user.api_tokens.iter();
    tokens.find(|token| verify_slices_are_equal(&token.hash, shown).is_ok())
}

fn hash(secret: &[u8; 32]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret).as_ref());
    hash
}
