//! A group in real time: founding, growing, failover, restart, hand-over, snapshots, full and damaged disks.

mod common;

use common::{Group, PATIENCE, SEGMENT, add_user, server_id, users, wait_until};
use replica::disk::{Disk, DiskFile, MemoryDisk, RealDisk, SharedDisk, Weather};
use replica::{
    Acting, CampaignRefused, NotActing, ProposeError, Replica, Role, Room, SnapshotLimits, Timing,
    TransferError,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn small_snapshots() -> SnapshotLimits {
    SnapshotLimits {
        entries: 200,
        bytes: 1 << 20,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_one_is_its_own_primary_and_survives_a_restart() {
    let group = Group::found().await;
    let mut expected = BTreeSet::new();
    for _ in 0..20 {
        expected.insert(group.add().await);
    }
    let first = group.replica(1);
    assert!(matches!(first.acting(), Acting::Yes { until: None, .. }));
    assert_eq!(users(&first), expected);
    group.stop(1).await;
    let again = group.start(1).await;
    assert!(
        !again.acting().is_yes(),
        "leadership is not restored by itself"
    );
    group.primary().await;
    assert!(again.recovered(PATIENCE).await);
    assert_eq!(users(&again), expected);
    assert_eq!(again.incarnation(), first.incarnation());
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_agree_and_survive_the_loss_of_their_primary() {
    let mut group = Group::found().await;
    group.grow(&[2, 3]).await;
    let mut expected = BTreeSet::new();
    for _ in 0..20 {
        expected.insert(group.add().await);
    }
    let lost = Instant::now();
    group.stop(1).await;
    let primary = group.primary().await;
    assert_ne!(primary.me(), server_id(1));
    expected.insert(group.add().await);
    let outage = lost.elapsed();
    assert!(
        outage > group.timing.lease() / 2,
        "nobody waited for the lease: {outage:?}"
    );
    for number in [2, 3] {
        group
            .wait_for_users(&group.replica(number), &expected)
            .await;
    }
    let returned = group.start(1).await;
    group.wait_for_users(&returned, &expected).await;
    assert_eq!(returned.status().role, Role::Follower);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_without_a_quorum_stops_acting_before_another_starts() {
    let mut group = Group::found().await;
    group.grow(&[2, 3]).await;
    group.add().await;
    let old = group.replica(1);
    assert!(old.acting().is_yes());
    group.wiring.isolate(1, &[2, 3]);
    // `primary` fails when two act at once.
    let stopped = wait_until(
        || match old.acting() {
            Acting::Yes { .. } => None,
            Acting::No(reason) => Some(reason),
        },
        || format!("{:?}", old.status()),
    )
    .await;
    assert_eq!(
        stopped,
        NotActing::NoQuorum {
            missing: vec![server_id(2), server_id(3)]
        }
    );
    let new = group.primary().await;
    assert_ne!(new.me(), old.me());
    let refused = old.propose(&add_user(900), Duration::from_secs(1)).await;
    assert!(
        matches!(refused, Err(ProposeError::NoQuorum { .. })),
        "{refused:?}"
    );
    assert!(old.read_index(Duration::from_millis(300)).await.is_err());
    let number = group.add().await;
    group.wiring.mend();
    wait_until(
        || users(&old).contains(&number).then_some(()),
        || format!("{:?}", old.status()),
    )
    .await;
    assert!(!users(&old).contains(&900), "what was refused came back");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_have_names_that_other_servers_can_wait_for() {
    let mut group = Group::found().await;
    group.grow(&[2, 3]).await;
    let primary = group.primary().await;
    let applied = primary
        .propose(&add_user(1), PATIENCE)
        .await
        .expect("applied");
    assert_eq!(primary.state().name(), Some(applied.name));
    let other = group.replica(3);
    assert!(other.wait_for(applied.name, PATIENCE).await);
    assert!(users(&other).contains(&1));
    let again = primary
        .propose(&add_user(1), PATIENCE)
        .await
        .expect("applied");
    assert_eq!(again, applied, "the same key gives the same answer");
    let mut foreign = applied.name;
    foreign.formation = model::FormationId::from_bytes([0; 16]);
    assert!(!other.wait_for(foreign, Duration::from_millis(50)).await);
    let index = primary.read_index(PATIENCE).await.expect("a quorum");
    assert!(index.number >= applied.name.number);
    let refused = other.propose(&add_user(2), PATIENCE).await;
    assert!(
        matches!(refused, Err(ProposeError::NotPrimary { primary: Some(id) }) if id == primary.me()),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_at_once_are_all_answered() {
    let mut group = Group::found().await;
    group.grow(&[2, 3]).await;
    let primary = group.primary().await;
    let writers = (0..64u64).map(|writer| {
        let primary = primary.clone();
        tokio::spawn(async move {
            for step in 0..20 {
                let change = add_user(10_000 + writer * 100 + step);
                propose_until_applied(&primary, &change).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("all were applied");
    }
    let expected: BTreeSet<u64> = (0..64)
        .flat_map(|writer| (0..20).map(move |step| 10_000 + writer * 100 + step))
        .collect();
    for replica in group.replicas() {
        group.wait_for_users(&replica, &expected).await;
    }
}

/// Proposes a change until it is applied; on a busy machine a primary may lose its quorum for a moment.
async fn propose_until_applied(primary: &Replica, change: &model::Change) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match primary.propose(change, PATIENCE).await {
            Ok(applied) => {
                applied.outcome.expect("not refused");
                return;
            }
            Err(ProposeError::NoQuorum { .. } | ProposeError::OutcomeUnknown)
                if Instant::now() < deadline => {}
            Err(error) => panic!("{error}: {:?}", primary.status()),
        }
        // tidy: polls: whether the primary has its quorum again.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_office_is_handed_over_and_waiting_changes_go_on() {
    let mut group = Group::found().await;
    group.grow(&[2, 3]).await;
    let old = group.replica(1);
    let writer = {
        let old = old.clone();
        tokio::spawn(async move {
            for number in 1.. {
                match old.propose(&add_user(number), PATIENCE).await {
                    Ok(_) => {}
                    Err(ProposeError::NotPrimary { primary }) => return (number, primary),
                    Err(error) => panic!("change {number}: {error}"),
                }
            }
            unreachable!("numbers do not end")
        })
    };
    wait_until(|| (users(&old).len() > 5).then_some(()), String::new).await;
    assert_eq!(group.replica(2).last_offer(), None);
    let handed = old.transfer_to(server_id(2), PATIENCE).await;
    let offered = [2, 3].map(|number| group.replica(number).last_offer().is_some());
    assert!(
        !offered[1] && (offered[0] || handed.is_err()),
        "who was asked to take the office: {offered:?} {handed:?}"
    );
    // On a busy machine it may take longer than 100 ms. Whoever leads then, nothing may be lost.
    while group.primary().await.me() == server_id(1) {
        let again = old.transfer_to(server_id(2), PATIENCE).await;
        assert!(
            again.is_ok() || handed.is_err(),
            "it was handed over: {again:?}"
        );
    }
    let (refused, _) = writer.await.expect("the writer ended");
    let primary = group.primary().await;
    assert!(handed.is_err() || primary.me() == server_id(2));
    let expected: BTreeSet<u64> = (1..refused).collect();
    group.wait_for_users(&primary, &expected).await;
}

/// Nothing is proposed here, and nobody polls: whoever waits for the role must hear of it when the server may act.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_primary_is_told_when_it_may_act() {
    let mut group = Group::found().await;
    group.grow(&[2, 3]).await;
    for to in [2, 3, 1] {
        let heir = group.replica(to);
        let mut role = heir.role_changed();
        let told = tokio::spawn(async move {
            while !heir.acting().is_yes() {
                role.changed().await.expect("it runs");
            }
        });
        // The primary may not have heard the heir yet, and a busy machine may need longer than the 100 ms of a hand-over.
        loop {
            let primary = group.primary().await;
            if primary.transfer_to(server_id(to), PATIENCE).await.is_ok() {
                break;
            }
            // tidy: polls: whether the office can be handed over.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::timeout(PATIENCE, told)
            .await
            .expect("told in time")
            .expect("no panic");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_to_a_server_that_does_not_answer_is_refused_or_taken_back() {
    let mut group = Group::found().await;
    group.grow(&[2, 3]).await;
    let old = group.replica(1);
    assert_eq!(
        old.transfer_to(server_id(9), PATIENCE).await,
        Err(TransferError::NotAVoter)
    );
    // Nothing reaches server 2 any more, but the primary heard it a moment ago.
    group.wiring.isolate(2, &[1, 3]);
    let result = old.transfer_to(server_id(2), PATIENCE).await;
    assert!(
        matches!(result, Err(TransferError::Failed | TransferError::Silent)),
        "{result:?}"
    );
    group.primary().await;
    group.add().await;
    let silent = group.primary().await;
    wait_until(
        || {
            let progress = silent.status().progress;
            let heard = progress.get(&server_id(2)).and_then(|one| one.heard);
            (heard.is_none_or(|at| at.ago() > group.timing.lease())).then_some(())
        },
        || format!("{:?}", silent.status()),
    )
    .await;
    assert_eq!(
        silent.transfer_to(server_id(2), PATIENCE).await,
        Err(TransferError::Silent)
    );
    assert!(silent.acting().is_yes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_voter_gives_no_vote_and_does_not_campaign_for_a_lease() {
    let mut group = Group::found().await;
    group.grow(&[2, 3]).await;
    let third = group.replica(3);
    wait_until(
        || (third.status().role == Role::Follower).then_some(()),
        || format!("{:?}", third.status()),
    )
    .await;
    group.stop(3).await;
    let started = Instant::now();
    let restarted = group.start(3).await;
    let refused = restarted.campaign().await;
    assert!(
        matches!(
            refused,
            Err(CampaignRefused::Holding(_) | CampaignRefused::Lease(_))
        ),
        "{refused:?}"
    );
    let term = group.replica(1).status().term;
    // The primary is cut off from server 2 only; a restarted server 3 must not help server 2 to the office.
    group.wiring.isolate(2, &[1]);
    while started.elapsed() < group.timing.lease() * 3 {
        // Refused by its own lease at first, by the others' after that.
        let _refused_or_begun = group.replica(2).campaign().await;
        assert!(group.replica(1).acting().is_yes(), "{:?}", group.states());
        // tidy: polls: that the primary keeps its office for three leases.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(group.replica(1).status().term, term);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_server_receives_a_snapshot_and_restarts_from_it() {
    let mut group = Group::found_with(Arc::new(RealDisk), small_snapshots()).await;
    let mut expected = BTreeSet::new();
    for _ in 0..700 {
        expected.insert(group.add().await);
    }
    let first = group.replica(1);
    wait_until(
        || (first.status().snapshot > 400).then_some(()),
        || format!("{:?}", first.status()),
    )
    .await;
    group.grow(&[2]).await;
    let second = group.replica(2);
    group.wait_for_users(&second, &expected).await;
    assert!(second.status().snapshot > 0);
    assert_eq!(second.state().directory, first.state().directory);
    group.stop(2).await;
    let second = group.start(2).await;
    expected.insert(group.add().await);
    group.wait_for_users(&second, &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_removed_and_return_under_a_new_incarnation() {
    let mut group = Group::found().await;
    group.grow(&[2, 3]).await;
    let primary = group.replica(1);
    primary
        .remove(server_id(3), PATIENCE)
        .await
        .expect("removed");
    let status = primary.status();
    assert_eq!(status.voters, BTreeSet::from([server_id(1), server_id(2)]));
    assert!(status.learners.is_empty());
    group.stop(3).await;
    let expected = BTreeSet::from([group.add().await]);
    group.places.remove(&3);
    let disk: SharedDisk = Arc::new(MemoryDisk::new());
    group.prepare(3, disk, 33);
    let returned = group.start(3).await;
    primary
        .add_learner(server_id(3), PATIENCE)
        .await
        .expect("a learner");
    group.wait_for_users(&returned, &expected).await;
    assert_eq!(returned.status().role, Role::Learner);
    assert_eq!(returned.campaign().await, Err(CampaignRefused::NotAVoter));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_changes_and_recovers() {
    let disk = MemoryDisk::new();
    let group = Group::found_with(Arc::new(disk.clone()), SnapshotLimits::default()).await;
    group.add().await;
    let first = group.replica(1);
    disk.set_weather(Weather {
        capacity: Some(3 * SEGMENT),
        broken: false,
        ..Weather::default()
    });
    let mut number = 1000;
    let refused = loop {
        number += 1;
        if let Err(error) = first.propose(&add_user(number), PATIENCE).await {
            break error;
        }
        assert!(number < 20_000, "the disk never was full");
    };
    assert!(matches!(refused, ProposeError::DiskFull), "{refused}");
    assert_eq!(first.room(), Room::Full);
    assert!(first.acting().is_yes(), "consensus goes on");
    disk.set_weather(Weather::default());
    wait_until(|| (first.room() == Room::Ready).then_some(()), String::new).await;
    first
        .propose(&add_user(number), PATIENCE)
        .await
        .expect("applied");
}

/// A group of three voters, the third with a disk in memory.
async fn three_with_the_last_in_memory() -> (Group, MemoryDisk) {
    let mut group = Group::found().await;
    group.grow(&[2]).await;
    let disk = MemoryDisk::new();
    group.prepare(3, Arc::new(disk.clone()), 3);
    group.start(3).await;
    let primary = group.replica(1);
    primary
        .add_learner(server_id(3), PATIENCE)
        .await
        .expect("a learner");
    let all = BTreeSet::from([1, 2, 3].map(server_id));
    primary.set_voters(all, PATIENCE).await.expect("voters");
    (group, disk)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secondary_with_a_full_disk_does_not_stop_the_group() {
    let (group, disk) = three_with_the_last_in_memory().await;
    let full = group.replica(3);
    disk.set_weather(Weather {
        capacity: Some(0),
        broken: false,
        ..Weather::default()
    });
    let mut expected = BTreeSet::new();
    wait_until(|| (full.room() != Room::Making).then_some(()), String::new).await;
    while full.room() == Room::Ready {
        expected.insert(group.add().await);
    }
    for _ in 0..50 {
        expected.insert(group.add().await);
    }
    assert_eq!(full.status().stopped, None);
    disk.set_weather(Weather::default());
    group.wait_for_users(&full, &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secondary_whose_disk_stalls_does_not_miss_its_primary() {
    let (group, disk) = three_with_the_last_in_memory().await;
    let (primary, stalled) = (group.replica(1), group.replica(3));
    let mut expected = BTreeSet::from([group.add().await]);
    group.wait_for_users(&stalled, &expected).await;
    disk.set_weather(Weather {
        stalled: true,
        ..Weather::default()
    });
    // Entries wait for the disk, and the answers to all that came after them with them.
    let (begin, lease) = (Instant::now(), Timing::default().lease());
    while begin.elapsed() < lease * 6 {
        expected.insert(group.add().await);
        let heard = stalled.last_heard().expect("the primary was heard");
        assert!(heard.ago() < lease, "not heard for {:?}", heard.ago());
    }
    let behind = stalled.state().applied < primary.state().applied;
    assert!(behind, "the disk did not stall");
    disk.set_weather(Weather::default());
    group.wait_for_users(&stalled, &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_stops_the_server_with_the_remedy() {
    let group = Group::found().await;
    for _ in 0..20 {
        group.add().await;
    }
    group.stop(1).await;
    let place = group.places.get(&1).expect("it has a folder");
    let folder = common::formation_folder(&place.data);
    let segment = folder.join("00000000000000000001.log");
    damage(&segment, 700);
    let error = group.try_start(1).await.expect_err("damaged");
    let text = error.to_string();
    assert!(text.contains("00000000000000000001.log"), "{text}");
    assert!(text.contains("restore a backup"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_stops_the_server_with_the_remedy() {
    let group = Group::found().await;
    group.stop(1).await;
    let place = group.places.get(&1).expect("it has a folder");
    let folder = common::formation_folder(&place.data);
    let names = RealDisk.list(&folder).expect("listed");
    let snapshot = names
        .iter()
        .find(|name| name.ends_with(".snapshot"))
        .expect("one");
    damage(&folder.join(snapshot), 200);
    let error = group.try_start(1).await.expect_err("damaged");
    assert!(error.to_string().contains("is damaged"), "{error}");
}

fn damage(path: &Path, offset: u64) {
    let mut file: Box<dyn DiskFile> = RealDisk.open(path).expect("opened");
    let mut bytes = [0; 4];
    file.read_at(offset, &mut bytes).expect("read");
    file.write_at(offset, &bytes.map(|byte| byte ^ 0xff))
        .expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_times_restart_consensus_in_place() {
    let mut group = Group::found().await;
    group.grow(&[2, 3]).await;
    let first = group.add().await;
    let timing = Timing::new(Duration::from_millis(50), Duration::from_millis(200)).expect("works");
    for number in [3, 2, 1] {
        let replica = group.replica(number);
        replica.set_timing(timing).await.expect("restarted");
        assert_eq!(replica.timing(), Some(timing));
        group.primary().await;
    }
    let second = group.add().await;
    let expected = BTreeSet::from([first, second]);
    for replica in group.replicas() {
        group.wait_for_users(&replica, &expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_was_promised_is_kept_across_a_restart() {
    let mut group = Group::found().await;
    group.grow(&[2, 3]).await;
    let millis = Duration::from_millis;
    let long = Timing::new(millis(100), Duration::from_secs(20)).expect("works");
    let short = Timing::new(millis(50), millis(400)).expect("works");
    let lease_of = |replica: &Replica| replica.timing().map(|timing| timing.lease());

    let third = group.replica(3);
    third.set_timing(long).await.expect("restarted");
    group.stop(3).await;
    let third = group.start(3).await;
    assert_eq!(lease_of(&third), Some(long.lease()));
    let holds = third.status().holds_until.expect("it started");
    assert!(holds.since(replica::clock::Moment::now()) > millis(15_000));

    // A shorter one is kept only when the longer has run out: until then it may still be owed.
    third.set_timing(short).await.expect("restarted");
    group.stop(3).await;
    let third = group.start(3).await;
    assert_eq!(lease_of(&third), Some(long.lease()));

    let second = group.replica(2);
    let ordinary = lease_of(&second).expect("it runs");
    second.set_timing(short).await.expect("restarted");
    let stored = group.data(2).join("formations").join("timing");
    wait_until(
        || (std::fs::read_to_string(&stored).ok()? == "50 400\n").then_some(()),
        || format!("{:?} after {ordinary:?}", std::fs::read_to_string(&stored)),
    )
    .await;
    group.stop(2).await;
    std::fs::write(&stored, "fifty\n").expect("damaged");
    let refused = group.try_start(2).await.expect_err("it cannot be told");
    assert!(refused.to_string().contains("timing"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_message_are_refused() {
    let group = Group::found().await;
    let replica = group.replica(1);
    for bytes in [
        &b""[..],
        b"\x00",
        b"\x01",
        b"\x01\xff\xff\xff",
        b"\x02abc",
        &[1; 4096],
    ] {
        let answer = replica.handle(&bytes::Bytes::copy_from_slice(bytes)).await;
        if let Ok(answer) = answer {
            assert!(answer.len() < 4096, "{bytes:?}");
        }
    }
    group.add().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_formation_goes_on_from_a_snapshot_and_takes_others_in() {
    let mut group = Group::found().await;
    let mut expected = BTreeSet::new();
    for _ in 0..30 {
        expected.insert(group.add().await);
    }
    let state = group.replica(1).state();
    let number = state.applied;
    group.stop(1).await;
    let island = group.fork(1, &state).await;
    assert_ne!(island.formation(), common::formation_id());
    island.campaign().await.expect("the only vote");
    group.primary().await;
    let newest = state.name().expect("a change");
    assert!(
        island.wait_for(newest, PATIENCE).await,
        "a change before the fork is known by its name"
    );
    expected.insert(group.add().await);
    let after = island.state().name().expect("a change");
    assert_eq!(after.formation, island.formation());
    assert!(after.number > number);
    // Without the saved promise the first join would stop consensus for good.
    group.grow(&[2, 3]).await;
    for number in [2, 3] {
        group
            .wait_for_users(&group.replica(number), &expected)
            .await;
    }
    group.stop(1).await;
    let again = group.start(1).await;
    assert_eq!(again.formation(), island.formation());
    expected.insert(group.add().await);
    group.wait_for_users(&again, &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_formation_that_was_made_half_way_changes_nothing() {
    let group = Group::found().await;
    let expected = BTreeSet::from([group.add().await]);
    let state = group.replica(1).state();
    group.stop(1).await;
    let place = group.places.get(&1).expect("it has a folder");
    // Made, but never selected: the machine stopped in between.
    common::make_fork(place, 1, &state);
    let current = replica::formation::current(&place.disk, &place.data).expect("read");
    assert_eq!(current, Some(common::formation_id()));
    let first = group.start(1).await;
    group.primary().await;
    group.wait_for_users(&first, &expected).await;
    // A second attempt starts over, and one in force is never made again.
    common::make_fork(place, 1, &state);
    let founder = common::founder(1);
    let again = replica::formation::found(
        &place.disk,
        &place.data,
        founder,
        &common::directory(),
        SEGMENT,
    );
    assert!(
        matches!(again, Err(replica::formation::FormationError::InForce(_))),
        "{again:?}"
    );
}
