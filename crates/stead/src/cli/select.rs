//! `stead select`: the sessions of a token, and which of them it leads to.

use super::{Context, session};
use crate::door::{Door, Method, with_query};
use crate::errors::Failure;
use clap::Args;
use model::{AppName, SessionId, Token};
use server::api::bodies::Session as SessionView;
use std::cmp::Reverse;

/// Shows the sessions of a token, and chooses where it leads
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "A token has two sessions of one application when both sides of a split gave it one. It leads to the one used
last; the other goes on, and can be chosen here.

Examples:
  stead select --token card.7 --list
  stead select --token card.7 --session 4f1c0d9a7be2f3a10b5c"
)]
pub(crate) struct Select {
    /// Whose sessions.
    #[arg(long, value_name = "TOKEN")]
    token: Token,
    /// Only of this application.
    #[arg(long, value_name = "APP")]
    app: Option<AppName>,
    #[command(flatten)]
    what: What,
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
}

impl Select {
    /// Lists, or chooses.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let door = Door::open(context)?;
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
        let Some(id) = self.what.session else {
            session::show(context, &sessions);
            return Ok(());
        };
        let failed = format!("{} does not lead to session {id}", self.token);
        if !sessions.iter().any(|one| one.id == id.to_string()) {
            let why = "it is none of the token's sessions that have not ended";
            return Err(
                Failure::refused(failed, why).remedy("`stead select --list` shows which it has")
            );
        }
        let path = format!("{}/select", session::path(id));
        let chosen: SessionView = door.send(&failed, Method::Post, &path, &()).await?;
        let words = format!(
            "{} leads to session {} on {} now.",
            chosen.token, chosen.id, chosen.host
        );
        context.output.done(&chosen, words);
        Ok(())
    }
}
