//! The group's authority rotates: what comes after what, and what is accepted meanwhile.
//!
//! Always true: an authority comes into force only after it was introduced; what was in force before is accepted until
//! the step after that, and remembered for those who were away.

use super::{Applying, bounds};
use crate::change::{Outcome, Refusal};
use crate::event::{EventKind, Severity};
use crate::id::ServerId;
use crate::name::NAME_LIMIT;
use crate::record::Group;
use crate::server::Server;
use crate::trust::{
    AuthorityChange, AuthorityRotation, Exposed, FormerAuthority, KeyMark, OtherAuthority,
    RotationPhase, Sealed, Succession,
};
use std::sync::Arc;
use std::time::Duration;

/// The longest that clients may come with the fingerprint of before: two years.
const CLIENTS_MS: u64 = 2 * 366 * 86_400_000;

impl Applying<'_> {
    pub(super) fn change_authority(
        &mut self,
        change: &AuthorityChange,
    ) -> Result<Outcome, Refusal> {
        match change {
            AuthorityChange::Begin { .. } => self.begin_authority(change),
            AuthorityChange::Advance {
                other,
                phase,
                unconfirmed,
            } => self.advance_authority(other, *phase, unconfirmed),
            AuthorityChange::Withdraw { reason } => self.withdraw_authority(reason.as_deref()),
        }
    }

    /// A server leaves that could open the authority's key.
    pub(super) fn expose_authority(&mut self, by: String) {
        let (at, seal) = (self.at, self.directory.group.seal.mark);
        self.succession().exposed = Some(Exposed { by, at, seal });
    }

    fn begin_authority(&mut self, change: &AuthorityChange) -> Result<Outcome, Refusal> {
        let AuthorityChange::Begin {
            next,
            bridge,
            clients_ms,
            waits,
            reason,
        } = change
        else {
            unreachable!("invariant: `change_authority` sends only beginnings here")
        };
        check(next, bridge, *clients_ms)?;
        bounds::line(
            "reason",
            reason.as_deref().unwrap_or_default(),
            bounds::REMARK,
        )?;
        self.sealed_under_one_in_force("the next authority's key", &next.key)?;
        let group = &self.directory.group;
        if next.fingerprint == group.authority.fingerprint {
            return Err(bounds::invalid(
                "the next authority",
                "it is in force already",
            ));
        }
        match &group.succession.rotation {
            // What clients still know of the one before ends where the one in force cannot be trusted any more.
            Some(rotation) if *waits || rotation.phase != RotationPhase::Pinned => {
                let why = "the authority rotates already: let that end, or take it back";
                return Err(bounds::invalid("authority", why));
            }
            _ => {}
        }
        let since = self.at;
        let succession = self.succession();
        if !waits {
            succession.exposed = None;
        }
        succession.rotation = Some(AuthorityRotation {
            phase: RotationPhase::Introduced,
            since,
            other: next.clone(),
            bridge: bridge.clone(),
            clients_ms: *clients_ms,
            clients_until: None,
            waits: *waits,
            reason: reason.clone(),
        });
        let next = ("next", next.fingerprint.clone());
        let reason = reason.clone().map(|reason| ("reason", reason));
        self.authority_event("introduced", &[], [next].into_iter().chain(reason));
        Ok(Outcome::Done)
    }

    fn advance_authority(
        &mut self,
        other: &str,
        phase: RotationPhase,
        unconfirmed: &[ServerId],
    ) -> Result<Outcome, Refusal> {
        let rotation = self.directory.group.succession.rotation.clone();
        let fits = |it: &AuthorityRotation| it.phase == phase && it.other.fingerprint == other;
        let Some(mut rotation) = rotation.filter(fits) else {
            return Err(bounds::invalid("authority", "its rotation is not so far"));
        };
        rotation.since = self.at;
        let said = match phase {
            RotationPhase::Introduced => {
                rotation.phase = RotationPhase::Issuing;
                rotation.clients_until =
                    Some(self.at.after(Duration::from_millis(rotation.clients_ms)));
                self.swap(&mut rotation.other);
                self.succession().rotation = Some(rotation);
                "issuing"
            }
            RotationPhase::Issuing => {
                rotation.phase = RotationPhase::Pinned;
                rotation.other.key = Sealed::default();
                self.retire(&rotation);
                self.succession().rotation = Some(rotation);
                "pinned"
            }
            RotationPhase::Withdrawn => {
                self.retire(&rotation);
                self.succession().rotation = None;
                "withdrawn"
            }
            RotationPhase::Pinned => {
                self.succession().rotation = None;
                "over"
            }
        };
        self.authority_event(said, unconfirmed, []);
        Ok(Outcome::Done)
    }

    fn withdraw_authority(&mut self, reason: Option<&str>) -> Result<Outcome, Refusal> {
        bounds::line("reason", reason.unwrap_or_default(), bounds::REMARK)?;
        let rotation = self.directory.group.succession.rotation.clone();
        let Some(mut rotation) = rotation else {
            return Err(bounds::invalid("authority", "it does not rotate"));
        };
        match rotation.phase {
            RotationPhase::Introduced => {}
            RotationPhase::Issuing => self.swap(&mut rotation.other),
            RotationPhase::Withdrawn => {
                return Err(bounds::invalid("authority", "that was taken back already"));
            }
            RotationPhase::Pinned => {
                let why = "the members do not accept the one before any more: rotate again instead";
                return Err(bounds::invalid("authority", why));
            }
        }
        rotation.phase = RotationPhase::Withdrawn;
        rotation.since = self.at;
        rotation.clients_until = None;
        self.succession().rotation = Some(rotation);
        let reason = reason.map(|reason| ("reason", reason.to_owned()));
        self.authority_event("taken-back", &[], reason);
        Ok(Outcome::Done)
    }

    /// A key of a server is refused from now on; the server gets itself another one.
    pub(super) fn revoke_certificates(
        &mut self,
        id: ServerId,
        key: KeyMark,
        reason: Option<&str>,
    ) -> Result<Outcome, Refusal> {
        bounds::line("reason", reason.unwrap_or_default(), bounds::REMARK)?;
        let server = self.member(id)?;
        if key == KeyMark::default() || server.peer_key != key {
            let why = "the server has other certificates by now, or has not said which it has";
            return Err(bounds::invalid("certificates", why));
        }
        if server.revoked.contains(&key) {
            return Err(bounds::invalid("certificates", "these are refused already"));
        }
        let mut record = Server::clone(&server);
        record.revoked.insert(0, key);
        record.revoked.truncate(Server::REVOKED_LIMIT);
        self.put_server(record);
        let reason = reason.map(|reason| ("reason", reason.to_owned()));
        self.event(
            EventKind::CertificateRevoked,
            Severity::Warning,
            &server.name,
            reason,
        );
        Ok(Outcome::Done)
    }

    /// The other one is in force from now on, and the one that was is the other.
    fn swap(&mut self, other: &mut OtherAuthority) {
        let authority = &mut self.group().authority;
        std::mem::swap(&mut authority.certificate, &mut other.certificate);
        std::mem::swap(&mut authority.fingerprint, &mut other.fingerprint);
        std::mem::swap(&mut authority.key, &mut other.key);
        std::mem::swap(&mut authority.expires, &mut other.expires);
    }

    /// What is not accepted any more is remembered for those who were away.
    fn retire(&mut self, rotation: &AuthorityRotation) {
        let ended = self.at;
        let former = &mut self.succession().former;
        former.insert(
            0,
            FormerAuthority {
                certificate: rotation.other.certificate.clone(),
                bridge: match rotation.phase {
                    RotationPhase::Withdrawn => Vec::new(),
                    _ => rotation.bridge.clone(),
                },
                ended,
            },
        );
        former.truncate(Succession::FORMER_LIMIT);
    }

    fn group(&mut self) -> &mut Group {
        Arc::make_mut(&mut self.directory.group)
    }

    fn succession(&mut self) -> &mut Succession {
        Arc::make_mut(&mut self.group().succession)
    }

    fn authority_event(
        &mut self,
        step: &str,
        unconfirmed: &[ServerId],
        details: impl IntoIterator<Item = (&'static str, String)>,
    ) {
        let names: Vec<String> = unconfirmed
            .iter()
            .map(|id| self.directory.name_of(*id))
            .collect();
        let severity = match names.is_empty() {
            true => Severity::Info,
            false => Severity::Warning,
        };
        let left = (!names.is_empty()).then(|| ("unconfirmed", names.join(",")));
        let group = &self.directory.group;
        let subject = group.authority.fingerprint.clone();
        let rotation = group.succession.rotation.as_ref();
        let until = rotation.and_then(|rotation| rotation.clients_until);
        let until = until.map(|until| ("clients_until_unix_ms", until.0.to_string()));
        let fields = [("phase", step.to_owned())];
        let fields = fields.into_iter().chain(details).chain(left).chain(until);
        self.event(EventKind::AuthorityChanged, severity, &subject, fields);
    }
}

fn check(next: &OtherAuthority, bridge: &[u8], clients_ms: u64) -> Result<(), Refusal> {
    let size = next.certificate.len() + next.key.0.len() + bridge.len();
    bounds::size("the authority", size, bounds::DOCUMENT)?;
    bounds::line("fingerprint", &next.fingerprint, NAME_LIMIT)?;
    if clients_ms > CLIENTS_MS {
        return Err(bounds::invalid("overlap for clients", "two years at most"));
    }
    Ok(())
}
