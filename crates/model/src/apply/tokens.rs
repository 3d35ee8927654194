//! Changes of the register of tokens.

use super::{Applying, bounds};
use crate::change::{Command, Kind, Outcome, Refusal};
use crate::event::{EventKind, Severity};
use crate::name::{Token, UserName};
use crate::settings::Unregistered;
use crate::token::{ALIASES, RegisteredToken};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Applying<'_> {
    pub(super) fn about_tokens(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        match command {
            Command::PutToken { token, expect } => self.put_token(token, *expect),
            Command::RemoveToken { token } => self.remove_token(token),
            other => unreachable!("invariant: only what is about tokens comes here, not {other:?}"),
        }
    }

    pub(super) fn put_token(
        &mut self,
        wanted: &RegisteredToken,
        expect: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        let old = self.directory.tokens.get(&wanted.token).cloned();
        let found = old.as_ref().map(|old| old.version_number);
        super::expected(Kind::Token, &wanted.token, found, expect)?;
        if old.is_none() {
            bounds::room(Kind::Token, self.directory.tokens.len(), bounds::TOKENS)?;
        }
        self.check_token(wanted)?;
        if let Some(old) = &old {
            self.forget_token(old);
        }
        let created = old.as_ref().map_or(self.at, |old| old.created);
        self.enter_token(RegisteredToken {
            created,
            version_number: self.number,
            ..wanted.clone()
        });
        let what = if old.is_none() { "added" } else { "changed" };
        self.token_changed(&wanted.token, &wanted.user, what);
        Ok(Outcome::Done)
    }

    fn check_token(&self, wanted: &RegisteredToken) -> Result<(), Refusal> {
        let not_found = |kind, name: &dyn ToString| Refusal::NotFound {
            kind,
            name: name.to_string(),
        };
        if !self.directory.users.contains_key(&wanted.user) {
            return Err(not_found(Kind::User, &wanted.user));
        }
        let app = wanted.app.as_ref();
        if let Some(app) = app.filter(|app| !self.directory.apps.contains_key(*app)) {
            return Err(not_found(Kind::Application, app));
        }
        bounds::size("aliases of the token", wanted.aliases.len(), ALIASES)?;
        let mut names = BTreeSet::new();
        for name in std::iter::once(&wanted.token).chain(&wanted.aliases) {
            self.check_name(wanted, name)?;
            if !names.insert(name) {
                return Err(bounds::invalid("aliases", format!("{name} is given twice")));
            }
        }
        Ok(())
    }

    /// A name of a token: nobody else's, and no alias hides sessions of its own.
    fn check_name(&self, wanted: &RegisteredToken, name: &Token) -> Result<(), Refusal> {
        let is_alias = *name != wanted.token;
        let taken = self
            .directory
            .aliases
            .get(name)
            .is_some_and(|of| *of != wanted.token)
            || (is_alias && self.directory.tokens.contains_key(name));
        if taken {
            return Err(Refusal::Exists {
                kind: Kind::Token,
                name: name.to_string(),
            });
        }
        if name
            .names_user()
            .is_some_and(|owner| owner != wanted.user.as_str())
        {
            return Err(bounds::invalid(
                "token",
                format!("{name} is that user's by its name"),
            ));
        }
        let sessions = match is_alias {
            true => self.directory.sessions_of(name).len(),
            false => 0,
        };
        match sessions {
            0 => Ok(()),
            _ => Err(Refusal::TokenInUse {
                token: name.clone(),
                sessions: sessions as u64,
            }),
        }
    }

    pub(super) fn remove_token(&mut self, token: &Token) -> Result<Outcome, Refusal> {
        let Some(old) = self.directory.tokens.get(token).cloned() else {
            return Err(Refusal::NotFound {
                kind: Kind::Token,
                name: token.to_string(),
            });
        };
        self.forget_token(&old);
        self.token_changed(token, &old.user, "removed");
        Ok(Outcome::Done)
    }

    /// Tokens do not outlive their user.
    pub(super) fn remove_tokens_of(&mut self, user: &UserName) {
        let of_user = self.directory.tokens.values();
        let gone: Vec<_> = of_user.filter(|one| one.user == *user).cloned().collect();
        for one in gone {
            self.forget_token(&one);
        }
    }

    /// A token that somebody uses for the first time becomes that user's, where `tokens.unregistered` says so.
    pub(super) fn register_if_new(&mut self, token: &Token, user: &UserName) {
        let directory = &self.directory;
        let is_new = directory.registered(token).is_none() && token.names_user().is_none();
        let registers = directory.settings.unregistered() == Unregistered::Register;
        if !is_new || !registers || directory.tokens.len() >= bounds::TOKENS {
            return;
        }
        self.enter_token(RegisteredToken {
            token: token.clone(),
            user: user.clone(),
            app: None,
            home: None,
            enabled: true,
            aliases: Vec::new(),
            created: self.at,
            version_number: self.number,
        });
        self.token_changed(token, user, "registered");
    }

    fn enter_token(&mut self, record: RegisteredToken) {
        for alias in &record.aliases {
            let aliases = &mut self.directory.aliases;
            aliases.insert(alias.clone(), record.token.clone());
        }
        let tokens = &mut self.directory.tokens;
        tokens.insert(record.token.clone(), Arc::new(record));
    }

    fn forget_token(&mut self, record: &RegisteredToken) {
        for alias in &record.aliases {
            self.directory.aliases.remove(alias);
        }
        self.directory.tokens.remove(&record.token);
    }

    fn token_changed(&mut self, token: &Token, user: &UserName, what: &str) {
        let fields = [("change", what.to_owned()), ("user", user.to_string())];
        self.event(EventKind::TokenChanged, Severity::Info, token, fields);
    }
}
