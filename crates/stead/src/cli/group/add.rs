//! `stead group add`: a server that stands alone becomes a member, at the word of one of its own administrators.
//!
//! Always true: the password goes nowhere before the fingerprint of the server's authority was confirmed.

use super::{StandingChoice, plan_text, show_plan};
use crate::cli::{Context, values};
use crate::door::{Door, Method};
use crate::errors::Failure;
use crate::output::printable;
use crate::password::PasswordSource;
use client::Fingerprint;
use model::{ServerName, UserName};
use server::api::bodies::{
    AddedServer, AdditionRequest, LookRequest, Member, Password, Plan, SeenAuthority,
};
use std::io::{BufRead, IsTerminal, Read, Write};
use std::time::{Duration, Instant};

const PATH: &str = "/v1/group/members";
/// How long is waited until the new member is heard.
const HEARD: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(500);
/// The most bytes of an answer that is typed.
const LINE: u64 = 64;

/// Makes a server that stands alone a member of this group
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead group add chicago                asks to confirm the fingerprint, then for the password of its `admin`
  stead group add 10.0.0.2:5443 --witness --fingerprint sha256:HEX --password-file FILE
  stead group add chicago --fingerprint sha256:HEX --password-file FILE --dry-run

The server was made with `stead init`, runs, and is alone; ADDRESS is where it answers clients. On it, `stead
trust show` prints its fingerprint. The member that is asked contacts it; it goes on as a member by itself.
Nothing of its group is taken over: what people made there (users, applications, settings, ...) is lost, which
--discard agrees to; `stead backup` there keeps it. It must not have live sessions: end them first.")]
pub(super) struct Add {
    /// Where the server answers clients; the port is 5443 when left out.
    #[arg(value_name = "ADDRESS", value_parser = values::client_address)]
    address: String,
    #[command(flatten)]
    standing: StandingChoice,
    /// The fingerprint of the server's authority, as `stead trust show` prints it there; without it you are asked.
    #[arg(long, value_name = "sha256:HEX")]
    fingerprint: Option<Fingerprint>,
    /// One of the server's own administrators.
    #[arg(long, value_name = "USER", default_value = "admin")]
    user: UserName,
    #[command(flatten)]
    password: PasswordSource,
    /// The name that it has as a member, if not its own.
    #[arg(long, value_name = "NAME")]
    name: Option<ServerName>,
    /// What people made on the server may be lost.
    #[arg(long)]
    discard: bool,
    /// Print what would happen, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Add {
    /// Adds the server, or prints the plan.
    pub(super) async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let what = format!("the server at {} was not added", self.address);
        let authority = self.confirmed(context, door, &what).await?;
        let password = self.password.password(self.user.as_str())?;
        let asked = self.fingerprint.is_none();
        let mut request = AdditionRequest {
            address: self.address.clone(),
            ca_fingerprint: authority.to_string(),
            user: self.user.to_string(),
            password: Password(password.0.clone()),
            standing: Some(self.standing.word().to_owned()),
            name: self.name.as_ref().map(ToString::to_string),
            // Whoever is asked sees what is lost, and agrees or not.
            discard: self.discard || (asked && !self.dry_run),
        };
        let planned = format!("{PATH}?dry_run=true");
        if self.dry_run {
            let plan: Plan = door.send(&what, Method::Post, &planned, &request).await?;
            return show_plan(context.output, &plan);
        }
        if asked {
            let plan: Plan = door.send(&what, Method::Post, &planned, &request).await?;
            if plan.allowed {
                let text = plan_text(context.output, &plan);
                agreed(&what, &format!("{text}\nDo it? (yes/no) "))?;
            }
            request.discard = true;
        }
        let waiting = context
            .output
            .progress("the members and the server try to reach each other, and it joins");
        let mut added: AddedServer = door.send(&what, Method::Post, PATH, &request).await?;
        if !added.started {
            added.started = heard(door, &added.name).await?;
        }
        drop(waiting);
        let name = printable(&added.name);
        let state = match added.started {
            true => "and runs as one".to_owned(),
            false => format!(
                "and was not heard as one yet: look with `stead group list`, and whether {name} runs"
            ),
        };
        let sentence = format!(
            "{name} is a member of the group (as {}), {state}.\nWhoever uses it logs in again, with the fingerprint of this group.",
            added.standing
        );
        context.output.done(&added, sentence);
        Ok(())
    }

    /// The fingerprint of the server's authority, which somebody has vouched for.
    async fn confirmed(
        &self,
        context: &Context,
        door: &Door,
        what: &str,
    ) -> Result<Fingerprint, Failure> {
        let on_terminal = std::io::stdin().is_terminal() && !context.output.is_json();
        if self.fingerprint.is_none() && !on_terminal {
            let why = "the fingerprint of its authority was not given, and there is no terminal to confirm it on";
            return Err(Failure::usage(what, why).remedy(
                "give --fingerprint sha256:HEX; `stead trust show` on that server prints it",
            ));
        }
        let request = LookRequest {
            address: self.address.clone(),
        };
        let seen: SeenAuthority = door
            .send(what, Method::Post, "/v1/group/look", &request)
            .await?;
        let shown: Fingerprint = seen
            .ca_fingerprint
            .parse()
            .map_err(|error| Failure::failed(what, error))?;
        match self.fingerprint {
            Some(given) if given == shown => Ok(given),
            Some(given) => {
                let why = format!("the authority of the server there is {shown}, not {given}");
                Err(Failure::refused(what, why).remedy(
                    "compare --fingerprint with what `stead trust show` prints on that server; if it is right, somebody else answers there",
                ))
            }
            None => {
                let question = format!(
                    "The authority of the server at {}:\n  {shown}\n`stead trust show` on that server prints the same, or somebody else answers there.\nIs it the same? (yes/no) ",
                    self.address
                );
                agreed(what, &question)?;
                Ok(shown)
            }
        }
    }
}

/// Asks whoever is at the terminal, who agrees with `yes` and nothing else.
fn agreed(what: &str, question: &str) -> Result<(), Failure> {
    let broken = |error: std::io::Error| Failure::failed(what, error);
    let mut terminal = std::io::stderr().lock();
    let asked = terminal.write_all(question.as_bytes());
    asked.and_then(|()| terminal.flush()).map_err(broken)?;
    let mut line = String::new();
    let read = std::io::stdin().lock().take(LINE).read_line(&mut line);
    read.map_err(broken)?;
    match line.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::refused(what, "it was not agreed to with `yes`")),
    }
}

/// Waits until the new member is heard.
async fn heard(door: &Door, name: &str) -> Result<bool, Failure> {
    let deadline = Instant::now() + HEARD;
    loop {
        let what = "whether the new member runs was not found out";
        let members: Vec<Member> = door.list(what, "/v1/group/members").await?;
        let there = |member: &Member| member.name == name && member.reachable;
        if members.iter().any(there) {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(LOOK).await;
    }
}
