//! Campaigning by rank: stories, rules, and a dumb twin.

use crate::fixture::{
    ALL, AT, BOSTON, DENVER, DETROIT, Made, NEWYORK, SEATTLE, made, ms, paused, secs,
};
use crate::group::{World, facts};
use model::{ServerId, UnixMillis};
use policy::Peer;
use policy::campaign::{Action, Campaign, Event, Facts, STAND_IN, Stance};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

const THREE: [ServerId; 3] = [BOSTON, NEWYORK, DETROIT];

fn running(facts: &Facts) -> World {
    let mut world = World::of(facts);
    for id in facts.voters.keys() {
        world.start(*id);
    }
    world.run(ms(2_000));
    world
}

#[test]
fn a_cold_start_and_the_loss_of_the_primary() {
    let mut world = running(&facts(&THREE, &[], &THREE));
    assert_eq!(world.primary(), Some(BOSTON));
    world.stop(BOSTON);
    world.run_until("another is primary", |world| world.primary().is_some());
    world.run(ms(500));
    world.start(BOSTON);
    world.run(ms(2_000));
    assert_eq!(world.primary(), Some(NEWYORK), "{}", world.told());
    insta::assert_snapshot!(world.told());
}

#[test]
fn a_dead_first_backup_costs_one_rank_delay() {
    let five = [BOSTON, NEWYORK, DETROIT, SEATTLE, DENVER];
    let mut world = running(&facts(&five, &[], &five));
    world.stop(BOSTON);
    world.stop(NEWYORK);
    world.run_until("somebody is primary", |world| world.primary().is_some());
    assert_eq!(world.primary(), Some(DETROIT));
    world.stop(DETROIT);
    world.run(ms(3_000));
    world.tell("two of five are left and cannot win");
    world.start(NEWYORK);
    world.run_until("somebody is primary", |world| world.primary().is_some());
    insta::assert_snapshot!(world.told());
}

#[test]
fn a_caretaker_leads_until_a_backup_has_caught_up() {
    let mut world = running(&facts(
        &[BOSTON, NEWYORK, SEATTLE],
        &[SEATTLE],
        &[BOSTON, NEWYORK],
    ));
    world.cut(BOSTON, NEWYORK);
    // Only the witness has what boston wrote last.
    world.grow_log(BOSTON, 5);
    world.run(ms(150));
    world.tell("newyork has not heard from boston, which dies");
    world.stop(BOSTON);
    world.mend();
    world.run_until("newyork is primary", |world| {
        world.primary() == Some(NEWYORK)
    });
    insta::assert_snapshot!(world.told());
}

#[test]
fn a_backup_whose_clock_is_wrong_is_passed_over() {
    let mut world = running(&facts(&THREE, &[], &THREE));
    world.set_clock(NEWYORK, 90_000);
    world.run(ms(200));
    world.stop(BOSTON);
    world.run_until("detroit is primary", |world| {
        world.primary() == Some(DETROIT)
    });
    insta::assert_snapshot!(world.told());
}

#[test]
fn a_primary_whose_clock_jumps_stays_and_goes_last_when_it_is_lost() {
    let mut world = running(&facts(&THREE, &[], &THREE));
    world.set_clock(BOSTON, -3_600_000);
    world.run(ms(2_000));
    assert_eq!(world.primary(), Some(BOSTON), "{}", world.told());
    world.stop(BOSTON);
    world.run(ms(100));
    world.start(BOSTON);
    world.run_until("newyork is primary", |world| {
        world.primary() == Some(NEWYORK)
    });
}

#[test]
fn where_the_only_backup_has_the_wrong_clock_it_is_primary_all_the_same() {
    let mut world = running(&facts(&THREE, &[], &[BOSTON, NEWYORK]));
    world.set_clock(NEWYORK, 61_000);
    world.stop(BOSTON);
    world.run_until("newyork is primary", |world| {
        world.primary() == Some(NEWYORK)
    });
    world.run(ms(5_000));
    assert_eq!(world.primary(), Some(NEWYORK), "{}", world.told());
}

/// Failover is off, and the primary, boston, has been down for five seconds.
fn left_without_failover() -> World {
    let mut facts = facts(&THREE, &[], &THREE);
    facts.failover = false;
    let mut world = running(&facts);
    world.stop(BOSTON);
    world.run(ms(5_000));
    world
}

#[test]
fn without_failover_only_the_recorded_primary_leads() {
    let mut world = left_without_failover();
    assert_eq!(world.leader(), None);
    assert_eq!(world.stance(NEWYORK), Stance::Waits);
    world.tell("five seconds later nobody has stepped forward");
    world.order(DETROIT, ms(10_000));
    world.run_until("detroit is primary", |world| {
        world.primary() == Some(DETROIT)
    });
    world.stop(DETROIT);
    world.run(ms(2_000));
    world.start(DETROIT);
    world.run_until("detroit is primary again", |world| {
        world.primary() == Some(DETROIT)
    });
    insta::assert_snapshot!(world.told());
}

#[test]
fn a_recorded_primary_that_lost_entries_is_helped_to_lead_again() {
    let mut world = left_without_failover();
    world.tell("boston wrote what only the others have on disk");
    for other in [NEWYORK, DETROIT] {
        world.grow_log(other, 2);
    }
    world.start(BOSTON);
    world.run_until("boston is primary again", |world| {
        world.primary() == Some(BOSTON)
    });
    insta::assert_snapshot!(world.told());
}

/// A server that leads for the recorded primary only, which is there and has not caught up yet.
fn standing_in() -> (Campaign, Facts) {
    let mut facts = facts(&ALL, &[], &THREE);
    facts.failover = false;
    let mut campaign = Campaign::new(NEWYORK, facts.clone(), ms(0));
    let peers = |lag| {
        let all = ALL.iter().map(|id| {
            let peer = Peer {
                reachable: true,
                lag,
                ..Peer::default()
            };
            (*id, peer)
        });
        Event::Peers(all.collect())
    };
    assert_eq!(campaign.poll_timeout(), None);
    assert!(!campaign.wants_peers(ms(500)) && campaign.wants_peers(ms(1_000)));
    campaign.handle(peers(None), ms(1_000));
    // boston would come first; newyork is next on the list.
    let due = ms(1_000) + STAND_IN + facts.timing.rank_delay;
    assert_eq!(campaign.poll_timeout(), Some(due));
    assert!(matches!(
        campaign.handle_timeout(due),
        Some(Action::Campaign { attempt: 1, .. })
    ));
    campaign.handle(Event::Leading, due);
    assert!(campaign.is_caretaker());
    let mut behind = peers(Some(0));
    if let Event::Peers(all) = &mut behind {
        all.get_mut(&BOSTON).unwrap().lag = Some(7);
    }
    // detroit has every change and is on the list, and only boston may lead.
    assert_eq!(campaign.handle(behind, due + ms(100)), None);
    (campaign, facts)
}

#[test]
fn who_stands_in_for_the_recorded_primary_may_stay_where_it_is_told_to_or_may() {
    let (mut ordered, _) = standing_in();
    let until = secs(60);
    ordered.handle(Event::Ordered { until }, ms(6_000));
    assert!(!ordered.is_caretaker());
    let (mut freed, mut facts) = standing_in();
    facts.failover = true;
    freed.handle(Event::Facts(Box::new(facts)), ms(6_000));
    assert!(!freed.is_caretaker());
    let (mut follows, _) = standing_in();
    follows.handle(Event::Following, ms(6_000));
    assert_eq!(follows.stance(), Stance::Waits);
}

#[test]
fn nobody_stands_in_for_a_recorded_primary_that_is_away() {
    let mut facts = facts(&THREE, &[], &THREE);
    facts.failover = false;
    let mut campaign = Campaign::new(NEWYORK, facts, ms(0));
    let peers = |reachable| {
        let peer = Peer {
            reachable,
            ..Peer::default()
        };
        Event::Peers(BTreeMap::from([(BOSTON, peer)]))
    };
    campaign.handle(peers(true), ms(1_000));
    campaign.handle(peers(false), ms(2_000));
    assert_eq!(campaign.poll_timeout(), None);
    assert_eq!(campaign.handle_timeout(ms(60_000)), None);
    // It is given time anew when it is there again.
    campaign.handle(peers(true), ms(60_000));
    let due = ms(60_000) + STAND_IN + ms(150);
    assert_eq!(campaign.poll_timeout(), Some(due));
}

#[test]
fn during_a_pause_only_the_recorded_primary_leads() {
    let mut world = running(&facts(&THREE, &[], &THREE));
    world.tell("ann pauses automatic failover");
    world.learn(|facts| facts.paused = Some(paused("ann", secs(3_600))));
    world.stop(BOSTON);
    world.run(ms(20_000));
    assert_eq!(world.leader(), None, "{}", world.told());
    assert_eq!(world.stance(NEWYORK), Stance::Waits);
    world.start(BOSTON);
    world.run_until("boston is primary again", |world| {
        world.primary() == Some(BOSTON)
    });
    world.stop(BOSTON);
    world.run(ms(20_000));
    assert_eq!(world.leader(), None, "{}", world.told());
    world.tell("the pause runs out: all step forward again, in their order");
    world.learn(|facts| facts.paused = None);
    world.run_until("newyork is primary", |world| {
        world.primary() == Some(NEWYORK)
    });
    insta::assert_snapshot!(world.told());
}

#[test]
fn a_pause_counts_until_it_has_run_out() {
    let mut made = made();
    made.group.pause = Some(paused("ann", secs(60)));
    let fails_over = |made: &Made, now| {
        let facts = Facts::of(&made.directory(), &made.voters(), now);
        assert_eq!(facts.fails_over(), facts.paused.is_none() && facts.failover);
        let automatic = facts.fails_over();
        // So the office does not go back to the original primary by itself either.
        assert_eq!(
            Campaign::new(NEWYORK, facts, ms(0)).is_automatic(),
            automatic
        );
        automatic
    };
    let until = AT.after(secs(60));
    assert!(!fails_over(&made, AT));
    assert!(!fails_over(&made, UnixMillis(until.0 - 1)));
    assert!(fails_over(&made, until), "nobody recorded its end");
    assert!(
        !fails_over(&made, UnixMillis(AT.0 - 5_000)),
        "by a clock that is behind"
    );
    made.settings.push(("resilience.failover", "false"));
    assert!(!fails_over(&made, until));
}

#[test]
fn with_an_empty_list_only_the_recorded_primary_leads() {
    let mut facts = facts(&THREE, &[], &[]);
    facts.primary = Some(NEWYORK);
    let mut world = running(&facts);
    assert_eq!(world.primary(), Some(NEWYORK));
    world.stop(NEWYORK);
    world.run(ms(5_000));
    assert_eq!(world.leader(), None, "{}", world.told());
    world.start(NEWYORK);
    world.run_until("newyork is primary again", |world| {
        world.primary() == Some(NEWYORK)
    });
}

#[test]
fn with_an_empty_list_caretakers_help_a_primary_that_lost_its_log() {
    let mut facts = facts(&[BOSTON, DETROIT], &[], &[]);
    facts.primary = Some(NEWYORK);
    let mut world = running(&facts);
    assert_eq!(world.stance(BOSTON), Stance::Leads { caretaker: true });
    world.tell("newyork, whose log is gone, counts again");
    world.admit(NEWYORK);
    world.start(NEWYORK);
    world.run_until("newyork is primary", |world| {
        world.primary() == Some(NEWYORK)
    });
    insta::assert_snapshot!(world.told());
}

#[test]
fn a_cold_start_begins_with_the_recorded_primary() {
    let mut facts = facts(&THREE, &[], &THREE);
    facts.primary = Some(DETROIT);
    let world = running(&facts);
    assert_eq!(world.primary(), Some(DETROIT), "{}", world.told());
}

#[test]
fn a_sole_voter_campaigns_at_once() {
    let facts = facts(&[BOSTON], &[], &[BOSTON]);
    let mut campaign = Campaign::new(BOSTON, facts, ms(7));
    assert_eq!(campaign.poll_timeout(), Some(ms(7)));
    let action = campaign.handle_timeout(ms(7));
    assert!(
        matches!(action, Some(Action::Campaign { attempt: 1, .. })),
        "{action:?}"
    );
    assert_eq!(campaign.handle(Event::Leading, ms(8)), None);
    assert_eq!(campaign.stance(), Stance::Leads { caretaker: false });
    assert_eq!(campaign.poll_timeout(), None);
}

#[test]
fn who_does_not_vote_never_campaigns() {
    let facts = facts(&THREE, &[], &THREE);
    let mut campaign = Campaign::new(SEATTLE, facts, ms(0));
    assert_eq!(campaign.poll_timeout(), None);
    assert_eq!(campaign.handle_timeout(ms(100_000)), None);
    let until = ms(200_000);
    assert_eq!(campaign.handle(Event::Ordered { until }, ms(100_000)), None);
    assert_eq!(campaign.stance(), Stance::NoVoter);
}

#[test]
fn the_timeline_tells_an_election_from_a_transfer() {
    let facts = facts(&THREE, &[], &THREE);
    let mut campaign = Campaign::new(NEWYORK, facts, ms(0));
    campaign.handle(
        Event::Heard {
            leader: BOSTON,
            at: ms(1_000),
        },
        ms(1_000),
    );
    assert!(campaign.handle_timeout(ms(1_502)).is_some());
    campaign.handle(Event::Leading, ms(1_505));
    let timeline = campaign.timeline();
    assert_eq!(timeline.last_leader, Some(BOSTON));
    assert_eq!(timeline.last_heard, Some(ms(1_000)));
    assert_eq!(timeline.suspected, Some(ms(1_502)));
    assert_eq!(timeline.campaigned, Some(ms(1_502)));
    assert_eq!(timeline.elected, Some(ms(1_505)));
    assert!(!timeline.was_handed_over());
    let explained = campaign.explain(ms(1_600), AT);
    assert_eq!(
        explained.decision,
        "newyork leads: boston was last heard 502 ms ago, the grace period is 500 ms"
    );
    assert_eq!(explained.of(NEWYORK).unwrap().reasons, campaign.why());
    campaign.handle(
        Event::Heard {
            leader: BOSTON,
            at: ms(2_000),
        },
        ms(2_000),
    );
    campaign.handle(Event::Following, ms(2_000));
    campaign.handle(
        Event::Heard {
            leader: BOSTON,
            at: ms(2_100),
        },
        ms(2_100),
    );
    campaign.handle(Event::Leading, ms(2_150));
    assert!(campaign.timeline().was_handed_over());
    assert_eq!(campaign.why()[0].detail, "boston handed the role over");
}

#[test]
fn late_news_of_a_leader_change_nothing() {
    let facts = facts(&THREE, &[], &THREE);
    let mut campaign = Campaign::new(NEWYORK, facts, ms(0));
    campaign.handle(
        Event::Heard {
            leader: BOSTON,
            at: ms(1_000),
        },
        ms(1_000),
    );
    let due = campaign.poll_timeout();
    campaign.handle(
        Event::Heard {
            leader: DETROIT,
            at: ms(900),
        },
        ms(1_010),
    );
    campaign.handle(
        Event::Heard {
            leader: NEWYORK,
            at: ms(1_005),
        },
        ms(1_010),
    );
    assert_eq!(campaign.poll_timeout(), due);
    assert_eq!(campaign.timeline().last_leader, Some(BOSTON));
    // A time that has not come yet is taken for now.
    campaign.handle(
        Event::Heard {
            leader: BOSTON,
            at: ms(99_000),
        },
        ms(1_100),
    );
    assert_eq!(campaign.timeline().last_heard, Some(ms(1_100)));
}

#[test]
fn a_longer_grace_period_holds_at_once() {
    let mut longer = facts(&THREE, &[], &THREE);
    let mut campaign = Campaign::new(NEWYORK, longer.clone(), ms(0));
    campaign.handle(
        Event::Heard {
            leader: BOSTON,
            at: ms(1_000),
        },
        ms(1_000),
    );
    assert_eq!(campaign.poll_timeout(), Some(ms(1_502)));
    longer.timing.grace = ms(2_000);
    campaign.handle(Event::Facts(Box::new(longer)), ms(1_100));
    assert_eq!(campaign.poll_timeout(), Some(ms(3_002)));
}

#[test]
fn a_caretaker_waits_for_the_best_that_is_there_and_asks_again() {
    let facts = facts(&ALL, &[SEATTLE], &THREE);
    let mut campaign = Campaign::new(SEATTLE, facts, ms(0));
    campaign.handle(Event::Leading, ms(1_000));
    assert!(campaign.is_caretaker());
    assert_eq!(campaign.poll_timeout(), None);
    let peer = |reachable, lag| Peer {
        reachable,
        lag,
        ..Peer::default()
    };
    let mut peers = BTreeMap::from([
        (BOSTON, peer(false, None)),
        (NEWYORK, peer(true, Some(3))),
        (DETROIT, peer(true, None)),
    ]);
    assert_eq!(
        campaign.handle(Event::Peers(peers.clone()), ms(1_100)),
        None
    );
    peers.insert(DETROIT, peer(true, Some(0)));
    let to = |action| match action {
        Some(Action::TransferTo { server, .. }) => Some(server),
        _ => None,
    };
    assert_eq!(
        to(campaign.handle(Event::Peers(peers.clone()), ms(1_200))),
        Some(DETROIT)
    );
    peers.insert(NEWYORK, peer(true, Some(0)));
    assert_eq!(to(campaign.handle(Event::Peers(peers), ms(1_300))), None);
    assert_eq!(campaign.poll_timeout(), Some(ms(2_200)));
    assert_eq!(to(campaign.handle_timeout(ms(2_200))), Some(NEWYORK));
}

#[test]
fn the_explanation_names_everybody_in_order() {
    let mut facts = facts(&ALL, &[SEATTLE], &THREE);
    let mut campaign = Campaign::new(DETROIT, facts.clone(), ms(0));
    campaign.handle(
        Event::Heard {
            leader: BOSTON,
            at: ms(3_000),
        },
        ms(3_000),
    );
    let mut told = campaign.explain(ms(3_400), AT).to_string();
    facts.failover = false;
    campaign.handle(Event::Facts(Box::new(facts.clone())), ms(3_400));
    told.push('\n');
    told.push_str(&campaign.explain(ms(9_000), AT).to_string());
    facts.failover = true;
    facts.paused = Some(paused("ann", secs(3_600)));
    campaign.handle(Event::Facts(Box::new(facts)), ms(9_000));
    told.push('\n');
    told.push_str(&campaign.explain(ms(9_000), AT).to_string());
    insta::assert_snapshot!(told);
}

/// The obvious implementation: remembers everything that happened and thinks anew each millisecond.
struct Twin {
    me: ServerId,
    facts: Facts,
    heard: Vec<(Duration, ServerId)>,
    attempts: Vec<Duration>,
    leading: bool,
    /// When others than the recorded primary were let step forward for the last time.
    released: Duration,
}

impl Twin {
    fn campaigns(&self, now: Duration) -> bool {
        let facts = &self.facts;
        if self.leading || !facts.voters.contains_key(&self.me) {
            return false;
        }
        let last = self.heard.last().copied();
        let mut quiet = facts.timing.grace + ms(2);
        if let Some((at, _)) = last {
            quiet += at;
        }
        let only = !facts.failover || facts.paused.is_some() || facts.backups.is_empty();
        if only && facts.primary != Some(self.me) {
            return false;
        }
        let rank = if only {
            0
        } else {
            self.rank(last.map(|(_, leader)| leader))
        };
        let first = quiet.max(self.released) + facts.timing.rank_delay * rank;
        let since_heard = |at: &&Duration| last.is_none_or(|(heard, _)| **at >= heard);
        let place = facts.voters.keys().position(|id| *id == self.me).unwrap();
        let again = facts.timing.retry + ms(u64::try_from(place).unwrap());
        match self.attempts.iter().rfind(since_heard) {
            Some(attempt) => now >= first && now >= *attempt + again,
            None => now >= first,
        }
    }

    fn rank(&self, lost: Option<ServerId>) -> u32 {
        let facts = &self.facts;
        let key = |id: &ServerId| {
            let listed = facts.backups.iter().position(|backup| backup == id);
            let listed = listed.filter(|_| facts.voters[id].may_lead);
            let first = lost.is_none() && facts.primary == Some(*id) && facts.voters[id].may_lead;
            match (first, listed) {
                (true, _) => (0, false, 0, *id),
                (false, Some(place)) => (1, lost == Some(*id), place, *id),
                (false, None) => (2, lost == Some(*id), 0, *id),
            }
        };
        let mine = key(&self.me);
        u32::try_from(facts.voters.keys().filter(|id| key(id) < mine).count()).unwrap()
    }
}

#[derive(Debug, Clone)]
enum Happens {
    Heard(usize),
    Failover(bool),
    Paused(bool),
    Backups(Vec<ServerId>),
    Leading,
    Following,
    Wait(u16),
}

fn happens() -> impl Strategy<Value = Happens> {
    let backups = Just(ALL.to_vec())
        .prop_shuffle()
        .prop_flat_map(|all| (0..=4usize).prop_map(move |n| all[..n].to_vec()));
    prop_oneof![
        4 => (0..4usize).prop_map(Happens::Heard),
        1 => any::<bool>().prop_map(Happens::Failover),
        1 => any::<bool>().prop_map(Happens::Paused),
        1 => backups.prop_map(Happens::Backups),
        1 => Just(Happens::Leading),
        1 => Just(Happens::Following),
        8 => (1..900u16).prop_map(Happens::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn campaigns_when_the_twin_does(me in 0..4usize, witness in 0..5usize, events in prop::collection::vec(happens(), 1..40)) {
        let witnesses: Vec<_> = ALL.get(witness).copied().into_iter().collect();
        let mut facts = facts(&ALL, &witnesses, &THREE);
        let me = ALL[me];
        let mut campaign = Campaign::new(me, facts.clone(), ms(0));
        let mut twin = Twin { me, facts: facts.clone(), heard: Vec::new(), attempts: Vec::new(), leading: false, released: ms(0) };
        let mut now = ms(0);
        for event in events {
            let action = match event {
                Happens::Heard(from) => {
                    if ALL[from] != me {
                        twin.heard.push((now, ALL[from]));
                    }
                    campaign.handle(Event::Heard { leader: ALL[from], at: now }, now)
                }
                Happens::Failover(_) | Happens::Paused(_) | Happens::Backups(_) => {
                    match event {
                        Happens::Failover(on) => facts.failover = on,
                        Happens::Paused(on) => facts.paused = on.then(|| paused("ann", secs(60))),
                        Happens::Backups(backups) => facts.backups = backups,
                        _ => unreachable!(),
                    }
                    let held = !twin.facts.failover || twin.facts.paused.is_some();
                    if held && facts.failover && facts.paused.is_none() {
                        twin.released = now;
                    }
                    twin.facts = facts.clone();
                    campaign.handle(Event::Facts(Box::new(facts.clone())), now)
                }
                Happens::Leading => {
                    twin.leading = true;
                    campaign.handle(Event::Leading, now)
                }
                Happens::Following => {
                    if twin.leading {
                        twin.leading = false;
                        twin.heard.push((now, me));
                    }
                    campaign.handle(Event::Following, now)
                }
                Happens::Wait(span) => {
                    for _ in 0..span {
                        now += ms(1);
                        let due = campaign.poll_timeout().is_some_and(|due| due <= now);
                        let action = campaign.handle_timeout(now);
                        prop_assert_eq!(action.is_some(), due);
                        prop_assert_eq!(action.is_some(), twin.campaigns(now), "at {:?}: {:?}", now, action);
                        if action.is_some() {
                            twin.attempts.push(now);
                        }
                    }
                    None
                }
            };
            prop_assert_eq!(&action, &None);
            let action = campaign.handle_timeout(now);
            prop_assert_eq!(action.is_some(), twin.campaigns(now), "at {:?}: {:?}", now, action);
            if action.is_some() {
                twin.attempts.push(now);
            }
        }
    }

    /// Servers stop, start and lose sight of each other at random; afterwards, with everybody back, there is one primary,
    /// it may be one, and at no moment did two lead with a lease (which the world asserts itself).
    #[test]
    fn a_group_that_heals_has_a_primary(
        witness in 0..5usize,
        cold in any::<bool>(),
        steps in prop::collection::vec((0..4u8, 0..4usize, 0..4usize, 1..1200u64), 1..25),
    ) {
        let witnesses: Vec<_> = ALL.get(witness).copied().into_iter().collect();
        let backups: Vec<_> = ALL.into_iter().filter(|id| !witnesses.contains(id)).take(2).collect();
        let facts = facts(&ALL, &witnesses, &backups);
        let mut world = if cold { World::of(&facts) } else { running(&facts) };
        for (what, one, other, span) in steps {
            match what {
                0 => world.stop(ALL[one]),
                1 => world.start(ALL[one]),
                2 if one != other => world.cut(ALL[one], ALL[other]),
                _ => world.mend(),
            }
            world.run(ms(span));
        }
        world.mend();
        for id in ALL {
            world.start(id);
        }
        world.run_until("there is a primary", |world| world.primary().is_some());
        let primary = world.primary();
        prop_assert!(primary.is_some_and(|id| backups.contains(&id)), "{}", world.told());
        world.run(ms(3_000));
        prop_assert_eq!(world.primary(), primary, "it stays: {}", world.told());
        prop_assert!(!world.campaign(primary.unwrap()).explain(world.now, AT).candidates.is_empty());
    }
}

#[test]
fn the_role_follows_the_only_vote_that_was_passed_on() {
    let facts = facts(&[NEWYORK], &[], &THREE);
    let mut boston = Campaign::new(BOSTON, facts, ms(0));
    let there = Peer {
        reachable: true,
        lag: Some(0),
        ..Peer::default()
    };
    boston.handle(Event::Leading, ms(1));
    let peers = BTreeMap::from([(NEWYORK, there)]);
    let action = boston.handle(Event::Peers(peers), ms(2));
    let to_newyork =
        |action: &Action| matches!(action, Action::TransferTo { server, .. } if *server == NEWYORK);
    assert!(action.as_ref().is_some_and(to_newyork), "{action:?}");
}

#[test]
fn whoever_has_the_only_vote_stays_although_it_is_not_on_the_list() {
    let facts = facts(&[DETROIT], &[], &[]);
    assert!(facts.may_stay(DETROIT));
}
