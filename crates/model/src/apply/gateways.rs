//! Changes of gateways, and the sessions of their clients.

use super::{Applying, bounds};
use crate::change::{Command, Kind, Outcome, Refusal};
use crate::event::{EventKind, Severity};
use crate::gateway::Gateway;
use crate::id::{ServerId, SessionId};
use crate::name::{AppName, GatewayName, Token};
use std::sync::Arc;

impl Applying<'_> {
    pub(super) fn about_gateways(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        match command {
            Command::PutGateway { gateway, expect } => self.put_gateway(gateway, *expect),
            Command::RemoveGateway { name } => self.remove_gateway(name),
            Command::BindToken {
                session,
                token,
                app,
                host,
            } => self.bind_token(*session, token, app, *host),
            other => {
                unreachable!("invariant: only what is about gateways comes here, not {other:?}")
            }
        }
    }

    pub(super) fn put_gateway(
        &mut self,
        wanted: &Gateway,
        expect: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        let old = self.directory.gateways.get(&wanted.name);
        let found = old.map(|old| old.version_number);
        super::expected(Kind::Gateway, &wanted.name, found, expect)?;
        if old.is_none() {
            let held = self.directory.gateways.len();
            bounds::room(Kind::Gateway, held, bounds::GATEWAYS)?;
        }
        self.check_gateway(wanted)?;
        let what = if old.is_none() { "added" } else { "changed" };
        let record = Gateway {
            version_number: self.number,
            ..wanted.clone()
        };
        let gateways = &mut self.directory.gateways;
        gateways.insert(record.name.clone(), Arc::new(record));
        self.gateway_changed(wanted, what);
        Ok(Outcome::Done)
    }

    fn check_gateway(&self, wanted: &Gateway) -> Result<(), Refusal> {
        let app = self.directory.apps.get(&wanted.app);
        let app = app.ok_or_else(|| Refusal::NotFound {
            kind: Kind::Application,
            name: wanted.app.to_string(),
        })?;
        if app.launch.is_some() {
            let why = format!(
                "{} launches a command, and a gateway's clients have not logged in: it leads to applications whose backends run already and ask who is there",
                app.name
            );
            return Err(bounds::invalid("app", why));
        }
        if wanted.listen.port() == 0 {
            return Err(bounds::invalid("listen", "the port must be said"));
        }
        let mut others = self.directory.gateways.values();
        let other = others.find(|one| one.name != wanted.name && one.listen == wanted.listen);
        match other {
            Some(other) => Err(bounds::invalid(
                "listen",
                format!("gateway {} is at {} already", other.name, other.listen),
            )),
            None => Ok(()),
        }
    }

    pub(super) fn remove_gateway(&mut self, name: &GatewayName) -> Result<Outcome, Refusal> {
        let Some(old) = self.directory.gateways.remove(name) else {
            return Err(Refusal::NotFound {
                kind: Kind::Gateway,
                name: name.to_string(),
            });
        };
        self.gateway_changed(&old, "removed");
        Ok(Outcome::Done)
    }

    /// Refuses what takes from a gateway what it leads to.
    pub(super) fn check_no_gateway(&self, app: &AppName) -> Result<(), Refusal> {
        let mut gateways = self.directory.gateways.values();
        match gateways.find(|one| one.app == *app) {
            Some(one) => Err(bounds::invalid(
                "app",
                format!("gateway {} leads to {app}: remove it first", one.name),
            )),
            None => Ok(()),
        }
    }

    fn gateway_changed(&mut self, gateway: &Gateway, what: &str) {
        let fields = [
            ("change", what.to_owned()),
            ("listen", gateway.listen.to_string()),
            ("app", gateway.app.to_string()),
            ("token_from", gateway.token_from.to_string()),
        ];
        let kind = EventKind::GatewayChanged;
        self.event(kind, Severity::Info, &gateway.name, fields);
    }

    /// A gateway's client gets the session of the token that it claims: the one that there is, whoever logged in to it, or
    /// another one.
    fn bind_token(
        &mut self,
        id: SessionId,
        token: &Token,
        app: &AppName,
        host: ServerId,
    ) -> Result<Outcome, Refusal> {
        let (token, user) = self.directory.claimed(token)?;
        let application = match user.is_nobody() {
            true => self.open_app(app)?,
            false => self.allowed_app(&user, app)?,
        };
        if application.launch.is_some() {
            let why = "it launches a command, and the client has not logged in";
            return Err(bounds::invalid("app", why));
        }
        let current = self.directory.current_session(&token, app).cloned();
        if let Some(current) = current.as_ref().filter(|one| one.is_reachable()) {
            return Ok(Outcome::Session {
                session: current.id,
                host: current.host,
                created: false,
            });
        }
        self.check_host(&application, host)?;
        self.check_user_limit(&application, &user)?;
        self.check_server_limit(&application, host)?;
        self.check_new(id)?;
        self.demote(current.as_deref());
        Ok(self.start_session(id, (&token, &user), &application, host, true))
    }

    /// An application that is for everybody.
    fn open_app(&self, app: &AppName) -> Result<Arc<crate::Application>, Refusal> {
        let application = self.directory.apps.get(app).cloned();
        let application = application.ok_or_else(|| Refusal::NotFound {
            kind: Kind::Application,
            name: app.to_string(),
        })?;
        match application.users.is_empty() {
            true => Ok(application),
            false => Err(Refusal::NotAllowed {
                user: crate::UserName::nobody(),
                app: app.clone(),
            }),
        }
    }
}
