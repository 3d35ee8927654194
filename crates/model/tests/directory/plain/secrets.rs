//! Stored credentials in their most obvious form.

use super::{Answer, Plain, versions};
use model::*;

/// The names of the secrets that an application of the random changes is given.
pub(super) fn given(app: &Application) -> Vec<&str> {
    let launch = app.launch.as_deref().unwrap_or_default();
    let places = launch.split("{secret:").skip(1);
    places.filter_map(|place| place.split('}').next()).collect()
}

impl Plain {
    /// The random changes are all root's on one server.
    pub(super) fn put_secret(
        &mut self,
        number: u64,
        wanted: &StoredSecret,
        expect: Option<u64>,
    ) -> Answer {
        let old = self.secrets.iter().find(|old| old.name == wanted.name);
        versions(old.map(|old| old.version_number), expect)?;
        self.fits(&wanted.sealed)?;
        let same = old.filter(|old| old.sealed == wanted.sealed);
        let record = StoredSecret {
            created: old.map_or(self.clock, |old| old.created),
            set: same.map_or(self.clock, |old| old.set),
            by: same.map_or_else(|| self.author.clone(), |old| old.by.clone()),
            exposed: same.and_then(|old| old.exposed.clone()),
            version_number: number,
            ..wanted.clone()
        };
        self.secrets.retain(|old| old.name != wanted.name);
        self.secrets.push(record);
        Ok(Outcome::Done)
    }

    pub(super) fn remove_secret(&mut self, name: &SecretName) -> Answer {
        if !self.secrets.iter().any(|one| one.name == *name) {
            return Err("not found");
        }
        if self
            .apps
            .iter()
            .any(|app| given(app).contains(&name.as_str()))
        {
            return Err("secret in use");
        }
        self.secrets.retain(|one| one.name != *name);
        Ok(Outcome::Done)
    }

    /// What one side had set, with what is known of who could read it.
    pub(super) fn take_secret(
        &mut self,
        number: u64,
        wanted: &StoredSecret,
        expect: Option<u64>,
    ) -> Answer {
        self.put_secret(number, wanted, expect)?;
        for secret in &mut self.secrets {
            if secret.name == wanted.name && secret.exposed.is_none() {
                secret.exposed = wanted.exposed.clone();
            }
        }
        Ok(Outcome::Done)
    }

    pub(super) fn expose(&mut self, number: u64, gone: &Server) {
        if gone.standing != Standing::Voter {
            return;
        }
        let exposed = secret::Exposed {
            server: gone.name.to_string(),
            at: self.clock,
        };
        for secret in self.secrets.iter_mut().filter(|one| one.exposed.is_none()) {
            secret.exposed = Some(exposed.clone());
            secret.version_number = number;
        }
        for record in &mut self.diverged {
            let Some(Content::Secret(secret)) = &record.loser else {
                continue;
            };
            let mut secret = (**secret).clone();
            if secret.exposed.is_none() {
                secret.exposed = Some(exposed.clone());
            }
            record.loser = Some(Content::Secret(secret.into()));
        }
    }
}
