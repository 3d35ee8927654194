//! Formations that part and meet, as stories and as a table; both sides of a meeting agree, whatever they are.

use crate::fixture::{ALL, AT, BOSTON, DETROIT, NEWYORK, SEATTLE, made, ms, secs};
use model::settings::PrimaryReturn;
use model::{
    Directory, FormationId, FormationRef, IncarnationId, Left, Record, ResilienceMode, ServerId,
    Side, Standing,
};
use policy::formations::{
    Action, Formations, Look, Meeting, Part, may_follow, meet, own, part, room,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

fn step(id: u8, number: u64, fork_point: u64) -> FormationRef {
    FormationRef {
        id: FormationId::from_bytes([id; 16]),
        number,
        fork_point,
    }
}

const ORIGINAL: u8 = 0xA0;

/// The formation that all begin in.
fn original() -> Vec<FormationRef> {
    vec![step(ORIGINAL, 1, 0)]
}

/// One that goes on from another after a change.
fn after(parent: &[FormationRef], id: u8, fork_point: u64) -> Vec<FormationRef> {
    let mut lineage = vec![step(id, parent[0].number + 1, fork_point)];
    lineage.extend(parent);
    lineage
}

fn side(lineage: Vec<FormationRef>, primary: Option<ServerId>, last_user_change: u64) -> Side {
    Side {
        lineage,
        incarnation: IncarnationId::from_bytes([1; 16]),
        mode: ResilienceMode::Availability,
        primary_return: PrimaryReturn::Accept,
        primary,
        votes_alone: false,
        rank: 0,
        last_user_change,
        log_end: (1, last_user_change),
        held: false,
        left: None,
        gave_way: Vec::new(),
        counts: Vec::new(),
    }
}

fn words(meeting: Meeting) -> (&'static str, String) {
    match meeting {
        Meeting::Strangers => ("strangers", String::new()),
        Meeting::Stays(why) => ("stays", why.detail),
        Meeting::GivesWay(why) => ("gives way", why.detail),
        Meeting::Waits(why) => ("waits", why.detail),
    }
}

#[test]
fn which_formation_stands() {
    let island = after(&original(), 0xB0, 100);
    let mut table = String::new();
    for rule in [
        PrimaryReturn::Accept,
        PrimaryReturn::AcceptSecondary,
        PrimaryReturn::Ignore,
    ] {
        for (before, later) in [(100, 100), (120, 100), (100, 130), (120, 130)] {
            let mut one = side(original(), Some(BOSTON), before);
            let mut other = side(island.clone(), Some(NEWYORK), later);
            one.primary_return = rule;
            other.primary_return = rule;
            let (word, why) = words(meet(&one, &other, false));
            table.push_str(&format!(
                "{rule:?}, original changed {}, island changed {}: the original {word}: {why}\n",
                before > 100,
                later > 100
            ));
        }
    }
    insta::assert_snapshot!(table);
}

/// An administrator decided, or a rule did, while somebody was away who comes back with the one that lost.
#[test]
fn what_gave_way_before_does_not_stand_later() {
    let older = side(original(), Some(BOSTON), 120);
    let lost = after(&original(), 0xB0, 100);
    for rule in [PrimaryReturn::AcceptSecondary, PrimaryReturn::Ignore] {
        let mut older = older.clone();
        let mut back = side(lost.clone(), None, 130);
        (older.primary_return, back.primary_return) = (rule, rule);
        back.votes_alone = true;
        let sides = |older: &Side| BTreeMap::from([(BOSTON, older.clone())]);
        assert_eq!(
            part(&back, &sides(&older)),
            Part::Takes,
            "nothing is decided"
        );
        assert_ne!(words(meet(&back, &older, false)).0, "gives way");
        older.gave_way = vec![lost[0].id];
        assert_eq!(part(&back, &sides(&older)), Part::None);
        assert_eq!(words(meet(&back, &older, true)).0, "gives way");
        assert_eq!(words(meet(&older, &back, true)).0, "stays");
        assert_eq!(room::refusal(&older, &BTreeMap::new(), &back), None);
        // Followers went from one to the other and back: neither was given up.
        back.gave_way = vec![older.lineage[0].id];
        assert_eq!(part(&back, &sides(&older)), Part::Takes);
        assert_ne!(words(meet(&back, &older, false)).0, "gives way");
    }
}

/// Whoever was away with it has whom it removed, and may not tell members of the other that they were.
#[test]
fn what_gave_way_says_nobody_was_removed() {
    let own = side(original(), None, 120);
    let mut there = side(after(&original(), 0xB0, 100), Some(NEWYORK), 130);
    let is_given_up = |there: &Side| {
        let sides = BTreeMap::from([(DETROIT, there.clone())]);
        own::is_given_up(&own, &sides)
    };
    assert!(!is_given_up(&there), "nothing is decided");
    there.gave_way = vec![own.lineage[0].id];
    // Its primary need not be heard: whoever follows it has its directory.
    assert!(is_given_up(&there));
    assert!(!own::is_given_up(
        &there,
        &BTreeMap::from([(BOSTON, own.clone())])
    ));
}

#[test]
fn a_formation_in_which_a_majority_agrees_gives_way_only_to_one_made_by_hand() {
    let mut before = side(original(), None, 120);
    before.mode = ResilienceMode::Quorum;
    let by_hand = side(after(&original(), 0xB0, 100), Some(NEWYORK), 130);
    assert_eq!(words(meet(&before, &by_hand, false)).0, "gives way");
    assert_eq!(words(meet(&by_hand, &before, false)).0, "stays");
    // It acts after all, and went on: somebody has to decide.
    before.primary = Some(BOSTON);
    assert_eq!(words(meet(&before, &by_hand, false)).0, "waits");
    assert_eq!(words(meet(&by_hand, &before, false)).0, "waits");
    before.last_user_change = 100;
    assert_eq!(words(meet(&before, &by_hand, false)).0, "gives way");
}

fn any_lineage() -> impl Strategy<Value = Vec<FormationRef>> {
    let island = after(&original(), 0xB0, 100);
    let other = after(&original(), 0xC0, 110);
    let later = after(&island, 0xD0, 150);
    let stranger = vec![step(0xE0, 1, 0)];
    proptest::sample::select(vec![original(), island, other, later, stranger])
}

prop_compose! {
    fn any_side()(
        lineage in any_lineage(),
        changed in 90..200_u64,
        rank in 0..3_u32,
        quorum in any::<bool>(),
        rule in proptest::sample::select(vec![PrimaryReturn::Accept, PrimaryReturn::AcceptSecondary, PrimaryReturn::Ignore]),
        acts in any::<bool>(),
        gave_way in proptest::collection::vec(any_lineage(), 0..2),
    ) -> Side {
        let mut side = side(lineage, acts.then_some(BOSTON), changed);
        side.rank = rank;
        side.primary_return = rule;
        side.gave_way = gave_way.iter().map(|lineage| lineage[0].id).collect();
        if quorum {
            side.mode = ResilienceMode::Quorum;
        }
        side
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn both_sides_find_the_same_one_to_give_way(one in any_side(), other in any_side(), several: bool) {
        let (here, there) = (words(meet(&one, &other, several)).0, words(meet(&other, &one, several)).0);
        let agreed = [("strangers", "strangers"), ("stays", "gives way"), ("gives way", "stays"), ("waits", "waits")];
        prop_assert!(agreed.contains(&(here, there)), "{here}, {there}");
    }
}

/// Four voters, in this order on the backup list.
fn directory(mode: ResilienceMode) -> Directory {
    let mut made = made();
    made.server(SEATTLE).standing = Standing::Voter;
    made.group.backups = ALL.to_vec();
    made.group.mode = mode;
    made.directory()
}

/// A server's eyes: who answers, and what it says.
struct Eyes {
    directory: Directory,
    me: ServerId,
    own: Side,
    /// When a primary was heard.
    heard: Duration,
    sides: BTreeMap<ServerId, Side>,
    /// Who said that it was removed.
    told: own::Told,
    policy: Formations,
}

impl Eyes {
    fn of(me: ServerId) -> Self {
        Self {
            directory: directory(ResilienceMode::Availability),
            me,
            own: side(original(), None, 100),
            heard: secs(1),
            sides: BTreeMap::new(),
            told: own::Told::default(),
            policy: Formations::default(),
        }
    }

    fn look(&mut self, at_ms: u64) -> Option<Action> {
        let look = Look {
            me: self.me,
            directory: &self.directory,
            calendar: AT,
            own: &self.own,
            acting: self.own.primary == Some(self.me),
            heard: Some(self.heard),
            in_sync: Some(true),
            sides: &self.sides,
            formation: self
                .own
                .formation()
                .map_or(FormationId::from_bytes([0xaa; 16]), |its| its.id),
            ordered: false,
            removed: own::is_removed(&self.directory, &self.told, ms(at_ms)),
        };
        self.policy.handle(&look, ms(at_ms))
    }
}

#[test]
fn a_primary_that_was_heard_between_two_looks_was_heard() {
    let mut newyork = Eyes::of(NEWYORK);
    assert_eq!(newyork.look(2_000), None);
    newyork.heard = secs(9);
    assert_eq!(newyork.look(11_000), None, "two seconds ago");
    assert_eq!(newyork.look(18_999), None);
    assert!(matches!(newyork.look(19_000), Some(Action::Make { .. })));
}

#[test]
fn a_side_without_its_primary_goes_on_by_its_highest_backup() {
    // The backup list is boston, newyork, detroit, seattle; boston is lost.
    let mut detroit = Eyes::of(DETROIT);
    detroit.sides = BTreeMap::from([(SEATTLE, side(original(), None, 100))]);
    assert_eq!(detroit.look(10_999), None);
    let Some(Action::Make { candidates, lost }) = detroit.look(11_000) else {
        panic!("ten seconds without a primary");
    };
    assert_eq!(lost, Some(BOSTON));
    let told: Vec<String> = candidates
        .iter()
        .flat_map(|(_, reasons)| reasons.iter().map(|reason| reason.detail.clone()))
        .collect();
    insta::assert_snapshot!(told.join("\n"));
    let mut seattle = Eyes::of(SEATTLE);
    seattle.sides = BTreeMap::from([(DETROIT, side(original(), None, 100))]);
    assert_eq!(seattle.look(15_999), None, "detroit comes first");
    seattle.sides = BTreeMap::from([(
        DETROIT,
        side(after(&original(), 0xB0, 100), Some(DETROIT), 100),
    )]);
    let Some(Action::Enter {
        primary, gives_way, ..
    }) = seattle.look(16_000)
    else {
        panic!("detroit has made a formation");
    };
    assert_eq!((primary, gives_way), (DETROIT, false));
}

#[test]
fn nobody_goes_on_alone_who_need_not_or_may_not() {
    let mut eyes = Eyes::of(NEWYORK);
    // Somebody on this side hears the primary.
    eyes.sides = BTreeMap::from([(SEATTLE, side(original(), Some(BOSTON), 100))]);
    assert_eq!(eyes.look(60_000), None);
    eyes.sides.clear();
    eyes.directory = directory(ResilienceMode::Quorum);
    assert_eq!(eyes.look(61_100), None);
    eyes.directory = directory(ResilienceMode::Availability);
    assert!(matches!(eyes.look(62_200), Some(Action::Make { .. })));
    // One before it is there, may not, and says so.
    let mut eyes = Eyes::of(DETROIT);
    let mut held = side(original(), None, 100);
    held.held = true;
    eyes.sides = BTreeMap::from([(NEWYORK, held.clone())]);
    assert!(matches!(eyes.look(11_000), Some(Action::Make { .. })));
    // Whoever comes first and does nothing is waited for, but not for ever.
    held.held = false;
    let mut eyes = Eyes::of(DETROIT);
    eyes.sides = BTreeMap::from([(NEWYORK, held)]);
    assert_eq!(eyes.look(15_999), None);
    assert!(matches!(eyes.look(16_000), Some(Action::Make { .. })));
}

/// Whose primary has given way while it was away; nobody goes on alone where a majority must agree.
#[test]
fn with_an_empty_list_it_follows_where_a_majority_must_agree() {
    let mut newyork = Eyes::of(NEWYORK);
    let mut made = made();
    made.group.backups = Vec::new();
    made.group.mode = ResilienceMode::Quorum;
    newyork.directory = made.directory();
    newyork.own.mode = ResilienceMode::Quorum;
    let made_of_it = side(after(&original(), 0xB0, 100), Some(DETROIT), 100);
    newyork.sides = BTreeMap::from([(DETROIT, made_of_it)]);
    assert_eq!(newyork.look(1_000), None);
    let Some(Action::Enter { primary, .. }) = newyork.look(20_000) else {
        panic!("detroit's formation goes on from its own");
    };
    assert_eq!(primary, DETROIT);
}

/// It leaves consensus first, so its own directory never says that it was removed: only those that refuse it do.
#[test]
fn who_was_removed_does_not_take_that_for_a_lost_primary() {
    let mut newyork = Eyes::of(NEWYORK);
    newyork.told.removed_by.insert(DETROIT, secs(5));
    assert_eq!(newyork.look(60_000), None);
    // It is a member after all: others take it for one, and whoever said so is gone.
    newyork.told.answered = Some(secs(7));
    newyork.heard = secs(60);
    assert_eq!(newyork.look(61_000), None);
    assert!(matches!(newyork.look(71_000), Some(Action::Make { .. })));
    // As long as it is said, it holds.
    newyork.told.answered = Some(secs(80));
    newyork.told.removed_by.insert(DETROIT, secs(79));
    assert_eq!(newyork.look(81_000), None);
    // Whom it has removed itself has nothing to say.
    let mut newyork = Eyes::of(NEWYORK);
    let stranger = ServerId::from_bytes([9; 16]);
    newyork.told.removed_by.insert(stranger, secs(1));
    assert_eq!(newyork.look(2_000), None);
    assert!(matches!(newyork.look(11_000), Some(Action::Make { .. })));
}

/// Those that stay behind would refuse its primary, and that would take it for its removal.
#[test]
fn no_formation_gives_way_to_whom_it_has_removed() {
    let three = made().only(&[BOSTON, DETROIT, SEATTLE]);
    let mut there = side(after(&original(), 0xB0, 100), Some(NEWYORK), 130);
    there.primary_return = PrimaryReturn::AcceptSecondary;
    for (me, primary, at_ms) in [(BOSTON, Some(BOSTON), 2_000), (DETROIT, None, 9_000)] {
        let mut eyes = Eyes::of(me);
        eyes.own.primary = primary;
        eyes.own.primary_return = PrimaryReturn::AcceptSecondary;
        eyes.sides = BTreeMap::from([(NEWYORK, there.clone())]);
        eyes.directory = three.directory();
        assert_eq!(eyes.look(1_000), None);
        assert_eq!(eyes.look(at_ms), None, "{me} has removed it");
        eyes.directory = directory(ResilienceMode::Availability);
        let action = eyes.look(at_ms);
        assert!(matches!(action, Some(Action::Enter { .. })), "{action:?}");
    }
}

/// Not even if an administrator wants it: nobody there could follow, and those that followed it come by themselves.
#[test]
fn nobody_goes_to_whom_his_formation_has_removed() {
    let three = made().only(&[BOSTON, DETROIT, SEATTLE]).directory();
    let removed = Record::Removed(NEWYORK, AT);
    let records = three.records().chain([removed]);
    let three = Directory::from_records(records).expect("a directory");
    assert_eq!(room::stranger(&three, DETROIT), None);
    let why = room::stranger(&three, NEWYORK).expect("it was removed");
    assert!(
        why.detail.contains("kept as a divergence"),
        "{}",
        why.detail
    );
}

#[test]
fn a_leader_that_says_itself_that_it_does_not_act_is_no_primary() {
    let own = side(original(), Some(NEWYORK), 100);
    let mut sides = BTreeMap::new();
    assert_eq!(own::primary(DETROIT, &own, &sides), Some(NEWYORK));
    sides.insert(NEWYORK, side(original(), Some(NEWYORK), 100));
    assert_eq!(own::primary(DETROIT, &own, &sides), Some(NEWYORK));
    sides.insert(NEWYORK, side(original(), None, 100));
    assert_eq!(own::primary(DETROIT, &own, &sides), None);
    assert_eq!(own::primary(NEWYORK, &own, &sides), Some(NEWYORK));
}

#[test]
fn who_slept_while_others_went_on_is_silent_unless_its_formation_stands() {
    let mut own = side(original(), None, 100);
    let newer = side(after(&original(), 0xB0, 100), Some(NEWYORK), 150);
    let sides = BTreeMap::from([(NEWYORK, newer)]);
    assert_eq!(part(&own, &BTreeMap::new()), Part::Takes);
    assert_eq!(part(&own, &sides), Part::None);
    // The old primary, with nothing of its own.
    own.votes_alone = true;
    assert_eq!(part(&own, &sides), Part::None);
    // It changed something while it was alone, and is the original: once it has been healthy for a while.
    own.last_user_change = 120;
    assert_eq!(part(&own, &sides), Part::Later);
    // An administrator decides: it is as primary as the other.
    own.primary_return = PrimaryReturn::Ignore;
    assert_eq!(part(&own, &sides), Part::Takes);
}

#[test]
fn with_an_empty_list_islands_stand_alone_until_the_primary_or_one_that_was_promoted_is_there() {
    let alone = |id, primary, rank| {
        let mut side = side(after(&original(), id, 100), Some(primary), 100);
        side.rank = rank;
        side
    };
    let (one, other) = (
        alone(0xB0, NEWYORK, u32::MAX),
        alone(0xC0, DETROIT, u32::MAX),
    );
    assert_eq!(meet(&one, &other, false), Meeting::Strangers);
    assert_eq!(meet(&other, &one, false), Meeting::Strangers);
    let mut primary = side(original(), Some(BOSTON), 100);
    primary.rank = u32::MAX;
    assert_eq!(words(meet(&one, &primary, true)).0, "gives way");
    let promoted = alone(0xC0, DETROIT, 0);
    assert_eq!(words(meet(&one, &promoted, false)).0, "gives way");
}

#[test]
fn a_primary_that_comes_back_with_nothing_new_catches_up_where_nobody_changed_anything() {
    let own = side(original(), None, 100);
    let island = side(after(&original(), 0xB0, 100), Some(NEWYORK), 100);
    let (word, why) = words(meet(&own, &island, false));
    assert_eq!(word, "gives way", "{why}");
    assert_eq!(words(meet(&island, &own, false)).0, "stays");
    // While it still acts, the original stands.
    let acts = side(original(), Some(BOSTON), 100);
    assert_eq!(words(meet(&acts, &island, false)).0, "stays");
}

#[test]
fn one_that_stayed_silent_takes_part_when_its_formation_acts_again() {
    let own = side(original(), None, 100);
    let island = side(after(&original(), 0xB0, 100), Some(NEWYORK), 150);
    let mut sides = BTreeMap::from([(NEWYORK, island)]);
    assert!(!may_follow(&own, &sides));
    // Nobody answers: the island may still be there.
    assert!(!may_follow(&own, &BTreeMap::new()));
    sides.insert(BOSTON, side(original(), Some(BOSTON), 160));
    assert!(!may_follow(&own, &sides), "both act");
    sides.insert(NEWYORK, side(original(), Some(BOSTON), 160));
    assert!(may_follow(&own, &sides));
}

#[test]
fn nothing_has_come_of_the_formation_that_was_entered_and_it_gave_way() {
    let mut detroit = Eyes::of(DETROIT);
    detroit.own = side(Vec::new(), None, 100);
    detroit.sides = BTreeMap::from([(BOSTON, side(original(), Some(BOSTON), 100))]);
    assert_eq!(detroit.look(0), None);
    assert_eq!(detroit.look(4_999), None, "it may come yet");
    let Some(Action::Enter { primary, .. }) = detroit.look(5_000) else {
        panic!("it goes to the one that stands");
    };
    assert_eq!(primary, BOSTON);
}

/// The island works on all the time, and it does not matter for how long: the old primary has nothing of its own.
#[test]
fn a_primary_that_was_away_for_an_hour_and_changed_nothing_catches_up() {
    let mut newyork = Eyes::of(NEWYORK);
    newyork.sides = BTreeMap::from([(DETROIT, side(original(), None, 100))]);
    assert_eq!(newyork.look(10_999), None);
    assert!(matches!(newyork.look(11_000), Some(Action::Make { .. })));
    let mut island = side(after(&original(), 0xB0, 100), Some(NEWYORK), 100);
    for second in 12..3_612 {
        island.last_user_change += 1;
        newyork.own = island.clone();
        newyork.sides = BTreeMap::from([(DETROIT, island.clone())]);
        assert_eq!(newyork.look(second * 1_000), None);
    }
    let mut boston = Eyes::of(BOSTON);
    boston.own.votes_alone = true;
    boston.sides = BTreeMap::from([(NEWYORK, island)]);
    assert_eq!(part(&boston.own, &boston.sides), Part::None);
    newyork.sides.insert(BOSTON, boston.own.clone());
    assert_eq!(newyork.look(3_612_000), None, "it stays");
    let Some(Action::Enter {
        primary, reasons, ..
    }) = boston.look(3_612_000)
    else {
        panic!("it catches up");
    };
    assert_eq!(primary, NEWYORK);
    let why = &reasons[0].detail;
    assert!(
        why.starts_with("nothing was changed in formation 1"),
        "{why}"
    );
}

/// It left the original for an island, of which nothing has come.
fn on_its_way(me: ServerId) -> Eyes {
    let mut eyes = Eyes::of(me);
    eyes.own = side(Vec::new(), None, 100);
    eyes.own.left = Some(Left {
        formation: step(ORIGINAL, 1, 0),
        agreed: (3, 100),
    });
    eyes
}

#[test]
fn nothing_comes_of_the_formation_that_was_entered_and_nobody_acts() {
    let mut detroit = on_its_way(DETROIT);
    assert_eq!(detroit.look(1_000), None);
    assert_eq!(detroit.look(10_999), None, "its primary may come back");
    let Some(Action::GoBack {
        formation,
        lost,
        reasons,
    }) = detroit.look(11_000)
    else {
        panic!("it goes back to what it has");
    };
    assert_eq!((formation, lost), (step(ORIGINAL, 1, 0), Some(BOSTON)));
    assert!(
        reasons
            .iter()
            .any(|reason| reason.detail.contains("10.0 s"))
    );
}

#[test]
fn whoever_has_received_the_formation_goes_on_from_there_first() {
    let mut detroit = on_its_way(DETROIT);
    let entered = vec![step(0xaa, 2, 90), step(ORIGINAL, 1, 0)];
    detroit.sides = BTreeMap::from([(NEWYORK, side(entered.clone(), None, 100))]);
    assert_eq!(detroit.look(1_000), None);
    assert_eq!(detroit.look(15_999), None, "newyork could go on from it");
    assert!(matches!(detroit.look(16_000), Some(Action::GoBack { .. })));
    // One that hears its primary is the way to it.
    detroit.sides = BTreeMap::from([(NEWYORK, side(entered, Some(BOSTON), 100))]);
    assert_eq!(detroit.look(60_000), None);
    // Another formation acts: it goes there.
    let stands = side(original(), Some(BOSTON), 100);
    detroit.sides = BTreeMap::from([(BOSTON, stands)]);
    assert!(matches!(detroit.look(61_000), Some(Action::Enter { .. })));
}

#[test]
fn nobody_goes_back_by_itself_where_it_might_not_go_on_alone() {
    let mut made = made();
    made.group.mode = ResilienceMode::Quorum;
    let mut detroit = on_its_way(DETROIT);
    detroit.directory = made.directory();
    assert_eq!((detroit.look(0), detroit.look(60_000)), (None, None));
    made.group.mode = ResilienceMode::Availability;
    made.settings = vec![("resilience.failover", "false")];
    let mut detroit = on_its_way(DETROIT);
    detroit.directory = made.directory();
    assert_eq!((detroit.look(0), detroit.look(60_000)), (None, None));
    made.settings = Vec::new();
    detroit.directory = made.directory();
    assert!(matches!(detroit.look(60_001), Some(Action::GoBack { .. })));
}

#[test]
fn what_came_in_part_is_all_there_is_when_its_primary_is_lost() {
    let mut detroit = on_its_way(DETROIT);
    detroit.own.left = None;
    assert_eq!(detroit.look(1_000), None);
    assert_eq!(detroit.look(5_999), None);
    assert_eq!(detroit.look(6_000), Some(Action::GoOn));
}

#[test]
fn with_an_empty_list_every_server_goes_on_alone_and_stays() {
    let mut made = made();
    made.group.backups = Vec::new();
    made.group.mode = ResilienceMode::Availability;
    let mut detroit = Eyes::of(DETROIT);
    detroit.directory = made.directory();
    let mut island = side(after(&original(), 0xB0, 100), Some(NEWYORK), 150);
    island.rank = u32::MAX;
    detroit.sides = BTreeMap::from([(NEWYORK, island.clone())]);
    assert_eq!(detroit.look(10_999), None);
    let made = detroit.look(11_000);
    assert!(matches!(made, Some(Action::Make { .. })), "{made:?}");
    let mut own = side(after(&original(), 0xC0, 100), Some(DETROIT), 100);
    own.rank = u32::MAX;
    assert_eq!(meet(&own, &island, false), Meeting::Strangers);
}

/// It cannot go on alone, and the list may have been empty only when it last heard of it.
#[test]
fn whoever_may_not_lead_goes_along_with_an_empty_list_too() {
    let mut made = made();
    made.group.backups = Vec::new();
    made.group.mode = ResilienceMode::Availability;
    made.server(SEATTLE).standing = Standing::NonVoter;
    made.server(SEATTLE).voting = false;
    let mut seattle = Eyes::of(SEATTLE);
    seattle.directory = made.directory();
    let island = side(after(&original(), 0xB0, 100), Some(NEWYORK), 150);
    seattle.sides = BTreeMap::from([(NEWYORK, island)]);
    let goes = seattle.look(11_000);
    assert!(
        matches!(
            goes,
            Some(Action::Enter {
                primary: NEWYORK,
                ..
            })
        ),
        "{goes:?}"
    );
}

/// Three that act, and a rule that knows no answer for three: each primary says of each other one that it waits, once; the members
/// of each know it too.
#[test]
fn of_each_that_waits_for_an_administrator_is_said_once() {
    let acts = |letter, primary| {
        let mut side = side(after(&original(), letter, 100), Some(primary), 150);
        side.primary_return = PrimaryReturn::AcceptSecondary;
        side
    };
    let others = BTreeMap::from([
        (DETROIT, acts(0xC0, DETROIT)),
        (SEATTLE, acts(0xD0, SEATTLE)),
    ]);
    for (me, tells) in [(NEWYORK, true), (BOSTON, false)] {
        let mut eyes = Eyes::of(me);
        eyes.own = acts(0xB0, NEWYORK);
        eyes.sides = others.clone();
        let mut told = Vec::new();
        for at in 0..20 {
            match eyes.look(at * 1_000) {
                Some(Action::Wait { formation, .. }) => told.push(formation),
                None => {}
                other => panic!("{other:?}"),
            }
        }
        let waiting: Vec<FormationRef> = eyes.policy.waiting().collect();
        assert_eq!(waiting, [step(0xC0, 2, 100), step(0xD0, 2, 100)]);
        assert_eq!(told, if tells { waiting } else { Vec::new() });
        // One is gone: of two the rule knows which one stands.
        eyes.sides.remove(&SEATTLE);
        eyes.look(30_000);
        assert_eq!(eyes.policy.waiting().count(), 0);
    }
}

#[test]
fn sides_that_stay_silent_do_not_keep_others_from_becoming_one() {
    let island = |letter, primary, rank| {
        let mut side = side(after(&original(), letter, 100), primary, 150);
        side.primary_return = PrimaryReturn::AcceptSecondary;
        side.rank = rank;
        side
    };
    let own = island(0xB0, Some(NEWYORK), 1);
    let (coming, third) = (island(0xC0, None, 2), island(0xD0, Some(SEATTLE), 3));
    let mut silent = third.clone();
    silent.primary = None;
    let refusal = |third| room::refusal(&own, &BTreeMap::from([(SEATTLE, third)]), &coming);
    assert_eq!(refusal(silent), None);
    assert!(
        refusal(third).is_some(),
        "an administrator decides of three"
    );
}
