//! What every rotation of keys does: it is asked for, and then the members are waited for a while.

use super::TrustView;
use crate::cli::Context;
use crate::door::{Door, Method};
use crate::errors::Failure;
use serde::Serialize;
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(200);

/// A rotation of something that members have to confirm.
pub(super) struct Rotating {
    /// What was not done, where it fails.
    pub(super) what: &'static str,
    /// Where it is asked for.
    pub(super) path: &'static str,
    /// What is waited for, in words.
    pub(super) waiting: &'static str,
    /// How long, before the command says how far the members are.
    pub(super) patience: Duration,
    /// Whether it is still waited for.
    pub(super) under_way: fn(&TrustView) -> bool,
}

impl Rotating {
    /// Asks for it, or only how it stands, and waits a while for it to be over; how it stands then.
    pub(super) async fn ask(
        self,
        context: &Context,
        door: &Door,
        request: &impl Serialize,
        dry_run: bool,
    ) -> Result<TrustView, Failure> {
        let Self {
            what,
            path,
            waiting,
            patience,
            under_way,
        } = self;
        let asked = match dry_run {
            true => format!("{path}?dry_run=true"),
            false => path.to_owned(),
        };
        let mut trust: TrustView = door.send(what, Method::Post, &asked, request).await?;
        if dry_run {
            return Ok(trust);
        }
        let waiting = context.output.progress(waiting);
        let patience = Instant::now() + patience;
        while under_way(&trust) && Instant::now() < patience {
            tokio::time::sleep(LOOK).await;
            trust = door.get(what, "/v1/trust").await?;
        }
        drop(waiting);
        Ok(trust)
    }
}
