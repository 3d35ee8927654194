//! `stead select`: the sessions of a token, and which of them it leads to.

mod picker;

use super::{Context, session};
use crate::door::{Door, Method, escape, with_query};
use crate::errors::Failure;
use clap::Args;
use model::{AppName, ServerName, SessionId, Token, UserName};
use server::api::bodies::{
    Server as ServerView, Session as SessionView, SessionMove, SessionRequest, Token as TokenView,
};
use std::cmp::Reverse;

/// Shows the sessions of a token, and chooses where it leads
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "A token has two sessions of one application when both sides of a split gave it one. It leads to the one used
last; the other goes on, and can be chosen here. --to overrides balancing for the token's next session: it is made there now,
and the client that comes next finds it. A live session elsewhere stays what it is, unless --move says that it goes on there,
anew and with whoever uses it, or --end that it ends. Without --list, --session and --to there is a list to choose from.

Examples:
  stead select --token card.7
  stead select --token card.7 --list
  stead select --token card.7 --session 4f1c0d9a7be2f3a10b5c
  stead select --token card.7 --app desktop --to boston
  stead select --token card.7 --app desktop --to boston --move
  stead select --token card.7 --app desktop --user ann --to boston --end"
)]
pub(crate) struct Select {
    /// Whose sessions.
    #[arg(long, value_name = "TOKEN")]
    token: Token,
    /// Only of this application; with --to when absent the one that is registered with the token.
    #[arg(long, value_name = "APP")]
    app: Option<AppName>,
    #[command(flatten)]
    what: What,
    /// Who uses a session that is made; when absent the user that the token names, or for whom it is registered.
    #[arg(long, value_name = "USER", conflicts_with_all = ["list", "session"])]
    user: Option<UserName>,
    /// With --to: a live session on another server ends.
    #[arg(long, requires = "to", conflicts_with = "move")]
    end: bool,
    /// With --to: a live session on another server goes on there.
    #[arg(long, requires = "to")]
    r#move: bool,
}

/// What becomes of a live session on another server than the one that is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Elsewhere {
    /// It stays, and nothing is done.
    Stays,
    /// It ends, and another begins.
    Ends,
    /// It goes on where was chosen.
    Moves,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct What {
    /// List them, the one used last first.
    #[arg(long)]
    list: bool,
    /// The session that the token leads to from now on.
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
    /// The server on which its session is to be from now on.
    #[arg(long, value_name = "SERVER")]
    to: Option<ServerName>,
}

/// Whose session of what.
struct Wanted {
    user: String,
    app: String,
}

impl Select {
    /// Lists, or chooses.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let door = Door::open(context)?;
        let sessions = self.sessions(&door).await?;
        match (self.what.session, &self.what.to) {
            (Some(id), _) => self.choose(context, &door, &sessions, id).await,
            (None, Some(to)) => {
                let elsewhere = match (self.r#move, self.end) {
                    (true, _) => Elsewhere::Moves,
                    (false, true) => Elsewhere::Ends,
                    (false, false) => Elsewhere::Stays,
                };
                self.lead_to(context, &door, &sessions, to, elsewhere).await
            }
            (None, None) if self.what.list => {
                session::show(context, &sessions);
                Ok(())
            }
            (None, None) => self.pick(context, &door, &sessions).await,
        }
    }

    /// Has somebody choose on the terminal.
    async fn pick(
        &self,
        context: &Context,
        door: &Door,
        sessions: &[SessionView],
    ) -> Result<(), Failure> {
        let failed = format!("nothing was chosen for {}", self.token);
        let servers: Vec<ServerView> = door.list(&failed, "/v1/servers").await?;
        let offers = picker::offers(sessions, &servers);
        match picker::pick(context, &failed, &offers)? {
            None => {
                context.output.raw("Nothing was changed.");
                Ok(())
            }
            Some(picker::Offer::Session(session)) => {
                let id = session.id.parse();
                let id = id.map_err(|error| Failure::failed(&failed, error))?;
                self.choose(context, door, sessions, id).await
            }
            Some(picker::Offer::Server(server)) => {
                let to = server.status.name.parse();
                let to = to.map_err(|error| Failure::failed(&failed, error))?;
                let Wanted { app, .. } = self.wanted(door, &failed, sessions).await?;
                let elsewhere = match live(sessions, &app) {
                    Some(live) if live.host != server.status.name => {
                        picker::elsewhere(&failed, live)?
                    }
                    _ => Some(Elsewhere::Stays),
                };
                match elsewhere {
                    Some(elsewhere) => self.lead_to(context, door, sessions, &to, elsewhere).await,
                    None => {
                        context.output.raw("Nothing was changed.");
                        Ok(())
                    }
                }
            }
        }
    }

    /// The token's sessions, the one used last first.
    async fn sessions(&self, door: &Door) -> Result<Vec<SessionView>, Failure> {
        let query = [
            ("token", Some(self.token.to_string())),
            ("app", self.app.as_ref().map(ToString::to_string)),
        ];
        let failed = format!("the sessions of {} were not listed", self.token);
        let path = with_query("/v1/sessions", &query);
        let mut sessions: Vec<SessionView> = door.list(&failed, &path).await?;
        // RFC 3339 in UTC: the later time is the greater text.
        let used = |one: &SessionView| one.last_attached.clone().max(Some(one.created.clone()));
        sessions.sort_by_key(|one| Reverse((one.state == "active", used(one))));
        Ok(sessions)
    }

    async fn choose(
        &self,
        context: &Context,
        door: &Door,
        sessions: &[SessionView],
        id: SessionId,
    ) -> Result<(), Failure> {
        let failed = format!("{} does not lead to session {id}", self.token);
        if !sessions.iter().any(|one| one.id == id.to_string()) {
            let why = "it is none of the token's sessions that have not ended";
            return Err(
                Failure::refused(failed, why).remedy("`stead select --list` shows which it has")
            );
        }
        let path = format!("{}/select", session::path(id));
        let chosen: SessionView = door.send(&failed, Method::Post, &path, &()).await?;
        told(context, &chosen);
        Ok(())
    }

    async fn lead_to(
        &self,
        context: &Context,
        door: &Door,
        sessions: &[SessionView],
        to: &ServerName,
        elsewhere: Elsewhere,
    ) -> Result<(), Failure> {
        let failed = format!("{} does not lead to {to}", self.token);
        let Wanted { user, app } = self.wanted(door, &failed, sessions).await?;
        let of_app = || sessions.iter().filter(|one| one.app == app);
        if let Some(there) = of_app().find(|one| one.host == to.as_str()) {
            let id = there.id.parse();
            let id = id.map_err(|error| Failure::failed(&failed, error))?;
            return self.choose(context, door, sessions, id).await;
        }
        let server = format!("/v1/servers/{}", escape(to.as_str()));
        let server: ServerView = door.get(&failed, &server).await?;
        if !server.status.reachable {
            let why = format!("{to} is not reached");
            return Err(Failure::later(failed, why).remedy("see `stead status`"));
        }
        if let Some(live) = live(sessions, &app) {
            let path = format!("/v1/sessions/{}", escape(&live.id));
            match elsewhere {
                Elsewhere::Stays => {
                    let why = format!("its session {} of {app} is on {}", live.id, live.host);
                    return Err(Failure::refused(failed, why).remedy(
                        "leave it there, or say with --move that it goes on, or with --end that it ends and another begins",
                    ));
                }
                Elsewhere::Moves => {
                    let body = SessionMove {
                        to: Some(to.to_string()),
                    };
                    let path = format!("{path}/move");
                    let moved: SessionView = door.send(&failed, Method::Post, &path, &body).await?;
                    told(context, &moved);
                    return Ok(());
                }
                Elsewhere::Ends => {
                    let ended: SessionView = door.send(&failed, Method::Delete, &path, &()).await?;
                    tracing::debug!(session = %ended.id, "ended for another");
                }
            }
        }
        let body = SessionRequest {
            token: self.token.to_string(),
            user,
            app,
            host: Some(to.to_string()),
        };
        let made = door.send(&failed, Method::Post, "/v1/sessions", &body);
        told(context, &made.await?);
        Ok(())
    }

    /// Whose session of what it is about: as was said, as the token has it, or as its session has.
    async fn wanted(
        &self,
        door: &Door,
        failed: &str,
        sessions: &[SessionView],
    ) -> Result<Wanted, Failure> {
        let path = format!("/v1/tokens/{}", escape(self.token.as_str()));
        let known: Option<TokenView> = match (&self.user, &self.app) {
            (Some(_), Some(_)) => None,
            _ => door.find(failed, &path).await?,
        };
        let user = self.user.as_ref().map(ToString::to_string);
        let user = user
            .or_else(|| known.as_ref().map(|known| known.user.clone()))
            .or_else(|| self.token.names_user().map(str::to_owned))
            .or_else(|| sessions.first().map(|one| one.user.clone()));
        let app = self.app.as_ref().map(ToString::to_string);
        let app = app
            .or_else(|| known.and_then(|known| known.app))
            .or_else(|| sessions.first().map(|one| one.app.clone()));
        let said = |value: Option<String>, what: &str, remedy: &str| {
            let why = format!("it is not known {what}");
            value.ok_or_else(|| Failure::usage(failed, why).remedy(remedy))
        };
        Ok(Wanted {
            user: said(user, "who uses it", "give --user USER")?,
            app: said(app, "which application", "give --app APP")?,
        })
    }
}

/// The session of an application that a client would be led to now.
fn live<'a>(sessions: &'a [SessionView], app: &str) -> Option<&'a SessionView> {
    let mut of_app = sessions.iter().filter(|one| one.app == app);
    of_app.find(|one| one.current && one.state != "orphaned")
}

fn told(context: &Context, chosen: &SessionView) {
    let words = format!(
        "{} leads to session {} on {} now.",
        chosen.token, chosen.id, chosen.host
    );
    context.output.done(chosen, words);
}
