//! When a server's certificates are made anew, how soon that is tried again, and when their end is spoken of.

use model::UnixMillis;
use std::time::Duration;

/// Certificates say whole seconds.
const ROUNDING: Duration = Duration::from_secs(2);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A certificate in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// From when it is valid.
    pub begins: UnixMillis,
    /// When two thirds of its life are over.
    pub renew_at: UnixMillis,
    /// How long it was made for.
    pub lifetime: Duration,
    /// Whether it names what its server is reached at, and nothing else.
    pub fits: bool,
    /// Whether the authority that is in force signed it.
    pub current: bool,
    /// Whether it is refused, with all others for the same key.
    pub revoked: bool,
}

/// Why a certificate is made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Two thirds of its life are over, or it has not begun by this server's calendar.
    Age,
    /// Certificates are to live less long than this one.
    Lifetime,
    /// Its server is reached under other names.
    Addresses,
    /// Another authority is in force.
    Authority,
    /// It was revoked.
    Revoked,
}

impl Cause {
    /// The word that events use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Lifetime => "lifetime",
            Self::Addresses => "addresses",
            Self::Authority => "authority",
            Self::Revoked => "revoked",
        }
    }
}

/// Why a certificate is to be made anew now; none when it is not. `lifetime` is how long certificates are to live.
pub fn cause(held: &Held, lifetime: Duration, now: UnixMillis) -> Option<Cause> {
    if held.revoked {
        Some(Cause::Revoked)
    } else if held.renew_at <= now || now < held.begins {
        Some(Cause::Age)
    } else if !held.current {
        Some(Cause::Authority)
    } else if !held.fits {
        Some(Cause::Addresses)
    } else if held.lifetime > lifetime + ROUNDING {
        Some(Cause::Lifetime)
    } else {
        None
    }
}

/// How long after so many failed attempts in a row the next one is made.
pub fn pause(failures: u32) -> Duration {
    let doubled = 2u64.saturating_pow(failures.saturating_sub(1));
    Duration::from_secs(doubled).min(LONGEST_PAUSE)
}

/// The end of a certificate is near.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Notice {
    /// Less than 30 days are left.
    Month,
    /// Less than 7 days are left.
    Week,
    /// Less than a day is left.
    Day,
    /// It is over.
    Over,
}

impl Notice {
    /// The days that are left at most.
    pub fn days(self) -> u32 {
        match self {
            Self::Month => 30,
            Self::Week => 7,
            Self::Day => 1,
            Self::Over => 0,
        }
    }
}

/// What is to be said of a certificate that ends at `expires`.
///
/// One that renews itself, made for `lifetime`, is spoken of only when its renewal is overdue, by a ninetieth of its life.
pub fn notice(expires: UnixMillis, lifetime: Option<Duration>, now: UnixMillis) -> Option<Notice> {
    let left = expires.since(now);
    if lifetime.is_some_and(|lifetime| left >= lifetime / 3 - lifetime / 90) {
        return None;
    }
    let notices = [
        (Duration::ZERO, Notice::Over),
        (DAY, Notice::Day),
        (7 * DAY, Notice::Week),
        (30 * DAY, Notice::Month),
    ];
    let fitting = notices.into_iter().find(|(most, _)| left <= *most);
    fitting.map(|(_, notice)| notice)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
    const LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);

    fn fresh() -> Held {
        Held {
            begins: UnixMillis(NOW.0 - 3_600_000),
            renew_at: NOW.after(60 * DAY),
            lifetime: LIFE,
            fits: true,
            current: true,
            revoked: false,
        }
    }

    #[test]
    fn a_certificate_is_renewed_when_two_thirds_are_over_or_what_it_says_is_not_so() {
        let at = |days: u32| NOW.after(days * DAY);
        assert_eq!(cause(&fresh(), LIFE, NOW), None);
        assert_eq!(cause(&fresh(), LIFE, at(59)), None);
        assert_eq!(cause(&fresh(), LIFE, at(60)), Some(Cause::Age));
        let refused = Held {
            revoked: true,
            ..fresh()
        };
        assert_eq!(cause(&refused, LIFE, at(60)), Some(Cause::Revoked));
        let moved = Held {
            fits: false,
            ..fresh()
        };
        assert_eq!(cause(&moved, LIFE, NOW), Some(Cause::Addresses));
        let signed_before = Held {
            current: false,
            ..moved
        };
        assert_eq!(cause(&signed_before, LIFE, NOW), Some(Cause::Authority));
        assert_eq!(cause(&fresh(), LIFE / 2, NOW), Some(Cause::Lifetime));
        // A longer life is for the next one.
        assert_eq!(cause(&fresh(), LIFE * 2, NOW), None);
        // Made while the clock was ahead.
        let ahead = UnixMillis(fresh().begins.0 - 1);
        assert_eq!(cause(&fresh(), LIFE, ahead), Some(Cause::Age));
    }

    #[test]
    fn attempts_become_rarer_to_a_minute() {
        let pauses: Vec<u64> = (1..10).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn the_end_is_spoken_of_a_month_a_week_and_a_day_ahead() {
        let left = |days: u32| NOW.after(days * DAY);
        for (days, expected) in [
            (31, None),
            (30, Some(Notice::Month)),
            (8, Some(Notice::Month)),
            (7, Some(Notice::Week)),
            (1, Some(Notice::Day)),
            (0, Some(Notice::Over)),
        ] {
            assert_eq!(notice(left(days), None, NOW), expected, "{days}");
        }
        assert_eq!(notice(UnixMillis(5), None, NOW), Some(Notice::Over));
    }

    #[test]
    fn certificates_that_renew_themselves_are_spoken_of_when_they_do_not() {
        let left = |days: u32| NOW.after(days * DAY);
        assert_eq!(notice(left(30), Some(LIFE), NOW), None);
        assert_eq!(notice(left(28), Some(LIFE), NOW), Some(Notice::Month));
        let short = Duration::from_secs(120);
        let seconds = |seconds| NOW.after(Duration::from_secs(seconds));
        assert_eq!(notice(seconds(40), Some(short), NOW), None);
        assert_eq!(notice(seconds(37), Some(short), NOW), Some(Notice::Day));
        assert_eq!(notice(NOW, Some(short), NOW), Some(Notice::Over));
    }
}
