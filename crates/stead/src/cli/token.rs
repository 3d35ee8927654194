//! `stead token`: whose a token is, under which other names it is known, and what it gets.

use super::Context;
use super::records::{Record, given};
use crate::door::{Door, Method, escape, with_query};
use crate::errors::Failure;
use crate::output::Tone;
use clap::Subcommand;
use model::{AppName, RegionName, Token as Name, UserName};
use server::api::bodies::{Token as TokenView, TokenChange, TokenCreation};

/// Registers, lists, shows, changes and removes tokens
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "A token names a client's credential: type.id, such as card.1234. What a token gets that is not registered
says the setting tokens.unregistered: allow, register or refuse. user.NAME is that user's without being registered."
)]
pub(crate) struct Token {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Add(Add),
    List(List),
    Show(Show),
    Set(Set),
    Remove(Remove),
}

/// Registers a token
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead token add card.1234 --user ann
  stead token add card.1234 --user ann --app desktop --alias badge.77")]
struct Add {
    /// The token.
    name: Name,
    /// Whose it is.
    #[arg(long, value_name = "USER")]
    user: UserName,
    /// The application that a client with it gets when it names none.
    #[arg(long, value_name = "APP")]
    app: Option<AppName>,
    /// The region in which its sessions belong.
    #[arg(long, value_name = "REGION")]
    home: Option<RegionName>,
    /// Another name under which clients may present it; may be given several times.
    #[arg(long = "alias", value_name = "TOKEN")]
    aliases: Vec<Name>,
    /// It cannot be used until it is enabled.
    #[arg(long)]
    disabled: bool,
}

/// Lists the registered tokens
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead token list
  stead token list --user ann --json
  stead token list --type card")]
struct List {
    /// Only this user's.
    #[arg(long, value_name = "USER")]
    user: Option<UserName>,
    /// Only of this type: the part before the first full stop.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
}

/// Shows one registered token, by its name or an alias
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead token show card.1234")]
struct Show {
    /// Which token.
    name: Name,
}

/// Changes a registered token; sessions go on
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead token set card.1234 --app desktop
  stead token set card.1234 --alias badge.77 --alias badge.78
  stead token set card.1234 --disable")]
struct Set {
    /// Which token.
    name: Name,
    /// Whose it is.
    #[arg(long, value_name = "USER")]
    user: Option<UserName>,
    /// The application that a client with it gets when it names none.
    #[arg(long, value_name = "APP")]
    app: Option<AppName>,
    /// A client with it has to name an application.
    #[arg(long, conflicts_with = "app")]
    no_app: bool,
    /// The region in which its sessions belong.
    #[arg(long, value_name = "REGION")]
    home: Option<RegionName>,
    /// Its sessions belong in no region.
    #[arg(long, conflicts_with = "home")]
    no_home: bool,
    /// Another name under which clients may present it; may be given several times, all aliases at once.
    #[arg(long = "alias", value_name = "TOKEN")]
    aliases: Vec<Name>,
    /// It has no other name.
    #[arg(long, conflicts_with = "aliases")]
    no_aliases: bool,
    /// It can be used again.
    #[arg(long)]
    enable: bool,
    /// It cannot be used; sessions go on, and streams that are open.
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
}

/// Takes a token out of the register; its sessions go on
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead token remove card.1234")]
struct Remove {
    /// Which token.
    name: Name,
}

impl Token {
    /// Does what the verb says.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let door = Door::open(context)?;
        match self.verb {
            Verb::Add(verb) => verb.run(context, &door).await,
            Verb::List(verb) => verb.run(context, &door).await,
            Verb::Show(Show { name }) => record(&name).show(context, &door, facts).await,
            Verb::Set(verb) => verb.run(context, &door).await,
            Verb::Remove(Remove { name }) => {
                let words = format!("Token {name} is not registered any more.");
                record(&name).remove(context, &door, words).await
            }
        }
    }
}

impl Add {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let body = TokenCreation {
            user: self.user.to_string(),
            app: self.app.map(|app| app.to_string()),
            home: self.home.map(|home| home.to_string()),
            aliases: self.aliases.iter().map(ToString::to_string).collect(),
            enabled: Some(!self.disabled),
        };
        let record = record(&self.name);
        let what = record.was_not("registered");
        let token: TokenView = door.send(&what, Method::Put, &record.path, &body).await?;
        let words = format!("Token {} was registered for {}.", token.name, token.user);
        context.output.done(&token, words);
        Ok(())
    }
}

impl Set {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let aliases = match self.no_aliases {
            true => Some(Vec::new()),
            false => given(self.aliases.iter().map(ToString::to_string).collect()),
        };
        let or_none = |value: Option<String>, none: bool| match none {
            true => Some(None),
            false => value.map(Some),
        };
        let body = TokenChange {
            user: self.user.map(|user| user.to_string()),
            app: or_none(self.app.map(|app| app.to_string()), self.no_app),
            home: or_none(self.home.map(|home| home.to_string()), self.no_home),
            aliases,
            enabled: (self.enable || self.disable).then_some(self.enable),
        };
        let token: TokenView = record(&self.name).change(door, &body).await?;
        let words = format!("Token {} was changed.", token.name);
        context.output.done(&token, words);
        Ok(())
    }
}

impl List {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let query = [
            ("user", self.user.map(|user| user.to_string())),
            ("type", self.kind),
        ];
        let path = with_query("/v1/tokens", &query);
        let tokens: Vec<TokenView> = door.list("the tokens were not listed", &path).await?;
        context.output.show(&tokens, |tokens| {
            let mut table =
                context
                    .output
                    .table(&["TOKEN", "USER", "APPLICATION", "HOME", "ALIASES", "STATE"]);
            for token in tokens {
                let state = match token.enabled {
                    true => ("enabled".to_owned(), Tone::Plain),
                    false => ("disabled".to_owned(), Tone::Warning),
                };
                table.row(vec![
                    (token.name.clone(), Tone::Plain),
                    (token.user.clone(), Tone::Plain),
                    (token.app.clone().unwrap_or_default(), Tone::Plain),
                    (token.home.clone().unwrap_or_default(), Tone::Plain),
                    (token.aliases.join(" "), Tone::Plain),
                    state,
                ]);
            }
            table.text("No token is registered.")
        });
        Ok(())
    }
}

fn record(name: &Name) -> Record<'_, Name> {
    Record {
        kind: "token",
        set: "stead token set",
        name,
        path: format!("/v1/tokens/{}", escape(name.as_str())),
    }
}

fn facts(token: &TokenView) -> String {
    let or = |value: &Option<String>, none: &str| value.clone().unwrap_or_else(|| none.to_owned());
    super::facts(&[
        ("token", token.name.clone()),
        ("type", or(&token.kind, "none")),
        ("user", token.user.clone()),
        ("application", or(&token.app, "the client names it")),
        ("home", or(&token.home, "none")),
        ("aliases", token.aliases.join(" ")),
        (
            "state",
            match token.enabled {
                true => "enabled",
                false => "disabled",
            }
            .to_owned(),
        ),
        ("registered", token.created.clone()),
    ])
}
