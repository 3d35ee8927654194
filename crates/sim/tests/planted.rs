//! Bugs that are planted on purpose are found, each within a bounded number of stories.

use model::ResilienceMode::{self, Availability, Quorum};
use sim::{Invariant, Planted, Plot, run};

/// How many stories each bug may take.
const SEEDS: u64 = 300;

/// What finds a bug, in narrow stories. `from` is near a story that does, so that it takes seconds.
fn find(bug: Planted, mode: ResilienceMode, from: u64) -> Invariant {
    find_in(bug, mode, (from..from + SEEDS).map(Plot::narrow))
}

/// The same in whole stories.
fn find_in_whole(bug: Planted, mode: ResilienceMode, from: u64) -> Invariant {
    find_in(bug, mode, (from..from + SEEDS).map(Plot::of))
}

/// The same in those that have hosts.
fn find_among_hosts(bug: Planted, mode: ResilienceMode, from: u64) -> Invariant {
    let seeds = (from..from + SEEDS).filter(|seed| seed.is_multiple_of(3));
    find_in(bug, mode, seeds.map(Plot::of))
}

fn find_in(bug: Planted, mode: ResilienceMode, plots: impl Iterator<Item = Plot>) -> Invariant {
    for plot in plots {
        let plot = Plot {
            planted: Some(bug),
            mode: Some(mode),
            ..plot
        };
        if let Err(failed) = run(plot) {
            return failed.broken.invariant;
        }
    }
    panic!("{bug:?} was not found in {SEEDS} stories");
}

#[test]
fn changes_that_are_acknowledged_before_they_are_on_disk() {
    let by = find(Planted::LyingDisk, Quorum, 0);
    let lost = [
        Invariant::NothingLost,
        Invariant::Agreement,
        Invariant::Alive,
        Invariant::Progress,
    ];
    assert!(lost.contains(&by), "{by:?}");
}

#[test]
fn a_primary_that_goes_by_its_role_alone() {
    let by = find(Planted::RoleAlone, Quorum, 4);
    let two = [Invariant::OnePrimary, Invariant::OneAddress];
    assert!(two.contains(&by), "{by:?}");
}

#[test]
fn a_list_of_backups_that_is_ignored() {
    let by = find(Planted::ListIgnored, Quorum, 2);
    let list = [Invariant::Listed, Invariant::Explained];
    assert!(list.contains(&by), "{by:?}");
}

#[test]
fn a_pause_that_is_ignored() {
    let by = find(Planted::PauseIgnored, Quorum, 1);
    assert_eq!(by, Invariant::Paused);
}

#[test]
fn an_office_that_goes_back_whatever_the_settings_say() {
    let by = find(Planted::ReturnIgnored, Quorum, 60);
    assert_eq!(by, Invariant::Returns);
}

#[test]
fn a_difference_that_is_dropped_when_a_side_gives_way() {
    let by = find(Planted::DifferenceDropped, Availability, 0);
    assert_eq!(by, Invariant::Diverged);
}

#[test]
fn a_side_that_goes_on_without_asking_the_tie_breakers() {
    let by = find(Planted::IslandUnasked, Availability, 9);
    assert_eq!(by, Invariant::Alone);
}

#[test]
fn a_server_that_does_not_hear_that_it_was_removed() {
    let by = find_in_whole(Planted::RemovalUnheard, Availability, 900_002);
    assert_eq!(by, Invariant::Removed);
}

#[test]
fn a_placement_that_does_not_see_who_is_offline() {
    let by = find_among_hosts(Planted::OfflineUnseen, Quorum, 900_021);
    assert_eq!(by, Invariant::Placed);
}

#[test]
fn a_drain_that_nobody_sees_to() {
    let by = find_among_hosts(Planted::DrainForgotten, Quorum, 900_060);
    assert_eq!(by, Invariant::Drained);
}

#[test]
fn keepers_that_go_on_though_they_are_told_to_end() {
    let by = find_among_hosts(Planted::KeepersStay, Availability, 900_081);
    assert_eq!(by, Invariant::Hosted);
}
