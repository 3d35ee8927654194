//! How much of what people do with a group is in a story.
//!
//! Always true: what a whole story has beside a narrow one is drawn from randomness of its own, and nothing of it is drawn for a
//! narrow one. So a seed that was kept while all stories were narrow tells the same story for ever. Start at [`More::draw`].

use crate::cast::Cast;
use model::{ResilienceMode, Standing};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Apart from the seed itself, so that the two draw different numbers.
const APART: u64 = 0x5ead_0000_0000_0001;
const PEOPLE: u64 = 0x5ead_0000_0000_0003;

/// How much of what people do with a group is in a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Breadth {
    /// Failures, and what administrators do about them; members come and go where a majority must agree.
    Narrow,
    /// Also members that come and go and modes that change in any group, or hosts with sessions that people open, move and drain
    /// away, or both, or neither.
    #[default]
    Whole,
}

/// What a whole story has beside a narrow one.
#[derive(Debug)]
pub(crate) struct More {
    pub(crate) chance: SmallRng,
    /// Whether members come and go in either mode, and the mode changes.
    pub(crate) members: bool,
    /// What people do with their sessions is drawn from it, where something runs on hosts for them.
    pub(crate) people: Option<SmallRng>,
}

impl More {
    /// Drawn by chance, for a whole story; the group is made to fit.
    pub(crate) fn draw(breadth: Breadth, seed: u64, cast: &mut Cast) -> Option<Self> {
        if breadth == Breadth::Narrow {
            return None;
        }
        let mut chance = SmallRng::seed_from_u64(seed ^ APART);
        let members = chance.random_bool(0.6);
        if members {
            cast.chosen = !(fits_unchosen(cast) && chance.random_bool(0.5));
            // Any group may be one whose sides go on alone, sooner or later.
            let after = "resilience.island-after";
            if !cast.settings.iter().any(|(key, _)| *key == after) {
                cast.settings.push((after, "2s".to_owned()));
            }
        }
        // Such stories take longer to tell; those of the other seeds stay as they were before there were hosts.
        cast.hosts = seed.is_multiple_of(3);
        let people = cast.hosts.then(|| SmallRng::seed_from_u64(seed ^ PEOPLE));
        Some(Self {
            chance,
            members,
            people,
        })
    }
}

/// Whether a group could have come to its mode without anybody who chose.
fn fits_unchosen(cast: &Cast) -> bool {
    let votes = |(_, standing): &&(u8, Standing)| standing.votes();
    let many = cast.members.iter().filter(votes).count() >= ResilienceMode::QUORUM_FROM;
    many == (cast.mode == ResilienceMode::Quorum)
}
