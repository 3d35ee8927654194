//! Changes of stored credentials.

use super::{Applying, bounds};
use crate::application::Application;
use crate::change::{Kind, Outcome, Refusal};
use crate::divergence::{Content, Diverged};
use crate::event::{EventKind, Severity};
use crate::name::SecretName;
use crate::secret::{Exposed, StoredSecret, StoredSecretChange, named_in};
use crate::server::Server;
use std::sync::Arc;

/// What sealing adds to a value: a version, a nonce and a tag, and some room.
const SEALING: usize = 64;

impl Applying<'_> {
    pub(super) fn change_stored_secret(
        &mut self,
        change: &StoredSecretChange,
    ) -> Result<Outcome, Refusal> {
        match change {
            StoredSecretChange::Put { secret, expect } => self.put_secret(secret, *expect),
            StoredSecretChange::Remove { name } => self.remove_secret(name),
        }
    }

    pub(super) fn put_secret(
        &mut self,
        wanted: &StoredSecret,
        expect: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        let old = self.directory.secrets.get(&wanted.name).cloned();
        let found = old.as_ref().map(|old| old.version_number);
        super::expected(Kind::Secret, &wanted.name, found, expect)?;
        if old.is_none() {
            let held = self.directory.secrets.len();
            bounds::room(Kind::Secret, held, bounds::SECRETS)?;
        }
        let limit = StoredSecret::VALUE_LIMIT + SEALING;
        bounds::size("the secret's value", wanted.sealed.0.len(), limit)?;
        self.sealed_under_one_in_force("the secret's value", &wanted.sealed)?;
        let description = wanted.description.as_deref().unwrap_or_default();
        bounds::line("description", description, bounds::REMARK)?;
        let same = old.as_ref().filter(|old| old.sealed == wanted.sealed);
        if same.is_none() && wanted.is_lost() {
            return Err(bounds::invalid("value", "a secret has one"));
        }
        let record = StoredSecret {
            name: wanted.name.clone(),
            description: wanted.description.clone(),
            sealed: wanted.sealed.clone(),
            created: old.as_ref().map_or(self.at, |old| old.created),
            set: same.map_or(self.at, |old| old.set),
            by: same.map_or_else(|| self.author(), |old| old.by.clone()),
            exposed: same.and_then(|old| old.exposed.clone()),
            version_number: self.number,
        };
        let what = if old.is_none() { "added" } else { "changed" };
        let secrets = &mut self.directory.secrets;
        secrets.insert(record.name.clone(), Arc::new(record));
        self.secret_changed(&wanted.name, what);
        Ok(Outcome::Done)
    }

    /// Puts a secret in place that another side of a split had set. Whoever could read that value and is gone can read it still.
    pub(super) fn take_secret(
        &mut self,
        wanted: &StoredSecret,
        expect: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        let outcome = self.put_secret(wanted, expect)?;
        let secrets = &mut self.directory.secrets;
        if let (Some(exposed), Some(secret)) = (&wanted.exposed, secrets.get_mut(&wanted.name)) {
            let secret = Arc::make_mut(secret);
            secret.exposed.get_or_insert_with(|| exposed.clone());
        }
        Ok(outcome)
    }

    pub(super) fn remove_secret(&mut self, name: &SecretName) -> Result<Outcome, Refusal> {
        if !self.directory.secrets.contains_key(name) {
            return Err(no_secret(name));
        }
        let given = self.directory.given_to(name);
        let apps: Vec<&str> = given.map(|app| app.name.as_str()).collect();
        if !apps.is_empty() {
            return Err(Refusal::SecretInUse {
                secret: name.clone(),
                apps: bounds::cut(&apps.join(", "), bounds::REMARK).to_owned(),
            });
        }
        if self.directory.settings.bind_secret().as_ref() == Some(name) {
            return Err(Refusal::SecretInSetting {
                secret: name.clone(),
                key: "users.ldap-bind-secret".to_owned(),
            });
        }
        self.directory.secrets.remove(name);
        self.secret_changed(name, "removed");
        Ok(Outcome::Done)
    }

    /// What an application is given must be there, and be given it where no other account can read it.
    pub(super) fn check_secrets(&self, app: &Application) -> Result<(), Refusal> {
        let misplaced = |error: crate::secret::SecretPlaceError| {
            bounds::invalid("launch and env", error.to_string())
        };
        let secrets = app.secrets().map_err(misplaced)?;
        bounds::size(
            "secrets of the application",
            secrets.len(),
            StoredSecret::OF_ONE_APP,
        )?;
        let elsewhere = app.backends.iter().map(ToString::to_string);
        for text in elsewhere.chain(app.dir.clone()) {
            if !named_in(&text).is_ok_and(|found| found.is_empty()) {
                let why = "a secret is given to a command, in launch or env only";
                return Err(bounds::invalid("backend and dir", why));
            }
        }
        if app.launch.is_none() && !secrets.is_empty() {
            let why = "a secret is given to a command, and the application launches none";
            return Err(bounds::invalid("env", why));
        }
        let known = &self.directory.secrets;
        match secrets.iter().find(|name| !known.contains_key(*name)) {
            Some(missing) => Err(no_secret(missing)),
            None => Ok(()),
        }
    }

    /// What a server could read that leaves should be changed; gives how many secrets that are.
    pub(super) fn expose_secrets(&mut self, gone: &Server) -> usize {
        if !gone.standing.may_lead() {
            return 0;
        }
        let exposed = Exposed {
            server: gone.name.to_string(),
            at: self.at,
        };
        let all: Vec<_> = self.directory.secrets.values().cloned().collect();
        for secret in all.iter().filter(|secret| secret.exposed.is_none()) {
            let record = StoredSecret {
                exposed: Some(exposed.clone()),
                version_number: self.number,
                ..(**secret).clone()
            };
            let secrets = &mut self.directory.secrets;
            secrets.insert(record.name.clone(), Arc::new(record));
        }
        self.expose_diverged(&exposed);
        all.len()
    }

    /// Values that wait for a decision were to be read there too: whoever applies one is told so.
    fn expose_diverged(&mut self, exposed: &Exposed) {
        let of_secrets: Vec<_> = self.directory.diverged.values().cloned().collect();
        for record in of_secrets {
            let Some(Content::Secret(secret)) = &record.loser else {
                continue;
            };
            if secret.exposed.is_some() {
                continue;
            }
            let secret = StoredSecret {
                exposed: Some(exposed.clone()),
                ..(**secret).clone()
            };
            let next = Diverged {
                loser: Some(Content::Secret(Arc::new(secret))),
                ..(*record).clone()
            };
            let key = (next.formation, next.subject.clone());
            self.directory.diverged.insert(key, Arc::new(next));
        }
    }

    fn secret_changed(&mut self, name: &SecretName, what: &str) {
        let kind = EventKind::StoredSecretChanged;
        let fields = [("change", what.to_owned())];
        self.event(kind, Severity::Info, name, fields);
    }

    /// Who makes the change, in words.
    fn author(&self) -> String {
        self.by().unwrap_or_else(|| match self.author {
            crate::change::Author::Server(server) => self.directory.name_of(*server),
            _ => String::new(),
        })
    }
}

pub(super) fn no_secret(name: &SecretName) -> Refusal {
    Refusal::NotFound {
        kind: Kind::Secret,
        name: name.to_string(),
    }
}
