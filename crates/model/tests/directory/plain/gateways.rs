//! Gateways in their most obvious form.

use super::{Answer, Plain, first_state, reachable, versions};
use crate::common::user_name;
use model::*;

impl Plain {
    pub(super) fn put_gateway(
        &mut self,
        number: u64,
        wanted: &Gateway,
        expect: Option<u64>,
    ) -> Answer {
        let old = self.gateways.iter().find(|old| old.name == wanted.name);
        versions(old.map(|old| old.version_number), expect)?;
        let app = self.apps.iter().find(|app| app.name == wanted.app);
        let others = || self.gateways.iter().filter(|one| one.name != wanted.name);
        if app.ok_or("not found")?.launch.is_some() || wanted.listen.port() == 0 {
            return Err("invalid");
        }
        if others().any(|one| one.listen == wanted.listen) {
            return Err("invalid");
        }
        self.gateways = others().cloned().collect();
        self.gateways.push(Gateway {
            version_number: number,
            ..wanted.clone()
        });
        Ok(Outcome::Done)
    }

    pub(super) fn remove_gateway(&mut self, name: &GatewayName) -> Answer {
        let before = self.gateways.len();
        self.gateways.retain(|one| one.name != *name);
        match self.gateways.len() < before {
            true => Ok(Outcome::Done),
            false => Err("not found"),
        }
    }

    /// Whose a claimed token is.
    fn owner(&self, name: &Token) -> Result<UserName, &'static str> {
        if let Some(entry) = self.entry(name) {
            return match entry.enabled {
                true => Ok(entry.user.clone()),
                false => Err("token disabled"),
            };
        }
        let named = name.as_str().strip_prefix("user.");
        let known = |name: &str| self.users.iter().any(|user| user.name.as_str() == name);
        match named.filter(|user| known(user)) {
            Some(user) => Ok(user_name(user)),
            None if self.unregistered() == "refuse" => Err("token unknown"),
            None => Ok(user_name("nobody")),
        }
    }

    pub(super) fn bind(
        &mut self,
        number: u64,
        id: SessionId,
        token: &Token,
        app: &AppName,
        host: ServerId,
    ) -> Answer {
        let user = self.owner(token)?;
        let nobody = user.as_str() == "nobody";
        let token = self
            .entry(token)
            .map_or(token, |entry| &entry.token)
            .clone();
        let application = match nobody {
            true => {
                let application = self.apps.iter().find(|one| one.name == *app);
                application.ok_or("not found")?.clone()
            }
            false => self.app_for(&user, app)?,
        };
        if nobody && !application.users.is_empty() {
            return Err("not allowed");
        }
        if application.launch.is_some() {
            return Err("invalid");
        }
        let mut of_token = self.sessions.iter();
        let current = of_token.find(|s| s.token == token && s.app == *app && s.current);
        if let Some(current) = current.filter(|s| reachable(s)) {
            return Ok(Outcome::Session {
                session: current.id,
                host: current.host,
                created: false,
            });
        }
        self.room_for(&application, &user, host)?;
        if self.sessions.iter().any(|s| s.id == id) {
            return Err("exists");
        }
        let session = Session {
            id,
            token,
            user,
            app: app.clone(),
            host,
            state: first_state(&application),
            current: true,
            created: self.clock,
            last_attached: None,
            client: None,
            ended: None,
            reason: None,
            heard_number: number,
            version_number: number,
        };
        self.make_current(number, &session);
        self.sessions.push(session);
        Ok(Outcome::Session {
            session: id,
            host,
            created: true,
        })
    }
}
