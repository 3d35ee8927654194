//! `stead login` and `stead logout`: administrators who are not on a server.

use super::{Context, Place};
use crate::door::{Door, Method, authority};
use crate::errors::{Failure, chain};
use crate::password::PasswordSource;
use client::{Fingerprint, Logins};
use model::{UnixMillis, UserName};
use server::api::bodies::{Login as LoginView, LoginRequest, Password};

/// Logs in to a group elsewhere; commands with --server then work until the login expires
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead login admin --server boston,chicago --ca sha256:HEX
  stead login admin --server boston --ca sha256:HEX --password-file -

On a server itself no login is needed: root uses its local socket.")]
pub(crate) struct Login {
    /// The account.
    #[arg(default_value = "admin")]
    user: UserName,
    #[command(flatten)]
    password: PasswordSource,
}

/// Forgets the login to a group
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead logout --server boston --ca sha256:HEX")]
pub(crate) struct Logout {}

impl Login {
    /// Logs in and keeps the login.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let what = "nobody was logged in";
        let (servers, ca) = remote(context, what)?;
        let door = Door::anonymous(context)?;
        let logins = Logins::of_user().map_err(|error| Failure::failed(what, chain(&error)))?;
        let password = self.password.password(self.user.as_str())?;
        let request = LoginRequest {
            user: self.user.to_string(),
            password: Password(password.0),
        };
        let login: LoginView = door.send(what, Method::Post, "/v1/login", &request).await?;
        let kept = client::Login {
            token: login.token.clone(),
            user: login.user.clone(),
            role: login.role.clone(),
            expires: millis_of(&login.expires),
            servers,
        };
        logins
            .save(ca, &kept)
            .map_err(|error| Failure::failed("the login was not kept", chain(&error)))?;
        let done =
            serde_json::json!({ "user": login.user, "role": login.role, "expires": login.expires });
        context.output.done(
            &done,
            format!(
                "Logged in as {} ({}) until {}.",
                login.user, login.role, login.expires
            ),
        );
        Ok(())
    }
}

/// A time in RFC 3339; the beginning of time when it is none, so that the login counts as over.
fn millis_of(text: &str) -> UnixMillis {
    let stamp = text
        .parse::<jiff::Timestamp>()
        .map(jiff::Timestamp::as_millisecond);
    UnixMillis(
        stamp
            .ok()
            .and_then(|millis| u64::try_from(millis).ok())
            .unwrap_or(0),
    )
}

impl Logout {
    /// Forgets the login.
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let what = "nobody was logged out";
        let (_, ca) = remote(context, what)?;
        let forgotten = Logins::of_user().and_then(|logins| logins.delete(ca));
        let forgotten = forgotten.map_err(|error| Failure::failed(what, chain(&error)))?;
        let done = serde_json::json!({ "forgotten": forgotten });
        context.output.done(
            &done,
            if forgotten {
                "Logged out."
            } else {
                "There was no login to forget."
            },
        );
        Ok(())
    }
}

fn remote(context: &Context, what: &str) -> Result<(Vec<String>, Fingerprint), Failure> {
    match &context.place {
        Place::Remote { servers, ca } => Ok((servers.clone(), authority(*ca)?)),
        Place::Local { .. } => {
            let failure = Failure::usage(
                what,
                "no server elsewhere was named, and on a server itself no login is needed",
            );
            Err(failure.remedy("give --server HOST:PORT and --ca sha256:HEX"))
        }
    }
}
