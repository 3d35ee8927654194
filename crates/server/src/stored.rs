//! Stored credentials: sealed for the directory, and opened for the sessions of this host.
//!
//! Whoever holds the seal key does both itself; any other server asks one that does, on a connection for credentials. Always true: a
//! value is given to the host of a session whose application names it, and to nobody else; here it is held no longer than it takes to
//! hand it on.

use crate::keys::{self, KeysError};
use crate::node::{Consistency, Node};
use crate::renewing::{self, RenewalError};
use crate::submit::SubmitError;
use model::trust::Sealed;
use model::{Application, Directory, Origin, SecretName, ServerId, SessionId, StoredSecret};
use peer::InFull;
use std::sync::Arc;
use wire::credentials::{CredentialsAnswer, CredentialsRefusal, CredentialsRequest, SecretBytes};
use wire::keeper::Handed;

/// Why a session's application cannot be given its secrets.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GivingError {
    #[error("there is no secret {0:?} any more: the application names it")]
    Gone(SecretName),
    #[error("secret {0:?} has no value any more: set it again with `stead secret set`")]
    Lost(SecretName),
    #[error("secret {name:?} cannot be opened, and no server that holds the seal key gave it")]
    Asked {
        name: SecretName,
        #[source]
        source: RenewalError,
    },
}

impl Node {
    /// Seals a value for the directory, here or at a server that holds the seal key.
    ///
    /// # Errors
    /// When none is reached, or the value cannot be sealed.
    pub(crate) async fn seal_value(
        &self,
        name: &SecretName,
        value: SecretBytes,
    ) -> Result<Sealed, SubmitError> {
        if let Some(seal) = self.seal_key() {
            let group = self.directory().group().id;
            let sealed = keys::seal_stored(group, &seal, name, &value.0);
            return sealed.map_err(|error| SubmitError::Keys(Arc::new(error)));
        }
        let request = CredentialsRequest::Seal {
            name: name.clone(),
            value,
        };
        let fits = |answer: &CredentialsAnswer| matches!(answer, CredentialsAnswer::Sealed(_));
        match renewing::ask_others(self, &request, fits).await {
            Ok((_, CredentialsAnswer::Sealed(sealed))) => Ok(Sealed(sealed)),
            Ok(_) => Err(SubmitError::NoSealKey),
            Err(error) => Err(SubmitError::NotSealed {
                why: InFull(&error).to_string(),
            }),
        }
    }

    /// What an application's session on this host is given in secret.
    ///
    /// # Errors
    /// Which secret is missing, or cannot be had now.
    pub(crate) async fn secrets_for(
        &self,
        session: SessionId,
        app: &Application,
    ) -> Result<Handed, GivingError> {
        let mut handed = Vec::new();
        for name in app.secrets().unwrap_or_default() {
            let request = CredentialsRequest::StoredSecret {
                session,
                name: name.clone(),
            };
            let value = self.secret_by(&name, &request).await?;
            handed.push((name, value));
        }
        Ok(Handed(handed))
    }

    /// The value with which this server looks for users elsewhere.
    ///
    /// # Errors
    /// Why it cannot be had now.
    pub(crate) async fn secret_for_logins(
        &self,
        name: &SecretName,
    ) -> Result<SecretBytes, GivingError> {
        let request = CredentialsRequest::LoginSecret { name: name.clone() };
        self.secret_by(name, &request).await
    }

    /// The value, opened here, or given by a server that holds the seal key when it is asked like this.
    async fn secret_by(
        &self,
        name: &SecretName,
        request: &CredentialsRequest,
    ) -> Result<SecretBytes, GivingError> {
        let directory = self.directory();
        let secret = directory.secret(name);
        let secret = secret.ok_or_else(|| GivingError::Gone(name.clone()))?;
        if secret.is_lost() {
            return Err(GivingError::Lost(name.clone()));
        }
        if let Some(opened) = self.open_here(&directory, secret) {
            match opened {
                Ok(value) => return Ok(value),
                // The seal key may have changed, and this server have it only in a moment.
                Err(error) => tracing::warn!(%name, %error, "a secret does not open here"),
            }
        }
        let fits = |answer: &_| matches!(answer, CredentialsAnswer::StoredSecret(_));
        let asked = renewing::ask_others(self, request, fits).await;
        let failed = |source| GivingError::Asked {
            name: name.clone(),
            source,
        };
        match asked.map_err(failed)? {
            (_, CredentialsAnswer::StoredSecret(value)) => Ok(value),
            (server, _) => Err(failed(RenewalError::Nonsense { server })),
        }
    }

    /// The value, where this server holds the seal key.
    fn open_here(
        &self,
        directory: &Directory,
        secret: &StoredSecret,
    ) -> Option<Result<SecretBytes, KeysError>> {
        self.seal_key()?;
        let (seals, group) = (&self.trust().seals, directory.group().id);
        let opened = keys::open_stored(group, seals, &secret.name, &secret.sealed);
        Some(opened.map(|value| SecretBytes(value.to_vec())))
    }
}

/// Seals a value for a member that holds no seal key.
pub(crate) fn seal_for(
    node: &Node,
    from: ServerId,
    name: &SecretName,
    value: &SecretBytes,
) -> Result<CredentialsAnswer, CredentialsRefusal> {
    let directory = node.directory();
    if directory.server(from).is_none() {
        return Err(CredentialsRefusal::Unknown);
    }
    let seal = node.seal_key().ok_or(CredentialsRefusal::NoSealKey)?;
    let invalid = |why: String| CredentialsRefusal::Invalid { why };
    if value.0.len() > StoredSecret::VALUE_LIMIT {
        return Err(invalid("the value is too long".to_owned()));
    }
    let sealed = keys::seal_stored(directory.group().id, &seal, name, &value.0);
    let sealed = sealed.map_err(|error| invalid(InFull(&error).to_string()))?;
    Ok(CredentialsAnswer::Sealed(sealed.0))
}

/// Gives a value to the host of a session whose application names it.
pub(crate) async fn open_for(
    node: &Node,
    from: ServerId,
    session: SessionId,
    name: &SecretName,
) -> Result<CredentialsAnswer, CredentialsRefusal> {
    if !is_given(&node.directory(), from, session, name) {
        // The host may know of its session a moment earlier than this server.
        let caught_up = node.catch_up(Consistency::Linearizable).await;
        caught_up.map_err(|_| CredentialsRefusal::NotGiven)?;
    }
    let directory = node.directory();
    if !is_given(&directory, from, session, name) {
        tracing::warn!(from = %directory.name_of(from), %session, %name, "a secret was asked for by a server that is not to have it");
        return Err(CredentialsRefusal::NotGiven);
    }
    open_known(node, &directory, name)
}

/// Gives a member the value with which it looks for users elsewhere, and no other one.
pub(crate) async fn open_for_logins(
    node: &Node,
    from: ServerId,
    name: &SecretName,
) -> Result<CredentialsAnswer, CredentialsRefusal> {
    if !is_for_logins(&node.directory(), from, name) {
        let caught_up = node.catch_up(Consistency::Linearizable).await;
        caught_up.map_err(|_| CredentialsRefusal::NotGiven)?;
    }
    let directory = node.directory();
    if !is_for_logins(&directory, from, name) {
        tracing::warn!(from = %directory.name_of(from), %name, "a secret was asked for by a server that is not to have it");
        return Err(CredentialsRefusal::NotGiven);
    }
    open_known(node, &directory, name)
}

fn open_known(
    node: &Node,
    directory: &Directory,
    name: &SecretName,
) -> Result<CredentialsAnswer, CredentialsRefusal> {
    let secret = directory.secret(name).ok_or(CredentialsRefusal::NotGiven)?;
    if secret.is_lost() {
        return Err(CredentialsRefusal::Lost);
    }
    let opened = node.open_here(directory, secret);
    match opened.ok_or(CredentialsRefusal::NoSealKey)? {
        Ok(value) => Ok(CredentialsAnswer::StoredSecret(value)),
        Err(error) => Err(CredentialsRefusal::Invalid {
            why: InFull(&error).to_string(),
        }),
    }
}

/// Whether a member is to have a secret: LDAP servers are asked, and with that one.
fn is_for_logins(directory: &Directory, server: ServerId, secret: &SecretName) -> bool {
    let settings = directory.settings();
    let asked = settings.authenticate().origin() == Origin::Ldap;
    let is_member = directory.server(server).is_some();
    asked && is_member && settings.bind_secret().as_ref() == Some(secret)
}

/// Whether a server is to have a secret: it hosts that session, which is not over, and the session's application names it. Sessions of
/// servers that were removed are over.
fn is_given(
    directory: &Directory,
    host: ServerId,
    session: SessionId,
    secret: &SecretName,
) -> bool {
    let session = directory.session(session);
    let hosted = session.filter(|session| session.host == host && session.is_live());
    let app = hosted.and_then(|session| directory.app(&session.app));
    app.is_some_and(|app| app.is_given(secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::nobody_in;
    use model::{Authority, GroupId, Record, Session, SessionState, UnixMillis};
    use peer::seal::{SealKey, SealKeys};

    const HOST: ServerId = ServerId::from_bytes([1; 16]);
    const OTHER: ServerId = ServerId::from_bytes([2; 16]);
    const GROUP: GroupId = GroupId::from_bytes([8; 16]);

    fn session(number: u8, app: &str, state: SessionState) -> Session {
        let id = SessionId::from_bytes([number; SessionId::LEN]);
        let token = format!("card.{number}").parse().unwrap();
        let names = (&token, &"ann".parse().unwrap(), &app.parse().unwrap());
        let mut session = Session::to_start(id, names, HOST, UnixMillis(1), 1);
        session.ended = (state == SessionState::Ended).then_some(UnixMillis(5));
        session.state = state;
        session
    }

    /// Sessions 1 and 3 of an application that is given `mail`, the latter over, and session 2 of another; with that value.
    fn directory(sealed: Sealed) -> Directory {
        let app = |name: &str, launch: &str| {
            let mut app = Application::named(name.parse().unwrap());
            app.launch = Some(launch.to_owned());
            Record::Application(Arc::new(app))
        };
        let secret = StoredSecret {
            name: "mail".parse().unwrap(),
            description: None,
            sealed,
            created: UnixMillis(1),
            set: UnixMillis(1),
            by: "admin".to_owned(),
            exposed: None,
            version_number: 1,
        };
        let authority = Authority {
            certificate: Vec::new(),
            fingerprint: String::new(),
            key: Sealed(Vec::new()),
            ticket_public: Vec::new(),
            ticket_key: Sealed(Vec::new()),
            expires: UnixMillis(0),
        };
        let group = nobody_in(GROUP, "east".parse().unwrap(), authority);
        let records = vec![
            Record::Group(Arc::new(group)),
            app("mailer", "run {secret:mail}"),
            app("shell", "run"),
            Record::Secret(Arc::new(secret)),
            Record::Session(Arc::new(session(1, "mailer", SessionState::Active))),
            Record::Session(Arc::new(session(2, "shell", SessionState::Active))),
            Record::Session(Arc::new(session(3, "mailer", SessionState::Ended))),
        ];
        Directory::from_records(records).unwrap()
    }

    #[test]
    fn only_the_host_of_a_session_that_needs_it_is_given_a_secret() {
        let directory = directory(Sealed(vec![1]));
        let (mail, other) = ("mail".parse().unwrap(), "other".parse().unwrap());
        let given = |host, number: u8, name| {
            let session = SessionId::from_bytes([number; SessionId::LEN]);
            is_given(&directory, host, session, name)
        };
        assert!(given(HOST, 1, &mail));
        assert!(!given(OTHER, 1, &mail), "it is not there");
        assert!(!given(HOST, 1, &other), "its application does not name it");
        assert!(!given(HOST, 2, &mail), "its application does not name it");
        assert!(!given(HOST, 3, &mail), "it is over");
        assert!(!given(HOST, 4, &mail), "there is none");
    }

    #[test]
    fn values_go_to_another_group_where_they_can_be_opened() {
        let (old, new) = (SealKey::make().unwrap(), SealKey::make().unwrap());
        let (mail, to) = ("mail".parse().unwrap(), GroupId::from_bytes([9; 16]));
        let sealed = keys::seal_stored(GROUP, &old, &mail, b"a value").unwrap();
        let directory = directory(sealed);
        let (old, with_new) = (SealKeys::only(old), SealKeys::only(new.clone()));
        let moved = |with: &SealKeys| keys::seal_again(&directory, with, (to, &new)).unwrap();
        let there = moved(&old);
        let secret = there.secret(&mail).unwrap();
        let opened = keys::open_stored(to, &with_new, &mail, &secret.sealed).unwrap();
        assert_eq!(opened.as_slice(), b"a value");
        assert!(keys::open_stored(to, &old, &mail, &secret.sealed).is_err());
        // Without the key, or with another, names stay and values do not.
        for with in [&SealKeys::default(), &with_new] {
            let there = moved(with);
            assert!(there.secret(&mail).unwrap().is_lost());
        }
    }
}
