//! How long messages take to another server and back, measured with every ping.
//!
//! Always true: what is remembered is bounded; the oldest is forgotten first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Round trips that are remembered: of about a minute, on two connections that ping twice a second.
const REMEMBERED: usize = 240;

/// The last round trips to a server. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct RoundTrips(Arc<Mutex<VecDeque<Duration>>>);

/// What they were like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Half of them took no longer.
    pub median: Duration,
    /// None of them took longer.
    pub worst: Duration,
    /// How many there were.
    pub samples: u32,
}

impl RoundTrips {
    /// One took so long.
    pub(crate) fn took(&self, time: Duration) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() >= REMEMBERED {
            times.pop_front();
        }
        times.push_back(time);
    }

    /// What the last ones were like; none when none was measured.
    pub fn summary(&self) -> Option<Summary> {
        let times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut times: Vec<Duration> = times.iter().copied().collect();
        times.sort_unstable();
        Some(Summary {
            median: *times.get(times.len() / 2)?,
            worst: *times.last()?,
            samples: u32::try_from(times.len()).unwrap_or(u32::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_summed_up() {
        let trips = RoundTrips::default();
        assert_eq!(trips.summary(), None);
        let ms = Duration::from_millis;
        trips.took(ms(900));
        for time in 1..=u64::try_from(REMEMBERED).unwrap() {
            trips.clone().took(ms(time));
        }
        let summary = trips.summary().unwrap();
        assert_eq!((summary.median, summary.worst), (ms(121), ms(240)));
        assert_eq!(summary.samples, 240);
    }
}
