//! When visitors for whom there is no room are to come back: each at a time of its own, no faster than they can be served.
//!
//! Always true: who comes back when told finds about as much room as there is, whatever happened before: times that have passed count no
//! more, however often somebody was turned away.

use std::time::Duration;

/// Earliest time to come back, in milliseconds.
pub const SOONEST_MS: u64 = 200;
/// Latest time to come back, in milliseconds.
pub const LATEST_MS: u64 = 30_000;
/// What is measured as long as this says how many can be served.
const WINDOW: Duration = Duration::from_secs(1);
/// Fewest and most visitors that are expected in a second, whatever was measured.
const SLOWEST: u32 = 10;
const FASTEST: u32 = 4_000;

/// How fast visitors prove themselves, and which times are given away. Times are those of one monotonic clock.
#[derive(Debug, Clone)]
pub struct Pace {
    per_second: u32,
    window: Duration,
    proofs: u32,
    turned_away: bool,
    next: Duration,
}

impl Pace {
    /// Before anything was measured this many are expected in a second.
    pub fn new(per_second: u32) -> Self {
        Self {
            per_second: per_second.clamp(SLOWEST, FASTEST),
            window: Duration::ZERO,
            proofs: 0,
            turned_away: false,
            next: Duration::ZERO,
        }
    }

    /// A visitor has proved himself.
    pub fn proved(&mut self, now: Duration) {
        self.measure(now);
        self.proofs = self.proofs.saturating_add(1);
    }

    /// When the next visitor that is turned away is to come back, in milliseconds from now.
    pub fn slot(&mut self, now: Duration) -> u64 {
        self.measure(now);
        self.turned_away = true;
        let (soonest, latest) = (
            now + Duration::from_millis(SOONEST_MS),
            now + Duration::from_millis(LATEST_MS),
        );
        let gap = Duration::from_secs(1) / self.per_second;
        self.next = (self.next.max(soonest) + gap).min(latest);
        u64::try_from(self.next.saturating_sub(now).as_millis()).unwrap_or(LATEST_MS)
    }

    /// Closes a window that is over. Only while others are turned away does it say what can be done.
    fn measure(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.window);
        if passed < WINDOW {
            return;
        }
        if self.turned_away && self.proofs > 0 {
            let measured = f64::from(self.proofs) / passed.as_secs_f64();
            // Truncated: the clamp is what counts.
            self.per_second = (measured as u32).clamp(SLOWEST, FASTEST);
        }
        (self.window, self.proofs, self.turned_away) = (now, 0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn everybody_gets_a_time_of_his_own_and_those_that_have_passed_are_forgotten() {
        let mut pace = Pace::new(10);
        let told: Vec<u64> = (0..4).map(|_| pace.slot(ms(0))).collect();
        assert_eq!(told, [300, 400, 500, 600]);
        assert_eq!(pace.slot(ms(500)), 800 - 500);
        assert_eq!(pace.slot(ms(10_000)), 300);
    }

    #[test]
    fn the_latest_time_is_bounded_and_does_not_grow_with_those_who_come_again() {
        let mut pace = Pace::new(10);
        for _ in 0..10_000 {
            assert!(pace.slot(ms(1)) <= LATEST_MS);
        }
        assert_eq!(pace.slot(ms(1)), LATEST_MS);
        assert_eq!(pace.slot(ms(40_000)), 300);
    }

    #[test]
    fn what_was_measured_under_pressure_counts() {
        let mut pace = Pace::new(400);
        pace.slot(ms(100));
        for number in 0..50 {
            pace.proved(ms(100 + number * 10));
        }
        // 50 in the first second: the next ones are 20 ms apart.
        let first = pace.slot(ms(1_000));
        assert_eq!(pace.slot(ms(1_000)), first + 20);
        // Nobody is turned away: few came because few wanted to.
        pace.proved(ms(3_500));
        pace.proved(ms(5_000));
        pace.proved(ms(9_000));
        let first = pace.slot(ms(9_001));
        assert_eq!(pace.slot(ms(9_001)), first + 20);
    }
}
