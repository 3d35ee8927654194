//! The directory taken apart into records, and put together from them with its indexes.

use super::Directory;
use crate::id::SessionId;
use crate::name::Token;
use crate::record::Record;
use crate::session::Session;
use crate::token::RegisteredToken;
use std::sync::Arc;

/// Records that do not make a directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The group's own record is missing.
    #[error("the record of the group itself is missing")]
    NoGroup,
    /// Two sessions of one token and application are current.
    #[error("sessions {0} and {1} are both current for one token and application")]
    TwoCurrent(SessionId, SessionId),
    /// A session that has ended without a time, or has a time of its end and has not ended, or is current and ended.
    #[error("the record of session {0} contradicts itself")]
    Session(SessionId),
    /// A name is the alias of two tokens.
    #[error("{0} is the alias of two tokens")]
    Alias(Token),
    /// A setting that this version does not know.
    #[error(transparent)]
    Setting(#[from] crate::settings::SettingError),
}

impl Directory {
    /// Takes the directory apart, the group's record first.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let one = std::iter::once(Record::Group(self.group.clone()));
        one.chain(self.servers.values().map(|r| Record::Server(r.clone())))
            .chain(
                self.removed
                    .iter()
                    .map(|(id, at)| Record::Removed(*id, *at)),
            )
            .chain(
                self.settings
                    .entries()
                    .map(|(key, on, value)| Record::Setting(key.to_owned(), on, value)),
            )
            .chain(self.users.values().map(|r| Record::User(r.clone())))
            .chain(self.apps.values().map(|r| Record::Application(r.clone())))
            .chain(self.sessions.values().map(|r| Record::Session(r.clone())))
            .chain(
                self.invitations
                    .values()
                    .map(|r| Record::Invitation(r.clone())),
            )
            .chain(self.journal.values().map(|r| Record::Event(r.clone())))
            .chain(
                self.reported
                    .iter()
                    .map(|(id, number)| Record::Reported(*id, *number)),
            )
            .chain(
                self.answered
                    .iter()
                    .map(|(number, (id, outcome))| Record::Answered(*id, *number, outcome.clone())),
            )
            .chain(
                self.divergences
                    .values()
                    .map(|r| Record::Divergence(r.clone())),
            )
            .chain(self.diverged.values().map(|r| Record::Diverged(r.clone())))
            .chain(self.tokens.values().map(|r| Record::Token(r.clone())))
            .chain(self.gateways.values().map(|r| Record::Gateway(r.clone())))
            .chain(self.audit.values().map(|r| Record::Audited(r.clone())))
            .chain(
                self.certificates
                    .values()
                    .map(|r| Record::Certificate(r.clone())),
            )
            .chain(self.secrets.values().map(|r| Record::Secret(r.clone())))
            .chain(self.profiles.values().map(|r| Record::Profile(r.clone())))
            .chain(
                self.preferences
                    .values()
                    .map(|r| Record::Preferences(r.clone())),
            )
    }

    /// About how many records it consists of: what taking it apart costs. Settings, which are few, are not counted.
    pub fn size(&self) -> usize {
        1 + self.servers.len()
            + self.removed.len()
            + self.users.len()
            + self.apps.len()
            + self.sessions.len()
            + self.invitations.len()
            + self.journal.len()
            + self.reported.len()
            + self.answered.len()
            + self.divergences.len()
            + self.diverged.len()
            + self.tokens.len()
            + self.gateways.len()
            + self.audit.len()
            + self.certificates.len()
            + self.secrets.len()
            + self.profiles.len()
            + self.preferences.len()
    }

    /// Puts a directory together from its records, in any order, with its indexes.
    ///
    /// # Errors
    /// What is missing or contradicts itself.
    pub fn from_records(records: impl IntoIterator<Item = Record>) -> Result<Self, LoadError> {
        let mut records = records.into_iter();
        let mut early = Vec::new();
        let group = loop {
            match records.next() {
                Some(Record::Group(group)) => break group,
                Some(other) => early.push(other),
                None => return Err(LoadError::NoGroup),
            }
        };
        let mut directory = Self::empty(group);
        for record in early.into_iter().chain(records) {
            directory.load(record)?;
        }
        Ok(directory)
    }

    fn load(&mut self, record: Record) -> Result<(), LoadError> {
        match record {
            Record::Group(record) => self.group = record,
            Record::Server(record) => {
                self.servers.insert(record.id, record);
            }
            Record::Removed(id, at) => {
                self.removed.insert(id, at);
            }
            Record::Setting(key, on, value) => self.settings.load(&key, on, &value)?,
            Record::User(record) => {
                self.users.insert(record.name.clone(), record);
            }
            Record::Application(record) => {
                self.apps.insert(record.name.clone(), record);
            }
            Record::Session(record) => self.load_session(Arc::unwrap_or_clone(record))?,
            Record::Invitation(record) => {
                self.invitations.insert(record.id, record);
            }
            Record::Event(record) => {
                self.journal.insert(record.seq, record);
            }
            Record::Reported(id, number) => {
                self.reported.insert(id, number);
            }
            Record::Answered(id, number, outcome) => {
                self.answered.insert(number, (id, outcome));
            }
            Record::Divergence(record) => {
                self.divergences.insert(record.formation.id, record);
            }
            Record::Diverged(record) => {
                let key = (record.formation, record.subject.clone());
                self.diverged.insert(key, record);
            }
            Record::Token(record) => self.load_token(record)?,
            Record::Gateway(record) => {
                self.gateways.insert(record.name.clone(), record);
            }
            Record::Audited(record) => {
                self.audit.insert(record.seq, record);
            }
            Record::Certificate(record) => {
                self.certificates.insert(record.name.clone(), record);
            }
            Record::Secret(record) => {
                self.secrets.insert(record.name.clone(), record);
            }
            Record::Profile(record) => {
                self.profiles.insert(record.audience.clone(), record);
            }
            Record::Preferences(record) => {
                self.preferences.insert(record.user.clone(), record);
            }
        }
        Ok(())
    }

    fn load_token(&mut self, record: Arc<RegisteredToken>) -> Result<(), LoadError> {
        for alias in &record.aliases {
            let other = self.aliases.insert(alias.clone(), record.token.clone());
            if other.is_some_and(|other| other != record.token) {
                return Err(LoadError::Alias(alias.clone()));
            }
        }
        self.tokens.insert(record.token.clone(), record);
        Ok(())
    }

    fn load_session(&mut self, session: Session) -> Result<(), LoadError> {
        if session.is_live() != session.ended.is_none() || (session.current && !session.is_live()) {
            return Err(LoadError::Session(session.id));
        }
        if session.current
            && let Some(other) = self.current_session(&session.token, &session.app)
            && other.id != session.id
        {
            return Err(LoadError::TwoCurrent(other.id, session.id));
        }
        self.put_session(session);
        Ok(())
    }
}
