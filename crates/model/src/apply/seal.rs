//! Changes of the seal key: another one is introduced, takes its place, and everything that the one before sealed is sealed anew.

use super::{Applying, bounds};
use crate::change::{Outcome, Refusal};
use crate::event::{EventKind, Severity};
use crate::id::ServerId;
use crate::trust::{
    FormerTickets, Resealed, SealChange, SealMark, SealPhase, SealRecord, SealRotation, Sealed,
    TicketKeys,
};
use std::sync::Arc;
use std::time::Duration;

/// The longest that tickets of a ticket key of before may hold: as long as any ticket.
const OVERLAP_MS: u64 = 30 * 86_400_000;
/// The most bytes of a public key.
const PUBLIC: usize = 256;
/// The most bytes of what is sealed.
const SEALED: usize = 66 * 1024;

impl Applying<'_> {
    pub(super) fn change_seal(&mut self, change: &SealChange) -> Result<Outcome, Refusal> {
        match change {
            SealChange::Begin {
                next,
                waits,
                reason,
            } => self.begin_seal(*next, *waits, reason.as_deref()),
            SealChange::Seal {
                next,
                tickets,
                overlap_ms,
                unconfirmed,
            } => self.seal_with(*next, tickets, *overlap_ms, unconfirmed),
            SealChange::Again { values } => self.seal_again(values),
            SealChange::Finish { before, lost } => self.finish_seal(*before, *lost),
        }
    }

    /// Refuses what is sealed under a key that is not in force any more: nobody would open it.
    pub(super) fn sealed_under_one_in_force(
        &self,
        what: &'static str,
        sealed: &Sealed,
    ) -> Result<(), Refusal> {
        match self.directory.group.seal.allows(sealed) {
            true => Ok(()),
            false => Err(bounds::invalid(
                what,
                "it is sealed under a seal key that is not in force any more: try again",
            )),
        }
    }

    fn begin_seal(
        &mut self,
        next: SealMark,
        waits: bool,
        reason: Option<&str>,
    ) -> Result<Outcome, Refusal> {
        bounds::line("reason", reason.unwrap_or_default(), bounds::REMARK)?;
        let invalid = |why: &str| Err(bounds::invalid("seal key", why));
        let seal = &self.directory.group.seal;
        if next == SealMark::default() || next == seal.mark {
            return invalid("it is in force already");
        }
        match &seal.rotation {
            Some(it) if it.phase == SealPhase::Sealing => {
                return invalid("it rotates already: let that end");
            }
            Some(it) if it.other == next => return invalid("that one is introduced already"),
            _ => {}
        }
        let rotation = SealRotation {
            phase: SealPhase::Introduced,
            since: self.at,
            other: next,
            waits,
            reason: reason.map(str::to_owned),
        };
        self.seal().rotation = Some(rotation);
        let fields = reason.map(|reason| ("reason", reason.to_owned()));
        self.seal_event("introduced", next, &[], fields);
        Ok(Outcome::Done)
    }

    fn seal_with(
        &mut self,
        next: SealMark,
        tickets: &TicketKeys,
        overlap_ms: u64,
        unconfirmed: &[ServerId],
    ) -> Result<Outcome, Refusal> {
        bounds::size("ticket key", tickets.public.len(), PUBLIC)?;
        bounds::size("ticket key", tickets.key.0.len(), SEALED)?;
        if overlap_ms > OVERLAP_MS {
            return Err(bounds::invalid("overlap", "it is longer than 30 days"));
        }
        let seal = &self.directory.group.seal;
        let introduced = |it: &&SealRotation| it.phase == SealPhase::Introduced && it.other == next;
        let Some(rotation) = seal.rotation.as_ref().filter(introduced).cloned() else {
            return Err(bounds::invalid("seal key", "that one is not introduced"));
        };
        let (at, before) = (self.at, seal.mark);
        let group = Arc::make_mut(&mut self.directory.group);
        let public = std::mem::replace(&mut group.authority.ticket_public, tickets.public.clone());
        group.authority.ticket_key = tickets.key.clone();
        group.seal = Arc::new(SealRecord {
            mark: next,
            since: at,
            rotation: Some(SealRotation {
                phase: SealPhase::Sealing,
                since: at,
                other: before,
                ..rotation
            }),
            tickets: (overlap_ms > 0).then(|| FormerTickets {
                public,
                until: at.after(Duration::from_millis(overlap_ms)),
            }),
        });
        self.seal_event("sealing", next, unconfirmed, None);
        Ok(Outcome::Done)
    }

    /// What was changed meanwhile, or is gone, is left as it is.
    fn seal_again(&mut self, values: &[Resealed]) -> Result<Outcome, Refusal> {
        if values.len() > SealChange::AGAIN {
            return Err(bounds::invalid("values", "they are too many at once"));
        }
        for value in values {
            bounds::size("sealed value", value.sealed.0.len(), SEALED)?;
            self.sealed_under_one_in_force("sealed value", &value.sealed)?;
        }
        self.directory.seal_again(values);
        Ok(Outcome::Done)
    }

    fn finish_seal(&mut self, before: SealMark, lost: u32) -> Result<Outcome, Refusal> {
        let seal = &self.directory.group.seal;
        let sealing = |it: &&SealRotation| it.phase == SealPhase::Sealing && it.other == before;
        if seal.rotation.as_ref().filter(sealing).is_none() {
            return Err(bounds::invalid("seal key", "its change is not so far"));
        }
        let mark = seal.mark;
        self.seal().rotation = None;
        let lost = (lost > 0).then(|| ("lost", lost.to_string()));
        self.seal_event("finished", mark, &[], lost);
        Ok(Outcome::Done)
    }

    /// Somebody left who had the seal key: one that was to come is not taken, he may have it too.
    pub(super) fn expose_seal(&mut self) {
        let introduced = |it: &SealRotation| it.phase == SealPhase::Introduced;
        if self
            .directory
            .group
            .seal
            .rotation
            .as_ref()
            .is_some_and(introduced)
        {
            self.seal().rotation = None;
        }
    }

    fn seal(&mut self) -> &mut SealRecord {
        Arc::make_mut(&mut Arc::make_mut(&mut self.directory.group).seal)
    }

    fn seal_event(
        &mut self,
        phase: &str,
        mark: SealMark,
        unconfirmed: &[ServerId],
        further: Option<(&'static str, String)>,
    ) {
        let names: Vec<String> = unconfirmed
            .iter()
            .map(|id| self.directory.name_of(*id))
            .collect();
        let worrying = !names.is_empty() || matches!(further, Some(("lost", _)));
        let severity = match worrying {
            true => Severity::Warning,
            false => Severity::Info,
        };
        let left = (!names.is_empty()).then(|| ("unconfirmed", names.join(",")));
        let fields = [("phase", phase.to_owned()), ("seal_key", mark.to_string())];
        let subject = self.directory.group.name.clone();
        let fields = fields.into_iter().chain(left).chain(further);
        self.event(EventKind::SealKeyRotated, severity, subject, fields);
    }
}
