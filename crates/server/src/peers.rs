//! This server's connections to the other members, and what it says of itself when they are opened.

use crate::clock;
use crate::found::VERSION;
use crate::identity::Identity;
use crate::node::Node;
use bytes::Bytes;
use model::{Directory, FEATURE_LEVEL, FormationId, IncarnationId, KeyMark, Server, ServerId};
use peer::Heard;
use peer::dial::{DialError, PeerStream, Stage};
use peer::hello::{Acquaintance, Endpoint, KeyStanding, Outlook};
use peer::identity::CertificateFacts;
use peer::link::LinkLimits;
use peer::pool::{AskError, Channel, Pool, PoolEvent, PoolSettings, StreamError, Watcher};
use peer::verify::Revocations;
use policy::formations::own::Told;
use replica::Replica;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use wire::hello::{HelloRefusal, Introduction, PROTOCOL};

/// How often the asking end of a connection asks whether the other is there.
pub const PING: Duration = Duration::from_millis(100);
/// Clients try other paths after this long.
const STREAM_TIME: Duration = Duration::from_millis(1200);
const LINEAGE_LIMIT: usize = 64;

/// What bounds connections between members; both ends have the same.
pub fn limits() -> LinkLimits {
    LinkLimits {
        ping_every: PING,
        ..LinkLimits::default()
    }
}

/// What this server says of itself, and what it knows of others, for the hello.
pub struct Sight {
    identity: Identity,
    replica: OnceLock<Replica>,
    /// The formation whose members this server is sure of: it has asked the others, and none knows that it gave way.
    sure_of: Mutex<Option<FormationId>>,
}

impl Sight {
    /// Before the directory is open every other server is unknown.
    pub fn new(identity: Identity) -> Arc<Self> {
        Arc::new(Self {
            identity,
            replica: OnceLock::new(),
            sure_of: Mutex::default(),
        })
    }

    /// The directory is open from now on.
    pub fn open(&self, replica: Replica) {
        let first = self.replica.set(replica).is_ok();
        debug_assert!(first, "the directory is opened once");
    }

    /// Of which formation's members this server is sure. Whom another one removed it does not let in, but does not tell so.
    pub fn be_sure_of(&self, formation: Option<FormationId>) {
        *self.sure_of.lock().unwrap_or_else(PoisonError::into_inner) = formation;
    }

    fn is_sure_of(&self, directory: &Directory) -> bool {
        let sure = *self.sure_of.lock().unwrap_or_else(PoisonError::into_inner);
        sure == Some(directory.group().formation.this.id)
    }
}

impl Outlook for Sight {
    fn introduction(&self) -> Introduction {
        let state = self.replica.get().map(Replica::state);
        let directory = state.as_ref().and_then(|state| state.directory.as_ref());
        let formation = directory.map(|directory| &directory.group().formation);
        Introduction {
            protocol: PROTOCOL,
            group: self.identity.group,
            server: self.identity.server,
            incarnation: self
                .replica
                .get()
                .map_or(self.identity.incarnation, Replica::incarnation),
            formation: formation.map(|formation| formation.this),
            lineage: formation
                .map(|it| it.lineage().take(LINEAGE_LIMIT).collect())
                .unwrap_or_default(),
            feature_level: FEATURE_LEVEL,
            version: VERSION.to_owned(),
            clock: clock::calendar(),
        }
    }

    fn acquaintance(&self, server: ServerId) -> Acquaintance {
        let state = self.replica.get().map(Replica::state);
        match state.as_ref().and_then(|state| state.directory.as_ref()) {
            Some(directory) if directory.server(server).is_some() => Acquaintance::Member,
            Some(directory) if directory.removed(server).is_some() => {
                match self.is_sure_of(directory) {
                    true => Acquaintance::Removed,
                    false => Acquaintance::Doubtful,
                }
            }
            Some(_) => Acquaintance::Unknown,
            // A server that has just joined knows the members from its grant before it has the directory.
            None if self
                .identity
                .members
                .iter()
                .any(|known| known.server == server) =>
            {
                Acquaintance::Member
            }
            None => Acquaintance::Unknown,
        }
    }

    fn feature_level(&self) -> u32 {
        let state = self.replica.get().map(Replica::state);
        let directory = state.as_ref().and_then(|state| state.directory.as_ref());
        directory.map_or(0, |directory| directory.group().feature_level)
    }

    fn key(&self, server: ServerId, key: KeyMark) -> KeyStanding {
        let state = self.replica.get().map(Replica::state);
        let directory = state.as_ref().and_then(|state| state.directory.as_ref());
        match directory.and_then(|directory| directory.server(server)) {
            Some(server) if server.revoked.contains(&key) => KeyStanding::Revoked,
            Some(server) if server.peer_key == key => KeyStanding::Newest,
            _ => KeyStanding::Unknown,
        }
    }
}

impl Revocations for Sight {
    fn revoked(&self, certificate: &CertificateFacts) -> bool {
        self.acquaintance(certificate.name.server) == Acquaintance::Removed
    }
}

/// What the last attempt to reach each member came to.
#[derive(Debug, Default)]
pub struct Contacts {
    refused: Mutex<HashMap<ServerId, Contact>>,
    incarnations: Mutex<HashMap<ServerId, IncarnationId>>,
    /// Members at whose address somebody else was met.
    strangers: Mutex<HashSet<ServerId>>,
    /// Members that said that this server was removed, and did not take it back; when they last said so.
    removed_by: Mutex<BTreeMap<ServerId, Duration>>,
    /// Whether a member said that the secret which this server proves is not in force any more.
    old_secret: AtomicBool,
    /// Whether a member said that the authority of this server's certificates is not accepted any more.
    former_authority: AtomicBool,
    changed: watch::Sender<u64>,
}

/// What the last attempt to reach a member came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// It is connected.
    Connected,
    /// Its machine answers, but nothing listens there, or did a moment ago: its process restarts, most likely.
    Refuses,
    /// Nothing answers.
    Silent,
}

impl Contact {
    /// What stays of a contact when there is no connection.
    fn unless_connected(self) -> Self {
        match self {
            Self::Connected => Self::Silent,
            other => other,
        }
    }
}

impl Contacts {
    fn note(&self, server: ServerId, contact: Contact) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.insert(server, contact) != Some(contact) {
            drop(refused);
            self.changed.send_modify(|count| *count += 1);
        }
    }

    fn met_strangers(&self) -> MutexGuard<'_, HashSet<ServerId>> {
        self.strangers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a member said that this server was removed, and whether nobody had said so before.
    fn is_first_to_refuse(&self, server: ServerId) -> bool {
        let mut refusers = self.refusers();
        let first = refusers.is_empty();
        refusers.insert(server, clock::steady());
        first
    }

    fn refusers(&self) -> MutexGuard<'_, BTreeMap<ServerId, Duration>> {
        self.removed_by
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, server: ServerId) -> Contact {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get(&server).copied().unwrap_or(Contact::Silent)
    }
}

impl Watcher for Contacts {
    fn noticed(&self, event: PoolEvent) {
        match event {
            PoolEvent::Met {
                server,
                channel: Channel::Control,
                introduction,
            } => {
                let mut known = self
                    .incarnations
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                known.insert(server, introduction.incarnation);
                drop(known);
                self.met_strangers().remove(&server);
                self.refusers().remove(&server);
                self.note(server, Contact::Connected);
            }
            PoolEvent::Ended {
                server,
                channel: Channel::Control,
                end,
            } => {
                tracing::debug!(%server, %end, "a connection to a member has ended");
                self.note(server, Contact::Silent);
            }
            PoolEvent::NotReached {
                server,
                channel: Channel::Control,
                error,
            } => {
                let contact = contact_after(&error, self.of(server));
                if error.is_stranger() && self.met_strangers().insert(server) {
                    tracing::warn!(%server, error = %peer::InFull(&error), "somebody else answers at a member's address; nothing was told to them");
                }
                if error.revoked() && self.is_first_to_refuse(server) {
                    tracing::error!(%server, "this server was removed from the group: the members refuse its certificate. It can stand alone (stead group reset), or join again with an empty data folder");
                }
                if error.refusal() == Some(&HelloRefusal::OldSecret) {
                    self.old_secret.store(true, Ordering::Release);
                }
                if error.refusal() == Some(&HelloRefusal::FormerAuthority) {
                    self.former_authority.store(true, Ordering::Release);
                }
                tracing::debug!(%server, %error, ?contact, "a member is not reached");
                self.note(server, contact);
            }
            _ => {}
        }
    }
}

/// What an attempt that failed says of the other server, given what the one before said.
fn contact_after(error: &DialError, before: Contact) -> Contact {
    match error {
        DialError::Connect { source, .. } if source.kind() == ErrorKind::ConnectionRefused => {
            Contact::Refuses
        }
        DialError::Address(_)
        | DialError::Resolve { .. }
        | DialError::Connect { .. }
        | DialError::TooSlow {
            stage: Stage::Resolving | Stage::Connecting,
            ..
        } => Contact::Silent,
        // Somebody accepts connections there. Where nobody did a moment ago it is the new process, which is not ready yet;
        // elsewhere it is one that hangs.
        _ => before.unless_connected(),
    }
}

/// This server's connections to the other members.
#[derive(Debug, Clone)]
pub struct Peers {
    pool: Pool,
    contacts: Arc<Contacts>,
}

impl Peers {
    /// Whether a member has said, since this was asked last, that the secret which this server proves is not in force any more.
    pub(crate) fn take_old_secret(&self) -> bool {
        self.contacts.old_secret.swap(false, Ordering::AcqRel)
    }

    /// The same of the authority that issued this server's certificates.
    pub(crate) fn take_former_authority(&self) -> bool {
        self.contacts.former_authority.swap(false, Ordering::AcqRel)
    }

    /// Starts with no members.
    pub fn new(endpoint: Endpoint, settings: PoolSettings) -> Self {
        let contacts = Arc::new(Contacts::default());
        let settings = PoolSettings {
            limits: limits(),
            longest_delay: Duration::from_millis(500),
            ..settings
        };
        Self {
            pool: Pool::new(endpoint, settings, contacts.clone()),
            contacts,
        }
    }

    /// Keeps connections to these members and no others.
    pub fn set_members(&self, members: impl IntoIterator<Item = (ServerId, String)>) {
        self.pool.set_members(members);
    }

    /// Asks a member something on its control connection.
    ///
    /// # Errors
    /// When it is not connected or does not answer in time.
    pub async fn call(
        &self,
        server: ServerId,
        request: Vec<u8>,
        limit: Duration,
    ) -> Result<Bytes, AskError> {
        self.pool
            .ask(server, Channel::Control, Bytes::from(request), limit)
            .await
    }

    /// The pool, for consensus.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Whether no member has said that this server was removed: cheaper than all of [`Self::told`].
    pub fn nobody_refuses(&self) -> bool {
        self.contacts.refusers().is_empty()
    }

    /// Who said that this server was removed from the group, and who takes it for a member.
    pub fn told(&self) -> Told {
        let refused = &self.contacts.refused;
        let refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
        let met: Vec<ServerId> = refused.keys().copied().collect();
        drop(refused);
        // Nobody tells the end of a connection to somebody who is no member any more.
        let stands = |member: &ServerId| self.pool.link(*member, Channel::Control).is_some();
        Told {
            removed_by: self.contacts.refusers().clone(),
            answered: met.iter().any(stands).then(clock::steady),
        }
    }

    /// How long a member has been silent; none when it was never heard.
    pub fn silent_for(&self, server: ServerId) -> Option<Duration> {
        self.pool.heard(server)?.silent_for()
    }

    /// What is told whenever a member is heard on a connection that it opened.
    pub fn heard(&self, server: ServerId) -> Heard {
        self.pool.heard(server).unwrap_or_default()
    }

    /// What the last attempt to reach a member came to.
    pub fn contact(&self, server: ServerId) -> Contact {
        self.contacts.of(server)
    }

    /// The life of a member's log, as it last introduced itself.
    pub fn incarnation(&self, server: ServerId) -> Option<IncarnationId> {
        let known = self
            .contacts
            .incarnations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.get(&server).copied()
    }

    /// A member said which life of its log this is.
    pub fn note_incarnation(&self, server: ServerId, incarnation: IncarnationId) {
        let mut known = self
            .contacts
            .incarnations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.insert(server, incarnation);
    }

    /// Changes when a member is reached or no longer is.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.contacts.changed.subscribe()
    }

    /// Says goodbye to all.
    pub async fn goodbye(&self, limit: Duration) {
        self.pool.goodbye(limit).await;
    }
}

impl Node {
    /// Opens a connection for one stream to a session's host.
    pub(crate) async fn dial_stream(&self, host: &Server) -> Result<PeerStream, StreamError> {
        let (_, stream) = self
            .0
            .peers
            .pool()
            .open_stream(host.id, STREAM_TIME)
            .await?;
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not_connected(kind: ErrorKind) -> DialError {
        DialError::Connect {
            address: ([127, 0, 0, 1], 5427).into(),
            source: kind.into(),
        }
    }

    fn too_slow(stage: Stage) -> DialError {
        DialError::TooSlow {
            address: "boston:5427".to_owned(),
            stage,
        }
    }

    #[test]
    fn a_process_that_restarts_is_told_from_one_that_hangs() {
        let refused = not_connected(ErrorKind::ConnectionRefused);
        assert_eq!(contact_after(&refused, Contact::Silent), Contact::Refuses);
        // The new process accepts before it answers.
        let slow = too_slow(Stage::Securing);
        assert_eq!(contact_after(&slow, Contact::Refuses), Contact::Refuses);
        assert_eq!(contact_after(&slow, Contact::Connected), Contact::Silent);
        assert_eq!(contact_after(&slow, Contact::Silent), Contact::Silent);
    }

    #[test]
    fn a_machine_that_does_not_answer_is_silent() {
        let unreachable = not_connected(ErrorKind::HostUnreachable);
        for error in [unreachable, too_slow(Stage::Connecting)] {
            for before in [Contact::Refuses, Contact::Connected, Contact::Silent] {
                assert_eq!(contact_after(&error, before), Contact::Silent, "{error}");
            }
        }
    }
}
