//! Failed logins: how they are counted, and who has to wait because of them.
//!
//! One server's soft state, bounded; a stranger brings none of it into the directory. Three counts are kept apart: an
//! account's from one place, in a row; an account's from everywhere, with what other servers report; and a place's, whatever
//! the accounts. The last two pass over places where the account is known, so that nobody is kept out of his own desk by
//! strangers. Names that no account has are counted like any other: waiting tells nothing. Start at [`Failures::wait`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// The most entries of each table; the older half goes when there are more. Each entry has cost its sender a password that was
/// checked, so nobody gets there quickly.
const LIMIT: usize = 100_000;
/// How long a place is remembered at which somebody logged in.
const KNOWN_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Where somebody tries to log in from: an IPv4 address, or the 64-bit network of an IPv6 address, which one machine has all of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(IpAddr);

impl From<IpAddr> for Place {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from(network))
            }
        })
    }
}

/// What locks, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Failures of one account; at least 1.
    pub attempts: u32,
    /// Failures from one place; at least 1.
    pub from_place: u32,
    /// How long failures count, and how long a lock lasts.
    pub time: Duration,
}

/// What is known of an account besides the failures here; times are on the caller's steady clock.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// Its lock in the directory, over or not.
    pub lock: Option<Lock>,
    /// Failures on other servers: how many, and when the last was.
    pub elsewhere: Vec<(u32, Duration)>,
    /// Whether it has a session whose client is at this place.
    pub is_here: bool,
}

/// A lock in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// Since when.
    pub since: Duration,
    /// Until when.
    pub until: Duration,
    /// Whether somebody ended it then.
    pub lifted: bool,
}

impl Known {
    /// Failures up to then have had their consequence.
    fn settled(&self) -> Option<Duration> {
        let settled = |lock: Lock| if lock.lifted { lock.until } else { lock.since };
        self.lock.map(settled)
    }

    /// Failures up to then were forgiven.
    fn forgiven(&self) -> Option<Duration> {
        self.lock.and_then(|lock| lock.lifted.then_some(lock.until))
    }
}

/// Failures of one account from one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InARow {
    count: u32,
    last: Duration,
}

/// What failed on one server, and where accounts are known.
#[derive(Debug, Default)]
pub struct Failures {
    in_a_row: BTreeMap<(Box<str>, Place), InARow>,
    /// When each place would have paid for its failures, one after the other, each with its share of the time.
    paid_at: BTreeMap<Place, Duration>,
    /// When accounts last logged in from where.
    known: BTreeMap<(Box<str>, Place), Duration>,
}

impl Failures {
    /// How long nobody may try this account from this place; none: now.
    pub fn wait(
        &self,
        name: &str,
        place: Place,
        known: &Known,
        limits: Limits,
        now: Duration,
    ) -> Option<Duration> {
        let key = (Box::from(name), place);
        let in_a_row = self.in_a_row.get(&key).filter(|row| {
            row.count >= limits.attempts && known.forgiven().is_none_or(|then| row.last > then)
        });
        let wait = in_a_row.and_then(|row| left(row.last + limits.time, now));
        if wait.is_some() || known.is_here || self.is_known(&key, now) {
            return wait;
        }
        let lock = known.lock.filter(|lock| !lock.lifted);
        // A calendar that is wrong must not make a lock longer than it is.
        let lock = lock.and_then(|lock| {
            left(lock.until, now).map(|wait| wait.min(lock.until.saturating_sub(lock.since)))
        });
        lock.or_else(|| {
            let (count, last) = self.of_account(name, known, limits, now);
            match count >= limits.attempts {
                true => left(last + limits.time, now),
                false => None,
            }
        })
        .or_else(|| {
            let paid = self.paid_at.get(&place)?;
            left(*paid + share(limits), now + limits.time)
        })
    }

    /// How many logins of an account failed lately, here and on other servers, and when the last did; those that a lock in the
    /// directory stands for are left out.
    pub fn of_account(
        &self,
        name: &str,
        known: &Known,
        limits: Limits,
        now: Duration,
    ) -> (u32, Duration) {
        let here = self.rows_of(name).map(|row| (row.count, row.last));
        let all = here.chain(known.elsewhere.iter().copied());
        let counts = all.filter(|(_, last)| {
            *last + limits.time > now && known.settled().is_none_or(|then| *last > then)
        });
        counts.fold((0, Duration::ZERO), |(count, newest), (more, last)| {
            (count.saturating_add(more), newest.max(last))
        })
    }

    /// A login failed.
    pub fn failed(
        &mut self,
        name: &str,
        place: Place,
        known: &Known,
        limits: Limits,
        now: Duration,
    ) {
        let row = self
            .in_a_row
            .entry((Box::from(name), place))
            .or_insert(InARow {
                count: 0,
                last: now,
            });
        let is_over = row.last + limits.time <= now
            || known
                .settled()
                .is_some_and(|then| row.last <= then && then <= now);
        row.count = if is_over {
            1
        } else {
            row.count.saturating_add(1)
        };
        row.last = now;
        let paid = self.paid_at.entry(place).or_default();
        *paid = (*paid).max(now) + share(limits);
        keep_newer_half(&mut self.in_a_row, |row| row.last);
        keep_newer_half(&mut self.paid_at, |paid| *paid);
    }

    /// A login succeeded: the account is known here now, and what failed here before was its user.
    pub fn succeeded(&mut self, name: &str, place: Place, now: Duration) {
        let key = (Box::from(name), place);
        self.in_a_row.remove(&key);
        self.known.insert(key, now);
        keep_newer_half(&mut self.known, |at| *at);
    }

    /// Every name that logins failed with lately, how many did, and when the last did.
    pub fn lately(&self, limits: Limits, now: Duration) -> BTreeMap<&str, (u32, Duration)> {
        let mut all: BTreeMap<&str, (u32, Duration)> = BTreeMap::new();
        for ((name, _), row) in &self.in_a_row {
            if row.last + limits.time > now {
                let (count, last) = all.entry(name).or_default();
                *count = count.saturating_add(row.count);
                *last = (*last).max(row.last);
            }
        }
        all
    }

    fn is_known(&self, key: &(Box<str>, Place), now: Duration) -> bool {
        let at = self.known.get(key);
        at.is_some_and(|at| now < *at + KNOWN_FOR)
    }

    fn rows_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a InARow> + 'a {
        let first = (Box::from(name), Place(IpAddr::from([0, 0, 0, 0])));
        self.in_a_row
            .range(first..)
            .take_while(move |((of, _), _)| **of == *name)
            .map(|(_, row)| row)
    }
}

/// What one failure costs its place.
fn share(limits: Limits) -> Duration {
    limits.time / limits.from_place.max(1)
}

fn left(end: Duration, now: Duration) -> Option<Duration> {
    end.checked_sub(now).filter(|left| !left.is_zero())
}

fn keep_newer_half<K: Ord, V>(table: &mut BTreeMap<K, V>, at: impl Fn(&V) -> Duration) {
    if table.len() <= LIMIT {
        return;
    }
    let mut times: Vec<Duration> = table.values().map(&at).collect();
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    table.retain(|_, entry| at(entry) > middle);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        attempts: 3,
        from_place: 10,
        time: Duration::from_secs(100),
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_000 + seconds)
    }

    fn place(number: u8) -> Place {
        IpAddr::from([10, 0, 0, number]).into()
    }

    fn nothing() -> Known {
        Known::default()
    }

    /// So many failures of an account from a place.
    fn fail(failures: &mut Failures, name: &str, from: u8, count: u32, now: Duration) {
        for _ in 0..count {
            failures.failed(name, place(from), &nothing(), LIMITS, now);
        }
    }

    fn wait(failures: &Failures, name: &str, from: u8, now: Duration) -> Option<u64> {
        let wait = failures.wait(name, place(from), &nothing(), LIMITS, now);
        wait.map(|wait| wait.as_secs())
    }

    #[test]
    fn an_account_waits_at_a_place_and_then_begins_anew() {
        let mut failures = Failures::default();
        fail(&mut failures, "ann", 1, 2, at(0));
        assert_eq!(wait(&failures, "ann", 1, at(0)), None);
        fail(&mut failures, "ann", 1, 1, at(10));
        assert_eq!(wait(&failures, "ann", 1, at(11)), Some(99));
        assert_eq!(wait(&failures, "ann", 1, at(110)), None);
        fail(&mut failures, "ann", 1, 1, at(110));
        assert_eq!(
            wait(&failures, "ann", 1, at(110)),
            None,
            "that was the first"
        );
    }

    #[test]
    fn a_success_ends_the_row_and_makes_the_place_known() {
        let mut failures = Failures::default();
        fail(&mut failures, "ann", 1, 2, at(0));
        failures.succeeded("ann", place(1), at(1));
        fail(&mut failures, "ann", 1, 2, at(2));
        assert_eq!(wait(&failures, "ann", 1, at(2)), None);
        // Strangers elsewhere lock the account everywhere but here.
        fail(&mut failures, "ann", 2, 3, at(3));
        assert_eq!(wait(&failures, "ann", 1, at(3)), None);
        assert_eq!(wait(&failures, "ann", 3, at(3)), Some(100));
        // A week later she is a stranger too.
        let later = at(1) + KNOWN_FOR;
        fail(&mut failures, "ann", 2, 3, later);
        assert_eq!(wait(&failures, "ann", 1, later), Some(100));
        let here = Known {
            is_here: true,
            ..nothing()
        };
        assert_eq!(failures.wait("ann", place(1), &here, LIMITS, later), None);
    }

    #[test]
    fn failures_from_many_places_and_servers_add_up() {
        let mut failures = Failures::default();
        fail(&mut failures, "ann", 1, 1, at(0));
        fail(&mut failures, "ann", 2, 1, at(5));
        fail(&mut failures, "anna", 3, 2, at(5));
        assert_eq!(wait(&failures, "ann", 9, at(5)), None);
        let elsewhere = |last| Known {
            elsewhere: vec![(1, last)],
            ..nothing()
        };
        let waits = |known: &Known, now| failures.wait("ann", place(9), known, LIMITS, now);
        let known = elsewhere(at(7));
        assert_eq!(waits(&known, at(7)), Some(Duration::from_secs(100)));
        assert_eq!(waits(&elsewhere(at(0)), at(101)), None, "too old to count");
        assert_eq!(
            failures.of_account("ann", &known, LIMITS, at(8)),
            (3, at(7))
        );
        assert_eq!(
            failures.lately(LIMITS, at(8)),
            [("ann", (2, at(5))), ("anna", (2, at(5)))].into()
        );
    }

    #[test]
    fn a_lock_in_the_directory_stands_for_what_came_before() {
        let mut failures = Failures::default();
        let lock = |lifted| Known {
            lock: Some(Lock {
                since: at(10),
                until: at(60),
                lifted,
            }),
            ..nothing()
        };
        let waits = |failures: &Failures, from, known: &Known, now| {
            let wait = failures.wait("ann", place(from), known, LIMITS, now);
            wait.map(|wait| wait.as_secs())
        };
        fail(&mut failures, "ann", 1, 3, at(9));
        assert_eq!(waits(&failures, 2, &lock(false), at(20)), Some(40));
        assert_eq!(
            waits(&failures, 2, &lock(false), at(60)),
            None,
            "it is over"
        );
        assert_eq!(
            waits(&failures, 1, &lock(false), at(60)),
            Some(49),
            "its own row goes on"
        );
        assert_eq!(waits(&failures, 1, &lock(true), at(60)), None, "forgiven");
        // The next failure is the first.
        failures.failed("ann", place(1), &lock(true), LIMITS, at(61));
        assert_eq!(waits(&failures, 1, &lock(true), at(61)), None);
        assert_eq!(
            failures.of_account("ann", &lock(true), LIMITS, at(61)),
            (1, at(61))
        );
        // The calendar of this server is a day behind: the lock is as long as it is.
        let day = Duration::from_secs(86_400);
        let ahead = Known {
            lock: Some(Lock {
                since: at(10) + day,
                until: at(60) + day,
                lifted: false,
            }),
            ..nothing()
        };
        assert_eq!(waits(&failures, 2, &ahead, at(20)), Some(50));
    }

    #[test]
    fn a_place_that_tries_many_accounts_is_slowed_down() {
        let mut failures = Failures::default();
        failures.succeeded("own", place(1), at(0));
        for account in 0..9 {
            assert_eq!(wait(&failures, &format!("user{account}"), 1, at(0)), None);
            fail(&mut failures, &format!("user{account}"), 1, 1, at(0));
        }
        assert_eq!(wait(&failures, "another", 1, at(0)), None);
        fail(&mut failures, "user9", 1, 1, at(0));
        assert_eq!(wait(&failures, "another", 1, at(0)), Some(10));
        assert_eq!(wait(&failures, "another", 2, at(0)), None);
        assert_eq!(wait(&failures, "own", 1, at(0)), None, "known here");
        // One in ten seconds is what it gets.
        assert_eq!(wait(&failures, "another", 1, at(10)), None);
        fail(&mut failures, "another", 1, 1, at(10));
        assert_eq!(wait(&failures, "yet-another", 1, at(10)), Some(10));
        assert_eq!(wait(&failures, "yet-another", 1, at(110)), None);
    }

    #[test]
    fn one_machine_is_one_place() {
        let place = |text: &str| Place::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(place("2001:db8::1"), place("2001:db8::ffff:1"));
        assert_ne!(place("2001:db8::1"), place("2001:db8:0:1::1"));
        assert_eq!(place("::ffff:10.0.0.1"), place("10.0.0.1"));
        assert_ne!(place("10.0.0.1"), place("10.0.0.2"));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_newest_stays() {
        let mut failures = Failures::default();
        let limits = Limits {
            attempts: 1,
            ..LIMITS
        };
        let count = u32::try_from(LIMIT).unwrap() + 10;
        for number in 0..count {
            let from: Place = IpAddr::from(number.to_be_bytes()).into();
            let now = at(0) + Duration::from_millis(u64::from(number));
            failures.failed(&number.to_string(), from, &nothing(), limits, now);
            failures.succeeded(&format!("user{number}"), from, now);
        }
        assert!(failures.in_a_row.len() <= LIMIT && failures.paid_at.len() <= LIMIT);
        assert!(failures.known.len() <= LIMIT);
        let newest = count - 1;
        let now = at(0) + Duration::from_millis(u64::from(newest));
        let from: Place = IpAddr::from(newest.to_be_bytes()).into();
        let name = newest.to_string();
        assert!(
            failures
                .wait(&name, from, &nothing(), limits, now)
                .is_some()
        );
    }
}
