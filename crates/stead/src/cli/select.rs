//! `stead select`: the sessions of a token, and which of them it leads to.

use super::{Context, session};
use crate::door::{Door, Method, escape, with_query};
use crate::errors::Failure;
use clap::Args;
use model::{AppName, ServerName, SessionId, Token, UserName};
use server::api::bodies::{
    Server as ServerView, Session as SessionView, SessionRequest, Token as TokenView,
};
use std::cmp::Reverse;

/// Shows the sessions of a token, and chooses where it leads
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "A token has two sessions of one application when both sides of a split gave it one. It leads to the one used
last; the other goes on, and can be chosen here. --to overrides balancing for the token's next session: it is made there now,
and the client that comes next finds it. A live session elsewhere stays what it is, unless --end says that it ends.

Examples:
  stead select --token card.7 --list
  stead select --token card.7 --session 4f1c0d9a7be2f3a10b5c
  stead select --token card.7 --app desktop --to boston
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
    /// With --to: who uses the session; when absent the user that the token names, or for whom it is registered.
    #[arg(long, value_name = "USER", requires = "to")]
    user: Option<UserName>,
    /// With --to: a live session on another server ends.
    #[arg(long, requires = "to")]
    end: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
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
            (None, Some(to)) => self.lead_to(context, &door, &sessions, to).await,
            (None, None) => {
                session::show(context, &sessions);
                Ok(())
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
        let live = of_app().find(|one| one.current && one.state != "orphaned");
        if let Some(live) = live {
            if !self.end {
                let why = format!("its session {} of {app} is on {}", live.id, live.host);
                return Err(Failure::refused(failed, why)
                    .remedy("leave it there, or say with --end that it ends and another begins"));
            }
            let path = format!("/v1/sessions/{}", escape(&live.id));
            let ended: SessionView = door.send(&failed, Method::Delete, &path, &()).await?;
            tracing::debug!(session = %ended.id, "ended for another");
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

fn told(context: &Context, chosen: &SessionView) {
    let words = format!(
        "{} leads to session {} on {} now.",
        chosen.token, chosen.id, chosen.host
    );
    context.output.done(chosen, words);
}
