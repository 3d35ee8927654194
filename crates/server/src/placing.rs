//! Where a new session goes: the primary asks `policy` with what it knows of every host, and proposes the session there.

use crate::clock;
use crate::node::Node;
use crate::random;
use crate::reports;
use crate::reset::Progress;
use crate::submit::{Attempt, SubmitError};
use model::{
    AppName, Application, Applied, Author, Change, ChangeId, Command, Directory, ServerId, Session,
    SessionId, Token, UnixMillis, UserName,
};
use policy::Explanation;
use policy::placement::{self, Choices, Load};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use wire::control::{Report, Request};

/// What placement remembers between two choices.
#[derive(Debug, Default)]
pub struct Placing {
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    choices: Choices,
    last: Option<ServerId>,
}

/// A session that is wished for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The idempotency key.
    pub id: ChangeId,
    /// Who asks.
    pub author: Author,
    /// Whose session.
    pub token: Token,
    /// Who it is.
    pub whose: Whose,
    /// Which application.
    pub app: AppName,
    /// A host that was asked for by name.
    pub host: Option<ServerId>,
    /// Where the client is, where that is known.
    pub client: Option<IpAddr>,
}

/// Who wishes for a session.
#[derive(Debug, Clone)]
pub enum Whose {
    /// Who logged in.
    User(UserName),
    /// A gateway's client, who claims the token.
    Claimed,
}

/// Where a session goes: what is asked.
pub(crate) struct Question<'a> {
    pub(crate) app: &'a Application,
    /// For whom; none where nobody in particular is meant.
    pub(crate) user: Option<&'a UserName>,
    /// A host that was asked for by name.
    pub(crate) asked: Option<ServerId>,
    /// The session in whose place it comes, whose host is not meant.
    pub(crate) leaving: Option<&'a Session>,
    /// Whether a server that is offline is not even the last resort.
    pub(crate) online_only: bool,
    /// Where the client is, where that is known.
    pub(crate) client: Option<IpAddr>,
}

/// What is known of one host besides its record.
struct Known {
    server: std::sync::Arc<model::Server>,
    reachable: bool,
    report: Option<std::sync::Arc<reports::Known>>,
    age: Duration,
}

impl Placing {
    /// A report of a server came: choices made before it are in its figures.
    pub fn reported(&self, server: ServerId) {
        self.memory().choices.reported(server, clock::steady());
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Finds the token's session or has the primary make one, wherever the primary is.
    ///
    /// # Errors
    /// What the directory refuses, that no host is fit, or that there is no primary.
    pub async fn open_session(&self, wish: Wish) -> Result<Applied, SubmitError> {
        let Wish {
            id,
            author,
            token,
            whose,
            app,
            host,
            client,
        } = wish.clone();
        let request = match whose {
            Whose::User(user) => Request::OpenSession {
                id,
                author,
                token,
                user,
                app,
                host,
                client,
            },
            Whose::Claimed => Request::BindToken {
                id,
                author,
                token,
                app,
                client,
            },
        };
        let applied = self
            .carry(request, || self.open_session_here(&wish))
            .await?;
        self.settle(applied).await
    }

    /// Places and proposes a session; this server must act as primary.
    pub(crate) async fn open_session_here(&self, wish: &Wish) -> Attempt {
        if !self.acting() {
            return Attempt::Again { unknown: false };
        }
        let directory = self.directory();
        let Some(app) = directory.app(&wish.app) else {
            let name = wish.app.to_string();
            let refusal = model::Refusal::NotFound {
                kind: model::change::Kind::Application,
                name,
            };
            return Attempt::Settled(Err(SubmitError::Refused(refusal)));
        };
        let user = match &wish.whose {
            Whose::User(user) => Ok(user.clone()),
            Whose::Claimed => directory.claimed(&wish.token).map(|(_, user)| user),
        };
        let user = match user {
            Ok(user) => user,
            Err(refusal) => return Attempt::Settled(Err(SubmitError::Refused(refusal))),
        };
        // A token that has its session gets it wherever it is; nothing is placed.
        let has = directory
            .current_session(directory.canonical(&wish.token), &wish.app)
            .filter(|session| session.is_reachable());
        let host = match has {
            Some(session) => session.host,
            None if self.anew() == Progress::Entering => return self.no_more_sessions(),
            None => {
                let question = Question {
                    app,
                    user: Some(&user).filter(|user| !user.is_nobody()),
                    asked: wish.host,
                    leaving: None,
                    online_only: false,
                    client: wish.client,
                };
                match self.place(&directory, &question) {
                    Ok(host) => host,
                    Err(explanation) => return Attempt::Settled(Err(unfit(explanation))),
                }
            }
        };
        let session = new_session(clock::calendar());
        let (token, app) = (wish.token.clone(), wish.app.clone());
        let command = match &wish.whose {
            Whose::User(user) => Command::CreateSession {
                session,
                token,
                user: user.clone(),
                app,
                host,
            },
            Whose::Claimed => Command::BindToken {
                session,
                token,
                app,
                host,
            },
        };
        let change = Change {
            id: wish.id,
            at: clock::calendar(),
            author: wish.author.clone(),
            command,
        };
        self.propose_here(change).await
    }

    /// Sessions would be lost with the group that this server leaves.
    fn no_more_sessions(&self) -> Attempt {
        Attempt::Settled(Err(SubmitError::Unfit {
            decision: format!("{} is joining another group", self.name()),
            candidates: Vec::new(),
        }))
    }

    /// Where a session goes, remembered for the next one; with all reasons when there is no server for it.
    pub(crate) fn place(
        &self,
        directory: &Directory,
        question: &Question<'_>,
    ) -> Result<ServerId, Explanation> {
        self.with_question(directory, question, |request, hosts, memory| {
            let chosen = placement::choose(request, hosts)
                .ok_or_else(|| placement::place(request, hosts, clock::calendar()).explanation)?;
            memory.choices.chose(chosen);
            memory.last = Some(chosen);
            Ok(chosen)
        })
    }

    /// Asks where a session goes, with all that is known of the hosts.
    fn with_question<T>(
        &self,
        directory: &Directory,
        question: &Question<'_>,
        ask: impl FnOnce(&placement::Request<'_>, &[placement::Host<'_>], &mut Memory) -> T,
    ) -> T {
        let Question { app, user, .. } = *question;
        let left = question.leaving.map(|session| session.host);
        let mut known = self.known_hosts(directory);
        known.retain(|known| Some(known.server.id) != left);
        // The one that is left makes room for the other, where it counts.
        let gone = question.leaving.is_some_and(Session::is_reachable);
        let mut memory = self.0.placing.memory();
        let hosts: Vec<placement::Host<'_>> = known
            .iter()
            .map(|known| host(directory, (app, user), known, &memory.choices))
            .collect();
        let draw = u64::from_be_bytes(random::chance());
        let request = placement::Request {
            app,
            user,
            // They are counted one by one.
            user_sessions: match (user, app.max_per_user) {
                (Some(user), Some(_)) => {
                    small(directory.count_of_user(user, &app.name)).saturating_sub(u32::from(gone))
                }
                _ => 0,
            },
            asked: question.asked,
            online_only: question.online_only,
            client: question.client,
            affinity: directory.settings().subnet_affinity(),
            method: directory.settings().balance_method(),
            feature_level: directory.group().feature_level,
            last: memory.last,
            draw,
        };
        ask(&request, &hosts, &mut memory)
    }

    fn known_hosts(&self, directory: &Directory) -> Vec<Known> {
        let (mut reports, now) = (self.0.reports.all(), clock::steady());
        let grace = directory.settings().grace_period();
        let known = |server: &std::sync::Arc<model::Server>| {
            let report = reports.remove(&server.id);
            let silent = self.0.peers.silent_for(server.id);
            Known {
                server: server.clone(),
                reachable: server.id == self.me() || silent.is_some_and(|silent| silent <= grace),
                age: report
                    .as_ref()
                    .map_or(Duration::MAX, |known| now.saturating_sub(known.learnt)),
                report,
            }
        };
        directory.servers().map(known).collect()
    }

    /// Where a session of an application (or of any, when none is named), for a user where one is named, would go now, and why not
    /// elsewhere.
    pub fn placement(&self, app: Option<&AppName>, user: Option<&UserName>) -> Explanation {
        let directory = self.directory();
        let any = || Application::named("any".parse().expect("a literal that is a name"));
        let app = app
            .and_then(|name| directory.app(name))
            .map_or_else(any, |app| (**app).clone());
        let question = Question {
            app: &app,
            user,
            asked: None,
            leaving: None,
            online_only: false,
            client: None,
        };
        self.with_question(&directory, &question, |request, hosts, _| {
            placement::place(request, hosts, clock::calendar()).explanation
        })
    }

    /// Why no other server than those that are left takes a session of an application now; none: one does.
    pub(crate) fn no_place_elsewhere(
        &self,
        directory: &Directory,
        app: &Application,
        left: &BTreeSet<ServerId>,
    ) -> Option<String> {
        let question = Question {
            app,
            user: None,
            asked: None,
            leaving: None,
            online_only: true,
            client: None,
        };
        self.with_question(directory, &question, |request, hosts, _| {
            let mut others = hosts.to_vec();
            others.retain(|host| !left.contains(&host.server.id));
            let placed = placement::place(request, &others, clock::calendar());
            placed
                .chosen
                .is_none()
                .then(|| unfit(placed.explanation).to_string())
        })
    }
}

fn host<'a>(
    directory: &Directory,
    (app, user): (&Application, Option<&UserName>),
    known: &'a Known,
    choices: &Choices,
) -> placement::Host<'a> {
    let server = &known.server;
    let report = known.report.as_ref().map(|known| &known.report);
    let failed = report.and_then(|report| failed_at(report, &app.name, user));
    placement::Host {
        server,
        reachable: known.reachable,
        load: report.map(|report| Load {
            cpu_permille: report.cpu_permille,
            memory_permille: report.memory_permille,
            sessions: report.sessions,
        }),
        report_age: known.age,
        chosen_since: choices.count(server.id),
        app_sessions: directory.count_on(server.id, &app.name),
        failed_ago: failed.map(|at| clock::calendar().since(at)),
        start_retry: directory.settings().start_retry(Some(server.id)),
    }
}

/// When a session of the application last failed to start there, or had no account for this user.
fn failed_at(report: &Report, app: &AppName, user: Option<&UserName>) -> Option<UnixMillis> {
    let starts = report.failed_starts.iter();
    let starts = starts.filter_map(|(of, at)| (of == app).then_some(*at));
    let accounts = report.lacking_accounts.iter();
    let accounts =
        accounts.filter_map(|(of, who, at)| (of == app && Some(who) == user).then_some(*at));
    starts.chain(accounts).max()
}

/// An id for a session that is made now: the time in 5 bytes, in milliseconds, before 5 random ones. New sessions lie beside
/// each other in tables by id, so that a thousand of them touch few places; whoever knows an id gets nothing for it.
pub(crate) fn new_session(now: UnixMillis) -> SessionId {
    let mut bytes = [0; SessionId::LEN];
    let (time, chance) = bytes.split_at_mut(SessionId::LEN / 2);
    time.copy_from_slice(now.0.to_be_bytes().last_chunk::<5>().unwrap_or(&[0; 5]));
    chance.copy_from_slice(&random::chance::<5>());
    SessionId::from_bytes(bytes)
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(crate) fn unfit(explanation: Explanation) -> SubmitError {
    let mut why = BTreeMap::new();
    for candidate in &explanation.candidates {
        let objections: Vec<&str> = candidate
            .objections()
            .map(|reason| reason.detail.as_str())
            .collect();
        why.insert(candidate.name.clone(), objections.join(", "));
    }
    let each: Vec<String> = why
        .into_iter()
        .map(|(name, why)| format!("{name}: {why}"))
        .collect();
    SubmitError::Unfit {
        decision: format!("{} ({})", explanation.decision, each.join("; ")),
        candidates: explanation
            .candidates
            .into_iter()
            .map(|it| (it.server, it.reasons))
            .collect(),
    }
}
