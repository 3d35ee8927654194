//! Changes of applications. An application makes sense on its own before it is kept.

use super::{Applying, bounds};
use crate::application::{Application, Backend, WEIGHT_LIMIT};
use crate::change::{Command, Kind, Outcome, Refusal};
use crate::event::{EventKind, Severity};
use crate::name::{AppName, NAME_LIMIT, UserName};
use crate::run_as::{ACCOUNT_LIMIT, RunAs};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most backends of one application.
const BACKENDS: usize = 64;
/// The most labels of a host selector.
const LABELS: usize = 64;
/// The most users and groups that an application is limited to.
const USERS: usize = 1_000;
/// The most variables of a command's environment.
const VARIABLES: usize = 256;

impl Applying<'_> {
    pub(super) fn about_apps(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        match command {
            Command::PutApp { app, expect } => self.put_app(app, *expect),
            Command::RemoveApp { name } => self.remove_app(name),
            other => unreachable!("invariant: only applications come here, not {other:?}"),
        }
    }

    pub(super) fn put_app(
        &mut self,
        app: &Application,
        expect: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        let old = self.directory.apps.get(&app.name);
        super::expected(
            Kind::Application,
            &app.name,
            old.map(|old| old.version_number),
            expect,
        )?;
        let what = if old.is_some() { "changed" } else { "added" };
        if old.is_none() {
            bounds::room(Kind::Application, self.directory.apps.len(), bounds::APPS)?;
        }
        check(app)?;
        self.check_secrets(app)?;
        if app.launch.is_some() {
            self.check_no_gateway(&app.name)?;
        }
        let record = Application {
            version_number: self.number,
            ..app.clone()
        };
        self.directory
            .apps
            .insert(record.name.clone(), Arc::new(record));
        self.event(
            EventKind::AppChanged,
            Severity::Info,
            &app.name,
            [("change", what.to_owned())],
        );
        Ok(Outcome::Done)
    }

    pub(super) fn remove_app(&mut self, name: &AppName) -> Result<Outcome, Refusal> {
        if !self.directory.apps.contains_key(name) {
            return Err(Refusal::NotFound {
                kind: Kind::Application,
                name: name.to_string(),
            });
        }
        self.check_no_gateway(name)?;
        let sessions = self.directory.count_of_app(name);
        if sessions > 0 {
            return Err(Refusal::InUse {
                app: name.clone(),
                sessions,
            });
        }
        self.directory.apps.remove(name);
        self.remove_profile_of_app(name);
        self.event(
            EventKind::AppChanged,
            Severity::Info,
            name,
            [("change", "removed".to_owned())],
        );
        Ok(Outcome::Done)
    }

    /// An application that a user may start.
    pub(super) fn allowed_app(
        &self,
        user: &UserName,
        app: &AppName,
    ) -> Result<Arc<Application>, Refusal> {
        let application = self.directory.apps.get(app).cloned();
        let application = application.ok_or_else(|| Refusal::NotFound {
            kind: Kind::Application,
            name: app.to_string(),
        })?;
        let account = self.directory.users.get(user);
        let account = account.ok_or_else(|| Refusal::NotFound {
            kind: Kind::User,
            name: user.to_string(),
        })?;
        if account.disabled || !application.admits(account) {
            return Err(Refusal::NotAllowed {
                user: user.clone(),
                app: app.clone(),
            });
        }
        Ok(application)
    }
}

fn check(app: &Application) -> Result<(), Refusal> {
    bounds::size(
        "launch",
        app.launch.as_ref().map_or(0, String::len),
        Application::LAUNCH_LIMIT,
    )?;
    bounds::size(
        "dir",
        app.dir.as_ref().map_or(0, String::len),
        Application::LAUNCH_LIMIT,
    )?;
    bounds::size("backends", app.backends.len(), BACKENDS)?;
    bounds::pairs("hosts", &app.hosts, LABELS, NAME_LIMIT)?;
    bounds::pairs("env", &app.env, VARIABLES, bounds::DOCUMENT)?;
    if app
        .env
        .iter()
        .any(|(name, value)| name.contains('=') || name.contains('\0') || value.contains('\0'))
    {
        return Err(bounds::invalid(
            "env",
            "a name contains \"=\", or something contains a zero byte",
        ));
    }
    check_account(app)?;
    bounds::size("users", app.users.len(), USERS)?;
    for user in &app.users {
        bounds::line("users", user, NAME_LIMIT + 1)?;
    }
    bounds::size(
        "the application's document",
        document(app),
        bounds::DOCUMENT,
    )?;
    check_reachable(app)?;
    check_weights(app)?;
    if !(100..=Application::READY_TIMEOUT_LIMIT_MS).contains(&app.ready_timeout_ms) {
        return Err(bounds::invalid(
            "ready-timeout",
            "it must be from 100ms to 10m",
        ));
    }
    if app.suspended_timeout_ms == Some(0) {
        return Err(bounds::invalid(
            "suspended-timeout",
            "it must be longer than nothing",
        ));
    }
    if app
        .idle_timeout_ms
        .is_some_and(|span| span < Application::IDLE_TIMEOUT_LEAST_MS)
    {
        return Err(bounds::invalid("idle-timeout", "it must be at least 1s"));
    }
    if app.max_per_user == Some(0) || app.max_per_server == Some(0) {
        return Err(bounds::invalid(
            "max-per-user and max-per-server",
            "a limit of 0 lets nobody start it",
        ));
    }
    Ok(())
}

/// An account must have a name that accounts can have, and something that runs as it.
fn check_account(app: &Application) -> Result<(), Refusal> {
    let Some(run_as) = &app.run_as else {
        return Ok(());
    };
    let name = run_as.to_string();
    bounds::size("run-as", name.len(), ACCOUNT_LIMIT)?;
    match name.parse::<RunAs>() {
        Ok(same) if same == *run_as => {}
        Ok(_) => return Err(bounds::invalid("run-as", "{user} is no account's name")),
        Err(error) => return Err(bounds::invalid("run-as", error.to_string())),
    }
    if app.launch.is_none() {
        let why = "it is the account of a command, and the application launches none";
        return Err(bounds::invalid("run-as", why));
    }
    Ok(())
}

/// There must be something to run or to reach, and a way from the one to the other.
fn check_reachable(app: &Application) -> Result<(), Refusal> {
    let terminal = match app.command() {
        Some((command, terminal)) => {
            if command.trim().is_empty() || command.contains('\0') {
                return Err(bounds::invalid("launch", "there is no command to run"));
            }
            terminal
        }
        None => false,
    };
    let own_terminal = app
        .backends
        .iter()
        .any(|backend| matches!(backend, Backend::Pty));
    if own_terminal && !terminal {
        return Err(bounds::invalid(
            "backend",
            "@pty is the backend of a command that begins with @pty",
        ));
    }
    if app.backends.is_empty() && !terminal {
        let why = "say where the session's bytes are, as unix:PATH or tcp:HOST:PORT, or launch a command with @pty in front";
        return Err(bounds::invalid("backend", why));
    }
    Ok(())
}

/// Weights are of several backends that run already, and somebody must get the sessions.
fn check_weights(app: &Application) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    let twice = |backend: &&Backend| !seen.insert(backend.to_string());
    if let Some(backend) = app.backends.iter().find(twice) {
        let why = format!("{backend} is named twice; a weight gives it more sessions");
        return Err(bounds::invalid("backend", why));
    }
    if app.weights.is_empty() {
        return Ok(());
    }
    let why = if app.weights.len() != app.backends.len() {
        "there must be as many weights as backends"
    } else if app.launch.is_some() {
        "weights are for servers that run already; those of a launched command are tried in order"
    } else if app.weights.iter().any(|weight| *weight > WEIGHT_LIMIT) {
        "a weight is at most 256"
    } else if app.weights.iter().all(|weight| *weight == 0) {
        "one of the weights must be more than 0, or no session starts"
    } else {
        return Ok(());
    };
    Err(bounds::invalid("backend", why))
}

/// About how many bytes the record takes.
fn document(app: &Application) -> usize {
    let texts = [app.launch.as_ref(), app.dir.as_ref()]
        .into_iter()
        .flatten()
        .map(String::len);
    let backends = app.backends.iter().map(|backend| backend.to_string().len());
    let tables = app
        .hosts
        .iter()
        .chain(&app.env)
        .map(|(key, value)| key.len() + value.len() + 2);
    texts
        .chain(backends)
        .chain(tables)
        .chain(app.users.iter().map(|user| user.len() + 1))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_for_servers_that_run_already() {
        let with = |weights: &[u16]| Application {
            backends: vec![
                Backend::Tcp("a:22".to_owned()),
                Backend::Tcp("b:22".to_owned()),
            ],
            weights: weights.to_vec(),
            ..Application::named("a".parse().unwrap())
        };
        for weights in [&[][..], &[1, 1], &[0, 3], &[256, 0]] {
            assert_eq!(check(&with(weights)), Ok(()), "{weights:?}");
        }
        for weights in [&[1][..], &[1, 1, 1], &[0, 0], &[257, 1]] {
            assert!(check(&with(weights)).is_err(), "{weights:?}");
        }
        let launched = |weights| Application {
            launch: Some("x".to_owned()),
            ..with(weights)
        };
        assert_eq!(check(&launched(&[])), Ok(()));
        assert!(check(&launched(&[1, 2])).is_err());
        let mut twice = with(&[]);
        twice.backends.push(Backend::Tcp("a:22".to_owned()));
        assert!(check(&twice).is_err());
    }

    #[test]
    fn an_account_needs_a_name_and_a_command() {
        let with = |run_as: RunAs| Application {
            launch: Some("@pty /bin/sh".to_owned()),
            run_as: Some(run_as),
            ..Application::named("a".parse().unwrap())
        };
        let account = |name: &str| RunAs::Account(name.to_owned());
        assert_eq!(check(&with(RunAs::User)), Ok(()));
        assert_eq!(check(&with(account("ann"))), Ok(()));
        // As an older or damaged record may have it: nothing but a name gets in.
        let long = "a".repeat(ACCOUNT_LIMIT + 1);
        for name in ["", "{user}", "../root", "a b", &long] {
            assert!(check(&with(account(name))).is_err(), "{name:?}");
        }
        let running = Application {
            launch: None,
            backends: vec![Backend::Tcp("127.0.0.1:22".to_owned())],
            ..with(RunAs::User)
        };
        assert!(check(&running).is_err());
    }
}
