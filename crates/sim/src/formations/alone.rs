//! Going on without the primary: what must answer first, making the formation, and how long one that counts alone may act, as
//! in the daemon.

use crate::calls::unfit;
use crate::checks;
use crate::fixture::tie_breaker;
use crate::planted::Planted;
use crate::server::Server;
use model::{Cause, FormationId, FormationRef, ServerId};
use policy::formations::own;
use replica::{Founding, Moment, SwitchError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::sleep;
use wire::control::Failure;

/// How long the fence command takes here.
const FENCE: Duration = Duration::from_millis(300);
/// As in the daemon.
const FIRST_LOOK: Duration = Duration::from_millis(10);

/// Goes on without the primary, if nothing forbids it.
pub(super) async fn go_on_alone(server: &Arc<Server>, lost: Option<ServerId>) {
    let begun = server.scene.now();
    let passed = may_act_alone(server).await;
    // The way was long: the primary may be back, or another may have been quicker.
    let led = server.side().primary.is_some();
    if !passed || led {
        if !passed && !server.marks.held.swap(true, Ordering::Relaxed) {
            server.say("may not go on without its primary".to_owned());
        }
        return;
    }
    if let Ok(made) = make(server, Cause::Island).await {
        let lost = lost.map_or(0, crate::fixture::number_of);
        let number = made.number;
        server.say(format!("goes on without {lost} in formation {number}"));
        server.scene.judge(checks::went_on_alone(server, begun));
    }
}

/// Goes back to the formation that it left, if nothing forbids it.
pub(super) async fn go_back_alone(server: &Arc<Server>, left: FormationRef) {
    let begun = server.scene.now();
    if !may_act_alone(server).await {
        if !server.marks.held.swap(true, Ordering::Relaxed) {
            server.say("may not go back".to_owned());
        }
        return;
    }
    if server.side().primary.is_none() && go_back(server).await.is_ok() {
        let number = left.number;
        server.say(format!("goes back to formation {number}"));
        server.scene.judge(checks::went_on_alone(server, begun));
    }
}

async fn go_back(server: &Server) -> Result<(), SwitchError> {
    server.replica.go_back().await?;
    server.replica.speak();
    Ok(())
}

async fn make(server: &Server, cause: Cause) -> Result<FormationRef, SwitchError> {
    let founding = Founding {
        id: server.fresh_id(FormationId::from_bytes),
        cause,
        made: server.scene.calendar(server.me),
    };
    let made = server.replica.fork(founding).await?;
    // It may have been silent in the formation before.
    server.replica.speak();
    Ok(made)
}

/// Makes a formation because an administrator said so.
pub(crate) async fn make_by_hand(server: &Arc<Server>, from: FormationId) -> Result<(), Failure> {
    let left = server.replica.left();
    let goes_back = left.is_some_and(|left| left.formation.id == from);
    if server.replica.formation() != from && !goes_back {
        return Err(unfit("this server is in another formation by now"));
    }
    server.ask_sides().await;
    if own::primary(server.me, &server.side(), &server.sides()).is_some() {
        return Err(unfit("a primary is there again"));
    }
    if goes_back {
        let gone_back = go_back(server).await;
        gone_back.map_err(|error| unfit(error.to_string()))?;
    }
    let made = make(server, Cause::ByHand).await;
    let made = made.map_err(|error| unfit(error.to_string()))?;
    let number = made.number;
    server.say(format!("makes formation {number} by hand"));
    Ok(())
}

/// Whether tie-breakers answer and the fence command succeeds, in this order.
async fn may_act_alone(server: &Server) -> bool {
    let state = server.replica.state();
    let settings = server.directory(&state).settings();
    let asks = !settings.tie_breakers().is_empty() && !server.scene.has(Planted::IslandUnasked);
    if asks && !server.plug.echo(tie_breaker()).await {
        return false;
    }
    if settings.fence_command().is_some() {
        sleep(FENCE).await;
        return server.scene.fence();
    }
    true
}

/// Lets this server act as long as it may, where it alone counts.
pub(super) async fn keep_guard(server: Arc<Server>) {
    let (begun, (_, last)) = (server.replica.formation(), server.replica.log_end());
    while server.replica.formation() == begun && server.replica.state().applied < last {
        sleep(FIRST_LOOK).await;
    }
    let mut guarded = false;
    loop {
        let pause = guard(&server, &mut guarded).await;
        sleep(pause).await;
    }
}

async fn guard(server: &Server, guarded: &mut bool) -> Duration {
    let removed = server.was_removed();
    // Those that follow it are no less members for that: they lose it, and go on without it, or go along with whoever acts elsewhere.
    server.replica.hush(removed);
    if removed {
        *guarded = true;
        server.replica.set_guard(Some(Moment::now()));
        return Duration::from_millis(500);
    }
    let state = server.replica.state();
    let directory = server.directory(&state);
    let Some(span) = own::guard(directory) else {
        *guarded = false;
        server.replica.set_guard(None);
        return Duration::from_millis(500);
    };
    if !std::mem::replace(guarded, true) {
        // Nothing was answered yet.
        server.replica.set_guard(Some(Moment::now()));
    }
    let begun = Moment::now();
    let mut others = directory.voters().filter(|other| other.id != server.me);
    let together = others.all(|other| server.hears(other.id));
    if together || server.plug.echo(tie_breaker()).await {
        server.replica.set_guard(Some(begun + span));
    }
    span / 4
}
