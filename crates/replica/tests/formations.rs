//! One server that counts, others that follow closely, and formations that are made, left and entered while servers run.

#[expect(dead_code, reason = "the other suite uses what this one does not")]
mod common;

use common::{Group, PATIENCE, add_user, server_id, users, wait_until};
use model::{Author, Cause, Change, Command, FormationId, IncarnationId, ServerId, UnixMillis};
use replica::disk::{MemoryDisk, RealDisk, SharedDisk, Weather};
use replica::{
    Acting, CampaignRefused, Founding, LogOwner, Moment, NotActing, Replica, SwitchError,
    Threshold, Timing, formation,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn founding(number: u8) -> Founding {
    Founding {
        id: FormationId::from_bytes([number; 16]),
        cause: Cause::Island,
        made: UnixMillis(5),
    }
}

/// Further than any log here goes.
const FAR: Threshold = Threshold {
    term: 1_000,
    primary: ServerId::from_bytes([2; 16]),
    number: 1_000,
};

/// Adds servers that follow, without which no change is acknowledged.
async fn grow_followers(group: &mut Group, numbers: &[u8]) {
    for number in numbers {
        group.prepare(*number, Arc::new(RealDisk), *number);
        group.start(*number).await;
        let primary = group.primary().await;
        let adding = primary.add_learner(server_id(*number), PATIENCE);
        adding.await.expect("a learner");
    }
    let primary = group.primary().await;
    primary.set_followers(numbers.iter().copied().map(server_id).collect());
}

async fn propose(primary: &Replica, number: u64) {
    let applied = primary.propose(&add_user(number), PATIENCE).await;
    applied.expect("acknowledged").outcome.expect("not refused");
}

/// As people do, whose changes count where two formations meet.
async fn propose_by_hand(primary: &Replica, number: u64) {
    let change = Change {
        author: Author::Local {
            server: server_id(1),
            uid: 0,
        },
        ..add_user(number)
    };
    let applied = primary.propose(&change, PATIENCE).await;
    applied.expect("acknowledged").outcome.expect("not refused");
}

/// The first change that the island of a server makes shows that it leads.
async fn lead(island: &Replica) {
    island.campaign().await.expect("the only vote");
    let acts = || island.acting().is_yes().then_some(());
    wait_until(acts, || format!("{:?}", island.status())).await;
}

/// The primary may have said that a majority must agree, and lead on, without this server's having heard that it was made so.
#[tokio::test(flavor = "multi_thread")]
async fn no_side_goes_on_by_itself_where_its_log_ends_with_another_mode() {
    let mut group = Group::found().await;
    grow_followers(&mut group, &[2]).await;
    let primary = group.primary().await;
    propose(&primary, 1000).await;
    let change = Change {
        command: Command::SetSetting {
            key: "resilience.mode".to_owned(),
            value: "quorum".to_owned(),
            on: None,
        },
        ..add_user(1001)
    };
    let applied = primary.propose(&change, PATIENCE).await;
    applied.expect("acknowledged").outcome.expect("not refused");
    group.stop(1).await;
    let heir = group.replica(2);
    let refused = heir.fork(founding(8)).await;
    assert!(matches!(refused, Err(SwitchError::Majority)), "{refused:?}");
    // An administrator may.
    let by_hand = Founding {
        cause: Cause::ByHand,
        ..founding(8)
    };
    assert_eq!(heir.fork(by_hand).await.expect("made").number, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_with_a_primary_that_counts_alone() {
    let mut group = Group::found().await;
    grow_followers(&mut group, &[2, 3]).await;
    let primary = group.primary().await;
    for number in 1000..1200 {
        propose(&primary, number).await;
    }
    group.stop(1).await;
    let heir = group.replica(2);
    let made = heir.fork(founding(8)).await.expect("an island");
    assert_eq!(made.number, 2);
    lead(&heir).await;
    let expected: BTreeSet<u64> = (1000..1200).collect();
    assert_eq!(users(&heir), expected);
    propose(&heir, 2000).await;
    // The others leave what is over, and readers never see nothing.
    let other = group.replica(3);
    heir.add_learner(server_id(3), PATIENCE)
        .await
        .expect("it is told of the new formation, which it refuses");
    let room = heir.make_room(server_id(3), PATIENCE).await;
    let threshold = room.expect("it is out again");
    let members = heir.status();
    assert!(!members.learners.contains(&server_id(3)), "{members:?}");
    heir.add_learner(server_id(3), PATIENCE)
        .await
        .expect("added");
    other
        .enter(made.id, IncarnationId::from_bytes([33; 16]), threshold)
        .await
        .expect("entered");
    assert!(other.state().directory.is_some());
    let with_new: BTreeSet<u64> = expected.iter().copied().chain([2000]).collect();
    group.wait_for_users(&other, &with_new).await;
    // The old primary wakes up in the past, and is no danger to the present.
    let old = group.start(1).await;
    lead(&old).await;
    propose(&old, 3000).await;
    assert_eq!(users(&other), with_new);
    let base = heir.base().await.expect("read").expect("kept");
    assert_eq!(base.users().count(), expected.len() + 1);
    let room = heir.make_room(server_id(1), PATIENCE).await;
    let threshold = room.expect("it was never there");
    old.enter(made.id, IncarnationId::from_bytes([11; 16]), threshold)
        .await
        .expect("entered");
    heir.add_learner(server_id(1), PATIENCE)
        .await
        .expect("added");
    group.wait_for_users(&old, &with_new).await;
    let left = old.base().await.expect("read").expect("kept");
    assert_eq!(
        left.users().count(),
        expected.len() + 2,
        "what it left behind is kept"
    );
    let [before] = old.left_behind().expect("listed")[..] else {
        panic!("one formation is left behind");
    };
    let kept = old.read_left_behind(before).await.expect("read");
    let there = kept.directory.expect("all that was there");
    assert!(there.user(&common::user_name(3000)).is_some());
    old.forget_left_behind(before).await.expect("removed");
    assert_eq!(old.left_behind().expect("listed"), []);
    group.stop(1).await;
    let again = group.start(1).await;
    assert_eq!(again.formation(), made.id);
    group.wait_for_users(&again, &with_new).await;
}

/// The primary of the formation that it enters is lost before it has sent anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_formation_that_was_left_is_gone_back_to_while_nothing_has_come_of_the_next() {
    let group = Group::found().await;
    let primary = group.primary().await;
    for number in 1..20 {
        propose(&primary, number).await;
    }
    let (before, all) = (primary.formation(), (1..20).collect::<BTreeSet<u64>>());
    primary.go_back().await.expect_err("it has left none");
    lead(&primary).await;
    let elsewhere = FormationId::from_bytes([8; 16]);
    let incarnation = IncarnationId::from_bytes([33; 16]);
    primary
        .enter(elsewhere, incarnation, FAR)
        .await
        .expect("entered");
    let left = primary.left().expect("nothing has come");
    assert_eq!((left.formation.id, left.formation.number), (before, 1));
    drop(primary);
    // A restart forgets nothing of it, and readers have the directory still.
    group.stop(1).await;
    let again = group.start(1).await;
    assert_eq!(
        (again.formation(), again.left().is_some()),
        (elsewhere, true)
    );
    assert_eq!(users(&again), all);
    let back = again.go_back().await.expect("it is there");
    assert_eq!((back.id, again.left()), (before, None));
    assert_eq!(users(&again), all, "readers never have less");
    lead(&again).await;
    propose(&again, 50).await;
    let more: BTreeSet<u64> = all.into_iter().chain([50]).collect();
    assert_eq!(users(&again), more);
    again.go_back().await.expect_err("it is there already");
    lead(&again).await;
    // What was entered in vain goes, and the next life is in the formation that was gone back to.
    for left in again.left_behind().expect("listed") {
        let kept = again.read_left_behind(left).await.expect("read");
        assert!(kept.directory.is_none());
        again.forget_left_behind(left).await.expect("removed");
    }
    drop(again);
    group.stop(1).await;
    let third = group.start(1).await;
    lead(&third).await;
    assert_eq!((third.formation(), users(&third)), (before, more));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_lost_stalls_changes_once() {
    let mut group = Group::found().await;
    grow_followers(&mut group, &[2, 3]).await;
    let primary = group.primary().await;
    propose(&primary, 1).await;
    let both = BTreeSet::from([server_id(2), server_id(3)]);
    let in_sync = || (primary.status().in_sync == both).then_some(());
    wait_until(in_sync, || format!("{:?}", primary.status())).await;
    group.wiring.isolate(1, &[3]);
    let begin = Instant::now();
    propose(&primary, 2).await;
    let stalled = begin.elapsed();
    let grace = Timing::default().lease();
    assert!(stalled >= grace / 2 && stalled < grace * 4, "{stalled:?}");
    assert_eq!(primary.status().in_sync, BTreeSet::from([server_id(2)]));
    let begin = Instant::now();
    for number in 3..20 {
        propose(&primary, number).await;
    }
    assert!(begin.elapsed() < grace * 2, "{:?}", begin.elapsed());
    group.wiring.mend();
    wait_until(in_sync, || format!("{:?}", primary.status())).await;
    group
        .wait_for_users(&group.replica(3), &(1..20).collect())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_vote_is_handed_over() {
    let mut group = Group::found().await;
    grow_followers(&mut group, &[2]).await;
    let primary = group.primary().await;
    propose(&primary, 1).await;
    let begin = Instant::now();
    primary
        .transfer_to(server_id(2), PATIENCE)
        .await
        .expect("handed over");
    let took = begin.elapsed();
    assert!(took < Duration::from_millis(150), "{took:?}");
    let heir = group.replica(2);
    let acts = || heir.acting().is_yes().then_some(());
    wait_until(acts, || format!("{:?}", heir.status())).await;
    heir.set_followers(BTreeSet::from([server_id(1)]));
    propose(&heir, 2).await;
    let status = heir.status();
    assert_eq!(status.voters, BTreeSet::from([server_id(2)]));
    assert_eq!(status.learners, BTreeSet::from([server_id(1)]));
    group
        .wait_for_users(&primary, &BTreeSet::from([1, 2]))
        .await;
    heir.transfer_to(server_id(1), PATIENCE)
        .await
        .expect("and back");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_counts_alone_acts_only_while_it_may() {
    let group = Group::found().await;
    let primary = group.primary().await;
    primary.set_guard(Some(Moment::now()));
    assert_eq!(primary.acting(), Acting::No(NotActing::Alone));
    let until = Moment::now() + Duration::from_secs(60);
    primary.set_guard(Some(until));
    assert!(matches!(primary.acting(), Acting::Yes { until: Some(at), .. } if at == until));
    primary.set_guard(None);
    assert!(primary.acting().is_yes());
}

/// Others go on only without whom they do not hear.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_says_nothing_is_lost_to_those_that_follow_it() {
    let mut group = Group::found().await;
    grow_followers(&mut group, &[2]).await;
    let (primary, follower) = (group.primary().await, group.replica(2));
    let heard_after = |moment: Moment| {
        let follower = follower.clone();
        move || follower.last_heard().filter(|at| *at > moment).map(|_| ())
    };
    wait_until(heard_after(Moment::now()), || {
        format!("{:?}", follower.status())
    })
    .await;
    primary.hush(true);
    let grace = follower.timing().expect("consensus runs").lease();
    let silent = || {
        let heard = follower.last_heard()?;
        (heard.ago() > grace * 2).then_some(())
    };
    wait_until(silent, || format!("{:?}", follower.status())).await;
    primary.hush(false);
    wait_until(heard_after(Moment::now()), || {
        format!("{:?}", follower.status())
    })
    .await;
    propose(&primary, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_counts_alone_does_not_act_after_its_start_before_it_may() {
    let mut group = Group::found().await;
    group.primary().await;
    group.stop(1).await;
    group.options.silent = true;
    let again = group.start(1).await;
    again.speak();
    again.campaign().await.expect("the only vote");
    let leads = || (again.acting() == Acting::No(NotActing::Alone)).then_some(());
    wait_until(leads, || format!("{:?}", again.status())).await;
    again.set_guard(None);
    assert!(again.acting().is_yes());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_last_is_known_before_a_primary_is_heard() {
    let group = Group::found().await;
    let primary = group.primary().await;
    propose_by_hand(&primary, 1).await;
    let changed = primary.last_user_change();
    let directory = primary.state();
    let known = directory.directory.as_ref().expect("it has one");
    assert_eq!(changed, known.group().last_user_change);
    drop((primary, directory));
    group.stop(1).await;
    let again = group.start(1).await;
    let last_entry = again.status().last_entry;
    assert!(
        changed > 0 && changed <= last_entry,
        "{changed} of {last_entry}"
    );
    for _ in 0..2 {
        assert_eq!(again.last_user_change(), changed);
    }
    lead(&again).await;
    propose_by_hand(&again, 2).await;
    assert!(again.last_user_change() > changed);
}

/// Its disk was emptied, and of what it is sent only the beginning has come, in which it alone counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_begun_anew_does_not_count_on_what_was_true_before() {
    let group = Group::found().await;
    let primary = group.primary().await;
    for number in 1..20 {
        propose(&primary, number).await;
    }
    let (formation, term) = (primary.formation(), primary.status().term);
    let reached = primary.status().last_entry;
    drop(primary);
    group.stop(1).await;
    let file = group
        .data(1)
        .join(format!("formations/{formation}/threshold"));
    let threshold = |term: u64, number: u64| format!("{term} {} {number}\n", server_id(1));
    for beyond in [threshold(term, reached + 1), threshold(term + 1, 1)] {
        std::fs::write(&file, beyond).expect("written");
        let replica = group.start(1).await;
        let refused = replica.campaign().await;
        assert_eq!(refused, Err(CampaignRefused::NotAVoter));
        assert_eq!(replica.status().voters, BTreeSet::new());
        assert!(!replica.acting().is_yes());
        drop(replica);
        group.stop(1).await;
    }
    std::fs::write(&file, "nonsense").expect("written");
    let error = group.try_start(1).await.expect_err("it makes no sense");
    assert!(error.to_string().contains("threshold"), "{error}");
    std::fs::write(&file, threshold(term, reached)).expect("written");
    lead(&group.start(1).await).await;
}

#[test]
fn a_formation_that_never_came_into_force_is_not_left_behind() {
    let disk = MemoryDisk::new();
    let shared: SharedDisk = Arc::new(disk.clone());
    let data = Path::new("/data");
    let owner = |number: u8| LogOwner {
        formation: FormationId::from_bytes([number; 16]),
        incarnation: IncarnationId::from_bytes([number; 16]),
    };
    let join = |number| formation::join(&shared, data, owner(number), 64 << 10, None);
    join(1).expect("made");
    formation::select(&shared, data, owner(1).formation).expect("in force");
    let weather = |capacity| Weather {
        capacity,
        ..Weather::default()
    };
    let most = 1 << 30;
    disk.set_weather(weather(Some(most)));
    let used = most - shared.free(data).expect("known");
    disk.set_weather(weather(Some(used + 1_000)));
    join(2).expect_err("there is no room for its log");
    assert_eq!(formation::others(&shared, data).expect("listed"), []);
    disk.set_weather(weather(None));
    join(3).expect("made");
    formation::select(&shared, data, owner(3).formation).expect("in force");
    let left = formation::others(&shared, data).expect("listed");
    assert_eq!(left, [owner(1).formation]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_has_not_asked_yet_answers_nobody() {
    let mut group = Group::found().await;
    group.grow(&[2, 3]).await;
    group.stop(2).await;
    group.stop(3).await;
    group.options.silent = true;
    let (two, three) = (group.start(2).await, group.start(3).await);
    let primary = group.replica(1);
    let lost = || (!primary.acting().is_yes()).then_some(());
    wait_until(lost, || format!("{:?}", primary.status())).await;
    let later = Moment::now() + Timing::default().lease() * 2;
    let silent = || (Moment::now() > later).then_some(());
    wait_until(silent, String::new).await;
    assert!(!primary.acting().is_yes());
    assert!(matches!(two.campaign().await, Err(CampaignRefused::Silent)));
    two.speak();
    three.speak();
    group.primary().await;
    group.add().await;
}
