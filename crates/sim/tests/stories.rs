//! What people know of groups of servers, told one by one: splits, deaths, emptied disks, and how all come together again.
//!
//! Every rule of the simulation holds in them all the time; what is looked at here is how the story goes and ends.

use model::ResilienceMode;
use sim::{Failed, Group, Tale};

type Told<T = ()> = Result<T, Box<Failed>>;

/// The transcript has these lines, in this order; each is a part of a line.
fn goes(tale: &Tale, parts: &[&str]) {
    let transcript = tale.transcript();
    let mut lines = transcript.lines();
    for part in parts {
        assert!(
            lines.any(|line| line.contains(part)),
            "no {part:?} in its place:\n{transcript}"
        );
    }
}

/// The primary of four dies, the first backup takes its place, and gives it back.
#[test]
fn a_primary_of_four_is_down_and_back() -> Told {
    let mut tale = Tale::of(Group::quorum(4))?;
    let before = tale.changes_at(1)?;
    tale.loses_power(1);
    tale.until_primaries(&[2])?;
    let meanwhile = tale.changes_at(2)?;
    tale.starts(1)?;
    tale.until_primaries(&[1])?;
    goes(
        &tale,
        &[
            "server 1 loses its power",
            "server 2 acts in term",
            "server 1 starts",
            "server 1 acts in term",
        ],
    );
    let after = tale.changes_at(1)?;
    assert!([before, meanwhile, after].iter().all(|it| tale.has(*it)));
    assert_eq!((tale.formation(), tale.diverged()), (1, 0));
    tale.ends().map(|_| ())
}

/// An island that works on alone wins nothing over a primary that changed something, and nothing of it is lost.
#[test]
fn a_split_into_three_comes_together() -> Told {
    let mut tale = Tale::of(Group::availability(5))?;
    tale.split(&[&[1, 2], &[3, 4], &[5]]);
    tale.until_primaries(&[1, 3, 5])?;
    let (first, second, third) = (
        tale.changes_at(1)?,
        tale.changes_at(3)?,
        tale.changes_at(5)?,
    );
    tale.heals();
    tale.until_together()?;
    tale.until_primaries(&[1])?;
    goes(&tale, &["everything is connected again", "gives way"]);
    assert!(tale.has(first) && !tale.has(second) && !tale.has(third));
    assert_eq!((tale.formation(), tale.diverged()), (1, 2));
    tale.ends().map(|_| ())
}

/// With `accept` the original primary stays, and what the new one changed is kept.
#[test]
fn a_split_into_two_is_won_by_the_original_primary() -> Told {
    let mut tale = Tale::of(Group::availability(4))?;
    tale.split(&[&[1, 2], &[3, 4]]);
    tale.until_primaries(&[1, 3])?;
    let (old, new) = (tale.changes_at(1)?, tale.changes_at(3)?);
    tale.heals();
    tale.until_together()?;
    tale.until_primaries(&[1])?;
    goes(
        &tale,
        &[
            "server 3 goes on without 1",
            "server 3 gives way",
            "server 3 brings 1 records",
        ],
    );
    assert!(tale.has(old) && !tale.has(new));
    assert_eq!((tale.formation(), tale.diverged()), (1, 1));
    tale.ends().map(|_| ())
}

/// With `accept-secondary` the new primary stays, and what the old one changed is kept.
#[test]
fn a_split_into_two_is_won_by_the_new_primary() -> Told {
    let group = Group::availability(4).with("resilience.primary-return", "accept-secondary");
    let mut tale = Tale::of(group)?;
    tale.split(&[&[1, 2], &[3, 4]]);
    tale.until_primaries(&[1, 3])?;
    let (old, new) = (tale.changes_at(1)?, tale.changes_at(3)?);
    tale.heals();
    tale.until_together()?;
    tale.until_primaries(&[3])?;
    goes(
        &tale,
        &[
            "server 3 goes on without 1",
            "server 1 gives way",
            "server 1 brings 1 records",
        ],
    );
    assert!(tale.has(new) && !tale.has(old));
    assert_eq!((tale.formation(), tale.diverged()), (2, 1));
    tale.ends().map(|_| ())
}

/// Of more than two nobody knows which new primary is meant: an administrator says so.
#[test]
fn a_split_into_three_waits_for_an_administrator() -> Told {
    let group = Group::availability(5).with("resilience.primary-return", "accept-secondary");
    let mut tale = Tale::of(group)?;
    tale.split(&[&[1, 2], &[3, 4], &[5]]);
    tale.until_primaries(&[1, 3, 5])?;
    let all = [
        tale.changes_at(1)?,
        tale.changes_at(3)?,
        tale.changes_at(5)?,
    ];
    tale.heals();
    tale.passes(10_000)?;
    assert_eq!(tale.primaries(), [1, 3, 5]);
    goes(
        &tale,
        &["there are more than two formations: an administrator decides"],
    );
    // Each primary says it of each other one, once.
    let transcript = tale.transcript();
    assert_eq!(
        transcript.matches(" and waits: ").count(),
        6,
        "{transcript}"
    );
    tale.recover();
    tale.until_together()?;
    goes(&tale, &["gives way by hand", "gives way by hand"]);
    assert_eq!(all.iter().filter(|it| tale.has(**it)).count(), 1);
    assert_eq!(tale.diverged(), 2);
    tale.ends().map(|_| ())
}

/// With `ignore` both sides stay until an administrator says which one stands.
#[test]
fn a_split_waits_for_an_administrator() -> Told {
    let group = Group::availability(4).with("resilience.primary-return", "ignore");
    let mut tale = Tale::of(group)?;
    tale.split(&[&[1, 2], &[3, 4]]);
    tale.until_primaries(&[1, 3])?;
    tale.changes_at(1)?;
    tale.changes_at(3)?;
    tale.heals();
    tale.passes(8_000)?;
    assert_eq!(tale.primaries(), [1, 3]);
    goes(&tale, &["stay apart until an administrator decides"]);
    tale.recover();
    tale.until_together()?;
    goes(&tale, &["gives way by hand", "brings 1 records"]);
    assert_eq!(tale.diverged(), 1);
    tale.ends().map(|_| ())
}

/// A formation that kept what another had changed gives way itself: that goes along.
#[test]
fn what_was_kept_goes_along() -> Told {
    let mut tale = Tale::of(Group::availability(3))?;
    tale.split(&[&[1], &[2], &[3]]);
    tale.until_primaries(&[1, 2, 3])?;
    let (first, second, third) = (
        tale.changes_at(1)?,
        tale.changes_at(2)?,
        tale.changes_at(3)?,
    );
    tale.heals();
    tale.split(&[&[1], &[2, 3]]);
    tale.until_primaries(&[1, 2])?;
    tale.passes(2_000)?;
    tale.heals();
    tale.until_together()?;
    goes(
        &tale,
        &[
            "server 3 gives way: from formation 2 to that of 2",
            "server 3 brings 1 records",
            "server 2 gives way",
            "server 2 takes the divergence of formation 2 along",
        ],
    );
    assert!(tale.has(first) && !tale.has(second) && !tale.has(third));
    assert_eq!(tale.diverged(), 2);
    tale.ends().map(|_| ())
}

#[test]
fn of_two_servers_one_dies_and_comes_back() -> Told {
    let mut tale = Tale::of(Group::availability(2))?;
    let before = tale.changes_at(1)?;
    tale.loses_power(1);
    tale.until_primaries(&[2])?;
    let after = tale.changes_at(2)?;
    tale.starts(1)?;
    tale.until_together()?;
    tale.until_primaries(&[1])?;
    // It had changed nothing: it catches up, and takes its place again.
    goes(
        &tale,
        &[
            "server 2 goes on without 1 in formation 2",
            "server 1 gives way: from formation 1",
        ],
    );
    assert!(tale.has(before) && tale.has(after));
    assert_eq!((tale.formation(), tale.diverged()), (2, 0));
    tale.ends().map(|_| ())
}

/// The one that starts first lacks what the other alone acknowledged.
#[test]
fn of_two_servers_both_die_and_the_one_with_less_starts_first() -> Told {
    let mut tale = Tale::of(Group::availability(2))?;
    let both = tale.changes_at(1)?;
    tale.killed(2);
    let alone = tale.changes_at(1)?;
    tale.loses_power(1);
    tale.starts(2)?;
    tale.until_primaries(&[2])?;
    let later = tale.changes_at(2)?;
    tale.starts(1)?;
    tale.until_together()?;
    tale.until_primaries(&[1])?;
    // Both changed something: the original formation stands.
    goes(
        &tale,
        &[
            "server 2 goes on without 1",
            "server 2 gives way",
            "server 2 brings 1 records",
        ],
    );
    assert!(tale.has(both) && tale.has(alone) && !tale.has(later));
    assert_eq!((tale.formation(), tale.diverged()), (1, 1));
    tale.ends().map(|_| ())
}

#[test]
fn two_and_a_witness_lose_a_primary() -> Told {
    let mut tale = Tale::of(Group::quorum(2).and_a_witness())?;
    let before = tale.changes_at(1)?;
    tale.loses_power(1);
    tale.until_primaries(&[2])?;
    let after = tale.changes_at(2)?;
    tale.starts(1)?;
    tale.until_primaries(&[1])?;
    assert!(tale.has(before) && tale.has(after));
    assert_eq!((tale.formation(), tale.diverged()), (1, 0));
    tale.ends().map(|_| ())
}

/// The witness alone has what the lost primary acknowledged: it leads as long as it takes to pass that on.
#[test]
fn the_only_complete_log_is_on_a_witness() -> Told {
    let mut tale = Tale::of(Group::quorum(2).and_a_witness())?;
    tale.split(&[&[1, 3], &[2]]);
    tale.passes(1_000)?;
    let there = tale.changes_at(1)?;
    tale.loses_power(1);
    tale.heals();
    tale.until_primaries(&[2])?;
    goes(
        &tale,
        &[
            "server 1 loses its power",
            "server 3 acts in term",
            "server 2 acts in term",
        ],
    );
    assert!(tale.has(there));
    tale.ends().map(|_| ())
}

/// Two slept while the others went on in another formation: they do not revive the past.
#[test]
fn members_that_were_down_while_the_others_recovered() -> Told {
    let mut tale = Tale::of(Group::availability(4))?;
    tale.killed(1);
    tale.killed(2);
    tale.until_primaries(&[3])?;
    let new = tale.changes_at(3)?;
    tale.starts(2)?;
    tale.passes(4_000)?;
    assert_eq!(tale.primaries(), [3]);
    tale.starts(1)?;
    tale.until_together()?;
    goes(
        &tale,
        &[
            "server 3 goes on without 1",
            "server 2 goes along",
            "server 1 gives way",
        ],
    );
    assert!(tale.has(new));
    assert_eq!((tale.formation(), tale.diverged()), (2, 0));
    tale.ends().map(|_| ())
}

#[test]
fn an_emptied_primary_comes_back_with_nothing() -> Told {
    let mut tale = Tale::of(Group::availability(3))?;
    let before = tale.changes_at(1)?;
    tale.passes(500)?;
    tale.emptied(1);
    tale.until_primaries(&[2])?;
    let after = tale.changes_at(2)?;
    tale.starts(1)?;
    tale.until_together()?;
    tale.until_arranged()?;
    tale.until_primaries(&[1])?;
    goes(
        &tale,
        &["server 2 goes on without 1", "this server has lost its log"],
    );
    assert!(tale.has(before) && tale.has(after));
    tale.ends().map(|_| ())
}

/// Server 2 gives way to server 1, which loses its disk before it has sent anything.
fn gives_way_to_one_that_is_emptied(tale: &mut Tale) -> Told<u64> {
    let before = tale.changes_at(1)?;
    tale.passes(500)?;
    tale.split(&[&[1], &[2]]);
    tale.until_primaries(&[1, 2])?;
    tale.heals();
    for _ in 0..2_000 {
        if tale.transcript().contains("server 2 gives way") {
            break;
        }
        tale.passes(2)?;
    }
    tale.emptied(1);
    Ok(before)
}

#[test]
fn a_formation_that_was_left_for_one_that_is_lost_goes_on() -> Told {
    let mut tale = Tale::of(Group::availability(2))?;
    let before = gives_way_to_one_that_is_emptied(&mut tale)?;
    tale.until_primaries(&[2])?;
    let after = tale.changes_at(2)?;
    tale.starts(1)?;
    tale.until_together()?;
    tale.until_arranged()?;
    goes(
        &tale,
        &[
            "server 2 gives way",
            "the disk of server 1 is emptied",
            "server 2 goes back to formation 2",
            "server 2 acts in term",
            "this server has lost its log",
        ],
    );
    assert!(tale.has(before) && tale.has(after));
    tale.ends().map(|_| ())
}

/// Two formations went on from one another, and the last one gave way while the primaries of those before were away.
#[test]
fn what_an_administrator_decided_holds_for_those_who_were_away() -> Told {
    let group = Group::availability(4).with("resilience.primary-return", "ignore");
    let mut tale = Tale::of(group)?;
    tale.split(&[&[1], &[2, 3, 4]]);
    tale.until_primaries(&[1, 2])?;
    tale.passes(3_000)?;
    let first = tale.changes_at(1)?;
    let second = tale.changes_at(2)?;
    tale.killed(2);
    tale.until_primaries(&[1, 3])?;
    tale.passes(3_000)?;
    let third = tale.changes_at(3)?;
    tale.killed(3);
    tale.until_primaries(&[1, 4])?;
    tale.heals();
    tale.passes(3_000)?;
    tale.recover_to_the_first();
    tale.until_primaries(&[1])?;
    tale.until_together()?;
    tale.starts(3)?;
    tale.until_together()?;
    tale.starts(2)?;
    tale.until_together()?;
    tale.until_arranged()?;
    goes(
        &tale,
        &["an administrator recovers", "server 4 gives way by hand"],
    );
    assert_eq!((tale.primaries(), tale.formation()), (vec![1], 1));
    assert!(tale.has(first) && !tale.has(second) && !tale.has(third));
    tale.ends().map(|_| ())
}

/// It was started anew meanwhile.
#[test]
fn an_administrator_need_not_wait_to_go_on_from_what_was_left() -> Told {
    let mut tale = Tale::of(Group::availability(2))?;
    let before = gives_way_to_one_that_is_emptied(&mut tale)?;
    tale.killed(2);
    tale.starts(2)?;
    tale.starts(1)?;
    tale.passes(2_000)?;
    tale.recover();
    tale.until_primaries(&[2])?;
    tale.until_together()?;
    goes(
        &tale,
        &[
            "an administrator recovers",
            "server 2 makes formation 3 by hand",
        ],
    );
    assert!(tale.has(before));
    tale.ends().map(|_| ())
}

#[test]
fn an_emptied_voter_promises_nothing_before_it_has_caught_up() -> Told {
    let mut tale = Tale::of(Group::quorum(3))?;
    let before = tale.changes_at(1)?;
    tale.emptied(2);
    tale.starts(2)?;
    tale.passes(2_000)?;
    goes(&tale, &["server 2 goes along: from formation 0"]);
    let after = tale.changes_at(1)?;
    tale.until_arranged()?;
    tale.loses_power(1);
    tale.until_primaries(&[2])?;
    assert!(tale.has(before) && tale.has(after));
    tale.ends().map(|_| ())
}

/// The group began with one server, and what it is sent first says so. A restart in between changes nothing.
#[test]
fn an_emptied_founder_does_not_take_the_beginning_for_the_present() -> Told {
    for restarts in [false, true] {
        let mut tale = Tale::of(Group::quorum(3))?;
        let before = tale.changes_at(1)?;
        tale.emptied(1);
        tale.until_primaries(&[2])?;
        tale.messages_take_up_to(60);
        tale.starts(1)?;
        tale.until_something_came(1)?;
        tale.split(&[&[1], &[2, 3]]);
        if restarts {
            tale.killed(1);
            tale.starts(1)?;
        }
        tale.passes(5_000)?;
        assert_eq!(tale.primaries(), [2]);
        let after = tale.changes_at(2)?;
        tale.heals();
        tale.until_together()?;
        tale.until_arranged()?;
        assert!(tale.has(before) && tale.has(after));
        tale.ends().map(|_| ())?;
    }
    Ok(())
}

/// Where a majority must agree, promoting nobody is what an empty list says.
#[test]
fn with_an_empty_list_a_majority_waits_for_its_primary() -> Told {
    let mut tale = Tale::of(Group::quorum(3))?;
    tale.empties_the_list()?;
    tale.killed(1);
    tale.passes(5_000)?;
    assert_eq!(tale.primaries(), []);
    tale.starts(1)?;
    tale.until_primaries(&[1])?;
    tale.ends().map(|_| ())
}

/// Where only the recorded primary may lead and it has lost its log, another leads until it counts again, and accepts nothing.
fn an_emptied_primary_leads_again(mut tale: Tale) -> Told {
    let before = tale.changes_at(1)?;
    tale.passes(500)?;
    tale.emptied(1);
    tale.passes(5_000)?;
    assert_eq!(tale.primaries(), []);
    tale.starts(1)?;
    tale.passes(5_000)?;
    tale.refuses_at(2)?;
    tale.until_primaries(&[1])?;
    tale.until_arranged()?;
    goes(
        &tale,
        &["this server has lost its log", "server 1 acts in term"],
    );
    assert!(tale.has(before));
    tale.changes_at(1)?;
    tale.ends().map(|_| ())
}

#[test]
fn with_an_empty_list_an_emptied_primary_leads_again() -> Told {
    let mut tale = Tale::of(Group::quorum(3))?;
    tale.empties_the_list()?;
    an_emptied_primary_leads_again(tale)
}

#[test]
fn with_failover_disabled_an_emptied_primary_leads_again() -> Told {
    let mut tale = Tale::of(Group::quorum(3))?;
    tale.set("resilience.failover", "false")?;
    an_emptied_primary_leads_again(tale)
}

/// In availability mode every server goes on alone.
#[test]
fn with_an_empty_list_every_server_goes_on_alone() -> Told {
    let mut tale = Tale::of(Group::availability(3))?;
    tale.empties_the_list()?;
    tale.killed(1);
    tale.until_primaries(&[2, 3])?;
    let (second, third) = (tale.changes_at(2)?, tale.changes_at(3)?);
    tale.passes(5_000)?;
    assert_eq!(tale.primaries(), [2, 3]);
    tale.starts(1)?;
    tale.until_together()?;
    goes(
        &tale,
        &["server 2 goes on without 1", "server 1 starts", "gives way"],
    );
    let kept = usize::from(tale.has(second)) + usize::from(tale.has(third)) + tale.diverged();
    assert_eq!(kept, 2);
    tale.ends().map(|_| ())
}

/// A primary that comes and goes takes its place only once it has stayed a while, and only so often.
#[test]
fn a_flapping_primary_does_not_drag_the_group_along() -> Told {
    let group = Group::quorum(3)
        .with("resilience.return-delay", "4s")
        .with("resilience.max-moves", "1 in 10m");
    let mut tale = Tale::of(group)?;
    tale.killed(1);
    tale.until_primaries(&[2])?;
    let before = tale.changes_of_primary();
    for _ in 0..3 {
        tale.starts(1)?;
        tale.passes(2_500)?;
        tale.killed(1);
        tale.passes(500)?;
    }
    assert_eq!(
        (tale.changes_of_primary(), tale.primary()),
        (before, Some(2))
    );
    tale.starts(1)?;
    tale.until_primaries(&[1])?;
    tale.killed(1);
    tale.until_primaries(&[2])?;
    tale.starts(1)?;
    // That was the only move that it may make by itself.
    tale.passes(10_000)?;
    assert_eq!(tale.primary(), Some(2));
    tale.ends().map(|_| ())
}

#[test]
fn with_failover_disabled_nobody_goes_on() -> Told {
    let mut tale = Tale::of(Group::availability(3))?;
    tale.set("resilience.failover", "false")?;
    tale.killed(1);
    tale.passes(8_000)?;
    assert_eq!(tale.primaries(), []);
    tale.refuses_at(2)?;
    tale.starts(1)?;
    tale.until_primaries(&[1])?;
    assert_eq!(tale.formation(), 1);
    tale.ends().map(|_| ())
}

/// The old primary was away for long and had changed nothing: nothing diverges.
#[test]
fn an_island_works_on_and_the_primary_comes_back_unchanged() -> Told {
    let mut tale = Tale::of(Group::availability(3))?;
    tale.loses_power(1);
    tale.until_primaries(&[2])?;
    tale.clients_write();
    tale.passes(20_000)?;
    tale.clients_stop()?;
    tale.starts(1)?;
    tale.until_together()?;
    goes(
        &tale,
        &["server 1 starts", "nothing was changed in formation 1"],
    );
    assert_eq!((tale.formation(), tale.diverged()), (2, 0));
    tale.ends().map(|_| ())
}

/// A planned change of primary where one server alone counts, there and back.
#[test]
fn the_only_vote_is_handed_over_and_comes_back() -> Told {
    let mut tale = Tale::of(Group::availability(2))?;
    tale.clients_write();
    tale.promote(2, true);
    tale.until_primaries(&[2])?;
    tale.until_primaries(&[1])?;
    assert_eq!((tale.formation(), tale.diverged()), (1, 0));
    tale.ends().map(|_| ())
}

/// Whoever is cut off from the tie-breaker falls silent before the other side goes on.
#[test]
fn a_tie_breaker_lets_one_side_act() -> Told {
    let group = Group::availability(2).with("resilience.tie-breakers", "192.0.2.250");
    let mut tale = Tale::of(group)?;
    tale.split(&[&[1], &[2, 0]]);
    tale.until_primaries(&[2])?;
    tale.refuses_at(1)?;
    let made = tale.changes_at(2)?;
    tale.heals();
    tale.until_together()?;
    tale.until_primaries(&[1])?;
    assert!(tale.has(made));
    assert_eq!(tale.diverged(), 0);
    tale.ends().map(|_| ())
}

/// It leaves consensus first, and hears of its removal only from those who refuse it.
#[test]
fn a_server_that_was_removed_does_not_go_on_alone() -> Told {
    let mut tale = Tale::of(Group::availability(3))?;
    tale.removes(3, None)?;
    tale.passes(8_000)?;
    assert_eq!((tale.primaries(), tale.formation()), (vec![1], 1));
    // As long as nobody tells it, it cannot know.
    tale.split(&[&[1], &[2, 3]]);
    tale.until_primaries(&[1, 2])?;
    tale.heals();
    tale.until_together()?;
    tale.ends().map(|_| ())
}

/// It was removed while nobody reached it, and had gone on alone. Whoever followed it is a member, and does not stay with it.
#[test]
fn a_primary_that_was_removed_meanwhile_stands_down() -> Told {
    let mut tale = Tale::of(Group::availability(3))?;
    tale.split(&[&[1], &[2, 3]]);
    tale.until_primaries(&[1, 2])?;
    tale.passes(3_000)?;
    let there = tale.changes_at(2)?;
    tale.removes(2, None)?;
    let new = tale.changes_at(1)?;
    tale.heals();
    tale.until_primaries(&[1])?;
    tale.until_together()?;
    assert!(tale.has(new) && !tale.has(there));
    assert_eq!(tale.diverged(), 1);
    tale.ends().map(|_| ())
}

/// The only server that counts loses its disk; the one that may lead slept through the change of the mode, and still has it that
/// two of three elect a primary.
#[test]
fn who_slept_through_a_change_of_the_mode_is_recovered_by_hand() -> Told {
    let group = Group::quorum(2).and_a_witness();
    let mut tale = Tale::of(group.with("resilience.island-after", "2s"))?;
    tale.until_arranged()?;
    tale.loses_power(2);
    tale.set("resilience.mode", "availability")?;
    tale.until_mode(ResilienceMode::Availability)?;
    tale.passes(3_000)?;
    let newer = tale.changes_at(1)?;
    tale.emptied(1);
    tale.starts(1)?;
    tale.starts(2)?;
    tale.passes(5_000)?;
    assert_eq!(tale.primaries(), []);
    tale.recover();
    tale.until_primaries(&[2])?;
    tale.until_together()?;
    assert!(!tale.has(newer));
    assert!(tale.diverged() > 0, "the witness had it");
    tale.ends().map(|_| ())
}

/// It was removed by a formation that gave way afterwards to the one in which it is primary by now. A server that slept meanwhile
/// still has it so, and does not have it stand down.
#[test]
fn who_slept_with_a_formation_that_gave_way_has_nobody_stand_down() -> Told {
    let group = Group::availability(4).with("resilience.primary-return", "accept-secondary");
    let mut tale = Tale::of(group)?;
    tale.killed(2);
    tale.split(&[&[1, 4], &[3, 2]]);
    tale.until_primaries(&[1, 3])?;
    tale.starts(2)?;
    tale.passes(3_000)?;
    tale.removes(2, None)?;
    tale.passes(2_000)?;
    tale.changes_at(3)?;
    tale.killed(4);
    tale.heals();
    tale.until_together()?;
    tale.until_primaries(&[3])?;
    // It counts again after 10 s.
    tale.passes(12_000)?;
    tale.promote(2, false);
    tale.until_primaries(&[2])?;
    let before = tale.changes_of_primary();
    tale.starts(4)?;
    tale.passes(12_000)?;
    assert_eq!(tale.primaries(), [2]);
    assert_eq!(tale.changes_of_primary(), before);
    let meanwhile = tale.changes_at(2)?;
    // It cannot go to a server that it has removed; to another it can.
    tale.promote(3, false);
    tale.until_primaries(&[3])?;
    tale.until_together()?;
    assert!(tale.has(meanwhile));
    tale.ends().map(|_| ())
}

#[test]
fn the_third_voter_makes_a_majority_necessary() -> Told {
    let mut tale = Tale::of(Group::availability(2).unchosen())?;
    let before = tale.changes_at(1)?;
    tale.admits(3);
    tale.until_mode(ResilienceMode::Quorum)?;
    tale.until_arranged()?;
    tale.split(&[&[1], &[2, 3]]);
    tale.until_primaries(&[2])?;
    tale.refuses_at(1)?;
    tale.heals();
    assert!(tale.has(before));
    tale.ends().map(|_| ())
}

#[test]
fn of_three_one_is_removed_and_each_side_may_go_on() -> Told {
    let group = Group::quorum(3).with("resilience.island-after", "2s");
    let mut tale = Tale::of(group.unchosen())?;
    tale.until_arranged()?;
    tale.removes(3, Some(ResilienceMode::Availability))?;
    tale.until_mode(ResilienceMode::Availability)?;
    tale.until_arranged()?;
    tale.split(&[&[1], &[2]]);
    tale.until_primaries(&[1, 2])?;
    let (stays, goes) = (tale.changes_at(1)?, tale.changes_at(2)?);
    tale.heals();
    tale.until_together()?;
    assert!(tale.has(stays) && !tale.has(goes));
    assert_eq!(tale.diverged(), 1);
    tale.ends().map(|_| ())
}

/// With an empty list nobody takes over; an administrator may, and those who come back follow.
#[test]
fn with_an_empty_list_those_who_were_away_follow_what_was_made_by_hand() -> Told {
    let mut tale = Tale::of(Group::quorum(3))?;
    let before = tale.changes_at(1)?;
    tale.empties_the_list()?;
    tale.killed(1);
    tale.killed(2);
    tale.passes(2_000)?;
    tale.recover();
    tale.until_primaries(&[3])?;
    let after = tale.changes_at(3)?;
    tale.starts(2)?;
    tale.starts(1)?;
    tale.until_together()?;
    assert!(tale.has(before) && tale.has(after));
    tale.ends().map(|_| ())
}

/// Whatever several servers are asked at the same moment, one session comes of it.
#[test]
fn a_crowd_with_one_token_gets_one_session() -> Told {
    let mut tale = Tale::of(Group::quorum(3).and_hosts())?;
    tale.crowd_at(&[1, 2, 3, 1, 2, 3]);
    tale.passes(2_000)?;
    tale.until_hosts_agree()?;
    assert_eq!(tale.sessions_on(&[1, 2, 3]).iter().sum::<usize>(), 1);
    tale.ends().map(|_| ())
}

/// The host of the only session is drained; its client does not go by itself, and the primary changes meanwhile.
#[test]
fn a_drain_ends_at_its_deadline_whoever_is_primary_then() -> Told {
    let mut tale = Tale::of(Group::quorum(3).and_hosts())?;
    tale.crowd_at(&[1]);
    tale.passes(1_000)?;
    tale.until_hosts_agree()?;
    let hosts = tale.sessions_on(&[1, 2, 3]);
    let host = hosts.iter().zip(1..).find(|(count, _)| **count == 1);
    let host = host.map_or(1, |(_, number)| number);
    tale.clients_attach_at(host);
    tale.passes(500)?;
    tale.drains(host, 5_000);
    tale.passes(1_000)?;
    assert_eq!(tale.sessions_on(&[host]), [1], "a client is attached");
    tale.killed(1);
    tale.until_primaries(&[2])?;
    tale.starts(1)?;
    tale.passes(5_000)?;
    tale.until_drained()?;
    tale.until_hosts_agree()?;
    let after = tale.sessions_on(&[1, 2, 3]);
    assert_eq!(after.iter().sum::<usize>(), 1);
    assert_eq!(tale.sessions_on(&[host]), [0]);
    tale.ends().map(|_| ())
}

/// Its server dies before the deadline: what ran there is over, and nothing is left to be moved.
#[test]
fn a_drain_ends_when_its_server_dies() -> Told {
    let mut tale = Tale::of(Group::availability(2).and_hosts())?;
    tale.crowd_at(&[1, 2]);
    tale.passes(1_000)?;
    for number in [1, 2] {
        tale.clients_attach_at(number);
    }
    tale.passes(500)?;
    tale.drains(2, 30_000);
    tale.loses_power(2);
    tale.passes(5_000)?;
    tale.starts(2)?;
    tale.until_drained()?;
    tale.until_hosts_agree()?;
    tale.ends().map(|_| ())
}
