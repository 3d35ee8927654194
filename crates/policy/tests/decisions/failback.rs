//! The original primary comes back, flaps, is unfit, or is not wanted back.

use crate::fixture::{AT, BOSTON, DETROIT, Made, NEWYORK, SEATTLE, Seen, made, ms, secs};
use model::{BackupEdit, Event, EventKind, Record, ServerId, Severity};
use policy::Plan;
use policy::failback::{Failback, Outlook, RETRY, Return};
use std::sync::Arc;
use std::time::Duration;

/// Newyork took over from boston, and acts.
fn after_failover() -> Made {
    let mut made = made();
    made.group.primary = Some(NEWYORK);
    made
}

fn seen(made: &Made) -> Seen {
    let mut seen = Seen::by(NEWYORK, made);
    seen.leader = Some(NEWYORK);
    seen
}

fn look(failback: &mut Failback, seen: &Seen, now: Duration) -> Option<ServerId> {
    let back = failback.handle(&seen.view(), true, now);
    if let Some(Return { reasons, .. }) = &back {
        assert!(reasons.iter().all(|reason| reason.pass), "{reasons:?}");
    }
    back.map(|back| back.server)
}

#[test]
fn it_takes_over_again_when_it_has_been_well_for_long_enough() {
    let (away, back) = (
        seen(&after_failover()).lost(BOSTON, secs(9)),
        seen(&after_failover()),
    );
    let mut failback = Failback::default();
    assert_eq!(look(&mut failback, &away, secs(100)), None);
    assert!(matches!(failback.outlook(), Outlook::Unfit { server, .. } if *server == BOSTON));
    assert_eq!(failback.poll_timeout(), None);
    assert_eq!(look(&mut failback, &back, secs(110)), None);
    assert_eq!(failback.poll_timeout(), Some(secs(140)));
    assert_eq!(look(&mut failback, &back, secs(140) - ms(1)), None);
    assert_eq!(look(&mut failback, &back, secs(140)), Some(BOSTON));
    // It did not come about: again after a while.
    assert_eq!(look(&mut failback, &back, secs(141)), None);
    let again = secs(140) + RETRY;
    assert_eq!(failback.poll_timeout(), Some(again));
    assert_eq!(look(&mut failback, &back, again), Some(BOSTON));
}

#[test]
fn a_flapping_one_begins_anew_each_time() {
    let mut failback = Failback::default();
    let (away, back) = (
        seen(&after_failover()).lost(BOSTON, secs(1)),
        seen(&after_failover()),
    );
    for round in 0..20u32 {
        let begin = secs(29) * (2 * round);
        assert_eq!(look(&mut failback, &back, begin), None);
        assert_eq!(look(&mut failback, &back, begin + secs(29)), None);
        assert_eq!(look(&mut failback, &away, begin + secs(30)), None);
    }
}

#[test]
fn one_that_is_behind_or_has_a_wrong_clock_waits() {
    let mut failback = Failback::default();
    let mut behind = seen(&after_failover());
    behind.peer(BOSTON).lag = Some(5_000);
    let mut wrong = seen(&after_failover());
    wrong.peer(BOSTON).clock_offset_ms = Some(-61_000);
    for (seen, rule) in [(&behind, "caught-up"), (&wrong, "clock")] {
        for now in [secs(0), secs(3_600)] {
            assert_eq!(look(&mut failback, seen, now), None);
        }
        let Outlook::Unfit { reasons, .. } = failback.outlook() else {
            panic!("{:?}", failback.outlook());
        };
        assert_eq!(reasons.len(), 1);
        assert_eq!(reasons[0].rule, rule);
    }
}

#[test]
fn nothing_fails_back_where_it_is_not_wanted() {
    let mut secondary = after_failover();
    secondary.settings = vec![("resilience.primary-return", "accept-secondary")];
    let mut ignored = after_failover();
    ignored.settings = vec![("resilience.primary-return", "ignore")];
    let mut promoted = after_failover();
    promoted.group.backups = vec![NEWYORK, BOSTON, DETROIT];
    let mut nobody = after_failover();
    nobody.group.backups.clear();
    let mut elsewhere = seen(&after_failover());
    elsewhere.me = DETROIT;
    let mut deaf = seen(&after_failover());
    deaf.leader = None;
    let all = [
        seen(&secondary),
        seen(&ignored),
        seen(&promoted),
        seen(&nobody),
        elsewhere,
        deaf,
    ];
    for seen in &all {
        let mut failback = Failback::default();
        for now in [secs(0), secs(3_600)] {
            assert_eq!(look(&mut failback, seen, now), None);
        }
        assert_eq!(*failback.outlook(), Outlook::Nothing);
    }
    let mut failback = Failback::default();
    let back = seen(&after_failover());
    for now in [secs(0), secs(3_600)] {
        assert_eq!(failback.handle(&back.view(), false, now), None);
    }
}

#[test]
fn an_office_that_moved_too_often_stays() {
    let moved = |minutes_ago: &[u64]| {
        let mut made = after_failover();
        made.settings = vec![("resilience.max-moves", "2 in 10m")];
        made.group.last_event = minutes_ago.len() as u64;
        let mut seen = seen(&made);
        let events = minutes_ago.iter().zip(1u64..).map(|(ago, seq)| {
            Record::Event(Arc::new(Event {
                seq,
                at: model::UnixMillis(AT.0 - ago * 60_000),
                server: None,
                kind: EventKind::Switchover,
                severity: Severity::Info,
                subject: "boston".to_owned(),
                fields: Default::default(),
                reasons: Vec::new(),
            }))
        });
        let records = seen.directory.records().chain(events);
        seen.directory = model::Directory::from_records(records).unwrap();
        seen
    };
    let after = |seen: &Seen| {
        let mut failback = Failback::default();
        assert_eq!(look(&mut failback, seen, secs(0)), None);
        let back = look(&mut failback, seen, secs(60));
        (back, failback)
    };
    assert_eq!(after(&moved(&[30, 11, 9])).0, Some(BOSTON));
    let often = moved(&[30, 9, 1]);
    let (back, mut failback) = after(&often);
    assert_eq!(back, None);
    let held = Outlook::HeldBack {
        server: BOSTON,
        moves: 2,
        within: secs(600),
    };
    assert_eq!(*failback.outlook(), held);
    let again = secs(60) + RETRY;
    assert_eq!(failback.poll_timeout(), Some(again));
    assert_eq!(look(&mut failback, &often, again - ms(1)), None);
    assert_eq!(*failback.outlook(), held, "it is still so");
    assert_eq!(look(&mut failback, &moved(&[30]), again), Some(BOSTON));
}

#[test]
fn changes_of_the_list_as_they_are_planned() {
    let made = after_failover();
    let seen = seen(&made);
    let plan = |edit| policy::backups::edit(&seen.view(), edit);
    let refused = |plan: &Plan| {
        let against = plan.checks.iter().filter(|check| !check.pass);
        against.map(|check| check.rule.clone()).collect::<Vec<_>>()
    };
    let to_the_head = plan(BackupEdit::Move {
        server: DETROIT,
        place: 1,
    });
    insta::assert_snapshot!(to_the_head);
    let primary = plan(BackupEdit::Remove { server: NEWYORK });
    assert!(primary.is_possible());
    let warned = primary.losses_after.warnings.join("; ");
    assert!(warned.contains("newyork is primary now"), "{warned}");
    let (server, place) = (SEATTLE, None);
    let witness = plan(BackupEdit::Add { server, place });
    assert_eq!(refused(&witness), ["voter"]);
    let twice = plan(BackupEdit::Add {
        server: BOSTON,
        place: Some(1),
    });
    assert_eq!(refused(&twice), ["on-backup-list"]);
    let stranger = ServerId::from_bytes([77; 16]);
    let nobody = plan(BackupEdit::Remove { server: stranger });
    assert_eq!(refused(&nobody), ["voter", "on-backup-list"]);
}

#[test]
fn the_last_one_off_the_list_leaves_a_warning() {
    let mut made = after_failover();
    made.group.backups = vec![NEWYORK];
    let seen = seen(&made);
    let plan = policy::backups::edit(&seen.view(), BackupEdit::Remove { server: NEWYORK });
    assert!(plan.is_possible());
    let warned = plan.losses_after.warnings.join("; ");
    assert!(warned.contains("nobody takes over"), "{warned}");
}
