//! Changes of what the group trusts, and invitations: made once, used once, too late after their end.

use super::{Applying, bounds};
use crate::change::{Command, Kind, Outcome, Refusal};
use crate::event::{EventKind, Severity};
use crate::id::{InvitationId, ServerId};
use crate::trust::{GroupSecret, Invitation, Sealed, SecretChange, SecretMark};
use std::sync::Arc;

/// The most bytes of the sealed secret of an invitation.
const SECRET: usize = 1024;

impl Applying<'_> {
    pub(super) fn about_trust(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        match command {
            Command::Invite { invitation } => self.invite(invitation),
            Command::WithdrawInvitation { invitation, reason } => {
                self.withdraw_invitation(*invitation, reason)
            }
            Command::ChangeAuthority { change } => self.change_authority(change),
            Command::ChangeSecret { change } => self.change_secret(change),
            Command::ChangeSeal { change } => self.change_seal(change),
            Command::RevokeCertificates {
                server,
                key,
                reason,
            } => self.revoke_certificates(*server, *key, reason.as_deref()),
            Command::PutCertificate { certificate } => self.put_certificate(certificate),
            Command::RemoveCertificate { name } => self.remove_certificate(name),
            other => unreachable!("invariant: only what is about trust comes here, not {other:?}"),
        }
    }

    pub(super) fn usable_invitation(&self, id: InvitationId) -> Result<Arc<Invitation>, Refusal> {
        let found = self.directory.invitations.get(&id).cloned();
        let invitation = found.ok_or_else(|| Refusal::NotFound {
            kind: Kind::Invitation,
            name: id.to_string(),
        })?;
        match &invitation.used_by {
            Some(by) => Err(Refusal::InvitationUsed { by: by.clone() }),
            None if invitation.expires <= self.at => Err(Refusal::InvitationExpired),
            None => Ok(invitation),
        }
    }

    fn invite(&mut self, invitation: &Invitation) -> Result<Outcome, Refusal> {
        if self.directory.invitations.contains_key(&invitation.id) {
            return Err(Refusal::Exists {
                kind: Kind::Invitation,
                name: invitation.id.to_string(),
            });
        }
        bounds::size("secret", invitation.secret.0.len(), SECRET)?;
        self.sealed_under_one_in_force("secret", &invitation.secret)?;
        bounds::line("by", &invitation.by, bounds::REMARK)?;
        if invitation.expires <= self.at {
            return Err(bounds::invalid("expires", "that time has passed already"));
        }
        let open = |other: &Arc<Invitation>| other.used_by.is_none() && other.expires > self.at;
        let held = self
            .directory
            .invitations
            .values()
            .filter(|other| open(other))
            .count();
        bounds::room(Kind::Invitation, held, bounds::INVITATIONS)?;
        self.forget_invitations();
        let record = Invitation {
            made: self.at,
            used_by: None,
            ..invitation.clone()
        };
        self.directory
            .invitations
            .insert(record.id, Arc::new(record));
        let fields = [
            ("by", invitation.by.clone()),
            ("expires_unix_ms", invitation.expires.0.to_string()),
        ];
        self.event(
            EventKind::InvitationMade,
            Severity::Info,
            invitation.id,
            fields,
        );
        Ok(Outcome::Done)
    }

    /// One that has expired, or that was withdrawn already, is not there to be withdrawn; one that was used made a member.
    fn withdraw_invitation(&mut self, id: InvitationId, reason: &str) -> Result<Outcome, Refusal> {
        bounds::line("reason", reason, bounds::REMARK)?;
        self.usable_invitation(id)?;
        self.directory.invitations.remove(&id);
        self.event(
            EventKind::InvitationWithdrawn,
            Severity::Info,
            id,
            [("reason", reason)],
        );
        Ok(Outcome::Done)
    }

    /// Used and expired invitations are kept for a day after their end, so that who uses one again is told why not.
    fn forget_invitations(&mut self) {
        const KEPT_MS: u64 = 86_400_000;
        let old = self
            .directory
            .invitations
            .values()
            .filter(|other| other.expires.0.saturating_add(KEPT_MS) <= self.at.0);
        let old: Vec<_> = old.map(|other| other.id).collect();
        for id in old {
            self.directory.invitations.remove(&id);
        }
    }

    fn change_secret(&mut self, change: &SecretChange) -> Result<Outcome, Refusal> {
        match change {
            SecretChange::Begin {
                mark,
                sealed,
                reason,
                hurried,
            } => self.begin_secret(*mark, sealed, reason.as_deref(), *hurried),
            SecretChange::Finish { mark, unconfirmed } => self.finish_secret(*mark, unconfirmed),
        }
    }

    fn begin_secret(
        &mut self,
        mark: SecretMark,
        sealed: &Sealed,
        reason: Option<&str>,
        hurried: bool,
    ) -> Result<Outcome, Refusal> {
        bounds::size("secret", sealed.0.len(), SECRET)?;
        self.sealed_under_one_in_force("secret", sealed)?;
        bounds::line("reason", reason.unwrap_or_default(), bounds::REMARK)?;
        if self.directory.group.secret.mark == mark {
            return Err(bounds::invalid("secret", "it is in force already"));
        }
        Arc::make_mut(&mut self.directory.group).secret = GroupSecret {
            mark,
            sealed: sealed.clone(),
            since: self.at,
            rotating: true,
            hurried,
        };
        let reason = reason.map(|reason| ("reason", reason.to_owned()));
        let fields = [("phase", "begun".to_owned()), ("secret", mark.to_string())];
        self.secret_event(Severity::Info, fields.into_iter().chain(reason));
        Ok(Outcome::Done)
    }

    fn finish_secret(
        &mut self,
        mark: SecretMark,
        unconfirmed: &[ServerId],
    ) -> Result<Outcome, Refusal> {
        let secret = &self.directory.group.secret;
        if secret.mark != mark || !secret.rotating {
            return Err(bounds::invalid("secret", "that one does not rotate"));
        }
        Arc::make_mut(&mut self.directory.group).secret.rotating = false;
        let names: Vec<String> = unconfirmed
            .iter()
            .map(|id| self.directory.name_of(*id))
            .collect();
        let severity = match names.is_empty() {
            true => Severity::Info,
            false => Severity::Warning,
        };
        let left = (!names.is_empty()).then(|| ("unconfirmed", names.join(",")));
        let fields = [
            ("phase", "finished".to_owned()),
            ("secret", mark.to_string()),
        ];
        self.secret_event(severity, fields.into_iter().chain(left));
        Ok(Outcome::Done)
    }

    fn secret_event(
        &mut self,
        severity: Severity,
        fields: impl Iterator<Item = (&'static str, String)>,
    ) {
        let subject = self.directory.group.name.clone();
        self.event(EventKind::SecretRotated, severity, subject, fields);
    }
}
