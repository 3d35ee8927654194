//! How long things take in consensus; derived from the grace period and equal on every server.

use std::time::Duration;

/// The times that consensus runs by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    heartbeat: Duration,
    lease: Duration,
    elect_limit: Duration,
}

/// Times that do not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a heartbeat of {heartbeat:?} and a lease of {lease:?} do not work together: the heartbeat is at least 1 ms, the lease at \
     least three heartbeats and at most an hour"
)]
pub struct TimingError {
    /// The heartbeat asked for.
    pub heartbeat: Duration,
    /// The lease asked for.
    pub lease: Duration,
}

impl Timing {
    /// A heartbeat this often, and a lease (the grace period) this long; both are taken in whole milliseconds.
    ///
    /// # Errors
    /// They do not work together.
    pub fn new(heartbeat: Duration, lease: Duration) -> Result<Self, TimingError> {
        let error = TimingError { heartbeat, lease };
        if heartbeat.as_millis() < 1 || lease < heartbeat * 3 || lease > Duration::from_secs(3600) {
            return Err(error);
        }
        let whole = |span: Duration| {
            Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
        };
        let (heartbeat, lease) = (whole(heartbeat), whole(lease));
        Ok(Self {
            heartbeat,
            lease,
            elect_limit: whole(heartbeat + (lease - heartbeat) / 2),
        })
    }

    /// How often the primary is heard.
    pub fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// How long silence lasts before another may lead.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// How long a vote or a transfer may take; between the two.
    pub fn elect_limit(&self) -> Duration {
        self.elect_limit
    }

    /// How much earlier than its lease ends a primary stops acting, so that clocks that run a little apart do no harm.
    pub fn margin(&self) -> Duration {
        self.lease / 20
    }
}

impl Default for Timing {
    /// 100 ms and 500 ms.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            lease: Duration::from_millis(500),
            elect_limit: Duration::from_millis(300),
        }
    }
}

pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_lies_between_heartbeat_and_lease() {
        for (heartbeat, lease) in [(100, 500), (50, 200), (1, 3), (1000, 3_600_000)] {
            let timing = Timing::new(
                Duration::from_millis(heartbeat),
                Duration::from_millis(lease),
            )
            .expect("works");
            assert!(
                timing.heartbeat() < timing.elect_limit() && timing.elect_limit() < timing.lease(),
                "{timing:?}"
            );
        }
        assert_eq!(
            Timing::new(Duration::from_millis(100), Duration::from_millis(500)),
            Ok(Timing::default())
        );
        assert!(Timing::new(Duration::from_millis(100), Duration::from_millis(200)).is_err());
        assert!(Timing::new(Duration::ZERO, Duration::from_millis(200)).is_err());
    }
}
