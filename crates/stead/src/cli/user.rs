//! `stead user`: accounts.

mod api_token;

use super::Context;
use super::records::{Record, given};
use crate::door::{Door, Method, escape};
use crate::errors::Failure;
use crate::output::Tone;
use crate::password::PasswordSource;
use clap::{Subcommand, ValueEnum};
use model::UserName;
use server::api::bodies::{Password, PasswordRequest, User as UserView, UserChange, UserCreation};

/// Adds, lists, shows, changes and removes accounts
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct User {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Add(Add),
    List(List),
    Show(Show),
    Passwd(Passwd),
    Set(Set),
    Remove(Remove),
    Token(api_token::ApiToken),
}

/// What an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Uses applications.
    User,
    /// Reads everything.
    Viewer,
    /// Sessions, drain, switchover.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    fn word(self) -> String {
        match self {
            Self::User => "user",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
        .to_owned()
    }
}

/// Adds an account
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead user add ann                             asks for the password
  stead user add ann --password-file FILE
  stead user add carl --role operator --group night-shift")]
struct Add {
    /// Its name.
    name: UserName,
    #[command(flatten)]
    password: PasswordSource,
    /// What it may do beyond using applications.
    #[arg(long, value_enum, default_value = "user")]
    role: Role,
    /// A group of users that it belongs to; may be given several times.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// It cannot log in until it is enabled.
    #[arg(long)]
    disabled: bool,
}

/// Lists the accounts
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead user list
  stead user list --json")]
struct List {}

/// Shows one account; never its password
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead user show ann")]
struct Show {
    /// Which account.
    name: UserName,
}

/// Sets the password of an account
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead user passwd ann
  stead user passwd ann --password-file -")]
struct Passwd {
    /// Which account.
    name: UserName,
    #[command(flatten)]
    password: PasswordSource,
}

/// Changes an account
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead user set ann --role viewer
  stead user set ann --disable
  stead user set ann --unlock                    logins may be tried again at once")]
struct Set {
    /// Which account.
    name: UserName,
    /// What it may do beyond using applications.
    #[arg(long, value_enum)]
    role: Option<Role>,
    /// A group of users that it belongs to; may be given several times, all groups at once.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// It belongs to no group of users.
    #[arg(long, conflicts_with = "groups")]
    no_groups: bool,
    /// It can log in again.
    #[arg(long)]
    enable: bool,
    /// It can neither log in nor use its tickets.
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
    /// Its lock after too many failed logins ends now, and that of single addresses too.
    #[arg(long)]
    unlock: bool,
}

/// Removes an account
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead user remove ann")]
struct Remove {
    /// Which account.
    name: UserName,
}

impl User {
    /// Does what the verb says.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let door = Door::open(context)?;
        match self.verb {
            Verb::Add(verb) => verb.run(context, &door).await,
            Verb::List(_) => list(context, &door).await,
            Verb::Show(Show { name }) => record(&name).show(context, &door, facts).await,
            Verb::Passwd(verb) => verb.run(context, &door).await,
            Verb::Set(verb) => verb.run(context, &door).await,
            Verb::Token(noun) => noun.run(context, &door).await,
            Verb::Remove(Remove { name }) => {
                let words = format!("User {name} was removed.");
                record(&name).remove(context, &door, words).await
            }
        }
    }
}

impl Add {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let password = self.password.new_password(self.name.as_str())?;
        let body = UserCreation {
            password: Password(password.0),
            role: Some(self.role.word()),
            groups: self.groups,
            disabled: self.disabled,
        };
        let record = record(&self.name);
        let what = record.was_not("added");
        let user: UserView = door.send(&what, Method::Put, &record.path, &body).await?;
        let words = format!("User {} was added.", user.name);
        context.output.done(&user, words);
        Ok(())
    }
}

impl Passwd {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let body = PasswordRequest {
            password: Password(self.password.new_password(self.name.as_str())?.0),
        };
        let what = format!("the password of {} was not set", self.name);
        let path = format!("{}/password", record(&self.name).path);
        let user: UserView = door.send(&what, Method::Put, &path, &body).await?;
        context.output.done(
            &user,
            format!(
                "The password of {} was set; earlier logins and tickets are not valid any more.",
                user.name
            ),
        );
        Ok(())
    }
}

impl Set {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let groups = match self.no_groups {
            true => Some(Vec::new()),
            false => given(self.groups),
        };
        let disabled = (self.disable || self.enable).then_some(self.disable);
        let body = UserChange {
            role: self.role.map(Role::word),
            groups,
            disabled,
            unlock: self.unlock,
        };
        let user: UserView = record(&self.name).change(door, &body).await?;
        let words = format!("User {} was changed.", user.name);
        context.output.done(&user, words);
        Ok(())
    }
}

fn record(name: &UserName) -> Record<'_, UserName> {
    Record {
        kind: "user",
        set: "stead user set",
        name,
        path: format!("/v1/users/{}", escape(name.as_str())),
    }
}

fn facts(user: &UserView) -> String {
    let tokens: Vec<&str> = user
        .api_tokens
        .iter()
        .map(|token| token.name.as_str())
        .collect();
    super::facts(&[
        ("name", user.name.clone()),
        ("role", user.role.clone()),
        ("groups", user.groups.join(" ")),
        (
            "disabled",
            if user.disabled { "yes" } else { "no" }.to_owned(),
        ),
        ("locked", locked(user).unwrap_or_else(|| "no".to_owned())),
        ("password checked by", checked_by(user)),
        ("came from", user.origin.clone()),
        ("password set", user.password_set.clone()),
        ("API tokens", tokens.join(" ")),
    ])
}

/// Where its password is checked.
fn checked_by(user: &UserView) -> String {
    user.authenticated_by.clone().unwrap_or_default()
}

/// Until when the account is locked, and why, in words.
fn locked(user: &UserView) -> Option<String> {
    let until = user.locked_until.as_ref()?;
    let failures = user.failed_logins.unwrap_or_default();
    Some(format!("until {until}, after {failures} failed logins"))
}

async fn list(context: &Context, door: &Door) -> Result<(), Failure> {
    let users: Vec<UserView> = door.list("the users were not listed", "/v1/users").await?;
    context.output.show(&users, |users| {
        let mut table = context.output.table(&[
            "USER",
            "ROLE",
            "GROUPS",
            "STATE",
            "CHECKED BY",
            "PASSWORD SET",
        ]);
        for user in users {
            let state = if user.disabled {
                ("disabled".to_owned(), Tone::Warning)
            } else if user.locked_until.is_some() {
                ("locked".to_owned(), Tone::Warning)
            } else {
                ("enabled".to_owned(), Tone::Plain)
            };
            table.row(vec![
                (user.name.clone(), Tone::Plain),
                (user.role.clone(), Tone::Plain),
                (user.groups.join(" "), Tone::Plain),
                state,
                (checked_by(user), Tone::Plain),
                (user.password_set.clone(), Tone::Faint),
            ]);
        }
        table.text("There is no user.")
    });
    Ok(())
}
