//! From one formation into another: asking for room, going, and making room for others, as in the daemon.

use crate::calls::{not_primary, unfit};
use crate::checks;
use crate::server::Server;
use model::{FormationId, IncarnationId, Reason, ServerId, Side};
use policy::formations::room;
use replica::Threshold;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use wire::control::{Answer, Failure, Request};

/// As in the daemon.
const ROOM_LIMIT: Duration = Duration::from_secs(5);

/// A formation to enter.
#[derive(Debug, Clone)]
pub(crate) struct Entering {
    pub(crate) formation: FormationId,
    pub(crate) primary: ServerId,
    pub(crate) gives_way: bool,
    pub(crate) by_hand: bool,
    pub(crate) reasons: Vec<Reason>,
}

/// Holds the mark that a server is leaving, so that it makes no room for others meanwhile.
struct Mark<'a>(&'a Server);

impl<'a> Mark<'a> {
    fn set(server: &'a Server) -> Self {
        server.marks.leaving.store(true, Ordering::Relaxed);
        Self(server)
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.0.marks.leaving.store(false, Ordering::Relaxed);
    }
}

/// Leaves the present formation for another.
pub(crate) async fn enter(server: &Arc<Server>, entering: Entering) -> Result<(), Failure> {
    let Entering {
        formation, primary, ..
    } = entering;
    let _mark = Mark::set(server);
    not_to_a_stranger(server, primary)?;
    let request = Request::Enter {
        side: Box::new(server.side()),
        formation,
        gives_way: entering.gives_way,
        by_hand: entering.by_hand,
    };
    let threshold = match server.call(primary, request, ROOM_LIMIT).await {
        Ok(Answer::Room { term, number }) => Threshold {
            term,
            primary,
            number,
        },
        Ok(Answer::Failed(failure)) => return Err(failure),
        Ok(_) | Err(_) => return Err(unfit("its primary does not answer")),
    };
    not_to_a_stranger(server, primary)?;
    let incarnation = server.fresh_id(IncarnationId::from_bytes);
    let before = server.formation_words();
    let why = entering.reasons.first();
    let why = why.map_or_else(String::new, |reason| reason.detail.clone());
    let replica = &server.replica;
    if let Err(error) = replica.enter(formation, incarnation, threshold).await {
        return Err(unfit(error.to_string()));
    }
    server.replica.speak();
    let how = match (entering.gives_way, entering.by_hand) {
        (true, true) => "gives way by hand",
        (true, false) => "gives way",
        (false, _) => "goes along",
    };
    let to = crate::fixture::number_of(primary);
    server.say(format!("{how}: from {before} to that of {to}: {why}"));
    Ok(())
}

fn not_to_a_stranger(server: &Server, primary: ServerId) -> Result<(), Failure> {
    let state = server.replica.state();
    let stranger = room::stranger(server.directory(&state), primary);
    stranger.map_or(Ok(()), |why| Err(unfit(why.detail)))
}

/// Makes room for a server that leaves its formation for this one.
pub(crate) async fn let_in(
    server: &Arc<Server>,
    from: ServerId,
    side: &Side,
    formation: FormationId,
    how: (bool, bool),
) -> Result<Threshold, Failure> {
    let (gives_way, by_hand) = how;
    let acting = server.acts(&server.replica.acting());
    if !acting || server.replica.formation() != formation {
        return Err(not_primary());
    }
    let state = server.replica.state();
    let directory = server.directory(&state);
    if directory.server(from).is_none() {
        return Err(unfit("it is no member of this formation"));
    }
    if server.is_leaving() {
        return Err(unfit("this formation is giving way itself"));
    }
    let decides = gives_way && !by_hand;
    let (own, sides) = (server.side(), server.sides());
    if decides && let Some(why) = room::refusal(&own, &sides, side) {
        return Err(unfit(why.detail));
    }
    if decides {
        server.scene.judge(checks::gives_way(side, &own));
    }
    let made = server.replica.make_room(from, ROOM_LIMIT).await;
    let threshold = made.map_err(|error| unfit(error.to_string()))?;
    let state = server.replica.state();
    let rule = server.directory(&state).settings().primary_return();
    let mut inside = server.inside();
    inside.note_incarnation(from, side.incarnation);
    if decides && room::succeeds(formation, side, rule) {
        inside.known.successor = Some(from);
    }
    Ok(threshold)
}

/// An administrator wants another formation to stand.
pub(crate) async fn give_way(
    server: &Arc<Server>,
    to: FormationId,
    primary: ServerId,
) -> Result<(), Failure> {
    let why = Reason {
        rule: "by-hand".to_owned(),
        pass: true,
        detail: "an administrator decided so".to_owned(),
    };
    let entering = Entering {
        formation: to,
        primary,
        gives_way: true,
        by_hand: true,
        reasons: vec![why],
    };
    enter(server, entering).await
}
