//! Logins: passwords checked in constant time, in a bounded pool, rate-limited by account and address.
//!
//! Always true: who may not come in gets the same answer after the same work, whether there is no such account, it is
//! disabled, or the password is wrong or longer than any; one hash is computed for each, and none for whoever has to wait.
//! Who has to wait is decided by [`policy::logins`], and asked again when a place in the pool is free: so a crowd of attempts
//! that came at once gets no more guesses than one after the other. What was begun is finished and counted, also when its
//! client hangs up. A password that was just verified is remembered for a short while as a keyed digest, so that a storm of
//! reconnects does not spend the machine on hashing; it helps nobody who does not know the password.

use crate::clock;
use crate::random::{self, NoRandomness};
use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash as Parsed};
use model::User;
use model::user::PasswordHash;
use policy::logins::{Failures, Known, Limits, Place};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wire::client::Hidden;

/// The shortest password that is taken, in characters.
pub const PASSWORD_MIN: usize = 8;
/// The longest password that is taken, in bytes: hashing more costs the sender nothing and the server much.
pub const PASSWORD_LIMIT: usize = 1024;
const HASHERS: usize = 2;
/// How many passwords are checked elsewhere at a time: each may take as long as those who check it do.
const ASKED: usize = 4;
/// The most logins that wait for a place in the pool.
const WAITING_LIMIT: usize = 4096;
/// The most of them from one place, so that it leaves room for others.
const WAITING_FROM_PLACE: usize = 1024;
const REMEMBERED_FOR: Duration = Duration::from_secs(300);
const REMEMBERED_LIMIT: usize = 100_000;
/// How long a password is known that was answered with [`LoginError::Behind`]; clients come back with it by themselves.
const BEHIND_FOR: Duration = Duration::from_secs(60);

/// Why a login was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Wrong name or password, or the account is disabled; which is not said.
    #[error("login failed: wrong user name or password")]
    Wrong,
    /// Too many failures for this account, or from this address.
    #[error("too many failed logins: try again in {} s", wait.as_secs().max(1))]
    Locked {
        /// How long it stays so.
        wait: Duration,
    },
    /// Too many logins wait already.
    #[error("too many logins at once: try again in a moment")]
    Busy,
    /// It may be right: this server may lack the account, or its new password.
    #[error("this server may be behind: {detail}")]
    Behind {
        /// What it misses.
        detail: String,
    },
    /// What checks passwords of users cannot be asked. It is said of everybody, so that nobody learns who is in the directory.
    #[error(
        "the login cannot be checked here now: try again, or another server; whoever logs in with a password of the directory has mistyped it"
    )]
    Unchecked,
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
struct Memory {
    failures: Failures,
    verified: HashMap<[u8; 32], Duration>,
    /// Passwords that were wrong as far as this server could tell, with whose and from where, and when.
    behind: HashMap<[u8; 32], Duration>,
    waiting: BTreeMap<Place, usize>,
}

/// Checks passwords.
pub struct Logins {
    pool: Arc<Semaphore>,
    asked: Arc<Semaphore>,
    memory: Arc<Mutex<Memory>>,
    key: [u8; 32],
    nobody: PasswordHash,
    hashed: Arc<AtomicU64>,
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins").finish_non_exhaustive()
    }
}

/// Somebody who tries to log in.
#[derive(Clone, Copy)]
pub(crate) struct Attempt<'a> {
    /// What failures are counted under: the account's name, or what was said in its place.
    pub(crate) name: &'a str,
    /// The account, where there is one.
    pub(crate) user: Option<&'a Arc<User>>,
    /// What he shows.
    pub(crate) password: &'a Hidden,
    /// Where he is.
    pub(crate) place: Place,
    /// What locks.
    pub(crate) limits: Limits,
    /// Whether a client of his sessions is there. It is asked only where that would let him in.
    pub(crate) is_here: &'a (dyn Fn() -> bool + Send + Sync),
}

impl fmt::Debug for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
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
            asked: Arc::new(Semaphore::new(ASKED)),
            memory: Arc::default(),
            key: random::bytes()?,
            nobody,
            hashed: Arc::default(),
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
        let place = place_in(&self.pool).await?;
        let work = move || {
            let _place = place;
            hash(&password)
        };
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or(Err(LoginError::Busy))
    }

    /// Checks a password; gives the account. `known` says what is known of it besides failures here, and is asked again when
    /// there is a place in the pool.
    ///
    /// # Errors
    /// Wrong, locked or busy.
    pub(crate) async fn check(
        &self,
        attempt: Attempt<'_>,
        known: impl Fn() -> Known,
    ) -> Result<Arc<User>, LoginError> {
        let attempt = &attempt;
        self.refuse_locked(attempt, &known())?;
        let user = attempt.user.filter(|user| !user.disabled);
        let too_long = attempt.password.0.len() > PASSWORD_LIMIT;
        let user = user.filter(|_| !too_long);
        let (stored, password) = self.compared(user, attempt.password);
        let digest = self.digest(&stored, &password);
        if let Some(user) = user
            && self.remembers(&digest)
        {
            return Ok(self.came_in(attempt, user));
        }
        if self.was_behind(attempt, &digest) {
            return Err(LoginError::Wrong);
        }
        let place = {
            let _waiting = self.wait_at(attempt.place)?;
            place_in(&self.pool).await?
        };
        let known = known();
        self.refuse_locked(attempt, &known)?;
        if let Some(user) = user
            && self.remembers(&digest)
        {
            return Ok(self.came_in(attempt, user));
        }
        let fits = self
            .verify(place, attempt, known, stored, password, user.is_some())
            .await?;
        match user {
            Some(user) if fits => {
                self.remember(digest);
                Ok(self.came_in(attempt, user))
            }
            _ => Err(LoginError::Wrong),
        }
    }

    /// What is hashed and compared; one that is longer than any is wrong, whatever it is.
    fn compared(&self, user: Option<&Arc<User>>, password: &Hidden) -> (PasswordHash, Hidden) {
        let stored = user.map_or(&self.nobody, |user| &user.password).clone();
        match password.0.len() > PASSWORD_LIMIT {
            true => (stored, Hidden(String::new())),
            false => (stored, password.clone()),
        }
    }

    /// An attempt that failed is answered with [`LoginError::Behind`]: when its client comes back with the same, as it does by itself,
    /// that is no further guess, until this server can tell.
    pub(crate) fn answered_behind(&self, attempt: &Attempt<'_>) {
        let (stored, password) =
            self.compared(attempt.user.filter(|user| !user.disabled), attempt.password);
        let key = self.guess(attempt, &self.digest(&stored, &password));
        let now = clock::steady();
        let mut memory = self.memory();
        memory
            .behind
            .retain(|_, at| now.saturating_sub(*at) < BEHIND_FOR);
        if memory.behind.len() < REMEMBERED_LIMIT {
            memory.behind.insert(key, now);
        }
    }

    fn was_behind(&self, attempt: &Attempt<'_>, digest: &[u8; 32]) -> bool {
        let key = self.guess(attempt, digest);
        let now = clock::steady();
        let memory = self.memory();
        let at = memory.behind.get(&key);
        at.is_some_and(|at| now.saturating_sub(*at) < BEHIND_FOR)
    }

    /// This password, for this account, from this place.
    fn guess(&self, attempt: &Attempt<'_>, digest: &[u8; 32]) -> [u8; 32] {
        let said = format!("{:?} {}", attempt.place, attempt.name);
        self.keyed(&[digest, said.as_bytes()])
    }

    /// How many passwords were checked since the server started.
    pub(crate) fn hashed(&self) -> u64 {
        self.hashed.load(Ordering::Relaxed)
    }

    /// Every name that logins failed with lately, how many did, and when the last did.
    pub(crate) fn lately(&self, limits: Limits, now: Duration) -> Vec<(String, u32, Duration)> {
        let memory = self.memory();
        let lately = memory.failures.lately(limits, now).into_iter();
        lately
            .map(|(name, (count, last))| (name.to_owned(), count, last))
            .collect()
    }

    /// How many logins of an account failed lately, here and as far as is known elsewhere.
    pub(crate) fn failures_of(&self, name: &str, known: &Known, limits: Limits) -> u32 {
        let now = clock::steady();
        let memory = self.memory();
        memory.failures.of_account(name, known, limits, now).0
    }

    fn wait_at(&self, place: Place) -> Result<Waiting<'_>, LoginError> {
        let mut memory = self.memory();
        let waiting = memory.waiting.entry(place).or_default();
        if *waiting >= WAITING_FROM_PLACE {
            return Err(LoginError::Busy);
        }
        *waiting += 1;
        Ok(Waiting {
            logins: self,
            place,
        })
    }

    /// Computes a hash, and counts a failure, whoever still listens.
    async fn verify(
        &self,
        place: OwnedSemaphorePermit,
        attempt: &Attempt<'_>,
        known: Known,
        stored: PasswordHash,
        password: Hidden,
        exists: bool,
    ) -> Result<bool, LoginError> {
        let (memory, nobody) = (Arc::clone(&self.memory), self.nobody.clone());
        let (name, from, limits) = (attempt.name.to_owned(), attempt.place, attempt.limits);
        let hashed = Arc::clone(&self.hashed);
        let check = move || {
            let _place = place;
            hashed.fetch_add(1, Ordering::Relaxed);
            let fits = fits(&stored, &nobody, &password) && exists;
            if !fits {
                let now = clock::steady();
                let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                memory.failures.failed(&name, from, &known, limits, now);
            }
            fits
        };
        tokio::task::spawn_blocking(check)
            .await
            .map_err(|_| LoginError::Busy)
    }

    fn digest(&self, stored: &PasswordHash, password: &Hidden) -> [u8; 32] {
        self.keyed(&[stored.0.as_bytes(), password.0.as_bytes()])
    }

    fn keyed(&self, parts: &[&[u8]]) -> [u8; 32] {
        use aws_lc_rs::hmac;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.key);
        let mut context = hmac::Context::with_key(&key);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembers(&self, digest: &[u8; 32]) -> bool {
        let now = clock::steady();
        self.memory()
            .verified
            .get(digest)
            .is_some_and(|at| now.saturating_sub(*at) < REMEMBERED_FOR)
    }

    fn remember(&self, digest: [u8; 32]) {
        let now = clock::steady();
        let mut memory = self.memory();
        if memory.verified.len() >= REMEMBERED_LIMIT {
            memory
                .verified
                .retain(|_, at| now.saturating_sub(*at) < REMEMBERED_FOR);
        }
        if memory.verified.len() < REMEMBERED_LIMIT {
            memory.verified.insert(digest, now);
        }
    }

    fn came_in(&self, attempt: &Attempt<'_>, user: &Arc<User>) -> Arc<User> {
        self.succeeded(attempt);
        Arc::clone(user)
    }

    fn succeeded(&self, attempt: &Attempt<'_>) {
        let mut memory = self.memory();
        let failures = &mut memory.failures;
        failures.succeeded(attempt.name, attempt.place, clock::steady());
    }

    fn refuse_locked(&self, attempt: &Attempt<'_>, known: &Known) -> Result<(), LoginError> {
        let Attempt {
            name,
            place,
            limits,
            ..
        } = *attempt;
        let now = clock::steady();
        let wait = |known: &Known| self.memory().failures.wait(name, place, known, limits, now);
        let wait = match wait(known) {
            Some(_) if (attempt.is_here)() => wait(&Known {
                is_here: true,
                ..known.clone()
            }),
            wait => wait,
        };
        wait.map_or(Ok(()), |wait| Err(LoginError::Locked { wait }))
    }
}

/// A place in a pool with a bounded queue: everybody beyond it is told to come back instead of timing out.
async fn place_in(pool: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, LoginError> {
    // Whoever waits, and whoever has a place, holds the pool; so do its owner and this.
    let waiting = Arc::strong_count(pool);
    if waiting > WAITING_LIMIT {
        return Err(LoginError::Busy);
    }
    let pool = Arc::clone(pool);
    pool.acquire_owned().await.map_err(|_| LoginError::Busy)
}

/// One that waits for a place in the pool.
struct Waiting<'a> {
    logins: &'a Logins,
    place: Place,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut memory = self.logins.memory();
        if let Some(waiting) = memory.waiting.get_mut(&self.place) {
            *waiting = waiting.saturating_sub(1);
            if *waiting == 0 {
                memory.waiting.remove(&self.place);
            }
        }
    }
}

/// Whether the password is the one that was hashed. What is no hash is as much work as one.
fn fits(stored: &PasswordHash, nobody: &PasswordHash, password: &Hidden) -> bool {
    let verify = |parsed: &Parsed| {
        Argon2::default()
            .verify_password(password.0.as_bytes(), parsed)
            .is_ok()
    };
    match (Parsed::new(&stored.0), Parsed::new(&nobody.0)) {
        (Ok(parsed), _) => verify(&parsed),
        (Err(_), Ok(nobody)) => {
            verify(&nobody);
            false
        }
        (Err(_), Err(_)) => false,
    }
}

fn hash(password: &Hidden) -> Result<PasswordHash, LoginError> {
    let hashed = Argon2::default()
        .hash_password(password.0.as_bytes())
        .map_err(LoginError::Hash)?;
    Ok(PasswordHash(hashed.to_string()))
}

mod elsewhere;

#[cfg(test)]
mod tests;
