//! Bugs that are planted on purpose are found, each within a bounded number of stories.

use model::ResilienceMode::{self, Availability, Quorum};
use sim::{Invariant, Planted, Plot, run};

/// How many stories each bug may take.
const SEEDS: u64 = 300;

/// What finds a bug. `from` is near a story that does, so that it takes seconds.
fn find(bug: Planted, mode: ResilienceMode, from: u64) -> Invariant {
    for seed in from..from + SEEDS {
        let plot = Plot {
            planted: Some(bug),
            mode: Some(mode),
            ..Plot::of(seed)
        };
        if let Err(failed) = run(plot) {
            return failed.broken.invariant;
        }
    }
    panic!("{bug:?} was not found in {SEEDS} stories from {from} on");
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
