//! Records of the directory as the API shows them.

mod documents;

pub(super) use documents::{effective, no_preferences, preferences, profile, secret};

use super::bodies::{self, rfc3339};
use super::problem::Problem;
use crate::backends::BackendState;
use crate::gateways::GatewayState;
use crate::node::{Current, Heard, Node};
use model::server::{ExternalAddress, Offline};
use model::settings::Setting;
use model::settings::value::nearest;
use model::{
    ApiToken, Application, Directory, ExternalCertificate, Fields, Gateway, Mode, RegisteredToken,
    ResilienceMode, RunAs, Server, ServerId, Session, Standing, User, UserName,
};
use std::collections::BTreeMap;
use wire::control::{BackendReport, Report};

/// What was asked of others, so that a whole answer is of one moment.
pub(super) struct Moment {
    node: Node,
    pub(super) directory: Current,
    pub(super) heard: BTreeMap<ServerId, Heard>,
    reports: BTreeMap<ServerId, Report>,
    /// Who accepts changes: leads, and said in the directory that it is primary.
    pub(super) primary: Option<ServerId>,
}

impl Moment {
    /// Now.
    pub(super) fn new(node: &Node) -> Self {
        let directory = node.directory();
        let primary = node
            .leader()
            .filter(|leader| directory.group().primary == Some(*leader));
        Self {
            node: node.clone(),
            heard: node.heard(),
            reports: node.reports(),
            primary,
            directory,
        }
    }

    /// The pause of automatic failover that holds, by the answering server's clock.
    pub(super) fn paused(&self) -> Option<&model::Pause> {
        self.directory.group().pause_at(self.node.now())
    }

    /// Whether the answering server hears a member.
    pub(super) fn reaches(&self, server: ServerId) -> bool {
        server == self.node.me() || self.heard.get(&server).is_some_and(|heard| heard.reachable)
    }

    /// `primary` or `secondary`.
    pub(super) fn role(&self, server: ServerId) -> String {
        if self.primary == Some(server) {
            "primary"
        } else {
            "secondary"
        }
        .to_owned()
    }

    /// A member, as `status` shows it.
    pub(super) fn server(&self, server: &Server) -> bodies::ServerStatus {
        let me = server.id == self.node.me();
        let heard = self.heard.get(&server.id);
        let report = self.reports.get(&server.id);
        let expires = report.map_or(server.certificate_expires, |report| {
            report.certificate_expires
        });
        bodies::ServerStatus {
            name: server.name.to_string(),
            id: server.id.to_string(),
            role: self.role(server.id),
            standing: standing(server.standing).to_owned(),
            voter: server.voting,
            reachable: self.reaches(server.id),
            mode: mode(&server.mode).to_owned(),
            lag_changes: if me {
                Some(self.own_lag())
            } else {
                heard.and_then(|heard| heard.lag_changes)
            },
            in_sync: self.in_sync(server.id),
            sessions: count(self.directory.sessions_on(server.id).count()),
            load: report.map(|report| fraction(report.cpu_permille)),
            memory: report.map(|report| fraction(report.memory_permille)),
            version: server.version.clone(),
            clock_offset_ms: if me {
                Some(0)
            } else {
                heard.and_then(|heard| heard.clock_offset_ms)
            },
            certificate_expires: rfc3339(expires),
            last_seen_ms: if me {
                Some(0)
            } else {
                heard.and_then(|heard| heard.last_seen_ms)
            },
        }
    }

    /// Whether the primary waits for a server, as it said last.
    fn in_sync(&self, server: ServerId) -> Option<bool> {
        let primary = self.primary.filter(|primary| *primary != server)?;
        if self.directory.group().mode == ResilienceMode::Quorum {
            return None;
        }
        let report = self.reports.get(&primary)?;
        Some(report.in_sync.contains(&server))
    }

    /// How many changes the answering server is behind the newest that any other was seen to have.
    fn own_lag(&self) -> u64 {
        let own = self.directory.newest();
        let others = self
            .reports
            .values()
            .map(|report| report.applied)
            .filter(|name| name.formation == own.formation);
        others
            .map(|name| name.number.saturating_sub(own.number))
            .max()
            .unwrap_or(0)
    }

    /// A member with all its fields.
    pub(super) fn whole_server(&self, server: &Server) -> bodies::Server {
        let offline = match &server.mode {
            Mode::Online => None,
            Mode::Offline(it) => {
                let left = self.directory.to_drain(server).count();
                Some(offline(it, left))
            }
        };
        bodies::Server {
            status: self.server(server),
            peer_address: server.peer_address.clone(),
            client_address: server.client_address.clone(),
            offline,
            power: f64::from(server.power) / 1000.0,
            labels: server.labels.clone(),
            external: external(&server.external),
            backends: self.backends(server.id),
            joined: rfc3339(server.joined),
            version_number: server.version_number,
        }
    }

    /// The backends that a member checks: as it is here, or as it reported.
    fn backends(&self, server: ServerId) -> Vec<bodies::ServerBackend> {
        let reported = match server == self.node.me() {
            true => self.node.0.backends.reported(),
            false => {
                let report = self.reports.get(&server);
                report.map_or_else(Vec::new, |report| report.backends.clone())
            }
        };
        let shown = |one: BackendReport| bodies::ServerBackend {
            backend: one.backend,
            state: if one.up { "up" } else { "down" }.to_owned(),
            since: rfc3339(one.since),
            error: one.trouble,
            sessions: one.sessions,
        };
        reported.into_iter().map(shown).collect()
    }

    /// A member, as the group's list shows it.
    pub(super) fn member(&self, server: &Server) -> bodies::Member {
        let place = self
            .directory
            .group()
            .backups
            .iter()
            .position(|backup| *backup == server.id);
        bodies::Member {
            name: server.name.to_string(),
            id: server.id.to_string(),
            role: self.role(server.id),
            standing: standing(server.standing).to_owned(),
            voter: server.voting,
            backup: place.and_then(|place| u32::try_from(place + 1).ok()),
            reachable: self.reaches(server.id),
            peer_address: server.peer_address.clone(),
            client_address: server.client_address.clone(),
            joined: rfc3339(server.joined),
        }
    }
}

/// Members in the order in which lists show them: by name.
pub(super) fn by_name(directory: &Directory) -> Vec<&Server> {
    let mut servers: Vec<&Server> = directory.servers().map(|server| &**server).collect();
    servers.sort_by_key(|server| server.name.as_str().to_lowercase());
    servers
}

/// A member by its name.
///
/// # Errors
/// There is none, with the name that is spelled most like it.
pub(super) fn server_named<'a>(
    directory: &'a Directory,
    name: &str,
) -> Result<&'a Server, Problem> {
    directory
        .server_named(name)
        .map(|server| &**server)
        .ok_or_else(|| {
            let nearest = nearest(name, directory.servers().map(|server| server.name.as_str()));
            Problem::not_found("server", name, nearest)
        })
}

pub(super) fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Voter => "voter",
        Standing::NonVoter => "non-voter",
        Standing::Witness => "witness",
    }
}

fn mode(mode: &Mode) -> &'static str {
    if mode.is_online() {
        "online"
    } else {
        "offline"
    }
}

fn fraction(permille: u32) -> f64 {
    f64::from(permille) / 1000.0
}

/// A count as JSON has it.
pub(super) fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// An account.
/// A registered token.
pub(super) fn token(token: &RegisteredToken) -> bodies::Token {
    bodies::Token {
        name: token.token.to_string(),
        kind: token.token.kind().map(str::to_owned),
        user: token.user.to_string(),
        app: token.app.as_ref().map(ToString::to_string),
        home: token.home.as_ref().map(ToString::to_string),
        enabled: token.enabled,
        aliases: token.aliases.iter().map(ToString::to_string).collect(),
        created: rfc3339(token.created),
        version_number: token.version_number,
    }
}

/// An account as it is in this directory.
pub(super) fn user_of(directory: &Directory, one: &User) -> bodies::User {
    let by = directory.authenticated_by(one).as_str().to_owned();
    bodies::User {
        authenticated_by: Some(by),
        ..user(one)
    }
}

/// An account, whatever directory it is or was in.
pub(super) fn user(user: &User) -> bodies::User {
    let locked = user.locked_until(crate::clock::calendar());
    bodies::User {
        name: user.name.to_string(),
        role: user.role.as_str().to_owned(),
        groups: user.groups.clone(),
        disabled: user.disabled,
        password_set: rfc3339(user.password_set),
        api_tokens: (user.api_tokens.iter())
            .map(|token| api_token(&user.name, token))
            .collect(),
        version_number: user.version_number,
        locked_until: locked.map(rfc3339),
        failed_logins: locked.and(user.lock).map(|lock| lock.failures),
        authenticated_by: None,
        origin: user.origin.as_str().to_owned(),
    }
}

/// A user's token for the API.
pub(super) fn api_token(user: &UserName, token: &ApiToken) -> bodies::ApiToken {
    bodies::ApiToken {
        name: token.name.to_string(),
        user: user.to_string(),
        role: token.role.as_str().to_owned(),
        created: rfc3339(token.created),
        expires: rfc3339(token.expires),
    }
}

/// Where clients of some networks reach a server.
pub(super) fn external(external: &[ExternalAddress]) -> Vec<bodies::External> {
    let shown = external.iter().map(|external| bodies::External {
        network: external.network.to_string(),
        address: external.address.clone(),
    });
    shown.collect()
}

/// Why a server gets no new sessions; `left` of those that it has are to be moved yet.
pub(super) fn offline(offline: &Offline, left: usize) -> bodies::Offline {
    bodies::Offline {
        by: offline.by.clone(),
        reason: offline.reason.clone(),
        since: rfc3339(offline.since),
        until: offline.until.map(rfc3339),
        drain: offline.drain.as_ref().map(|drain| bodies::Drain {
            deadline: rfc3339(drain.deadline),
            finished: drain.finished.map(rfc3339),
            left: u64::try_from(left).unwrap_or(u64::MAX),
        }),
    }
}

/// A gateway, and how it is on this server.
pub(super) fn certificate(one: &ExternalCertificate) -> bodies::ExternalCertificate {
    bodies::ExternalCertificate {
        name: one.name.to_string(),
        fingerprint: one.fingerprint.clone(),
        issuer: one.issuer.clone(),
        expires: rfc3339(one.expires),
        version_number: one.version_number,
    }
}

pub(super) fn gateway(gateway: &Gateway, here: Option<GatewayState>) -> bodies::Gateway {
    bodies::Gateway {
        name: gateway.name.to_string(),
        listen: gateway.listen.to_string(),
        app: gateway.app.to_string(),
        token_from: gateway.token_from.to_string(),
        here: here.map(|here| bodies::GatewayHere {
            listening: here.error.is_none(),
            error: here.error,
            connections: here.connections as u64,
        }),
        version_number: gateway.version_number,
    }
}

/// An application.
pub(super) fn app(app: &Application) -> bodies::App {
    bodies::App {
        name: app.name.to_string(),
        launch: app.launch.clone(),
        backends: app.weighted().map(|one| one.to_string()).collect(),
        here: Vec::new(),
        ready_timeout_ms: app.ready_timeout_ms,
        resumable: app.resumable.as_str().to_owned(),
        detach_timeout_ms: app.detach_timeout_ms,
        suspended_timeout_ms: app.suspended_timeout_ms,
        idle_timeout_ms: app.idle_timeout_ms,
        max_per_user: app.max_per_user,
        max_per_server: app.max_per_server,
        hosts: app.hosts.clone(),
        users: app.users.clone(),
        env: app.env.clone(),
        dir: app.dir.clone(),
        run_as: app.run_as.as_ref().map(RunAs::to_string),
        on_drain: app.on_drain.as_str().to_owned(),
        proxy_protocol: if app.proxy_protocol { "v2" } else { "none" }.to_owned(),
        version_number: app.version_number,
    }
}

/// An application with how its backends are on this server.
pub(super) fn app_here(node: &Node, record: &Application) -> bodies::App {
    let here = |state: BackendState| bodies::BackendHere {
        backend: state.backend.backend.to_string(),
        weight: state.backend.weight,
        state: match state.up {
            Some((true, _)) => "up",
            Some((false, _)) => "down",
            None => "unchecked",
        }
        .to_owned(),
        since: state.up.map(|(_, since)| rfc3339(since)),
        error: state.trouble,
        sessions: state.sessions,
    };
    let states = node.0.backends.states(record).into_iter();
    bodies::App {
        here: states.map(here).collect(),
        ..app(record)
    }
}

/// A session.
pub(super) fn session(directory: &Directory, session: &Session) -> bodies::Session {
    bodies::Session {
        id: session.id.to_string(),
        token: session.token.to_string(),
        user: session.user.to_string(),
        app: session.app.to_string(),
        host: directory.name_of(session.host),
        state: session.state.as_str().to_owned(),
        created: rfc3339(session.created),
        client: session.client.as_deref().map(str::to_owned),
        last_attached: session.last_attached.map(rfc3339),
        current: session.current,
        ended: session.ended.map(rfc3339),
        reason: session.reason.as_ref().map(ToString::to_string),
        version_number: session.version_number,
    }
}

/// An entry of the journal.
pub(super) fn event(directory: &Directory, event: &model::Event) -> bodies::Event {
    bodies::Event {
        seq: event.seq,
        at: rfc3339(event.at),
        server: event.server.map(|server| directory.name_of(server)),
        kind: event.kind.as_str().to_owned(),
        severity: event.severity.as_str().to_owned(),
        subject: event.subject.clone(),
        fields: owned(&event.fields),
        reasons: event.reasons.iter().map(reason).collect(),
    }
}

fn owned(fields: &Fields) -> BTreeMap<String, String> {
    let fields = fields.iter();
    fields
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A reason.
pub(super) fn reason(reason: &model::Reason) -> bodies::Reason {
    bodies::Reason {
        rule: reason.rule.clone(),
        pass: reason.pass,
        detail: reason.detail.clone(),
    }
}

/// A setting with its value for the group, or for one server.
pub(super) fn setting(
    directory: &Directory,
    setting: &'static Setting,
    on: Option<ServerId>,
) -> bodies::Setting {
    let settings = directory.settings();
    let own = on.and_then(|server| settings.explicit(setting, Some(server)));
    let group = settings.explicit(setting, None);
    let (value, source) = match (own, group) {
        (Some(own), _) => (own.to_string(), "server"),
        (None, Some(group)) => (group.to_string(), "group"),
        (None, None) => (setting.default.to_owned(), "default"),
    };
    let mut overrides: Vec<bodies::Override> = directory
        .servers()
        .filter_map(|server| {
            let value = settings.explicit(setting, Some(server.id))?;
            Some(bodies::Override {
                server: server.name.to_string(),
                value: value.to_string(),
            })
        })
        .collect();
    overrides.sort_by(|left, right| left.server.cmp(&right.server));
    bodies::Setting {
        name: setting.key.to_owned(),
        value,
        source: source.to_owned(),
        default: setting.default.to_owned(),
        kind: setting.kind.as_str().to_owned(),
        range: setting.kind.range(),
        unit: setting.unit.to_owned(),
        help: setting.help.to_owned(),
        per_server: setting.per_server,
        overrides,
        warning: None,
    }
}
