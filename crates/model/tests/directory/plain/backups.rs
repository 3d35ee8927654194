//! The list of backup primaries, and who is primary.

use super::{Answer, Plain};
use model::*;

impl Plain {
    pub(super) fn set_backups(&mut self, backups: &[ServerId]) -> Answer {
        for (place, id) in backups.iter().enumerate() {
            if self.known(*id)?.standing != Standing::Voter {
                return Err("unfit");
            }
            if backups[..place].contains(id) {
                return Err("invalid");
            }
        }
        self.backups = backups.to_vec();
        Ok(Outcome::Done)
    }

    pub(super) fn edit_backups(&mut self, edit: BackupEdit) -> Answer {
        self.known(edit.server())?;
        let listed = self.backups.contains(&edit.server());
        let mut next = self.backups.clone();
        next.retain(|id| *id != edit.server());
        let place = match edit {
            BackupEdit::Add { place, .. } if !listed => {
                place.map_or(next.len(), |place| place as usize)
            }
            BackupEdit::Move { place, .. } if listed => place as usize,
            BackupEdit::Remove { .. } if listed => {
                self.backups = next;
                return Ok(Outcome::Done);
            }
            _ => return Err("unfit"),
        };
        let place = if place > next.len() {
            next.len()
        } else {
            place.max(1) - 1
        };
        let last = matches!(edit, BackupEdit::Add { place: None, .. });
        let place = if last { next.len() } else { place };
        next.insert(place, edit.server());
        self.set_backups(&next)
    }

    pub(super) fn take_primary(&mut self, id: ServerId) -> Answer {
        let standing = self.known(id)?.standing;
        if standing != Standing::Voter || (self.primary != Some(id) && !self.backups.contains(&id))
        {
            return Err("unfit");
        }
        self.primary = Some(id);
        Ok(Outcome::Done)
    }
}
