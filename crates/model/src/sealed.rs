//! Everything in the directory that is sealed under the seal key: where it is, and putting something else in its place.
//!
//! Whoever changes the seal key, or takes records to another group, goes by this list. Always true: there is no other place with a
//! [`Sealed`] that the seal key opens.

use crate::certificate::ExternalCertificate;
use crate::directory::Directory;
use crate::divergence::{Content, Diverged, Subject};
use crate::id::{FormationId, InvitationId};
use crate::name::{ExternalName, SecretName};
use crate::secret::StoredSecret;
use crate::trust::{Resealed, SealMark, Sealed};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Where something sealed is, and so what it was sealed for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SealedAt {
    /// The private key of the authority.
    AuthorityKey,
    /// The private key that tickets are signed with.
    TicketKey,
    /// The group secret.
    GroupSecret,
    /// The one-time secret of an invitation.
    Invitation(InvitationId),
    /// A stored credential's value.
    Secret(SecretName),
    /// The key of an operator's certificate.
    ExternalKey(ExternalName),
    /// The key of an authority that may come into force.
    OtherAuthorityKey,
    /// The value of a stored credential that diverged.
    Diverged {
        /// The formation that gave way.
        formation: FormationId,
        /// Which secret.
        secret: SecretName,
        /// Whether it is the value of the fork, not of the side that gave way.
        at_fork: bool,
    },
    /// The key of an operator's certificate that diverged.
    DivergedKey {
        /// The formation that gave way.
        formation: FormationId,
        /// For which name the certificate is.
        name: ExternalName,
        /// Whether it is that of the fork, not of the side that gave way.
        at_fork: bool,
    },
}

impl Directory {
    /// Everything that is sealed. What is empty has no value and is left out.
    pub fn sealed(&self) -> Vec<(SealedAt, &Sealed)> {
        let group = &*self.group;
        let mut found = vec![
            (SealedAt::AuthorityKey, &group.authority.key),
            (SealedAt::TicketKey, &group.authority.ticket_key),
            (SealedAt::GroupSecret, &group.secret.sealed),
        ];
        let invitations = self.invitations.values();
        found.extend(invitations.map(|one| (SealedAt::Invitation(one.id), &one.secret)));
        let secrets = self.secrets.values();
        found.extend(secrets.map(|one| (SealedAt::Secret(one.name.clone()), &one.sealed)));
        let certificates = self.certificates.values();
        found.extend(certificates.map(|one| (SealedAt::ExternalKey(one.name.clone()), &one.key)));
        let rotation = group.succession.rotation.as_ref();
        found.extend(rotation.map(|it| (SealedAt::OtherAuthorityKey, &it.other.key)));
        for record in self.diverged.values() {
            let sides = [(true, &record.fork), (false, &record.loser)];
            for (at_fork, content) in sides {
                found.extend(
                    content
                        .as_ref()
                        .and_then(|it| of_diverged(record, it, at_fork)),
                );
            }
        }
        found.retain(|(_, sealed)| !sealed.0.is_empty());
        found
    }
}

/// What is sealed in one side of a record that diverged.
fn of_diverged<'a>(
    record: &Diverged,
    content: &'a Content,
    at_fork: bool,
) -> Option<(SealedAt, &'a Sealed)> {
    let formation = record.formation;
    match content {
        Content::Secret(secret) => {
            let at = SealedAt::Diverged {
                formation,
                secret: secret.name.clone(),
                at_fork,
            };
            Some((at, &secret.sealed))
        }
        Content::Certificate(one) => {
            let at = SealedAt::DivergedKey {
                formation,
                name: one.name.clone(),
                at_fork,
            };
            Some((at, &one.key))
        }
        _ => None,
    }
}

impl Directory {
    /// The same directory with `again` in place of what people had sealed: values of stored credentials and keys of operators'
    /// certificates, those that diverged included. What has no value is not asked for, and stays without; a certificate that is left
    /// without its key is left out, as nobody can be shown it.
    ///
    /// # Errors
    /// Those of `again`.
    pub fn with_secrets_sealed<E>(
        &self,
        mut again: impl FnMut(&SealedAt, &Sealed) -> Result<Sealed, E>,
    ) -> Result<Self, E> {
        let mut seal = |at: SealedAt, sealed: &Sealed| match sealed.0.is_empty() {
            true => Ok(Sealed::default()),
            false => again(&at, sealed),
        };
        let mut next = self.clone();
        for (name, secret) in &self.secrets {
            let sealed = seal(SealedAt::Secret(name.clone()), &secret.sealed)?;
            next.secrets
                .insert(name.clone(), with_value(secret, sealed));
        }
        for (name, one) in &self.certificates {
            let key = seal(SealedAt::ExternalKey(name.clone()), &one.key)?;
            match key.0.is_empty() {
                true => next.certificates.remove(name),
                false => next.certificates.insert(name.clone(), with_key(one, key)),
            };
        }
        for (key, record) in &self.diverged {
            if !matches!(record.subject, Subject::Secret(_) | Subject::Certificate(_)) {
                continue;
            }
            let mut side = |content: &Option<Content>, at_fork| {
                let Some(content) = content else {
                    return Ok(None);
                };
                let Some((at, sealed)) = of_diverged(record, content, at_fork) else {
                    return Ok(Some(content.clone()));
                };
                let sealed = seal(at, sealed)?;
                Ok(Some(match content {
                    Content::Secret(secret) => Content::Secret(with_value(secret, sealed)),
                    Content::Certificate(one) => Content::Certificate(with_key(one, sealed)),
                    other => other.clone(),
                }))
            };
            let (fork, loser) = (side(&record.fork, true)?, side(&record.loser, false)?);
            let record = Diverged {
                fork,
                loser,
                ..(**record).clone()
            };
            next.diverged.insert(key.clone(), Arc::new(record));
        }
        Ok(next)
    }
}

impl Directory {
    /// What is sealed under another key than the one in force.
    pub fn sealed_before(&self) -> impl Iterator<Item = (SealedAt, &Sealed)> {
        let force = self.group.seal.mark;
        let known = force != SealMark::default();
        let sealed = if known { self.sealed() } else { Vec::new() };
        let before = move |(_, sealed): &(SealedAt, &Sealed)| sealed.mark() != Some(force);
        sealed.into_iter().filter(before)
    }

    /// Puts values in the place of those that they were made of; what has changed since stays as it is.
    pub(crate) fn seal_again(&mut self, values: &[Resealed]) {
        for value in values {
            let Resealed { at, before, sealed } = value;
            let current = self.sealed().into_iter().find(|(where_, _)| where_ == at);
            if current.is_some_and(|(_, it)| it.header() == before.as_slice()) {
                self.put_sealed(at, sealed.clone());
            }
        }
    }

    fn put_sealed(&mut self, at: &SealedAt, sealed: Sealed) {
        match at {
            SealedAt::AuthorityKey => Arc::make_mut(&mut self.group).authority.key = sealed,
            SealedAt::TicketKey => Arc::make_mut(&mut self.group).authority.ticket_key = sealed,
            SealedAt::GroupSecret => Arc::make_mut(&mut self.group).secret.sealed = sealed,
            SealedAt::OtherAuthorityKey => {
                let succession = &mut Arc::make_mut(&mut self.group).succession;
                if let Some(rotation) = &mut Arc::make_mut(succession).rotation {
                    rotation.other.key = sealed;
                }
            }
            SealedAt::Invitation(id) => {
                if let Some(invitation) = self.invitations.get_mut(id) {
                    Arc::make_mut(invitation).secret = sealed;
                }
            }
            SealedAt::Secret(name) => {
                if let Some(secret) = self.secrets.get_mut(name) {
                    Arc::make_mut(secret).sealed = sealed;
                }
            }
            SealedAt::ExternalKey(name) => {
                if let Some(certificate) = self.certificates.get_mut(name) {
                    Arc::make_mut(certificate).key = sealed;
                }
            }
            SealedAt::Diverged {
                formation,
                secret,
                at_fork,
            } => {
                let of = (*formation, Subject::Secret(secret.clone()));
                if let Some(Content::Secret(secret)) = self.diverged_side(&of, *at_fork) {
                    Arc::make_mut(secret).sealed = sealed;
                }
            }
            SealedAt::DivergedKey {
                formation,
                name,
                at_fork,
            } => {
                let of = (*formation, Subject::Certificate(name.clone()));
                if let Some(Content::Certificate(one)) = self.diverged_side(&of, *at_fork) {
                    Arc::make_mut(one).key = sealed;
                }
            }
        }
    }

    fn diverged_side(
        &mut self,
        of: &(FormationId, Subject),
        at_fork: bool,
    ) -> Option<&mut Content> {
        let record = Arc::make_mut(self.diverged.get_mut(of)?);
        match at_fork {
            true => record.fork.as_mut(),
            false => record.loser.as_mut(),
        }
    }
}

fn with_value(secret: &StoredSecret, sealed: Sealed) -> Arc<StoredSecret> {
    let secret = secret.clone();
    Arc::new(StoredSecret { sealed, ..secret })
}

fn with_key(one: &ExternalCertificate, key: Sealed) -> Arc<ExternalCertificate> {
    let one = one.clone();
    Arc::new(ExternalCertificate { key, ..one })
}
