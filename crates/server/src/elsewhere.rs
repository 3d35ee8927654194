//! Passwords that are checked elsewhere: by LDAP servers, or by PAM on this server.
//!
//! Always true: what is asked has a time limit and a place in a bounded pool; a failed attempt is one failed login, and what cannot be
//! asked is none; why it cannot be is told to administrators, in `status` and the journal, and not to whoever tries to log in.
//! An account that the directory does not have is made at its first accepted login, as one that may use applications and no more.

mod ldap;
mod trusted;

use crate::clock;
use crate::login::{Attempt, LoginError, PASSWORD_LIMIT};
use crate::node::{Consistency, Node};
use crate::random;
use crate::submit::SubmitError;
use futures_util::future::BoxFuture;
use host::pam;
use ldap::{LdapError, Question};
use model::settings::FindUser;
use model::{
    Authenticate, Author, Command, EventKind, LdapUrl, Origin, Refusal, SecretName, Severity, User,
    UserName,
};
use peer::InFull;
use policy::logins::Known;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wire::client::Hidden;
use wire::credentials::SecretBytes;
use zeroize::Zeroizing;

/// How long all servers together may take for one login.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a server that failed is asked after the others, and by nobody where all have failed.
const SPARED_FOR: Duration = Duration::from_secs(5);
/// How often it is looked whether what checks passwords can be asked.
const LOOK: Duration = Duration::from_secs(15);

/// Why it is not known whether a password is right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Unasked {
    /// In words, for administrators.
    why: String,
}

fn unasked(why: impl Into<String>) -> Unasked {
    Unasked { why: why.into() }
}

fn late() -> Unasked {
    unasked(format!("no answer within {} s", LIMIT.as_secs()))
}

/// What this server knows of those who check passwords.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere {
    trusted: trusted::Trusted,
    /// Servers that failed, and when.
    failed: Mutex<BTreeMap<LdapUrl, (Duration, String)>>,
    /// The value with which users are looked for, and the version of its secret.
    bind: Mutex<Option<(SecretName, u64, SecretBytes)>>,
    /// Why nobody can be asked.
    trouble: Mutex<Option<String>>,
}

impl Elsewhere {
    /// For people: why the passwords of users cannot be checked here.
    pub(crate) fn told(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.as_ref().map(|why| {
            format!("users cannot log in here, their passwords cannot be checked: {why}")
        })
    }

    /// Whether it is another thing than was known.
    fn set_trouble(&self, trouble: Option<String>) -> bool {
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let turned = known.is_some() != trouble.is_some();
        *known = trouble;
        turned
    }

    fn failed(&self, server: &LdapUrl, why: Option<String>) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => failed.insert(server.clone(), (clock::steady(), why)),
            None => failed.remove(server),
        };
    }

    /// The servers in the order in which they are asked: those that failed a moment ago are left out. Where all did, why.
    fn in_order(&self, servers: &[LdapUrl]) -> Result<Vec<LdapUrl>, Unasked> {
        let now = clock::steady();
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|_, (at, _)| now.saturating_sub(*at) < SPARED_FOR);
        let fit = servers.iter().filter(|one| !failed.contains_key(*one));
        let fit: Vec<LdapUrl> = fit.cloned().collect();
        if !fit.is_empty() {
            return Ok(fit);
        }
        let whys = servers.iter().filter_map(|server| {
            let (_, why) = failed.get(server)?;
            Some(why.clone())
        });
        Err(unasked(whys.collect::<Vec<_>>().join("; ")))
    }
}

/// Looks again and again whether those who check passwords can be asked, so that administrators know before users do.
pub(crate) async fn run(node: Node) {
    let mut changed = node.directory_changed();
    loop {
        node.look_elsewhere().await;
        let settings = node.directory().settings().clone();
        let other = async {
            while changed.changed().await.is_ok() {
                if *node.directory().settings() != settings {
                    return true;
                }
            }
            false
        };
        // After the time, or at once when something else is to be asked.
        if tokio::time::timeout(LOOK, other).await == Ok(false) {
            return;
        }
    }
}

impl Node {
    /// Looks whether those who check passwords can be asked here; why not.
    pub(crate) async fn look_elsewhere(&self) -> Option<String> {
        let authenticate = self.directory().settings().authenticate();
        let found = match &authenticate {
            Authenticate::Directory => {
                self.0.elsewhere.set_trouble(None);
                return None;
            }
            Authenticate::Pam => {
                let service = self.directory().settings().pam_service().to_owned();
                pam::is_there(&service).map_err(|error| unasked(InFull(&error).to_string()))
            }
            Authenticate::Ldap(servers) => {
                let looked = tokio::time::timeout(LIMIT, self.look_at(servers)).await;
                looked.unwrap_or_else(|_| Err(late()))
            }
        };
        self.note_elsewhere(authenticate.origin(), found.as_ref().err());
        found.err().map(|error| error.why)
    }

    /// One that answers is enough.
    async fn look_at(&self, servers: &[LdapUrl]) -> Result<(), Unasked> {
        let question = self.question().await?;
        let mut whys = Vec::new();
        for server in servers {
            match ldap::reach(server, &question).await {
                Ok(()) => {
                    self.0.elsewhere.failed(server, None);
                    return Ok(());
                }
                Err(error) => whys.push(self.note_failed(server, &error)),
            }
        }
        Err(unasked(whys.join("; ")))
    }

    fn note_failed(&self, server: &LdapUrl, error: &LdapError) -> String {
        let why = format!("{server}: {}", InFull(error));
        self.0.elsewhere.failed(server, Some(why.clone()));
        why
    }

    /// Keeps why nobody can be asked, and records it when that turns.
    fn note_elsewhere(&self, origin: Origin, unasked: Option<&Unasked>) {
        let why = unasked.map(|unasked| unasked.why.clone());
        if !self.0.elsewhere.set_trouble(why.clone()) {
            return;
        }
        let (severity, fields) = match why {
            None => {
                tracing::info!(by = origin.as_str(), "passwords can be checked again");
                (Severity::Info, vec![("state", "up".to_owned())])
            }
            Some(why) => {
                tracing::warn!(by = origin.as_str(), why, "passwords cannot be checked");
                let fields = vec![("state", "down".to_owned()), ("error", why)];
                (Severity::Warning, fields)
            }
        };
        let kind = EventKind::AuthenticationReachability;
        let subject = origin.as_str().to_owned();
        self.record(
            kind,
            severity,
            subject,
            fields.into_iter().collect(),
            Vec::new(),
        );
    }

    /// Who is asked, and what is known for it.
    async fn question(&self) -> Result<Question, Unasked> {
        let directory = self.directory();
        let settings = directory.settings();
        let find = settings.find_user();
        let find = find.ok_or_else(|| unasked("nothing says where a user's entry is"))?;
        let tls = self
            .0
            .elsewhere
            .trusted
            .config(settings.ldap_ca(Some(self.me())));
        let tls = tls
            .await
            .map_err(|error| unasked(InFull(&error).to_string()))?;
        let bind_password = match &find {
            FindUser::Search {
                bind: Some((_, secret)),
                ..
            } => self.bind_password(secret).await?,
            _ => None,
        };
        let drawn = random::bytes::<16>().map_err(|error| unasked(error.to_string()))?;
        let nobody = format!("stead-nobody-{}", data_encoding::HEXLOWER.encode(&drawn));
        Ok(Question {
            find,
            bind_password,
            tls,
            nobody,
        })
    }

    /// The password for looking for users; it is kept until it is changed.
    async fn bind_password(&self, name: &SecretName) -> Result<Option<Zeroizing<String>>, Unasked> {
        let read = |value: &SecretBytes| {
            let text = std::str::from_utf8(&value.0).ok()?;
            // An editor leaves a line's end.
            let text = text.trim_end_matches(['\r', '\n']);
            Some(Zeroizing::new(text.to_owned())).filter(|text| !text.is_empty())
        };
        let kept = &self.0.elsewhere.bind;
        let directory = self.directory();
        let version = directory.secret(name).map(|secret| secret.version_number);
        if let Some((of, at, value)) = &*kept.lock().unwrap_or_else(PoisonError::into_inner)
            && of == name
            && Some(*at) == version
        {
            return Ok(read(value));
        }
        let value = self.secret_for_logins(name).await;
        let value = value.map_err(|error| unasked(InFull(&error).to_string()))?;
        let password = read(&value);
        *kept.lock().unwrap_or_else(PoisonError::into_inner) =
            version.map(|version| (name.clone(), version, value));
        Ok(password)
    }

    /// Whether a password is right, as those say who check it; the user is none where there is nobody to ask for, which takes as long.
    fn ask_elsewhere(
        self,
        user: Option<UserName>,
        password: Hidden,
        from: SocketAddr,
    ) -> BoxFuture<'static, Result<bool, Unasked>> {
        // One type for whatever waits here: else those who wait for it become too deep for the compiler.
        Box::pin(async move { self.asked_elsewhere(user, password, from).await })
    }

    async fn asked_elsewhere(
        &self,
        user: Option<UserName>,
        password: Hidden,
        from: SocketAddr,
    ) -> Result<bool, Unasked> {
        let directory = self.directory();
        let authenticate = directory.settings().authenticate();
        let asked = match &authenticate {
            Authenticate::Directory => return Ok(false),
            Authenticate::Pam => {
                let service = directory.settings().pam_service().to_owned();
                drop(directory);
                self.ask_pam(service, user, password, from).await
            }
            Authenticate::Ldap(servers) => {
                let asked = self.ask_ldap(servers, user.as_ref(), &password);
                let answered = tokio::time::timeout(LIMIT, asked).await;
                answered.unwrap_or_else(|_| Err(late()))
            }
        };
        self.note_elsewhere(authenticate.origin(), asked.as_ref().err());
        asked
    }

    async fn ask_ldap(
        &self,
        servers: &[LdapUrl],
        user: Option<&UserName>,
        password: &Hidden,
    ) -> Result<bool, Unasked> {
        let question = self.question().await?;
        let mut whys = Vec::new();
        for server in self.0.elsewhere.in_order(servers)? {
            let user = user.map(UserName::as_str);
            match ldap::ask(&server, &question, user, &password.0).await {
                Ok(accepted) => {
                    self.0.elsewhere.failed(&server, None);
                    return Ok(accepted);
                }
                Err(error) => whys.push(self.note_failed(&server, &error)),
            }
        }
        Err(unasked(whys.join("; ")))
    }

    async fn ask_pam(
        &self,
        service: String,
        user: Option<UserName>,
        password: Hidden,
        from: SocketAddr,
    ) -> Result<bool, Unasked> {
        let nobody = || -> Result<String, Unasked> {
            let drawn = random::bytes::<8>().map_err(|error| unasked(error.to_string()))?;
            Ok(format!("stead-{}", data_encoding::HEXLOWER.encode(&drawn)))
        };
        let is_somebody = user.is_some();
        let name = user.map_or_else(nobody, |user| Ok(user.to_string()))?;
        let question = pam::Question {
            service,
            folder: None,
            user: name,
            password: Zeroizing::new(password.0.clone()),
            from: from.ip().to_string(),
        };
        let asked = pam::ask(&self.0.executable, &question).await;
        let accepted = asked.map_err(|error| unasked(InFull(&error).to_string()))?;
        Ok(accepted && is_somebody)
    }

    /// Checks a password elsewhere; gives the account, which is made where there is none.
    ///
    /// # Errors
    /// Wrong, locked or busy; it cannot be asked, or the account cannot be made now.
    pub(crate) async fn check_elsewhere(
        &self,
        attempt: &Attempt<'_>,
        named: Option<&UserName>,
        known: impl Fn() -> Known,
        from: SocketAddr,
    ) -> Result<Arc<User>, LoginError> {
        let disabled = attempt.user.is_some_and(|user| user.disabled);
        let asked_for = named.filter(|name| !disabled && is_asked_for(name, attempt.user));
        let length = attempt.password.0.len();
        let asked_for = asked_for.filter(|_| (1..=PASSWORD_LIMIT).contains(&length));
        let (user, password) = (asked_for.cloned(), attempt.password.clone());
        let ask = self.clone().ask_elsewhere(user, password, from);
        self.logins().check_by(attempt, known, ask).await?;
        match (attempt.user, asked_for) {
            (Some(user), _) => Ok(Arc::clone(user)),
            (None, Some(name)) => self.make_account(name, from).await,
            (None, None) => Err(LoginError::Wrong),
        }
    }

    /// Whoever was refused by the directory waits as long as one who was refused elsewhere, and is told the same.
    pub(crate) async fn ask_for_nobody(
        &self,
        attempt: &Attempt<'_>,
        from: SocketAddr,
    ) -> Result<(), LoginError> {
        let ask = self
            .clone()
            .ask_elsewhere(None, Hidden(String::new()), from);
        self.logins().spend(attempt, ask).await
    }

    async fn make_account(
        &self,
        name: &UserName,
        from: SocketAddr,
    ) -> Result<Arc<User>, LoginError> {
        let origin = self.directory().settings().authenticate().origin();
        let author = Author::User {
            name: name.clone(),
            from: from.to_string(),
        };
        let command = Command::PutUser {
            user: Box::new(User::from_elsewhere(name.clone(), origin)),
            expect: None,
        };
        match Box::pin(self.submit(None, author, command)).await {
            // Another server was faster.
            Ok(_) | Err(SubmitError::Refused(Refusal::Exists { .. })) => {}
            Err(error) => {
                let detail = format!("an account for {name} cannot be made now: {error}");
                return Err(LoginError::Behind { detail });
            }
        }
        if self.directory().user(name).is_none() {
            // What it says is told below.
            let _ = self.catch_up(Consistency::Linearizable).await;
        }
        match self.directory().user(name).filter(|user| !user.disabled) {
            Some(user) => Ok(Arc::clone(user)),
            None => Err(LoginError::Behind {
                detail: self.missing(),
            }),
        }
    }
}

/// Whether others are asked for a name. Most of them take `ann`, `Ann` and `ANN` for the same: each way of writing it would be an account of
/// its own here, with so many more guesses. So a name has no capitals there, unless there is an account that has.
fn is_asked_for(name: &UserName, account: Option<&Arc<User>>) -> bool {
    account.is_some() || !name.as_str().bytes().any(|byte| byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Vec<LdapUrl> {
        match Authenticate::parse(text).unwrap() {
            Authenticate::Ldap(servers) => servers,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_server_that_failed_is_spared_and_told_where_all_have() {
        let elsewhere = Elsewhere::default();
        let both = servers("ldap:ldaps://one,ldaps://two");
        assert_eq!(elsewhere.in_order(&both).unwrap(), both);
        elsewhere.failed(&both[0], Some("one is down".to_owned()));
        assert_eq!(elsewhere.in_order(&both).unwrap(), both[1..]);
        elsewhere.failed(&both[1], Some("two is down".to_owned()));
        let why = elsewhere.in_order(&both).unwrap_err().to_string();
        assert_eq!(why, "one is down; two is down");
        elsewhere.failed(&both[0], None);
        assert_eq!(elsewhere.in_order(&both).unwrap(), both[..1]);
    }

    #[test]
    fn what_turns_is_told_once() {
        let elsewhere = Elsewhere::default();
        assert!(!elsewhere.set_trouble(None));
        assert!(elsewhere.set_trouble(Some("it is down".to_owned())));
        assert!(!elsewhere.set_trouble(Some("it is slow".to_owned())));
        assert!(elsewhere.told().unwrap().contains("it is slow"));
        assert!(elsewhere.set_trouble(None));
        assert_eq!(elsewhere.told(), None);
    }

    #[test]
    fn one_name_is_written_in_one_way() {
        let ask = |name: &str| is_asked_for(&name.parse().unwrap(), None);
        assert!(ask("ann") && ask("ann.9-x"));
        assert!(!ask("Ann") && !ask("aNN"));
        let account = Arc::new(User::from_elsewhere(
            "Ann".parse().unwrap(),
            Origin::Directory,
        ));
        assert!(is_asked_for(&account.name, Some(&account)));
    }
}
