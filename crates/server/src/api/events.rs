//! `/v1/events`: the journal, as a list and as a stream of server-sent events.
//!
//! Always true: a stream sends every entry that fits once, in order; `Last-Event-ID` goes on behind the entry that a
//! client had, at any server.

use super::bodies::{Event, EventKindInfo};
use super::extract::Asked;
use super::pages;
use super::problem::Problem;
use super::show;
use crate::node::Node;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use model::settings::value::nearest;
use model::{Directory, EventKind, Severity};
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often a silent stream says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Which events are meant.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only of this kind.
    kind: Option<String>,
    /// Only what matters at least so much: `info`, `warning` or `error`.
    severity: Option<String>,
    /// Only what happened to this.
    subject: Option<String>,
    /// From this place in the journal on, oldest first.
    from: Option<u64>,
    /// The newest so many instead, 1 to 1000.
    last: Option<u32>,
    /// How many at most, 1 to 1000.
    limit: Option<u32>,
}

#[derive(Debug, Clone)]
struct Filter {
    kind: Option<EventKind>,
    severity: Severity,
    subject: Option<String>,
}

impl Which {
    fn filter(&self) -> Result<Filter, Problem> {
        Ok(Filter {
            kind: self.kind.as_deref().map(kind).transpose()?,
            severity: self
                .severity
                .as_deref()
                .map_or(Ok(Severity::Info), severity)?,
            subject: self.subject.clone(),
        })
    }
}

fn kind(word: &str) -> Result<EventKind, Problem> {
    EventKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == word)
        .ok_or_else(|| {
            let problem = Problem::invalid(format!("{word:?} is no kind of event"));
            match nearest(word, EventKind::ALL.map(EventKind::as_str)) {
                Some(near) => problem.remedy(format!(
                    "the nearest is {near}; `stead event kinds` lists all"
                )),
                None => problem,
            }
        })
}

fn severity(word: &str) -> Result<Severity, Problem> {
    let all = [Severity::Info, Severity::Warning, Severity::Error];
    let found = all.into_iter().find(|severity| severity.as_str() == word);
    found.ok_or_else(|| {
        Problem::invalid(format!(
            "{word:?} is no severity: severities are info, warning and error"
        ))
    })
}

impl Filter {
    fn fits(&self, event: &model::Event) -> bool {
        self.kind.is_none_or(|kind| event.kind == kind)
            && event.severity >= self.severity
            && self
                .subject
                .as_deref()
                .is_none_or(|subject| event.subject == subject)
    }
}

/// Lists the newest events, or all from a place on; as a stream where `Accept: text/event-stream` asks for one.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(Which),
    responses((status = 200, content((Vec<Event> = "application/json"), (Event = "text/event-stream"))), (status = 422, body = Problem)))]
pub(super) async fn list(
    State(node): State<Node>,
    uri: Uri,
    headers: HeaderMap,
    Asked(which): Asked<Which>,
) -> Result<Response, Problem> {
    let filter = which.filter()?;
    if wants_stream(&headers) {
        return follow(&node, &headers, &which, filter);
    }
    let directory = node.directory();
    let Some(from) = which.from else {
        let count = pages::size("last", which.last.or(which.limit))?;
        return Ok(Json(newest(&directory, &filter, count)).into_response());
    };
    let limit = pages::size("limit", which.limit)?;
    let fitting = directory
        .events_from(from)
        .filter(|event| filter.fits(event));
    let (page, more) = pages::take(fitting, limit);
    let next = more.map(|event| ("from", event.seq.to_string()));
    let page: Vec<Event> = page
        .into_iter()
        .map(|event| show::event(&directory, event))
        .collect();
    Ok(pages::answer(page, &uri, next))
}

fn newest(directory: &Directory, filter: &Filter, count: usize) -> Vec<Event> {
    let fitting = directory
        .events_back()
        .filter(|event| filter.fits(event))
        .take(count);
    let mut events: Vec<Event> = fitting.map(|event| show::event(directory, event)).collect();
    events.reverse();
    events
}

/// Lists the kinds of events.
#[utoipa::path(get, path = "/v1/events/kinds", tag = "events", responses((status = 200, body = Vec<EventKindInfo>)))]
pub(super) async fn kinds() -> Json<Vec<EventKindInfo>> {
    let info = |kind: EventKind| EventKindInfo {
        name: kind.as_str().to_owned(),
        help: kind.help().to_owned(),
    };
    Json(EventKind::ALL.into_iter().map(info).collect())
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    accepted.split(',').any(|kind| {
        kind.split(';')
            .next()
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
    })
}

fn follow(
    node: &Node,
    headers: &HeaderMap,
    which: &Which,
    filter: Filter,
) -> Result<Response, Problem> {
    let last = headers.get("last-event-id").map(|value| {
        let seq = value
            .to_str()
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok());
        seq.ok_or_else(|| Problem::invalid("Last-Event-ID is the id of an earlier event"))
    });
    let next = match last.transpose()? {
        Some(last) => last.saturating_add(1),
        None => which
            .from
            .unwrap_or_else(|| node.directory().group().last_event.saturating_add(1)),
    };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("alive");
    Ok(Sse::new(messages(node, next, filter))
        .keep_alive(keep_alive)
        .into_response())
}

/// What a stream has still to send.
struct Following {
    node: Node,
    changed: watch::Receiver<u64>,
    next: u64,
    filter: Filter,
    ready: std::vec::IntoIter<Event>,
}

fn messages(
    node: &Node,
    next: u64,
    filter: Filter,
) -> impl Stream<Item = Result<Message, Infallible>> + use<> {
    let following = Following {
        node: node.clone(),
        changed: node.journal_changed(),
        next,
        filter,
        ready: Vec::new().into_iter(),
    };
    stream::unfold(following, |mut following| async move {
        let event = following.next_event().await?;
        let message = Message::default()
            .id(event.seq.to_string())
            .event(event.kind.clone());
        let message = message
            .json_data(&event)
            .unwrap_or_else(|_| Message::default().comment("an event that has no JSON form"));
        Some((Ok(message), following))
    })
}

impl Following {
    /// Waits for the next event that fits; none when the server stops.
    async fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.next() {
                return Some(event);
            }
            self.changed.borrow_and_update();
            if !self.gather() {
                self.changed.changed().await.ok()?;
            }
        }
    }

    /// Takes a bounded step through the journal; whether there was anything new.
    fn gather(&mut self) -> bool {
        let directory = self.node.directory();
        let limit = usize::try_from(pages::LIMIT).unwrap_or(1);
        let step: Vec<&Arc<model::Event>> = directory.events_from(self.next).take(limit).collect();
        let Some(last) = step.last() else {
            return false;
        };
        self.next = last.seq.saturating_add(1);
        let fitting = step.into_iter().filter(|event| self.filter.fits(event));
        self.ready = fitting
            .map(|event| show::event(&directory, event))
            .collect::<Vec<_>>()
            .into_iter();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_a_stream() {
        let with = |accept: &'static str| {
            HeaderMap::from_iter([(header::ACCEPT, axum::http::HeaderValue::from_static(accept))])
        };
        assert!(wants_stream(&with("text/event-stream")));
        assert!(wants_stream(&with(
            "application/json, text/event-stream;q=0.5"
        )));
        assert!(!wants_stream(&with("*/*")) && !wants_stream(&HeaderMap::new()));
    }

    #[test]
    fn words_are_checked() {
        assert_eq!(kind("failover").unwrap(), EventKind::Failover);
        assert!(
            kind("failovr")
                .unwrap_err()
                .remedy
                .unwrap()
                .contains("failover")
        );
        assert!(severity("bad").is_err());
        assert_eq!(pages::size("last", None).unwrap(), 1000);
    }
}
