//! `stead connect`: a user's way to a session, and back to it whatever breaks in between.
//!
//! Always true: stdout holds JSON lines with `--json`, the session's bytes with `--stdio`, and nothing else; everything
//! for people is on stderr.

use super::{Context, Place};
use crate::door::{Door, authority};
use crate::errors::{Failure, chain};
use crate::logging;
use crate::output::printable;
use crate::password::PasswordSource;
use client::connect::{Event, Local, OpenError};
use client::{Connect as Engine, ConnectError, End, Fingerprint};
use model::{AppName, Token, UserName};
use server::api::bodies::{Server, Trust};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc;
use wire::client::{Credential, Refused};

/// How long servers may be out of reach at the start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connects to a token's session of an application, and stays connected when servers fall
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead connect --server boston,chicago --ca sha256:HEX --token card.1234 --app desktop --user ann --listen 127.0.0.1:5900
  stead connect --app desktop --user ann -- vncviewer localhost::{port}
  stead connect --app shell --user ann --stdio
  stead connect --token card.1234                user and application as they are registered with the token

Without --token it is the user's own, user.USER; without --user too, this device's (pseudo.ID). Without --listen, --stdio and a viewer it listens where profiles and preferences say, else on a free port of 127.0.0.1, and says which.")]
pub(crate) struct Connect {
    /// Whose session; user.USER when absent, or this device's.
    #[arg(long, value_name = "TOKEN")]
    token: Option<Token>,
    /// Which application; when absent the one that is registered with the token, or the only one that the user may use.
    #[arg(long, value_name = "APP")]
    app: Option<AppName>,
    /// Who logs in; when absent the user that the token names, or for whom it is registered.
    #[arg(long, value_name = "USER")]
    user: Option<UserName>,
    #[command(flatten)]
    password: PasswordSource,
    /// Where viewers connect; port 0 for any free one.
    #[arg(long, value_name = "IP:PORT", conflicts_with_all = ["stdio", "viewer"])]
    listen: Option<SocketAddr>,
    /// The session's bytes are standard input and output.
    #[arg(long, conflicts_with = "viewer")]
    stdio: bool,
    /// A program to run as viewer; {port} and {host} in it are where it is to connect.
    #[arg(last = true, value_name = "VIEWER")]
    viewer: Vec<String>,
}

impl Connect {
    /// Connects, and stays until the end.
    pub(crate) async fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let what = match &self.app {
            Some(app) => format!("application {app} was not connected"),
            None => "the session was not connected".to_owned(),
        };
        let user = self.who();
        let token = self.presented(&what)?;
        let (servers, ca) = group(context).await?;
        let whose = user.as_ref().map_or(token.as_str(), UserName::as_str);
        let password = self.password.password(whose)?;
        let named = user.is_some();
        let local = match (self.listen, self.stdio, self.viewer.is_empty()) {
            (_, true, _) => Local::Stdio,
            (_, _, false) => Local::Program(self.viewer),
            (Some(address), ..) => Local::Listen(address),
            (None, false, true) => Local::Usual,
        };
        let credential = Credential::Password { user, password };
        let told = Told {
            context: context.clone(),
            on_stdout: context.output.is_json() && !self.stdio,
        };
        let engine = Engine {
            servers,
            ca,
            token,
            app: self.app,
            credential,
            local,
            patience: PATIENCE,
        };
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let telling = async {
            let mut notice = None;
            while let Some(event) = receiver.recv().await {
                // Scripts expect to be told first where the session is.
                if let Event::Notice { .. } = event {
                    notice = Some(event);
                    continue;
                }
                told.tell(&event);
                if let Some(notice) = notice.take() {
                    told.tell(&notice);
                }
            }
        };
        let (end, ()) = tokio::join!(engine.run(sender), telling);
        let end = end.map_err(|error| match (&error, named) {
            (ConnectError::Open(OpenError::Refused(Refused::Login)), false) => {
                failure(&what, &error)
                    .remedy("say with --user who logs in: the token may not be registered")
            }
            _ => failure(&what, &error),
        })?;
        told.end(&end);
        Ok(u8::try_from(end.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from))
    }

    /// The token that is presented.
    fn presented(&self, what: &str) -> Result<Token, Failure> {
        let remedy = "give --token TOKEN or --user USER";
        match (&self.token, &self.user) {
            (Some(token), _) => Ok(token.clone()),
            (None, Some(user)) => format!("user.{user}")
                .parse()
                .map_err(|error| Failure::usage(what, error).remedy("give --token TOKEN")),
            (None, None) => client::device::token()
                .map_err(|error| Failure::failed(what, chain(&error)).remedy(remedy)),
        }
    }

    fn who(&self) -> Option<UserName> {
        let named = self
            .token
            .as_ref()
            .and_then(|token| token.as_str().strip_prefix("user.")?.parse().ok());
        self.user.clone().or(named)
    }
}

/// The servers and the authority; on a server itself they are asked for.
async fn group(context: &Context) -> Result<(Vec<String>, Fingerprint), Failure> {
    match &context.place {
        Place::Remote { servers, ca } => Ok((servers.clone(), authority(*ca)?)),
        Place::Local { .. } => {
            let what = "the group was not looked up";
            let door = Door::open(context)?;
            let trust: Trust = door.get(what, "/v1/trust").await?;
            let servers: Vec<Server> = door.list(what, "/v1/servers").await?;
            let ca = trust
                .ca_fingerprint
                .parse()
                .map_err(|error| Failure::failed(what, error))?;
            Ok((
                servers
                    .into_iter()
                    .map(|server| server.client_address)
                    .collect(),
                ca,
            ))
        }
    }
}

/// Tells what happens, to scripts or people.
struct Told {
    context: Context,
    on_stdout: bool,
}

impl Told {
    fn tell(&self, event: &Event) {
        if self.on_stdout {
            self.context.output.json_line(event);
        } else if self.context.output.is_json() {
            logging::say(&serde_json::to_string(event).unwrap_or_default());
        } else {
            logging::say(&words(event));
        }
    }

    fn end(&self, end: &End) {
        if self.context.output.is_json() {
            return;
        }
        match end {
            End::Ended(_) | End::TakenOver | End::Closed | End::ViewerExited(0) => {}
            End::ViewerExited(code) => logging::say(&format!(
                "the viewer exited with status {code}; the session goes on"
            )),
            End::ViewerGone => logging::say("standard input or output failed; the session goes on"),
            End::SessionLost { reason } => {
                logging::say(&format!(
                    "the session was lost ({reason}); connect again for another one"
                ));
            }
        }
    }
}

/// A span that only has to be about right.
fn span_words(span: Duration) -> String {
    match span.as_secs() {
        0..=99 => format!("{} s", span.as_secs()),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

fn words(event: &Event) -> String {
    match event {
        Event::Ready {
            listen,
            session,
            host,
        } => format!("ready: connect to {listen} (session {session} on {host})"),
        Event::PathLost { host, .. } => format!("the path to {host} was lost; looking for another"),
        Event::Resumed { outage_ms, via } => {
            format!("resumed through {via} after {outage_ms} ms; nothing was lost")
        }
        Event::SessionLost {
            session,
            host,
            reason,
        } => format!("session {session} was lost with {host}: {reason}"),
        Event::Moved {
            from,
            to,
            outage_ms,
            session,
            ..
        } => {
            format!(
                "moved from {from} to {to} after {outage_ms} ms: this is the new session {session}"
            )
        }
        Event::MoveDue {
            host,
            within_ms,
            by,
            reason,
            ..
        } => {
            let left = span_words(Duration::from_millis(*within_ms));
            let why = match reason.as_str() {
                "" => String::new(),
                reason => format!(" ({reason})"),
            };
            format!(
                "{by} takes {host} out of use{why}: in {left} this session ends and another one starts elsewhere; save what you have, `stead select` moves it earlier"
            )
        }
        Event::MoveCancelled { host, .. } => {
            format!("{host} stays in use: this session is not moved")
        }
        Event::TakenOver { .. } => {
            "another client with this token has taken the session over".to_owned()
        }
        Event::Ended { reason } => format!("the session has ended: {reason}"),
        Event::Notice { text } => format!("notice: {}", printable(text)),
    }
}

fn failure(what: &str, error: &ConnectError) -> Failure {
    let why = chain(error);
    match error {
        ConnectError::Open(OpenError::Refused(refused)) => of_refusal(what, refused, why),
        ConnectError::Open(OpenError::NotReachable(client::DialError::Distrusted { .. })) => {
            Failure::failed(what, why)
                .remedy("compare --ca with what `stead trust show` prints on a server of the group")
        }
        ConnectError::Open(_) => Failure::later(what, why).remedy(
            "check that a server of the group runs and that --server is right, then try again",
        ),
        ConnectError::TicketExpired => Failure::refused(what, why).remedy("connect again"),
        ConnectError::Local(_) => Failure::failed(what, why),
    }
}

fn of_refusal(what: &str, refused: &Refused, why: String) -> Failure {
    match refused {
        Refused::NoPrimary { .. } | Refused::NoHost { .. } | Refused::HostUnreachable { .. } => {
            Failure::later(what, why)
                .remedy("try again when `stead status` shows a primary and a host")
        }
        Refused::FailedToStart { .. } => Failure::failed(what, why)
            .remedy("correct the application's command or backend: stead app show NAME"),
        Refused::UnknownApp { .. } => {
            Failure::refused(what, why).remedy("`stead app list` shows what there is")
        }
        _ => Failure::refused(what, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_their_exit_codes() {
        let exit = |refused: Refused| {
            let why = refused.to_string();
            of_refusal("x", &refused, why).exit as u8
        };
        assert_eq!(exit(Refused::Login), 4);
        assert_eq!(exit(Refused::Locked), 4);
        assert_eq!(
            exit(Refused::UnknownApp {
                app: "desktop".parse().unwrap()
            }),
            4
        );
        assert_eq!(
            exit(Refused::NoPrimary {
                detail: String::new()
            }),
            3
        );
        assert_eq!(
            exit(Refused::NoHost {
                detail: String::new()
            }),
            3
        );
        assert_eq!(
            exit(Refused::FailedToStart {
                detail: String::new()
            }),
            1
        );
    }
}
