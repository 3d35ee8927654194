//! How a change makes the directory another: checked first, then carried out; a refusal leaves the tables as they were.
//!
//! Always true: the same directory and the same change give the same outcome and events everywhere. No clock, randomness or
//! locale. Start at [`Directory::apply`]; what each command does is in the module of its table.

use crate::audit::{Audited, Before};
use crate::change::{Applied, Author, Change, Command, Outcome, Refusal};
use crate::directory::Directory;
use crate::event::{Event, EventKind, Reason, Severity};
use crate::time::UnixMillis;
use std::borrow::Cow;
use std::sync::Arc;

mod addresses;
mod apps;
mod authority;
mod bounds;
mod certificates;
mod divergence;
mod draining;
mod gateways;
mod journal;
mod mode;
mod moving;
mod pause;
mod primary;
mod profiles;
mod registration;
mod seal;
mod secrets;
mod servers;
mod sessions;
mod settings;
mod tokens;
mod trust;
mod users;

/// How many answered changes are remembered, so that a change that is proposed again is not applied again.
pub const ANSWERED_LIMIT: usize = 65_536;

/// How many old entries of a history one change takes away at most: a history that was made much shorter shrinks over
/// several changes, so that none of them takes long.
pub(crate) const TRIM_LIMIT: usize = 20_000;

/// A change while it is carried out.
struct Applying<'a> {
    directory: &'a mut Directory,
    number: u64,
    at: UnixMillis,
    author: &'a Author,
    events: Vec<Event>,
}

impl Directory {
    /// Applies a change, the `number`th in the order that all servers agree on.
    ///
    /// A change that was answered before gives the same outcome again, under its first name and without events. A refused
    /// change leaves every table as it was, and its refusal is remembered as an answer too.
    pub fn apply(&mut self, number: u64, change: &Change) -> Applied {
        let group = Arc::make_mut(&mut self.group);
        group.number = number;
        group.clock = group.clock.max(change.at);
        let at = group.clock;
        let before = self
            .answers
            .answered_before(change.id, number, &self.answered);
        if let Some(first) = before
            && let Some((_, outcome)) = self.answered.get(&first)
        {
            let name = self.group.formation.accepted(first);
            return Applied {
                name,
                outcome: outcome.clone(),
                events: Vec::new(),
            };
        }
        let mut applying = Applying {
            directory: self,
            number,
            at,
            author: &change.author,
            events: Vec::new(),
        };
        let before = Before::of(&change.author, &change.command, applying.directory);
        let outcome = applying.carry_out(&change.command);
        let events = if outcome.is_ok() {
            applying.events
        } else {
            Vec::new()
        };
        let events = self.record(events);
        if let (Some(before), Ok(_)) = (before, &outcome) {
            self.audit(before.entries(&change.author, self));
        }
        if change.is_user_change() && self.has_effect(number, &outcome) {
            Arc::make_mut(&mut self.group).last_user_change = number;
        }
        self.answer(number, change, outcome.clone());
        self.trim_histories();
        Applied {
            name: self.newest(),
            outcome,
            events,
        }
    }

    /// Whether an accepted change did something at all, where its outcome tells: a login that finds the session as it was
    /// did not.
    fn has_effect(&self, number: u64, outcome: &Result<Outcome, Refusal>) -> bool {
        match outcome {
            Ok(Outcome::Session {
                session, created, ..
            }) => {
                let touched = |id| {
                    self.session(id)
                        .is_some_and(|session| session.version_number == number)
                };
                *created || touched(*session)
            }
            Ok(Outcome::Divergence { done, .. }) => *done > 0,
            Ok(Outcome::Done | Outcome::Registered { .. }) => true,
            Err(_) => false,
        }
    }

    fn answer(&mut self, number: u64, change: &Change, outcome: Result<Outcome, Refusal>) {
        self.answered.insert(number, (change.id, outcome));
        while self.answered.len() > ANSWERED_LIMIT
            && let Some(oldest) = self.answered.get_min().map(|(number, _)| *number)
        {
            if let Some((id, _)) = self.answered.remove(&oldest) {
                self.answers.remove(id);
            }
        }
    }

    fn audit(&mut self, entries: Vec<Audited>) {
        let newest = self.audit.get_max().map_or(0, |(seq, _)| *seq);
        for (seq, entry) in (newest + 1..).zip(entries) {
            self.audit.insert(seq, Arc::new(Audited { seq, ..entry }));
        }
        // Only here does it grow.
        let most = self.settings.audit_history();
        for _ in 0..self.audit.len().saturating_sub(most).min(TRIM_LIMIT) {
            if let Some(seq) = self.audit.get_min().map(|(seq, _)| *seq) {
                self.audit.remove(&seq);
            }
        }
    }

    fn trim_histories(&mut self) {
        // Reading a setting is not free, and most changes end no session.
        if !self.ended.is_empty() {
            let keep = self.settings.sessions_history();
            for _ in 0..self.ended.len().saturating_sub(keep).min(TRIM_LIMIT) {
                if let Some((_, id)) = self.ended.get_min().copied() {
                    self.forget_session(id);
                }
            }
        }
        let keep = self.settings.events_history();
        for _ in 0..self.journal.len().saturating_sub(keep).min(TRIM_LIMIT) {
            if let Some(seq) = self.journal.get_min().map(|(seq, _)| *seq) {
                self.journal.remove(&seq);
            }
        }
    }
}

impl Applying<'_> {
    fn carry_out(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        match command {
            Command::AdmitServer { .. } | Command::RemoveServer { .. } => {
                self.about_members(command)
            }
            Command::SetVoting { server, voting } => self.set_voting(*server, *voting),
            Command::SetMode { servers, mode } => self.set_modes(servers, mode),
            Command::FinishDrain { server } => self.finish_drain(*server),
            Command::EditServer { .. } => self.change_server(command),
            Command::SetAddresses { .. } => self.set_addresses(command),
            Command::ReportServer { .. } => self.report_server(command),
            Command::TakePrimary {
                server,
                planned,
                outage_ms,
                steps,
                reasons,
            } => self.take_primary(*server, *planned, *outage_ms, steps, reasons),
            Command::SetBackups { backups, reason } => self.set_backups(backups, reason.as_deref()),
            Command::SetSetting { key, value, on } => self.set_setting(key, value, *on),
            Command::UnsetSetting { key, on } => self.unset_setting(key, *on),
            Command::PutUser { .. }
            | Command::RemoveUser { .. }
            | Command::LockUser { .. }
            | Command::UnlockUser { .. } => self.about_users(command),
            Command::PutApp { .. } | Command::RemoveApp { .. } => self.about_apps(command),
            Command::CreateSession {
                session,
                token,
                user,
                app,
                host,
            } => self.create_session(*session, token, user, app, *host),
            Command::ObserveSessions { .. }
            | Command::RegisterSessions { .. }
            | Command::OrphanSessions { .. } => self.of_hosts(command),
            Command::EndSession { .. }
            | Command::SelectSession { .. }
            | Command::MoveSession { .. } => self.by_hand(command),
            Command::RecordEvents {
                server,
                first,
                events,
            } => self.record_events(*server, *first, events),
            Command::EditBackups { edit, reason } => self.edit_backups(*edit, reason.as_deref()),
            Command::PutGateway { .. }
            | Command::RemoveGateway { .. }
            | Command::BindToken { .. } => self.about_gateways(command),
            Command::PutToken { .. } | Command::RemoveToken { .. } => self.about_tokens(command),
            Command::Invite { .. }
            | Command::WithdrawInvitation { .. }
            | Command::ChangeAuthority { .. }
            | Command::ChangeSecret { .. }
            | Command::ChangeSeal { .. }
            | Command::PutCertificate { .. }
            | Command::RemoveCertificate { .. }
            | Command::RevokeCertificates { .. } => self.about_trust(command),
            Command::ChangePause { change } => self.change_pause(change),
            Command::ChangeStoredSecret { change } => self.change_stored_secret(change),
            Command::ChangeProfile { change } => self.change_profile(change),
            Command::KeepDivergence { .. }
            | Command::ApplyDiverged { .. }
            | Command::DiscardDiverged { .. } => self.change_divergence(command),
        }
    }

    /// Notes an event of this change, with who asked for it.
    fn event<'f>(
        &mut self,
        kind: EventKind,
        severity: Severity,
        subject: impl ToString,
        fields: impl IntoIterator<Item = (&'f str, impl Into<Cow<'f, str>>)>,
    ) {
        self.event_because(kind, severity, subject, fields, &[]);
    }

    fn event_because<'f>(
        &mut self,
        kind: EventKind,
        severity: Severity,
        subject: impl ToString,
        fields: impl IntoIterator<Item = (&'f str, impl Into<Cow<'f, str>>)>,
        reasons: &[Reason],
    ) {
        let by = self.by().map(|by| ("by", by.into()));
        let fields = fields.into_iter().map(|(name, value)| (name, value.into()));
        let fields = fields.chain(by).collect();
        self.events.push(Event {
            seq: 0,
            at: self.at,
            server: None,
            kind,
            severity,
            subject: subject.to_string(),
            fields,
            reasons: reasons.to_vec(),
        });
    }

    /// The person who asked for the change, in words; none where a server did by itself.
    fn by(&self) -> Option<String> {
        match self.author {
            Author::User { name, .. } => Some(name.to_string()),
            Author::Local { server, uid: 0 } => {
                Some(format!("root on {}", self.directory.name_of(*server)))
            }
            Author::Local { server, uid } => Some(format!(
                "user id {uid} on {}",
                self.directory.name_of(*server)
            )),
            Author::Server(_) => None,
        }
    }
}

/// Compares the version that a change was made for with the one found: absent and absent, or present and equal.
fn expected(
    kind: crate::change::Kind,
    name: &impl ToString,
    found: Option<u64>,
    expect: Option<u64>,
) -> Result<(), Refusal> {
    match (found, expect) {
        (None, None) => Ok(()),
        (Some(found), Some(expected)) if found == expected => Ok(()),
        (Some(found), Some(expected)) => Err(Refusal::Version {
            kind,
            name: name.to_string(),
            expected,
            found,
        }),
        (Some(_), None) => Err(Refusal::Exists {
            kind,
            name: name.to_string(),
        }),
        (None, Some(_)) => Err(Refusal::NotFound {
            kind,
            name: name.to_string(),
        }),
    }
}
