//! Judges where sessions go, what becomes of those that are moved, and drains: told from the design, and not taken from the code
//! that is judged.
//!
//! Start at [`placed`] and [`one_change`].

use super::{Broken, Invariant, broken};
use crate::hosting::Question;
use model::{
    Directory, EndReason, EventKind, OnDrain, Server, ServerId, Session, SessionId, SessionState,
    UnixMillis,
};

/// Judges a placement; `fit` are those that are reached and report.
pub(crate) fn placed(
    directory: &Directory,
    question: &Question<'_>,
    fit: &[ServerId],
    chosen: Option<ServerId>,
) -> Result<(), Broken> {
    let left = question.leaving.map(|session| session.host);
    let may = |id: &ServerId| {
        let server = directory.server(*id);
        let hosts = server.is_some_and(|server| server.standing.hosts());
        hosts && Some(*id) != left && question.asked.is_none_or(|asked| asked == *id)
    };
    let able: Vec<ServerId> = fit.iter().copied().filter(may).collect();
    let is_online = |id: &&ServerId| directory.server(**id).is_some_and(|it| it.mode.is_online());
    let online = able.iter().find(is_online);
    let by_name = question.asked.is_some();
    let right = match chosen {
        Some(chosen) if !by_name && online.is_some() => {
            able.contains(&chosen) && is_online(&&chosen)
        }
        // By name, or because there is nobody else.
        Some(chosen) => (by_name || !question.online_only) && may(&chosen),
        None => online.is_none() && (question.online_only || able.is_empty()),
    };
    if right {
        return Ok(());
    }
    let chosen = chosen.map(|chosen| directory.name_of(chosen));
    let seen = format!(
        "a session goes to {chosen:?}; asked for {:?}, from {left:?}, online only {}: {able:?} can, of them {online:?} is online",
        question.asked, question.online_only
    );
    broken(Invariant::Placed, seen)
}

/// Judges what one change made of sessions and drains.
pub(super) fn one_change(before: &Directory, after: &Directory) -> Result<(), Broken> {
    for (was, is) in after.session_changes_since(before) {
        let Some(is) = is else { continue };
        match is.reason.as_deref() {
            Some(EndReason::Moved { to, .. }) if was.is_some_and(|was| was.is_live()) => {
                let current = was.is_some_and(|was| was.current);
                moved(is, after.session(*to).map(|new| &**new), current)?;
            }
            _ => {}
        }
        // One that its host registers runs already.
        let made = was.is_none() && is.state == SessionState::Starting;
        if made && is.current {
            took_over(before, after, is)?;
        }
    }
    for server in after.servers() {
        let finished = |server: &Server| server.mode.drain().and_then(|(it, _)| it.finished);
        let was = before.server(server.id).and_then(|server| finished(server));
        if let (None, Some(_), Some((_, since))) = (was, finished(server), server.mode.drain()) {
            drained(before, after, server, since)?;
        }
    }
    Ok(())
}

/// Another one, on another server, is there in its place.
fn moved(left: &Session, new: Option<&Session>, current: bool) -> Result<(), Broken> {
    let same = |new: &Session| {
        (&new.token, &new.user, &new.app) == (&left.token, &left.user, &left.app)
            && new.host != left.host
            && new.is_live()
            && new.current == current
            && !left.current
    };
    if new.is_some_and(same) {
        return Ok(());
    }
    let seen = format!("{left:?} was moved, current {current}, and there is {new:?}");
    broken(Invariant::Moved, seen)
}

/// Only one that nobody reaches, or that ended, gives way to a new one.
fn took_over(before: &Directory, after: &Directory, new: &Session) -> Result<(), Broken> {
    let Some(old) = before.current_session(&new.token, &new.app) else {
        return Ok(());
    };
    let goes_on = after.session(old.id).is_some_and(|now| now.is_live());
    if !old.is_reachable() || !goes_on {
        return Ok(());
    }
    let seen = format!("{new:?} took the place of {old:?}, which was reached");
    broken(Invariant::OneSession, seen)
}

/// Nothing that was to be moved is left, and the event says what happened.
fn drained(
    before: &Directory,
    after: &Directory,
    server: &Server,
    since: UnixMillis,
) -> Result<(), Broken> {
    let left = to_move(before, server, since);
    let here = || after.sessions().filter(|session| session.host == server.id);
    let by_move = |it: &Session| {
        let moved = matches!(it.reason.as_deref(), Some(EndReason::Moved { .. }));
        moved && it.ended >= Some(since)
    };
    let moved = here().filter(|it| by_move(it)).count().to_string();
    let by_application = |it: &Session| {
        let keeps = after.app(&it.app).map(|app| app.on_drain) == Some(OnDrain::Keep);
        it.is_live() && it.created <= since && keeps
    };
    let kept = here().filter(|it| by_application(it)).count().to_string();
    let event = after
        .events_back()
        .find(|event| event.kind == EventKind::ServerDrained);
    let says =
        |name: &str, count: &str| event.is_some_and(|event| event.fields.get(name) == Some(count));
    if left == 0 && says("moved", &moved) && says("kept", &kept) {
        return Ok(());
    }
    let name = &server.name;
    let seen =
        format!("{name} was drained with {left} left, {moved} moved, {kept} kept: {event:?}");
    broken(Invariant::Drained, seen)
}

/// Judges that a server that answers with a session has it.
pub(crate) fn answered(
    directory: &Directory,
    by: ServerId,
    session: SessionId,
) -> Result<(), Broken> {
    if directory.session(session).is_some() {
        return Ok(());
    }
    broken(
        Invariant::Answered,
        format!("{by} answered with {session} and lacks it"),
    )
}

/// How many sessions a drain that began then has to move.
pub(crate) fn to_move(directory: &Directory, server: &Server, since: UnixMillis) -> usize {
    let concerned = directory.sessions().filter(|session| {
        let app = directory.app(&session.app);
        let moves = app.is_some_and(|app| app.on_drain == OnDrain::Move);
        session.host == server.id && session.is_reachable() && session.created <= since && moves
    });
    concerned.count()
}
