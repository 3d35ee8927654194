//! One server at work: what all its parts share, and what the API and the client port ask of it.
//!
//! A cheap clone. Start at [`crate::start`] for how it comes to be, at [`crate::submit`] for changes, and at
//! [`crate::duties`] for what it does by itself.

mod credentials;
mod current;
mod sight;

pub use credentials::{AdminLogin, Bearer};
pub use current::Current;
pub(crate) use current::{empty_directory, nobody_in};
pub use sight::{Consistency, Heard};

use crate::backends::Backends;
use crate::clock;
use crate::gateways::Gateways;
use crate::hosting::Hosting;
use crate::identity::Identity;
use crate::login::Logins;
use crate::peers::{Peers, Sight};
use crate::placing::Placing;
use crate::reports::Reports;
use crate::reset::Progress;
use crate::spool::Spool;
use crate::submit::AskError;
use crate::tickets::Tickets;
use crate::trusting::Shown;
use arc_swap::ArcSwap;
use host::Halls;
use model::{
    Author, Directory, Event, EventKind, Fields, Reason, ServerId, ServerName, SessionId, Severity,
    UnixMillis,
};
use peer::trust_store::Trust;
use policy::Explanation;
use policy::failback::Outlook;
use relay::Stop;
use replica::{Replica, Room};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use wire::control::{Answer, Failure, Request};

/// Where a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// For other servers.
    pub peer_address: String,
    /// For clients.
    pub client_address: String,
}

pub(crate) struct Inner {
    pub(crate) identity: Identity,
    /// What stands for the directory before the first snapshot has come.
    pub(crate) before: Arc<Directory>,
    pub(crate) data: PathBuf,
    pub(crate) executable: PathBuf,
    /// Keepers of sessions that launch nothing.
    pub(crate) halls: Halls,
    pub(crate) replica: Replica,
    pub(crate) peers: Peers,
    /// What is said of this server and known of others when a connection is opened.
    pub(crate) sight: Arc<Sight>,
    pub(crate) trust: ArcSwap<Trust>,
    pub(crate) shown: Shown,
    /// Operators' certificates that cannot be shown here.
    pub(crate) troubles_of_certificates: crate::external_certificates::Troubles,
    /// Told when this server has new certificates, which it says in the directory.
    pub(crate) renewed: Notify,
    /// Who still knows the group by an authority of before.
    pub(crate) pins: crate::pins::Pins,
    pub(crate) tickets: ArcSwap<Tickets>,
    pub(crate) logins: Logins,
    /// Those who check passwords besides the directory.
    pub(crate) elsewhere: crate::elsewhere::Elsewhere,
    pub(crate) reports: Reports,
    pub(crate) spool: Spool,
    pub(crate) placing: Placing,
    pub(crate) hosting: Hosting,
    pub(crate) gateways: Gateways,
    pub(crate) backends: Backends,
    pub(crate) tunnels: crate::tunnels::Tunnels,
    pub(crate) decision: Mutex<Option<Explanation>>,
    pub(crate) leaving: Mutex<Option<ServerId>>,
    /// How far a reset has come.
    pub(crate) reset: watch::Sender<Progress>,
    /// How many connections of the API are open.
    pub(crate) conversations: watch::Sender<usize>,
    /// Whether this server leads only to pass the role on: changes wait for whoever gets it.
    pub(crate) caretaker: AtomicBool,
    /// Until when this server was told to campaign, on the steady clock.
    pub(crate) ordered: Mutex<Option<Duration>>,
    /// What becomes of the original primary, as this server saw it last.
    pub(crate) outlook: Mutex<Outlook>,
    /// Formations of this group, this server's and the others'.
    pub(crate) formations: crate::formations::Known,
    pub(crate) journal: watch::Sender<u64>,
    pub(crate) started: UnixMillis,
    pub(crate) stop: Stop,
    /// Where connections for consensus run.
    pub(crate) lines: tokio::runtime::Handle,
}

/// One server at work.
#[derive(Clone)]
pub struct Node(pub(crate) Arc<Inner>);

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("name", self.name())
            .finish_non_exhaustive()
    }
}

impl Node {
    /// This server's id.
    pub fn me(&self) -> ServerId {
        self.0.identity.server
    }

    /// This server's name.
    pub fn name(&self) -> &ServerName {
        &self.0.identity.name
    }

    /// Where its data is.
    pub fn data(&self) -> &Path {
        &self.0.data
    }

    /// The directory as this server has it now.
    pub fn directory(&self) -> Current {
        Current {
            state: self.0.replica.state(),
            before: self.0.before.clone(),
        }
    }

    /// When this process started.
    pub fn started(&self) -> UnixMillis {
        self.0.started
    }

    /// The calendar.
    pub fn now(&self) -> UnixMillis {
        clock::calendar()
    }

    /// Whether this server acts as primary now.
    pub fn acting(&self) -> bool {
        self.0.replica.acting().is_yes()
    }

    /// Who leads, as far as this server knows within the grace period.
    pub fn leader(&self) -> Option<ServerId> {
        let leader = self.0.replica.leader()?;
        if leader == self.me() {
            return Some(leader);
        }
        let grace = self.directory().settings().grace_period();
        let heard = self.0.replica.last_heard()?;
        (heard.ago() <= grace).then_some(leader)
    }

    /// How old what this server has may be, in milliseconds: time since it last heard from the leader.
    pub fn age_ms(&self) -> u64 {
        if self.acting() {
            return 0;
        }
        self.0
            .replica
            .last_heard()
            .map_or(u64::MAX, |heard| millis(heard.ago()))
    }

    /// Asks another member something.
    pub(crate) async fn call(
        &self,
        server: ServerId,
        request: &Request,
        limit: Duration,
    ) -> Result<Answer, AskError> {
        let answer = self
            .0
            .peers
            .call(server, wire::encode(request), limit)
            .await?;
        Ok(wire::decode(&answer)?)
    }

    /// The newest entry of the journal; changes when there is a newer one.
    pub fn journal_changed(&self) -> watch::Receiver<u64> {
        self.0.journal.subscribe()
    }

    /// Changes when the directory does.
    pub(crate) fn directory_changed(&self) -> watch::Receiver<u64> {
        self.0.replica.applied()
    }

    /// What somebody should know of this server.
    pub fn warnings(&self) -> Vec<String> {
        let disk = match self.0.replica.room() {
            Room::Full => Some("the disk of its directory is full: changes are refused".to_owned()),
            Room::Failing(kind) => Some(format!("the disk of its directory fails: {kind}")),
            Room::Ready | Room::Making => None,
        };
        disk.into_iter()
            .chain(self.0.hosting.warnings())
            .chain(self.0.gateways.troubles())
            .chain(self.0.backends.troubles())
            .chain(self.0.troubles_of_certificates.told())
            .chain(self.0.elsewhere.told())
            .collect()
    }

    /// Records something that no change caused.
    pub(crate) fn record(
        &self,
        kind: EventKind,
        severity: Severity,
        subject: String,
        fields: Fields,
        reasons: Vec<Reason>,
    ) {
        let (at, server) = (clock::calendar(), Some(self.me()));
        self.0.spool.push(Event {
            seq: 0,
            at,
            server,
            kind,
            severity,
            subject,
            fields,
            reasons,
        });
    }

    /// The folder of a session that this server hosts.
    pub(crate) fn session_folder(&self, session: SessionId) -> PathBuf {
        self.0.data.join("sessions").join(session.to_string())
    }

    /// Changes that this server asks for by itself.
    pub(crate) fn author(&self) -> Author {
        Author::Server(self.me())
    }

    pub(crate) fn replica(&self) -> &Replica {
        &self.0.replica
    }

    pub(crate) fn tickets(&self) -> Arc<Tickets> {
        self.0.tickets.load_full()
    }

    pub(crate) fn logins(&self) -> &Logins {
        &self.0.logins
    }

    pub(crate) fn spool(&self) -> &Spool {
        &self.0.spool
    }

    pub(crate) fn stop(&self) -> Stop {
        self.0.stop.clone()
    }

    pub(crate) fn trust(&self) -> Arc<Trust> {
        self.0.trust.load_full()
    }
}

/// A failure to answer with when this server is not the one to ask.
pub(crate) fn not_primary(node: &Node) -> Failure {
    Failure::NotPrimary {
        primary: node.leader().filter(|leader| *leader != node.me()),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
