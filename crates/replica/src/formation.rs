//! Formations on disk: a folder for each, and the name of the one in force.
//!
//! ```text
//! <data>/formations/<id>/   log segments, snapshot, base, threshold
//! <data>/formations/current the id of the one in force
//! <data>/formations/making  the id of the one that was made last
//! <data>/formations/left    the id of the one that was left last with something in it
//! ```
//!
//! A formation that went on from another one keeps what it began with in `base`, for the comparison when the two meet again.
//!
//! Always true: `current` is replaced by one rename, after the folder that it names is whole; a crash leaves the old
//! formation or the new one, and what was made and never came into force goes before the next is made. A formation begins from a snapshot and a promise that was not yet kept (the snapshot's
//! term + 1, for this server): without the promise consensus would start, and stop for good at the first join.
//! Start at [`found`], [`fork`] and [`join`].

use crate::disk::{SharedDisk, read_all, replace};
use crate::log::{Log, LogOwner, OpenLogError};
use crate::snapshot::{Meta, SnapshotError, read_snapshot, write_snapshot};
use crate::snapshot_store::write_first;
use crate::state_machine::State;
use crate::threshold::{self, Threshold};
use crate::types::{LeaderId, LogId, Membership, StoredMembership, Vote};
use model::directory::LoadError;
use model::{Directory, Formation, FormationId, IncarnationId, Record, ServerId};
use openraft::vote::RaftLeaderId;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) const FORMATIONS: &str = "formations";
const CURRENT: &str = "current";
const MAKING: &str = "making";
const LEFT: &str = "left";
const BASE: &str = "base";

/// Why a formation cannot be made, found or selected.
#[derive(Debug, thiserror::Error)]
pub enum FormationError {
    /// The disk.
    #[error("{} cannot be read or written", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Its log.
    #[error(transparent)]
    Log(#[from] OpenLogError),
    /// `current` does not hold an id.
    #[error("{} does not name a formation", path.display())]
    Current {
        /// The file.
        path: PathBuf,
    },
    /// What is stored of the times by which votes were promised makes no sense.
    #[error("{} does not hold a heartbeat and a lease in milliseconds", path.display())]
    Promise {
        /// The file.
        path: PathBuf,
    },
    /// What is stored of the entry from which on the log counts makes no sense.
    #[error("{} does not hold a term, a server and a number", path.display())]
    Threshold {
        /// The file.
        path: PathBuf,
    },
    /// The state to begin from has no directory yet.
    #[error("this server has not received the directory yet")]
    NoDirectory,
    /// The directory's records contradict each other.
    #[error("the directory to begin from is not usable")]
    Load(#[from] LoadError),
    /// It would be made again while it is in force.
    #[error("formation {0} is in force on this server already")]
    InForce(FormationId),
    /// There is none to go back to, or something of the one in force has come.
    #[error("this server has no formation to go back to")]
    NothingLeft,
    /// The founder would not be among the voters.
    #[error("server {0} is not among the voters of the formation that it begins")]
    NotAVoter(ServerId),
}

/// Whose folder it is: a formation, on one server, in one life of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Founder {
    /// The server.
    pub server: ServerId,
    /// The life of its log.
    pub incarnation: IncarnationId,
}

/// The folder of a formation.
pub fn folder(data: &Path, formation: FormationId) -> PathBuf {
    data.join(FORMATIONS).join(formation.to_string())
}

/// The formation in force; none on a server that belongs to no group yet.
///
/// # Errors
/// The file cannot be read or is damaged.
pub fn current(disk: &SharedDisk, data: &Path) -> Result<Option<FormationId>, FormationError> {
    named(disk, data, CURRENT)
}

/// Makes durable what a process that was killed may have given its name only: which formation is in force, and what is in its folder.
/// A server acts by what it reads at its start, so that has to be there after a power loss, too.
pub(crate) fn settle_names(
    disk: &SharedDisk,
    data: &Path,
    formation: FormationId,
) -> Result<(), FormationError> {
    for dir in [data.join(FORMATIONS), folder(data, formation)] {
        let synced = disk.sync_dir(&dir);
        synced.map_err(|source| FormationError::Io { path: dir, source })?;
    }
    Ok(())
}

/// The formation that a file names.
fn named(
    disk: &SharedDisk,
    data: &Path,
    file: &str,
) -> Result<Option<FormationId>, FormationError> {
    let path = data.join(FORMATIONS).join(file);
    let bytes = match read_all(&**disk, &path, 1024) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(FormationError::Io { path, source }),
    };
    let id = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.trim_end().parse().ok());
    id.map(Some).ok_or(FormationError::Current { path })
}

/// Puts a formation in force, with one rename.
///
/// # Errors
/// The disk's; the one before stays in force then.
pub fn select(
    disk: &SharedDisk,
    data: &Path,
    formation: FormationId,
) -> Result<(), FormationError> {
    name(disk, data, CURRENT, formation)
}

fn name(
    disk: &SharedDisk,
    data: &Path,
    file: &str,
    formation: FormationId,
) -> Result<(), FormationError> {
    let path = data.join(FORMATIONS).join(file);
    replace(&**disk, &path, format!("{formation}\n").as_bytes())
        .map_err(|source| FormationError::Io { path, source })
}

/// Makes the first formation of a group: one server, the given directory. Its first change is the second behind the directory's
/// number, after the entry by which the primary takes its office. It is not in force before [`select`].
///
/// # Errors
/// [`FormationError`].
pub fn found(
    disk: &SharedDisk,
    data: &Path,
    founder: Founder,
    directory: &Directory,
    segment_size: u64,
) -> Result<FormationId, FormationError> {
    // One that was made of a backup goes on from its place in the order of changes.
    let number = directory.group().number;
    let last = LogId::new(LeaderId::new(1, founder.server), number);
    let voters = BTreeSet::from([founder.server]);
    make(disk, data, founder, directory, last, &voters, segment_size)
}

/// Makes a formation that goes on from a state of this server, with other voters; `founder` is one of them, the others
/// join it empty and receive a snapshot. It is not in force before [`select`].
///
/// # Errors
/// [`FormationError`].
pub fn fork(
    disk: &SharedDisk,
    data: &Path,
    founder: Founder,
    state: &State,
    formation: &Formation,
    voters: &BTreeSet<ServerId>,
    segment_size: u64,
) -> Result<FormationId, FormationError> {
    let directory = state
        .directory
        .as_ref()
        .ok_or(FormationError::NoDirectory)?;
    let last = state.last.ok_or(FormationError::NoDirectory)?;
    let records = directory.records().map(|record| match record {
        Record::Group(mut group) => {
            Arc::make_mut(&mut group).formation = formation.clone();
            Record::Group(group)
        }
        // Whoever is not there at the beginning has to catch up before it counts again.
        Record::Server(mut server) => {
            if server.voting && !voters.contains(&server.id) {
                Arc::make_mut(&mut server).voting = false;
            }
            Record::Server(server)
        }
        other => other,
    });
    let directory = Directory::from_records(records)?;
    make(disk, data, founder, &directory, last, voters, segment_size)
}

/// Keeps what a formation is to be compared with later.
pub(crate) fn keep_base(
    disk: &SharedDisk,
    data: &Path,
    formation: FormationId,
    base: &Directory,
) -> Result<(), FormationError> {
    let meta = Meta {
        last: None,
        membership: StoredMembership::default(),
    };
    let path = folder(data, formation).join(BASE);
    match write_snapshot(&**disk, &path, &meta, base) {
        Ok(_) => Ok(()),
        Err(source) => Err(FormationError::Io { path, source }),
    }
}

/// What a server had when a formation began for it; none where it began with nothing, or the formation is not here.
///
/// # Errors
/// It is there and cannot be read.
pub fn base(
    disk: &SharedDisk,
    data: &Path,
    formation: FormationId,
) -> Result<Option<Directory>, SnapshotError> {
    let dir = folder(data, formation);
    let names = disk.list(&dir).map_err(|source| SnapshotError::Io {
        path: dir.clone(),
        source,
    })?;
    if !names.iter().any(|name| name == BASE) {
        return Ok(None);
    }
    read_snapshot(&**disk, &dir.join(BASE)).map(|(_, directory)| Some(directory))
}

/// Remembers the formation in force as the one to go back to, should nothing come of the one that is entered next.
pub(crate) fn remember(disk: &SharedDisk, data: &Path) -> Result<(), FormationError> {
    match current(disk, data)? {
        Some(current) => name(disk, data, LEFT, current),
        None => Ok(()),
    }
}

/// The formation that was left last with something in it, where it is still there.
///
/// # Errors
/// The disk's.
pub(crate) fn left(disk: &SharedDisk, data: &Path) -> Result<Option<FormationId>, FormationError> {
    let left = named(disk, data, LEFT)?;
    let there = others(disk, data)?;
    Ok(left.filter(|left| there.contains(left)))
}

/// The formation that was made last, where it did not come into force: it may be half there.
fn half_made(disk: &SharedDisk, data: &Path) -> Result<Option<FormationId>, FormationError> {
    let making = named(disk, data, MAKING)?;
    Ok(making.filter(|making| current(disk, data).is_ok_and(|current| current != Some(*making))))
}

/// The formations on disk that were in force and are not any more.
///
/// # Errors
/// The disk's.
pub fn others(disk: &SharedDisk, data: &Path) -> Result<Vec<FormationId>, FormationError> {
    let (current, half_made) = (current(disk, data)?, half_made(disk, data)?);
    let all = data.join(FORMATIONS);
    let names = disk.list(&all).map_err(|source| FormationError::Io {
        path: all.clone(),
        source,
    })?;
    let ids = names.iter().filter_map(|name| name.parse().ok());
    let left = ids.filter(|id| Some(*id) != current && Some(*id) != half_made);
    Ok(left.collect())
}

/// Removes a formation that is not in force.
///
/// # Errors
/// The disk's.
pub fn forget(
    disk: &SharedDisk,
    data: &Path,
    formation: FormationId,
) -> Result<(), FormationError> {
    if current(disk, data)? == Some(formation) {
        return Err(FormationError::InForce(formation));
    }
    let path = folder(data, formation);
    let removed = disk.remove_dir(&path);
    removed.map_err(|source| FormationError::Io { path, source })
}

fn make(
    disk: &SharedDisk,
    data: &Path,
    founder: Founder,
    directory: &Directory,
    last: LogId,
    voters: &BTreeSet<ServerId>,
    segment_size: u64,
) -> Result<FormationId, FormationError> {
    if !voters.contains(&founder.server) {
        return Err(FormationError::NotAVoter(founder.server));
    }
    let formation = directory.group().formation.this.id;
    let dir = empty_folder(disk, data, formation)?;
    let nodes: BTreeMap<ServerId, openraft::EmptyNode> = voters
        .iter()
        .map(|id| (*id, openraft::EmptyNode::new()))
        .collect();
    let membership = Membership::new(vec![voters.clone()], nodes)
        .map_err(|_| FormationError::NotAVoter(founder.server))?;
    let meta = Meta {
        last: Some(last),
        membership: StoredMembership::new(Some(last), membership),
    };
    write_first(disk, &dir, &meta, directory).map_err(|source| FormationError::Io {
        path: dir.clone(),
        source,
    })?;
    let owner = LogOwner {
        formation,
        incarnation: founder.incarnation,
    };
    let vote = Vote::new(last.leader_id.term + 1, founder.server);
    Log::create(disk, &dir, owner, segment_size, Some((vote, Some(last))))?;
    Ok(formation)
}

/// Makes an empty folder for a formation that this server joins; a snapshot comes from the others. One that was a member
/// before counts itself from `threshold` on. It is not in force before [`select`].
///
/// # Errors
/// [`FormationError`].
pub fn join(
    disk: &SharedDisk,
    data: &Path,
    owner: LogOwner,
    segment_size: u64,
    threshold: Option<Threshold>,
) -> Result<(), FormationError> {
    let dir = empty_folder(disk, data, owner.formation)?;
    if let Some(threshold) = threshold {
        threshold::store(disk, &dir, threshold)?;
    }
    let promise = threshold.map(|threshold| (threshold.promise(), None));
    Ok(Log::create(disk, &dir, owner, segment_size, promise)?)
}

/// What an interrupted attempt left behind is removed, also one at another formation.
fn empty_folder(
    disk: &SharedDisk,
    data: &Path,
    formation: FormationId,
) -> Result<PathBuf, FormationError> {
    let dir = folder(data, formation);
    if current(disk, data)? == Some(formation) {
        return Err(FormationError::InForce(formation));
    }
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| FormationError::Io { path, source }
    };
    if let Some(half_made) = half_made(disk, data)? {
        let path = folder(data, half_made);
        disk.remove_dir(&path).map_err(io(&path))?;
    }
    let all = data.join(FORMATIONS);
    disk.create_dir(&all).map_err(io(&all))?;
    name(disk, data, MAKING, formation)?;
    let make = || {
        disk.remove_dir(&dir)?;
        disk.create_dir(&dir)
    };
    make().map_err(io(&dir))?;
    Ok(dir)
}
