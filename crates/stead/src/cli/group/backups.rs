//! `stead group backups`: who may become primary, and in which order.

use super::{Context, show_plan};
use crate::door::{Door, Method, escape, with_query};
use crate::errors::Failure;
use crate::output::{Output, Tone};
use clap::Subcommand;
use model::ServerName;
use server::api::bodies::{Backup, BackupAddition, BackupMove, Plan};

/// Lists and orders the backup primaries
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(super) struct Backups {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(List),
    Add(Add),
    Move(Move),
    Remove(Remove),
}

/// Lists the backup primaries, highest first; the first is the original primary
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead group backups list
  stead group backups list --json")]
struct List {}

/// What all changes of the list take.
#[derive(Debug, clap::Args)]
struct How {
    /// Why; kept in the history.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print what would happen, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Puts a server on the list
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead group backups add detroit
  stead group backups add detroit --place 2 --reason 'new disks'")]
struct Add {
    /// Which server.
    #[arg(value_name = "SERVER")]
    name: ServerName,
    /// Where, counted from 1; last when not given.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    place: Option<u32>,
    #[command(flatten)]
    how: How,
}

/// Gives a server of the list another place
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead group backups move detroit 1 --dry-run")]
struct Move {
    /// Which server.
    #[arg(value_name = "SERVER")]
    name: ServerName,
    /// Where it stands afterwards, counted from 1.
    #[arg(value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    place: u32,
    #[command(flatten)]
    how: How,
}

/// Takes a server off the list: it cannot become primary then
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead group backups remove detroit --reason 'too slow'")]
struct Remove {
    /// Which server.
    #[arg(value_name = "SERVER")]
    name: ServerName,
    #[command(flatten)]
    how: How,
}

const PATH: &str = "/v1/group/backups";

impl Backups {
    /// Does what the verb says.
    pub(super) async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        match self.verb {
            Verb::List(_) => {
                let what = "the backup primaries were not listed";
                let list = door.list(what, PATH).await?;
                show(context.output, &list);
                Ok(())
            }
            Verb::Add(Add { name, place, how }) => {
                let (what, dry_run) = (format!("{name} was not added"), how.dry_run);
                let body = BackupAddition {
                    server: name.to_string(),
                    place,
                    reason: how.reason,
                };
                let request = Request(Method::Post, PATH.to_owned(), body);
                request.send(context, door, &what, dry_run).await
            }
            Verb::Move(Move { name, place, how }) => {
                let (what, dry_run) = (format!("{name} was not moved"), how.dry_run);
                let body = BackupMove {
                    place,
                    reason: how.reason,
                };
                let request = Request(Method::Put, path_of(&name), body);
                request.send(context, door, &what, dry_run).await
            }
            Verb::Remove(Remove { name, how }) => {
                let (what, dry_run) = (format!("{name} was not taken off"), how.dry_run);
                let path = with_query(&path_of(&name), &[("reason", how.reason)]);
                let request = Request(Method::Delete, path, ());
                request.send(context, door, &what, dry_run).await
            }
        }
    }
}

fn path_of(name: &ServerName) -> String {
    format!("{PATH}/{}", escape(name.as_str()))
}

/// A change of the list.
struct Request<B>(Method, String, B);

impl<B: serde::Serialize> Request<B> {
    async fn send(
        self,
        context: &Context,
        door: &Door,
        what: &str,
        dry_run: bool,
    ) -> Result<(), Failure> {
        let Self(method, path, body) = self;
        if dry_run {
            let separator = if path.contains('?') { '&' } else { '?' };
            let path = format!("{path}{separator}dry_run=true");
            let plan: Plan = door.send(what, method, &path, &body).await?;
            return show_plan(context.output, &plan);
        }
        let list: Vec<Backup> = door.send(what, method, &path, &body).await?;
        show(context.output, &list);
        Ok(())
    }
}

fn show(output: Output, list: &Vec<Backup>) {
    output.show(list, |list| {
        let mut table = output.table(&["PLACE>", "SERVER", "ORIGINAL", "PRIMARY", "REACHED"]);
        let word = |yes: bool| if yes { "yes" } else { "" }.to_owned();
        for backup in list {
            let reached = match backup.reachable {
                true => ("yes".to_owned(), Tone::Good),
                false => ("no".to_owned(), Tone::Bad),
            };
            table.row(vec![
                (backup.place.to_string(), Tone::Plain),
                (backup.name.clone(), Tone::Plain),
                (word(backup.original), Tone::Plain),
                (word(backup.primary), Tone::Plain),
                reached,
            ]);
        }
        table.text("The list is empty: when the primary is lost, nobody takes over.")
    });
}
