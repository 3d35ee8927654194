//! Changes of profiles and preferences.

use super::{Applying, bounds, expected};
use crate::change::{Kind, Outcome, Refusal};
use crate::event::{EventKind, Severity};
use crate::name::UserName;
use crate::profile::{
    Audience, Preferable, Preferences, Profile, ProfileChange, ProfileError, check,
};
use std::sync::Arc;

/// The most keys of one document.
const KEYS: usize = 256;

impl Applying<'_> {
    pub(super) fn change_profile(&mut self, change: &ProfileChange) -> Result<Outcome, Refusal> {
        match change {
            ProfileChange::Put { profile, expect } => self.put_profile(profile, *expect),
            ProfileChange::Remove { audience } => self.remove_profile(audience),
            ProfileChange::Prefer {
                preferences,
                expect,
            } => self.put_preferences(preferences, *expect),
            ProfileChange::Forget { user } => self.remove_preferences(user),
        }
    }

    pub(super) fn put_profile(
        &mut self,
        wanted: &Profile,
        expect: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        let old = self.directory.profiles.get(&wanted.audience);
        let found = old.map(|old| old.version_number);
        expected(Kind::Profile, &wanted.audience, found, expect)?;
        if old.is_none() {
            let held = self.directory.profiles.len();
            bounds::room(Kind::Profile, held, bounds::PROFILES)?;
        }
        let said = wanted.values.iter();
        document(said.map(|(key, said)| (key, &said.value)))?;
        self.check_audience(&wanted.audience)?;
        let record = Profile {
            changed: self.at,
            version_number: self.number,
            ..wanted.clone()
        };
        let what = if old.is_none() { "added" } else { "changed" };
        let profiles = &mut self.directory.profiles;
        profiles.insert(record.audience.clone(), Arc::new(record));
        self.profile_changed(&wanted.audience, what);
        Ok(Outcome::Done)
    }

    /// A profile is for somebody or something that there is. A token need not be registered.
    fn check_audience(&self, audience: &Audience) -> Result<(), Refusal> {
        let missing = |kind, name: &dyn ToString| Refusal::NotFound {
            kind,
            name: name.to_string(),
        };
        match audience {
            Audience::App(name) if !self.directory.apps.contains_key(name) => {
                Err(missing(Kind::Application, name))
            }
            Audience::User(name) if !self.directory.users.contains_key(name) => {
                Err(missing(Kind::User, name))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn remove_profile(&mut self, audience: &Audience) -> Result<Outcome, Refusal> {
        if self.directory.profiles.remove(audience).is_none() {
            return Err(Refusal::NotFound {
                kind: Kind::Profile,
                name: audience.to_string(),
            });
        }
        self.profile_changed(audience, "removed");
        Ok(Outcome::Done)
    }

    pub(super) fn put_preferences(
        &mut self,
        wanted: &Preferences,
        expect: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        let user = &wanted.user;
        let old = self.directory.preferences.get(user);
        let found = old.map(|old| old.version_number);
        expected(Kind::Preferences, user, found, expect)?;
        if !self.directory.users.contains_key(user) {
            return Err(Refusal::NotFound {
                kind: Kind::User,
                name: user.to_string(),
            });
        }
        for key in document(wanted.values.iter())? {
            if key.1 == Preferable::Never {
                let error = ProfileError::NotPreferable { key: key.0 };
                return Err(bounds::invalid("preferences", error.to_string()));
            }
        }
        let record = Preferences {
            changed: self.at,
            version_number: self.number,
            ..wanted.clone()
        };
        let preferences = &mut self.directory.preferences;
        preferences.insert(user.clone(), Arc::new(record));
        Ok(Outcome::Done)
    }

    pub(super) fn remove_preferences(&mut self, user: &UserName) -> Result<Outcome, Refusal> {
        match self.directory.preferences.remove(user) {
            Some(_) => Ok(Outcome::Done),
            None => Err(Refusal::NotFound {
                kind: Kind::Preferences,
                name: user.to_string(),
            }),
        }
    }

    /// What is said of a user, and by him, goes with him: a new account of an old name begins with none.
    pub(super) fn remove_documents_of(&mut self, user: &UserName) {
        let audience = Audience::User(user.clone());
        if self.directory.profiles.remove(&audience).is_some() {
            self.profile_changed(&audience, "removed");
        }
        self.directory.preferences.remove(user);
    }

    /// The same of an application.
    pub(super) fn remove_profile_of_app(&mut self, app: &crate::name::AppName) {
        let audience = Audience::App(app.clone());
        if self.directory.profiles.remove(&audience).is_some() {
            self.profile_changed(&audience, "removed");
        }
    }

    fn profile_changed(&mut self, audience: &Audience, what: &str) {
        let fields = [("change", what.to_owned())];
        self.event(EventKind::ProfileChanged, Severity::Info, audience, fields);
    }
}

/// Checks what a document says; gives its keys, and whether users may say them.
fn document<'a>(
    said: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<Vec<(String, Preferable)>, Refusal> {
    let (mut keys, mut bytes) = (Vec::new(), 0);
    for (key, value) in said {
        bounds::size("a key", key.len(), bounds::REMARK)?;
        bytes += key.len() + value.len() + 2;
        bounds::size("the document", bytes, bounds::DOCUMENT)?;
        let known = check(key, value);
        let known = known.map_err(|error| bounds::invalid("document", error.to_string()))?;
        keys.push((key.clone(), known.preference));
    }
    bounds::size("keys of the document", keys.len(), KEYS)?;
    Ok(keys)
}
