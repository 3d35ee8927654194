//! `stead session`: what runs, for whom, where.

use super::Context;
use crate::door::{Door, Method, escape, with_query};
use crate::errors::Failure;
use crate::output::Tone;
use clap::{Subcommand, ValueEnum};
use model::{AppName, ServerName, SessionId, Token, UserName};
use server::api::bodies::{Session as SessionView, SessionMove};

/// Lists, shows, ends and moves sessions
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Session {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(List),
    Show(Show),
    End(End),
    Move(Move),
}

/// Where a session is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    /// Its host was told to start it.
    Starting,
    /// A client is attached.
    Active,
    /// It runs with no client attached.
    Suspended,
    /// Its host cannot be reached.
    Orphaned,
    /// It is over.
    Ended,
}

impl State {
    fn word(self) -> String {
        match self {
            Self::Starting => "starting",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Orphaned => "orphaned",
            Self::Ended => "ended",
        }
        .to_owned()
    }
}

/// Lists sessions that are not ended
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead session list
  stead session list --user ann --json
  stead session list --state orphaned
  stead session list --all              ended ones of the history too")]
struct List {
    /// Only of this token.
    #[arg(long, value_name = "TOKEN")]
    token: Option<Token>,
    /// Only of this user.
    #[arg(long, value_name = "USER")]
    user: Option<UserName>,
    /// Only of this application.
    #[arg(long, value_name = "APP")]
    app: Option<AppName>,
    /// Only on this server.
    #[arg(long, value_name = "SERVER")]
    host: Option<ServerName>,
    /// Only in this state.
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Ended ones of the history too.
    #[arg(long)]
    all: bool,
}

/// Shows one session
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead session show 4f1c0d9a7be2f3a10b5c")]
struct Show {
    /// Its id.
    id: SessionId,
}

/// Ends sessions and everything that runs in them
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead session end 4f1c0d9a7be2f3a10b5c")]
struct End {
    /// Their ids.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<SessionId>,
}

/// Has a session go on on another server
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead session move 4f1c0d9a7be2f3a10b5c --to boston
  stead session move 4f1c0d9a7be2f3a10b5c               where balancing puts it

What runs in it ends, and starts anew there; clients that are attached go there by themselves.")]
struct Move {
    /// Its id.
    id: SessionId,
    /// The server that is to host it; the best other one when absent.
    #[arg(long, value_name = "SERVER")]
    to: Option<ServerName>,
}

impl Session {
    /// Does what the verb says.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let door = Door::open(context)?;
        match self.verb {
            Verb::List(verb) => verb.run(context, &door).await,
            Verb::Show(Show { id }) => {
                let session: SessionView = door
                    .get(&format!("session {id} was not shown"), &path(id))
                    .await?;
                context.output.show(&session, facts);
                Ok(())
            }
            Verb::End(verb) => verb.run(context, &door).await,
            Verb::Move(verb) => verb.run(context, &door).await,
        }
    }
}

impl List {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let query = [
            ("token", self.token.map(|token| token.to_string())),
            ("user", self.user.map(|user| user.to_string())),
            ("app", self.app.map(|app| app.to_string())),
            ("host", self.host.map(|host| host.to_string())),
            ("state", self.state.map(State::word)),
            ("ended", self.all.then(|| "true".to_owned())),
        ];
        let sessions: Vec<SessionView> = door
            .list(
                "the sessions were not listed",
                &with_query("/v1/sessions", &query),
            )
            .await?;
        show(context, &sessions);
        Ok(())
    }
}

/// Shows a list of sessions.
pub(super) fn show(context: &Context, sessions: &Vec<SessionView>) {
    context.output.show(sessions, |sessions| {
        let columns = [
            "SESSION",
            "TOKEN",
            "USER",
            "APPLICATION",
            "HOST",
            "STATE",
            "CURRENT",
            "CREATED",
            "CLIENT",
        ];
        let mut table = context.output.table(&columns);
        for session in sessions {
            table.row(vec![
                (session.id.clone(), Tone::Plain),
                (session.token.clone(), Tone::Plain),
                (session.user.clone(), Tone::Plain),
                (session.app.clone(), Tone::Plain),
                (session.host.clone(), Tone::Plain),
                (session.state.clone(), tone(&session.state)),
                (yes(session.current), Tone::Plain),
                (session.created.clone(), Tone::Faint),
                (session.client.clone().unwrap_or_default(), Tone::Plain),
            ]);
        }
        table.text("There is no session.")
    });
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "" }.to_owned()
}

impl End {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let mut ended: Vec<SessionView> = Vec::new();
        for id in &self.ids {
            ended.push(
                door.send(
                    &format!("session {id} was not ended"),
                    Method::Delete,
                    &path(*id),
                    &(),
                )
                .await?,
            );
        }
        let ids: Vec<String> = self.ids.iter().map(ToString::to_string).collect();
        context
            .output
            .done(&ended, format!("Ended: {}.", ids.join(" ")));
        Ok(())
    }
}

impl Move {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let what = format!("session {} was not moved", self.id);
        let path = format!("{}/move", path(self.id));
        let body = SessionMove {
            to: self.to.map(|to| to.to_string()),
        };
        let new: SessionView = door.send(&what, Method::Post, &path, &body).await?;
        let words = format!("Moved: it goes on as {} on {}.", new.id, new.host);
        context.output.done(&new, words);
        Ok(())
    }
}

pub(super) fn path(id: SessionId) -> String {
    format!("/v1/sessions/{}", escape(&id.to_string()))
}

fn tone(state: &str) -> Tone {
    match state {
        "active" => Tone::Good,
        "orphaned" => Tone::Bad,
        "ended" => Tone::Faint,
        _ => Tone::Plain,
    }
}

fn facts(session: &SessionView) -> String {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    let mut facts = vec![
        ("session", session.id.clone()),
        ("token", session.token.clone()),
        ("user", session.user.clone()),
        ("application", session.app.clone()),
        ("host", session.host.clone()),
        ("state", session.state.clone()),
        (
            "current",
            if session.current { "yes" } else { "no" }.to_owned(),
        ),
        ("created", session.created.clone()),
        ("client", or_none(&session.client)),
        ("last attached", or_none(&session.last_attached)),
    ];
    if let Some(ended) = &session.ended {
        facts.push(("ended", ended.clone()));
    }
    if let Some(reason) = &session.reason {
        facts.push(("reason", reason.clone()));
    }
    super::facts(&facts)
}
