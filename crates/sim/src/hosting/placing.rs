//! Where sessions go: the primary asks `policy::placement` with what it knows of every host, and proposes the session there, as in
//! the daemon.

use crate::calls::{NotMade, not_primary, unfit};
use crate::checks;
use crate::planted::Planted;
use crate::server::{ATTEMPT, Server};
use model::{Application, Applied, Change, Command, Directory, Mode, ServerId, Session, SessionId};
use policy::placement::{self, Host, Load};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use wire::control::{Answer, Request};

/// As in the daemon.
const LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// Where a session goes: what is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) app: &'a Application,
    pub(crate) asked: Option<ServerId>,
    pub(crate) leaving: Option<&'a Session>,
    pub(crate) online_only: bool,
}

impl Server {
    /// Has the primary open or move a session, wherever the primary is, and waits until this server has it.
    pub(crate) async fn carry(self: &Arc<Self>, request: Request) -> Result<Applied, NotMade> {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() + PAUSE < deadline {
            let answer = match self.leader_now() {
                Some(leader) if leader == self.me => Some(self.serve(&request, false).await),
                Some(leader) => self.call(leader, request.clone(), ATTEMPT).await.ok(),
                None => None,
            };
            if let Some(Answer::Applied(applied)) = answer {
                let here = self.has(applied.name).await;
                return here.then_some(*applied).ok_or(NotMade);
            }
            sleep(PAUSE).await;
        }
        Err(NotMade)
    }

    /// Opens or moves a session; this server must act as primary. `online_only`: of a drain.
    pub(crate) async fn serve(&self, request: &Request, online_only: bool) -> Answer {
        let state = self.replica.state();
        if !self.acts(&self.replica.acting()) {
            return Answer::Failed(not_primary());
        }
        let command = match self.command(self.directory(&state), request, online_only) {
            Ok(command) => command,
            Err(why) => return Answer::Failed(unfit(why)),
        };
        let (Request::OpenSession { id, author, .. } | Request::MoveSession { id, author, .. }) =
            request
        else {
            return Answer::Failed(unfit("it is not asked here"));
        };
        let change = Change {
            id: *id,
            at: self.scene.calendar(self.me),
            author: author.clone(),
            command,
        };
        drop(state);
        self.proposed(&change).await
    }

    fn command(
        &self,
        directory: &Directory,
        request: &Request,
        online_only: bool,
    ) -> Result<Command, &'static str> {
        let new = || self.fresh_session();
        match request {
            Request::OpenSession {
                token,
                user,
                app,
                host,
                ..
            } => {
                let application = directory.app(app).ok_or("there is no such application")?;
                let has = directory.current_session(directory.canonical(token), app);
                let host = match has.filter(|session| session.is_reachable()) {
                    Some(session) => session.host,
                    None => self.place(
                        directory,
                        Question {
                            app: application,
                            asked: *host,
                            leaving: None,
                            online_only,
                        },
                    )?,
                };
                Ok(Command::CreateSession {
                    session: new(),
                    token: token.clone(),
                    user: user.clone(),
                    app: app.clone(),
                    host,
                })
            }
            Request::MoveSession {
                session, to, by, ..
            } => {
                let known = directory
                    .session(*session)
                    .ok_or("there is no such session")?;
                let settled = !known.is_live() || *to == Some(known.host);
                let to = match settled {
                    // The directory has words for these.
                    true => to.unwrap_or(known.host),
                    false => self.place(
                        directory,
                        Question {
                            app: directory
                                .app(&known.app)
                                .ok_or("there is no such application")?,
                            asked: *to,
                            leaving: Some(known),
                            online_only,
                        },
                    )?,
                };
                Ok(Command::MoveSession {
                    session: *session,
                    new: new(),
                    to,
                    by: by.clone(),
                })
            }
            _ => Err("it is not asked here"),
        }
    }

    fn fresh_session(&self) -> SessionId {
        let number = self.scene.fresh().to_be_bytes();
        let mut bytes = [0x5e; SessionId::LEN];
        for (place, byte) in bytes.iter_mut().rev().zip(number.iter().rev()) {
            *place = *byte;
        }
        SessionId::from_bytes(bytes)
    }

    fn place(
        &self,
        directory: &Directory,
        question: Question<'_>,
    ) -> Result<ServerId, &'static str> {
        let left = question.leaving.map(|session| session.host);
        let grace = directory.settings().grace_period();
        let blind = self.scene.has(Planted::OfflineUnseen);
        let others = directory.servers().filter(|server| Some(server.id) != left);
        let known: Vec<(model::Server, bool, Duration)> = others
            .map(|server| {
                let mut server = (**server).clone();
                if blind {
                    server.mode = Mode::Online;
                }
                let silence = self.silence(server.id);
                let reachable =
                    server.id == self.me || silence.is_some_and(|silent| silent <= grace);
                let told = server.id == self.me || self.has_report_of(server.id);
                let age = if told { Duration::ZERO } else { Duration::MAX };
                (server, reachable, age)
            })
            .collect();
        let hosts: Vec<Host<'_>> = known
            .iter()
            .map(|(server, reachable, age)| {
                let sessions = directory.sessions_on(server.id).count();
                let load = Load {
                    cpu_permille: 0,
                    memory_permille: 0,
                    sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
                };
                Host {
                    server,
                    reachable: *reachable,
                    load: Some(load),
                    report_age: *age,
                    chosen_since: 0,
                    app_sessions: directory.count_on(server.id, &question.app.name),
                    failed_ago: None,
                    start_retry: directory.settings().start_retry(Some(server.id)),
                }
            })
            .collect();
        let request = placement::Request {
            app: question.app,
            user: None,
            user_sessions: 0,
            asked: question.asked,
            online_only: question.online_only,
            client: None,
            affinity: directory.settings().subnet_affinity(),
            method: directory.settings().balance_method(),
            feature_level: directory.group().feature_level,
            last: None,
            draw: self.scene.fresh().wrapping_mul(0x9e37_79b9_7f4a_7c15),
        };
        let chosen = placement::choose(&request, &hosts);
        let fit = |host: &&Host<'_>| host.reachable && host.report_age.is_zero();
        let fit: Vec<ServerId> = hosts.iter().filter(fit).map(|it| it.server.id).collect();
        let verdict = checks::placed(directory, &question, &fit, chosen);
        self.scene.judge(verdict);
        chosen.ok_or("no server is fit")
    }
}
