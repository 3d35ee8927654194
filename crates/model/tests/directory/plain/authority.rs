//! The group's authority, known by its fingerprint, and keys of servers that are refused.

use super::{Answer, Plain};
use model::*;

/// Which is in force, what comes or was, and who is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Authorities {
    pub(crate) force: String,
    /// The phase, the other one, and until when clients of before get in.
    pub(crate) rotation: Option<(RotationPhase, String, Option<UnixMillis>)>,
    /// How long that is, in milliseconds.
    clients_ms: u64,
    pub(crate) former: Vec<String>,
    pub(crate) exposed: bool,
}

impl Authorities {
    pub(crate) fn of(directory: &Directory) -> Self {
        let group = directory.group();
        let succession = &group.succession;
        let rotation = succession.rotation.as_ref();
        let certificate = |der: &[u8]| String::from_utf8_lossy(der).into_owned();
        Self {
            force: group.authority.fingerprint.clone(),
            rotation: rotation.map(|it| (it.phase, it.other.fingerprint.clone(), it.clients_until)),
            clients_ms: rotation.map_or(0, |it| it.clients_ms),
            former: succession
                .former
                .iter()
                .map(|it| certificate(&it.certificate))
                .collect(),
            exposed: succession.exposed.is_some(),
        }
    }
}

impl Plain {
    pub(super) fn change_authority(&mut self, change: &AuthorityChange) -> Answer {
        let now = self.clock;
        let fits = match change {
            AuthorityChange::Begin { next, .. } => self.fits(&next.key),
            _ => Ok(()),
        };
        let it = &mut self.authorities;
        match change {
            AuthorityChange::Begin {
                next,
                clients_ms,
                waits,
                ..
            } => {
                let free = match &it.rotation {
                    None => true,
                    Some((phase, ..)) => *phase == RotationPhase::Pinned && !waits,
                };
                if !free || next.fingerprint == it.force {
                    return Err("invalid");
                }
                fits?;
                it.exposed &= *waits;
                it.clients_ms = *clients_ms;
                it.rotation = Some((RotationPhase::Introduced, next.fingerprint.clone(), None));
            }
            AuthorityChange::Advance { other, phase, .. } => {
                let Some((at, which, until)) = it.rotation.clone() else {
                    return Err("invalid");
                };
                if (at, &which) != (*phase, other) {
                    return Err("invalid");
                }
                let retire = |former: &mut Vec<String>| {
                    former.insert(0, which.clone());
                    former.truncate(3);
                };
                it.rotation = match at {
                    RotationPhase::Introduced => {
                        let before = std::mem::replace(&mut it.force, which);
                        let until = Some(UnixMillis(now.0 + it.clients_ms));
                        Some((RotationPhase::Issuing, before, until))
                    }
                    RotationPhase::Issuing => {
                        retire(&mut it.former);
                        Some((RotationPhase::Pinned, which, until))
                    }
                    RotationPhase::Withdrawn => {
                        retire(&mut it.former);
                        None
                    }
                    RotationPhase::Pinned => None,
                };
                if it.rotation.is_none() {
                    it.clients_ms = 0;
                }
            }
            AuthorityChange::Withdraw { .. } => {
                let Some((at, which, _)) = it.rotation.clone() else {
                    return Err("invalid");
                };
                let taken_back = match at {
                    RotationPhase::Introduced => which,
                    RotationPhase::Issuing => std::mem::replace(&mut it.force, which),
                    RotationPhase::Withdrawn | RotationPhase::Pinned => return Err("invalid"),
                };
                it.rotation = Some((RotationPhase::Withdrawn, taken_back, None));
            }
        }
        Ok(Outcome::Done)
    }

    pub(super) fn revoke(&mut self, number: u64, id: ServerId, key: KeyMark) -> Answer {
        let before = self.known(id)?;
        if key == KeyMark::default() || before.peer_key != key || before.revoked.contains(&key) {
            return Err("invalid");
        }
        let place = self.servers.iter_mut().find(|server| server.id == id);
        let server = place.expect("it was found");
        server.revoked.insert(0, key);
        server.version_number = number;
        Ok(Outcome::Done)
    }
}
