//! A server that forgets its group: as it is printed, for it and for the others.

use crate::fixture::{BOSTON, DETROIT, Made, NEWYORK, SEATTLE, Seen, made, secs, session};
use model::{ResilienceMode, SessionState};
use policy::Plan;
use policy::reset::reset;

fn three() -> Made {
    let mut made = made().only(&[BOSTON, NEWYORK, DETROIT]);
    made.sessions = vec![
        session(1, BOSTON, SessionState::Active),
        session(2, DETROIT, SessionState::Suspended),
        session(3, DETROIT, SessionState::Orphaned),
        session(4, DETROIT, SessionState::Ended),
    ];
    made
}

fn warnings(plan: &Plan) -> String {
    plan.losses_after.warnings.join("\n")
}

#[test]
fn a_secondary_and_the_primary_stand_alone() {
    let three = three();
    let told = [DETROIT, BOSTON].map(|me| reset(&Seen::by(me, &three).view(), false).to_string());
    insta::assert_snapshot!(told.join("\n\n"));
    let plan = reset(&Seen::by(DETROIT, &three).view(), false);
    assert_eq!((plan.impact.kept, plan.impact.lost.count), (2, 1));
    // Figures are about those that stay.
    assert_eq!(
        (plan.losses_after.voters, plan.losses_after.reachable),
        (3, 2)
    );
    assert_eq!(plan.losses_after.can_lose, 0);
}

#[test]
fn it_needs_neither_a_primary_nor_the_others() {
    let three = three();
    let mut seen = Seen::by(DETROIT, &three)
        .lost(BOSTON, secs(60))
        .lost(NEWYORK, secs(60));
    seen.leader = None;
    let plan = reset(&seen.view(), false);
    assert!(plan.is_possible());
    insta::assert_snapshot!(plan);
    let removed = reset(&seen.view(), true);
    assert!(removed.is_possible());
    insta::assert_snapshot!(removed);
}

#[test]
fn the_primary_says_what_becomes_of_the_others() {
    let mut three = three();
    let of = |seen: &Seen| warnings(&reset(&seen.view(), false));
    // The first backup that is there; none that is there; none that may.
    let told = of(&Seen::by(BOSTON, &three).lost(NEWYORK, secs(9)));
    assert!(told.contains("too few for a quorum"), "{told}");
    three.group.backups = vec![BOSTON, DETROIT];
    let told = of(&Seen::by(BOSTON, &three));
    assert!(told.contains("detroit takes its place"), "{told}");
    three.group.backups = vec![BOSTON];
    let told = of(&Seen::by(BOSTON, &three));
    assert!(told.contains("none of them may take its place"), "{told}");
    // A group of two: whoever is left is one of two.
    let two = made().only(&[BOSTON, NEWYORK]);
    let told = of(&Seen::by(NEWYORK, &two));
    assert!(
        told.contains("without newyork the other server is too few"),
        "{told}"
    );
    // Where each may go on alone, it does.
    let mut each_alone = two.clone();
    each_alone.group.mode = ResilienceMode::Availability;
    assert_eq!(of(&Seen::by(NEWYORK, &each_alone)), "");
    let told = of(&Seen::by(BOSTON, &each_alone));
    assert!(told.contains("newyork takes its place"), "{told}");
    // Who does not count is not missed, but for its sessions.
    let mut with_one_more = made();
    with_one_more.server(SEATTLE).voting = false;
    with_one_more.server(SEATTLE).standing = model::Standing::NonVoter;
    assert_eq!(of(&Seen::by(SEATTLE, &with_one_more)), "");
}

#[test]
fn who_is_alone_has_nothing_to_forget() {
    let alone = made().only(&[BOSTON]);
    let plan = reset(&Seen::by(BOSTON, &alone).view(), false);
    assert_eq!(
        plan.refusals,
        ["boston is a group of its own already: there is nothing to forget"]
    );
    assert!(plan.steps.is_empty() && plan.losses_after.warnings.is_empty());
    let mut seen = Seen::by(BOSTON, &alone);
    let group = alone.directory().records().next().unwrap();
    seen.directory = model::Directory::from_records([group]).unwrap();
    seen.voters.clear();
    let plan = reset(&seen.view(), false);
    assert!(plan.refusals[0].contains("has not received the group's directory yet"));
}
