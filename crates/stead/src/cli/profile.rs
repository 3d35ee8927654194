//! `stead profile` and `stead preference`: how it is for whoever logs in.

use super::Context;
use crate::door::{Door, Method, escape};
use crate::errors::Failure;
use crate::output::Tone;
use clap::Subcommand;
use model::profile::Audience;
use model::{AppName, Token, UserName};
use server::api::bodies::{
    EffectiveValue, PreferenceValue, Preferences, Profile as ProfileView, ProfileValue,
};

/// What can be said, for both commands.
const KEYS: &str = "Keys:
  app        what a client gets that names no application, and whose token is registered for none
  env.NAME   a variable in the environment of sessions that are started for the user
  listen     where `stead connect` listens when it is not told, on this machine: 127.0.0.1:5900
  notice     what `stead connect` says to the user after the login; profiles only";

/// Says how it is for everybody, or for whoever uses an application, has an account or a token
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Without --app, --user or --token it is everybody's. A more special profile goes before a more general one: everybody, application,
user, token; then come the user's preferences. What is locked nothing after it changes."
)]
pub(crate) struct Profile {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Get(Get),
    Set(Set),
    List(List),
    Remove(Remove),
}

/// Whose profile is meant; everybody's when nothing is said.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Whose {
    /// Of whoever uses this application.
    #[arg(long, value_name = "APP")]
    app: Option<AppName>,
    /// Of this user.
    #[arg(long, value_name = "USER")]
    user: Option<UserName>,
    /// Of this token.
    #[arg(long, value_name = "TOKEN")]
    token: Option<Token>,
}

/// Shows a profile, or what holds for a user in the end and why
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead profile get
  stead profile get --app desktop
  stead profile get --user ann --effective")]
struct Get {
    #[command(flatten)]
    whose: Whose,
    /// What holds for the user with --user, from all profiles and the preferences.
    #[arg(long, requires = "user")]
    effective: bool,
}

/// Has a profile say something
#[derive(Debug, clap::Args)]
#[command(after_help = KEYS, after_long_help = format!("{KEYS}\n\nExamples:
  stead profile set notice 'Back-up at noon.'
  stead profile set env.LANG de_DE.UTF-8 --app desktop
  stead profile set app desktop --user ann --lock"))]
struct Set {
    /// What it says: app, env.NAME, listen or notice.
    key: String,
    /// The value.
    value: String,
    #[command(flatten)]
    whose: Whose,
    /// More special profiles and preferences cannot say otherwise.
    #[arg(long)]
    lock: bool,
}

/// Lists the profiles, the most general first
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead profile list
  stead profile list --json")]
struct List {}

/// Has a profile say something no longer, or removes it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead profile remove notice
  stead profile remove --user ann")]
struct Remove {
    /// What it says; the whole profile when absent.
    key: Option<String>,
    #[command(flatten)]
    whose: Whose,
}

impl Whose {
    fn audience(&self) -> Audience {
        let app = self.app.clone().map(Audience::App);
        let user = self.user.clone().map(Audience::User);
        let token = self.token.clone().map(Audience::Token);
        app.or(user).or(token).unwrap_or(Audience::Group)
    }
}

fn path(audience: &Audience) -> String {
    format!("/v1/profiles/{}", escape(&audience.to_string()))
}

impl Profile {
    /// Does what the verb says.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let door = Door::open(context)?;
        match self.verb {
            Verb::Get(verb) => verb.run(context, &door).await,
            Verb::Set(verb) => verb.run(context, &door).await,
            Verb::List(List {}) => list(context, &door).await,
            Verb::Remove(verb) => verb.run(context, &door).await,
        }
    }
}

impl Get {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let what = "the profile was not shown";
        let audience = self.whose.audience();
        if let (true, Audience::User(user)) = (self.effective, &audience) {
            let path = format!("/v1/profiles/effective?user={}", escape(user.as_str()));
            let values: Vec<EffectiveValue> = door.list(what, &path).await?;
            show_effective(context, &values);
            return Ok(());
        }
        let profile: ProfileView = door.get(what, &path(&audience)).await?;
        show_profiles(context, &profile, std::slice::from_ref(&profile));
        Ok(())
    }
}

impl Set {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let audience = self.whose.audience();
        let body = ProfileValue {
            value: self.value,
            locked: self.lock,
        };
        let path = format!("{}/{}", path(&audience), escape(&self.key));
        let what = format!("{} of profile {audience} was not set", self.key);
        let profile: ProfileView = door.send(&what, Method::Put, &path, &body).await?;
        let locked = if body.locked { ", and locked" } else { "" };
        let words = format!(
            "{} of profile {audience} is {}{locked}.",
            self.key, body.value
        );
        context.output.done(&profile, words);
        Ok(())
    }
}

impl Remove {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let audience = self.whose.audience();
        let (path, words) = match &self.key {
            Some(key) => (
                format!("{}/{}", path(&audience), escape(key)),
                format!("Profile {audience} says nothing of {key} any more."),
            ),
            None => (path(&audience), format!("Profile {audience} was removed.")),
        };
        let what = format!("profile {audience} was not changed");
        door.tell(&what, Method::Delete, &path, &()).await?;
        let done =
            serde_json::json!({ "name": audience.to_string(), "key": self.key, "removed": true });
        context.output.done(&done, words);
        Ok(())
    }
}

async fn list(context: &Context, door: &Door) -> Result<(), Failure> {
    let what = "the profiles were not listed";
    let profiles: Vec<ProfileView> = door.list(what, "/v1/profiles").await?;
    show_profiles(context, &profiles, &profiles);
    Ok(())
}

fn show_profiles(context: &Context, shown: &impl serde::Serialize, profiles: &[ProfileView]) {
    context.output.show(shown, |_| {
        let mut table = context.output.table(&["PROFILE", "KEY", "VALUE", "LOCKED"]);
        for profile in profiles {
            for (key, said) in &profile.values {
                let locked = if said.locked { "locked" } else { "" };
                table.row(vec![
                    (profile.name.clone(), Tone::Plain),
                    (key.clone(), Tone::Plain),
                    (said.value.clone(), Tone::Plain),
                    (locked.to_owned(), Tone::Plain),
                ]);
            }
        }
        table.text("No profile says anything.")
    });
}

fn show_effective(context: &Context, values: &[EffectiveValue]) {
    context.output.show(&values, |values| {
        let mut table = context
            .output
            .table(&["KEY", "VALUE", "FROM", "NOT FOLLOWED"]);
        for said in *values {
            let locked = if said.locked { ", locked" } else { "" };
            table.row(vec![
                (said.name.clone(), Tone::Plain),
                (said.value.clone(), Tone::Plain),
                (format!("{}{locked}", said.from), Tone::Plain),
                (said.passed_over.join(", "), Tone::Plain),
            ]);
        }
        table.text("Nothing is said of this user.")
    });
}

/// Says how it is for oneself, as far as profiles leave that open
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Without --user the preferences are those of whoever is logged in; administrators may name another user. A variable (env.NAME) can be said
where a profile says it and does not lock it."
)]
pub(crate) struct Preference {
    #[command(subcommand)]
    verb: Said,
}

#[derive(Debug, Subcommand)]
enum Said {
    Get(SaidGet),
    Set(SaidSet),
    List(SaidList),
    Remove(SaidRemove),
}

/// Shows preferences
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead preference get
  stead preference get --user ann --json")]
struct SaidGet {
    /// Whose; one's own when absent.
    #[arg(long, value_name = "USER")]
    user: Option<UserName>,
}

/// Has preferences say something
#[derive(Debug, clap::Args)]
#[command(after_help = KEYS, after_long_help = format!("{KEYS}\n\nExamples:
  stead preference set app desktop
  stead preference set listen 127.0.0.1:5900 --user ann"))]
struct SaidSet {
    /// What they say: app, env.NAME or listen.
    key: String,
    /// The value.
    value: String,
    /// Whose; one's own when absent.
    #[arg(long, value_name = "USER")]
    user: Option<UserName>,
}

/// Lists the preferences of all users
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead preference list
  stead preference list --json")]
struct SaidList {}

/// Has preferences say something no longer
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead preference remove listen")]
struct SaidRemove {
    /// What they say.
    key: String,
    /// Whose; one's own when absent.
    #[arg(long, value_name = "USER")]
    user: Option<UserName>,
}

/// Where a user's preferences are; one's own when nobody is named.
fn preferences(user: Option<&UserName>) -> String {
    let whose = user.map_or_else(
        || "@me".to_owned(),
        |user| escape(user.as_str()).to_string(),
    );
    format!("/v1/preferences/{whose}")
}

impl Preference {
    /// Does what the verb says.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let door = Door::open(context)?;
        match self.verb {
            Said::Get(SaidGet { user }) => {
                let what = "the preferences were not shown";
                let path = preferences(user.as_ref());
                let shown: Preferences = door.get(what, &path).await?;
                show_preferences(context, &shown, std::slice::from_ref(&shown));
                Ok(())
            }
            Said::Set(SaidSet { key, value, user }) => {
                let path = format!("{}/{}", preferences(user.as_ref()), escape(&key));
                let what = format!("the preference {key} was not set");
                let body = PreferenceValue { value };
                let shown: Preferences = door.send(&what, Method::Put, &path, &body).await?;
                let words = format!("{key} of {} is {}.", shown.name, body.value);
                context.output.done(&shown, words);
                Ok(())
            }
            Said::List(SaidList {}) => {
                let what = "the preferences were not listed";
                let all: Vec<Preferences> = door.list(what, "/v1/preferences").await?;
                show_preferences(context, &all, &all);
                Ok(())
            }
            Said::Remove(SaidRemove { key, user }) => {
                let path = format!("{}/{}", preferences(user.as_ref()), escape(&key));
                let what = format!("the preference {key} was not removed");
                door.tell(&what, Method::Delete, &path, &()).await?;
                let done = serde_json::json!({ "name": user, "key": key, "removed": true });
                context
                    .output
                    .done(&done, format!("Nothing is preferred for {key} any more."));
                Ok(())
            }
        }
    }
}

fn show_preferences(context: &Context, shown: &impl serde::Serialize, all: &[Preferences]) {
    context.output.show(shown, |_| {
        let mut table = context.output.table(&["USER", "KEY", "VALUE"]);
        for one in all {
            for (key, value) in &one.values {
                table.row(vec![
                    (one.name.clone(), Tone::Plain),
                    (key.clone(), Tone::Plain),
                    (value.clone(), Tone::Plain),
                ]);
            }
        }
        table.text("Nothing is preferred.")
    });
}
