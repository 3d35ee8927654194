//! Requests between members: changes that are forwarded, reports, reads, and streams of sessions.

use model::{
    AppName, Applied, Author, AuthorityMark, ChangeId, ChangeName, Command, FormationId,
    FormationRef, Reason, Record, SealMark, SecretMark, ServerId, SessionId, Side, Token,
    UnixMillis, UserName,
};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

use crate::client::Hidden;

/// What one member asks of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Make this change; only a primary does.
    Propose {
        /// Its idempotency key.
        id: ChangeId,
        /// Who asked for it.
        author: Author,
        /// What to do.
        command: Command,
    },
    /// Find or place and make the token's session; only a primary does.
    OpenSession {
        /// The idempotency key.
        id: ChangeId,
        /// Who asked for it.
        author: Author,
        /// Whose session.
        token: Token,
        /// Who logged in.
        user: UserName,
        /// Which application.
        app: AppName,
        /// A host that was asked for by name.
        host: Option<ServerId>,
        /// Where the client is, where that is known.
        client: Option<IpAddr>,
    },
    /// Find or place and make the session of a token that a gateway's client claims; only a primary does.
    BindToken {
        /// The idempotency key.
        id: ChangeId,
        /// Who asked for it.
        author: Author,
        /// What is claimed.
        token: Token,
        /// Which application.
        app: AppName,
        /// Where the client is, where that is known.
        client: Option<IpAddr>,
    },
    /// Move a session to that server, or to where placement puts it; only a primary does.
    MoveSession {
        /// The idempotency key.
        id: ChangeId,
        /// Who asked for it.
        author: Author,
        /// Which session.
        session: SessionId,
        /// Where to.
        to: Option<ServerId>,
        /// Who wants it, in words.
        by: String,
    },
    /// Soft state of the sender; the primary answers with what it knows of all.
    Report(Box<Report>),
    /// The newest change that a linearizable read must have seen.
    ReadIndex,
    /// How this server sees the group.
    View,
    /// Make that server the primary.
    Promote {
        /// Which.
        server: ServerId,
        /// Who asked for it.
        author: Author,
        /// Why, in words.
        reason: Option<String>,
        /// Whether the original primary stays the original one.
        temporary: bool,
    },
    /// Remove that server from the group.
    RemoveServer {
        /// Which.
        server: ServerId,
        /// Who asked for it.
        author: Author,
        /// Why, in words.
        reason: Option<String>,
    },
    /// Sign a ticket for a user who has logged in at the sender.
    IssueTicket {
        /// Who.
        user: UserName,
        /// For which token.
        token: Token,
    },
    /// Try to reach a server that wants to join.
    Probe {
        /// Where.
        address: String,
        /// SHA-256 of the public key that answers there.
        probe_key: [u8; 32],
    },
    /// The sender stops in an orderly way.
    Goodbye,
    /// Which formation this server is in, and how that stands.
    Side,
    /// The sender wants to leave its formation for the one of the server that is asked, which acts as primary of it.
    Enter {
        /// How the sender's formation stands.
        side: Box<Side>,
        /// The formation that it wants to enter.
        formation: FormationId,
        /// Whether it speaks for its whole formation, as its primary, and what was changed there is to give way.
        gives_way: bool,
        /// Whether an administrator said so, whatever `resilience.primary-return` says.
        by_hand: bool,
    },
    /// What a formation began with, on the server that is asked: records that people edit, some at a time.
    Base {
        /// Which formation.
        formation: FormationId,
        /// How many records to pass over.
        offset: u32,
    },
    /// Make a formation that goes on from what the asked server has, with itself as primary.
    MakeFormation {
        /// The formation that it is in now.
        from: FormationId,
        /// Who asked for it.
        author: Author,
        /// Why, in words.
        reason: Option<String>,
    },
    /// Leave the present formation for that one, whatever `resilience.primary-return` says.
    GiveWay {
        /// Which formation is to stand.
        to: FormationId,
        /// A server that acts as its primary.
        primary: ServerId,
        /// Who asked for it.
        author: Author,
        /// Why, in words.
        reason: Option<String>,
    },
    /// Try whether a member is reached at an address.
    TryAddress {
        /// Which member.
        server: ServerId,
        /// Which of its ports.
        port: Port,
        /// Where, `host:port`.
        address: String,
    },
    /// The server that is asked is being removed: once members refuse it, it stands alone. Only its primary says so.
    StandAlone {
        /// The formation that it is removed from.
        formation: FormationId,
        /// Who asked for it, in words.
        by: String,
        /// Why, in words.
        reason: Option<String>,
    },
}

/// A port of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Port {
    /// For other servers.
    Peer,
    /// For clients and administrators.
    Client,
}

/// What a member answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Request::Propose`], [`Request::OpenSession`] and [`Request::MoveSession`].
    Applied(Box<Applied>),
    /// To [`Request::Report`].
    Reports(Vec<Relayed>),
    /// To [`Request::ReadIndex`].
    ReadIndex(ChangeName),
    /// To [`Request::View`].
    View(Box<View>),
    /// It is done.
    Done,
    /// A ticket and when it stops being valid.
    Ticket {
        /// The ticket.
        ticket: Hidden,
        /// When it stops being valid.
        expires: UnixMillis,
    },
    /// To [`Request::Side`].
    Side(Box<Side>),
    /// To [`Request::Base`]; empty after the last.
    Records(Vec<Record>),
    /// No, and why.
    Failed(Failure),
    /// To [`Request::Enter`]: the asked server made room, and the sender counts itself from that entry on.
    Room {
        /// The asked server's term.
        term: u64,
        /// The number of an entry of that term.
        number: u64,
    },
}

/// Why a member could not do it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// It does not act as primary.
    #[error("this server does not act as primary")]
    NotPrimary {
        /// Who does, as far as it knows.
        primary: Option<ServerId>,
    },
    /// Too few voters answer.
    #[error("there is no quorum: {missing} missing")]
    NoQuorum {
        /// Who is missing, by name.
        missing: String,
    },
    /// It cannot tell whether the change was made.
    #[error("the outcome is unknown: ask again with the same idempotency key")]
    OutcomeUnknown,
    /// Its disk is full.
    #[error("the disk is full")]
    DiskFull,
    /// No server is fit to host, or to be primary.
    #[error("{decision}")]
    Unfit {
        /// What was decided, in words.
        decision: String,
        /// Why, candidate by candidate.
        candidates: Vec<(ServerId, Vec<Reason>)>,
    },
    /// It could not reach what it was to reach.
    #[error("{address} cannot be reached: {why}")]
    Unreachable {
        /// Where it tried.
        address: String,
        /// What it saw.
        why: String,
    },
    /// It lacks the key for it.
    #[error("this server does not hold the seal key")]
    NoSealKey,
    /// The request is not for it, or makes no sense.
    #[error("the request makes no sense here: {why}")]
    Invalid {
        /// Why.
        why: String,
    },
}

/// Soft state of one server, told every second and at once when it matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whose.
    pub server: ServerId,
    /// When it was made, by its own clock.
    pub at: UnixMillis,
    /// Load of the processors, in thousandths of all of them.
    pub cpu_permille: u32,
    /// Memory in use, in thousandths.
    pub memory_permille: u32,
    /// Sessions that it hosts.
    pub sessions: u32,
    /// Clients attached to it.
    pub clients: u32,
    /// The newest change that it has applied.
    pub applied: ChangeName,
    /// Servers that it has heard within the grace period.
    pub hears: Vec<ServerId>,
    /// Applications that failed to start there, and when.
    pub failed_starts: Vec<(AppName, UnixMillis)>,
    /// Free bytes where its data is.
    pub disk_free: u64,
    /// Sessions without a systemd scope or control group of their own, and the like; shown in `status`.
    pub warnings: Vec<String>,
    /// When its peer certificate expires.
    pub certificate_expires: UnixMillis,
    /// The lease that its consensus core runs with, in milliseconds.
    pub lease_ms: u64,
    /// The mark of the group secret that it proves.
    pub secret: SecretMark,
    /// Followers without which it acknowledges no change; of a primary that alone counts.
    pub in_sync: Vec<ServerId>,
    /// How long messages took to others and back in the last minute.
    pub round_trips: Vec<RoundTrip>,
    /// Users whose sessions of an application have no account to run as there, and since when.
    pub lacking_accounts: Vec<(AppName, UserName, UnixMillis)>,
    /// The backends that it checks, as far as they fit into a report.
    pub backends: Vec<BackendReport>,
    /// The authorities that it accepts.
    pub accepts: Vec<AuthorityMark>,
    /// The authority that issued the certificates that it shows.
    pub shows: AuthorityMark,
    /// Clients and programs that came to it lately and know an authority of before.
    pub pins: Vec<Pin>,
    /// Names that logins failed with lately, as far as they fit into a report.
    pub failed_logins: Vec<FailedLogins>,
    /// The cipher suites that its program can speak.
    pub supported_suites: Vec<String>,
    /// Those that it speaks now.
    pub suites: Vec<String>,
    /// The seal keys that it has.
    pub seals: Vec<SealMark>,
}

/// A client or a program, and the authority that it knows the group by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Who, as far as it is known.
    pub name: String,
    /// From where.
    pub from: String,
    /// When it came.
    pub at: UnixMillis,
    /// The authority.
    pub authority: AuthorityMark,
}

/// Logins that failed with one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedLogins {
    /// The name; there may be no such account.
    pub name: UserName,
    /// How many failed lately.
    pub failures: u32,
    /// How long before the report the last one did, in milliseconds.
    pub ago_ms: u64,
}

/// A backend as the server that checks it finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendReport {
    /// Its address.
    pub backend: String,
    /// Whether it is up.
    pub up: bool,
    /// Since when.
    pub since: UnixMillis,
    /// What the last check met, if it failed.
    pub trouble: Option<String>,
    /// Sessions of that server that have it.
    pub sessions: u32,
}

/// A report as the primary passes it on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relayed {
    /// The report.
    pub report: Report,
    /// How far its sender's clock is ahead of the primary's, in milliseconds; none: not known.
    pub ahead_ms: Option<i64>,
}

/// Round trips from the sender of a report to another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundTrip {
    /// To whom.
    pub to: ServerId,
    /// Half of them took no longer, in microseconds.
    pub median_us: u64,
    /// None of them took longer, in microseconds.
    pub worst_us: u64,
    /// How many were measured.
    pub samples: u32,
}

/// How one server sees the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Whose view.
    pub server: ServerId,
    /// The formation that it is in.
    pub formation: FormationRef,
    /// Who leads, as it sees it.
    pub leader: Option<ServerId>,
    /// The term.
    pub term: u64,
    /// Whether it acts as primary itself.
    pub acting: bool,
    /// Voters, as it sees it.
    pub voters: Vec<ServerId>,
    /// The newest change that it has applied.
    pub applied: ChangeName,
    /// Servers that it has heard within the grace period.
    pub hears: Vec<ServerId>,
    /// Its clock.
    pub clock: UnixMillis,
}

/// Opens a stream of a session on a connection of its own, for a client that reached the sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOpening {
    /// Which session.
    pub session: SessionId,
    /// What is wanted of it.
    pub to: StreamTo,
}

/// Where a stream leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamTo {
    /// To the session's keeper, who is asked this.
    Keeper(crate::keeper::Opening),
    /// To the backend itself, for a gateway's client: bytes as they are follow.
    Backend {
        /// The client's address.
        client: SocketAddr,
        /// The address that it reached.
        reached: SocketAddr,
    },
}

/// The answer to a [`StreamOpening`]; the tunnel's frames follow an accepted one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamAnswer {
    /// What the keeper answered.
    Keeper(crate::keeper::OpeningAnswer),
    /// The session is not here.
    NotHere,
    /// Its keeper does not answer.
    KeeperUnreachable {
        /// What was seen.
        why: String,
    },
    /// The backend is connected.
    Connected,
    /// The backend does not accept.
    NoBackend {
        /// What was tried and seen.
        detail: String,
    },
}
