//! Profiles and preferences in their most obvious form.

use super::{Answer, Plain, versions};
use model::profile::Audience;
use model::*;

/// The random documents say these, and nothing else that fits.
fn fits(key: &str, value: &str) -> bool {
    matches!(
        (key, value),
        ("app", "shell") | ("env.LANG", "de") | ("notice", "hello")
    )
}

impl Plain {
    pub(super) fn put_profile(
        &mut self,
        number: u64,
        wanted: &Profile,
        expect: Option<u64>,
    ) -> Answer {
        let mut all = self.profiles.iter();
        let old = all.find(|old| old.audience == wanted.audience);
        versions(old.map(|old| old.version_number), expect)?;
        let mut said = wanted.values.iter();
        if said.any(|(key, said)| !fits(key, &said.value)) {
            return Err("invalid");
        }
        let there = match &wanted.audience {
            Audience::App(name) => self.apps.iter().any(|app| app.name == *name),
            Audience::User(name) => self.users.iter().any(|user| user.name == *name),
            _ => true,
        };
        if !there {
            return Err("not found");
        }
        self.profiles.retain(|old| old.audience != wanted.audience);
        self.profiles.push(Profile {
            changed: self.clock,
            version_number: number,
            ..wanted.clone()
        });
        Ok(Outcome::Done)
    }

    pub(super) fn remove_profile(&mut self, audience: &Audience) -> Answer {
        let before = self.profiles.len();
        self.profiles.retain(|one| one.audience != *audience);
        match self.profiles.len() < before {
            true => Ok(Outcome::Done),
            false => Err("not found"),
        }
    }

    pub(super) fn prefer(
        &mut self,
        number: u64,
        wanted: &Preferences,
        expect: Option<u64>,
    ) -> Answer {
        let mut all = self.preferences.iter();
        let old = all.find(|old| old.user == wanted.user);
        versions(old.map(|old| old.version_number), expect)?;
        if !self.users.iter().any(|user| user.name == wanted.user) {
            return Err("not found");
        }
        let mut said = wanted.values.iter();
        if said.any(|(key, value)| key == "notice" || !fits(key, value)) {
            return Err("invalid");
        }
        self.preferences.retain(|old| old.user != wanted.user);
        self.preferences.push(Preferences {
            changed: self.clock,
            version_number: number,
            ..wanted.clone()
        });
        Ok(Outcome::Done)
    }

    pub(super) fn forget_preferences(&mut self, user: &UserName) -> Answer {
        let before = self.preferences.len();
        self.preferences.retain(|one| one.user != *user);
        match self.preferences.len() < before {
            true => Ok(Outcome::Done),
            false => Err("not found"),
        }
    }

    pub(super) fn change_profile(&mut self, number: u64, change: &ProfileChange) -> Answer {
        match change {
            ProfileChange::Put { profile, expect } => self.put_profile(number, profile, *expect),
            ProfileChange::Remove { audience } => self.remove_profile(audience),
            ProfileChange::Prefer {
                preferences,
                expect,
            } => self.prefer(number, preferences, *expect),
            ProfileChange::Forget { user } => self.forget_preferences(user),
        }
    }
}
