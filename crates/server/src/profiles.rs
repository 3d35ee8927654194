//! What profiles and preferences do: which application a client gets, what its sessions find in their environment, and what it is told.

use model::profile::{Effective, variable};
use model::{AppName, Application, Directory, Session, Token, User};
use std::collections::BTreeMap;
use wire::client::{Refused, Said};

/// How many applications a refusal lists.
const LISTED: usize = 20;

/// The application that a client gets which names none: what a profile locks, what is registered with the token, what a profile or the
/// user prefers, or the only one that he may use.
///
/// # Errors
/// There is none, or there are several.
pub(crate) fn usual_app(
    directory: &Directory,
    token: &Token,
    user: &User,
) -> Result<AppName, Refused> {
    let said = directory.effective(&user.name, token, None);
    let said = said.get("app");
    let locked = said.filter(|said| said.locked).and_then(app_of);
    let registered = directory.registered(token);
    let registered = registered.and_then(|known| known.app.clone());
    let preferred = said.and_then(app_of);
    let wanted = [locked, registered, preferred].into_iter().flatten();
    // One that is gone counts as none, and so does one that the user may not use, unless he was to have that and no other.
    let usable = |app: &AppName| directory.app(app).is_some();
    if let Some(app) = wanted.into_iter().find(usable) {
        return Ok(app);
    }
    let usable = directory.apps().filter(|app| app.admits(user));
    let usable: Vec<&AppName> = usable.map(|app| &app.name).collect();
    match usable.as_slice() {
        [app] => Ok((*app).clone()),
        [] => Err(Refused::NotAllowed {
            detail: "there is no application that this user may use".to_owned(),
        }),
        several => {
            let names: Vec<&str> = several
                .iter()
                .take(LISTED)
                .map(|app| app.as_str())
                .collect();
            let detail = format!("say which application: {}", names.join(", "));
            Err(Refused::NotAllowed { detail })
        }
    }
}

fn app_of(said: &Effective) -> Option<AppName> {
    said.value.parse().ok()
}

/// An application as a session of it is started: with the variables that its user's profiles and preferences say.
pub(crate) fn for_session(
    directory: &Directory,
    session: &Session,
    mut app: Application,
) -> Application {
    for (key, said) in held(directory, session) {
        if let Some(name) = variable(&key) {
            app.env.insert(name.to_owned(), said.value);
        }
    }
    app
}

/// What a client is told that opened a session.
pub(crate) fn said(directory: &Directory, session: Option<&Session>) -> Said {
    let mut held = session
        .map(|session| held(directory, session))
        .unwrap_or_default();
    let mut take = |key: &str| held.remove(key).map(|said| said.value);
    Said {
        listen: take("listen").and_then(|listen| listen.parse().ok()),
        notice: take("notice"),
    }
}

fn held(directory: &Directory, session: &Session) -> BTreeMap<String, Effective> {
    directory.effective(&session.user, &session.token, Some(&session.app))
}
