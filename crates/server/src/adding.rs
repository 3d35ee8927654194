//! `stead group add`: a member has a server that stands alone join the group, at the wish of an administrator of both.
//!
//! Always true: the server's administrator is told to that server alone, over a connection that its fingerprint vouches for; the
//! invitation is for this one join, and is taken back when nothing came of it; a member that never came about is removed again
//! when the server says that it still stands alone. Start at [`Node::add`].

pub(crate) mod remote;
mod said;

use crate::api::bodies::{
    Candidate as Said, EnteredGroup, EnteringRequest, Login, LoginRequest, Password,
};
use crate::node::Node;
use crate::submit::SubmitError;
use model::{
    Author, Command, EventKind, Refusal, Role, Server, ServerId, ServerName, Severity, Standing,
};
use peer::InFull;
use peer::dial::DialError;
use peer::fingerprint::Fingerprint;
use peer::standalone::authority_at;
use policy::Plan;
use policy::adding::addition;
use remote::{Remote, RemoteError};
use said::candidate;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use wire::client::Hidden;
use wire::join::JoinCode;

/// How long looking whose server is there may take.
const LOOK_TIME: Duration = Duration::from_secs(5);
/// How long the server may take for a question.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// How long it may take to join: every member tries whether it reaches it.
const JOIN_TIME: Duration = Duration::from_secs(60);
/// How long is waited until it is heard as a member.
const START_TIME: Duration = Duration::from_secs(15);
/// How long it is tried to find out what became of a join that broke off.
const SETTLE_TIME: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(500);

/// A server that is to be added.
#[derive(Debug, Clone)]
pub(crate) struct Addition {
    /// Where it answers clients, `host:port`.
    pub(crate) address: String,
    /// The fingerprint of its authority.
    pub(crate) authority: Fingerprint,
    /// One of its administrators.
    pub(crate) user: String,
    /// That one's password.
    pub(crate) password: Hidden,
    /// What it is to be.
    pub(crate) standing: Standing,
    /// The name that it is to have, if not the one that it has.
    pub(crate) name: Option<ServerName>,
    /// Whether what people made there may be lost.
    pub(crate) discard: bool,
}

/// A server that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Added {
    /// Its name.
    pub(crate) name: String,
    /// Its id.
    pub(crate) server: ServerId,
    /// What it is.
    pub(crate) standing: Standing,
    /// Whether it was heard as a member.
    pub(crate) started: bool,
}

/// Why a server was not added.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddingError {
    /// Nobody is reached there, or no server of Stead.
    #[error(transparent)]
    Look(DialError),
    /// It is of this group.
    #[error("the server at {address} is of this group already")]
    Own {
        /// Where.
        address: String,
    },
    /// The account is no administrator there.
    #[error("{user} has the role {role} at {address}, and only an administrator may have it join")]
    Role {
        /// Who.
        user: String,
        /// What he may do.
        role: String,
        /// Where.
        address: String,
    },
    /// What it says of itself makes no sense.
    #[error("what {address} says of itself is not understood: its version may be another one")]
    Strange {
        /// Where.
        address: String,
    },
    /// Something refuses it.
    #[error("{}", refusals.join("; "))]
    Refused {
        /// What, with what to do about it.
        refusals: Vec<String>,
    },
    /// The server refused, or was not reached.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// A change here.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// Nobody knows.
    #[error("{name} was made a member, and is not heard from, as a member or otherwise: {source}")]
    Unknown {
        /// The new member.
        name: String,
        /// What was seen last.
        #[source]
        source: RemoteError,
    },
}

impl Node {
    /// Whose server answers clients at an address; nothing is said to it.
    ///
    /// # Errors
    /// Nobody of Stead is there, or one of this group.
    pub(crate) async fn look(&self, address: &str) -> Result<Fingerprint, AddingError> {
        let basis = self.0.shown.endpoint.tls.basis();
        let seen = authority_at(&basis, address, LOOK_TIME)
            .await
            .map_err(AddingError::Look)?;
        self.not_own(address, seen)?;
        Ok(seen)
    }

    fn not_own(&self, address: &str, seen: Fingerprint) -> Result<(), AddingError> {
        let trust = self.trust();
        let mut own = trust.authorities.iter().chain(&trust.former);
        match own.any(|der| Fingerprint::of(der) == seen) {
            true => Err(AddingError::Own {
                address: address.to_owned(),
            }),
            false => Ok(()),
        }
    }

    /// What would be done to add a server, and what refuses it.
    ///
    /// # Errors
    /// The server is not reached, or does not accept the name and password.
    pub(crate) async fn addition_plan(&self, wish: &Addition) -> Result<Plan, AddingError> {
        let remote = self.log_in(wish).await?;
        self.plan_with(&remote, wish).await
    }

    /// Adds a server that stands alone.
    ///
    /// # Errors
    /// What refuses it; the server and the group are then as they were, but for [`AddingError::Unknown`].
    pub(crate) async fn add(&self, wish: Addition, author: Author) -> Result<Added, AddingError> {
        let remote = self.log_in(&wish).await?;
        let Plan { refusals, .. } = self.plan_with(&remote, &wish).await?;
        if !refusals.is_empty() {
            return Err(AddingError::Refused { refusals });
        }
        let node = self.clone();
        // Not called off half-way when whoever asked goes away.
        let adding = tokio::spawn(async move {
            let added = node.add_now(&remote, &wish, &author).await;
            if let Err(error) = &added {
                node.note_failure(&wish, &author, error);
            }
            added
        });
        adding
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    async fn log_in(&self, wish: &Addition) -> Result<Remote, AddingError> {
        self.not_own(&wish.address, wish.authority)?;
        let mut remote = Remote {
            basis: self.0.shown.endpoint.tls.basis(),
            address: wish.address.clone(),
            authority: wish.authority,
            bearer: None,
        };
        let request = LoginRequest {
            user: wish.user.clone(),
            password: Password(wish.password.0.clone()),
        };
        let login: Login = remote.post("/v1/login", &request, ANSWER_TIME).await?;
        if login.role != Role::Admin.as_str() {
            return Err(AddingError::Role {
                user: wish.user.clone(),
                role: login.role.clone(),
                address: wish.address.clone(),
            });
        }
        remote.bearer = Some(Hidden(login.token.clone()));
        Ok(remote)
    }

    async fn plan_with(&self, remote: &Remote, wish: &Addition) -> Result<Plan, AddingError> {
        let said: Said = remote.get("/v1/group/candidate", ANSWER_TIME).await?;
        let strange = || AddingError::Strange {
            address: wish.address.clone(),
        };
        let candidate = candidate(said, wish.name.clone()).ok_or_else(strange)?;
        let (standing, discard) = (wish.standing, wish.discard);
        Ok(self.with_view(|view| addition(view, &candidate, standing, discard)))
    }

    async fn add_now(
        &self,
        remote: &Remote,
        wish: &Addition,
        author: &Author,
    ) -> Result<Added, AddingError> {
        let code = self.invite(wish.standing, author.clone()).await?;
        let request = EnteringRequest {
            code: code.to_string(),
            name: wish.name.as_ref().map(ToString::to_string),
            discard: wish.discard,
        };
        let asked = remote.post("/v1/group/join", &request, JOIN_TIME).await;
        drop(request);
        let joined: EnteredGroup = match asked {
            Ok(joined) => joined,
            Err(error) => return self.settle_broken(remote, &code, author, error).await,
        };
        let server = joined.id.parse().map_err(|_| AddingError::Strange {
            address: wish.address.clone(),
        })?;
        Ok(Added {
            started: self.started_within(server, START_TIME).await,
            name: joined.name,
            server,
            standing: wish.standing,
        })
    }

    async fn started_within(&self, server: ServerId, limit: Duration) -> bool {
        let mut changed = self.directory_changed();
        let started = async {
            while !self
                .directory()
                .server(server)
                .is_some_and(|member| member.started)
            {
                if changed.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        timeout(limit, started).await.unwrap_or(false)
    }

    /// Nothing may have come of a join, or all: finds out, and takes back what nothing came of.
    async fn settle_broken(
        &self,
        remote: &Remote,
        code: &JoinCode,
        author: &Author,
        error: RemoteError,
    ) -> Result<Added, AddingError> {
        let deadline = Instant::now() + SETTLE_TIME;
        loop {
            match self.withdraw(code, author, &error).await {
                Ok(()) => return Err(error.into()),
                Err(SubmitError::Refused(Refusal::InvitationUsed { .. })) => break,
                // It was taken back already, or has expired.
                Err(SubmitError::Refused(_)) => return Err(error.into()),
                Err(other) if Instant::now() >= deadline => {
                    tracing::warn!(%other, "an invitation that nothing came of was not taken back; it ends by itself");
                    return Err(error.into());
                }
                Err(_) => sleep(AGAIN).await,
            }
        }
        self.settle_admitted(remote, code, author, error, deadline)
            .await
    }

    async fn withdraw(
        &self,
        code: &JoinCode,
        author: &Author,
        error: &RemoteError,
    ) -> Result<(), SubmitError> {
        let reason: String = InFull(error).to_string().chars().take(200).collect();
        let command = Command::WithdrawInvitation {
            invitation: code.invitation,
            reason,
        };
        self.submit(None, author.clone(), command).await.map(|_| ())
    }

    /// The group has made it a member, and the server did not say that it is one.
    async fn settle_admitted(
        &self,
        remote: &Remote,
        code: &JoinCode,
        author: &Author,
        error: RemoteError,
        deadline: Instant,
    ) -> Result<Added, AddingError> {
        let directory = self.directory();
        let used_by = directory
            .invitation(code.invitation)
            .and_then(|used| used.used_by.clone());
        let member = used_by.and_then(|name| directory.server_named(&name).cloned());
        let Some(member) = member else {
            return Err(error.into());
        };
        loop {
            if self.started_within(member.id, AGAIN).await {
                return Ok(added(&member));
            }
            let said: Result<Said, _> = remote.get("/v1/group/candidate", ANSWER_TIME).await;
            match said {
                Ok(said) if !said.joining => {
                    let reason = Some("it did not become a member, and stands alone".to_owned());
                    self.remove_server(member.id, author.clone(), reason)
                        .await?;
                    return Err(error.into());
                }
                _ if Instant::now() >= deadline => {
                    return Err(AddingError::Unknown {
                        name: member.name.to_string(),
                        source: error,
                    });
                }
                _ => sleep(AGAIN).await,
            }
        }
    }

    fn note_failure(&self, wish: &Addition, author: &Author, error: &AddingError) {
        let by = crate::api::author_in_words(author, &self.directory());
        let fields = [
            ("address", wish.address.clone()),
            ("by", by),
            ("why", InFull(error).to_string()),
        ];
        let subject = wish
            .name
            .as_ref()
            .map_or_else(|| wish.address.clone(), ToString::to_string);
        self.record(
            EventKind::JoinRefused,
            Severity::Warning,
            subject,
            fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            Vec::new(),
        );
    }
}

fn added(member: &Arc<Server>) -> Added {
    Added {
        name: member.name.to_string(),
        server: member.id,
        standing: member.standing,
        started: true,
    }
}
