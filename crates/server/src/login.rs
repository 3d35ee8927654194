//! Logins: passwords checked in constant time, in a bounded pool, rate-limited by account and address.
//!
//! Counters are soft state of this server: a stranger's attempts never become changes. A password that was just
//! verified is remembered for a short while as a keyed digest, so that a storm of reconnects does not spend the
//! machine on hashing.

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash as Parsed};
use model::user::PasswordHash;
use model::{Directory, User, UserName};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use wire::client::Hidden;

use crate::random::{self, NoRandomness};

/// The shortest password that is taken, in characters.
pub const PASSWORD_MIN: usize = 8;
/// The longest password that is taken, in bytes: hashing more costs the sender nothing and the server much.
pub const PASSWORD_LIMIT: usize = 1024;
const HASHERS: usize = 2;
const WAITING_LIMIT: usize = 4096;
const REMEMBERED_FOR: Duration = Duration::from_secs(300);
const REMEMBERED_LIMIT: usize = 100_000;
const COUNTED_LIMIT: usize = 100_000;

/// Why a login was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Wrong name or password, or the account is disabled; which is not said.
    #[error("login failed: wrong user name or password")]
    Wrong,
    /// Too many failures for this account from this address.
    #[error("too many failed logins: try again in {} s", wait.as_secs().max(1))]
    Locked {
        /// How long it stays so.
        wait: Duration,
    },
    /// Too many logins wait already.
    #[error("too many logins at once: try again in a moment")]
    Busy,
    /// A password that cannot be set.
    #[error("a password has at least {PASSWORD_MIN} characters and at most {PASSWORD_LIMIT} bytes")]
    Unfit,
    /// The operating system has no randomness to give.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The password cannot be hashed.
    #[error("the password cannot be hashed: {0}")]
    Hash(argon2::password_hash::Error),
}

#[derive(Debug, Default)]
struct Failures {
    count: u32,
    last: Duration,
}

#[derive(Debug, Default)]
struct Memory {
    failures: HashMap<(UserName, String), Failures>,
    verified: HashMap<[u8; 32], Duration>,
}

/// Checks passwords.
pub struct Logins {
    pool: Arc<Semaphore>,
    memory: Mutex<Memory>,
    key: [u8; 32],
    nobody: PasswordHash,
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins").finish_non_exhaustive()
    }
}

/// How many failures lock, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lockout {
    /// Failures in a row.
    pub attempts: u32,
    /// How long the account is locked for that address.
    pub time: Duration,
}

impl Logins {
    /// An empty memory, and the hash that unknown accounts are checked against.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn new() -> Result<Self, LoginError> {
        let nobody = hash(&Hidden(
            data_encoding::HEXLOWER.encode(&random::bytes::<16>()?),
        ))?;
        Ok(Self {
            pool: Arc::new(Semaphore::new(HASHERS)),
            memory: Mutex::default(),
            key: random::bytes()?,
            nobody,
        })
    }

    /// Hashes a new password, in the pool.
    ///
    /// # Errors
    /// When it is too short or too long, or too many wait.
    pub async fn hash(&self, password: Hidden) -> Result<PasswordHash, LoginError> {
        if password.0.chars().count() < PASSWORD_MIN || password.0.len() > PASSWORD_LIMIT {
            return Err(LoginError::Unfit);
        }
        let _place = self.place().await?;
        tokio::task::spawn_blocking(move || hash(&password))
            .await
            .unwrap_or(Err(LoginError::Busy))
    }

    /// Checks a password; gives the account. Takes as long for an unknown account as for a wrong password.
    ///
    /// # Errors
    /// Wrong, locked or busy.
    pub async fn check(
        &self,
        directory: &Directory,
        name: &UserName,
        password: Hidden,
        from: &str,
        lockout: Lockout,
        now: Duration,
    ) -> Result<Arc<User>, LoginError> {
        let account = (name.clone(), from.to_owned());
        self.refuse_locked(&account, lockout, now)?;
        if password.0.len() > PASSWORD_LIMIT {
            return Err(LoginError::Wrong);
        }
        let user = directory.user(name).filter(|user| !user.disabled).cloned();
        let stored = user
            .as_ref()
            .map_or(&self.nobody, |user| &user.password)
            .clone();
        let digest = self.digest(&stored, &password);
        let fits = if self.remembers(&digest, now) {
            true
        } else {
            self.verify(stored, password).await?
        };
        match user {
            Some(user) if fits => {
                self.remember(digest, &account, now);
                Ok(user)
            }
            _ => {
                self.count_failure(account, now);
                Err(LoginError::Wrong)
            }
        }
    }

    async fn place(&self) -> Result<tokio::sync::OwnedSemaphorePermit, LoginError> {
        // A bounded queue: everybody beyond it is told to come back instead of timing out.
        let waiting = Arc::strong_count(&self.pool);
        if waiting > WAITING_LIMIT {
            return Err(LoginError::Busy);
        }
        self.pool
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| LoginError::Busy)
    }

    async fn verify(&self, stored: PasswordHash, password: Hidden) -> Result<bool, LoginError> {
        let _place = self.place().await?;
        let check = move || {
            let Ok(parsed) = Parsed::new(&stored.0) else {
                return false;
            };
            Argon2::default()
                .verify_password(password.0.as_bytes(), &parsed)
                .is_ok()
        };
        tokio::task::spawn_blocking(check)
            .await
            .map_err(|_| LoginError::Busy)
    }

    fn digest(&self, stored: &PasswordHash, password: &Hidden) -> [u8; 32] {
        use aws_lc_rs::hmac;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.key);
        let mut context = hmac::Context::with_key(&key);
        context.update(&(stored.0.len() as u64).to_be_bytes());
        context.update(stored.0.as_bytes());
        context.update(password.0.as_bytes());
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembers(&self, digest: &[u8; 32], now: Duration) -> bool {
        self.memory()
            .verified
            .get(digest)
            .is_some_and(|at| now.saturating_sub(*at) < REMEMBERED_FOR)
    }

    fn remember(&self, digest: [u8; 32], account: &(UserName, String), now: Duration) {
        let mut memory = self.memory();
        if memory.verified.len() >= REMEMBERED_LIMIT {
            memory
                .verified
                .retain(|_, at| now.saturating_sub(*at) < REMEMBERED_FOR);
        }
        if memory.verified.len() < REMEMBERED_LIMIT {
            memory.verified.insert(digest, now);
        }
        memory.failures.remove(account);
    }

    fn refuse_locked(
        &self,
        account: &(UserName, String),
        lockout: Lockout,
        now: Duration,
    ) -> Result<(), LoginError> {
        match self.memory().failures.get(account) {
            Some(failures) if failures.count >= lockout.attempts => {
                let wait = (failures.last + lockout.time).saturating_sub(now);
                if wait.is_zero() {
                    Ok(())
                } else {
                    Err(LoginError::Locked { wait })
                }
            }
            _ => Ok(()),
        }
    }

    fn count_failure(&self, account: (UserName, String), now: Duration) {
        let mut memory = self.memory();
        if memory.failures.len() >= COUNTED_LIMIT && !memory.failures.contains_key(&account) {
            // The oldest half goes: an attacker with many names must not use up memory.
            let mut times: Vec<Duration> = memory
                .failures
                .values()
                .map(|failures| failures.last)
                .collect();
            times.sort_unstable();
            let middle = times.get(times.len() / 2).copied().unwrap_or_default();
            memory.failures.retain(|_, failures| failures.last > middle);
        }
        let failures = memory.failures.entry(account).or_default();
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
    }
}

fn hash(password: &Hidden) -> Result<PasswordHash, LoginError> {
    let hashed = Argon2::default()
        .hash_password(password.0.as_bytes())
        .map_err(LoginError::Hash)?;
    Ok(PasswordHash(hashed.to_string()))
}
