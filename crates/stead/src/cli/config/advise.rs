//! `stead config advise`: what settings lead to here, and which values would suit.

use super::Context;
use crate::door::Door;
use crate::errors::Failure;
use crate::output::{Output, Tone, printable};
use server::api::bodies::{AdvisedSettings, ResilienceAdvice};

/// Says what settings lead to on these servers and this network, and suggests values
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead config advise resilience
  stead config advise resilience --json")]
pub(super) struct Advise {
    /// About what.
    #[arg(value_enum)]
    about: About,
}

/// What advice there is.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum About {
    /// The outage when the primary dies: expected and at worst, from what was measured between the servers.
    Resilience,
}

impl Advise {
    /// Asks and prints.
    pub(super) async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let About::Resilience = self.about;
        let advice: ResilienceAdvice = door
            .get("there is no advice", "/v1/advice/resilience")
            .await?;
        context
            .output
            .show(&advice, |advice| text(context.output, advice));
        Ok(())
    }
}

fn text(output: Output, advice: &ResilienceAdvice) -> String {
    let columns = [
        "SETTINGS",
        "MONITOR-INTERVAL>",
        "MONITOR-ATTEMPTS>",
        "RANK-DELAY>",
        "OUTAGE EXPECTED>",
        "AT WORST>",
    ];
    let mut table = output.table(&columns);
    let ms = |ms: u64| (format!("{ms}ms"), Tone::Plain);
    let outage = |ms: Option<u64>| {
        let text = ms.map_or_else(|| "until it is back".to_owned(), |ms| format!("{ms} ms"));
        (text, Tone::Plain)
    };
    let all = std::iter::once(&advice.in_force).chain(&advice.alternatives);
    for one in all {
        table.row(vec![
            (one.name.clone(), Tone::Plain),
            ms(one.monitor_interval_ms),
            (one.monitor_attempts.to_string(), Tone::Plain),
            ms(one.rank_delay_ms),
            outage(one.expected_outage_ms),
            outage(one.worst_outage_ms),
        ]);
    }
    let mut text = format!("{}\n", table.text(""));
    for one in &advice.alternatives {
        let AdvisedSettings { name, why, .. } = one;
        text.push_str(&format!("{name}: {why}\n"));
    }
    if advice.alternatives.is_empty() {
        text.push_str("Nothing was measured yet between voters: ask again in a moment.\n");
    } else {
        text.push_str("\nTo choose one, set each of its values, for instance:\n");
        let first = advice.alternatives.first();
        let interval = first.map_or(0, |first| first.monitor_interval_ms);
        text.push_str(&format!(
            "  stead config set resilience.monitor-interval {interval}ms\n"
        ));
    }
    for trip in &advice.round_trips {
        text.push_str(&format!(
            "  {}: {} ms, at worst {} ms, of {}\n",
            printable(&trip.name),
            trip.median_ms,
            trip.worst_ms,
            trip.samples
        ));
    }
    text.push_str(&output.warnings(&advice.warnings));
    text
}
