//! Clients of the tunnel by the thousand, in a process of their own: `bench crowd`, with a [`Plan`] on standard input.
//!
//! Each is what `stead connect` is, with a viewer of its own, which asks a question through the tunnel and reads the answer, stays, and
//! connects again when its connection is closed because the session was lost. What happens is told on standard output, a line each.

use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use client::connect::{Event, Local};
use client::{Connect, Fingerprint};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use wire::client::{Credential, Hidden};

/// What the program is called with to be this one.
pub(crate) const WORD: &str = "crowd";
/// Bytes of a question and of its answer.
const QUESTION: usize = 64;
/// The pause of a viewer that was not let in.
const AGAIN: Duration = Duration::from_millis(20);

/// Which clients, and whose.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Servers of the group.
    pub(crate) servers: Vec<String>,
    /// The fingerprint of its authority.
    pub(crate) ca: String,
    /// The application.
    pub(crate) app: String,
    /// Who logs in.
    pub(crate) user: String,
    /// With what.
    pub(crate) password: String,
    /// The number of the first client; its token is made of it.
    pub(crate) first: usize,
    /// How many.
    pub(crate) clients: usize,
}

/// Something that happened to a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Told {
    /// Its viewer has an answer.
    Served {
        client: usize,
        /// By [`micros`].
        at: u64,
        host: String,
    },
    /// Its viewer's connection was closed.
    Lost { client: usize },
    /// It is no client any more.
    GaveUp { client: usize, why: String },
}

/// Microseconds of a clock that is the same in all processes.
pub(crate) fn micros() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000
}

/// Is that crowd until standard input ends.
///
/// # Errors
/// When the plan makes no sense.
pub(crate) fn run() -> Result<()> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let plan: Plan = serde_json::from_str(&line).context("the plan")?;
    let ca: Fingerprint = plan.ca.parse()?;
    let (tell, mut told) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut out = std::io::stdout().lock();
        while let Some(news) = told.blocking_recv() {
            let line = serde_json::to_string(&news).unwrap_or_default();
            // Whoever started this is gone; the end of standard input says so, too.
            let _ = writeln!(out, "{line}");
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        for client in plan.first..plan.first + plan.clients {
            let connect = Connect {
                servers: plan.servers.clone(),
                ca,
                token: format!("card.{client:05}").parse()?,
                app: Some(plan.app.parse()?),
                credential: Credential::Password {
                    user: Some(plan.user.parse()?),
                    password: Hidden(plan.password.clone()),
                },
                local: Local::Listen(SocketAddr::from(([127, 0, 0, 1], 0))),
                patience: Duration::MAX,
            };
            tokio::spawn(live(client, connect, tell.clone()));
        }
        let mut rest = Vec::new();
        tokio::io::stdin().read_to_end(&mut rest).await?;
        anyhow::Ok(())
    })?;
    runtime.shutdown_background();
    Ok(())
}

/// The life of one client.
async fn live(client: usize, connect: Connect, tell: mpsc::UnboundedSender<Told>) {
    let (events, happened) = mpsc::unbounded_channel();
    let why = tokio::select! {
        end = connect.run(events) => format!("{end:?}"),
        why = view(client, happened, &tell) => why,
    };
    let _ = tell.send(Told::GaveUp { client, why });
}

/// The life of its viewer.
async fn view(
    client: usize,
    mut happened: mpsc::UnboundedReceiver<Event>,
    tell: &mpsc::UnboundedSender<Told>,
) -> String {
    let Some(Event::Ready {
        listen, mut host, ..
    }) = happened.recv().await
    else {
        return std::future::pending().await;
    };
    loop {
        let asked = async {
            let mut viewer = TcpStream::connect(&listen).await?;
            viewer.write_all(b"E").await?;
            viewer.write_all(&[7; QUESTION]).await?;
            viewer.read_exact(&mut [0; QUESTION]).await?;
            std::io::Result::Ok(viewer)
        };
        let Ok(mut viewer) = asked.await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        while let Ok(event) = happened.try_recv() {
            if let Event::Moved { to, .. } = event {
                host = to;
            }
        }
        let (at, on) = (micros(), host.clone());
        let _ = tell.send(Told::Served {
            client,
            at,
            host: on,
        });
        // Nothing comes but the end.
        let _end = viewer.read_u8().await;
        let _ = tell.send(Told::Lost { client });
    }
}
