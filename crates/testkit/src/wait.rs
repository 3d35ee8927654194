//! Waiting for conditions. A condition is looked at again and again until it holds; if it never does, the test fails
//! with what was awaited and for how long.

use std::time::{Duration, Instant};

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// `count` seconds.
pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// `count` milliseconds.
pub const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Waits until `holds` says true, and returns how long that took. It is looked at once more after `limit` has passed.
///
/// # Panics
/// When it has not come true within `limit`: says `what` was awaited.
#[track_caller]
pub fn eventually(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    loop {
        let late = start.elapsed() >= limit;
        if holds() {
            return start.elapsed();
        }
        assert!(!late, "not within {limit:?}: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits until `look` finds something, and returns it.
///
/// # Panics
/// When nothing was found within `limit`: says `what` was awaited.
#[track_caller]
pub fn eventually_some<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    eventually(limit, what, || {
        found = look();
        found.is_some()
    });
    found.expect("invariant: the loop ends only when something was found")
}

/// Lets a span of the scenario pass, as part of what is tested (a server that stays away for 3 s, say).
pub fn stays_so_for(span: Duration) {
    let start = Instant::now();
    eventually(span * 2, "the span of the scenario to pass", || {
        start.elapsed() >= span
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        let found = eventually_some(seconds(5), "the third look", || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found, 3);
    }

    #[test]
    #[should_panic(expected = "not within 1ms: the moon to fall")]
    fn one_that_never_does_fails_with_what_was_awaited() {
        eventually(millis(1), "the moon to fall", || false);
    }
}
