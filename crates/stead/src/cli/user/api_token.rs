//! `stead user token`: what programs log in with on a user's behalf.

use super::Role;
use crate::cli::{Context, values};
use crate::door::{Door, Method, escape};
use crate::errors::Failure;
use clap::Subcommand;
use model::{ApiTokenName, UserName};
use server::api::bodies::{ApiToken as ApiTokenView, ApiTokenRequest, MadeApiToken};
use std::time::Duration;

/// Makes, lists and revokes tokens that programs use the API with on a user's behalf
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(super) struct ApiToken {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Add(Add),
    List(List),
    Remove(Remove),
}

/// Makes a token and prints it, this once
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A program gives it as STEAD_API_TOKEN to this command line, or as `Authorization: Bearer` to the API. What it \
may do is its role, and never more than the user may at that moment. A changed password leaves it valid.

Examples:
  stead user token add ann nightly-backup
  stead user token add ann monitoring --role viewer --expires 365d
  STEAD_API_TOKEN=$(stead user token add ann ci --json | jq -r .token)"
)]
struct Add {
    /// Whose it is.
    user: UserName,
    /// Its name.
    name: ApiTokenName,
    /// What it allows, at most what the user may; as much when absent.
    #[arg(long, value_enum)]
    role: Option<Role>,
    /// How long it is valid, from 1h to 3650d; 90d when absent.
    #[arg(long = "expires", value_name = "TIME", value_parser = values::span)]
    lifetime: Option<Duration>,
}

/// Lists a user's tokens
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead user token list ann
  stead user token list ann --json")]
struct List {
    /// Whose.
    user: UserName,
}

/// Revokes a token at once
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead user token remove ann nightly-backup")]
struct Remove {
    /// Whose.
    user: UserName,
    /// Which.
    name: ApiTokenName,
}

impl ApiToken {
    /// Does what the verb says.
    pub(super) async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        match self.verb {
            Verb::Add(verb) => verb.run(context, door).await,
            Verb::List(List { user }) => list(context, door, &user).await,
            Verb::Remove(verb) => verb.run(context, door).await,
        }
    }
}

impl Add {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let what = format!("token {} of {} was not made", self.name, self.user);
        let request = ApiTokenRequest {
            role: self.role.map(Role::word),
            lifetime_s: self.lifetime.map(|lifetime| lifetime.as_secs()),
        };
        let path = path(&self.user, Some(&self.name));
        let made: MadeApiToken = door.send(&what, Method::Put, &path, &request).await?;
        context.output.show(&made, |made| {
            super::super::facts(&[
                ("token", made.token.clone()),
                ("", "it is not shown again".to_owned()),
                ("role", made.made.role.clone()),
                ("expires", made.made.expires.clone()),
            ])
        });
        Ok(())
    }
}

impl Remove {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let what = format!("token {} of {} was not revoked", self.name, self.user);
        let path = path(&self.user, Some(&self.name));
        door.tell(&what, Method::Delete, &path, &()).await?;
        let done = serde_json::json!({ "user": self.user, "name": self.name });
        let words = format!("Token {} of {} was revoked.", self.name, self.user);
        context.output.done(&done, words);
        Ok(())
    }
}

async fn list(context: &Context, door: &Door, user: &UserName) -> Result<(), Failure> {
    let what = format!("the tokens of {user} were not listed");
    let tokens: Vec<ApiTokenView> = door.list(&what, &path(user, None)).await?;
    context.output.show(&tokens, |tokens| {
        let mut table = context
            .output
            .table(&["TOKEN", "ROLE", "CREATED", "EXPIRES"]);
        for token in tokens {
            table.plain([
                token.name.clone(),
                token.role.clone(),
                token.created.clone(),
                token.expires.clone(),
            ]);
        }
        table.text("There is no token.")
    });
    Ok(())
}

fn path(user: &UserName, name: Option<&ApiTokenName>) -> String {
    let all = format!("/v1/users/{}/api-tokens", escape(user.as_str()));
    match name {
        Some(name) => format!("{all}/{}", escape(name.as_str())),
        None => all,
    }
}
