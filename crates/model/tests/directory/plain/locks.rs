//! Locks of accounts in their most obvious form: fifteen minutes, which the random changes do not set otherwise.

use super::{Answer, Plain};
use model::*;

const TIME: u64 = 15 * 60_000;

impl Plain {
    pub(super) fn lock_user(&mut self, name: &UserName, failures: u32) -> Answer {
        let now = self.clock;
        let user = self.users.iter_mut().find(|user| user.name == *name);
        let user = user.ok_or("not found")?;
        if user.lock.is_none_or(|lock| lock.until <= now) {
            user.lock = Some(Lock {
                since: now,
                until: UnixMillis(now.0 + TIME),
                failures,
                lifted: false,
            });
        }
        Ok(Outcome::Done)
    }

    pub(super) fn unlock_user(&mut self, name: &UserName) -> Answer {
        let now = self.clock;
        let user = self.users.iter_mut().find(|user| user.name == *name);
        let user = user.ok_or("not found")?;
        let (since, failures) = match user.lock {
            Some(lock) if lock.until > now => (lock.since, lock.failures),
            _ => (now, 0),
        };
        user.lock = Some(Lock {
            since,
            until: now,
            failures,
            lifted: true,
        });
        Ok(Outcome::Done)
    }
}
