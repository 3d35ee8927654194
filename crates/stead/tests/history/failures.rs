//! What happens to the three voters meanwhile: one failure after the other, drawn by seed, each undone again before the
//! next. The fourth server, which hosts all sessions, and what the clients hear of it, stay unharmed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use testkit::{Group, Network, eventually, millis, seconds, stays_so_for};

/// The voters.
pub const VOTERS: [&str; 3] = ["boston", "newyork", "detroit"];
/// Where clients are.
pub const SITES: [&str; 3] = ["oslo", "paris", "rome"];

/// A storm at least this long begins with a freeze of minutes, as people feel it.
const LONG_STORM: Duration = seconds(120);
/// How long that freeze takes: longer than anything in the group waits.
const LONG_FREEZE: Duration = seconds(65);

/// One kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The primary's process is killed, and started again.
    KillPrimary,
    /// Another voter's process is killed, and started again.
    KillSecondary,
    /// The primary stops in the middle of whatever it does, and goes on as if nothing had been.
    FreezePrimary,
    /// The same for minutes.
    FreezePrimaryLong,
    /// Another voter stops and goes on.
    FreezeSecondary,
    /// The primary and the other voters do not hear each other; clients reach them all.
    CutPrimary,
    /// The primary hears the other voters, but they do not hear it.
    MutePrimary,
    /// The others hear the primary, but it does not hear them.
    DeafPrimary,
    /// The two others do not hear each other.
    CutSecondaries,
    /// One site of clients does not reach the primary.
    CutClients,
    /// The office moves, as planned.
    Switchover,
}

/// These come first, so that a short storm has them.
const FIRST: [Failure; 3] = [
    Failure::CutPrimary,
    Failure::FreezePrimary,
    Failure::KillPrimary,
];
const REST: [Failure; 7] = [
    Failure::KillSecondary,
    Failure::FreezeSecondary,
    Failure::MutePrimary,
    Failure::DeafPrimary,
    Failure::CutSecondaries,
    Failure::CutClients,
    Failure::Switchover,
];

/// Makes failures.
pub struct Storm<'a> {
    /// Whom they happen to.
    pub group: &'a mut Group,
    /// Where it lies.
    pub network: &'a Network,
    /// What they are drawn from.
    pub chance: StdRng,
}

impl Storm<'_> {
    /// Makes failures for so long, and waits until the group has settled after the last; says how many of each kind.
    pub fn rage(&mut self, span: Duration) -> BTreeMap<Failure, u32> {
        let end = Instant::now() + span;
        let mut made = BTreeMap::new();
        let mut coming = self.round();
        if span >= LONG_STORM {
            coming.insert(0, Failure::FreezePrimaryLong);
        }
        while Instant::now() < end {
            if coming.is_empty() {
                coming = self.round();
            }
            let failure = coming.remove(0);
            let primary = self.settled();
            self.make(failure, primary);
            *made.entry(failure).or_default() += 1;
        }
        self.settled();
        made
    }

    /// Every kind once.
    fn round(&mut self) -> Vec<Failure> {
        let (mut first, mut rest) = (FIRST, REST);
        first.shuffle(&mut self.chance);
        rest.shuffle(&mut self.chance);
        [&first[..], &rest[..]].concat()
    }

    fn lasts(&mut self, most: u64) {
        stays_so_for(millis(self.chance.random_range(500..most)));
    }

    fn make(&mut self, failure: Failure, primary: usize) {
        let others = [(primary + 1) % 3, (primary + 2) % 3];
        let other = *others
            .choose(&mut self.chance)
            .expect("invariant: there are two");
        match failure {
            Failure::KillPrimary => self.killed(primary),
            Failure::KillSecondary => self.killed(other),
            Failure::FreezePrimary => self.frozen(primary, None),
            Failure::FreezePrimaryLong => self.frozen(primary, Some(LONG_FREEZE)),
            Failure::FreezeSecondary => self.frozen(other, None),
            Failure::CutPrimary => {
                let paths = others.map(|other| [(primary, other), (other, primary)]);
                self.cut(&names(&paths.concat()));
            }
            Failure::MutePrimary => self.cut(&names(&others.map(|other| (primary, other)))),
            Failure::DeafPrimary => self.cut(&names(&others.map(|other| (other, primary)))),
            Failure::CutSecondaries => {
                let [one, other] = others;
                self.cut(&names(&[(one, other), (other, one)]));
            }
            Failure::CutClients => {
                let site = *SITES
                    .choose(&mut self.chance)
                    .expect("invariant: there are three");
                self.cut(&[(site, VOTERS[primary]), (VOTERS[primary], site)]);
            }
            Failure::Switchover => {
                // Whether it is refused or fails half-way is part of the storm.
                let _outcome = self
                    .group
                    .run(other, &["group", "promote", VOTERS[other], "--temporary"]);
            }
        }
    }

    fn killed(&mut self, index: usize) {
        self.group.kill(index);
        self.lasts(2_000);
        self.group.serve(index);
    }

    fn frozen(&mut self, index: usize, span: Option<Duration>) {
        self.group.process(index).pause();
        match span {
            Some(span) => stays_so_for(span),
            None => self.lasts(4_000),
        }
        self.group.process(index).resume();
    }

    fn cut(&mut self, paths: &[(&str, &str)]) {
        for (from, to) in paths {
            self.network.cut_one_way(from, to);
        }
        self.lasts(4_000);
        for (from, to) in paths {
            self.network.mend(from, to);
        }
    }

    /// Waits until all servers agree on a primary that acts, and says which.
    fn settled(&self) -> usize {
        let mut primary = None;
        eventually(seconds(60), "all servers to agree on a primary", || {
            primary = self.group.acting();
            let seers = 0..self.group.servers().len();
            primary.is_some()
                && seers
                    .into_iter()
                    .all(|index| self.group.primary_seen_by(index) == primary)
        });
        primary.expect("invariant: the loop ends with one")
    }
}

fn names(paths: &[(usize, usize)]) -> Vec<(&'static str, &'static str)> {
    let name = |index: usize| VOTERS[index];
    paths
        .iter()
        .map(|(from, to)| (name(*from), name(*to)))
        .collect()
}
