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

use super::{Begins, FolderError, NewGroup, ResetError, folder_error};
use crate::identity::FILE as IDENTITY;
use peer::trust_store::TrustStore;
use replica::disk::{RealDisk, SharedDisk};
use replica::formation::{self, Founder};
use replica::{LogOptions, LogOwner};
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
pub(crate) fn put_on_disk(data: &Path, new: &NewGroup) -> Result<(), ResetError> {
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
        tracing::info!("another group takes the place of the old one");
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
    let size = LogOptions::default().segment_size;
    let state = match &new.begins {
        Begins::With(state) => state,
        Begins::Empty(formation) => {
            let owner = LogOwner {
                formation: *formation,
                incarnation: new.identity.incarnation,
            };
            formation::join(&disk, folder, owner, size, None)?;
            return Ok(formation::select(&disk, folder, *formation)?);
        }
    };
    let founder = Founder {
        server: new.identity.server,
        incarnation: new.identity.incarnation,
    };
    let directory = state
        .directory
        .as_ref()
        .ok_or(formation::FormationError::NoDirectory)?;
    // It goes on from the place in the order of changes, not from the old formation: it has no ancestors.
    let made = formation::fork(
        &disk,
        folder,
        founder,
        state,
        &directory.group().formation,
        &BTreeSet::from([founder.server]),
        size,
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
    use model::{Directory, EventKind, GroupId, Record};
    use peer::authority::{AUTHORITY_LIFETIME, BACKDATED, CERTIFICATE_LIFETIME};
    use peer::identity::CertificateFacts;
    use peer::seal::SealKeys;
    use replica::{Options, Replica, State, Timing};
    use std::time::Duration;
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
        let seal = trust.seals;
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
        let (new, done) = NewGroup::of(
            (&identity, &SealKeys::default()),
            &state,
            "admin".to_owned(),
            None,
        )
        .unwrap();
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
    async fn who_joins_another_group_is_a_member_or_stands_alone_after_a_crash() {
        let place = tempfile::tempdir().unwrap();
        let (first, other) = (place.path().join("old"), place.path().join("other"));
        old_server(&first).await;
        old_server(&other).await;
        let (old_group, _) = server_in(&first).await;
        // What another group would have granted.
        let (group, _) = server_in(&other).await;
        let granted = || NewGroup {
            identity: Identity {
                incarnation: model::IncarnationId::from_bytes([5; 16]),
                ..Identity::load(&other).unwrap()
            },
            trust: TrustStore::of(&other).load().unwrap(),
            begins: Begins::Empty(model::FormationId::from_bytes([6; 16])),
        };
        let authority = granted().trust.fingerprint().unwrap();
        let (before, new) = (names(&first), granted());
        for stop in 0..=Making::ALL.len() + Moving::ALL.len() {
            let data = place.path().join(format!("stopped-after-{stop}"));
            copy(&first, &data);
            for step in Making::ALL.into_iter().take(stop) {
                step.take(&data, &new).unwrap();
            }
            let moved = stop.saturating_sub(Making::ALL.len());
            for step in Moving::ALL.into_iter().take(moved) {
                step.take(&data).unwrap();
            }
            complete(&data).unwrap();
            assert_eq!(names(&data), before, "stopped after {stop} steps");
            if stop < Making::ALL.len() {
                assert_eq!(server_in(&data).await.0, old_group);
                continue;
            }
            assert_eq!(Identity::load(&data).unwrap().group, group);
            let trust = TrustStore::of(&data).load().unwrap();
            assert_eq!(trust.fingerprint(), Some(authority));
            let disk: SharedDisk = Arc::new(RealDisk);
            let current = formation::current(&disk, &data).unwrap();
            assert_eq!(current, Some(model::FormationId::from_bytes([6; 16])));
            assert_eq!(formation::others(&disk, &data).unwrap(), []);
        }
    }

    #[tokio::test]
    async fn a_crash_in_the_middle_of_a_step_is_made_good() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("old");
        old_server(&data).await;
        let (_, state) = server_in(&data).await;
        let identity = Identity::load(&data).unwrap();
        let make = || {
            NewGroup::of(
                (&identity, &SealKeys::default()),
                &state,
                "admin".to_owned(),
                None,
            )
            .unwrap()
        };
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

    /// Also after somebody's clock was a month ahead: the group's stamps are ever since.
    #[tokio::test]
    async fn certificates_of_the_new_group_are_valid_now() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("old");
        old_server(&data).await;
        let (_, mut state) = server_in(&data).await;
        let identity = Identity::load(&data).unwrap();
        let ahead = clock::calendar().after(Duration::from_secs(30 * 24 * 60 * 60));
        let directory = state.directory.take().unwrap();
        let records = directory.records().map(|record| match record {
            Record::Group(group) => {
                let group = model::Group {
                    clock: ahead,
                    ..(*group).clone()
                };
                Record::Group(Arc::new(group))
            }
            other => other,
        });
        state.directory = Some(Directory::from_records(records).unwrap());
        let (new, _) = NewGroup::of(
            (&identity, &SealKeys::default()),
            &state,
            "admin".to_owned(),
            None,
        )
        .unwrap();
        let now = clock::calendar();
        for shown in [&new.trust.peer, &new.trust.client] {
            let facts = CertificateFacts::read(&shown.certificate).unwrap();
            // A client's clock may be behind, too.
            assert!(facts.not_before.after(BACKDATED) <= now, "{facts:?}");
            assert!(facts.not_after > now.after(CERTIFICATE_LIFETIME / 2));
        }
        let Begins::With(state) = new.begins else {
            panic!("a reset begins with a directory");
        };
        let directory = state.directory.unwrap();
        assert!(directory.group().authority.expires <= now.after(AUTHORITY_LIFETIME));
        assert_eq!(directory.group().clock, ahead, "stamps go on");
    }

    #[tokio::test]
    async fn what_cannot_be_stored_leaves_the_old_server() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("old");
        old_server(&data).await;
        let (old_group, state) = server_in(&data).await;
        let identity = Identity::load(&data).unwrap();
        let (new, _) = NewGroup::of(
            (&identity, &SealKeys::default()),
            &state,
            "admin".to_owned(),
            None,
        )
        .unwrap();
        // Something stands where the decision would.
        std::fs::write(data.join(READY), "in the way").unwrap();
        let error = put_on_disk(&data, &new).unwrap_err();
        assert!(matches!(error, ResetError::Folder(_)), "{error}");
        std::fs::remove_file(data.join(READY)).unwrap();
        complete(&data).unwrap();
        assert_eq!(server_in(&data).await.0, old_group);
    }
}
