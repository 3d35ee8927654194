//! `stead event`: the journal.

use super::Context;
use crate::door::{Door, with_query};
use crate::errors::{Exit, Failure, chain};
use crate::logging;
use crate::output::{Output, Tone, printable};
use clap::{Subcommand, ValueEnum};
use server::api::bodies::{Event as EventView, EventKindInfo};
use std::time::Duration;

/// The pause before a stream that broke is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// Lists and follows what happened, with reasons
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Event {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(List),
    Watch(Watch),
    Kinds(Kinds),
}

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look at it.
    Warning,
    /// Something is not working.
    Error,
}

#[derive(Debug, clap::Args)]
struct Filter {
    /// Only of this kind (see `stead event kinds`).
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only what matters at least so much.
    #[arg(long, value_enum)]
    severity: Option<Severity>,
    /// Only what happened to this server, user, application or session.
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
}

impl Filter {
    fn query(&self) -> Vec<(&'static str, Option<String>)> {
        let severity = self.severity.map(|severity| match severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        });
        vec![
            ("kind", self.kind.clone()),
            ("severity", severity.map(str::to_owned)),
            ("subject", self.subject.clone()),
        ]
    }
}

/// Lists the newest events
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead event list
  stead event list --kind failover --last 5
  stead event list --since 1200 --json")]
struct List {
    #[command(flatten)]
    filter: Filter,
    /// How many of the newest, 1 to 1000.
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    last: u32,
    /// All from this place in the journal on, instead.
    #[arg(long, value_name = "SEQ", conflicts_with = "last")]
    since: Option<u64>,
}

/// Prints events as they happen, until it is interrupted
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead event watch
  stead event watch --json              one object a line
  stead event watch --since 1200        what has happened since, first")]
struct Watch {
    #[command(flatten)]
    filter: Filter,
    /// Begin with this place in the journal; with what happens from now on when absent.
    #[arg(long, value_name = "SEQ")]
    since: Option<u64>,
}

/// Lists the kinds of events
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead event kinds")]
struct Kinds {}

impl Event {
    /// Does what the verb says.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let door = Door::open(context)?;
        match self.verb {
            Verb::List(verb) => verb.run(context, &door).await,
            Verb::Watch(verb) => verb.run(context, &door).await,
            Verb::Kinds(_) => kinds(context, &door).await,
        }
    }
}

impl List {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let mut query = self.filter.query();
        match self.since {
            Some(seq) => query.push(("from", Some(seq.to_string()))),
            None => query.push(("last", Some(self.last.to_string()))),
        }
        let events: Vec<EventView> = door
            .list(
                "the events were not listed",
                &with_query("/v1/events", &query),
            )
            .await?;
        let output = context.output;
        output.show(&events, |events| {
            if events.is_empty() {
                return "There is no such event.".to_owned();
            }
            events
                .iter()
                .map(|event| text(output, event))
                .collect::<Vec<_>>()
                .join("\n")
        });
        Ok(())
    }
}

impl Watch {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let what = "the events were not followed";
        let mut last = self.since.map(|seq| seq.saturating_sub(1));
        let path = with_query("/v1/events", &self.filter.query());
        loop {
            let mut events = match door.events(what, &path, last).await {
                Err(failure) if last.is_some() && failure.exit == Exit::Later => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                opened => opened?,
            };
            loop {
                let message = match events.next().await {
                    Ok(Some(message)) => message,
                    Ok(None) => break,
                    Err(error) => {
                        logging::say(&format!(
                            "the connection was lost ({}); going on elsewhere",
                            chain(&error)
                        ));
                        break;
                    }
                };
                let Ok(event) = serde_json::from_str::<EventView>(&message.data) else {
                    continue;
                };
                last = Some(event.seq);
                if context.output.is_json() {
                    context.output.json_line(&event);
                } else {
                    context.output.raw(&text(context.output, &event));
                }
            }
        }
    }
}

async fn kinds(context: &Context, door: &Door) -> Result<(), Failure> {
    let kinds: Vec<EventKindInfo> = door
        .list("the kinds of events were not listed", "/v1/events/kinds")
        .await?;
    context.output.show(&kinds, |kinds| {
        let mut table = context.output.table(&["KIND", "HELP"]);
        for kind in kinds {
            table.plain([kind.name.clone(), kind.help.clone()]);
        }
        table.text("There is no kind of event.")
    });
    Ok(())
}

fn text(output: Output, event: &EventView) -> String {
    let tone = match event.severity.as_str() {
        "error" => Tone::Bad,
        "warning" => Tone::Warning,
        _ => Tone::Plain,
    };
    let fields: Vec<String> = event
        .fields
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let server = event.server.as_deref().unwrap_or("-");
    let head = format!(
        "{:>6}  {}  {server:12}  {:20}  {}",
        event.seq, event.at, event.kind, event.subject
    );
    let mut text = output.tone(
        &printable(format!("{head}  {}", fields.join(" ")).trim_end()),
        tone,
    );
    for reason in &event.reasons {
        let mark = if reason.pass { '+' } else { '-' };
        text.push_str(&format!(
            "\n          {mark} {}: {}",
            reason.rule,
            printable(&reason.detail)
        ));
    }
    text
}
