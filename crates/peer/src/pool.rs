//! Connections to every member, kept up: one for consensus and one for control each, dialled again with
//! growing delays when they end, and streams on demand.
//!
//! What must always be true: consensus and control use connections, tasks and runtimes of their own, so that
//! one never delays the other; a member that answers again is found within [`PoolSettings::longest_delay`].

use crate::carrier::Heard;
use crate::dial::{DialError, PeerStream, dial};
use crate::hello::{Endpoint, Met};
use crate::link::{CallError, Link, LinkEnd, LinkLimits};
use bytes::Bytes;
use model::ServerId;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use wire::hello::{Introduction, Purpose};

mod keeping;
use keeping::Keeping;

/// Which of the two lasting connections to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Consensus messages only.
    Consensus,
    /// Requests of [`wire::control`].
    Control,
}

impl Channel {
    fn purpose(self) -> Purpose {
        match self {
            Self::Consensus => Purpose::Consensus,
            Self::Control => Purpose::Control,
        }
    }
}

/// Something that a connection of the pool came to.
#[derive(Debug, Clone)]
pub enum PoolEvent {
    /// A member was reached; what it says of itself.
    Met {
        /// Which member.
        server: ServerId,
        /// Over which connection.
        channel: Channel,
        /// What it says of itself.
        introduction: Introduction,
    },
    /// A connection ended; it is dialled again.
    Ended {
        /// Which member.
        server: ServerId,
        /// Which connection.
        channel: Channel,
        /// Why.
        end: Arc<LinkEnd>,
    },
    /// A member could not be reached; it is dialled again.
    NotReached {
        /// Which member.
        server: ServerId,
        /// Over which connection.
        channel: Channel,
        /// Why.
        error: Arc<DialError>,
    },
}

/// Is told what connections come to, from their tasks: it must return at once.
pub trait Watcher: Send + Sync + 'static {
    /// Something happened.
    fn noticed(&self, event: PoolEvent);
}

/// How connections are kept up.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// Bounds of each connection.
    pub limits: LinkLimits,
    /// How long a dial may take.
    pub dial_time: Duration,
    /// The first delay before dialling again; it doubles with each failure.
    pub first_delay: Duration,
    /// The longest such delay.
    pub longest_delay: Duration,
    /// The delay after a refusal, which does not pass by itself.
    pub refused_delay: Duration,
    /// Where connections for consensus are driven.
    pub consensus: Handle,
    /// Where connections for control are driven.
    pub control: Handle,
}

impl PoolSettings {
    /// The usual settings, with these runtimes.
    pub fn on(consensus: Handle, control: Handle) -> Self {
        Self {
            limits: LinkLimits::default(),
            dial_time: Duration::from_secs(2),
            first_delay: Duration::from_millis(50),
            longest_delay: Duration::from_secs(1),
            refused_delay: Duration::from_secs(5),
            consensus,
            control,
        }
    }
}

/// Why a member gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AskError {
    /// That server is no member of the pool.
    #[error("server {0} is not known here")]
    Stranger(ServerId),
    /// There is no connection now.
    #[error("server {0} is not connected")]
    NotConnected(ServerId),
    /// The request was not answered.
    #[error("server {server} did not answer")]
    Call {
        /// Which.
        server: ServerId,
        /// Why.
        #[source]
        source: CallError,
    },
}

impl AskError {
    /// Whether that server may have acted on the request.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Call { source, .. } if source.outcome_unknown())
    }
}

/// Connections to all other members. Clones share them.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<ServerId> = self.members().keys().copied().collect();
        f.debug_struct("Pool")
            .field("members", &members)
            .finish_non_exhaustive()
    }
}

struct Inner {
    endpoint: Endpoint,
    settings: PoolSettings,
    watcher: Arc<dyn Watcher>,
    members: Mutex<HashMap<ServerId, Member>>,
}

struct Member {
    address: Arc<Mutex<String>>,
    heard: Heard,
    consensus: Line,
    control: Line,
}

/// One lasting connection, or the attempts to make it.
struct Line {
    link: watch::Receiver<Option<Link>>,
    hurry: Arc<Notify>,
    anew: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Member {
    fn line(&self, channel: Channel) -> &Line {
        match channel {
            Channel::Consensus => &self.consensus,
            Channel::Control => &self.control,
        }
    }
}

impl Pool {
    /// A pool without members.
    pub fn new(endpoint: Endpoint, settings: PoolSettings, watcher: Arc<dyn Watcher>) -> Self {
        let members = Mutex::new(HashMap::new());
        Self {
            inner: Arc::new(Inner {
                endpoint,
                settings,
                watcher,
                members,
            }),
        }
    }

    /// Says who the members are and where to reach them (`host:port`). This server itself is left out;
    /// connections to servers that are not named any more are closed.
    pub fn set_members(&self, named: impl IntoIterator<Item = (ServerId, String)>) {
        let own = self.inner.endpoint.tls.server();
        let named: HashMap<ServerId, String> = named
            .into_iter()
            .filter(|(server, _)| *server != own)
            .collect();
        let mut members = self.members();
        members.retain(|server, _| named.contains_key(server));
        for (server, address) in named {
            match members.get(&server) {
                Some(member) => member.move_to(address),
                None => {
                    members.insert(server, self.member(server, address));
                }
            }
        }
    }

    /// The connection to a member, if it stands now.
    pub fn link(&self, server: ServerId, channel: Channel) -> Option<Link> {
        let link = self
            .members()
            .get(&server)?
            .line(channel)
            .link
            .borrow()
            .clone()?;
        link.end().is_none().then_some(link)
    }

    /// Asks a member over the connection that stands now.
    ///
    /// # Errors
    /// When there is none, or no answer comes within `limit`.
    pub async fn ask(
        &self,
        server: ServerId,
        channel: Channel,
        request: Bytes,
        limit: Duration,
    ) -> Result<Bytes, AskError> {
        let link = self
            .link(server, channel)
            .ok_or_else(|| self.absent(server))?;
        link.call(request, limit)
            .await
            .map_err(|source| AskError::Call { server, source })
    }

    /// Asks a member, waiting for a connection if none stands now; all within `limit`.
    ///
    /// # Errors
    /// When no connection or no answer comes in time.
    pub async fn ask_when_connected(
        &self,
        server: ServerId,
        channel: Channel,
        request: Bytes,
        limit: Duration,
    ) -> Result<Bytes, AskError> {
        let deadline = tokio::time::Instant::now() + limit;
        let mut line = match self.members().get(&server) {
            Some(member) => member.line(channel).link.clone(),
            None => return Err(AskError::Stranger(server)),
        };
        let standing = line.wait_for(|link| link.as_ref().is_some_and(|it| it.end().is_none()));
        let link = match tokio::time::timeout_at(deadline, standing).await {
            Ok(Ok(link)) => link.clone(),
            _ => None,
        };
        let link = link.ok_or(AskError::NotConnected(server))?;
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        link.call(request, left)
            .await
            .map_err(|source| AskError::Call { server, source })
    }

    /// Opens a connection for one stream of a session, driven by the runtime that the caller runs in.
    ///
    /// # Errors
    /// When that server is no member or cannot be reached within `limit`.
    pub async fn open_stream(
        &self,
        server: ServerId,
        limit: Duration,
    ) -> Result<(Met, PeerStream), StreamError> {
        let (address, heard) = match self.members().get(&server) {
            Some(member) => (member.address(), member.heard.clone()),
            None => return Err(StreamError::Stranger(server)),
        };
        let opened = dial(
            &self.inner.endpoint,
            server,
            &address,
            Purpose::Stream,
            limit,
        )
        .await?;
        heard.now();
        Ok(opened)
    }

    /// What is told when a member is heard; connections that it dialled should tell it too. None for
    /// servers that are no members.
    pub fn heard(&self, server: ServerId) -> Option<Heard> {
        self.members()
            .get(&server)
            .map(|member| member.heard.clone())
    }

    /// When a member was last heard; none when never.
    pub fn last_heard(&self, server: ServerId) -> Option<Instant> {
        self.members().get(&server)?.heard.last()
    }

    /// Dials a member now instead of after the present delay: there is a sign that it is there.
    pub fn hurry(&self, server: ServerId) {
        if let Some(member) = self.members().get(&server) {
            member.consensus.hurry.notify_one();
            member.control.hurry.notify_one();
        }
    }

    /// Opens every connection anew with what this server shows now, and uses the one before until that stands: who was shown another
    /// certificate may close it.
    pub fn open_anew(&self) {
        for member in self.members().values() {
            member.consensus.anew.notify_one();
            member.control.anew.notify_one();
        }
    }

    /// Says goodbye to all and closes every connection, within `limit`.
    pub async fn goodbye(&self, limit: Duration) {
        let members = std::mem::take(&mut *self.members());
        let links: Vec<Link> = members
            .values()
            .flat_map(|member| [&member.consensus, &member.control])
            .filter_map(|line| line.link.borrow().clone())
            .collect();
        drop(members);
        links.iter().for_each(Link::close);
        let all = futures_util::future::join_all(links.iter().map(Link::ended));
        let _ = timeout(limit, all).await;
    }

    fn absent(&self, server: ServerId) -> AskError {
        if self.members().contains_key(&server) {
            AskError::NotConnected(server)
        } else {
            AskError::Stranger(server)
        }
    }

    fn members(&self) -> MutexGuard<'_, HashMap<ServerId, Member>> {
        self.inner
            .members
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn member(&self, server: ServerId, address: String) -> Member {
        let address = Arc::new(Mutex::new(address));
        let heard = Heard::default();
        let line = |channel: Channel, runtime: &Handle| {
            let (publish, link) = watch::channel(None);
            let (hurry, anew) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let keeping = Keeping {
                endpoint: self.inner.endpoint.clone(),
                settings: self.inner.settings.clone(),
                watcher: Arc::clone(&self.inner.watcher),
                server,
                channel,
                address: Arc::clone(&address),
                heard: heard.clone(),
                hurry: Arc::clone(&hurry),
                anew: Arc::clone(&anew),
                publish,
            };
            Line {
                link,
                hurry,
                anew,
                task: runtime.spawn(keeping.keep()).abort_handle(),
            }
        };
        let settings = &self.inner.settings;
        Member {
            consensus: line(Channel::Consensus, &settings.consensus),
            control: line(Channel::Control, &settings.control),
            address,
            heard,
        }
    }
}

impl Member {
    fn address(&self) -> String {
        self.address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn move_to(&self, address: String) {
        let mut known = self.address.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != address {
            *known = address;
            self.consensus.hurry.notify_one();
            self.control.hurry.notify_one();
        }
    }
}

/// Why no stream could be opened.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// That server is no member of the pool.
    #[error("server {0} is not known here")]
    Stranger(ServerId),
    /// It could not be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
}

#[cfg(test)]
mod tests;
