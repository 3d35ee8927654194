//! `stead group recover`: which copy is gone on from, as an administrator reads it.

use crate::fixture::{ALL, BOSTON, DETROIT, Made, NEWYORK, SEATTLE, Seen, made};
use model::settings::PrimaryReturn;
use model::{FormationId, FormationRef, IncarnationId, Left, ResilienceMode, ServerId, Side};
use policy::recovery::{Recovery, recovery};
use std::collections::{BTreeMap, BTreeSet};

const LEFT: FormationRef = FormationRef {
    id: FormationId::from_bytes([9; 16]),
    number: 2,
    fork_point: 40,
};

/// A server that is in a formation up to a number, without a primary.
fn holds(formation: Option<FormationRef>, end: u64) -> Side {
    Side {
        lineage: formation.into_iter().collect(),
        incarnation: IncarnationId::from_bytes([1; 16]),
        mode: ResilienceMode::Availability,
        primary_return: PrimaryReturn::Accept,
        primary: None,
        votes_alone: false,
        rank: 0,
        last_user_change: end,
        log_end: (3, end),
        held: false,
        left: None,
        gave_way: Vec::new(),
        counts: Vec::new(),
    }
}

/// One that left a formation for another, of which nothing has come.
fn left(formation: FormationRef, end: u64) -> Side {
    let mut side = holds(None, 0);
    side.left = Some(Left {
        formation,
        agreed: (3, end),
    });
    side
}

/// How it is printed, and where a formation is made.
fn asked(made: &Made, sides: &BTreeMap<ServerId, Side>) -> (String, Option<ServerId>) {
    let seen = Seen::by(NEWYORK, made);
    let (plan, recovery) = recovery(&seen.view(), sides, None);
    let on = recovery.map(|recovery| match recovery {
        Recovery::Make { on, from } => {
            assert_eq!(from, LEFT.id);
            on
        }
        Recovery::GiveWay { .. } => panic!("nobody acts"),
    });
    (plan.to_string(), on)
}

fn two() -> Made {
    let mut made = made().only(&[BOSTON, NEWYORK]);
    made.group.mode = ResilienceMode::Availability;
    made.group.backups = ALL[..2].to_vec();
    made
}

#[test]
fn what_was_left_for_a_formation_that_is_lost_is_gone_on_from() {
    let sides = BTreeMap::from([(BOSTON, holds(None, 0)), (NEWYORK, left(LEFT, 45))]);
    let (printed, on) = asked(&two(), &sides);
    assert_eq!(on, Some(NEWYORK));
    insta::assert_snapshot!(printed);
}

#[test]
fn of_what_is_held_and_what_was_left_the_newer_one_counts() {
    let sides = |held, gone| {
        BTreeMap::from([
            (BOSTON, holds(Some(LEFT), held)),
            (NEWYORK, left(LEFT, gone)),
        ])
    };
    assert_eq!(asked(&two(), &sides(44, 45)).1, Some(NEWYORK));
    assert_eq!(asked(&two(), &sides(46, 45)).1, Some(BOSTON));
}

/// Whoever could fetch it by being elected is lost.
#[test]
fn what_only_one_holds_that_cannot_lead_becomes_a_divergence() {
    let newer = FormationRef {
        id: FormationId::from_bytes([10; 16]),
        number: 3,
        fork_point: 45,
    };
    for (held, end, words) in [
        (LEFT, 50, "holds 5 entries more than newyork"),
        (newer, 60, "holds formation 3"),
    ] {
        let sides = BTreeMap::from([(NEWYORK, left(LEFT, 45)), (SEATTLE, holds(Some(held), end))]);
        let (printed, on) = asked(&made(), &sides);
        assert_eq!(on, Some(NEWYORK), "{printed}");
        assert!(
            printed.contains(words) && printed.contains("kept as a divergence"),
            "{printed}"
        );
    }
}

#[test]
fn nobody_that_may_lead_holds_anything() {
    let sides = BTreeMap::from([(BOSTON, holds(None, 0)), (DETROIT, holds(None, 0))]);
    let (printed, on) = asked(&two(), &sides);
    assert_eq!(on, None);
    assert!(
        printed.contains("no server that could be primary holds the directory"),
        "{printed}"
    );
}

/// Who is asked may have slept through a change of who counts: whoever holds more knows better.
#[test]
fn whoever_holds_more_says_who_could_elect_a_primary() {
    use ResilienceMode::{Availability, Quorum};
    let three = made().only(&[BOSTON, NEWYORK, DETROIT]);
    let seen = Seen::by(NEWYORK, &three);
    let asked = |mode, counts: &[ServerId], end| {
        let mut there = holds(Some(LEFT), end);
        (there.mode, there.counts) = (mode, vec![counts.iter().copied().collect()]);
        let sides = BTreeMap::from([
            (BOSTON, holds(None, 0)),
            (NEWYORK, holds(Some(LEFT), 45)),
            (DETROIT, there),
        ]);
        let (plan, recovery) = recovery(&seen.view(), &sides, None);
        let on = recovery.map(|recovery| match recovery {
            Recovery::Make { on, .. } => on,
            Recovery::GiveWay { .. } => panic!("nobody acts"),
        });
        (plan.checks[0].detail.clone(), on)
    };
    let (why, on) = asked(Availability, &[BOSTON], 46);
    assert_eq!(on, Some(DETROIT), "{why}");
    assert_eq!(
        why,
        "detroit holds more than this server, and has it that boston must answer"
    );
    let (why, on) = asked(Quorum, &[BOSTON, SEATTLE, DETROIT], 46);
    assert_eq!(on, Some(DETROIT), "{why}");
    assert_eq!(asked(Quorum, &[NEWYORK, DETROIT, SEATTLE], 46).1, None);
    // Where it holds no more, what the asked one has counts.
    assert_eq!(asked(Availability, &[BOSTON], 45).1, None);
}

/// One of three is being removed and another one loses its disk: a majority of the three answers, but not of the two that are to
/// be left.
#[test]
fn in_the_middle_of_a_change_of_the_voters_both_majorities_have_to_answer() {
    let three = made().only(&[BOSTON, NEWYORK, DETROIT]);
    let sides = BTreeMap::from([
        (BOSTON, holds(None, 0)),
        (NEWYORK, holds(Some(LEFT), 45)),
        (DETROIT, holds(Some(LEFT), 45)),
    ]);
    let mut seen = Seen::by(NEWYORK, &three);
    assert_eq!(recovery(&seen.view(), &sides, None).1, None);
    seen.joint = vec![
        BTreeSet::from([BOSTON, NEWYORK, DETROIT]),
        BTreeSet::from([BOSTON, NEWYORK]),
    ];
    let (plan, recovery) = recovery(&seen.view(), &sides, None);
    assert!(
        matches!(recovery, Some(Recovery::Make { on: NEWYORK, .. })),
        "{plan}"
    );
    let check = &plan.checks[0].detail;
    assert!(
        check.contains("as the voters are being changed, 2 of boston, detroit and newyork and 2 of boston and newyork must"),
        "{check}"
    );
}
