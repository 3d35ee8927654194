//! What all simulated servers share and none of them knows: the true time, their calendars, and what was seen so far.

use crate::breadth::Breadth;
use crate::checks::{Broken, Seen};
use crate::planted::Planted;
use model::{ServerId, UnixMillis};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The calendar when the world begins.
const BEGINNING: i64 = 1_800_000_000_000;

#[derive(Debug, Default)]
struct Inside {
    now: Duration,
    /// How far calendars are off, in milliseconds.
    offsets: BTreeMap<ServerId, i64>,
    seen: Seen,
    keys: u64,
    /// What servers said they do, since it was last taken.
    told: Vec<String>,
    /// Whether the fence command fails: the chance of it, in thousandths, and what is drawn from.
    fence: Option<(u32, SmallRng)>,
}

/// The scene. Clones are handles.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    inside: Arc<Mutex<Inside>>,
    planted: Option<Planted>,
    breadth: Breadth,
    hosts: bool,
}

impl Scene {
    pub(crate) fn new(planted: Option<Planted>, breadth: Breadth, hosts: bool) -> Self {
        Self {
            inside: Arc::default(),
            planted,
            breadth,
            hosts,
        }
    }

    /// Whether something runs on hosts for sessions.
    pub(crate) fn has_hosts(&self) -> bool {
        self.hosts
    }

    /// Whether what was not there when seeds were first kept is there: it takes chance that was not drawn then.
    pub(crate) fn is_whole(&self) -> bool {
        self.breadth == Breadth::Whole
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a bug is planted.
    pub(crate) fn has(&self, bug: Planted) -> bool {
        self.planted == Some(bug)
    }

    /// The true time since the world began.
    pub(crate) fn now(&self) -> Duration {
        self.inside().now
    }

    /// Time has passed.
    pub(crate) fn set_now(&self, now: Duration) {
        self.inside().now = now;
    }

    /// The time on a server's calendar.
    pub(crate) fn calendar(&self, of: ServerId) -> UnixMillis {
        let inside = self.inside();
        let offset = inside.offsets.get(&of).copied().unwrap_or(0);
        let passed = i64::try_from(inside.now.as_millis()).unwrap_or(i64::MAX);
        UnixMillis(u64::try_from(BEGINNING + passed + offset).unwrap_or(0))
    }

    /// A server's calendar jumps, to so many milliseconds off the true time.
    pub(crate) fn set_offset(&self, of: ServerId, offset: i64) {
        self.inside().offsets.insert(of, offset);
    }

    /// A number that was not given before.
    pub(crate) fn fresh(&self) -> u64 {
        let mut inside = self.inside();
        inside.keys += 1;
        inside.keys
    }

    /// A server says what it does.
    pub(crate) fn tell(&self, words: String) {
        self.inside().told.push(words);
    }

    /// What servers said since this was last asked.
    pub(crate) fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.inside().told)
    }

    /// The fence command fails so often, of a thousand times.
    pub(crate) fn set_fence(&self, fails: u32, seed: u64) {
        self.inside().fence = Some((fails.min(1000), SmallRng::seed_from_u64(seed)));
    }

    /// Runs the fence command; says whether it succeeded.
    pub(crate) fn fence(&self) -> bool {
        let mut inside = self.inside();
        let drawn = inside.fence.as_mut();
        drawn.is_none_or(|(fails, chance)| !chance.random_ratio(*fails, 1000))
    }

    /// Looks at, or adds to, what was seen.
    pub(crate) fn with_seen<T>(&self, act: impl FnOnce(&mut Seen) -> T) -> T {
        act(&mut self.inside().seen)
    }

    /// Notes that a rule was broken, where it was.
    pub(crate) fn judge(&self, verdict: Result<(), Broken>) {
        if let Err(broken) = verdict {
            self.with_seen(|seen| seen.broken.get_or_insert(broken).clone());
        }
    }
}
