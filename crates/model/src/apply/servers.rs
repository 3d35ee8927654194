//! Changes of the group's shape: who is a member, who counts, and what each server says of itself.
//!
//! Always true: somebody counts; names and addresses are unique; the group works at the lowest feature level of its members.

use super::draining::check_words;
use super::{Applying, bounds};
use crate::change::{Command, Kind, Outcome, Refusal};
use crate::divergence::EditedServer;
use crate::event::{EventKind, Severity};
use crate::id::{IncarnationId, InvitationId, ServerId};
use crate::name::NAME_LIMIT;
use crate::server::{Mode, Server};
use crate::session::EndReason;
use crate::time::UnixMillis;
use crate::trust::{Invitation, KeyMark};
use std::sync::Arc;

/// The most external addresses of a server.
const EXTERNAL: usize = 64;
/// The most labels of a server.
const LABELS: usize = 64;

/// What a server says of itself when it starts.
struct Report<'a> {
    version: &'a str,
    feature_level: u32,
    incarnation: IncarnationId,
    certificate_expires: UnixMillis,
    peer_key: KeyMark,
}

impl Applying<'_> {
    pub(super) fn member(&self, id: ServerId) -> Result<Arc<Server>, Refusal> {
        let found = self.directory.servers.get(&id).cloned();
        found.ok_or_else(|| Refusal::NotFound {
            kind: Kind::Server,
            name: id.to_string(),
        })
    }

    pub(super) fn put_server(&mut self, server: Server) {
        let record = Server {
            version_number: self.number,
            ..server
        };
        self.directory.servers.insert(record.id, Arc::new(record));
        self.level_up();
    }

    /// The group works at the lowest level among its members.
    fn level_up(&mut self) {
        let lowest = self
            .directory
            .servers
            .values()
            .map(|server| server.feature_level)
            .min();
        if let Some(level) = lowest.filter(|level| *level != self.directory.group.feature_level) {
            Arc::make_mut(&mut self.directory.group).feature_level = level;
        }
    }

    /// Who is a member.
    pub(super) fn about_members(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        match command {
            Command::AdmitServer { server, invitation } => self.admit_server(server, *invitation),
            Command::RemoveServer { server, reason } => {
                self.remove_server(*server, reason.as_deref())
            }
            other => unreachable!("invariant: only who is a member comes here, not {other:?}"),
        }
    }

    fn admit_server(
        &mut self,
        server: &Server,
        invitation: InvitationId,
    ) -> Result<Outcome, Refusal> {
        let invited = self.usable_invitation(invitation)?;
        if self.directory.removed.contains_key(&server.id) {
            return Err(Refusal::ServerRemoved { server: server.id });
        }
        if server.standing != invited.standing {
            return Err(bounds::invalid(
                "standing",
                "the join code was made for another kind of member",
            ));
        }
        self.check_unique(server)?;
        bounds::room(Kind::Server, self.directory.servers.len(), bounds::SERVERS)?;
        check_server(server)?;
        if server.feature_level < self.directory.group.feature_level {
            return Err(self.too_old(server, server.feature_level));
        }
        let joining: Vec<_> = self
            .directory
            .servers
            .values()
            .filter(|other| !other.started)
            .collect();
        if joining.len() >= bounds::JOINING
            && let Some(oldest) = joining.iter().min_by_key(|other| (other.joined, other.id))
        {
            return Err(Refusal::StructureBusy {
                server: oldest.name.clone(),
            });
        }
        let used = Invitation {
            used_by: Some(server.name.to_string()),
            ..(*invited).clone()
        };
        self.directory
            .invitations
            .insert(invitation, Arc::new(used));
        self.put_server(Server {
            voting: false,
            started: false,
            joined: self.at,
            ..server.clone()
        });
        let fields = [
            ("standing", server.standing.as_str().to_owned()),
            ("peer_address", server.peer_address.clone()),
        ];
        self.event(
            EventKind::ServerJoined,
            Severity::Info,
            &server.name,
            fields,
        );
        Ok(Outcome::Done)
    }

    fn check_unique(&self, server: &Server) -> Result<(), Refusal> {
        let taken = |name: String| {
            Err(Refusal::Exists {
                kind: Kind::Server,
                name,
            })
        };
        if self.directory.servers.contains_key(&server.id) {
            return taken(server.id.to_string());
        }
        if let Some(other) = self.directory.server_named(server.name.as_str()) {
            return taken(other.name.to_string());
        }
        self.check_addresses(server.id, &server.peer_address, &server.client_address)
    }

    fn too_old(&self, server: &Server, level: u32) -> Refusal {
        Refusal::TooOld {
            name: server.name.clone(),
            level,
            group: self.directory.group.feature_level,
        }
    }

    pub(super) fn set_voting(&mut self, id: ServerId, voting: bool) -> Result<Outcome, Refusal> {
        let server = self.member(id)?;
        if server.voting == voting {
            return Ok(Outcome::Done);
        }
        if voting && !server.standing.votes() {
            return Err(Refusal::Unfit {
                name: server.name.clone(),
                what: "a voter: it joined as one that does not count".to_owned(),
            });
        }
        if !voting {
            self.check_not_last_voter(&server)?;
        }
        self.put_server(Server {
            voting,
            ..(*server).clone()
        });
        self.event(
            EventKind::ServerVoting,
            Severity::Info,
            &server.name,
            [("voting", voting.to_string())],
        );
        self.strengthen();
        if voting && server.standing.may_lead() && !self.directory.group.backups.contains(&id) {
            Arc::make_mut(&mut self.directory.group).backups.push(id);
            self.backups_event(None);
        }
        Ok(Outcome::Done)
    }

    fn check_not_last_voter(&self, server: &Server) -> Result<(), Refusal> {
        if server.voting && self.directory.voters().all(|voter| voter.id == server.id) {
            return Err(Refusal::LastVoter {
                name: server.name.clone(),
            });
        }
        Ok(())
    }

    pub(super) fn remove_server(
        &mut self,
        id: ServerId,
        reason: Option<&str>,
    ) -> Result<Outcome, Refusal> {
        let server = self.member(id)?;
        if self.directory.group.primary == Some(id) {
            return Err(Refusal::IsPrimary {
                name: server.name.clone(),
            });
        }
        self.check_not_last_voter(&server)?;
        self.check_mode_without(&server)?;
        bounds::line("reason", reason.unwrap_or_default(), bounds::REMARK)?;
        let sessions: Vec<_> = self.directory.sessions_on(id).cloned().collect();
        let count = sessions.len();
        self.end_all(&sessions, &EndReason::HostRemoved);
        self.directory.servers.remove(&id);
        self.directory.settings.forget(id);
        self.directory.reported.remove(&id);
        self.remember_removed(id);
        self.level_up();
        let mut fields = vec![("sessions_ended", count.to_string())];
        let exposed = self.expose_secrets(&server);
        fields.extend((exposed > 0).then(|| ("secrets_to_change", exposed.to_string())));
        fields.extend(reason.map(|reason| ("reason", reason.to_owned())));
        self.event(
            EventKind::ServerRemoved,
            Severity::Warning,
            &server.name,
            fields,
        );
        if server.standing.may_lead() {
            self.expose_authority(server.name.to_string());
            self.expose_seal();
        }
        if self.directory.group.backups.contains(&id) {
            Arc::make_mut(&mut self.directory.group)
                .backups
                .retain(|backup| *backup != id);
            self.backups_event(None);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn remember_removed(&mut self, id: ServerId) {
        let oldest = self
            .directory
            .removed
            .iter()
            .min_by_key(|(id, at)| (**at, **id))
            .map(|(id, _)| *id);
        if let Some(oldest) = oldest.filter(|_| self.directory.removed.len() >= bounds::REMOVED) {
            self.directory.removed.remove(&oldest);
        }
        self.directory.removed.insert(id, self.at);
    }

    /// Changes what people say of a server.
    pub(super) fn change_server(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        let Command::EditServer {
            server,
            power,
            labels,
            external,
        } = command
        else {
            unreachable!("invariant: `carry_out` sends only what people say of a server here")
        };
        let server = self.member(*server)?;
        let mut record = (*server).clone();
        record.power = power.unwrap_or(record.power);
        for (key, value) in labels {
            match value {
                Some(value) => record.labels.insert(key.clone(), value.clone()),
                None => record.labels.remove(key),
            };
        }
        if let Some(external) = external {
            record.external.clone_from(external);
        }
        check_server(&record)?;
        self.put_edited(&server, record);
        Ok(Outcome::Done)
    }

    /// All that people say of a server, its mode included, at once.
    pub(super) fn edit_server(&mut self, id: ServerId, to: &EditedServer) -> Result<(), Refusal> {
        let server = self.directory.servers.get(&id).cloned();
        let server = server.ok_or_else(|| {
            let why = "it is no member here: it may join by an invitation";
            bounds::invalid(&format!("server {}", to.name), why)
        })?;
        let record = Server {
            power: to.power,
            labels: to.labels.clone(),
            external: to.external.clone(),
            peer_address: to.peer_address.clone(),
            client_address: to.client_address.clone(),
            ..(*server).clone()
        };
        check_server(&record)?;
        if record.peer_address != server.peer_address
            || record.client_address != server.client_address
        {
            self.check_reached(&record)?;
        }
        self.set_modes(&[id], &to.mode)?;
        let before = self.member(id)?;
        let record = Server {
            mode: before.mode.clone(),
            version_number: before.version_number,
            ..record
        };
        self.put_edited(&before, record);
        Ok(())
    }

    /// Puts in what was changed of a server, if anything was.
    pub(super) fn put_edited(&mut self, before: &Server, record: Server) {
        if record == *before {
            return;
        }
        let list = |items: Vec<String>| bounds::cut(&items.join(","), bounds::REMARK).to_owned();
        let labels = record.labels.iter().map(|(k, v)| format!("{k}={v}"));
        let external = record.external.iter();
        let external = external.map(|it| format!("{}={}", it.network, it.address));
        let fields = [
            ("power", record.power.to_string()),
            ("labels", list(labels.collect())),
            ("external", list(external.collect())),
        ];
        let reached = [
            ("peer_address", &before.peer_address, &record.peer_address),
            (
                "client_address",
                &before.client_address,
                &record.client_address,
            ),
        ];
        let reached = reached.into_iter().filter(|(_, old, new)| old != new);
        let reached = reached.map(|(field, _, new)| (field, new.clone()));
        let fields: Vec<_> = fields.into_iter().chain(reached).collect();
        let name = record.name.clone();
        self.put_server(record);
        self.event(EventKind::ServerChanged, Severity::Info, &name, fields);
    }

    pub(super) fn report_server(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        let Command::ReportServer {
            server,
            version,
            feature_level,
            incarnation,
            certificate_expires,
            peer_key,
            ..
        } = command
        else {
            unreachable!("invariant: `carry_out` sends only reports here")
        };
        let report = Report {
            version,
            feature_level: *feature_level,
            incarnation: *incarnation,
            certificate_expires: *certificate_expires,
            peer_key: *peer_key,
        };
        self.take_report(*server, &report)
    }

    fn take_report(&mut self, id: ServerId, report: &Report<'_>) -> Result<Outcome, Refusal> {
        let server = self.member(id)?;
        if report.feature_level < self.directory.group.feature_level {
            return Err(self.too_old(&server, report.feature_level));
        }
        bounds::line("version", report.version, NAME_LIMIT)?;
        let reborn = server.started && server.incarnation != report.incarnation;
        let keeps_voting = !reborn || self.check_not_last_voter(&server).is_err();
        let record = Server {
            version: report.version.to_owned(),
            feature_level: report.feature_level,
            incarnation: report.incarnation,
            certificate_expires: report.certificate_expires,
            peer_key: report.peer_key,
            started: true,
            voting: server.voting && keeps_voting,
            ..(*server).clone()
        };
        if record == *server {
            return Ok(Outcome::Done);
        }
        if reborn {
            self.directory.reported.remove(&id);
        }
        self.report_event(&server, &record);
        if record.voting != server.voting {
            let fields = [
                ("voting", "false".to_owned()),
                ("why", "it lost its log and must catch up first".to_owned()),
            ];
            self.event(
                EventKind::ServerVoting,
                Severity::Warning,
                &server.name,
                fields,
            );
        }
        self.put_server(record);
        Ok(Outcome::Done)
    }

    fn report_event(&mut self, before: &Server, after: &Server) {
        let mut fields = Vec::new();
        if before.version != after.version {
            fields.push(("version", after.version.clone()));
        }
        if before.incarnation != after.incarnation {
            fields.push(("incarnation", after.incarnation.to_string()));
        }
        if !fields.is_empty() {
            self.event(
                EventKind::ServerChanged,
                Severity::Info,
                &before.name,
                fields,
            );
        }
    }
}

fn check_server(server: &Server) -> Result<(), Refusal> {
    bounds::address("peer address", &server.peer_address)?;
    bounds::address("client address", &server.client_address)?;
    bounds::line("version", &server.version, NAME_LIMIT)?;
    bounds::pairs("labels", &server.labels, LABELS, NAME_LIMIT)?;
    if server.external.len() > EXTERNAL {
        return Err(bounds::invalid("external", "there are more than 64"));
    }
    for external in &server.external {
        bounds::address("external address", &external.address)?;
    }
    if !Server::POWER_RANGE.contains(&server.power) {
        return Err(bounds::invalid("power", "it must be from 0.1 to 1000"));
    }
    match &server.mode {
        Mode::Online => Ok(()),
        Mode::Offline(offline) => check_words(offline),
    }
}
