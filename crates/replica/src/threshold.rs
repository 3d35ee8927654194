//! How far a log that was begun anew has to reach before its server counts itself.
//!
//! A server that lost its log is sent everything from the beginning: also that it counted once, maybe alone, and who led
//! then. Meanwhile it promised things that it does not know any more. So the primary takes it out first, and says at which
//! entry the formation stood then.
//!
//! Always true: until that entry is in its log, the server gives no vote, does not campaign and is not among those that it
//! says count; and it hears no leader of an earlier term. Start at [`Threshold`].

use crate::disk::{SharedDisk, read_all, replace};
use crate::formation::FormationError;
use crate::replica::Replica;
use crate::types::{LeaderId, LogId, Vote};
use crate::{MembersError, NotRunning};
use model::ServerId;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::vote::RaftLeaderId;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// Its name in a formation's folder.
const NAME: &str = "threshold";
/// How long to wait before a change of the members is tried again.
const AGAIN: Duration = Duration::from_millis(20);

/// The place in a formation's log from which on it says who counts, for a server that comes with an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    /// The term of the primary that made room.
    pub term: u64,
    /// That primary.
    pub primary: ServerId,
    /// The number of an entry of that term which a quorum had when the server was out.
    pub number: u64,
}

impl Threshold {
    fn entry(self) -> LogId {
        let leader = LeaderId::new(self.term, self.primary);
        LogId::new(leader, self.number)
    }

    /// What the log begins with: a promise to hear nobody before that primary.
    pub(crate) fn promise(self) -> Vote {
        Vote::new(self.term, self.primary)
    }

    /// Whether a log that ends there has reached it. A log whose end is not before an entry that a quorum had has that entry.
    pub(crate) fn is_reached(self, last: Option<LogId>) -> bool {
        last.is_some_and(|last| last >= self.entry())
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// What was stored in a formation's folder; none where the log was not begun anew.
///
/// # Errors
/// [`FormationError::Io`] and [`FormationError::Threshold`].
pub(crate) fn stored(
    disk: &SharedDisk,
    folder: &Path,
) -> Result<Option<Threshold>, FormationError> {
    let path = path(folder);
    let bytes = match read_all(&**disk, &path, 1024) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(FormationError::Io { path, source }),
    };
    match parse(&bytes) {
        Some(threshold) => Ok(Some(threshold)),
        None => Err(FormationError::Threshold { path }),
    }
}

fn parse(bytes: &[u8]) -> Option<Threshold> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut words = text.trim_end().split(' ');
    let threshold = Threshold {
        term: words.next()?.parse().ok()?,
        primary: words.next()?.parse().ok()?,
        number: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(threshold)
}

/// Stores it in a formation's folder, before the formation comes into force.
///
/// # Errors
/// [`FormationError::Io`].
pub(crate) fn store(
    disk: &SharedDisk,
    folder: &Path,
    threshold: Threshold,
) -> Result<(), FormationError> {
    let path = path(folder);
    let Threshold {
        term,
        primary,
        number,
    } = threshold;
    replace(
        &**disk,
        &path,
        format!("{term} {primary} {number}\n").as_bytes(),
    )
    .map_err(|source| FormationError::Io { path, source })
}

impl Replica {
    /// Takes a server out of the formation that comes back with an empty log, so that nothing is counted on that it does not
    /// know any more. Returns when a quorum has that; it may be let in from then on.
    ///
    /// # Errors
    /// [`MembersError`]: whether it is out is unknown then, and it may be tried again.
    pub async fn make_room(
        &self,
        server: ServerId,
        limit: Duration,
    ) -> Result<Threshold, MembersError> {
        let until = Instant::now() + limit;
        loop {
            if let Some(threshold) = self.threshold_for(server)? {
                return Ok(threshold);
            }
            let status = self.status();
            if status.voters.contains(&server) || status.learners.contains(&server) {
                match self.remove(server, until - Instant::now()).await {
                    Ok(()) => continue,
                    Err(MembersError::Busy) => {}
                    Err(error) => return Err(error),
                }
            }
            if Instant::now() + AGAIN > until {
                return Err(MembersError::OutcomeUnknown);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Where the formation stands that does not know a server, as its quorum has agreed; none: it knows it, or has not.
    fn threshold_for(&self, server: ServerId) -> Result<Option<Threshold>, MembersError> {
        let core = self.core().map_err(|NotRunning| MembersError::NotRunning)?;
        let watched = core.raft.metrics();
        let metrics = watched.borrow_watched();
        if metrics.state != ServerState::Leader {
            return Err(MembersError::NotPrimary {
                primary: metrics.current_leader,
            });
        }
        let members = metrics.membership_config.membership();
        let agreed = metrics.membership_config == metrics.committed_membership_config;
        if !agreed || members.get_node(&server).is_some() {
            return Ok(None);
        }
        let committed = metrics
            .cluster_committed
            .filter(|last| last.leader_id.term == metrics.current_term);
        Ok(committed.map(|last| Threshold {
            term: last.leader_id.term,
            primary: self.me(),
            number: last.index,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;
    use std::sync::Arc;

    const HERE: Threshold = Threshold {
        term: 5,
        primary: ServerId::from_bytes([2; 16]),
        number: 40,
    };

    fn entry(term: u64, leader: u8, number: u64) -> Option<LogId> {
        let leader = LeaderId::new(term, ServerId::from_bytes([leader; 16]));
        Some(LogId::new(leader, number))
    }

    #[test]
    fn an_end_of_a_later_leader_reaches_it_and_one_of_an_earlier_never() {
        let earlier = [entry(0, 9, 0), entry(4, 9, 1_000), entry(5, 1, 1_000)];
        for before in earlier.into_iter().chain([None, entry(5, 2, 39)]) {
            assert!(!HERE.is_reached(before), "{before:?}");
        }
        let later = [entry(5, 3, 1), entry(6, 1, 7)];
        for after in later.into_iter().chain([entry(5, 2, 40), entry(5, 2, 41)]) {
            assert!(HERE.is_reached(after), "{after:?}");
        }
    }

    #[test]
    fn what_is_stored_is_read_and_nothing_else() {
        let disk: SharedDisk = Arc::new(MemoryDisk::new());
        let folder = Path::new("/formation");
        disk.create_dir(folder).expect("made");
        assert_eq!(stored(&disk, folder).expect("read"), None);
        store(&disk, folder, HERE).expect("stored");
        assert_eq!(stored(&disk, folder).expect("read"), Some(HERE));
        for damaged in ["", "5", "5 2 40", "five x 40\n", "\u{fffd}"] {
            replace(&*disk, &path(folder), damaged.as_bytes()).expect("written");
            let error = stored(&disk, folder).expect_err(damaged);
            assert!(matches!(error, FormationError::Threshold { .. }), "{error}");
        }
    }
}
