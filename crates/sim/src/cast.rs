//! Who the group of a story begins with, and with which settings.
//!
//! Start at [`Cast`].

use model::{ResilienceMode, Standing};
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

/// What a group begins with.
#[derive(Debug, Clone)]
pub(crate) struct Cast {
    pub(crate) mode: ResilienceMode,
    /// The members, the first of whom is primary.
    pub(crate) members: Vec<(u8, Standing)>,
    pub(crate) settings: Vec<(&'static str, String)>,
    /// How often the fence command fails, of a thousand times.
    pub(crate) fence_fails: u32,
    /// Whether an administrator chose the mode.
    pub(crate) chosen: bool,
    /// Whether something runs on hosts for sessions.
    pub(crate) hosts: bool,
}

impl Cast {
    /// Drawn by chance; about half of all groups are in availability mode, unless one is wanted.
    pub(crate) fn draw(wanted: Option<ResilienceMode>, chance: &mut SmallRng) -> Self {
        let drawn = match chance.random_bool(0.5) {
            true => ResilienceMode::Availability,
            false => ResilienceMode::Quorum,
        };
        let mode = wanted.unwrap_or(drawn);
        let (members, mut settings) = match mode {
            ResilienceMode::Quorum => (members(chance), settings(chance)),
            ResilienceMode::Availability => (pair_or_more(chance), settings(chance)),
        };
        if mode == ResilienceMode::Availability {
            settings.extend(apart(chance));
        }
        let fence_fails = chance.random_range(0..500);
        Self {
            mode,
            members,
            settings,
            fence_fails,
            chosen: true,
            hosts: false,
        }
    }

    /// Its size, in letters.
    pub(crate) fn size(&self) -> String {
        let of = |standing| {
            self.members
                .iter()
                .filter(|(_, it)| *it == standing)
                .count()
        };
        let mode = match self.mode {
            ResilienceMode::Quorum => "",
            ResilienceMode::Availability => "a",
        };
        let voters = of(Standing::Voter).to_string();
        let witness = "w".repeat(of(Standing::Witness));
        format!(
            "{mode}{voters}{witness}{}",
            "n".repeat(of(Standing::NonVoter))
        )
    }
}

/// A group in availability mode: two to five that may lead, sometimes one that does not count.
fn pair_or_more(chance: &mut SmallRng) -> Vec<(u8, Standing)> {
    let voters = [2, 2, 2, 3, 3, 4, 5].choose(chance).copied().unwrap_or(2);
    let mut members: Vec<_> = (1..=voters).map(|it| (it, Standing::Voter)).collect();
    if chance.random_bool(0.15) {
        members.push((voters + 1, Standing::NonVoter));
    }
    members
}

/// When a side goes on by itself.
fn apart(chance: &mut SmallRng) -> Vec<(&'static str, String)> {
    let after = ["2s", "2s", "3s", "4s"].choose(chance).copied();
    let mut settings = vec![("resilience.island-after", after.unwrap_or("2s").to_owned())];
    if chance.random_bool(0.3) {
        settings.push(("resilience.tie-breakers", "192.0.2.250".to_owned()));
    }
    if chance.random_bool(0.2) {
        settings.push(("resilience.fence-command", "fence".to_owned()));
    }
    settings
}

/// Who the group begins with: two to five voters, sometimes a witness and one that does not count.
fn members(chance: &mut SmallRng) -> Vec<(u8, Standing)> {
    let voters = [3, 3, 3, 5, 4, 2].choose(chance).copied().unwrap_or(3);
    let mut members: Vec<_> = (1..=voters).map(|it| (it, Standing::Voter)).collect();
    if chance.random_bool(0.3) || voters == 2 {
        members.push((voters + 1, Standing::Witness));
    }
    if chance.random_bool(0.15) {
        let next = u8::try_from(members.len()).unwrap_or(voters) + 1;
        members.push((next, Standing::NonVoter));
    }
    if chance.random_bool(0.05) {
        members.truncate(2);
    }
    members
}

fn settings(chance: &mut SmallRng) -> Vec<(&'static str, String)> {
    let returns = ["accept", "accept", "accept", "accept-secondary", "ignore"];
    let returns = returns.choose(chance).copied().unwrap_or("accept");
    let moves = ["1000 in 10m", "1000 in 10m", "3 in 10m"];
    let moves = moves.choose(chance).copied().unwrap_or("3 in 10m");
    let delay = ["1s", "2s", "3s"].choose(chance).copied().unwrap_or("1s");
    vec![
        ("resilience.primary-return", returns.to_owned()),
        ("resilience.max-moves", moves.to_owned()),
        ("resilience.return-delay", delay.to_owned()),
    ]
}
