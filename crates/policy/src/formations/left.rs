//! What a server left behind when it left a formation: whether something was changed there, and since when.
//!
//! Always true: a fork counts as known only where it is what both sides had; what a formation kept for others goes along with
//! what was changed in it. Start at [`diverged_after`].

use model::{Directory, Diverged, Divergence, Formation, Record, common_change};

/// The last change that a formation which was left has in common with the present one, where something was changed after it.
pub fn diverged_after(left: &Directory, present: &Formation) -> Option<u64> {
    let group = left.group();
    let lineage = |formation: &Formation| formation.lineage().collect::<Vec<_>>();
    let fork = common_change(&lineage(&group.formation), &lineage(present))?;
    (group.last_user_change > fork).then_some(fork)
}

/// What was kept as divergences in a formation that was left, and the present one does not keep as a whole: it has to go along,
/// whether anything else was changed there or not. One that was decided on in the present one stays decided.
pub fn kept_there(left: &Directory, present: &Directory) -> Vec<(Divergence, Vec<Diverged>)> {
    let this = present.group().formation.this.id;
    let wanted = left.divergences().filter(|divergence| {
        let id = divergence.formation.id;
        let mut here = present.all_divergences();
        let known = here.any(|here| {
            let same = here.formation.id == id;
            same && here.complete && here.number >= divergence.number
        });
        id != this && divergence.complete && !known
    });
    let records = |id| left.diverged(id).map(|record| (**record).clone()).collect();
    wanted
        .map(|divergence| ((**divergence).clone(), records(divergence.formation.id)))
        .collect()
}

/// Whether what a server kept when a formation began for it is what both sides had at a fork: whoever made the formation began
/// with that; whoever entered it left something else behind, and of two that both went on from a third the one that did so later
/// began with more.
pub fn is_fork(base: &Directory, fork_point: u64) -> bool {
    base.group().number <= fork_point
}

/// Whether a record is of what people edit, and so is needed to know what both sides had.
pub fn is_edited(record: &Record) -> bool {
    matches!(
        record,
        Record::Group(_)
            | Record::Server(_)
            | Record::Removed(..)
            | Record::Setting(..)
            | Record::User(_)
            | Record::Application(_)
            | Record::Token(_)
            | Record::Gateway(_)
            | Record::Secret(_)
            | Record::Profile(_)
            | Record::Preferences(_)
    )
}
