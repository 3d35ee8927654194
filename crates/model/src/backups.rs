//! The list of backup primaries, highest first, and how one place of it changes.

use crate::id::ServerId;
use serde::{Deserialize, Serialize};

/// A change of one place of the list. Places are counted from 1; one behind the end is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupEdit {
    /// Put a server on the list that is not there.
    Add {
        /// Which.
        server: ServerId,
        /// Where; last when absent.
        place: Option<u32>,
    },
    /// Give a server that is there another place.
    Move {
        /// Which.
        server: ServerId,
        /// Where it stands afterwards.
        place: u32,
    },
    /// Take a server off the list.
    Remove {
        /// Which.
        server: ServerId,
    },
}

/// Why a list cannot be changed so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It is there already, at this place.
    #[error("it is number {0} on the list already")]
    Listed(usize),
    /// It is not there.
    #[error("it is not on the list")]
    NotListed,
}

impl BackupEdit {
    /// Whose place changes.
    pub fn server(&self) -> ServerId {
        match self {
            Self::Add { server, .. } | Self::Move { server, .. } | Self::Remove { server } => {
                *server
            }
        }
    }

    /// The list afterwards.
    ///
    /// # Errors
    /// The server is there already, or is not.
    pub fn applied_to(&self, list: &[ServerId]) -> Result<Vec<ServerId>, EditError> {
        let server = self.server();
        let found = list.iter().position(|listed| *listed == server);
        let place = match (self, found) {
            (Self::Add { .. }, Some(place)) => return Err(EditError::Listed(place + 1)),
            (Self::Move { .. } | Self::Remove { .. }, None) => return Err(EditError::NotListed),
            (Self::Add { place, .. }, None) => *place,
            (Self::Move { place, .. }, Some(_)) => Some(*place),
            (Self::Remove { .. }, Some(_)) => None,
        };
        let mut next: Vec<ServerId> = list.iter().copied().filter(|id| *id != server).collect();
        if !matches!(self, Self::Remove { .. }) {
            let place = place.map_or(usize::MAX, |place| {
                usize::try_from(place).unwrap_or(usize::MAX)
            });
            next.insert(place.saturating_sub(1).min(next.len()), server);
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> ServerId {
        ServerId::from_bytes([number; ServerId::LEN])
    }

    fn after(list: &[u8], edit: BackupEdit) -> Result<Vec<ServerId>, EditError> {
        let list: Vec<_> = list.iter().copied().map(id).collect();
        edit.applied_to(&list)
    }

    fn ids(list: &[u8]) -> Result<Vec<ServerId>, EditError> {
        Ok(list.iter().copied().map(id).collect())
    }

    #[test]
    fn servers_are_put_where_they_are_wanted() {
        let add = |server, place| BackupEdit::Add {
            server: id(server),
            place,
        };
        assert_eq!(after(&[], add(1, None)), ids(&[1]));
        assert_eq!(after(&[1, 2], add(3, None)), ids(&[1, 2, 3]));
        assert_eq!(after(&[1, 2], add(3, Some(1))), ids(&[3, 1, 2]));
        assert_eq!(after(&[1, 2], add(3, Some(2))), ids(&[1, 3, 2]));
        assert_eq!(after(&[1, 2], add(3, Some(99))), ids(&[1, 2, 3]));
        assert_eq!(after(&[1, 2], add(3, Some(0))), ids(&[3, 1, 2]));
        assert_eq!(after(&[1, 2], add(2, None)), Err(EditError::Listed(2)));
    }

    #[test]
    fn places_are_those_afterwards() {
        let to = |server, place| BackupEdit::Move {
            server: id(server),
            place,
        };
        assert_eq!(after(&[1, 2, 3], to(1, 2)), ids(&[2, 1, 3]));
        assert_eq!(after(&[1, 2, 3], to(3, 1)), ids(&[3, 1, 2]));
        assert_eq!(after(&[1, 2, 3], to(2, 2)), ids(&[1, 2, 3]));
        assert_eq!(after(&[1, 2, 3], to(1, u32::MAX)), ids(&[2, 3, 1]));
        assert_eq!(after(&[1], to(2, 1)), Err(EditError::NotListed));
        let remove = |server| BackupEdit::Remove { server: id(server) };
        assert_eq!(after(&[1, 2], remove(1)), ids(&[2]));
        assert_eq!(after(&[1], remove(1)), ids(&[]));
        assert_eq!(after(&[1], remove(2)), Err(EditError::NotListed));
    }
}
