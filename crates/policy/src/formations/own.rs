//! What a server says of its own formation, and what the others know it by.
//!
//! Always true: it is told from what the server has itself, and names a primary only where one acts or is heard. Start at
//! [`side`].

use model::{
    Directory, FormationId, FormationRef, IncarnationId, LINEAGE_LIMIT, Left, ResilienceMode,
    ServerId, Side,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How a server stands in its formation at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Stand<'a> {
    /// This server.
    pub me: ServerId,
    /// The newest directory that it has.
    pub directory: &'a Directory,
    /// The formation in force on its disk.
    pub formation: FormationId,
    /// The life of its log.
    pub incarnation: IncarnationId,
    /// Whether it acts as primary.
    pub acting: bool,
    /// Who leads, as it heard within the grace period.
    pub leader: Option<ServerId>,
    /// Whom consensus counts.
    pub voters: &'a BTreeSet<ServerId>,
    /// In the middle of a change of those, the ones of before and the ones of afterwards; else empty.
    pub joint: &'a [BTreeSet<ServerId>],
    /// The newest change of a user's in its log.
    pub last_user_change: u64,
    /// The term and the number of the last entry of its log.
    pub log_end: (u64, u64),
    /// Whether it may not go on without its primary.
    pub held: bool,
    /// What it left for the formation in force, while nothing of that has come.
    pub left: Option<Left>,
}

/// What it says.
pub fn side(stand: &Stand<'_>) -> Side {
    let group = stand.directory.group();
    let primary = match stand.acting {
        true => Some(stand.me),
        false => stand.leader.filter(|leader| *leader != stand.me),
    };
    let ranked = primary.unwrap_or(stand.me);
    let rank = group.backups.iter().position(|backup| *backup == ranked);
    Side {
        lineage: lineage(stand),
        incarnation: stand.incarnation,
        mode: group.mode,
        primary_return: stand.directory.settings().primary_return(),
        primary,
        votes_alone: stand.voters.len() == 1 && stand.voters.contains(&stand.me),
        rank: rank.map_or(u32::MAX, |rank| u32::try_from(rank).unwrap_or(u32::MAX)),
        last_user_change: stand.last_user_change,
        log_end: stand.log_end,
        held: stand.held,
        left: stand.left,
        gave_way: gave_way(stand),
        counts: counts(stand),
    }
}

fn counts(stand: &Stand<'_>) -> Vec<BTreeSet<ServerId>> {
    match (stand.joint, stand.voters.is_empty()) {
        ([], true) => Vec::new(),
        ([], false) => vec![stand.voters.clone()],
        (each, _) => each.to_vec(),
    }
}

/// Formations whose changes are kept as divergences here, and those that they went on from.
fn gave_way(stand: &Stand<'_>) -> Vec<FormationId> {
    let mut kept: Vec<_> = stand.directory.all_divergences().collect();
    kept.sort_by_key(|divergence| Reverse(divergence.kept));
    let all = kept.into_iter().flat_map(|divergence| {
        let formation = [divergence.formation.id].into_iter();
        formation.chain(divergence.ancestors.iter().copied())
    });
    let others = all.filter(|id| *id != stand.formation);
    others.take(LINEAGE_LIMIT).collect()
}

/// The formation in force and those that it descends from, newest first. Before anything of it has come only its id is known,
/// and the directory is of the one before.
fn lineage(stand: &Stand<'_>) -> Vec<FormationRef> {
    let formation = &stand.directory.group().formation;
    match formation.this.id == stand.formation {
        true => formation.lineage().take(LINEAGE_LIMIT).collect(),
        false => Vec::new(),
    }
}

/// Those without which nothing is acknowledged, as long as they follow closely: where one server alone counts, whoever has
/// caught up. In availability mode it is said before this server leads, so that its first change waits for them too.
pub fn followers(
    directory: &Directory,
    consensus: &BTreeSet<ServerId>,
    me: ServerId,
) -> BTreeSet<ServerId> {
    let alone = consensus.len() == 1 && consensus.contains(&me);
    let waits = alone || directory.group().mode == ResilienceMode::Availability;
    let voters = directory.voters().map(|server| server.id);
    voters.filter(|id| waits && *id != me).collect()
}

/// How long the word stands that this server was removed when somebody else answers it as a member: whoever said so is asked again
/// every five seconds, and says it again as long as it is there.
pub const WORD: Duration = Duration::from_secs(8);

/// Who said that this server was removed, and who takes it for a member.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Servers that refuse it because it was removed, and when each last said so, on the steady clock.
    pub removed_by: BTreeMap<ServerId, Duration>,
    /// When somebody last answered it as a member.
    pub answered: Option<Duration>,
}

/// Whether this server is no longer a member, as others said. Whom it has removed itself has nothing to say: then an administrator
/// made two groups of one.
pub fn is_removed(directory: &Directory, told: &Told, now: Duration) -> bool {
    told.removed_by.iter().any(|(teller, said)| {
        let fresh = now.saturating_sub(*said) <= WORD;
        let since = told.answered.is_some_and(|answered| answered > *said);
        directory.server(*teller).is_some() && (fresh || !since)
    })
}

/// Whether a formation gave way to one that is heard: whom it had removed may be a member there, so that whoever is still in it, having
/// been away, must not tell anybody that he was removed.
pub fn is_given_up(own: &Side, sides: &BTreeMap<ServerId, Side>) -> bool {
    sides.values().any(|side| own.gave_way_to(side))
}

/// The primary that a server is, or follows, going by its side; none where that one says itself that it does not act: it leads, and
/// was removed, say.
pub fn primary(me: ServerId, side: &Side, sides: &BTreeMap<ServerId, Side>) -> Option<ServerId> {
    let acts = |primary: &ServerId| {
        let said = sides.get(primary).map(|its| its.primary);
        *primary == me || said.is_none_or(|said| said == Some(*primary))
    };
    side.primary.filter(acts)
}

/// How long a server that alone counts may act after tie-breakers answered; none where it need not ask any. It is over before
/// another side can have waited long enough to go on.
pub fn guard(directory: &Directory) -> Option<Duration> {
    let settings = directory.settings();
    let guarded = directory.group().mode == ResilienceMode::Availability
        && !settings.tie_breakers().is_empty();
    guarded.then(|| settings.island_after() / 2)
}
