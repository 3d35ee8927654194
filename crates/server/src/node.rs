//! One server at work: what all its parts share, and what the API and the client port ask of it.
//!
//! A cheap clone. Start at [`crate::start`] for how it comes to be, at [`crate::submit`] for changes, and at
//! [`crate::duties`] for what it does by itself.

use crate::clock;
use crate::hosting::Hosting;
use crate::identity::Identity;
use crate::keys;
use crate::login::{LoginError, Logins};
use crate::peers::Peers;
use crate::placing::Placing;
use crate::reports::Reports;
use crate::spool::Spool;
use crate::submit::{AskError, SubmitError};
use crate::tickets::{Issued, TicketError, Tickets};
use arc_swap::ArcSwap;
use model::record::Group;
use model::trust::Sealed;
use model::user::PasswordHash;
use model::{
    Author, Authority, Cause, ChangeName, Directory, Event, EventKind, Formation, FormationId,
    FormationRef, Reason, Record, Role, ServerId, ServerName, SessionId, Severity, Token,
    UnixMillis, UserName,
};
use peer::trust_store::Trust;
use policy::Explanation;
use relay::Stop;
use replica::{Replica, Room, State};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use wire::client::Hidden;
use wire::control::{Answer, Failure, Report, Request, View};

/// How long a member may take to say how it sees the group.
const TICKET_LIMIT: Duration = Duration::from_secs(5);
/// How long a login for the API holds.
const API_LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// The addresses that were bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// For other servers.
    pub peer_address: String,
    /// For clients.
    pub client_address: String,
}

/// What is known of another server by having heard it, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// How long ago it was last heard, in milliseconds; never when absent.
    pub last_seen_ms: Option<u64>,
    /// Whether it was heard within the grace period.
    pub reachable: bool,
    /// How far its clock was ahead of this server's in its last report.
    pub clock_offset_ms: Option<i64>,
    /// How many changes it is behind, as far as is known.
    pub lag_changes: Option<u64>,
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// What this server has.
    Local,
    /// Everything that was acknowledged before the read began.
    Linearizable,
    /// At least this change.
    Change(ChangeName),
}

/// A login for the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminLogin {
    /// For `Authorization: Bearer`.
    pub token: Hidden,
    /// What the account may do now.
    pub role: Role,
    /// When the login ends.
    pub expires: UnixMillis,
}

pub(crate) struct Inner {
    pub(crate) identity: Identity,
    /// What stands for the directory before the first snapshot has come.
    pub(crate) before: Arc<Directory>,
    pub(crate) data: PathBuf,
    pub(crate) executable: PathBuf,
    pub(crate) bound: Bound,
    pub(crate) replica: Replica,
    pub(crate) peers: Peers,
    pub(crate) trust: ArcSwap<Trust>,
    pub(crate) tickets: ArcSwap<Tickets>,
    pub(crate) logins: Logins,
    pub(crate) reports: Reports,
    pub(crate) spool: Spool,
    pub(crate) placing: Placing,
    pub(crate) hosting: Hosting,
    pub(crate) decision: Mutex<Option<Explanation>>,
    pub(crate) leaving: Mutex<Option<ServerId>>,
    pub(crate) journal: watch::Sender<u64>,
    pub(crate) started: UnixMillis,
    pub(crate) stop: Stop,
    /// Where connections for consensus run.
    pub(crate) lines: tokio::runtime::Handle,
}

/// The directory at one moment; a cheap handle to an immutable value.
#[derive(Debug, Clone)]
pub struct Current {
    state: Arc<State>,
    before: Arc<Directory>,
}

impl Deref for Current {
    type Target = Directory;
    fn deref(&self) -> &Directory {
        self.state.directory.as_ref().unwrap_or(&self.before)
    }
}

/// What stands for the directory on a server that has joined and not received it yet: the group, and nobody in it.
pub(crate) fn empty_directory(identity: &Identity, trust: &Trust) -> Directory {
    let authority = trust
        .authorities
        .first()
        .map(|certificate| certificate.to_vec())
        .unwrap_or_default();
    let fingerprint = trust
        .fingerprint()
        .map(|fingerprint| fingerprint.to_string())
        .unwrap_or_default();
    let group = Group {
        id: identity.group,
        name: identity.group_name.clone(),
        formation: Formation {
            this: FormationRef {
                id: FormationId::default(),
                number: 0,
                fork_point: 0,
            },
            ancestors: Vec::new(),
            cause: Cause::Founded,
            original: FormationId::default(),
            original_members: Vec::new(),
            made: UnixMillis(0),
        },
        backups: Vec::new(),
        primary: None,
        primary_since: UnixMillis(0),
        last_failover: None,
        authority: Authority {
            certificate: authority,
            fingerprint,
            key: Sealed(Vec::new()),
            ticket_public: Vec::new(),
            ticket_key: Sealed(Vec::new()),
            expires: UnixMillis(0),
        },
        clock: UnixMillis(0),
        number: 0,
        last_event: 0,
        feature_level: 0,
    };
    Directory::from_records([Record::Group(Box::new(group))])
        .expect("a group's record alone makes a directory")
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

    /// What was bound.
    pub fn bound(&self) -> &Bound {
        &self.0.bound
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

    /// What is known of every other member.
    pub fn heard(&self) -> BTreeMap<ServerId, Heard> {
        let directory = self.directory();
        let grace = directory.settings().grace_period();
        let newest = directory.group().number;
        let reports = self.0.reports.all();
        let others = directory.servers().filter(|server| server.id != self.me());
        others
            .map(|server| {
                let silent = self.0.peers.silent_for(server.id);
                let report = reports.get(&server.id);
                let heard = Heard {
                    last_seen_ms: silent.map(millis),
                    reachable: silent.is_some_and(|silent| silent <= grace),
                    clock_offset_ms: report.and_then(|known| known.offset_ms),
                    lag_changes: report
                        .map(|known| newest.saturating_sub(known.report.applied.number)),
                };
                (server.id, heard)
            })
            .collect()
    }

    /// The last known report of each server.
    pub fn reports(&self) -> BTreeMap<ServerId, Report> {
        self.0
            .reports
            .all()
            .into_iter()
            .map(|(server, known)| (server, known.report))
            .collect()
    }

    /// How each member sees the group, asked now.
    pub async fn views(&self, limit: Duration) -> Vec<(ServerId, Result<View, String>)> {
        let directory = self.directory();
        let asked = directory.servers().map(|server| async {
            let id = server.id;
            if id == self.me() {
                return (id, Ok(self.view()));
            }
            let view = match self.call(id, &Request::View, limit).await {
                Ok(Answer::View(view)) => Ok(*view),
                Ok(_) => Err("its answer makes no sense".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            (id, view)
        });
        futures_util::future::join_all(asked).await
    }

    /// How this server sees the group.
    pub fn view(&self) -> View {
        let directory = self.directory();
        let status = self.0.replica.status();
        View {
            server: self.me(),
            formation: directory.group().formation.this,
            leader: self.leader(),
            term: status.term,
            acting: self.acting(),
            voters: status.voters.iter().copied().collect(),
            applied: directory.newest(),
            hears: self.hears(),
            clock: clock::calendar(),
        }
    }

    /// Members that were heard within the grace period.
    pub(crate) fn hears(&self) -> Vec<ServerId> {
        self.heard()
            .into_iter()
            .filter(|(_, heard)| heard.reachable)
            .map(|(server, _)| server)
            .collect()
    }

    /// Whether a server is this one, or was heard within the grace period.
    pub(crate) fn is_heard(&self, server: ServerId) -> bool {
        let grace = self.directory().settings().grace_period();
        let silent = || self.0.peers.silent_for(server);
        server == self.me() || silent().is_some_and(|silent| silent <= grace)
    }

    /// Waits until what this server has is fresh enough; gives how old it may be, in milliseconds.
    ///
    /// # Errors
    /// When nobody can tell, or this server does not get there in time.
    pub async fn catch_up(&self, consistency: Consistency) -> Result<u64, SubmitError> {
        let name = match consistency {
            Consistency::Local => return Ok(self.age_ms()),
            Consistency::Change(name) => name,
            Consistency::Linearizable => self.read_index().await?,
        };
        if self.0.replica.wait_for(name, crate::submit::LIMIT).await {
            Ok(0)
        } else {
            Err(SubmitError::Behind { name })
        }
    }

    async fn read_index(&self) -> Result<ChangeName, SubmitError> {
        let no_primary = || SubmitError::NoPrimary {
            detail: self.missing(),
        };
        match self.leader() {
            Some(leader) if leader == self.me() => self
                .0
                .replica
                .read_index(crate::submit::LIMIT)
                .await
                .map_err(|_| no_primary()),
            Some(leader) => match self
                .call(leader, &Request::ReadIndex, crate::submit::LIMIT)
                .await
            {
                Ok(Answer::ReadIndex(name)) => Ok(name),
                _ => Err(no_primary()),
            },
            None => Err(no_primary()),
        }
    }

    /// Checks a password for the API and gives a token for it.
    ///
    /// # Errors
    /// Wrong, locked or busy; or no server at hand can sign.
    pub async fn login(
        &self,
        user: UserName,
        password: Hidden,
        from: SocketAddr,
    ) -> Result<AdminLogin, LoginError> {
        let account = self.check_password(&user, password, from).await?;
        let signed = self
            .tickets()
            .for_api(&user, clock::calendar(), API_LIFETIME);
        let issued = signed.map_err(|error| {
            tracing::warn!(%error, "a login cannot be answered here");
            LoginError::Busy
        })?;
        Ok(AdminLogin {
            token: issued.ticket,
            role: account.role,
            expires: issued.expires,
        })
    }

    /// Who shows this bearer token, and what he may do now.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn check_bearer(&self, token: &str) -> Result<(UserName, Role), TicketError> {
        self.tickets().check_api(token, &self.directory())
    }

    /// Hashes a new password, in the pool.
    ///
    /// # Errors
    /// When it is unfit or too many wait.
    pub async fn hash_password(&self, password: Hidden) -> Result<PasswordHash, LoginError> {
        self.0.logins.hash(password).await
    }

    /// A ticket for a user who has logged in here; signed elsewhere when this server holds no key.
    ///
    /// # Errors
    /// When no server that is reached can sign.
    pub(crate) async fn issue_ticket(
        &self,
        user: &UserName,
        token: &Token,
    ) -> Result<Issued, TicketError> {
        let tickets = self.tickets();
        if tickets.can_sign() {
            let lifetime = self.directory().settings().ticket_lifetime();
            return tickets.for_token(user, token, clock::calendar(), lifetime);
        }
        let directory = self.directory();
        let request = Request::IssueTicket {
            user: user.clone(),
            token: token.clone(),
        };
        for server in directory
            .servers()
            .filter(|server| server.standing.may_lead())
        {
            if let Ok(Answer::Ticket { ticket, expires }) =
                self.call(server.id, &request, TICKET_LIMIT).await
            {
                return Ok(Issued { ticket, expires });
            }
        }
        Err(TicketError::NoKey)
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
        disk.into_iter().chain(self.0.hosting.warnings()).collect()
    }

    /// Records something that no change caused.
    pub(crate) fn record(
        &self,
        kind: EventKind,
        severity: Severity,
        subject: String,
        fields: BTreeMap<String, String>,
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

    /// Opens the ticket key once the directory has it; servers without the seal key sign nothing.
    pub(crate) fn open_ticket_key(&self) {
        if self.tickets().can_sign() {
            return;
        }
        let Some(seal) = self.trust().seal.clone() else {
            return;
        };
        match keys::open_ticket_key(&self.directory(), &seal) {
            Ok(key) => {
                let tickets = Tickets::new(self.0.identity.group, Some(&key));
                self.0.tickets.store(Arc::new(tickets));
            }
            Err(error) => {
                tracing::error!(%error, "the ticket key cannot be opened: logins here are signed elsewhere")
            }
        }
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
