//! `/v1/group/divergences`: what formations that gave way had changed; shown three ways, applied or discarded by record.
//!
//! Always true: no password's hash goes out; what is applied passes the checks of the ordinary request too ([`checks`]). A formation is
//! named by its number, its id, or the beginning of its id.

mod checks;

use super::bodies::{
    self, DivergedRecord, DivergenceDecision, DivergenceRequest, RefusedRecord, rfc3339,
};
use super::caller::Caller;
use super::contents;
use super::extract::{Asked, Body, Named};
use super::group::DryRun;
use super::pages;
use super::problem::Problem;
use super::servers::checked_reason;
use crate::node::Node;
use crate::submit::SubmitError;
use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use model::settings::value::nearest;
use model::{
    Change, ChangeId, Command, Content, Directory, Diverged, Divergence, FormationId, Outcome,
    ServerId, Subject,
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Which page of the records is meant.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// How many at most, 1 to 1000.
    limit: Option<u32>,
    /// How many came before; from the `Link` header of the page before.
    cursor: usize,
}

/// Lists the formations that gave way and whose changes wait for a decision.
#[utoipa::path(get, path = "/v1/group/divergences", tag = "group", responses((status = 200, body = Vec<bodies::Divergence>)))]
pub(super) async fn list(State(node): State<Node>) -> Json<Vec<bodies::Divergence>> {
    let directory = node.directory();
    let mut found: Vec<_> = directory.divergences().collect();
    found.sort_by_key(|divergence| (divergence.formation.number, divergence.formation.id));
    let found = found.into_iter();
    Json(found.map(|one| shown(&directory, one)).collect())
}

/// Shows one of them.
#[utoipa::path(get, path = "/v1/group/divergences/{id}", tag = "group",
    params(("id" = String, Path, description = "Number, id, or the beginning of the id of the formation")),
    responses((status = 200, body = bodies::Divergence), (status = 404, body = Problem)))]
pub(super) async fn show(
    State(node): State<Node>,
    Named(id): Named<String>,
) -> Result<Json<bodies::Divergence>, Problem> {
    let directory = node.directory();
    let found = find(&directory, &id)?;
    Ok(Json(shown(&directory, left(found, &id)?)))
}

/// Lists its records: as they were at the fork, as they are here, and as the formation that gave way had them.
#[utoipa::path(get, path = "/v1/group/divergences/{id}/records", tag = "group",
    params(("id" = String, Path, description = "Number, id, or the beginning of the id of the formation"), Page),
    responses((status = 200, body = Vec<DivergedRecord>, headers(("Link" = String, description = "The address of the next page, rel=\"next\""))), (status = 404, body = Problem)))]
pub(super) async fn records(
    State(node): State<Node>,
    uri: Uri,
    Named(id): Named<String>,
    Asked(page): Asked<Page>,
) -> Result<Response, Problem> {
    let directory = node.directory();
    let formation = left(find(&directory, &id)?, &id)?.formation.id;
    let size = pages::size("limit", page.limit)?;
    let rest = directory.diverged(formation).skip(page.cursor);
    let (records, more) = pages::take(rest, size);
    let next = more.map(|_| ("cursor", (page.cursor + records.len()).to_string()));
    let records: Vec<DivergedRecord> = records
        .into_iter()
        .map(|record| three_ways(&directory, record))
        .collect();
    Ok(pages::answer(records, &uri, next))
}

/// Puts what the formation that gave way had in place of what is here, with the checks of an ordinary change.
#[utoipa::path(post, path = "/v1/group/divergences/{id}/apply", tag = "group",
    params(("id" = String, Path, description = "Number, id, or the beginning of the id of the formation"), DryRun), request_body = DivergenceRequest,
    responses((status = 200, body = DivergenceDecision, description = "Done as far as it can be; with dry_run what would come of it"),
        (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn apply(
    State(node): State<Node>,
    caller: Caller,
    Named(id): Named<String>,
    Asked(asked): Asked<DryRun>,
    Body(request): Body<DivergenceRequest>,
) -> Result<Json<DivergenceDecision>, Problem> {
    decide(&node, &caller, &id, asked.dry_run, request, true).await
}

/// Throws away what the formation that gave way had changed.
#[utoipa::path(post, path = "/v1/group/divergences/{id}/discard", tag = "group",
    params(("id" = String, Path, description = "Number, id, or the beginning of the id of the formation"), DryRun), request_body = DivergenceRequest,
    responses((status = 200, body = DivergenceDecision, description = "Done; with dry_run what would come of it"),
        (status = 404, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn discard(
    State(node): State<Node>,
    caller: Caller,
    Named(id): Named<String>,
    Asked(asked): Asked<DryRun>,
    Body(request): Body<DivergenceRequest>,
) -> Result<Json<DivergenceDecision>, Problem> {
    decide(&node, &caller, &id, asked.dry_run, request, false).await
}

async fn decide(
    node: &Node,
    caller: &Caller,
    id: &str,
    dry_run: bool,
    request: DivergenceRequest,
    apply: bool,
) -> Result<Json<DivergenceDecision>, Problem> {
    let reason = checked_reason(request.reason)?;
    let before = node.directory();
    let divergence = find(&before, id)?;
    let parts = parts(&before, divergence, &request.records, request.all)?;
    let mut trial = dry_run.then(|| Directory::clone(&before));
    let mut decision = DivergenceDecision {
        id: divergence.formation.id.to_string(),
        number: divergence.formation.number,
        done: 0,
        left: divergence.records,
        refused: Vec::new(),
    };
    let named = |subject: &Subject| name_of(&before, divergence.formation.id, subject);
    let whole = parts.len() == 1;
    let parts = match apply {
        false => parts.into_iter().map(|part| (part, false)).collect(),
        true => {
            let asked = checks::Asked {
                node,
                caller,
                directory: &before,
                formation: divergence.formation.id,
                reason: reason.as_deref(),
                dry_run,
            };
            let (fit, against) = checks::sift(&asked, parts).await?;
            let against = against.into_iter().map(|(subject, problem)| RefusedRecord {
                name: named(&subject),
                reason: in_words(problem),
            });
            decision.refused.extend(against);
            fit
        }
    };
    for (subjects, narrowed) in parts {
        let only = subjects.first().filter(|_| narrowed && subjects.len() == 1);
        let only = only.map(named);
        let command = command(divergence.formation.id, subjects, reason.clone(), apply);
        let outcome = match &mut trial {
            Some(trial) => tried(trial, node, caller, command),
            None => {
                // Part of a whole must not be answered with what another part came to when it is asked for again.
                let key = caller.change_id(0).filter(|_| whole);
                made(node, key, caller, command).await
            }
        };
        note(&mut decision, outcome, only, named)?;
    }
    Ok(Json(decision))
}

/// Notes what came of a part; `only` is the one record that was left of it.
fn note(
    decision: &mut DivergenceDecision,
    outcome: Result<Outcome, SubmitError>,
    only: Option<String>,
    named: impl Fn(&Subject) -> String,
) -> Result<(), Problem> {
    match (outcome, only) {
        // It was not asked for alone: the others are told of too.
        (Err(SubmitError::Refused(refusal)), Some(name)) => {
            let reason = refusal.to_string();
            decision.refused.push(RefusedRecord { name, reason });
        }
        (Err(error), _) => return Err(error.into()),
        (
            Ok(Outcome::Divergence {
                done,
                left,
                refused,
            }),
            _,
        ) => {
            decision.done += done;
            decision.left = left;
            let refused = refused.into_iter().map(|(subject, refusal)| RefusedRecord {
                name: named(&subject),
                reason: refusal.to_string(),
            });
            decision.refused.extend(refused);
        }
        (Ok(_), _) => {}
    }
    Ok(())
}

fn command(
    formation: FormationId,
    subjects: Vec<Subject>,
    reason: Option<String>,
    apply: bool,
) -> Command {
    match apply {
        true => Command::ApplyDiverged {
            formation,
            subjects,
            reason,
        },
        false => Command::DiscardDiverged {
            formation,
            subjects,
            reason,
        },
    }
}

/// What would come of it, found out on a copy.
fn tried(
    trial: &mut Directory,
    node: &Node,
    caller: &Caller,
    command: Command,
) -> Result<Outcome, SubmitError> {
    let change = Change {
        id: ChangeId::from_bytes(crate::random::bytes()?),
        at: node.now(),
        author: caller.author.clone(),
        command,
    };
    let number = trial.group().number + 1;
    trial
        .apply(number, &change)
        .outcome
        .map_err(SubmitError::Refused)
}

async fn made(
    node: &Node,
    key: Option<ChangeId>,
    caller: &Caller,
    command: Command,
) -> Result<Outcome, SubmitError> {
    let applied = node.submit(key, caller.author.clone(), command).await?;
    applied.outcome.map_err(SubmitError::Refused)
}

fn in_words(problem: Problem) -> String {
    match problem.remedy {
        Some(remedy) => format!("{} ({remedy})", problem.detail),
        None => problem.detail,
    }
}

/// The subjects that are meant, in pieces that fit into one change; an empty piece stands for all that are left.
fn parts(
    directory: &Directory,
    divergence: &Divergence,
    names: &[String],
    all: bool,
) -> Result<Vec<Vec<Subject>>, Problem> {
    if all != names.is_empty() {
        return Err(Problem::invalid(
            "either records are named, or all are meant: one of both, and not both",
        ));
    }
    let formation = divergence.formation.id;
    if !all {
        let known: BTreeMap<String, &Subject> = directory
            .diverged(formation)
            .map(|record| (record_name(directory, record), &record.subject))
            .collect();
        let subjects = names.iter().map(|name| subject(directory, &known, name));
        return Ok(vec![subjects.collect::<Result<_, _>>()?]);
    }
    let subjects: Vec<Subject> = directory
        .diverged(formation)
        .map(|record| record.subject.clone())
        .collect();
    if subjects.len() <= Command::DIVERGED_LIMIT {
        return Ok(vec![Vec::new()]);
    }
    let parts = subjects.chunks(Command::DIVERGED_LIMIT);
    Ok(parts.map(<[Subject]>::to_vec).collect())
}

/// What a name means. One that was decided on already is understood too, so that a request can be repeated.
fn subject(
    directory: &Directory,
    known: &BTreeMap<String, &Subject>,
    name: &str,
) -> Result<Subject, Problem> {
    if let Some(subject) = known.get(name) {
        return Ok((*subject).clone());
    }
    let server = |text: &str| -> Option<ServerId> {
        let named = directory.server_named(text).map(|server| server.id);
        named.or_else(|| text.parse().ok())
    };
    let understood = match name.split_once(':') {
        None if name == "backups" => Some(Subject::Backups),
        None if name == "pause" => Some(Subject::Pause),
        Some(("setting", text)) => match text.split_once('@') {
            None => Some(Subject::Setting(text.to_owned(), None)),
            Some((key, on)) => server(on).map(|on| Subject::Setting(key.to_owned(), Some(on))),
        },
        Some(("user", text)) => text.parse().ok().map(Subject::User),
        Some(("app", text)) => text.parse().ok().map(Subject::Application),
        Some(("token", text)) => text.parse().ok().map(Subject::Token),
        Some(("gateway", text)) => text.parse().ok().map(Subject::Gateway),
        Some(("certificate", text)) => text.parse().ok().map(Subject::Certificate),
        Some(("secret", text)) => text.parse().ok().map(Subject::Secret),
        Some(("profile", text)) => text.parse().ok().map(Subject::Profile),
        Some(("preferences", text)) => text.parse().ok().map(Subject::Preferences),
        Some(("server", text)) => server(text).map(Subject::Server),
        Some(("removed", text)) => server(text).map(Subject::Removed),
        _ => None,
    };
    understood.ok_or_else(|| {
        let near = nearest(name, known.keys().map(String::as_str));
        Problem::not_found("diverged record", name, near)
    })
}

/// The divergence of a formation, decided on or not.
fn find<'a>(directory: &'a Directory, text: &str) -> Result<&'a Divergence, Problem> {
    let all = || directory.all_divergences().map(|one| &**one);
    let number = text.parse::<u64>().ok();
    let mut found: Vec<_> = all()
        .filter(|one| number == Some(one.formation.number))
        .collect();
    if found.is_empty() && !text.is_empty() {
        let begins = |one: &&Divergence| one.formation.id.to_string().starts_with(text);
        found = all().filter(begins).collect();
    }
    // What waits for a decision is meant before what does not.
    if found.len() > 1 && found.iter().any(|one| one.records > 0) {
        found.retain(|one| one.records > 0);
    }
    match found.as_slice() {
        [] => Err(none(text)),
        [one] => Ok(one),
        several => {
            let ids: Vec<String> = several
                .iter()
                .map(|one| one.formation.id.to_string())
                .collect();
            Err(
                Problem::invalid(format!("{text:?} may be any of {}", ids.join(", ")))
                    .remedy("give more of the id"),
            )
        }
    }
}

/// The divergence, if it has records left.
fn left<'a>(divergence: &'a Divergence, text: &str) -> Result<&'a Divergence, Problem> {
    Some(divergence)
        .filter(|divergence| divergence.records > 0)
        .ok_or_else(|| none(text))
}

fn none(text: &str) -> Problem {
    Problem::not_found("divergence of formation", text, None)
        .remedy("see `stead group divergence list`")
}

fn shown(directory: &Directory, divergence: &Divergence) -> bodies::Divergence {
    let name = |id: &ServerId| directory.name_of(*id);
    bodies::Divergence {
        id: divergence.formation.id.to_string(),
        number: divergence.formation.number,
        fork_point: divergence.fork_point,
        fork_known: divergence.fork_known,
        primary: divergence.primary.as_ref().map(name),
        members: divergence.members.iter().map(name).collect(),
        kept: rfc3339(divergence.kept),
        records: divergence.records,
        complete: divergence.complete,
    }
}

fn three_ways(directory: &Directory, record: &Diverged) -> DivergedRecord {
    let winner = directory.content(&record.subject);
    let password = |content: &Option<Content>| match content {
        Some(Content::User(user)) => Some(user.password.clone()),
        _ => None,
    };
    let passwords = password(&winner).zip(password(&record.loser));
    let value =
        |content: &Option<Content>| content.as_ref().map(|one| contents::value(directory, one));
    DivergedRecord {
        name: record_name(directory, record),
        fork: value(&record.fork),
        winner: value(&winner),
        loser: value(&record.loser),
        password_differs: passwords.map(|(winner, loser)| winner != loser),
    }
}

/// A record's name, with servers by their names where those are known.
fn record_name(directory: &Directory, record: &Diverged) -> String {
    contents::name(directory, &record.subject, [&record.loser, &record.fork])
}

fn name_of(directory: &Directory, formation: FormationId, subject: &Subject) -> String {
    let record = directory.diverged_record(formation, subject);
    record.map_or_else(
        || subject.to_string(),
        |record| record_name(directory, record),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::nobody_in;
    use model::divergence::three_way;
    use model::trust::Sealed;
    use model::user::PasswordHash;
    use model::{
        Authority, FormationRef, GroupId, Mode, Record, Role, Server, Standing, UnixMillis, User,
    };
    use serde_json::{Value, json};
    use std::sync::Arc;

    const BOSTON: ServerId = ServerId::from_bytes([1; 16]);

    fn server() -> Server {
        Server {
            id: BOSTON,
            name: "boston".parse().unwrap(),
            peer_address: "10.0.0.1:1".to_owned(),
            client_address: "10.0.0.1:2".to_owned(),
            standing: Standing::Voter,
            voting: true,
            mode: Mode::Online,
            power: Server::POWER_DEFAULT,
            labels: BTreeMap::new(),
            external: Vec::new(),
            version: "0.1.0".to_owned(),
            feature_level: 1,
            incarnation: model::IncarnationId::default(),
            certificate_expires: UnixMillis(0),
            joined: UnixMillis(0),
            started: true,
            version_number: 0,
            peer_key: model::KeyMark::default(),
            revoked: Vec::new(),
        }
    }

    fn user(name: &str, role: Role, hash: &str) -> User {
        User {
            name: name.parse().unwrap(),
            password: PasswordHash(hash.to_owned()),
            role,
            groups: Vec::new(),
            disabled: false,
            password_set: UnixMillis(0),
            version_number: 0,
            api_tokens: Vec::new(),
            lock: None,
            origin: model::Origin::Directory,
        }
    }

    /// A group of one server, in a formation of this number.
    fn founded(number: u64) -> Directory {
        let authority = Authority {
            certificate: Vec::new(),
            fingerprint: String::new(),
            key: Sealed(Vec::new()),
            ticket_public: Vec::new(),
            ticket_key: Sealed(Vec::new()),
            expires: UnixMillis(0),
        };
        let mut group = nobody_in(GroupId::default(), "testers".parse().unwrap(), authority);
        group.formation.this = formation(number);
        Directory::founded(group, server(), user("anna", Role::Admin, "hash one"))
    }

    fn formation(number: u64) -> FormationRef {
        let place = u8::try_from(number).unwrap();
        FormationRef {
            id: FormationId::from_bytes([place; 16]),
            number,
            fork_point: 0,
        }
    }

    fn tell(directory: &mut Directory, commands: impl IntoIterator<Item = Command>) {
        for command in commands {
            let number = directory.group().number + 1;
            let place = u8::try_from(number).unwrap();
            let change = Change {
                id: ChangeId::from_bytes([place; 16]),
                at: UnixMillis(number * 1_000),
                author: model::Author::Server(BOSTON),
                command,
            };
            directory.apply(number, &change).outcome.unwrap();
        }
    }

    fn set(key: &str, value: &str, on: Option<ServerId>) -> Command {
        Command::SetSetting {
            key: key.to_owned(),
            value: value.to_owned(),
            on,
        }
    }

    fn put(user: User, expect: Option<u64>) -> Command {
        Command::PutUser {
            user: Box::new(user),
            expect,
        }
    }

    /// What formation 18 (whose id begins with 12) had changed, kept here.
    fn kept() -> Directory {
        let (fork, mut loser, mut winner) = (founded(18), founded(18), founded(1));
        tell(
            &mut loser,
            [
                set("resilience.failover", "false", None),
                set("tunnel.retain", "5m", Some(BOSTON)),
                put(user("anna", Role::Admin, "hash two"), Some(0)),
                put(user("max", Role::User, "hash three"), None),
                Command::SetBackups {
                    backups: Vec::new(),
                    reason: None,
                },
            ],
        );
        let keep = Command::KeepDivergence {
            within: winner.group().formation.this.id,
            divergence: Box::new(Divergence::of(&loser, 7, true)),
            records: three_way(Some(&fork), &loser, Some(&winner)),
            last: true,
        };
        tell(&mut winner, [keep]);
        winner
    }

    #[test]
    fn records_are_named_and_shown_three_ways_without_passwords() {
        let directory = kept();
        let shown: Vec<_> = directory
            .diverged(formation(18).id)
            .map(|record| three_ways(&directory, record))
            .collect();
        let names: Vec<&str> = shown.iter().map(|record| record.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "setting:resilience.failover",
                "setting:tunnel.retain@boston",
                "user:anna",
                "user:max",
                "backups"
            ]
        );
        let [failover, _, anna, max, backups] = shown.as_slice() else {
            panic!("{shown:#?}")
        };
        let sides = |record: &DivergedRecord| {
            let sides = [&record.fork, &record.winner, &record.loser];
            sides.map(|side| side.clone().unwrap_or_default())
        };
        assert_eq!(sides(failover), [Value::Null, Value::Null, json!("false")]);
        assert_eq!(
            sides(backups),
            [json!(["boston"]), json!(["boston"]), json!([])]
        );
        assert_eq!(anna.password_differs, Some(true));
        assert_eq!(max.password_differs, None);
        assert_eq!(sides(max).map(|side| side["role"].clone())[2], "user");
        let text = serde_json::to_string(&shown).unwrap();
        assert!(!text.contains("hash"), "{text}");
    }

    #[test]
    fn formations_are_found_by_number_and_id() {
        let mut directory = kept();
        let id = formation(18).id.to_string();
        for text in ["18", "12", "1212121212", &id] {
            let found = find(&directory, text).unwrap();
            assert_eq!(found.formation.id, formation(18).id, "{text}");
        }
        for text in ["", "3", "ff", "1213", "formation"] {
            assert_eq!(find(&directory, text).unwrap_err().status, 404, "{text}");
        }
        // One that is decided on is found for a request that is repeated, and is not shown.
        let all = command(formation(18).id, Vec::new(), None, false);
        tell(&mut directory, [all]);
        let found = find(&directory, "18").unwrap();
        assert_eq!(left(found, "18").unwrap_err().status, 404);
    }

    #[test]
    fn two_formations_of_one_number_must_be_told_apart() {
        let twins = [21, 22].map(|place| {
            let this = FormationRef {
                id: FormationId::from_bytes([place; 16]),
                ..formation(2)
            };
            let divergence = Divergence {
                formation: this,
                records: 0,
                ..Divergence::of(&founded(2), 0, true)
            };
            Record::Divergence(Arc::new(divergence))
        });
        let records = founded(1).records().chain(twins).collect::<Vec<_>>();
        let directory = Directory::from_records(records).unwrap();
        let refused = find(&directory, "2").unwrap_err();
        assert_eq!(refused.status, 422);
        assert!(refused.detail.contains(&"15".repeat(16)), "{refused:?}");
        assert_eq!(
            find(&directory, "16").unwrap().formation.id.as_bytes(),
            &[22; 16]
        );
    }

    #[test]
    fn what_is_meant_is_named_or_is_all() {
        let directory = kept();
        let divergence = find(&directory, "18").unwrap();
        let meant = |names: &[&str], all| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            parts(&directory, divergence, &names, all)
        };
        assert_eq!(meant(&[], true).unwrap(), [Vec::new()]);
        assert_eq!(meant(&[], false).unwrap_err().status, 422);
        assert_eq!(meant(&["pause"], true).unwrap_err().status, 422);
        let subjects = meant(
            &[
                "setting:tunnel.retain@boston",
                "user:max",
                "backups",
                "app:gone",
                "server:boston",
            ],
            false,
        );
        assert_eq!(
            subjects.unwrap(),
            [vec![
                Subject::Setting("tunnel.retain".to_owned(), Some(BOSTON)),
                Subject::User("max".parse().unwrap()),
                Subject::Backups,
                Subject::Application("gone".parse().unwrap()),
                Subject::Server(BOSTON),
            ]]
        );
        for wrong in ["user", "usr:max", "user:not a name", "server:nowhere", ""] {
            let refused = meant(&[wrong], false).unwrap_err();
            assert_eq!(refused.status, 404, "{wrong}");
        }
        let refused = meant(&["usr:max"], false).unwrap_err();
        assert_eq!(refused.remedy.as_deref(), Some("the nearest is user:max"));
    }
}
