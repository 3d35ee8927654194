//! Logins that are checked elsewhere: the same counting, waiting and bounds as for those of the directory, around whatever says whether
//! the password is right.

use super::{Attempt, LoginError, Logins, fits, place_in};
use crate::clock;
use futures_util::future::BoxFuture;
use policy::logins::Known;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use wire::client::Hidden;

impl Logins {
    /// Checks a password that is not the directory's: `ask` says whether it is right, in a pool of its own, so that those who wait for it
    /// are in nobody's way. Nothing is remembered: whoever may no longer come in there is refused at his next login.
    ///
    /// # Errors
    /// Wrong, locked or busy; or it cannot be asked, which counts as no failure.
    pub(crate) async fn check_by<E: Send + 'static>(
        &self,
        attempt: &Attempt<'_>,
        known: impl Fn() -> Known,
        ask: BoxFuture<'static, Result<bool, E>>,
    ) -> Result<(), LoginError> {
        self.refuse_locked(attempt, &known())?;
        let (stored, password) =
            self.compared(attempt.user.filter(|user| !user.disabled), attempt.password);
        if self.was_behind(attempt, &self.digest(&stored, &password)) {
            return Err(LoginError::Wrong);
        }
        let place = {
            let _waiting = self.wait_at(attempt.place)?;
            place_in(&self.asked).await?
        };
        let known = known();
        self.refuse_locked(attempt, &known)?;
        let memory = Arc::clone(&self.memory);
        let (name, from, limits) = (attempt.name.to_owned(), attempt.place, attempt.limits);
        // It is asked to the end, and counted, whoever still listens.
        let asked = tokio::spawn(async move {
            let _place = place;
            let said = ask.await;
            if matches!(said, Ok(false)) {
                let now = clock::steady();
                let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                memory.failures.failed(&name, from, &known, limits, now);
            }
            said
        });
        let said = asked.await.map_err(|_| LoginError::Busy)?;
        if matches!(said, Ok(true)) {
            self.succeeded(attempt);
            return Ok(());
        }
        // Whoever is refused costs a hash, as with a password of the directory.
        self.hash_for_nothing(password).await?;
        match said {
            Ok(_) => Err(LoginError::Wrong),
            Err(_) => Err(LoginError::Unchecked),
        }
    }

    /// Asks elsewhere for nobody, so that whoever was refused waits as long as others; fails where nobody can be asked.
    pub(crate) async fn spend<E: Send + 'static>(
        &self,
        attempt: &Attempt<'_>,
        ask: BoxFuture<'static, Result<bool, E>>,
    ) -> Result<(), LoginError> {
        let place = {
            let _waiting = self.wait_at(attempt.place)?;
            place_in(&self.asked).await?
        };
        let asked = tokio::spawn(async move {
            let _place = place;
            ask.await
        });
        match asked.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(LoginError::Unchecked),
            Err(_) => Err(LoginError::Busy),
        }
    }

    async fn hash_for_nothing(&self, password: Hidden) -> Result<(), LoginError> {
        let place = place_in(&self.pool).await?;
        let (nobody, hashed) = (self.nobody.clone(), Arc::clone(&self.hashed));
        let work = move || {
            let _place = place;
            hashed.fetch_add(1, Ordering::Relaxed);
            fits(&nobody, &nobody, &password);
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| LoginError::Busy)
    }
}
