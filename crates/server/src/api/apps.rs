//! `/v1/apps`: what sessions run.

use super::bodies::{App, AppChange};
use super::caller::Caller;
use super::extract::{Body, IfMatch, MaybeBody, Named, tagged};
use super::problem::Problem;
use super::retry::edit;
use super::show;
use crate::node::{Consistency, Node};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use model::settings::value::nearest;
use model::{
    AppName, Application, Backend, Command, Directory, OnDrain, Resumable, RunAs, Weighted,
};

/// Lists the applications.
#[utoipa::path(get, path = "/v1/apps", tag = "apps", responses((status = 200, body = Vec<App>)))]
pub(super) async fn list(State(node): State<Node>) -> Json<Vec<App>> {
    let directory = node.directory();
    Json(
        directory
            .apps()
            .map(|app| show::app_here(&node, app))
            .collect(),
    )
}

/// Shows an application.
#[utoipa::path(get, path = "/v1/apps/{name}", tag = "apps", params(("name" = String, Path, description = "Which application")),
    responses((status = 200, body = App), (status = 404, body = Problem)))]
pub(super) async fn show(
    State(node): State<Node>,
    Named(name): Named<AppName>,
) -> Result<Response, Problem> {
    shown(&node, StatusCode::OK, &name)
}

fn shown(node: &Node, status: StatusCode, name: &AppName) -> Result<Response, Problem> {
    let directory = node.directory();
    let app = found(&directory, name)?;
    Ok(tagged(
        status,
        app.version_number,
        &show::app_here(node, app),
    ))
}

fn found<'a>(directory: &'a Directory, name: &AppName) -> Result<&'a Application, Problem> {
    directory.app(name).map(|app| &**app).ok_or_else(|| {
        let nearest = nearest(name.as_str(), directory.apps().map(|app| app.name.as_str()));
        Problem::not_found("application", name.as_str(), nearest)
    })
}

/// Makes an application.
#[utoipa::path(put, path = "/v1/apps/{name}", tag = "apps", params(("name" = String, Path, description = "Its name")),
    request_body = AppChange,
    responses((status = 201, body = App), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn add(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<AppName>,
    MaybeBody(request): MaybeBody<AppChange>,
) -> Result<Response, Problem> {
    let app = changed(Application::named(name.clone()), &request)?;
    if super::secrets::check(&node.directory(), &app).is_err() {
        // Others may have been told of it before this server was.
        node.catch_up(Consistency::Linearizable).await?;
        super::secrets::check(&node.directory(), &app)?;
    }
    caller
        .change(
            &node,
            Command::PutApp {
                app: Box::new(app),
                expect: None,
            },
        )
        .await?;
    shown(&node, StatusCode::CREATED, &name)
}

/// Changes an application; what is absent stays as it is.
#[utoipa::path(patch, path = "/v1/apps/{name}", tag = "apps", params(("name" = String, Path, description = "Which application")),
    request_body = AppChange,
    responses((status = 200, body = App), (status = 404, body = Problem), (status = 412, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn change(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<AppName>,
    version: IfMatch,
    Body(request): Body<AppChange>,
) -> Result<Response, Problem> {
    edit(&node, &caller, version, |directory| {
        let app = found(directory, &name)?;
        let expect = app.version_number;
        let app = changed(app.clone(), &request)?;
        super::secrets::check(directory, &app)?;
        Ok((
            expect,
            Command::PutApp {
                app: Box::new(app),
                expect: Some(expect),
            },
        ))
    })
    .await?;
    shown(&node, StatusCode::OK, &name)
}

/// Removes an application that has no session.
#[utoipa::path(delete, path = "/v1/apps/{name}", tag = "apps", params(("name" = String, Path, description = "Which application")),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn remove(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<AppName>,
    version: IfMatch,
) -> Result<StatusCode, Problem> {
    if let Some(app) = node.directory().app(&name) {
        version.check("the application", app.version_number)?;
    }
    caller.change(&node, Command::RemoveApp { name }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The application with what the request says; `apply` checks whether it makes sense as a whole.
fn changed(mut app: Application, request: &AppChange) -> Result<Application, Problem> {
    if let Some(launch) = &request.launch {
        app.launch.clone_from(launch);
    }
    if let Some(backends) = &request.backends {
        let read = |text: &String| backend(text);
        app.set_backends(backends.iter().map(read).collect::<Result<_, _>>()?);
    }
    if let Some(word) = &request.resumable {
        app.resumable = resumable(word)?;
    }
    app.ready_timeout_ms = request.ready_timeout_ms.unwrap_or(app.ready_timeout_ms);
    app.detach_timeout_ms = request.detach_timeout_ms.unwrap_or(app.detach_timeout_ms);
    app.suspended_timeout_ms = request
        .suspended_timeout_ms
        .unwrap_or(app.suspended_timeout_ms);
    app.idle_timeout_ms = request.idle_timeout_ms.unwrap_or(app.idle_timeout_ms);
    app.max_per_user = request.max_per_user.unwrap_or(app.max_per_user);
    app.max_per_server = request.max_per_server.unwrap_or(app.max_per_server);
    app.hosts = request.hosts.clone().unwrap_or(app.hosts);
    app.users = request.users.clone().unwrap_or(app.users);
    app.env = request.env.clone().unwrap_or(app.env);
    app.dir = request.dir.clone().unwrap_or(app.dir);
    if let Some(account) = &request.run_as {
        app.run_as = account.as_deref().map(run_as).transpose()?;
    }
    if let Some(word) = &request.on_drain {
        app.on_drain = on_drain(word)?;
    }
    if let Some(word) = &request.proxy_protocol {
        app.proxy_protocol = proxy_protocol(word)?;
    }
    Ok(app)
}

fn backend(text: &str) -> Result<Weighted, Problem> {
    match text {
        "@pty" => Ok(Weighted {
            backend: Backend::Pty,
            weight: 1,
        }),
        _ => text
            .parse()
            .map_err(|error: model::application::BackendError| Problem::invalid(error.to_string())),
    }
}

fn run_as(text: &str) -> Result<RunAs, Problem> {
    text.parse()
        .map_err(|error: model::run_as::RunAsError| Problem::invalid(error.to_string()))
}

fn resumable(word: &str) -> Result<Resumable, Problem> {
    let all = [Resumable::Always, Resumable::Attached, Resumable::Never];
    one_of("resumable", word, all, Resumable::as_str)
}

fn on_drain(word: &str) -> Result<OnDrain, Problem> {
    one_of(
        "on_drain",
        word,
        [OnDrain::Move, OnDrain::Keep],
        OnDrain::as_str,
    )
}

fn proxy_protocol(word: &str) -> Result<bool, Problem> {
    let name = |is_on| if is_on { "v2" } else { "none" };
    one_of("proxy_protocol", word, [false, true], name)
}

/// What a word stands for, among all there are.
fn one_of<T: Copy, const N: usize>(
    field: &str,
    word: &str,
    all: [T; N],
    name: fn(T) -> &'static str,
) -> Result<T, Problem> {
    if let Some(found) = all.into_iter().find(|one| name(*one) == word) {
        return Ok(found);
    }
    let names = all.map(name);
    let is = match names.split_last() {
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    };
    let problem = Problem::invalid(format!("{word:?} does not fit {field}, which is {is}"));
    Err(match nearest(word, names) {
        Some(near) => problem.remedy(format!("the nearest is {near}")),
        None => problem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: &str) -> AppChange {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn absent_null_and_given() {
        let desktop = Application {
            launch: Some("xterm".into()),
            max_per_user: Some(2),
            ..Application::named("desktop".parse().unwrap())
        };
        let same = changed(desktop.clone(), &request("{}")).unwrap();
        assert_eq!(same, desktop);
        let without = changed(
            desktop.clone(),
            &request(r#"{"launch": null, "max_per_user": null}"#),
        )
        .unwrap();
        assert_eq!((without.launch, without.max_per_user), (None, None));
        let other = changed(
            desktop,
            &request(r#"{"backends": ["unix:{socket}", "tcp:[::1]:22"], "resumable": "never"}"#),
        )
        .unwrap();
        assert_eq!(other.backends.len(), 2);
        assert_eq!(other.resumable, Resumable::Never);
        assert_eq!(other.launch.as_deref(), Some("xterm"));
    }

    #[test]
    fn an_account_is_given_and_taken_back() {
        let app = Application::named("a".parse().unwrap());
        let with = changed(app, &request(r#"{"run_as": "{user}"}"#)).unwrap();
        assert_eq!(with.run_as, Some(RunAs::User));
        let same = changed(with.clone(), &request("{}")).unwrap();
        assert_eq!(same, with);
        assert!(changed(with.clone(), &request(r#"{"run_as": "a b"}"#)).is_err());
        let without = changed(with, &request(r#"{"run_as": null}"#)).unwrap();
        assert_eq!(without.run_as, None);
    }

    #[test]
    fn slips_are_refused() {
        let app = || Application::named("a".parse().unwrap());
        assert_eq!(
            changed(app(), &request(r#"{"backends": ["host:1"]}"#))
                .unwrap_err()
                .status,
            422
        );
        assert!(
            changed(app(), &request(r#"{"resumable": "alway"}"#))
                .unwrap_err()
                .remedy
                .unwrap()
                .contains("always")
        );
        assert!(serde_json::from_str::<AppChange>(r#"{"lunch": "x"}"#).is_err());
    }
}
