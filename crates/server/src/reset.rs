//! `stead group reset`: this server forgets its group and is from then on a group of one, with what people made.
//!
//! Always true: a crash at any point leaves the old server or the new one, never a mixture; the new group has another id,
//! authority, secret, seal key and certificates, so that nothing of the old one accepts it, nor it anything of theirs; no
//! primary and no quorum is asked. Start at [`Node::reset`] for what is made, at [`steps`] for how it gets in force, at
//! [`kept`] for what stays.

pub(crate) mod kept;
mod steps;

pub(crate) use steps::{complete, put_on_disk};

use crate::addresses::identity_at;
use crate::clock;
use crate::found::{self, Beginnings, InitError};
use crate::identity::{Identity, IdentityError};
use crate::keys;
use crate::node::Node;
use crate::random::NoRandomness;
use kept::Told;
use model::{Directory, EventKind, FormationId, GroupId, GroupName, IncarnationId, Standing};
use peer::seal::SealKeys;
use peer::trust_store::Trust;
use policy::Plan;
use replica::State;
use replica::formation::FormationError;
use std::io;
use std::path::{Path, PathBuf};

/// How far a reset of a running server has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Progress {
    /// None was asked for.
    #[default]
    Nothing,
    /// The new group is being made.
    UnderWay,
    /// The new group is on disk, whole: this life of the server ends.
    Decided,
    /// This server joins another group, and makes no more sessions.
    Entering,
}

/// Why a server was not reset.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// Something refuses it.
    #[error("{}", refusals.join("; "))]
    Refused {
        /// What, with what to do about it.
        refusals: Vec<String>,
    },
    /// Another request has begun it already.
    #[error("this server is being reset, or joins another group, already")]
    UnderWay,
    /// A file or folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The keys of the new group.
    #[error("the keys of the new group cannot be made")]
    Keys(#[source] InitError),
    /// Randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The keys cannot be stored.
    #[error("the keys of the new group cannot be stored")]
    Trust(#[from] peer::files::WriteError),
    /// The identity cannot be stored.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Stored credentials or keys of operators' certificates could not be sealed for the new group.
    #[error(
        "the stored secrets and the keys of certificates could not be sealed for the new group"
    )]
    Secrets(#[source] keys::KeysError),
    /// What stays of the directory makes none.
    #[error("what stays of the directory is not usable")]
    Directory(#[from] model::directory::LoadError),
    /// The directory cannot be stored.
    #[error("the directory of the new group cannot be stored")]
    Formation(#[from] FormationError),
}

/// A file or folder that a reset needs, or is to be rid of.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be made, moved or removed", path.display())]
pub struct FolderError {
    /// Which.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// What a reset made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResetDone {
    /// The new group's id.
    pub(crate) group: GroupId,
    /// Its name.
    pub(crate) group_name: GroupName,
    /// `sha256:HEX` of its authority.
    pub(crate) ca_fingerprint: String,
    /// The servers that were forgotten, by name.
    pub(crate) forgotten: Vec<String>,
    /// How many sessions go on here.
    pub(crate) sessions: usize,
}

/// What a server is from its next life on, before it is on disk.
pub(crate) struct NewGroup {
    pub(crate) identity: Identity,
    pub(crate) trust: Trust,
    pub(crate) begins: Begins,
}

/// What a server's next life begins with.
pub(crate) enum Begins {
    /// This directory, in a group of its own.
    With(Box<State>),
    /// Nothing: it receives the directory of this formation, as whoever has joined.
    Empty(FormationId),
}

/// Waits until a reset is decided.
pub(crate) async fn decided(node: &Node) {
    let mut progress = node.0.reset.subscribe();
    // The sender lives as long as the node.
    let _ = progress.wait_for(|now| *now == Progress::Decided).await;
}

impl Node {
    /// What a reset of this server would do, and what would refuse it.
    pub(crate) fn reset_plan(&self) -> Plan {
        let removed = self.was_removed();
        self.with_view(|view| policy::reset::reset(view, removed))
    }

    /// Resets this server: once this returns, its next life is in the new group, and the life that answers ends.
    ///
    /// # Errors
    /// What refuses it, or what could not be made; the server is then as it was.
    pub(crate) async fn reset(
        &self,
        by: String,
        reason: Option<String>,
    ) -> Result<ResetDone, ResetError> {
        let Plan { refusals, .. } = self.reset_plan();
        if !refusals.is_empty() {
            return Err(ResetError::Refused { refusals });
        }
        if !self.begin_anew(Progress::UnderWay) {
            return Err(ResetError::UnderWay);
        }
        let node = self.clone();
        // Not called off half-way when whoever asked goes away.
        let making = tokio::task::spawn_blocking(move || {
            let (identity, state) = (&node.0.identity, node.replica().state());
            let made = NewGroup::of((identity, &node.trust().seals), &state, by, reason)
                .and_then(|(new, done)| put_on_disk(&node.0.data, &new).map(|()| done));
            let progress = match made {
                Ok(_) => Progress::Decided,
                Err(_) => Progress::Nothing,
            };
            node.0.reset.send_replace(progress);
            made
        });
        let done = making
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        tracing::warn!(group = %done.group, ca = done.ca_fingerprint, "this server forgets its group");
        Ok(done)
    }
}

impl Node {
    /// Whether this server was free to change its group, and now does, in this way.
    pub(crate) fn begin_anew(&self, way: Progress) -> bool {
        self.0.reset.send_if_modified(|progress| {
            let free = *progress == Progress::Nothing;
            if free {
                *progress = way;
            }
            free
        })
    }

    /// How far this server is with changing its group.
    pub(crate) fn anew(&self) -> Progress {
        *self.0.reset.borrow()
    }
}

impl NewGroup {
    /// Makes a group of one out of what a server has.
    fn of(
        (old, seals): (&Identity, &SealKeys),
        state: &State,
        by: String,
        reason: Option<String>,
    ) -> Result<(Self, ResetDone), ResetError> {
        let directory = state
            .directory
            .as_ref()
            .ok_or(FormationError::NoDirectory)?;
        // Stamps go on from those of the group; certificates do not: where one of its clocks had been ahead, clients would be shown some
        // that begin in the future.
        let calendar = clock::calendar();
        let now = calendar.max(directory.group().clock);
        let me = directory.server(old.server);
        let reached = me.map_or_else(|| old.clone(), |me| identity_at(old, me));
        let identity = Identity {
            group: keys::fresh(GroupId::from_bytes)?,
            standing: Standing::Voter,
            incarnation: keys::fresh(IncarnationId::from_bytes)?,
            members: Vec::new(),
            ..reached
        };
        let Beginnings {
            trust,
            authority,
            certificate_expires,
            secret,
            seal,
        } = found::found_trust(&identity, calendar).map_err(ResetError::Keys)?;
        let ca_fingerprint = authority.fingerprint.clone();
        let whose = trust.seals.get(seal.mark);
        let whose = whose.map(|seal| (identity.group, seal));
        let before = directory;
        let directory = &match whose {
            Some(whose) => keys::seal_again(before, seals, whose).map_err(ResetError::Secrets)?,
            None => before.clone(),
        };
        let founder = found::first_server(&identity, certificate_expires, now);
        let formation = found::first_formation(identity.server, now)?;
        let told = Told {
            kind: EventKind::GroupReset,
            name: None,
            by,
            reason,
            certificates_lost: kept::certificates_lost(before, directory),
        };
        let next = kept::alone(
            directory,
            (founder, identity.group),
            (authority, secret, seal),
            formation,
            told,
        )?;
        let done = ResetDone {
            group: identity.group,
            group_name: identity.group_name.clone(),
            ca_fingerprint,
            forgotten: kept::others(directory, identity.server),
            sessions: next.sessions_on(identity.server).count(),
        };
        let new = Self {
            identity,
            trust,
            begins: Begins::With(Box::new(with_directory(state, next))),
        };
        Ok((new, done))
    }
}

/// The same place in the order of changes, with another directory.
fn with_directory(state: &State, directory: Directory) -> State {
    let mut next = state.clone();
    next.directory = Some(directory);
    next
}

fn folder_error(path: &Path) -> impl FnOnce(io::Error) -> FolderError + '_ {
    |source| FolderError {
        path: path.to_owned(),
        source,
    }
}
