//! Promotion, removal, what the group can lose, and why a server is not primary: as they are printed, and rule by rule.

use crate::fixture::{
    AT, BOSTON, DETROIT, Made, NEWYORK, SEATTLE, Seen, made, objections, paused, secs, session,
};
use model::{ResilienceMode, ServerId, SessionState, Standing};
use policy::Plan;
use policy::losses::{Protection, is_quorum, needed, protection};
use policy::pause::{pause, resume};
use policy::plan::{Affected, NAMED_LIMIT};
use policy::promotion::{backups_after, promotion};
use policy::removal::removal;
use policy::why_not::{who_is_primary, why_not};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Boston, newyork and detroit, without the witness.
fn three() -> Made {
    made().only(&[BOSTON, NEWYORK, DETROIT])
}

#[test]
fn protection_in_words() {
    let mut told = Vec::new();
    let mut tell = |what: &str, protection: &Protection| {
        let Protection {
            voters,
            reachable,
            needed,
            can_lose,
            sentence,
            warnings,
            ..
        } = protection;
        told.push(format!(
            "{what}: {voters} voters, {reachable} reachable, {needed} needed, can lose {can_lose}"
        ));
        told.push(format!("    {sentence}"));
        told.extend(warnings.iter().map(|warning| format!("    ! {warning}")));
    };
    let of = |voters: usize, missing: &[&str]| {
        Protection::of(
            voters,
            missing.iter().map(|name| (*name).to_owned()).collect(),
            false,
        )
    };
    tell("one", &of(1, &[]));
    tell("two", &of(2, &[]));
    tell(
        "two, more on their way",
        &Protection::of(2, Vec::new(), true),
    );
    tell("two, one missing", &of(2, &["boston"]));
    tell("three", &of(3, &[]));
    tell("three, one missing", &of(3, &["boston"]));
    tell("three, two missing", &of(3, &["boston", "detroit"]));
    tell("four", &of(4, &[]));
    tell("five", &of(5, &[]));
    tell("five, one missing", &of(5, &["boston"]));
    tell("none", &of(0, &[]));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn while_voters_are_changed_both_majorities_count() {
    let made = three();
    let mut seen = Seen::by(BOSTON, &made);
    assert_eq!(protection(&seen.view()).can_lose, 1);
    // The only vote that counts is being passed on.
    seen.joint = vec![BTreeSet::from([BOSTON]), BTreeSet::from([NEWYORK])];
    let changing = protection(&seen.view());
    assert_eq!(changing.can_lose, 0);
    let sentence = "survives the loss of no server while the voters are being changed";
    assert!(changing.sentence.starts_with(sentence), "{changing:?}");
}

#[test]
fn a_group_on_its_way_to_three_is_not_scolded_for_two() {
    let mut made = three();
    made.server(DETROIT).voting = false;
    made.group.backups = vec![BOSTON, NEWYORK];
    let seen = Seen::by(BOSTON, &made);
    let protection = protection(&seen.view());
    assert_eq!((protection.voters, protection.can_lose), (2, 0));
    assert_eq!(protection.sentence, "can lose neither of its 2 voters");
    assert_eq!(protection.warnings, Vec::<String>::new());
    made.server(DETROIT).standing = Standing::NonVoter;
    let seen = Seen::by(BOSTON, &made);
    assert_eq!(policy::losses::protection(&seen.view()).warnings.len(), 1);
}

#[test]
fn a_promotion_that_works() {
    let mut made = three();
    made.sessions = vec![
        session(1, BOSTON, SessionState::Active),
        session(2, NEWYORK, SessionState::Suspended),
    ];
    let seen = Seen::by(BOSTON, &made);
    let plan = promotion(&seen.view(), NEWYORK);
    assert!(plan.is_possible());
    assert_eq!(plan.impact.kept, 2);
    insta::assert_snapshot!(plan);
    assert_eq!(
        backups_after(&made.group.backups, DETROIT),
        [DETROIT, BOSTON, NEWYORK]
    );
    assert_eq!(backups_after(&[], DETROIT), [DETROIT]);
}

/// The rules that refuse a plan.
fn refusals(plan: &Plan) -> Vec<&str> {
    assert_eq!(plan.is_possible(), !plan.steps.is_empty());
    plan.checks
        .iter()
        .filter(|check| !check.pass)
        .map(|check| check.rule.as_str())
        .collect()
}

#[test]
fn every_refusal_of_a_promotion() {
    let made = made();
    type Change = fn(&mut Made, &mut Seen);
    let cases: [(ServerId, Change, &[&str]); 12] = [
        (NEWYORK, |_, _| {}, &[]),
        (BOSTON, |_, _| {}, &["not-primary"]),
        (SEATTLE, |_, _| {}, &["voter", "on-backup-list"]),
        (ServerId::from_bytes([77; 16]), |_, _| {}, &["member"]),
        (
            NEWYORK,
            |made, _| made.server(NEWYORK).started = false,
            &["member"],
        ),
        (
            NEWYORK,
            |_, seen| {
                seen.voters.remove(&NEWYORK);
            },
            &["voter"],
        ),
        (
            NEWYORK,
            |made, _| made.group.backups.clear(),
            &["on-backup-list"],
        ),
        (
            NEWYORK,
            |_, seen| {
                seen.peer(NEWYORK).reachable = false;
            },
            &["reachable"],
        ),
        (
            NEWYORK,
            |_, seen| seen.peer(NEWYORK).lag = Some(65),
            &["caught-up"],
        ),
        (
            NEWYORK,
            |_, seen| seen.peer(NEWYORK).lag = None,
            &["caught-up"],
        ),
        (
            NEWYORK,
            |_, seen| seen.peer(NEWYORK).clock_offset_ms = Some(-60_001),
            &["clock"],
        ),
        (
            NEWYORK,
            |_, seen| seen.peer(NEWYORK).clock_offset_ms = Some(i64::MIN),
            &["clock"],
        ),
    ];
    for (target, change, expected) in cases {
        let mut changed = made.clone();
        change(&mut changed, &mut Seen::by(BOSTON, &made));
        let mut seen = Seen::by(BOSTON, &changed);
        change(&mut changed, &mut seen);
        assert_eq!(
            refusals(&promotion(&seen.view(), target)),
            expected,
            "{}",
            promotion(&seen.view(), target)
        );
    }
}

#[test]
fn a_promotion_without_a_primary_needs_a_quorum() {
    let made = three();
    let mut seen = Seen::by(NEWYORK, &made).lost(BOSTON, secs(4));
    seen.leader = None;
    seen.peer(NEWYORK).lag = None;
    let plan = promotion(&seen.view(), NEWYORK);
    assert_eq!(refusals(&plan), Vec::<&str>::new(), "{plan}");
    assert_eq!(plan.expected_outage_ms, 500);
    // Another that has just started is asked: it was told nothing of newyork yet, and the voters compare.
    seen.me = DETROIT;
    assert_eq!(
        refusals(&promotion(&seen.view(), NEWYORK)),
        Vec::<&str>::new()
    );
    seen.peer(NEWYORK).elsewhere = true;
    assert_eq!(
        refusals(&promotion(&seen.view(), NEWYORK)),
        ["caught-up", "quorum"]
    );
    seen.peer(NEWYORK).elsewhere = false;
    seen.me = NEWYORK;
    let mut seen = seen.lost(DETROIT, secs(4));
    assert_eq!(refusals(&promotion(&seen.view(), NEWYORK)), ["quorum"]);
    seen.voters = BTreeSet::new();
    assert_eq!(
        refusals(&promotion(&seen.view(), NEWYORK)),
        ["voter", "quorum"]
    );
}

#[test]
fn a_removal_names_what_is_lost() {
    let mut made = three();
    made.sessions = (1..=120)
        .map(|number| session(number, DETROIT, SessionState::Suspended))
        .collect();
    made.sessions
        .push(session(200, BOSTON, SessionState::Active));
    made.sessions
        .push(session(201, DETROIT, SessionState::Ended));
    let seen = Seen::by(BOSTON, &made);
    let mode = Some(ResilienceMode::Availability);
    let plan = removal(&seen.view(), DETROIT, mode);
    assert_eq!((plan.impact.kept, plan.impact.lost.count), (1, 120));
    assert_eq!(plan.impact.lost.sessions.len(), 120);
    let one = session(1, DETROIT, SessionState::Active);
    let many = Affected::from_sessions(std::iter::repeat_n(&one, NAMED_LIMIT + 1));
    assert_eq!(many.count, NAMED_LIMIT as u64 + 1);
    assert_eq!(many.sessions.len(), NAMED_LIMIT);
    made.sessions.retain(|session| session.id.as_bytes()[9] < 3);
    let seen = Seen::by(BOSTON, &made);
    insta::assert_snapshot!(removal(&seen.view(), DETROIT, mode));
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["impact"]["lost"]["count"], 120);
    assert_eq!(json["losses_after"]["voters"], 2);
    assert_eq!(json["refusals"].as_array().unwrap().len(), 0);
    assert_eq!(Affected::default().count, 0);
}

#[test]
fn every_refusal_of_a_removal() {
    let quorum = Some(ResilienceMode::Quorum);
    let of = |seen: &Seen, target| {
        let plan = removal(&seen.view(), target, quorum);
        refusals(&plan)
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let three = three();
    let seen = Seen::by(BOSTON, &three);
    assert_eq!(of(&seen, DETROIT), Vec::<String>::new());
    let unsaid = removal(&seen.view(), DETROIT, None);
    assert_eq!(refusals(&unsaid), ["mode"], "two that need each other");
    assert_eq!(of(&seen, BOSTON), ["not-primary"]);
    assert_eq!(of(&seen, ServerId::from_bytes([77; 16])), ["member"]);
    // The directory still names boston, while newyork leads already.
    let mut seen = Seen::by(NEWYORK, &three);
    seen.leader = Some(NEWYORK);
    assert_eq!(of(&seen, BOSTON), ["not-primary"]);
    assert_eq!(of(&seen, NEWYORK), ["not-primary"]);
    let mut seen = Seen::by(BOSTON, &three).lost(NEWYORK, secs(60));
    assert_eq!(
        of(&seen, NEWYORK),
        Vec::<String>::new(),
        "who is gone for good can be removed"
    );
    assert_eq!(
        of(&seen, DETROIT),
        ["quorum"],
        "boston alone would be one of two"
    );
    seen.leader = None;
    assert_eq!(of(&seen, NEWYORK), ["primary-there"]);
    let alone = made().only(&[BOSTON]);
    let seen = Seen::by(BOSTON, &alone);
    assert_eq!(of(&seen, BOSTON), ["last-server", "not-primary", "quorum"]);
}

#[test]
fn why_a_server_is_not_primary() {
    let mut made = made();
    made.server(DETROIT).voting = false;
    made.group.backups = vec![BOSTON, NEWYORK];
    let mut seen = Seen::by(BOSTON, &made).lost(NEWYORK, secs(3));
    seen.peer(DETROIT).lag = Some(1_204);
    seen.peer(DETROIT).clock_offset_ms = Some(61_000);
    let view = seen.view();
    let told = [BOSTON, NEWYORK, DETROIT, SEATTLE].map(|id| why_not(&view, id).to_string());
    insta::assert_snapshot!(told.join("\n\n"));
    let all = who_is_primary(&view);
    assert_eq!(all.decision, "boston is primary");
    let names: Vec<_> = all
        .candidates
        .iter()
        .map(|candidate| candidate.name.as_str())
        .collect();
    assert_eq!(names, ["boston", "newyork", "detroit", "seattle"]);
    assert_eq!(objections(&all, BOSTON), Vec::<&str>::new());
    assert_eq!(
        objections(&all, DETROIT),
        ["voter", "on-backup-list", "caught-up", "clock"]
    );
    let stranger = ServerId::from_bytes([77; 16]);
    assert!(
        why_not(&view, stranger)
            .decision
            .ends_with("is no member of the group")
    );
}

#[test]
fn pausing_and_resuming() {
    let mut made = three();
    let until = AT.after(secs(7_200));
    let seen = Seen::by(NEWYORK, &made);
    let mut told = vec![
        pause(&seen.view(), until).to_string(),
        resume(&seen.view()).to_string(),
    ];
    made.group.pause = Some(paused("ann", secs(3_600)));
    made.group.primary = Some(NEWYORK);
    let mut seen = Seen::by(NEWYORK, &made);
    seen.leader = Some(NEWYORK);
    told.push(pause(&seen.view(), until).to_string());
    told.push(resume(&seen.view()).to_string());
    seen.calendar = AT.after(secs(3_600));
    assert_eq!(refusals(&resume(&seen.view())), ["paused"]);
    made.settings.push(("resilience.failover", "false"));
    let mut seen = Seen::by(NEWYORK, &made);
    told.push(pause(&seen.view(), until).to_string());
    told.push(resume(&seen.view()).to_string());
    seen.leader = None;
    assert_eq!(refusals(&pause(&seen.view(), until)), ["primary-there"]);
    assert_eq!(refusals(&resume(&seen.view())), ["primary-there"]);
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn why_nobody_is_primary_during_a_pause() {
    let mut made = three();
    made.group.pause = Some(paused("ann", secs(3_600)));
    let mut seen = Seen::by(NEWYORK, &made).lost(BOSTON, secs(3));
    seen.leader = None;
    let decision = |seen: &Seen| who_is_primary(&seen.view()).decision;
    assert_eq!(
        decision(&seen),
        "nobody is primary now; boston was the last; automatic failover is paused by ann until 2027-01-15T09:00:00.000Z: new \
         switches"
    );
    let all = who_is_primary(&seen.view());
    assert_eq!(objections(&all, BOSTON), ["reachable", "caught-up"]);
    assert_eq!(objections(&all, NEWYORK), ["failover"]);
    let why = why_not(&seen.view(), NEWYORK).decision;
    assert_eq!(
        why,
        "newyork is not primary and cannot be: automatic failover is paused by ann until 2027-01-15T09:00:00.000Z: new \
         switches; only boston becomes primary by itself"
    );
    seen.calendar = AT.after(secs(3_600));
    assert_eq!(
        decision(&seen),
        "nobody is primary now; boston was the last"
    );
    seen.calendar = AT;
    seen.leader = Some(BOSTON);
    assert_eq!(
        objections(&who_is_primary(&seen.view()), NEWYORK),
        Vec::<&str>::new()
    );
    made.settings.push(("resilience.failover", "false"));
    let mut seen = Seen::by(NEWYORK, &made).lost(BOSTON, secs(3));
    seen.leader = None;
    assert!(decision(&seen).ends_with("resilience.failover is off"));
}

#[test]
fn decisions_while_there_is_no_primary() {
    let made = made();
    let mut seen = Seen::by(NEWYORK, &made);
    let decision = |seen: &Seen| who_is_primary(&seen.view()).decision;
    seen.leader = None;
    assert_eq!(
        decision(&seen),
        "nobody is primary now; boston was the last"
    );
    seen.leader = Some(NEWYORK);
    assert_eq!(
        decision(&seen),
        "newyork was elected and is about to act as primary"
    );
    seen.leader = Some(SEATTLE);
    assert_eq!(
        decision(&seen),
        "nobody is primary: seattle leads as caretaker, until a backup can"
    );
    let why = why_not(&seen.view(), NEWYORK).decision;
    assert_eq!(
        why,
        "newyork could be primary, and is not because nobody is primary: seattle leads as caretaker, until a backup can"
    );
}

proptest! {
    /// The obvious quorum: more than half, by counting every way to lose servers.
    #[test]
    fn quorums_agree_with_counting(voters in 1..8usize, up in any::<u8>()) {
        let ids: BTreeSet<_> = (0..voters).map(|id| ServerId::from_bytes([u8::try_from(id).unwrap(); 16])).collect();
        let there = |id: ServerId| up & (1 << id.as_bytes()[0]) != 0;
        let count = ids.iter().filter(|id| there(**id)).count();
        prop_assert_eq!(is_quorum(&ids, there), count * 2 > voters);
        prop_assert!(needed(voters) * 2 > voters && (needed(voters) - 1) * 2 <= voters);
        let missing = ids.iter().filter(|id| !there(**id)).map(ToString::to_string).collect();
        let protection = Protection::of(voters, missing, false);
        let lose = usize::try_from(protection.can_lose).unwrap();
        prop_assert_eq!(protection.has_quorum(), count * 2 > voters);
        // As many more can go as leave more than half, and one more cannot.
        if protection.has_quorum() {
            prop_assert!((count - lose) * 2 > voters && (count - lose - 1) * 2 <= voters);
        } else {
            prop_assert_eq!(lose, 0);
        }
    }
}
