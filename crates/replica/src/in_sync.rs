//! Followers without which no change is acknowledged, although one server alone counts: what availability mode is made of.
//!
//! Always true: a change is acknowledged when every follower in sync has it on disk; one that is unheard, or does not
//! advance, for the grace period is no longer in sync, and is again when it has caught up. So the loss of one stalls changes
//! once, and the loss of the primary alone loses nothing that was acknowledged. Start at [`InSync`] and [`run`].

use crate::clock::Moment;
use crate::core::{Ground, Raft};
use crate::types::Consensus;
use crate::watch::OrderedSender;
use model::ServerId;
use openraft::async_runtime::watch::{WatchReceiver, WatchSender};
use openraft::metrics::RaftDataMetrics;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How many entries one that returns may miss.
const CLOSE: u64 = 64;

/// What is acknowledged, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Acknowledged {
    /// The number of the last entry that all in sync have; the largest number where nobody is waited for.
    pub(crate) upto: u64,
    /// Who is in sync.
    pub(crate) by: BTreeSet<ServerId>,
}

impl Acknowledged {
    /// Nobody is waited for.
    fn by_this_server_alone() -> Self {
        Self {
            upto: u64::MAX,
            by: BTreeSet::new(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Follower {
    matched: u64,
    /// When it last had all that there was, or advanced.
    advanced: Moment,
    in_sync: bool,
}

/// Who follows closely.
#[derive(Debug, Default)]
pub(crate) struct InSync {
    followers: BTreeMap<ServerId, Follower>,
}

/// How far a follower is, as the leader knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Known {
    pub(crate) matched: u64,
    pub(crate) heard: Option<Moment>,
}

impl InSync {
    /// Looks at those that are wanted: the log ends with `last`; silence and standing still are borne for `grace`.
    pub(crate) fn look(
        &mut self,
        wanted: &BTreeSet<ServerId>,
        last: u64,
        known: impl Fn(ServerId) -> Known,
        grace: Duration,
        now: Moment,
    ) -> Acknowledged {
        self.followers.retain(|id, _| wanted.contains(id));
        for id in wanted {
            let known = known(*id);
            // One that is not known yet is waited for: it may have been in sync with the primary before this one.
            let follower = self.followers.entry(*id).or_insert(Follower {
                matched: known.matched,
                advanced: now,
                in_sync: true,
            });
            if known.matched > follower.matched || known.matched >= last {
                follower.advanced = now;
            }
            follower.matched = known.matched;
            let heard = known.heard.unwrap_or(follower.advanced);
            let silent = now.since(heard) > grace;
            follower.in_sync = match follower.in_sync {
                true => !silent && now.since(follower.advanced) <= grace,
                false => known.heard.is_some() && !silent && known.matched + CLOSE >= last,
            };
        }
        let by: Vec<_> = self
            .followers
            .iter()
            .filter(|(_, follower)| follower.in_sync)
            .collect();
        Acknowledged {
            upto: by
                .iter()
                .map(|(_, follower)| follower.matched)
                .min()
                .unwrap_or(u64::MAX),
            by: by.into_iter().map(|(id, _)| *id).collect(),
        }
    }
}

fn known(metrics: &RaftDataMetrics<Consensus>, id: ServerId) -> Known {
    let of =
        |map: &Option<BTreeMap<_, _>>| map.as_ref().and_then(|map| map.get(&id).copied().flatten());
    let heard = metrics
        .heartbeat
        .as_ref()
        .and_then(|heard| heard.get(&id).copied().flatten());
    Known {
        matched: of(&metrics.replication).map_or(0, |id: crate::types::LogId| id.index),
        heard: heard.map(|at| at.into_inner()),
    }
}

/// Keeps what is acknowledged up to date until it is aborted.
pub(crate) async fn run(
    raft: Raft,
    ground: Ground,
    grace: Duration,
    acknowledged: OrderedSender<Acknowledged>,
) {
    let mut metrics = raft.data_metrics();
    let mut wanted = ground.followers.subscribe();
    let mut in_sync = InSync::default();
    loop {
        let nobody = wanted.borrow_and_update().is_empty();
        let now = {
            let metrics = metrics.borrow_and_update();
            if nobody {
                in_sync = InSync::default();
                Acknowledged::by_this_server_alone()
            } else if metrics.replication.is_none() {
                // Only a leader knows; the next time it begins anew.
                in_sync = InSync::default();
                Acknowledged::default()
            } else {
                let last = metrics.last_log.map_or(0, |id| id.index);
                let wanted = wanted.borrow();
                in_sync.look(
                    &wanted,
                    last,
                    |id| known(&metrics, id),
                    grace,
                    Moment::now(),
                )
            }
        };
        acknowledged.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
        if nobody {
            // Every entry moves the figures, and none of them matters.
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        }
        // Who falls silent changes nothing that could be waited for.
        tokio::select! {
            biased;
            changed = WatchReceiver::changed(&mut metrics) => if changed.is_err() {
                return;
            },
            changed = wanted.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep(grace / 8) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_millis(500);

    fn id(number: u8) -> ServerId {
        ServerId::from_bytes([number; 16])
    }

    fn at(start: Moment, ms: u64) -> Moment {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn nobody_to_wait_for_holds_nothing_up() {
        let now = Moment::now();
        let seen = InSync::default().look(&BTreeSet::new(), 9, |_| Known::default(), GRACE, now);
        assert_eq!(seen.upto, u64::MAX);
    }

    #[test]
    fn one_that_hangs_holds_changes_up_once_and_comes_back_when_it_is_close() {
        let start = Moment::now();
        let wanted = BTreeSet::from([id(2), id(3)]);
        let mut in_sync = InSync::default();
        let mut look = |ms: u64, last: u64, slow: u64, slow_heard: u64| {
            let known = |server| match server == id(2) {
                true => Known {
                    matched: last,
                    heard: Some(at(start, ms)),
                },
                false => Known {
                    matched: slow,
                    heard: Some(at(start, slow_heard)),
                },
            };
            in_sync.look(&wanted, last, known, GRACE, at(start, ms))
        };
        assert_eq!(look(0, 10, 10, 0).by, wanted);
        // Heard, but it does not advance.
        let seen = look(400, 200, 10, 400);
        assert_eq!((seen.upto, seen.by.len()), (10, 2));
        let seen = look(501, 200, 10, 501);
        assert_eq!((seen.upto, seen.by), (200, BTreeSet::from([id(2)])));
        // Further behind than it may be.
        assert_eq!(look(600, 300, 235, 600).by.len(), 1);
        assert_eq!(look(700, 300, 236, 700).by, wanted);
        // Silent, though it has everything.
        assert_eq!(look(1300, 300, 300, 700).by.len(), 1);
    }

    #[test]
    fn one_that_was_never_heard_is_waited_for_once() {
        let start = Moment::now();
        let wanted = BTreeSet::from([id(2)]);
        let mut in_sync = InSync::default();
        let mut look = |ms| in_sync.look(&wanted, 5, |_| Known::default(), GRACE, at(start, ms));
        assert_eq!(look(0).upto, 0);
        assert_eq!(look(500).upto, 0);
        assert_eq!(look(501).upto, u64::MAX);
        assert_eq!(look(2000).upto, u64::MAX);
    }
}
