//! `stead group`: the group's shape.

mod add;
mod backups;
mod divergence;
mod pause;
mod recover;
mod reset;

use super::Context;
use crate::door::{Door, Method, escape, with_query};
use crate::errors::Failure;
use crate::output::{Output, Tone, printable};
use clap::Subcommand;
use model::ServerName;
use server::api::bodies::{
    Invitation, InvitationRequest, Member, Plan, Promotion, PromotionRequest,
};

/// Invites, adds, lists, promotes and removes servers; pauses failover; has a server stand alone
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Group {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Invite(Invite),
    Add(add::Add),
    List(List),
    Promote(Promote),
    Remove(Remove),
    Backups(backups::Backups),
    Divergence(divergence::Divergence),
    Pause(pause::Pause),
    Resume(pause::Resume),
    Recover(recover::Recover),
    Reset(reset::Reset),
}

/// Prints a join code for a new server; it works once, within 15 minutes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead group invite                 for a server that counts towards the quorum
  stead group invite --non-voter     for one that only hosts sessions
  stead join CODE --name chicago     on the new server")]
struct Invite {
    #[command(flatten)]
    standing: StandingChoice,
}

/// What a new server will be.
#[derive(Debug, clap::Args)]
struct StandingChoice {
    /// The server will count towards the quorum, and may become primary (the default).
    #[arg(long, group = "standing")]
    voter: bool,
    /// The server will replicate and host, but not count.
    #[arg(long, group = "standing")]
    non_voter: bool,
    /// The server will count, but host nothing.
    #[arg(long, group = "standing")]
    witness: bool,
}

impl StandingChoice {
    fn word(&self) -> &'static str {
        match (self.non_voter, self.witness) {
            (true, _) => "non-voter",
            (_, true) => "witness",
            _ => "voter",
        }
    }
}

/// Lists the members
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead group list
  stead group list --json")]
struct List {}

/// Makes a server the primary, as planned
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead group promote chicago --dry-run
  stead group promote chicago --reason 'boston gets more memory'
  stead group promote chicago --temporary    boston takes over again by itself")]
struct Promote {
    /// Which server.
    #[arg(value_name = "SERVER")]
    name: ServerName,
    /// Why; kept in the history.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The original primary stays the original one, and takes over again by itself after resilience.return-delay.
    #[arg(long)]
    temporary: bool,
    /// Print what would happen, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Removes a server from the group
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead group remove chicago --dry-run
  stead group remove chicago --reason 'sold'
  stead group remove chicago --mode availability   two voters would be left")]
struct Remove {
    /// Which server.
    #[arg(value_name = "SERVER")]
    name: ServerName,
    /// Why; kept in the history.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// What the group is to be where two voters are left in quorum mode: availability, where either goes on alone, or quorum,
    /// where neither does.
    #[arg(long, value_name = "MODE", value_parser = ["availability", "quorum"])]
    mode: Option<String>,
    /// Print what would happen, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Group {
    /// Does what the verb says.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let door = Door::open(context)?;
        match self.verb {
            Verb::Invite(verb) => verb.run(context, &door).await,
            Verb::Add(verb) => verb.run(context, &door).await,
            Verb::List(_) => list(context, &door).await,
            Verb::Promote(verb) => verb.run(context, &door).await,
            Verb::Remove(verb) => verb.run(context, &door).await,
            Verb::Backups(verb) => verb.run(context, &door).await,
            Verb::Divergence(verb) => verb.run(context, &door).await,
            Verb::Pause(verb) => verb.run(context, &door).await,
            Verb::Resume(verb) => verb.run(context, &door).await,
            Verb::Recover(verb) => verb.run(context, &door).await,
            Verb::Reset(verb) => verb.run(context, &door).await,
        }
    }
}

impl Invite {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let request = InvitationRequest {
            standing: Some(self.standing.word().to_owned()),
        };
        let invitation: Invitation = door
            .send(
                "no join code was made",
                Method::Post,
                "/v1/group/invitations",
                &request,
            )
            .await?;
        context.output.show(&invitation, |made| {
            format!(
                "{}\n\nOn the new server, until {}:\n  stead join {} --name NAME\n\nThe code works once, for a {}. Whoever has it can join: keep it to yourself.",
                made.code, made.expires, made.code, made.standing
            )
        });
        Ok(())
    }
}

async fn list(context: &Context, door: &Door) -> Result<(), Failure> {
    let members: Vec<Member> = door
        .list("the members were not listed", "/v1/group/members")
        .await?;
    context.output.show(&members, |members| {
        let mut table = context.output.table(&[
            "SERVER",
            "ROLE",
            "STANDING",
            "COUNTS",
            "BACKUP>",
            "REACHED",
            "PEERS AT",
            "CLIENTS AT",
        ]);
        for member in members {
            let reached = if member.reachable {
                ("yes".to_owned(), Tone::Good)
            } else {
                ("no".to_owned(), Tone::Bad)
            };
            table.row(vec![
                (member.name.clone(), Tone::Plain),
                (member.role.clone(), Tone::Plain),
                (member.standing.clone(), Tone::Plain),
                (
                    if member.voter { "yes" } else { "no" }.to_owned(),
                    Tone::Plain,
                ),
                (
                    member
                        .backup
                        .map(|place| place.to_string())
                        .unwrap_or_default(),
                    Tone::Plain,
                ),
                reached,
                (member.peer_address.clone(), Tone::Plain),
                (member.client_address.clone(), Tone::Plain),
            ]);
        }
        table.text("There is no member.")
    });
    Ok(())
}

impl Promote {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let what = format!("{} was not promoted", self.name);
        let request = PromotionRequest {
            server: self.name.to_string(),
            reason: self.reason,
            temporary: self.temporary,
        };
        if self.dry_run {
            let plan: Plan = door
                .send(
                    &what,
                    Method::Post,
                    "/v1/group/promote?dry_run=true",
                    &request,
                )
                .await?;
            return show_plan(context.output, &plan);
        }
        let waiting = context.output.progress("the role is handed over");
        let done: Promotion = door
            .send(&what, Method::Post, "/v1/group/promote", &request)
            .await?;
        drop(waiting);
        context
            .output
            .show(&done, |done| match (&done.from, done.outage_ms) {
                (Some(from), Some(outage)) => format!(
                    "{} is primary in place of {from}; changes waited {outage} ms.",
                    done.to
                ),
                _ => format!("{} is primary.", done.to),
            });
        Ok(())
    }
}

impl Remove {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let what = format!("{} was not removed", self.name);
        let query = [
            ("reason", self.reason),
            ("mode", self.mode),
            ("dry_run", self.dry_run.then(|| "true".to_owned())),
        ];
        let path = with_query(
            &format!("/v1/group/members/{}", escape(self.name.as_str())),
            &query,
        );
        if self.dry_run {
            let plan: Plan = door.send(&what, Method::Delete, &path, &()).await?;
            return show_plan(context.output, &plan);
        }
        door.tell(&what, Method::Delete, &path, &()).await?;
        let done = serde_json::json!({ "name": self.name, "removed": true });
        context
            .output
            .done(&done, format!("{} is no member any more.", self.name));
        Ok(())
    }
}

pub(crate) fn show_plan(output: Output, plan: &Plan) -> Result<(), Failure> {
    output.show(plan, |plan| plan_text(output, plan));
    Ok(())
}

fn plan_text(output: Output, plan: &Plan) -> String {
    let verdict = if plan.allowed {
        "would do this"
    } else {
        "would be refused"
    };
    let mut text = format!("{}\n", output.heading(&format!("{}: {verdict}", plan.what)));
    for (index, step) in plan.steps.iter().enumerate() {
        text.push_str(&format!("  {}. {}\n", index + 1, printable(step)));
    }
    for check in &plan.checks {
        let (mark, tone) = if check.pass {
            ("+", Tone::Good)
        } else {
            ("-", Tone::Bad)
        };
        text.push_str(&format!(
            "  {} {}: {}\n",
            output.tone(mark, tone),
            check.rule,
            printable(&check.detail)
        ));
    }
    for refusal in &plan.refusals {
        text.push_str(&format!(
            "  {}: {}\n",
            output.tone("refused", Tone::Bad),
            printable(refusal)
        ));
    }
    text.push_str(&format!("sessions kept: {}\n", plan.sessions_kept));
    for (word, count, named) in [
        ("moved", plan.sessions_moved, &plan.moved),
        ("lost", plan.sessions_lost, &plan.lost),
    ] {
        text.push_str(&format!("sessions {word}: {count}\n"));
        for session in named {
            let (id, app, user, token, state) = (
                &session.id,
                &session.app,
                &session.user,
                &session.token,
                &session.state,
            );
            text.push_str(&format!("  {id}  {app} of {user} ({token}), {state}\n"));
        }
    }
    text.push_str(&format!(
        "changes would wait for about {} ms\n",
        plan.outage_ms
    ));
    text.push_str(&format!("afterwards: {}\n", printable(&plan.afterwards)));
    text.push_str(&output.warnings(&plan.warnings));
    text
}
