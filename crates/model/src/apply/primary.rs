//! Changes of who is primary, and of who may become it.
//!
//! Always true: only members that may lead are on the list of backup primaries, each once.

use super::{Applying, bounds};
use crate::backups::BackupEdit;
use crate::change::{Outcome, Refusal};
use crate::event::{EventKind, Reason, Severity};
use crate::formation::Cause;
use crate::id::ServerId;
use crate::name::NAME_LIMIT;
use crate::record::Failover;
use crate::time::UnixMillis;
use std::sync::Arc;

/// The most steps of a change of primary.
const STEPS: usize = 16;

impl Applying<'_> {
    pub(super) fn take_primary(
        &mut self,
        id: ServerId,
        planned: bool,
        outage_ms: u64,
        steps: &[(String, UnixMillis)],
        reasons: &[Reason],
    ) -> Result<Outcome, Refusal> {
        let server = self.member(id)?;
        let before = self.directory.group.primary;
        let unfit = |why: &str| Refusal::Unfit {
            name: server.name.clone(),
            what: format!("primary: {why}"),
        };
        if !server.standing.may_lead() {
            return Err(unfit("it did not join as a full voter"));
        }
        // Whoever made an island is its primary, although the last change before may have taken it off the list; and an
        // administrator may have made a formation of any.
        let backups = &self.directory.group.backups;
        let alone = match self.directory.group.formation.cause {
            Cause::Island | Cause::ByHand => true,
            Cause::Founded | Cause::Recovered | Cause::Restored => false,
        };
        if before != Some(id) && !alone && !backups.contains(&id) {
            return Err(unfit("it is not on the list of backups"));
        }
        bounds::size("steps", steps.len(), STEPS)?;
        for (step, _) in steps {
            bounds::line("a step's name", step, NAME_LIMIT)?;
        }
        bounds::reasons(reasons)?;
        let (kind, severity) = match (before == Some(id), planned) {
            (true, _) => (EventKind::PrimaryResumed, Severity::Info),
            (false, true) => (EventKind::Switchover, Severity::Info),
            (false, false) => (EventKind::Failover, Severity::Warning),
        };
        let group = Arc::make_mut(&mut self.directory.group);
        group.primary = Some(id);
        group.primary_since = self.at;
        if kind == EventKind::Failover {
            group.last_failover = Some(Failover {
                at: self.at,
                from: before,
                to: id,
                outage_ms,
                reason: in_words(reasons),
            });
        }
        let steps = steps
            .iter()
            .map(|(step, at)| (format!("{step}_unix_ms"), at.0.to_string()));
        let steps: Vec<_> = steps.collect();
        let mut fields = vec![
            ("to", server.name.to_string()),
            ("outage_ms", outage_ms.to_string()),
        ];
        fields.extend(before.map(|before| ("from", self.directory.name_of(before))));
        fields.extend(steps.iter().map(|(key, at)| (key.as_str(), at.clone())));
        self.event_because(kind, severity, &server.name, fields, reasons);
        Ok(Outcome::Done)
    }

    pub(super) fn set_backups(
        &mut self,
        backups: &[ServerId],
        reason: Option<&str>,
    ) -> Result<Outcome, Refusal> {
        bounds::size("backup primaries", backups.len(), bounds::SERVERS)?;
        bounds::line("reason", reason.unwrap_or_default(), bounds::REMARK)?;
        for (place, id) in backups.iter().enumerate() {
            let server = self.member(*id)?;
            if !server.standing.may_lead() {
                return Err(Refusal::Unfit {
                    name: server.name.clone(),
                    what: "a backup primary: it did not join as a full voter".to_owned(),
                });
            }
            if backups.iter().take(place).any(|earlier| earlier == id) {
                return Err(bounds::invalid(
                    "backup primaries",
                    format!("{} stands there twice", server.name),
                ));
            }
        }
        if self.directory.group.backups != backups || reason.is_some() {
            Arc::make_mut(&mut self.directory.group).backups = backups.to_vec();
            self.backups_event(reason);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn edit_backups(
        &mut self,
        edit: BackupEdit,
        reason: Option<&str>,
    ) -> Result<Outcome, Refusal> {
        let server = self.member(edit.server())?;
        let next = edit.applied_to(&self.directory.group.backups);
        let next = next.map_err(|error| Refusal::Unfit {
            name: server.name.clone(),
            what: match edit {
                BackupEdit::Add { .. } => format!("added to the backup primaries: {error}"),
                BackupEdit::Move { .. } => format!("moved among the backup primaries: {error}"),
                BackupEdit::Remove { .. } => {
                    format!("taken off the backup primaries: {error}")
                }
            },
        })?;
        self.set_backups(&next, reason)
    }

    pub(super) fn backups_event(&mut self, reason: Option<&str>) {
        let names: Vec<_> = self
            .directory
            .group
            .backups
            .iter()
            .map(|id| self.directory.name_of(*id))
            .collect();
        let subject = self.directory.group.name.clone();
        let reason = reason.map(|reason| ("reason", reason.to_owned()));
        let fields = [("backups", names.join(", "))].into_iter().chain(reason);
        self.event(EventKind::BackupsChanged, Severity::Info, subject, fields);
    }
}

fn in_words(reasons: &[Reason]) -> String {
    let details: Vec<_> = reasons
        .iter()
        .map(|reason| reason.detail.as_str())
        .collect();
    bounds::cut(&details.join("; "), bounds::REMARK).to_owned()
}
