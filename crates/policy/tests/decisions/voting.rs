//! Who counts, step by step: stories of joining, leaving and a lost log, and invariants under random failures.

use crate::fixture::{ALL, BOSTON, DETROIT, NEWYORK, SEATTLE, made, ms, name_of, secs};
use model::{IncarnationId, ResilienceMode, ServerId, Standing};
use policy::voting::{Facts, Member, Membership, Next, Progress, Step, UNFINISHED, Voting};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const FIRST: IncarnationId = IncarnationId::from_bytes([1; 16]);
const SECOND: IncarnationId = IncarnationId::from_bytes([2; 16]);

fn member(id: ServerId, standing: Standing, voting: bool) -> Member {
    Member {
        name: name_of(id).to_owned(),
        standing,
        voting,
        started: true,
        incarnation: FIRST,
    }
}

fn well() -> Progress {
    Progress {
        healthy: true,
        lag: Some(0),
        incarnation: Some(FIRST),
    }
}

/// Boston alone, with the others as they have just joined: nothing in consensus yet.
fn just_joined() -> Facts {
    let mut members: BTreeMap<_, _> = ALL
        .iter()
        .map(|id| (*id, member(*id, Standing::Voter, *id == BOSTON)))
        .collect();
    members.get_mut(&SEATTLE).unwrap().standing = Standing::NonVoter;
    Facts {
        me: BOSTON,
        members,
        consensus: Membership {
            voters: BTreeSet::from([BOSTON]),
            ..Membership::default()
        },
        progress: [NEWYORK, DETROIT, SEATTLE].map(|id| (id, well())).into(),
        leaving: None,
        mode: ResilienceMode::Quorum,
        caretaker: false,
    }
}

/// Boston, newyork and detroit count, seattle replicates.
fn settled() -> Facts {
    let mut facts = just_joined();
    for id in [NEWYORK, DETROIT] {
        facts.members.get_mut(&id).unwrap().voting = true;
        facts.consensus.voters.insert(id);
    }
    facts.consensus.learners.insert(SEATTLE);
    facts
}

/// Carries a step out.
fn done(facts: &mut Facts, step: &Step) {
    let consensus = &mut facts.consensus;
    match step {
        Step::AddLearner(id) => assert!(consensus.learners.insert(*id)),
        Step::RemoveMember(id) => assert!(
            consensus.learners.remove(id),
            "{} is no learner",
            name_of(*id)
        ),
        Step::SetVoters(voters) => {
            let changed: Vec<_> = voters
                .symmetric_difference(&consensus.voters)
                .copied()
                .collect();
            assert_eq!(changed.len(), 1, "one voter at a time");
            for id in &changed {
                if !consensus.learners.remove(id) {
                    consensus.learners.insert(*id);
                }
            }
            consensus.voters.clone_from(voters);
        }
        Step::RecordVoting { server, voting } => {
            facts.members.get_mut(server).unwrap().voting = *voting
        }
    }
}

fn words(step: &Step) -> String {
    let name = |id: &ServerId| name_of(*id).to_owned();
    match step {
        Step::AddLearner(id) => format!("let {} replicate", name(id)),
        Step::RemoveMember(id) => format!("{} takes no part any more", name(id)),
        Step::SetVoters(voters) => format!(
            "voters: {}",
            voters.iter().map(name).collect::<Vec<_>>().join(", ")
        ),
        Step::RecordVoting { server, voting } => {
            format!("record that {} counts: {voting}", name(server))
        }
    }
}

/// Follows the steps until nothing is left or `until`, waking up when asked to.
fn story(
    facts: &mut Facts,
    voting: &mut Voting,
    mut now: Duration,
    until: Duration,
) -> (String, Next) {
    let mut told = String::new();
    loop {
        let next = voting.handle(facts, now);
        for (_, why) in &next.reasons {
            let what = next.step.as_ref().map_or_else(|| "wait".to_owned(), words);
            told.push_str(&format!(
                "{:>6} ms  {what}: {}\n",
                now.as_millis(),
                why.detail
            ));
        }
        match (&next.step, voting.poll_timeout()) {
            (Some(step), _) => done(facts, step),
            (None, Some(wake)) if wake <= until => {
                assert!(wake > now, "it wakes up for nothing");
                now = wake;
            }
            (None, _) => return (told, next),
        }
    }
}

#[test]
fn three_servers_become_voters() {
    let mut facts = just_joined();
    let (told, next) = story(&mut facts, &mut Voting::new(), ms(1_000), secs(60));
    assert_eq!(
        next,
        Next {
            step: None,
            reasons: Vec::new()
        }
    );
    assert_eq!(facts.consensus, settled().consensus);
    assert_eq!(facts.members, settled().members);
    insta::assert_snapshot!(told);
}

#[test]
fn a_member_leaves() {
    let mut facts = settled();
    facts.leaving = Some(DETROIT);
    assert!(!Voting::is_gone(&facts, DETROIT));
    let (told, _) = story(&mut facts, &mut Voting::new(), ms(0), secs(60));
    assert!(Voting::is_gone(&facts, DETROIT));
    // Its record goes last; nothing is left to do then.
    facts.members.remove(&DETROIT);
    facts.leaving = None;
    assert_eq!(Voting::new().handle(&facts, ms(0)).step, None);
    insta::assert_snapshot!(told);
}

#[test]
fn a_removal_that_stopped_half_way_is_undone() {
    let mut facts = settled();
    facts.leaving = Some(DETROIT);
    let step = Voting::new().handle(&facts, ms(0)).step.unwrap();
    done(&mut facts, &step);
    facts.leaving = None;
    let (told, _) = story(&mut facts, &mut Voting::new(), ms(0), secs(60));
    assert_eq!(facts.consensus, settled().consensus);
    insta::assert_snapshot!(told);
}

#[test]
fn a_voter_that_lost_its_log_begins_anew() {
    let mut facts = settled();
    let mut voting = Voting::new();
    voting.handle(&facts, ms(0));
    facts.progress.insert(
        DETROIT,
        Progress {
            healthy: true,
            lag: Some(1_204),
            incarnation: Some(SECOND),
        },
    );
    let (mut told, _) = story(&mut facts, &mut voting, secs(20), secs(60));
    assert!(facts.consensus.learners.contains(&DETROIT));
    told.push_str("           detroit reports its new log, and catches up\n");
    facts.members.get_mut(&DETROIT).unwrap().incarnation = SECOND;
    let (waits, _) = story(&mut facts, &mut voting, secs(21), secs(60));
    told.push_str(&waits);
    facts.progress.insert(
        DETROIT,
        Progress {
            lag: Some(12),
            incarnation: Some(SECOND),
            ..well()
        },
    );
    told.push_str(&story(&mut facts, &mut voting, secs(22), secs(60)).0);
    assert_eq!(facts.consensus, settled().consensus);
    insta::assert_snapshot!(told);
}

#[test]
fn the_directory_says_first_that_a_lost_log_does_not_count() {
    // As the report of the server itself leaves it, before consensus follows.
    let mut facts = settled();
    facts.members.get_mut(&DETROIT).unwrap().voting = false;
    facts.members.get_mut(&DETROIT).unwrap().incarnation = SECOND;
    facts.progress.insert(
        DETROIT,
        Progress {
            incarnation: Some(SECOND),
            ..well()
        },
    );
    let step = Voting::new().handle(&facts, ms(0)).step;
    assert_eq!(
        step,
        Some(Step::SetVoters(BTreeSet::from([BOSTON, NEWYORK])))
    );
}

#[test]
fn health_must_last_without_a_gap() {
    let mut facts = just_joined();
    facts.members.retain(|id, _| [BOSTON, NEWYORK].contains(id));
    facts.consensus.learners.insert(NEWYORK);
    let mut voting = Voting::new();
    let waits = |next: Next, rule: &str| {
        assert_eq!(next.step, None);
        assert_eq!(next.reasons[0].1.rule, rule, "{}", next.reasons[0].1.detail);
    };
    waits(voting.handle(&facts, ms(0)), "healthy");
    for (at, gap, rule) in [
        (
            9_000,
            Progress {
                lag: Some(65),
                ..well()
            },
            "caught-up",
        ),
        (
            18_000,
            Progress {
                healthy: false,
                ..well()
            },
            "reachable",
        ),
        (
            27_000,
            Progress {
                lag: None,
                ..well()
            },
            "caught-up",
        ),
    ] {
        facts.progress.insert(NEWYORK, gap);
        waits(voting.handle(&facts, ms(at)), rule);
        facts.progress.insert(
            NEWYORK,
            Progress {
                lag: Some(64),
                ..well()
            },
        );
        waits(voting.handle(&facts, ms(at + 1)), "healthy");
        waits(voting.handle(&facts, ms(at + 10_000)), "healthy");
    }
    assert!(voting.handle(&facts, ms(37_001)).step.is_some());
}

#[test]
fn no_step_that_a_quorum_could_not_confirm() {
    // Detroit leaves while newyork is away: two of three and then two of two would have to confirm.
    let mut facts = settled();
    facts.leaving = Some(DETROIT);
    facts.progress.insert(NEWYORK, Progress::default());
    let next = Voting::new().handle(&facts, ms(0));
    assert_eq!(next.step, None);
    assert_eq!(
        next.reasons[0].1.detail,
        "2 of the 2 new voters must answer, and newyork would be missing"
    );
    // A member that is away itself can go: the others are a quorum before and after.
    facts.leaving = Some(NEWYORK);
    let next = Voting::new().handle(&facts, ms(0));
    assert_eq!(
        next.step,
        Some(Step::SetVoters(BTreeSet::from([BOSTON, DETROIT])))
    );
    facts.consensus.changing = true;
    let mut voting = Voting::new();
    assert_eq!(voting.handle(&facts, ms(0)).step, None);
    assert!(!Voting::is_gone(&facts, NEWYORK));
    // A primary before this one fell in the middle of it.
    assert_eq!(voting.poll_timeout(), Some(UNFINISHED));
    let all = facts.consensus.voters.clone();
    let next = voting.handle(&facts, UNFINISHED);
    assert_eq!(next.step, Some(Step::SetVoters(all)));
}

/// A primary that fell while the mode changed leaves it to whoever leads next, who may be a witness.
#[test]
fn who_only_passes_the_role_on_does_not_come_to_count_alone() {
    let mut facts = settled();
    facts.mode = ResilienceMode::Availability;
    facts.members.get_mut(&BOSTON).unwrap().standing = Standing::Witness;
    facts.members.get_mut(&NEWYORK).unwrap().standing = Standing::Witness;
    facts.caretaker = true;
    let next = Voting::new().handle(&facts, ms(0));
    let voters = BTreeSet::from([BOSTON, DETROIT]);
    assert_eq!(next.step, Some(Step::SetVoters(voters.clone())));
    facts.consensus.voters = voters;
    facts.consensus.learners.insert(NEWYORK);
    let next = Voting::new().handle(&facts, ms(0));
    assert_eq!(next.step, None, "detroit is to take the role");
}

#[test]
fn members_come_from_the_directory() {
    let members = Facts::members_of(&made().directory());
    assert_eq!(members.len(), 4);
    assert_eq!(members[&SEATTLE].standing, Standing::Witness);
    assert_eq!(members[&NEWYORK], member(NEWYORK, Standing::Voter, true));
}

#[derive(Debug, Clone, Copy)]
enum Happens {
    Away(usize),
    Back(usize),
    LosesLog(usize),
    Reports(usize),
    Leaves(usize),
    LeavesNot,
    Gone,
    NewPrimary(usize),
    Step,
    Wait(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        2 => (0..4usize).prop_map(Happens::Away),
        3 => (0..4usize).prop_map(Happens::Back),
        1 => (0..4usize).prop_map(Happens::LosesLog),
        2 => (0..4usize).prop_map(Happens::Reports),
        1 => (0..4usize).prop_map(Happens::Leaves),
        1 => Just(Happens::LeavesNot),
        1 => Just(Happens::Gone),
        1 => (0..4usize).prop_map(Happens::NewPrimary),
        6 => Just(Happens::Step),
        4 => (100..12_000u64).prop_map(Happens::Wait),
    ]
}

/// What the model does when a server reports another log than before.
fn report(facts: &mut Facts, id: ServerId) {
    let (me, seen) = (
        facts.me,
        facts.progress.get(&id).copied().unwrap_or_default(),
    );
    if let (Some(member), Some(seen)) = (
        facts.members.get_mut(&id).filter(|_| id != me),
        seen.incarnation,
    ) && member.incarnation != seen
    {
        member.incarnation = seen;
        member.voting = false;
    }
}

/// Every step keeps a quorum that answers before and after it, and nobody becomes a voter who is not well.
fn check(facts: &Facts, step: &Step) {
    let Step::SetVoters(after) = step else { return };
    let healthy = |id: &ServerId| facts.progress.get(id).is_some_and(|known| known.healthy);
    for voters in [&facts.consensus.voters, after] {
        let answering = voters.iter().filter(|id| **id == facts.me || healthy(id));
        assert!(answering.count() * 2 > voters.len(), "{facts:?}");
    }
    assert!(after.contains(&facts.me));
    for id in after.difference(&facts.consensus.voters) {
        let (member, known) = (&facts.members[id], facts.progress[id]);
        assert!(
            member.voting && known.healthy && known.lag <= Some(64),
            "{facts:?}"
        );
        assert_eq!(known.incarnation, Some(member.incarnation));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever fails in the middle: every step keeps a quorum that answers before and after, and nobody becomes a voter who
    /// was not well. When all is well again, consensus is what the directory asks for.
    #[test]
    fn it_ends_as_the_directory_says(events in prop::collection::vec(happens(), 1..60)) {
        let (mut facts, mut voting, mut now) = (settled(), Voting::new(), ms(0));
        for event in events {
            match event {
                Happens::Away(one) => {
                    facts.progress.entry(ALL[one]).or_default().healthy = false;
                }
                Happens::Back(one) => {
                    let known = facts.progress.entry(ALL[one]).or_default();
                    *known = Progress { incarnation: known.incarnation.or(Some(FIRST)), ..well() };
                }
                Happens::LosesLog(one) if ALL[one] != facts.me => {
                    let next = facts.progress.get(&ALL[one]).and_then(|known| known.incarnation).unwrap_or(FIRST);
                    let next = IncarnationId::from_bytes([next.as_bytes()[0].wrapping_add(1); 16]);
                    facts.progress.insert(ALL[one], Progress { healthy: true, lag: Some(9_000), incarnation: Some(next) });
                }
                Happens::Reports(one) => report(&mut facts, ALL[one]),
                Happens::Leaves(one) if ALL[one] != facts.me => facts.leaving = Some(ALL[one]),
                Happens::LeavesNot => facts.leaving = None,
                Happens::Gone => {
                    if let Some(leaving) = facts.leaving.filter(|id| Voting::is_gone(&facts, *id)) {
                        facts.members.remove(&leaving);
                        facts.leaving = None;
                    }
                }
                Happens::NewPrimary(one) => {
                    let fit = facts.consensus.voters.contains(&ALL[one])
                        && facts.members.get(&ALL[one]).is_some_and(|member| member.voting);
                    let same_log = facts.progress.get(&ALL[one]).is_none_or(|known| {
                        facts.members.get(&ALL[one]).is_some_and(|member| known.incarnation == Some(member.incarnation))
                    });
                    if fit && same_log {
                        facts.progress.insert(facts.me, well());
                        facts.me = ALL[one];
                        facts.leaving = None;
                        voting = Voting::new();
                    }
                }
                Happens::Wait(span) => now += ms(span),
                _ => {}
            }
            let next = voting.handle(&facts, now);
            let Some(step) = next.step.filter(|_| matches!(event, Happens::Step)) else { continue };
            check(&facts, &step);
            done(&mut facts, &step);
        }
        facts.leaving = None;
        for id in ALL {
            report(&mut facts, id);
            let known = facts.progress.entry(id).or_default();
            *known = Progress { incarnation: known.incarnation.or(Some(FIRST)), ..well() };
            report(&mut facts, id);
        }
        let (told, next) = story(&mut facts, &mut voting, now, now + secs(120));
        prop_assert_eq!(next.reasons.len(), 0, "{}", told);
        let wanted: BTreeSet<_> = facts.members.iter().filter(|(_, m)| m.standing.votes()).map(|(id, _)| *id).collect();
        let all: BTreeSet<_> = facts.consensus.voters.union(&facts.consensus.learners).copied().collect();
        prop_assert_eq!(&facts.consensus.voters, &wanted, "{}", told);
        prop_assert_eq!(all, facts.members.keys().copied().collect::<BTreeSet<_>>());
        prop_assert!(facts.members.iter().all(|(id, m)| m.voting == wanted.contains(id)));
    }
}
