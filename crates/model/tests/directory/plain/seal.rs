//! The seal key, known by its mark, and what is sealed under it.

use super::{Answer, Plain};
use model::trust::{Resealed, SealChange, SealMark, SealPhase, Sealed};
use model::{Directory, Outcome, SealedAt, UnixMillis};

/// Which key is in force, the change that is under way, and the ticket keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seals {
    force: SealMark,
    rotation: Option<(SealPhase, SealMark)>,
    tickets: Vec<u8>,
    former: Option<(Vec<u8>, UnixMillis)>,
}

impl Seals {
    pub(crate) fn of(directory: &Directory) -> Self {
        let group = directory.group();
        let former = group.seal.tickets.clone();
        Self {
            force: group.seal.mark,
            rotation: group.seal.rotation.as_ref().map(|it| (it.phase, it.other)),
            tickets: group.authority.ticket_public.clone(),
            former: former.map(|former| (former.public, former.until)),
        }
    }
}

impl Plain {
    pub(super) fn fits(&self, sealed: &Sealed) -> Result<(), &'static str> {
        let Seals {
            force, rotation, ..
        } = &self.seals;
        if *force == SealMark::default() || sealed.0.is_empty() {
            return Ok(());
        }
        let marked = |mark: SealMark| {
            sealed.0.first() == Some(&2) && sealed.0.get(1..17) == Some(mark.0.as_slice())
        };
        match marked(*force) || rotation.is_some_and(|(_, other)| marked(other)) {
            true => Ok(()),
            false => Err("invalid"),
        }
    }

    pub(super) fn change_seal(&mut self, change: &SealChange) -> Answer {
        match change {
            SealChange::Begin { next, .. } => {
                let taken = match self.seals.rotation {
                    Some((SealPhase::Sealing, _)) => true,
                    Some((SealPhase::Introduced, other)) => other == *next,
                    None => false,
                };
                if taken || *next == self.seals.force || *next == SealMark::default() {
                    return Err("invalid");
                }
                self.seals.rotation = Some((SealPhase::Introduced, *next));
            }
            SealChange::Seal {
                next,
                tickets,
                overlap_ms,
                ..
            } => {
                if self.seals.rotation != Some((SealPhase::Introduced, *next)) {
                    return Err("invalid");
                }
                let until = UnixMillis(self.clock.0 + overlap_ms);
                let before = std::mem::replace(&mut self.seals.tickets, tickets.public.clone());
                self.seals.former = (*overlap_ms > 0).then_some((before, until));
                let before = std::mem::replace(&mut self.seals.force, *next);
                self.seals.rotation = Some((SealPhase::Sealing, before));
            }
            SealChange::Again { values } => {
                for value in values {
                    self.fits(&value.sealed)?;
                }
                for value in values {
                    self.seal_again(value);
                }
            }
            SealChange::Finish { before, .. } => {
                if self.seals.rotation != Some((SealPhase::Sealing, *before)) {
                    return Err("invalid");
                }
                self.seals.rotation = None;
            }
        }
        Ok(Outcome::Done)
    }

    /// One that is to come is not taken: who left may have it.
    pub(super) fn expose_seal(&mut self, leads: bool) {
        let introduced = |it: &(SealPhase, SealMark)| it.0 == SealPhase::Introduced;
        self.seals.rotation.take_if(|it| leads && introduced(it));
    }

    fn seal_again(&mut self, value: &Resealed) {
        let place = match &value.at {
            SealedAt::Invitation(id) => {
                let found = self.invitations.iter_mut().find(|one| one.id == *id);
                found.map(|one| &mut one.secret)
            }
            SealedAt::Secret(name) => {
                let found = self.secrets.iter_mut().find(|one| one.name == *name);
                found.map(|one| &mut one.sealed)
            }
            SealedAt::ExternalKey(name) => {
                let found = self.certificates.iter_mut().find(|one| one.name == *name);
                found.map(|one| &mut one.key)
            }
            // Their values are not among the lists.
            _ => None,
        };
        if let Some(sealed) = place.filter(|it| !it.0.is_empty() && it.header() == value.before) {
            *sealed = value.sealed.clone();
        }
    }
}
