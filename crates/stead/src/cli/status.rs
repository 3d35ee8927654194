//! `stead status`: the state of the group on one screen, what it can lose first.

use super::Context;
use crate::door::Door;
use crate::errors::Failure;
use crate::output::{Output, Tone, printable};
use server::api::bodies;

/// Shows who is primary, every server, and what the group can lose
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead status --data /var/lib/stead
  stead status --server boston,chicago --ca sha256:HEX --json")]
pub(crate) struct Status {
    /// Show the members of the original formation and where each is now.
    #[arg(long)]
    original: bool,
}

impl Status {
    /// Asks and prints.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let status: bodies::Status = Door::open(context)?
            .get("the status was not shown", "/v1/status")
            .await?;
        context.output.show(&status, |status| {
            screen(context.output, status, self.original)
        });
        Ok(())
    }
}

fn screen(output: Output, status: &bodies::Status, original: bool) -> String {
    let mut text = format!("{}\n\n", output.heading(&printable(&status.sentence)));
    for (name, value) in facts(status) {
        text.push_str(&format!("{:14} {}\n", name, printable(&value)));
    }
    text.push_str(&format!("\n{}\n", servers(output, &status.servers)));
    if original {
        text.push_str(&format!("\n{}\n", output.heading("Original formation")));
        for name in &status.formation.original_members {
            let now = status.servers.iter().find(|server| &server.name == name);
            let now = now.map_or("no member any more", |server| {
                if server.reachable {
                    "reached"
                } else {
                    "not reached"
                }
            });
            text.push_str(&format!("  {name}: {now}\n"));
        }
    }
    text.push_str(&needs_attention(output, &status.attention));
    if !status.views.is_empty() {
        text.push_str(&format!(
            "\n{}\n{}\n",
            output.heading("The servers do not agree"),
            views(output, &status.views)
        ));
    }
    text
}

/// What several servers say in the same words is said once, with their names.
fn needs_attention(output: Output, items: &[bodies::Attention]) -> String {
    let mut said: Vec<(&bodies::Attention, Vec<&str>)> = Vec::new();
    for item in items {
        let of = item.server.as_deref();
        let of = of.filter(|name| !item.what.contains(name));
        let same = |(first, _): &&mut (&bodies::Attention, Vec<&str>)| {
            (&first.severity, &first.what, &first.remedy)
                == (&item.severity, &item.what, &item.remedy)
        };
        match said.iter_mut().find(same) {
            Some((_, servers)) => servers.extend(of),
            None => said.push((item, of.into_iter().collect())),
        }
    }
    let mut text = String::new();
    for (number, (item, servers)) in said.iter().enumerate() {
        if number == 0 {
            text.push_str(&format!("\n{}\n", output.heading("Needs attention")));
        }
        let tone = match item.severity.as_str() {
            "error" => Tone::Bad,
            _ => Tone::Warning,
        };
        let severity = output.tone(&format!("{:7}", item.severity), tone);
        let what = match servers.as_slice() {
            [] => printable(&item.what),
            servers => printable(&format!("{}: {}", servers.join(", "), item.what)),
        };
        text.push_str(&format!("  {severity}  {what}\n"));
        if let Some(remedy) = &item.remedy {
            text.push_str(&format!("           {}\n", printable(remedy)));
        }
    }
    text
}

fn facts(status: &bodies::Status) -> Vec<(&'static str, String)> {
    let quorum = &status.quorum;
    let primary = status.primary.as_ref();
    let kind = if status.formation.original {
        "original"
    } else {
        "repaired"
    };
    let mut facts = vec![
        ("can lose", status.can_lose_words.clone()),
        (
            "primary",
            primary.map_or("none".to_owned(), |primary| {
                format!("{} since {}", primary.name, primary.since)
            }),
        ),
        ("formation", format!("{} ({kind})", status.formation.number)),
        (
            "mode",
            format!(
                "{}: {} of {} voters reached, {} needed",
                status.mode, quorum.reachable, quorum.voters, quorum.needed
            ),
        ),
        ("sessions", status.sessions.to_string()),
        (
            "seen from",
            format!(
                "{} ({}), peers at {}, clients at {}",
                status.server, status.role, status.peer_address, status.client_address
            ),
        ),
    ];
    if let Some(returning) = &status.returning {
        let seconds = returning.in_ms.div_ceil(1000);
        let words = format!(
            "{} takes over again in {seconds} s if it stays healthy",
            returning.name
        );
        facts.push(("returning", words));
    }
    if let Some(pause) = &status.paused {
        let words = format!(
            "paused by {} since {} until {}: {}",
            pause.by, pause.since, pause.until, pause.reason
        );
        facts.push(("failover", words));
    }
    if let Some(failover) = &status.last_failover {
        let from = failover.from.as_deref().unwrap_or("nobody");
        let words = format!(
            "{} from {from} to {}, {} ms: {}",
            failover.at, failover.to, failover.outage_ms, failover.reason
        );
        facts.push(("last failover", words));
    }
    facts
}

/// How far behind a server is.
fn behind(server: &bodies::ServerStatus) -> String {
    let changes = server
        .lag_changes
        .map_or_else(|| "?".to_owned(), |lag| lag.to_string());
    match server.in_sync {
        Some(false) => format!("{changes}, not in sync"),
        _ => changes,
    }
}

/// The servers as a table.
pub(crate) fn servers(output: Output, servers: &[bodies::ServerStatus]) -> String {
    let columns = [
        "SERVER",
        "ROLE",
        "VOTER",
        "REACHED",
        "MODE",
        "LAG>",
        "SESSIONS>",
        "LOAD>",
        "CLOCK>",
        "CERTIFICATE UNTIL",
        "VERSION",
    ];
    let mut table = output.table(&columns);
    for server in servers {
        let reached = match server.last_seen_ms {
            _ if server.reachable => ("yes".to_owned(), Tone::Good),
            Some(ago) => (format!("no, {} ago", ago_words(ago)), Tone::Bad),
            None => ("never".to_owned(), Tone::Bad),
        };
        let voter = match (server.voter, server.standing.as_str()) {
            (true, "witness") => "witness",
            (true, _) => "yes",
            (false, "non-voter") => "no",
            (false, _) => "not yet",
        };
        let unknown = || "?".to_owned();
        let behind = behind(server);
        let load = server
            .load
            .map_or_else(unknown, |load| format!("{:.0} %", load * 100.0));
        let clock = server
            .clock_offset_ms
            .map_or_else(unknown, |offset| format!("{offset} ms"));
        let mode_tone = if server.mode == "online" {
            Tone::Plain
        } else {
            Tone::Warning
        };
        table.row(vec![
            (server.name.clone(), Tone::Plain),
            (
                server.role.clone(),
                if server.role == "primary" {
                    Tone::Good
                } else {
                    Tone::Plain
                },
            ),
            (voter.to_owned(), Tone::Plain),
            reached,
            (server.mode.clone(), mode_tone),
            (behind, Tone::Plain),
            (server.sessions.to_string(), Tone::Plain),
            (load, Tone::Plain),
            (clock, Tone::Plain),
            (
                server.certificate_expires.chars().take(10).collect(),
                Tone::Plain,
            ),
            (server.version.clone(), Tone::Faint),
        ]);
    }
    table.text("There is no server.")
}

fn views(output: Output, views: &[bodies::View]) -> String {
    let mut table = output.table(&["SEEN BY", "PRIMARY", "ACTING", "VOTERS", "HEARS"]);
    for view in views {
        if let Some(error) = &view.error {
            table.plain([view.name.clone(), format!("not asked: {error}")]);
            continue;
        }
        let acting = if view.acting { "yes" } else { "no" };
        let primary = view.primary.clone().unwrap_or_else(|| "none".to_owned());
        table.plain([
            view.name.clone(),
            primary,
            acting.to_owned(),
            view.voters.join(" "),
            view.hears.join(" "),
        ]);
    }
    table.text("")
}

/// A span in words: `800 ms`, `3.2 s`, `5 min`, `4 h`, `12 d`.
fn ago_words(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        60_000..3_600_000 => format!("{} min", millis / 60_000),
        3_600_000..86_400_000 => format!("{} h", millis / 3_600_000),
        _ => format!("{} d", millis / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say_in_the_same_words_is_said_once() {
        let item = |server: Option<&str>, what: &str| bodies::Attention {
            severity: "warning".to_owned(),
            server: server.map(str::to_owned),
            what: what.to_owned(),
            remedy: None,
        };
        let items = [
            item(Some("boston"), "boston is offline"),
            item(Some("boston"), "no control groups"),
            item(None, "failover is off"),
            item(Some("chicago"), "no control groups"),
        ];
        let text = needs_attention(Output::new(false), &items);
        let said: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_once("  "))
            .map(|(_, rest)| rest.rsplit("  ").next().unwrap_or_default().trim())
            .collect();
        assert_eq!(
            said,
            [
                "boston is offline",
                "boston, chicago: no control groups",
                "failover is off"
            ],
            "{text}"
        );
        assert_eq!(needs_attention(Output::new(false), &[]), "");
    }

    #[test]
    fn spans_in_words() {
        for (millis, words) in [
            (0, "0 ms"),
            (3_240, "3.2 s"),
            (90_000, "1 min"),
            (7_200_000, "2 h"),
            (200_000_000, "2 d"),
        ] {
            assert_eq!(ago_words(millis), words);
        }
    }
}
