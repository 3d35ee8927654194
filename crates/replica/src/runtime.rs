//! The runtime that consensus runs on: tokio's tasks and channels, [`Moment`] for time.
//!
//! Always true: lease checks inside openraft see time spent suspended, because [`Moment`] does. Timers are tokio's,
//! which do not count suspended time: they fire late after a suspension, and the checks by `Moment` then refuse.
//! In a simulation ([`seed_chance`]) random numbers come from a seed, so that a run can be repeated.

use crate::clock::Moment;
use crate::watch::OrderedWatch;
use openraft::{AsyncRuntime, OptionalSend};
use openraft_rt_tokio::TokioRuntime;
use rand::rngs::{SmallRng, ThreadRng};
use rand::{SeedableRng, TryRng};
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

thread_local! {
    static SEEDED: RefCell<Option<SmallRng>> = const { RefCell::new(None) };
}

/// From now on consensus on this thread draws its random numbers from `seed`.
pub fn seed_chance(seed: u64) {
    SEEDED.with_borrow_mut(|chance| *chance = Some(SmallRng::seed_from_u64(seed)));
}

/// Undoes [`seed_chance`].
pub fn unseed_chance() {
    SEEDED.with_borrow_mut(|chance| *chance = None);
}

/// Random numbers for consensus: seeded where the thread says so.
#[derive(Debug)]
pub struct Chance(ThreadRng);

impl TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        SEEDED.with_borrow_mut(|seeded| {
            seeded
                .as_mut()
                .map_or_else(|| self.0.try_next_u32(), TryRng::try_next_u32)
        })
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        SEEDED.with_borrow_mut(|seeded| {
            seeded
                .as_mut()
                .map_or_else(|| self.0.try_next_u64(), TryRng::try_next_u64)
        })
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        SEEDED.with_borrow_mut(|seeded| match seeded.as_mut() {
            Some(chance) => chance.try_fill_bytes(bytes),
            None => self.0.try_fill_bytes(bytes),
        })
    }
}

/// The runtime as openraft sees it.
#[derive(Debug)]
pub struct ConsensusRuntime(TokioRuntime);

fn until(deadline: Moment) -> Duration {
    deadline.since(Moment::now())
}

impl AsyncRuntime for ConsensusRuntime {
    type JoinError = tokio::task::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = tokio::task::JoinHandle<T>;
    type Sleep = tokio::time::Sleep;
    type Instant = Moment;
    type TimeoutError = tokio::time::error::Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = tokio::time::Timeout<T>;
    type ThreadLocalRng = Chance;
    type Mpsc = openraft_rt_tokio::TokioMpsc;
    type Watch = OrderedWatch;
    type Oneshot = openraft_rt_tokio::TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = openraft_rt_tokio::TokioMutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        tokio::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        tokio::time::sleep(duration)
    }

    fn sleep_until(deadline: Moment) -> Self::Sleep {
        tokio::time::sleep(until(deadline))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        tokio::time::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Moment,
        future: F,
    ) -> Self::Timeout<R, F> {
        tokio::time::timeout(until(deadline), future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        error.is_panic()
    }

    fn thread_rng() -> Chance {
        Chance(rand::rng())
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_openraft_expects() {
        openraft_rt::testing::Suite::<ConsensusRuntime>::test_all();
    }
}
