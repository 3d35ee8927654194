//! Divergences: kept as the losing side's servers report them, then applied or discarded record by record.
//!
//! Always true: a divergence counts the records that it has; what is applied passes the checks that the ordinary change
//! would, and a record that does not pass them stays.

use super::{Applying, bounds};
use crate::change::{Command, Kind, Outcome, Refusal};
use crate::divergence::{self, Content, Diverged, Divergence, Subject, same};
use crate::event::{EventKind, Severity};
use crate::formation::LINEAGE_LIMIT;
use crate::id::FormationId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How often what was refused is tried again because something else could be applied: a setting may need another one, the
/// administrator who goes the one who comes.
const ROUNDS: usize = 3;
/// The most bytes of a setting's key or value in a report.
const SETTING: usize = 4096;

impl Applying<'_> {
    pub(super) fn change_divergence(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        match command {
            Command::KeepDivergence {
                within,
                divergence,
                records,
                last,
            } => {
                if *within != self.directory.group.formation.this.id {
                    return Err(bounds::invalid("within", "another formation is in force"));
                }
                self.keep_divergence(divergence, records, *last)
            }
            Command::ApplyDiverged {
                formation,
                subjects,
                reason,
            } => self.apply_diverged(*formation, subjects, reason.as_deref()),
            Command::DiscardDiverged {
                formation,
                subjects,
                reason,
            } => self.discard_diverged(*formation, subjects, reason.as_deref()),
            _ => unreachable!("invariant: `carry_out` sends only changes of divergences here"),
        }
    }

    fn keep_divergence(
        &mut self,
        report: &Divergence,
        records: &[Diverged],
        last: bool,
    ) -> Result<Outcome, Refusal> {
        self.check_report(report, records)?;
        let id = report.formation.id;
        let held = self.directory.divergences.get(&id).cloned();
        let whole = held.as_ref().filter(|held| held.complete);
        if whole.is_some_and(|held| report.number <= held.number) {
            return Ok(Outcome::Done);
        }
        let reopened = held.as_ref().is_none_or(|held| held.records == 0);
        let open = self.directory.divergences().count();
        if reopened {
            bounds::room(Kind::Divergence, open, divergence::DIVERGENCES)?;
        }
        let before = held.as_ref().map_or(0, |held| held.records);
        let records = self.take_over(id, before, records)?;
        // How far the report goes that is whole; one in the middle says nothing yet.
        let number = match (whole, last) {
            (Some(whole), true) => whole.number.max(report.number),
            (Some(whole), false) => whole.number,
            (None, _) => report.number,
        };
        let kept = Divergence {
            number,
            kept: held.as_ref().map_or(self.at, |held| held.kept),
            records,
            complete: last || whole.is_some(),
            ..report.clone()
        };
        if held.is_none() {
            self.forget_settled();
        }
        if last && records > 0 {
            self.divergence_event(EventKind::DivergenceKept, &kept, records, None);
        }
        self.directory.divergences.insert(id, Arc::new(kept));
        Ok(Outcome::Done)
    }

    fn check_report(&self, report: &Divergence, records: &[Diverged]) -> Result<(), Refusal> {
        bounds::size("diverged records", records.len(), Command::DIVERGED_LIMIT)?;
        bounds::size("members", report.members.len(), bounds::SERVERS)?;
        bounds::size("ancestors", report.ancestors.len(), LINEAGE_LIMIT)?;
        if report.formation.id == self.directory.group.formation.this.id {
            return Err(bounds::invalid("formation", "it is the one in force"));
        }
        for record in records {
            let contents = [&record.fork, &record.loser];
            let fit = |content: &Content| content.is_of(&record.subject);
            if record.formation != report.formation.id || !contents.into_iter().flatten().all(fit) {
                return Err(bounds::invalid(
                    &record.subject.to_string(),
                    "the record is of something else",
                ));
            }
            if let Subject::Setting(key, _) = &record.subject {
                bounds::size("a setting's key", key.len(), SETTING)?;
            }
        }
        Ok(())
    }

    /// Takes the records of a report over, and says how many there are then.
    fn take_over(
        &mut self,
        id: FormationId,
        before: u32,
        records: &[Diverged],
    ) -> Result<u32, Refusal> {
        let mut next = BTreeMap::new();
        for record in records {
            let held = self.directory.diverged_record(id, &record.subject);
            if held.is_some_and(|held| held.number >= record.number) {
                continue;
            }
            let [fork, loser] = [&record.fork, &record.loser]
                .map(|content| content.clone().and_then(|content| content.at(self.at)));
            let present = self.directory.content(&record.subject);
            let unchanged = fork.is_some() && same(fork.as_ref(), loser.as_ref());
            let agreed = same(present.as_ref(), loser.as_ref());
            let wanted = (!unchanged && !agreed).then_some(record);
            next.insert(&record.subject, (held.is_some(), wanted));
        }
        let come = next.values().filter(|(held, now)| !held && now.is_some());
        let gone = next.values().filter(|(held, now)| *held && now.is_none());
        let (come, gone) = (come.count(), gone.count());
        if come > gone {
            let most = self.directory.diverged.len() + (come - gone);
            bounds::room(Kind::Diverged, most - 1, divergence::RECORDS)?;
        }
        for (subject, (_, wanted)) in next {
            let key = (id, subject.clone());
            match wanted {
                Some(record) => {
                    let record = Arc::new(record.clone());
                    self.directory.diverged.insert(key, record)
                }
                None => self.directory.diverged.remove(&key),
            };
        }
        Ok(before + count(come) - count(gone))
    }

    /// Of those with no record left, the newest are remembered.
    fn forget_settled(&mut self) {
        let settled = self.directory.divergences.values();
        let settled: BTreeSet<_> = settled
            .filter(|one| one.records == 0)
            .map(|one| (one.kept, one.formation.id))
            .collect();
        if settled.len() >= divergence::DIVERGENCES
            && let Some((_, oldest)) = settled.first()
        {
            self.directory.divergences.remove(oldest);
        }
    }

    /// The divergence, and those of its records that are meant.
    fn chosen(
        &self,
        id: FormationId,
        subjects: &[Subject],
        reason: Option<&str>,
    ) -> Result<(Arc<Divergence>, Vec<Arc<Diverged>>), Refusal> {
        bounds::line("reason", reason.unwrap_or_default(), bounds::REMARK)?;
        let not_found = |kind, name| Refusal::NotFound { kind, name };
        let divergence = self
            .directory
            .divergence(id)
            .ok_or_else(|| not_found(Kind::Divergence, id.to_string()))?;
        let wanted = match subjects.len() {
            0 => usize::try_from(divergence.records).unwrap_or(usize::MAX),
            named => named,
        };
        bounds::size("diverged records", wanted, Command::DIVERGED_LIMIT)?;
        let records = if subjects.is_empty() {
            self.directory.diverged(id).cloned().collect()
        } else {
            let subjects: BTreeSet<_> = subjects.iter().collect();
            let found = subjects.into_iter().map(|subject| {
                let record = self.directory.diverged_record(id, subject).cloned();
                record.ok_or_else(|| not_found(Kind::Diverged, subject.to_string()))
            });
            found.collect::<Result<_, _>>()?
        };
        Ok((divergence.clone(), records))
    }

    fn discard_diverged(
        &mut self,
        id: FormationId,
        subjects: &[Subject],
        reason: Option<&str>,
    ) -> Result<Outcome, Refusal> {
        let (divergence, records) = self.chosen(id, subjects, reason)?;
        let kind = EventKind::DivergenceDiscarded;
        Ok(self.settle(kind, &divergence, &records, Vec::new(), reason))
    }

    fn apply_diverged(
        &mut self,
        id: FormationId,
        subjects: &[Subject],
        reason: Option<&str>,
    ) -> Result<Outcome, Refusal> {
        let (divergence, mut waiting) = self.chosen(id, subjects, reason)?;
        let (mut done, mut refused) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            refused.clear();
            let before = done.len();
            let mut next = Vec::new();
            for record in waiting {
                // What was put in place before it may have told something of it.
                let told = self.directory.diverged_record(id, &record.subject);
                let record = told.cloned().unwrap_or(record);
                match self.put_in_place(&record, reason) {
                    Ok(()) => done.push(record),
                    Err(refusal) => {
                        refused.push((record.subject.clone(), refusal));
                        next.push(record);
                    }
                }
            }
            waiting = next;
            if waiting.is_empty() || done.len() == before {
                break;
            }
        }
        match (subjects.len(), refused.pop()) {
            // Asked for one alone, its refusal is the answer.
            (1, Some((_, refusal))) => return Err(refusal),
            (_, last) => refused.extend(last),
        }
        let kind = EventKind::DivergenceApplied;
        Ok(self.settle(kind, &divergence, &done, refused, reason))
    }

    /// Makes the directory have what the losing side has: as of now, and unless it has that already.
    fn put_in_place(&mut self, record: &Diverged, reason: Option<&str>) -> Result<(), Refusal> {
        let wanted = record.loser.clone().and_then(|content| content.at(self.at));
        let present = self.directory.content(&record.subject);
        if same(present.as_ref(), wanted.as_ref()) {
            return Ok(());
        }
        let done = match (&record.subject, wanted) {
            (Subject::Setting(key, on), Some(Content::Setting(value))) => {
                self.set_setting(key, &value, *on)
            }
            (Subject::Setting(key, on), _) => self.unset_setting(key, *on),
            (Subject::Server(id), Some(Content::Server(server))) => {
                return self.edit_server(*id, &server);
            }
            (Subject::Removed(id), Some(_)) if self.directory.servers.contains_key(id) => {
                self.remove_server(*id, reason)
            }
            (Subject::Removed(id), Some(_)) => {
                self.remember_removed(*id);
                return Ok(());
            }
            (Subject::Backups, Some(Content::Backups(list))) => self.set_backups(&list, reason),
            (Subject::Pause, Some(Content::Pause(pause))) => {
                return self.take_pause(pause);
            }
            (Subject::Pause, _) => {
                self.leave_pause(reason);
                return Ok(());
            }
            (_, Some(content)) => self.put_content(&content),
            (subject, None) => self.remove_content(subject),
        };
        done.map(|_| ())
    }

    /// Puts a record that has a name in place of the one that there is.
    fn put_content(&mut self, content: &Content) -> Result<Outcome, Refusal> {
        let here = &*self.directory;
        match content {
            Content::User(user) => {
                let held = here.users.get(&user.name).map(|held| held.version_number);
                self.put_user(user, held)
            }
            Content::Application(app) => {
                let held = here.apps.get(&app.name).map(|held| held.version_number);
                self.put_app(app, held)
            }
            Content::Token(token) => {
                let held = here.tokens.get(&token.token);
                let held = held.map(|held| held.version_number);
                self.put_token(token, held)
            }
            Content::Gateway(gateway) => {
                let held = here.gateways.get(&gateway.name);
                let held = held.map(|held| held.version_number);
                self.put_gateway(gateway, held)
            }
            Content::Secret(secret) => {
                let held = here.secrets.get(&secret.name);
                let held = held.map(|held| held.version_number);
                self.take_secret(secret, held)
            }
            Content::Profile(profile) => {
                let held = here.profiles.get(&profile.audience);
                let held = held.map(|held| held.version_number);
                self.put_profile(profile, held)
            }
            Content::Preferences(preferences) => {
                let held = here.preferences.get(&preferences.user);
                let held = held.map(|held| held.version_number);
                self.put_preferences(preferences, held)
            }
            Content::Certificate(one) => self.put_certificate(one),
            Content::Removed(_)
            | Content::Server(_)
            | Content::Setting(_)
            | Content::Backups(_)
            | Content::Pause(_) => Err(bounds::invalid("record", "it is of something else")),
        }
    }

    /// Removes a record that has a name, because the side that gave way has none.
    fn remove_content(&mut self, subject: &Subject) -> Result<Outcome, Refusal> {
        match subject {
            Subject::User(name) => self.remove_user(name),
            Subject::Application(name) => self.remove_app(name),
            Subject::Token(token) => self.remove_token(token),
            Subject::Gateway(name) => self.remove_gateway(name),
            Subject::Secret(name) => self.remove_secret(name),
            Subject::Profile(audience) => self.remove_profile(audience),
            Subject::Preferences(user) => self.remove_preferences(user),
            Subject::Certificate(name) => self.remove_certificate(name),
            other => Err(bounds::invalid(
                &other.to_string(),
                "the side that gave way has nothing to put in its place",
            )),
        }
    }

    /// Records that are decided on go.
    fn settle(
        &mut self,
        kind: EventKind,
        divergence: &Divergence,
        records: &[Arc<Diverged>],
        mut refused: Vec<(Subject, Refusal)>,
        reason: Option<&str>,
    ) -> Outcome {
        let id = divergence.formation.id;
        for record in records {
            self.directory
                .diverged
                .remove(&(id, record.subject.clone()));
        }
        let done = count(records.len());
        let next = Divergence {
            records: divergence.records.saturating_sub(done),
            ..divergence.clone()
        };
        let left = next.records;
        if done > 0 {
            self.divergence_event(kind, &next, done, reason);
        }
        self.directory.divergences.insert(id, Arc::new(next));
        refused.truncate(Command::REFUSED_LIMIT);
        Outcome::Divergence {
            done,
            left,
            refused,
        }
    }

    fn divergence_event(
        &mut self,
        kind: EventKind,
        divergence: &Divergence,
        records: u32,
        reason: Option<&str>,
    ) {
        let severity = match kind {
            EventKind::DivergenceKept => Severity::Warning,
            _ => Severity::Info,
        };
        let primary = divergence.primary.map(|id| self.directory.name_of(id));
        let mut fields = vec![
            ("formation", divergence.formation.id.to_string()),
            ("records", records.to_string()),
            ("left", divergence.records.to_string()),
            ("fork_point", divergence.fork_point.to_string()),
        ];
        fields.extend(primary.map(|primary| ("primary", primary)));
        fields.extend(reason.map(|reason| ("reason", reason.to_owned())));
        let subject = format!("formation {}", divergence.formation.number);
        self.event(kind, severity, subject, fields);
    }
}

/// Counts are of tables that hold at most [`divergence::RECORDS`].
fn count(records: usize) -> u32 {
    u32::try_from(records).unwrap_or(u32::MAX)
}
