//! How a new group gets on disk and in force.
//!
//! ```text
//! <data>/reset.new/     the new identity, trust and formations, while they are made
//! <data>/reset.ready/   the same, whole: from here on the server is the new one
//! ```
//!
//! Always true: everything in `reset.new` is synced before its one rename to `reset.ready`, which decides; what follows can
//! be done again at any point, and is, before a server starts. Afterwards no key of the old group is on disk. Start at
//! [`put_on_disk`] and [`complete`].

use super::{FolderError, NewGroup, ResetError, folder_error};
use crate::identity::FILE as IDENTITY;
use peer::trust_store::TrustStore;
use replica::LogOptions;
use replica::disk::{RealDisk, SharedDisk};
use replica::formation::{self, Founder};
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NEW: &str = "reset.new";
const READY: &str = "reset.ready";

/// Puts a new group on disk beside the old one, and decides for it.
///
/// # Errors
/// What could not be made; the old group is then in force.
pub(super) fn put_on_disk(data: &Path, new: &NewGroup) -> Result<(), ResetError> {
    Making::ALL
        .into_iter()
        .try_for_each(|step| step.take(data, new))
}

/// Finishes a reset that was decided, and takes away what one that was not decided left. Before a server starts.
///
/// # Errors
/// The file system refuses.
pub(crate) fn complete(data: &Path) -> Result<(), FolderError> {
    if is_there(&data.join(READY))? {
        tracing::info!("a reset is completed: the new group takes the place of the old one");
        Moving::ALL
            .into_iter()
            .try_for_each(|step| step.take(data))?;
    }
    remove_folder(&data.join(NEW))
}

/// A step on the way to the new group, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Making {
    /// What an earlier attempt left is removed.
    Emptied,
    /// Keys and certificates.
    Trust,
    /// The directory, in its first formation.
    Directory,
    /// Who the server is.
    Identity,
    /// The one rename.
    Ready,
}

impl Making {
    const ALL: [Self; 5] = [
        Self::Emptied,
        Self::Trust,
        Self::Directory,
        Self::Identity,
        Self::Ready,
    ];

    fn take(self, data: &Path, new: &NewGroup) -> Result<(), ResetError> {
        let folder = data.join(NEW);
        match self {
            Self::Emptied => {
                remove_folder(&folder)?;
                let made = DirBuilder::new().mode(0o700).create(&folder);
                Ok(made.map_err(folder_error(&folder))?)
            }
            Self::Trust => Ok(TrustStore::of(&folder).replace(&new.trust)?),
            Self::Directory => put_directory(&folder, new),
            Self::Identity => Ok(new.identity.save(&folder)?),
            Self::Ready => {
                sync(&folder)?;
                Ok(rename(&folder, &data.join(READY))?)
            }
        }
    }
}

fn put_directory(folder: &Path, new: &NewGroup) -> Result<(), ResetError> {
    let disk: SharedDisk = Arc::new(RealDisk);
    let founder = Founder {
        server: new.identity.server,
        incarnation: new.identity.incarnation,
    };
    let directory = new
        .state
        .directory
        .as_ref()
        .ok_or(formation::FormationError::NoDirectory)?;
    // It goes on from the place in the order of changes, not from the old formation: it has no ancestors.
    let made = formation::fork(
        &disk,
        folder,
        founder,
        &new.state,
        &directory.group().formation,
        &BTreeSet::from([founder.server]),
        LogOptions::default().segment_size,
    )?;
    Ok(formation::select(&disk, folder, made)?)
}

/// A piece of the new group that takes the place of the old one, in this order. Each can be taken again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moving {
    /// Keys and certificates: first, so that those of the old group are gone soonest.
    Trust,
    /// The directory.
    Formations,
    /// Who the server is.
    Identity,
    /// The folder that they came in is removed.
    Done,
}

impl Moving {
    const ALL: [Self; 4] = [Self::Trust, Self::Formations, Self::Identity, Self::Done];

    fn take(self, data: &Path) -> Result<(), FolderError> {
        match self {
            Self::Trust => {
                // A renewal that was interrupted may have left keys.
                remove_folder(&data.join("trust.new"))?;
                replace_folder(data, "trust")
            }
            Self::Formations => replace_folder(data, "formations"),
            Self::Identity => {
                let from = data.join(READY).join(IDENTITY);
                if !is_there(&from)? {
                    return Ok(());
                }
                rename(&from, &data.join(IDENTITY))
            }
            Self::Done => remove_folder(&data.join(READY)),
        }
    }
}

fn replace_folder(data: &Path, name: &str) -> Result<(), FolderError> {
    let (from, to) = (data.join(READY).join(name), data.join(name));
    // Where it has come already, what is there is the new one.
    if !is_there(&from)? {
        return Ok(());
    }
    remove_folder(&to)?;
    rename(&from, &to)
}

fn is_there(path: &Path) -> Result<bool, FolderError> {
    path.try_exists().map_err(folder_error(path))
}

/// Renames durably.
fn rename(from: &Path, to: &Path) -> Result<(), FolderError> {
    std::fs::rename(from, to).map_err(folder_error(to))?;
    let folders: BTreeSet<PathBuf> = [from, to]
        .into_iter()
        .filter_map(Path::parent)
        .map(Path::to_owned)
        .collect();
    folders.iter().try_for_each(|folder| sync(folder))
}

fn sync(folder: &Path) -> Result<(), FolderError> {
    File::open(folder)
        .and_then(|open| open.sync_all())
        .map_err(folder_error(folder))
}

/// Removes a folder, if it is there, durably.
fn remove_folder(path: &Path) -> Result<(), FolderError> {
    match std::fs::remove_dir_all(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(folder_error(path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::found::{InitOptions, init};
    use crate::identity::Identity;
    use crate::links::ConsensusLinks;
    use crate::{clock, keys};
    use model::{EventKind, GroupId};
    use replica::{Options, Replica, State, Timing};
    use wire::client::Hidden;

    /// Everything that a folder holds of a server, seen to belong together: its group, and the state that it begins from.
    async fn server_in(data: &Path) -> (GroupId, State) {
        let identity = Identity::load(data).unwrap();
        let trust = TrustStore::of(data).load().unwrap();
        let replica = Replica::open(
            Arc::new(RealDisk),
            data,
            identity.server,
            Arc::new(ConsensusLinks::default()),
            Timing::default(),
            Options::default(),
        )
        .await
        .unwrap();
        let state = State::clone(&replica.state());
        assert_eq!(replica.incarnation(), identity.incarnation);
        replica.shutdown().await;
        let directory = state.directory.as_ref().unwrap();
        let group = directory.group();
        assert_eq!(directory.check(), Vec::<String>::new());
        assert_eq!(group.id, identity.group);
        assert_eq!(state.voters(), BTreeSet::from([identity.server]));
        let fingerprint = trust.fingerprint().unwrap().to_string();
        assert_eq!(group.authority.fingerprint, fingerprint);
        let seal = trust.seal.unwrap();
        let authority = keys::open_authority(directory, &seal).unwrap();
        assert_eq!(**authority.certificate(), *group.authority.certificate);
        keys::open_ticket_key(directory, &seal).unwrap();
        (identity.group, state)
    }

    async fn old_server(data: &Path) {
        let options = InitOptions {
            data: data.to_owned(),
            name: "boston".parse().unwrap(),
            group: "east".parse().unwrap(),
            peer: "127.0.0.1:0".to_owned(),
            client: "127.0.0.1:0".to_owned(),
            listen: crate::Listen::default(),
            administrator_password: Hidden("correct horse battery".to_owned()),
        };
        init(options).await.unwrap();
    }

    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let (path, name) = entry.map(|it| (it.path(), it.file_name())).unwrap();
            match path.is_dir() {
                true => copy(&path, &to.join(name)),
                false => drop(std::fs::copy(&path, to.join(name)).unwrap()),
            }
        }
    }

    /// What of an old server and the way to its new group is on disk.
    fn names(data: &Path) -> BTreeSet<String> {
        let entries = std::fs::read_dir(data).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[tokio::test]
    async fn a_crash_between_any_two_steps_leaves_the_old_server_or_the_new_one() {
        let place = tempfile::tempdir().unwrap();
        let first = place.path().join("old");
        old_server(&first).await;
        let (old_group, state) = server_in(&first).await;
        let identity = Identity::load(&first).unwrap();
        let (new, done) = NewGroup::of(&identity, &state, "admin".to_owned(), None).unwrap();
        assert_ne!(done.group, old_group);
        let before = names(&first);
        let steps = Making::ALL.len() + Moving::ALL.len();
        for stop in 0..=steps {
            let data = place.path().join(format!("stopped-after-{stop}"));
            copy(&first, &data);
            for step in Making::ALL.into_iter().take(stop) {
                step.take(&data, &new).unwrap();
            }
            for step in Moving::ALL
                .into_iter()
                .take(stop.saturating_sub(Making::ALL.len()))
            {
                step.take(&data).unwrap();
            }
            // Also twice, as after a crash during the completion.
            complete(&data).unwrap();
            complete(&data).unwrap();
            let (found, begun) = server_in(&data).await;
            let expected = match stop < Making::ALL.len() {
                true => old_group,
                false => done.group,
            };
            assert_eq!(found, expected, "stopped after {stop} steps");
            assert_eq!(names(&data), before, "stopped after {stop} steps");
            assert!(begun.applied >= state.applied);
        }
    }

    #[tokio::test]
    async fn a_crash_in_the_middle_of_a_step_is_made_good() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("old");
        old_server(&data).await;
        let (_, state) = server_in(&data).await;
        let identity = Identity::load(&data).unwrap();
        let make = || NewGroup::of(&identity, &state, "admin".to_owned(), None).unwrap();
        // An earlier attempt ended while it wrote; so does this one, while it removes what is old.
        let (given_up, _) = make();
        for step in [Making::Emptied, Making::Trust] {
            step.take(&data, &given_up).unwrap();
        }
        let (new, done) = make();
        put_on_disk(&data, &new).unwrap();
        std::fs::create_dir(data.join("trust.new")).unwrap();
        for half in [
            "trust/peer.key",
            "trust/authority.pem",
            "formations/current",
        ] {
            std::fs::remove_file(data.join(half)).unwrap();
        }
        complete(&data).unwrap();
        let (found, begun) = server_in(&data).await;
        assert_eq!(found, done.group);
        assert!(!data.join("trust.new").exists());
        let directory = begun.directory.unwrap();
        let newest = directory.events_back().next().unwrap();
        assert_eq!(newest.kind, EventKind::GroupReset);
        assert!(directory.group().clock <= clock::calendar());
    }

    #[tokio::test]
    async fn what_cannot_be_stored_leaves_the_old_server() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("old");
        old_server(&data).await;
        let (old_group, state) = server_in(&data).await;
        let identity = Identity::load(&data).unwrap();
        let (new, _) = NewGroup::of(&identity, &state, "admin".to_owned(), None).unwrap();
        // Something stands where the decision would.
        std::fs::write(data.join(READY), "in the way").unwrap();
        let error = put_on_disk(&data, &new).unwrap_err();
        assert!(matches!(error, ResetError::Folder(_)), "{error}");
        std::fs::remove_file(data.join(READY)).unwrap();
        complete(&data).unwrap();
        assert_eq!(server_in(&data).await.0, old_group);
    }
}
