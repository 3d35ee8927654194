//! The audit log: each change that somebody made to what people edit, who, from where, when, and what there was before and after.
//!
//! Always true: no hash of a password is in it, and no key, sealed or not. What servers do by themselves is in the journal only, and so is who opens
//! sessions. Start at [`Command::is_audited`]; `apply` writes the entries.

use crate::certificate::ExternalCertificate;
use crate::change::{Author, Command};
use crate::directory::Directory;
use crate::divergence::{Content, Subject, changed};
use crate::fields::Fields;
use crate::id::{FormationId, InvitationId, SessionId};
use crate::profile::ProfileChange;
use crate::secret::{StoredSecret, StoredSecretChange};
use crate::time::UnixMillis;
use crate::trust::{AuthorityChange, SealChange, Sealed, SecretChange};
use crate::user::{ApiToken, PasswordHash, User};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// What was done. Stored: entries are only ever added, at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It was not there before.
    Added,
    /// It is another than before.
    Changed,
    /// It is not there any more.
    Removed,
    /// A session was ended.
    Ended,
    /// A session was moved.
    Moved,
    /// What a formation that gave way had changed was put in place.
    Applied,
    /// What a formation that gave way had changed was thrown away.
    Discarded,
}

impl Action {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::Ended => "ended",
            Self::Moved => "moved",
            Self::Applied => "applied",
            Self::Discarded => "discarded",
        }
    }
}

/// What it was done to. Stored: entries are only ever added, at the end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum About {
    /// Something that people edit.
    Record(Subject),
    /// An invitation.
    Invitation(InvitationId),
    /// A session.
    Session(SessionId),
    /// What a formation that gave way had changed.
    Divergence(FormationId),
    /// The group's authority.
    Authority,
    /// The group secret.
    Secret,
    /// The seal key.
    SealKey,
}

/// The text form, with servers by their ids: that of the subject, `invitation:ID`, `session:ID`, `divergence:ID`, `authority`, `secret`,
/// `seal-key`.
impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(subject) => subject.fmt(f),
            Self::Invitation(id) => write!(f, "invitation:{id}"),
            Self::Session(id) => write!(f, "session:{id}"),
            Self::Divergence(id) => write!(f, "divergence:{id}"),
            Self::Authority => f.write_str("authority"),
            Self::Secret => f.write_str("secret"),
            Self::SealKey => f.write_str("seal-key"),
        }
    }
}

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audited {
    /// Its place in the log, from 1.
    pub seq: u64,
    /// When.
    pub at: UnixMillis,
    /// Who did it, and from where.
    pub author: Author,
    /// What was done.
    pub action: Action,
    /// To what.
    pub about: About,
    /// What there was; passwords and values of secrets are left out.
    pub before: Option<Content>,
    /// What there is; passwords and values of secrets are left out.
    pub after: Option<Content>,
    /// Details by name: a reason, that a password or the value of a secret was set.
    pub fields: Fields,
}

/// A change that is to be audited, and the directory before it.
pub(crate) struct Before {
    directory: Directory,
    action: Option<Action>,
    fields: Vec<(&'static str, String)>,
    abouts: BTreeSet<About>,
}

impl Command {
    /// Whether the audit log has it when somebody asked for it.
    pub fn is_audited(&self) -> bool {
        self.is_user_change()
            && !matches!(
                self,
                Self::CreateSession { .. } | Self::SelectSession { .. }
            )
    }

    /// What it names itself; more may change with it, such as the tokens of an account that is removed.
    fn abouts(&self) -> Vec<About> {
        let servers = |ids: &[_]| {
            let subjects = ids.iter().map(|id| About::Record(Subject::Server(*id)));
            subjects.collect()
        };
        let one = |subject| vec![About::Record(subject)];
        match self {
            Self::AdmitServer { server, .. } => servers(&[server.id]),
            Self::RemoveServer { server, .. }
            | Self::EditServer { server, .. }
            | Self::SetAddresses { server, .. } => servers(&[*server]),
            Self::SetMode { servers: all, .. } => servers(all),
            Self::SetBackups { .. } | Self::EditBackups { .. } => one(Subject::Backups),
            Self::SetSetting { key, on, .. } | Self::UnsetSetting { key, on } => {
                one(Subject::Setting(key.clone(), *on))
            }
            Self::PutUser { user, .. } => one(Subject::User(user.name.clone())),
            Self::RemoveUser { name } | Self::UnlockUser { name } => {
                one(Subject::User(name.clone()))
            }
            Self::PutApp { app, .. } => one(Subject::Application(app.name.clone())),
            Self::RemoveApp { name } => one(Subject::Application(name.clone())),
            Self::PutToken { token, .. } => one(Subject::Token(token.token.clone())),
            Self::RemoveToken { token } => one(Subject::Token(token.clone())),
            Self::PutGateway { gateway, .. } => one(Subject::Gateway(gateway.name.clone())),
            Self::RemoveGateway { name } => one(Subject::Gateway(name.clone())),
            Self::PutCertificate { certificate } => {
                one(Subject::Certificate(certificate.name.clone()))
            }
            Self::RemoveCertificate { name } => one(Subject::Certificate(name.clone())),
            Self::ChangePause { .. } => one(Subject::Pause),
            Self::Invite { invitation } => vec![About::Invitation(invitation.id)],
            Self::WithdrawInvitation { invitation, .. } => vec![About::Invitation(*invitation)],
            Self::EndSession { session, .. } | Self::MoveSession { session, .. } => {
                vec![About::Session(*session)]
            }
            Self::ChangeAuthority { .. } => vec![About::Authority],
            Self::ChangeSecret { .. } => vec![About::Secret],
            Self::ChangeSeal { .. } => vec![About::SealKey],
            Self::RevokeCertificates { server, .. } => servers(&[*server]),
            Self::ChangeStoredSecret { change } => one(Subject::Secret(match change {
                StoredSecretChange::Put { secret, .. } => secret.name.clone(),
                StoredSecretChange::Remove { name } => name.clone(),
            })),
            Self::ChangeProfile { change } => one(match change {
                ProfileChange::Put { profile, .. } => Subject::Profile(profile.audience.clone()),
                ProfileChange::Remove { audience } => Subject::Profile(audience.clone()),
                ProfileChange::Prefer { preferences, .. } => {
                    Subject::Preferences(preferences.user.clone())
                }
                ProfileChange::Forget { user } => Subject::Preferences(user.clone()),
            }),
            Self::DiscardDiverged { formation, .. } => vec![About::Divergence(*formation)],
            _ => Vec::new(),
        }
    }

    fn details(&self, directory: &Directory) -> Vec<(&'static str, String)> {
        let reason =
            |reason: &Option<String>| reason.iter().map(|it| ("reason", it.clone())).collect();
        let session = |id, by: &String| {
            let session = directory.session(id).into_iter();
            let facts = session.flat_map(|session| {
                [
                    ("token", session.token.to_string()),
                    ("user", session.user.to_string()),
                    ("app", session.app.to_string()),
                    ("host", directory.name_of(session.host)),
                ]
            });
            facts.chain([("by", by.clone())])
        };
        match self {
            Self::RemoveServer { reason: why, .. }
            | Self::SetBackups { reason: why, .. }
            | Self::EditBackups { reason: why, .. }
            | Self::DiscardDiverged { reason: why, .. } => reason(why),
            Self::ApplyDiverged {
                formation,
                reason: why,
                ..
            } => {
                let mut details: Vec<_> = reason(why);
                details.push(("formation", formation.to_string()));
                details
            }
            Self::Invite { invitation } => vec![
                ("standing", invitation.standing.as_str().to_owned()),
                ("expires", invitation.expires.to_string()),
            ],
            Self::WithdrawInvitation { reason, .. } => vec![("reason", reason.clone())],
            Self::ChangeAuthority { change } => authority_details(change),
            Self::RevokeCertificates { reason: why, .. } => {
                let mut details: Vec<_> = reason(why);
                details.push(("certificates", "revoked".to_owned()));
                details
            }
            Self::ChangeSecret { change } => secret_details(change),
            Self::ChangeSeal { change } => seal_details(change),
            Self::AdmitServer { invitation, .. } => {
                let by = directory.invitation(*invitation).map(|it| it.by.clone());
                let by = by.map(|by| ("invited_by", by));
                by.into_iter()
                    .chain([("invitation", invitation.to_string())])
                    .collect()
            }
            Self::EndSession { session: id, by } => session(*id, by).collect(),
            Self::MoveSession {
                session: id,
                to,
                by,
                ..
            } => {
                let to = ("to", directory.name_of(*to));
                session(*id, by).chain([to]).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn secret_details(change: &SecretChange) -> Vec<(&'static str, String)> {
    let (why, phase, mark) = match change {
        SecretChange::Begin { mark, reason, .. } => (reason.as_ref(), "begun", mark),
        SecretChange::Finish { mark, .. } => (None, "finished", mark),
    };
    let why = why.map(|why| ("reason", why.clone()));
    let phase = [("phase", phase.to_owned()), ("secret", mark.to_string())];
    why.into_iter().chain(phase).collect()
}

/// What follows a beginning nobody asked for.
fn seal_details(change: &SealChange) -> Vec<(&'static str, String)> {
    let SealChange::Begin { next, reason, .. } = change else {
        return Vec::new();
    };
    let why = reason.as_ref().map(|why| ("reason", why.clone()));
    let next = [("step", "begun".to_owned()), ("next", next.to_string())];
    why.into_iter().chain(next).collect()
}

fn authority_details(change: &AuthorityChange) -> Vec<(&'static str, String)> {
    let why = |why: &Option<String>| why.iter().map(|why| ("reason", why.clone())).collect();
    match change {
        AuthorityChange::Begin { next, reason, .. } => {
            let mut details: Vec<_> = why(reason);
            details.push(("step", "begun".to_owned()));
            details.push(("next", next.fingerprint.clone()));
            details
        }
        AuthorityChange::Advance { other, phase, .. } => vec![
            ("step", "ended".to_owned()),
            ("phase", phase.as_str().to_owned()),
            ("other", other.clone()),
        ],
        AuthorityChange::Withdraw { reason } => {
            let mut details: Vec<_> = why(reason);
            details.push(("step", "withdrawn".to_owned()));
            details
        }
    }
}

impl Before {
    /// What a change is about, before it is carried out; none where the audit log does not have it.
    pub(crate) fn of(author: &Author, command: &Command, directory: &Directory) -> Option<Self> {
        let by_somebody = match author {
            Author::User { .. } | Author::Local { .. } => true,
            // Somebody invited it.
            Author::Server(_) => matches!(command, Command::AdmitServer { .. }),
        };
        if !by_somebody || !command.is_audited() {
            return None;
        }
        Some(Self {
            directory: directory.clone(),
            action: match command {
                Command::EndSession { .. } => Some(Action::Ended),
                Command::MoveSession { .. } => Some(Action::Moved),
                Command::ApplyDiverged { .. } => Some(Action::Applied),
                Command::DiscardDiverged { .. } => Some(Action::Discarded),
                Command::Invite { .. } => Some(Action::Added),
                Command::WithdrawInvitation { .. } => Some(Action::Removed),
                Command::ChangeAuthority { .. }
                | Command::ChangeSecret { .. }
                | Command::ChangeSeal { .. } => Some(Action::Changed),
                _ => None,
            },
            fields: command.details(directory),
            abouts: command.abouts().into_iter().collect(),
        })
    }

    /// The entries that the change makes, now that it has been carried out, without their places: of what it names, and of
    /// what changed with it.
    pub(crate) fn entries(self, author: &Author, after: &Directory) -> Vec<Audited> {
        let (before, now) = (&self.directory, after.group().clock);
        let changed = changed(Some(before), after).into_iter().filter(|subject| {
            // That a server was removed says the entry of the server.
            !matches!(subject, Subject::Removed(_))
                && before.content_at(subject, now) != after.content_at(subject, now)
        });
        let mut abouts = self.abouts;
        abouts.extend(changed.map(About::Record));
        let entries = abouts.into_iter().map(|about| {
            let (was, is) = (about.content(before, now), about.content(after, now));
            let action = self.action.unwrap_or(match (&was, &is) {
                (None, Some(_)) => Action::Added,
                (Some(_), None) => Action::Removed,
                _ => Action::Changed,
            });
            let password = password_was_set(was.as_ref(), is.as_ref());
            let password = password.then(|| ("password", "set".to_owned()));
            let value = value_was_set(was.as_ref(), is.as_ref());
            let value = value.then(|| ("value", "set".to_owned()));
            Audited {
                seq: 0,
                at: now,
                author: author.clone(),
                action,
                about,
                before: was.map(without_secrets),
                after: is.map(without_secrets),
                fields: self
                    .fields
                    .iter()
                    .cloned()
                    .chain(password)
                    .chain(value)
                    .collect(),
            }
        });
        entries.collect()
    }
}

impl About {
    fn content(&self, directory: &Directory, now: UnixMillis) -> Option<Content> {
        match self {
            Self::Record(subject) => directory.content_at(subject, now),
            _ => None,
        }
    }
}

fn password_was_set(before: Option<&Content>, after: Option<&Content>) -> bool {
    let set = |content: Option<&Content>| match content {
        Some(Content::User(user)) => Some((user.password_set, user.password.clone())),
        _ => None,
    };
    after.is_some() && set(before) != set(after)
}

fn without_hash(token: &ApiToken) -> ApiToken {
    ApiToken {
        hash: [0; 32],
        ..token.clone()
    }
}

fn value_was_set(before: Option<&Content>, after: Option<&Content>) -> bool {
    let sealed = |content: Option<&Content>| match content {
        Some(Content::Secret(secret)) => Some(secret.sealed.clone()),
        _ => None,
    };
    after.is_some() && sealed(before) != sealed(after)
}

fn without_secrets(content: Content) -> Content {
    match content {
        Content::User(user) => Content::User(Arc::new(User {
            password: PasswordHash(String::new()),
            api_tokens: user.api_tokens.iter().map(without_hash).collect(),
            ..Arc::unwrap_or_clone(user)
        })),
        Content::Certificate(one) => Content::Certificate(Arc::new(ExternalCertificate {
            key: Sealed::default(),
            ..Arc::unwrap_or_clone(one)
        })),
        Content::Secret(secret) => Content::Secret(Arc::new(StoredSecret {
            sealed: Sealed::default(),
            ..Arc::unwrap_or_clone(secret)
        })),
        other => other,
    }
}
