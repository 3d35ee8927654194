//! Profiles, preferences and stored credentials as bodies.

use crate::api::bodies::{self, rfc3339};
use model::profile::{Effective, ProfileValue};
use model::{Directory, Preferences, Profile, StoredSecret, UserName};
use std::collections::BTreeMap;

/// A profile.
pub(in crate::api) fn profile(profile: &Profile) -> bodies::Profile {
    let said = |said: &ProfileValue| bodies::ProfileValue {
        value: said.value.clone(),
        locked: said.locked,
    };
    bodies::Profile {
        name: profile.audience.to_string(),
        values: (profile.values.iter())
            .map(|(key, value)| (key.clone(), said(value)))
            .collect(),
        changed: rfc3339(profile.changed),
        version_number: profile.version_number,
    }
}

/// A user's preferences.
pub(in crate::api) fn preferences(preferences: &Preferences) -> bodies::Preferences {
    bodies::Preferences {
        name: preferences.user.to_string(),
        values: preferences.values.clone(),
        changed: Some(rfc3339(preferences.changed)),
        version_number: preferences.version_number,
    }
}

/// Those of a user who has none.
pub(in crate::api) fn no_preferences(user: &UserName) -> bodies::Preferences {
    bodies::Preferences {
        name: user.to_string(),
        values: BTreeMap::new(),
        changed: None,
        version_number: 0,
    }
}

/// What holds for a user.
pub(in crate::api) fn effective(key: &str, said: &Effective) -> bodies::EffectiveValue {
    bodies::EffectiveValue {
        name: key.to_owned(),
        value: said.value.clone(),
        from: said.from.to_string(),
        locked: said.locked,
        passed_over: said.passed_over.iter().map(ToString::to_string).collect(),
    }
}

/// What is known of a stored credential.
pub(in crate::api) fn secret(directory: &Directory, secret: &StoredSecret) -> bodies::StoredSecret {
    bodies::StoredSecret {
        name: secret.name.to_string(),
        description: secret.description.clone(),
        created: rfc3339(secret.created),
        set: rfc3339(secret.set),
        by: secret.by.clone(),
        apps: (directory.given_to(&secret.name))
            .map(|app| app.name.to_string())
            .collect(),
        has_value: !secret.is_lost(),
        change_because: change_because(secret),
        version_number: secret.version_number,
    }
}

fn change_because(secret: &StoredSecret) -> Option<String> {
    if secret.is_lost() {
        let why =
            "this server could not open the value when it left its group: it has to be set again";
        return Some(why.to_owned());
    }
    let exposed = secret.exposed.as_ref()?;
    let (server, at) = (&exposed.server, rfc3339(exposed.at));
    Some(format!("{server} could read it and was removed at {at}"))
}
