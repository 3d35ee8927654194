//! `/v1/audit`: who changed what, from where, when, and what there was before and after. No password and no secret is in it.

use super::author_in_words;
use super::bodies::{AuditEntry, rfc3339};
use super::contents;
use super::extract::Asked;
use super::pages;
use super::problem::Problem;
use crate::node::Node;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use model::audit::About;
use model::{Audited, Author, Directory};
use serde::Deserialize;

/// Which entries are meant.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only what this account did; `root` for the command line on the servers themselves.
    who: Option<String>,
    /// Only what was done to this: `user:ann`, or `user` for all accounts.
    subject: Option<String>,
    /// From this place in the log on, oldest first.
    from: Option<u64>,
    /// The newest so many instead, 1 to 1000.
    last: Option<u32>,
    /// How many at most, 1 to 1000.
    limit: Option<u32>,
}

impl Which {
    fn fits(&self, directory: &Directory, entry: &Audited) -> bool {
        let by = |who: &str| match &entry.author {
            Author::User { name, .. } => name.as_str() == who,
            Author::Local { uid, .. } => *uid == 0 && who == "root",
            Author::Server(id) => directory.name_of(*id) == who,
        };
        let about = |wanted: &str| {
            let subject = subject(directory, entry);
            let kind = subject.split(':').next();
            subject == wanted || kind == Some(wanted)
        };
        self.who.as_deref().is_none_or(by) && self.subject.as_deref().is_none_or(about)
    }
}

/// Lists the newest changes that people made, or all from a place on.
#[utoipa::path(get, path = "/v1/audit", tag = "events", params(Which),
    responses((status = 200, body = Vec<AuditEntry>, headers(("Link" = String, description = "The address of the next page, rel=\"next\""))), (status = 422, body = Problem)))]
pub(super) async fn list(
    State(node): State<Node>,
    uri: Uri,
    Asked(which): Asked<Which>,
) -> Result<Response, Problem> {
    let directory = node.directory();
    let fits = |entry: &&std::sync::Arc<Audited>| which.fits(&directory, entry);
    let Some(from) = which.from else {
        let count = pages::size("last", which.last.or(which.limit))?;
        let newest = directory.audited_back().filter(fits).take(count);
        let mut entries: Vec<_> = newest.map(|entry| shown(&directory, entry)).collect();
        entries.reverse();
        return Ok(Json(entries).into_response());
    };
    let limit = pages::size("limit", which.limit)?;
    let (page, more) = pages::take(directory.audited_from(from).filter(fits), limit);
    let next = more.map(|entry| ("from", entry.seq.to_string()));
    let page: Vec<_> = page
        .into_iter()
        .map(|entry| shown(&directory, entry))
        .collect();
    Ok(pages::answer(page, &uri, next))
}

fn shown(directory: &Directory, entry: &Audited) -> AuditEntry {
    let value = |content: &Option<_>| content.as_ref().map(|one| contents::value(directory, one));
    let fields = entry.fields.iter();
    AuditEntry {
        id: entry.seq,
        at: rfc3339(entry.at),
        who: author_in_words(&entry.author, directory),
        from: match &entry.author {
            Author::User { from, .. } => from.clone(),
            Author::Local { server, .. } => {
                format!("local socket of {}", directory.name_of(*server))
            }
            Author::Server(server) => directory.name_of(*server),
        },
        action: entry.action.as_str().to_owned(),
        subject: subject(directory, entry),
        before: value(&entry.before),
        after: value(&entry.after),
        details: fields
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    }
}

fn subject(directory: &Directory, entry: &Audited) -> String {
    match &entry.about {
        About::Record(subject) => contents::name(directory, subject, [&entry.after, &entry.before]),
        other => other.to_string(),
    }
}
