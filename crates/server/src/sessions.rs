//! Sessions for clients: logging in, finding or making the session, and opening a byte stream to its keeper.
//!
//! Logging in and attaching to an existing session need no primary; only a new session does.

use crate::clock;
use crate::login::LoginError;
use crate::node::{Consistency, Current, Node};
use crate::placing::{Whose, Wish};
use crate::profiles;
use crate::streams::StreamError;
use crate::submit::SubmitError;
use crate::tickets::{ForSession, Issued, TicketError};
use crate::tunnels::Through;
use model::{
    AppName, Author, AuthorityMark, ChangeId, Directory, EndReason, Mode, Outcome, Refusal,
    ServerId, ServerName, Session, SessionId, SessionState, Token, User, UserName,
};
use relay::{AttachTarget, ByteStream, OpenRequest, Pending, Sessions};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use wire::client::{
    Answer, Credential, Hidden, Leave, Opened, Refused, ServerAddress, SessionNews,
};
use wire::keeper::{Opening, OpeningAnswer};

/// How long a server that may be behind tries to catch up before it refuses something that it does not know.
const CATCH_UP: Duration = Duration::from_secs(3);
const CATCH_UP_PAUSE: Duration = Duration::from_millis(50);
/// How long a client is asked to wait when logins queue.
const BUSY_MS: u64 = 500;

/// The group's sessions, as the client port sees them.
#[derive(Debug, Clone)]
pub struct GroupSessions {
    node: Node,
}

impl GroupSessions {
    /// The sessions of this server's group.
    pub fn new(node: Node) -> Self {
        Self { node }
    }

    async fn open_session(&self, request: OpenRequest) -> Result<Answer, Answer> {
        let refuse = |refused| Answer::Refused(refused);
        // First of all: what there is, and what not, is told to nobody who has not logged in.
        let user = self.authenticate(&request).await?;
        let directory = self.knowing(&request).await?;
        if let Some(app) = request
            .app
            .as_ref()
            .filter(|app| directory.app(app).is_none())
        {
            return Err(refuse(Refused::UnknownApp { app: app.clone() }));
        }
        let token = admitted(&directory, &request.token, &user.name).map_err(refuse)?;
        let app = match &request.app {
            Some(app) => app.clone(),
            None => profiles::usual_app(&directory, &token, &user).map_err(refuse)?,
        };
        // What a gateway's client claimed becomes the user's who logs in, which is a change.
        let found = directory
            .current_session(&token, &app)
            .filter(|session| session.state != SessionState::Orphaned && !session.user.is_nobody());
        let (session, host, created) = match found {
            Some(session) if session.user == user.name => (session.id, session.host, false),
            Some(session) => {
                let detail = format!(
                    "the token's session of {} belongs to {}",
                    session.app, session.user
                );
                return Err(refuse(Refused::NotAllowed { detail }));
            }
            None => self
                .make_session(&request, &user.name, &app)
                .await
                .map_err(refuse)?,
        };
        // The primary may know of an alias that this server had not heard of.
        let directory = self.node.directory();
        let token = directory
            .session(session)
            .map_or(token, |made| made.token.clone());
        let issued = self.ticket(&user.name, &token).await?;
        Ok(Answer::Opened(Box::new(Opened {
            session,
            app,
            created,
            host,
            ticket: issued.ticket,
            expires: issued.expires,
            servers: addresses(&directory, host, request.from.ip()),
            said: profiles::said(&directory, directory.session(session).map(|one| &**one)),
        })))
    }

    /// The directory, after catching up if it lacks what the client speaks of: a server that was away for a while must not
    /// refuse what was made meanwhile.
    ///
    /// # Errors
    /// It lacks it, and nobody tells whether that is so.
    async fn knowing(&self, request: &OpenRequest) -> Result<Current, Answer> {
        let directory = self.node.directory();
        let app_known = match &request.app {
            Some(app) => directory.app(app).is_some(),
            None => directory.registered(&request.token).is_some(),
        };
        if app_known || self.node.acting() {
            return Ok(directory);
        }
        let caught_up = async {
            while self.node.catch_up(Consistency::Linearizable).await.is_err() {
                tokio::time::sleep(CATCH_UP_PAUSE).await;
            }
        };
        match tokio::time::timeout(CATCH_UP, caught_up).await {
            Ok(()) => Ok(self.node.directory()),
            Err(_) => {
                let detail = format!("this server may be behind, and {}", self.node.missing());
                Err(Answer::Refused(Refused::NoPrimary { detail }))
            }
        }
    }

    async fn authenticate(&self, request: &OpenRequest) -> Result<Arc<User>, Answer> {
        match &request.credential {
            Credential::Password { user, password } => {
                let who = |directory: &Directory| named(directory, user.as_ref(), &request.token);
                let (said, from) = (request.token.as_str(), request.from);
                let checked = self.node.check_password(who, said, password, from);
                checked.await.map_err(|error| match error {
                    LoginError::Busy => Answer::ComeBack { after_ms: BUSY_MS },
                    LoginError::Locked { .. } => Answer::Refused(Refused::Locked),
                    LoginError::Behind { .. } | LoginError::Unchecked => {
                        Answer::Refused(Refused::NoPrimary {
                            detail: error.to_string(),
                        })
                    }
                    _ => Answer::Refused(Refused::Login),
                })
            }
            Credential::Ticket(ticket) => {
                let directory = self.node.directory();
                let ForSession { user, token, .. } = self
                    .check_ticket(&directory, ticket)
                    .map_err(Answer::Refused)?;
                if token == *directory.canonical(&request.token) {
                    Ok(user)
                } else {
                    Err(Answer::Refused(Refused::Ticket))
                }
            }
        }
    }

    fn check_ticket(&self, directory: &Directory, ticket: &Hidden) -> Result<ForSession, Refused> {
        self.node
            .tickets()
            .check_session(ticket, directory)
            .map_err(|error| {
                tracing::debug!(%error, "a ticket was refused");
                match error {
                    // Another server, or this one in a moment, knows.
                    TicketError::Behind => Refused::NoPrimary {
                        detail: error.to_string(),
                    },
                    _ => Refused::Ticket,
                }
            })
    }

    async fn make_session(
        &self,
        request: &OpenRequest,
        user: &UserName,
        app: &AppName,
    ) -> Result<(SessionId, ServerId, bool), Refused> {
        let author = Author::User {
            name: user.clone(),
            from: request.from.to_string(),
        };
        let key = ChangeId::from_bytes(request.attempt);
        let token = request.token.clone();
        let opened = self
            .node
            .open_session(Wish {
                id: key,
                author,
                token,
                whose: Whose::User(user.clone()),
                app: app.clone(),
                host: None,
                client: Some(request.from.ip()),
            })
            .await;
        match opened.map(|applied| applied.outcome) {
            Ok(Ok(Outcome::Session {
                session,
                host,
                created,
            })) => Ok((session, host, created)),
            Ok(_) => Err(Refused::Malformed),
            Err(SubmitError::Refused(Refusal::NotFound { .. })) => {
                Err(Refused::UnknownApp { app: app.clone() })
            }
            Err(SubmitError::Refused(refusal)) => Err(Refused::NotAllowed {
                detail: refusal.to_string(),
            }),
            Err(SubmitError::Unfit { decision, .. }) => Err(Refused::NoHost { detail: decision }),
            Err(error) => Err(Refused::NoPrimary {
                detail: error.to_string(),
            }),
        }
    }

    /// A ticket for somebody who may have one. A server that was removed signs with a key that is worth nothing to the others.
    async fn ticket(&self, user: &UserName, token: &Token) -> Result<Issued, Answer> {
        if self.node.was_removed() {
            return Err(Answer::Refused(Refused::NoPrimary {
                detail: "this server was removed from the group".to_owned(),
            }));
        }
        self.node.issue_ticket(user, token).await.map_err(|error| {
            Answer::Refused(Refused::NoPrimary {
                detail: format!("no ticket can be signed now: {error}"),
            })
        })
    }

    async fn renew_ticket(&self, ticket: Hidden, from: SocketAddr) -> Result<Answer, Answer> {
        let directory = self.node.directory();
        let ForSession { user, token, .. } = self
            .check_ticket(&directory, &ticket)
            .map_err(Answer::Refused)?;
        let token = admitted(&directory, &token, &user.name).map_err(Answer::Refused)?;
        let issued = self.ticket(&user.name, &token).await?;
        Ok(Answer::Renewed {
            ticket: issued.ticket,
            expires: issued.expires,
            servers: addresses(&directory, self.node.me(), from.ip()),
        })
    }

    fn news(&self, session: SessionId, ticket: &Hidden) -> Result<SessionNews, Refused> {
        let directory = self.node.directory();
        let ForSession { user, former, .. } = self.check_ticket(&directory, ticket)?;
        let known = directory
            .session(session)
            .filter(|known| known.user == user.name);
        Ok(SessionNews {
            session,
            state: known.map(|known| known.state),
            current: known.is_some_and(|known| known.current),
            host: known.map(|known| known.host),
            host_heard: known.is_some_and(|known| self.node.is_heard(known.host)),
            reason: known.and_then(|known| known.reason.as_deref().cloned()),
            leave: known.and_then(|known| leave(&directory, known)),
            renew: former,
        })
    }

    fn attach(&self, session: SessionId, ticket: &Hidden) -> Result<AttachTarget, Refused> {
        let directory = self.node.directory();
        let ForSession { user, token, .. } = self.check_ticket(&directory, ticket)?;
        let token = admitted(&directory, &token, &user.name)?;
        let known = directory.session(session).ok_or(Refused::NoSession)?;
        if known.token != token || known.user != user.name {
            return Err(Refused::NoSession);
        }
        if known.state == SessionState::Ended {
            return Err(match known.reason.as_deref() {
                Some(EndReason::FailedToStart { detail }) => Refused::FailedToStart {
                    detail: detail.clone(),
                },
                _ => Refused::NoSession,
            });
        }
        Ok(AttachTarget {
            dead_after_ms: millis(directory.settings().dead_after()),
            retain_ms: millis(directory.settings().retain(Some(known.host))),
        })
    }

    async fn stream(
        &self,
        session: SessionId,
        opening: Opening,
    ) -> Result<(OpeningAnswer, Box<dyn ByteStream>), Refused> {
        let directory = self.node.directory();
        let known = directory.session(session).ok_or(Refused::NoSession)?;
        let most = match &opening {
            Opening::Attach { .. } => Some(directory.settings().tunnels_per_user()),
            Opening::Resume { .. } | Opening::Control { .. } => None,
        };
        let counted = self.node.0.tunnels.enter(&known.user, most);
        let counted = counted.map_err(|error| Refused::NotAllowed {
            detail: error.to_string(),
        })?;
        let (opened, name) = if known.host == self.node.me() {
            let opened = self.node.local_stream(session, opening).await;
            (opened, self.node.name())
        } else {
            let server = directory.server(known.host).ok_or(Refused::NoSession)?;
            let opened = self.node.remote_stream(server, session, opening).await;
            (opened, &server.name)
        };
        let (answer, stream) = opened.map_err(|error| refused(&error, name))?;
        Ok((answer, Box::new(Through::new(stream, counted))))
    }
}

/// Who logs in: whom the client names, or whose the token is.
fn named(directory: &Directory, user: Option<&UserName>, token: &Token) -> Option<UserName> {
    let registered = || directory.registered(token).map(|known| known.user.clone());
    let by_name = || token.names_user()?.parse().ok();
    user.cloned().or_else(registered).or_else(by_name)
}

/// The token that the user may use under this name.
fn admitted(directory: &Directory, token: &Token, user: &UserName) -> Result<Token, Refused> {
    let admitted = directory.admitted(token, user);
    admitted.map_err(|refusal| Refused::NotAllowed {
        detail: refusal.to_string(),
    })
}

fn refused(error: &StreamError, host: &ServerName) -> Refused {
    match error {
        StreamError::NotHere => Refused::NoSession,
        StreamError::Failed { detail } | StreamError::Backend { detail } => {
            Refused::FailedToStart {
                detail: detail.clone(),
            }
        }
        other => Refused::HostUnreachable {
            host: host.to_string(),
            detail: other.to_string(),
        },
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// All servers and where a client reaches them, `first` at the head.
pub(crate) fn addresses(
    directory: &Directory,
    first: ServerId,
    client: IpAddr,
) -> Vec<ServerAddress> {
    let mut all: Vec<ServerAddress> = directory
        .servers()
        .map(|server| ServerAddress {
            server: server.id,
            name: server.name.clone(),
            address: server.address_for(client).to_owned(),
        })
        .collect();
    all.sort_by_key(|address| address.server != first);
    all
}

fn either(result: Result<Answer, Answer>) -> Answer {
    result.unwrap_or_else(|answer| answer)
}

impl Sessions for GroupSessions {
    fn me(&self) -> (ServerId, ServerName) {
        (self.node.me(), self.node.name().clone())
    }

    fn came_with(&self, authority: AuthorityMark, version: &str, from: SocketAddr) {
        let client = format!("a client ({version})");
        self.node.came_with(authority, &client, from.ip());
    }

    fn open(&self, request: OpenRequest) -> Pending<'_, Answer> {
        Box::pin(async move { either(self.open_session(request).await) })
    }

    fn find(&self, token: &Token, app: &AppName, ticket: &Hidden) -> Answer {
        let directory = self.node.directory();
        let token = directory.canonical(token);
        let checked = self.check_ticket(&directory, ticket);
        let allowed = checked.and_then(|ticket| match ticket.token == *token {
            true => admitted(&directory, token, &ticket.user.name),
            false => Err(Refused::Ticket),
        });
        match allowed {
            Ok(_) => Answer::Found {
                session: directory
                    .current_session(token, app)
                    .map(|session| (session.id, session.host, session.state)),
                age_ms: self.node.age_ms(),
            },
            Err(refused) => Answer::Refused(refused),
        }
    }

    fn ask(&self, session: SessionId, ticket: &Hidden) -> Answer {
        self.news(session, ticket)
            .map_or_else(Answer::Refused, Answer::State)
    }

    fn renew(&self, ticket: Hidden, from: SocketAddr) -> Pending<'_, Answer> {
        Box::pin(async move { either(self.renew_ticket(ticket, from).await) })
    }

    fn attach_target(
        &self,
        session: SessionId,
        ticket: Hidden,
    ) -> Pending<'_, Result<AttachTarget, Refused>> {
        Box::pin(async move { self.attach(session, &ticket) })
    }

    fn open_stream(
        &self,
        session: SessionId,
        opening: Opening,
    ) -> Pending<'_, Result<(OpeningAnswer, Box<dyn ByteStream>), Refused>> {
        Box::pin(self.stream(session, opening))
    }
}

/// What the drain of a session's host asks of its client.
fn leave(directory: &Directory, session: &Session) -> Option<Leave> {
    let host = directory.server(session.host)?;
    let Mode::Offline(offline) = &host.mode else {
        return None;
    };
    let drain = offline.drain.as_ref()?;
    let is_to_go = drain.finished.is_none() && directory.is_to_drain(host, session);
    is_to_go.then(|| Leave {
        within_ms: u64::try_from(drain.deadline.since(clock::calendar()).as_millis())
            .unwrap_or(u64::MAX),
        by: offline.by.clone(),
        reason: offline.reason.clone(),
    })
}
