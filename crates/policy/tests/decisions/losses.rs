//! What a group can lose where not everybody takes the place of everybody: during a pause, with failover off, with a short list.

use crate::fixture::{ALL, AT, BOSTON, DETROIT, Made, NEWYORK, SEATTLE, Seen, made, paused, secs};
use model::{ResilienceMode, ServerId};
use policy::losses::{needed, protection};
use policy::promotion::{promotion, temporary_promotion};
use proptest::prelude::*;

/// Boston, newyork and detroit, without the witness, in this mode.
fn three(mode: ResilienceMode) -> Made {
    let mut made = made().only(&[BOSTON, NEWYORK, DETROIT]);
    made.group.mode = mode;
    made
}

const MODES: [ResilienceMode; 2] = [ResilienceMode::Quorum, ResilienceMode::Availability];

fn told(what: &str, seen: &Seen) -> String {
    let protection = protection(&seen.view());
    let mode = seen.directory.group().mode.as_str();
    let (lose, sentence) = (protection.can_lose, protection.sentence);
    format!("{mode}, {what}: {lose}: {sentence}")
}

#[test]
fn where_nobody_takes_the_place_of_the_primary() {
    let mut all = Vec::new();
    for mode in MODES {
        let plain = three(mode);
        let mut during = plain.clone();
        during.group.pause = Some(paused("ann", secs(3_600)));
        let mut off = plain.clone();
        off.settings = vec![("resilience.failover", "false")];
        let mut empty = plain.clone();
        empty.group.backups.clear();
        let mut alone = plain.clone();
        alone.group.backups = vec![BOSTON];
        for (what, made) in [
            ("plain", &plain),
            ("paused", &during),
            ("failover off", &off),
            ("an empty list", &empty),
            ("only the primary on the list", &alone),
        ] {
            all.push(told(what, &Seen::by(NEWYORK, made)));
            let mut seen = Seen::by(NEWYORK, made).lost(BOSTON, secs(4));
            seen.leader = None;
            all.push(told(&format!("{what}, the primary is lost"), &seen));
        }
        let mut over = Seen::by(NEWYORK, &during);
        over.calendar = AT.after(secs(3_600));
        all.push(told("the pause is over", &over));
    }
    insta::assert_snapshot!(all.join("\n"));
}

/// They answer, and are no help: a change that is made here does not reach them.
#[test]
fn those_in_another_formation_do_not_count() {
    for (mode, sentence) in [
        (
            ResilienceMode::Quorum,
            "detroit is missing: can lose none of the 2 voters that are left of 3",
        ),
        (
            ResilienceMode::Availability,
            "survives the loss of any 1 of the 2 servers that are left, after 10.0 s for the primary",
        ),
    ] {
        let mut seen = Seen::by(BOSTON, &three(mode));
        seen.peer(DETROIT).elsewhere = true;
        let protection = protection(&seen.view());
        assert_eq!((protection.reachable, protection.missing.len()), (2, 1));
        assert_eq!(protection.sentence, sentence);
        let weaker = "the group is weaker than it was made: detroit is missing";
        assert!(protection.warnings.iter().any(|warning| warning == weaker));
    }
}

#[test]
fn plans_during_a_pause_say_what_will_be() {
    for mode in MODES {
        let mut made = three(mode);
        made.group.pause = Some(paused("ann", secs(3_600)));
        let mut seen = Seen::by(BOSTON, &made);
        let plan = temporary_promotion(&seen.view(), NEWYORK);
        assert!(plan.is_possible(), "an order is carried out: {plan}");
        let until =
            "automatic failover is paused by ann until 2027-01-15T09:00:00.000Z: new switches";
        let last = format!(
            "boston stays the original primary, and takes over once the pause is over and it has been healthy for 30.0 s: {until}"
        );
        assert_eq!(plan.steps.last(), Some(&last));
        let after = &plan.losses_after;
        let but = format!(
            "survives the loss of any {} of 3 servers but newyork, the primary: {until}",
            after.reachable - 1 - u32::from(mode == ResilienceMode::Quorum)
        );
        assert_eq!((after.can_lose, &after.sentence), (0, &but));
        // For good: there is nothing to go back to.
        let plan = promotion(&seen.view(), NEWYORK);
        assert!(!plan.to_string().contains("takes over"), "{plan}");
        assert_eq!(plan.losses_after.sentence, but);
        // Nobody is primary: an order needs no automatic failover.
        seen = seen.lost(BOSTON, secs(4));
        (seen.leader, seen.me) = (None, NEWYORK);
        let plan = temporary_promotion(&seen.view(), NEWYORK);
        assert!(plan.is_possible(), "{plan}");
        // After its end all is as ever.
        seen.calendar = AT.after(secs(3_600));
        let plan = temporary_promotion(&seen.view(), NEWYORK);
        let last =
            "boston stays the original primary, and takes over once it has been healthy for 30.0 s";
        assert_eq!(plan.steps.last().map(String::as_str), Some(last));
    }
    let mut off = three(ResilienceMode::Quorum);
    off.settings = vec![("resilience.failover", "false")];
    let plan = temporary_promotion(&Seen::by(BOSTON, &off).view(), NEWYORK);
    let last = "boston stays the original primary, and does not take over by itself: resilience.failover is off";
    assert_eq!(plan.steps.last().map(String::as_str), Some(last));
}

/// Whether changes are accepted without an administrator once `lost` of those that are there are gone, by the obvious rules.
fn goes_on(seen: &Seen, lost: u8) -> bool {
    let group = seen.directory.group();
    let left = |id: ServerId| {
        let place = ALL.iter().position(|it| *it == id).unwrap();
        seen.peers[&id].reachable && lost & (1 << place) == 0
    };
    let there = seen.voters.iter().filter(|id| left(**id)).count();
    let leads = seen.leader.is_some_and(left);
    let automatic = seen.directory.settings().failover() && group.pause_at(seen.calendar).is_none();
    let heir = group.backups.iter().any(|backup| left(*backup));
    let needed = match group.mode {
        ResilienceMode::Quorum => needed(seen.voters.len()),
        ResilienceMode::Availability => 1,
    };
    there >= needed && (leads || (automatic && heir))
}

proptest! {
    /// The obvious figure: by trying every way to lose so many.
    #[test]
    fn what_can_be_lost_agrees_with_trying(
        up in 0..16_u8,
        listed in 0..8_u8,
        voters in 2..=4_usize,
        leads in any::<bool>(),
        is_paused in any::<bool>(),
        mode in proptest::sample::select(MODES.to_vec()),
    ) {
        let mut made = made().only(&ALL[..voters]);
        made.group.mode = mode;
        let at = |place: usize| up & (1 << place) != 0;
        made.group.backups = (0..voters.min(3)).filter(|place| listed & (1 << place) != 0).map(|place| ALL[place]).collect();
        made.group.pause = is_paused.then(|| paused("ann", secs(60)));
        let mut seen = Seen::by(SEATTLE, &made);
        if voters < 4 {
            seen.me = ALL[voters - 1];
        }
        for (place, id) in ALL[..voters].iter().enumerate() {
            if !at(place) && *id != seen.me {
                seen = seen.lost(*id, secs(9));
            }
        }
        seen.leader = (leads && seen.peers[&BOSTON].reachable).then_some(BOSTON);
        let there = ALL[..voters].iter().filter(|id| seen.peers[id].reachable).count();
        let all_ways = |count: usize| {
            (0..16_u8).filter(move |lost| lost.count_ones() as usize == count).all(|lost| goes_on(&seen, lost))
        };
        let most = (0..=there).take_while(|count| all_ways(*count)).last().unwrap_or(0);
        let found = protection(&seen.view());
        prop_assert_eq!(found.can_lose as usize, most, "{:?}", found);
    }
}
