//! The register of tokens in its most obvious form.

use super::{Answer, Plain, versions};
use crate::common::token as named;
use model::*;

impl Plain {
    /// The entry that goes by this name.
    pub(crate) fn entry(&self, name: &Token) -> Option<&RegisteredToken> {
        let goes_by = |one: &&RegisteredToken| one.token == *name || one.aliases.contains(name);
        self.tokens.iter().find(goes_by)
    }

    pub(super) fn put_token(
        &mut self,
        number: u64,
        wanted: &RegisteredToken,
        expect: Option<u64>,
    ) -> Answer {
        let old = self.tokens.iter().find(|old| old.token == wanted.token);
        let created = old.map_or(self.clock, |old| old.created);
        versions(old.map(|old| old.version_number), expect)?;
        if !self.users.iter().any(|user| user.name == wanted.user) {
            return Err("not found");
        }
        let app = wanted.app.as_ref();
        if app.is_some_and(|app| !self.apps.iter().any(|one| one.name == *app)) {
            return Err("not found");
        }
        let names: Vec<&Token> = [&wanted.token].into_iter().chain(&wanted.aliases).collect();
        for (place, name) in names.iter().enumerate() {
            if self.entry(name).is_some_and(|of| of.token != wanted.token) {
                return Err("exists");
            }
            // `user.ann` is ann's alone.
            let owner = name.as_str().strip_prefix("user.");
            if owner.is_some_and(|owner| owner != wanted.user.as_str()) {
                return Err("invalid");
            }
            let lives = |s: &Session| s.token == **name && s.is_live();
            if **name != wanted.token && self.sessions.iter().any(lives) {
                return Err("token in use");
            }
            if names[..place].contains(name) {
                return Err("invalid");
            }
        }
        self.tokens.retain(|old| old.token != wanted.token);
        self.tokens.push(RegisteredToken {
            created,
            version_number: number,
            ..wanted.clone()
        });
        Ok(Outcome::Done)
    }

    pub(super) fn remove_token(&mut self, token: &Token) -> Answer {
        let before = self.tokens.len();
        self.tokens.retain(|one| one.token != *token);
        match self.tokens.len() < before {
            true => Ok(Outcome::Done),
            false => Err("not found"),
        }
    }

    pub(super) fn unregistered(&self) -> &str {
        let set = self.settings.get(&("tokens.unregistered".to_owned(), None));
        set.map_or("allow", String::as_str)
    }

    /// The token that a user may use under a name.
    pub(super) fn admitted(&self, name: &Token, user: &UserName) -> Result<Token, &'static str> {
        let owner = match self.entry(name) {
            Some(entry) if !entry.enabled => return Err("token disabled"),
            Some(entry) => Some(entry.user.to_string()),
            None => name.as_str().strip_prefix("user.").map(str::to_owned),
        };
        match owner {
            Some(owner) if owner != user.as_str() => Err("token of another"),
            None if self.unregistered() == "refuse" => Err("token unknown"),
            _ => Ok(self.entry(name).map_or(name, |entry| &entry.token).clone()),
        }
    }

    pub(super) fn register_if_new(&mut self, number: u64, token: &Token, user: &UserName) {
        let registers = self.unregistered() == "register" && !token.as_str().starts_with("user.");
        if registers && self.entry(token).is_none() {
            self.tokens.push(RegisteredToken {
                token: named(token.as_str()),
                user: user.clone(),
                app: None,
                home: None,
                enabled: true,
                aliases: Vec::new(),
                created: self.clock,
                version_number: number,
            });
        }
    }
}
