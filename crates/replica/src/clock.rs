//! Time for consensus: a clock that also counts the time that a machine was suspended.
//!
//! Always true: a [`Moment`] never goes back on one machine, and a machine that slept knows it. A simulation calls
//! [`use_virtual_time`] on its thread, and moments follow tokio's (paused) clock there.

use std::cell::Cell;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::time::Duration;

thread_local! {
    static VIRTUAL: Cell<Option<tokio::time::Instant>> = const { Cell::new(None) };
}

/// A moment on this machine's clock, in time since it was started; time spent suspended counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// This moment.
    pub fn now() -> Self {
        match VIRTUAL.get() {
            Some(start) => Self(
                tokio::time::Instant::now().saturating_duration_since(start)
                    + Duration::from_secs(1),
            ),
            None => {
                let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
                let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
                Self(Duration::new(seconds, nanoseconds))
            }
        }
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// How long ago this was; zero when it is yet to come.
    pub fn ago(self) -> Duration {
        Self::now().since(self)
    }
}

/// From now on moments on this thread follow tokio's clock, which the caller has paused.
pub fn use_virtual_time() {
    use_virtual_time_since(tokio::time::Instant::now());
}

/// The same, for a machine that was started at `start`: each of several runtimes on a thread has a clock of its own.
pub fn use_virtual_time_since(start: tokio::time::Instant) {
    VIRTUAL.set(Some(start));
}

/// Undoes [`use_virtual_time`].
pub fn use_real_time() {
    VIRTUAL.set(None);
}

impl openraft::Instant for Moment {
    fn now() -> Self {
        Self::now()
    }
}

impl Add<Duration> for Moment {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

impl AddAssign<Duration> for Moment {
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}

impl SubAssign<Duration> for Moment {
    fn sub_assign(&mut self, span: Duration) {
        *self = *self - span;
    }
}

impl Sub for Moment {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_go_forward() {
        let first = Moment::now();
        assert!(Moment::now() >= first);
        assert_eq!(
            first + Duration::from_secs(2) - first,
            Duration::from_secs(2)
        );
        assert_eq!(first.since(first + Duration::from_secs(1)), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn virtual_time_follows_the_paused_clock() {
        use_virtual_time();
        let first = Moment::now();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(first.ago(), Duration::from_secs(3600));
        use_real_time();
    }
}
