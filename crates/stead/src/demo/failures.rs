//! The three failures: each is made, watched, and judged by what was promised.

use std::time::{Duration, Instant};

use client::connect::Event;
use client::{Api, Call};
use hyper::Method;
use serde_json::{Value, json};

use super::bytes::Bytes;
use super::group::Group;
use super::seat::Seats;
use super::shell::{Said, Shell};
use super::stage::Stage;
use super::{eventually, failed};
use crate::errors::Failure;

/// How long the killed server stays away.
const AWAY: Duration = Duration::from_secs(1);
/// Bytes that must flow before and after each failure.
const SOME: u64 = 4 << 20;
/// How long a session may pause when a server falls that it does not run on: a path through that server, or one that a busy machine
/// delays, counts as dead after a second and is replaced.
const SHORT: Duration = Duration::from_secs(3);
/// How soon changes must be accepted again after the primary's loss.
const CHANGES_AGAIN: Duration = Duration::from_secs(5);
/// How soon a new session must be there after a host's loss, on a machine that may be busy; it is about 2 s on one that is not.
const MOVED: Duration = Duration::from_secs(10);

/// How a failure went.
pub(super) struct Verdict {
    /// What was done.
    pub(super) failure: String,
    /// What the users felt, in words.
    pub(super) felt: String,
    /// The longest time in which a session could not be used, in milliseconds.
    pub(super) longest_ms: u64,
    /// Bytes lost, in words.
    pub(super) bytes_lost: String,
    /// Whether everything went as promised.
    pub(super) kept: bool,
}

impl Verdict {
    pub(super) fn json(&self) -> Value {
        json!({
            "failure": self.failure,
            "felt": self.felt,
            "longest_ms": self.longest_ms,
            "bytes_lost": self.bytes_lost,
            "kept": self.kept,
        })
    }
}

/// The server process that both sessions go through is killed, and started again a second later.
pub(super) async fn host_process(
    group: &mut Group,
    seats: &mut Seats,
    stage: &Stage,
) -> Result<Verdict, Failure> {
    stage.heading("1. kill -9 of the server process that hosts the sessions (denver)");
    stage.line(
        "promise",
        "promised: the same sessions go on when it is back, and no byte is lost",
    );
    let before = seats.shell.ask().await?;
    seats.bytes.flows(SOME).await?;
    seats.bytes.listen_anew();
    let pid = group.machine(2).kill_server()?;
    stage.felt(
        "killed",
        &format!(
            "denver: process {pid} killed; it is started again after {} s",
            AWAY.as_secs()
        ),
        json!({ "server": "denver" }),
    );
    tokio::time::sleep(AWAY).await;
    group.machine(2).serve().await?;
    stage.line(
        "started",
        "denver: the server runs again and has found its sessions",
    );
    let shell = resumed_after(seats.shell_seat.until("it goes on", is_resumed).await?);
    let bytes = resumed_after(seats.bytes_seat.until("it goes on", is_resumed).await?);
    let (same, lost) = compare(&before, seats, stage).await?;
    Ok(Verdict {
        failure: "host's server process killed".to_owned(),
        felt: "a pause until it was back".to_owned(),
        longest_ms: shell.max(bytes).max(millis(seats.bytes.longest_silence())),
        bytes_lost: lost_words(lost),
        kept: same && lost == Some(0),
    })
}

/// The primary is killed; another takes its place, and the sessions go on as before.
pub(super) async fn primary(
    group: &mut Group,
    seats: &mut Seats,
    stage: &Stage,
) -> Result<Verdict, Failure> {
    stage.heading("2. kill -9 of the primary (boston)");
    stage.line(
        "promise",
        &format!(
            "promised: the same sessions go on, no byte is lost, no pause is as long as {} s, and changes are accepted again by themselves",
            SHORT.as_secs()
        ),
    );
    let before = seats.shell.ask().await?;
    let api = group.machine(2).api();
    change(&api)
        .await
        .map_err(|why| failed("a change was not accepted before the failure", why))?;
    seats.bytes.listen_anew();
    seats.forget_events();
    let killed = Instant::now();
    let pid = group.machine(0).kill_server()?;
    stage.felt(
        "killed",
        &format!("boston: process {pid} killed"),
        json!({ "server": "boston" }),
    );
    eventually(
        Duration::from_secs(20),
        "changes to be accepted again",
        async || change(&api).await.ok(),
    )
    .await?;
    let changes_again = killed.elapsed();
    let new = primary_after_boston(group).await?;
    let words = format!(
        "{new} is primary; changes are accepted again {} ms after the kill",
        millis(changes_again)
    );
    stage.felt(
        "failover",
        &words,
        json!({ "primary": new, "outage_ms": millis(changes_again) }),
    );
    let (same, lost) = compare(&before, seats, stage).await?;
    let silence = seats.bytes.longest_silence();
    group.machine(0).serve().await?;
    stage.line("started", "boston: the server runs again, as a secondary");
    let quiet = seats.shell_seat.events().is_empty() && seats.bytes_seat.events().is_empty();
    Ok(Verdict {
        failure: "primary killed".to_owned(),
        felt: format!(
            "{}; changes waited {} ms",
            if quiet {
                "no path was lost"
            } else {
                "a path was lost and replaced"
            },
            millis(changes_again)
        ),
        longest_ms: millis(silence),
        bytes_lost: lost_words(lost),
        kept: same && lost == Some(0) && silence < SHORT && changes_again < CHANGES_AGAIN,
    })
}

/// The server that took boston's place, as denver sees it.
async fn primary_after_boston(group: &Group) -> Result<String, Failure> {
    eventually(Duration::from_secs(10), "the new primary", async || {
        let [.., denver] = &group.machines;
        denver.primary().await.filter(|name| name != "boston")
    })
    .await
}

/// The whole host hangs and is gone: its sessions are lost, and said to be; new ones start elsewhere by themselves.
pub(super) async fn host(
    group: &mut Group,
    seats: &mut Seats,
    stage: &Stage,
) -> Result<Verdict, Failure> {
    stage.heading("3. loss of the host (denver), with everything that runs on it");
    stage.line("promise", "promised: the loss is said plainly, and the user is served again elsewhere without logging in");
    let before = seats.shell.ask().await?;
    let intact = seats.bytes.settle().await?.lost() == Some(0);
    let count = group.machine(2).freeze();
    let words = format!(
        "denver: all its {count} processes are stopped at once, as when a machine hangs; nobody is told"
    );
    stage.felt(
        "killed",
        &words,
        json!({ "server": "denver", "processes": count }),
    );
    let said = seats.shell_seat.until("the session is lost", is_lost).await;
    let shell = seats
        .shell_seat
        .until("there is a new session", is_moved)
        .await?;
    let bytes = seats
        .bytes_seat
        .until("there is a new session", is_moved)
        .await?;
    group.machine(2).kill_everything();
    stage.line("gone", "denver: killed for good");
    let outage = outage(shell, bytes);
    let (outage, to) =
        outage.ok_or_else(|| failed("the demo misread its client", "moved was expected"))?;
    seats.shell = Shell::new(seats.shell_seat.viewer().await?);
    seats.bytes = Bytes::start(seats.bytes_seat.viewer().await?);
    let after = seats.shell.remember("again").await?;
    seats.bytes.flows(SOME).await?;
    let settled = seats.bytes.settle().await?;
    let flows = settled.lost() == Some(0);
    let words = format!(
        "a new shell on {to} (process {} instead of {}), and bytes flow",
        after.process, before.process
    );
    stage.felt(
        "verified",
        &words,
        json!({ "host": to, "bytes_flow": flows }),
    );
    Ok(Verdict {
        failure: "host lost".to_owned(),
        felt: format!("sessions lost, new ones on {to}"),
        longest_ms: outage,
        bytes_lost: "with the host".to_owned(),
        kept: said.is_ok()
            && intact
            && flows
            && after.word == "again"
            && u128::from(outage) < MOVED.as_millis(),
    })
}

/// Whether it is still the same shell, and how many bytes were lost; none when they differ.
async fn compare(
    before: &Said,
    seats: &mut Seats,
    stage: &Stage,
) -> Result<(bool, Option<u64>), Failure> {
    seats.bytes.flows(SOME).await?;
    let settled = seats.bytes.settle().await?;
    let after = seats.shell.ask().await?;
    let same = after == *before;
    let lost = settled.lost();
    stage.felt(
        "verified",
        &verified(same, settled.back, lost),
        json!({ "same_shell": same, "bytes": settled.back }),
    );
    Ok((same, lost))
}

/// The longer outage of both, and where the new sessions are.
fn outage(shell: Event, bytes: Event) -> Option<(u64, String)> {
    match (shell, bytes) {
        (
            Event::Moved {
                outage_ms: shell,
                to,
                ..
            },
            Event::Moved {
                outage_ms: bytes, ..
            },
        ) => Some((shell.max(bytes), to)),
        _ => None,
    }
}

fn is_resumed(event: &Event) -> bool {
    matches!(event, Event::Resumed { .. })
}

fn is_lost(event: &Event) -> bool {
    matches!(event, Event::SessionLost { .. })
}

fn is_moved(event: &Event) -> bool {
    matches!(event, Event::Moved { .. })
}

fn resumed_after(event: Event) -> u64 {
    if let Event::Resumed { outage_ms, .. } = event {
        outage_ms
    } else {
        0
    }
}

/// Makes a small change of the group.
async fn change(api: &Api) -> Result<(), String> {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(301);
    let value = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let call = Call {
        method: Method::PUT,
        path: "/v1/settings/sessions.start-retry",
        body: Some(json!({ "value": format!("{value}s") })),
        headers: Vec::new(),
    };
    api.request(call)
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn lost_words(lost: Option<u64>) -> String {
    lost.map_or_else(|| "bytes differ".to_owned(), |lost| lost.to_string())
}

fn verified(same: bool, bytes: u64, lost: Option<u64>) -> String {
    let shell = if same {
        "the same shell, and it remembers"
    } else {
        "NOT the same shell"
    };
    let megabytes = bytes / 1_000_000;
    match lost {
        Some(lost) => format!("{shell}; {megabytes} MB out and back compared, {lost} bytes lost"),
        None => format!("{shell}; {megabytes} MB out and back compared: BYTES DIFFER"),
    }
}
