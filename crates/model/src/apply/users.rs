//! Changes of accounts. There is always an administrator who can log in.

use super::{Applying, bounds};
use crate::authentication::Origin;
use crate::change::{Command, Kind, Outcome, Refusal};
use crate::event::{EventKind, Severity};
use crate::name::UserName;
use crate::user::{ApiToken, Lock, Role, User};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most groups of one account.
const GROUPS: usize = 256;
/// The most bytes of a password's hash.
const HASH: usize = 1024;

impl Applying<'_> {
    pub(super) fn about_users(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        match command {
            Command::PutUser { user, expect } => self.put_user(user, *expect),
            Command::RemoveUser { name } => self.remove_user(name),
            Command::LockUser { name, failures } => self.lock_user(name, *failures),
            Command::UnlockUser { name } => self.unlock_user(name),
            other => unreachable!("invariant: only what is about users comes here, not {other:?}"),
        }
    }

    pub(super) fn put_user(
        &mut self,
        user: &User,
        expect: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        let old = self.directory.users.get(&user.name).cloned();
        super::expected(
            Kind::User,
            &user.name,
            old.as_ref().map(|old| old.version_number),
            expect,
        )?;
        if old.is_none() {
            bounds::room(Kind::User, self.directory.users.len(), bounds::USERS)?;
            if user.name.is_nobody() {
                let why =
                    "the sessions of gateways' clients that nobody is known for have this name";
                return Err(bounds::invalid("name", why));
            }
        }
        bounds::size("password hash", user.password.0.len(), HASH)?;
        bounds::size("groups of the user", user.groups.len(), GROUPS)?;
        for group in &user.groups {
            bounds::line("a group's name", group, crate::name::NAME_LIMIT)?;
        }
        bounds::size(
            "API tokens of the user",
            user.api_tokens.len(),
            ApiToken::LIMIT,
        )?;
        let names: BTreeSet<_> = user.api_tokens.iter().map(|token| &token.name).collect();
        if names.len() < user.api_tokens.len() {
            return Err(bounds::invalid("API tokens", "two have one name"));
        }
        if !administers(user) {
            self.keep_an_administrator(&user.name)?;
        }
        let same_password = old.as_ref().filter(|old| old.password == user.password);
        let password_set = same_password.map_or(self.at, |old| old.password_set);
        let record = User {
            password_set,
            version_number: self.number,
            lock: old.as_ref().and_then(|old| old.lock),
            origin: old.as_ref().map_or(user.origin, |old| old.origin),
            ..user.clone()
        };
        let what = if old.is_none() { "added" } else { "changed" };
        let mut fields = vec![("change", what.to_owned())];
        if old.is_none() && record.origin != Origin::Directory {
            fields.push(("origin", record.origin.as_str().to_owned()));
        }
        self.directory
            .users
            .insert(record.name.clone(), Arc::new(record));
        self.event(EventKind::UserChanged, Severity::Info, &user.name, fields);
        Ok(Outcome::Done)
    }

    pub(super) fn remove_user(&mut self, name: &UserName) -> Result<Outcome, Refusal> {
        if !self.directory.users.contains_key(name) {
            return Err(Refusal::NotFound {
                kind: Kind::User,
                name: name.to_string(),
            });
        }
        self.keep_an_administrator(name)?;
        self.directory.users.remove(name);
        self.remove_tokens_of(name);
        self.remove_documents_of(name);
        self.event(
            EventKind::UserChanged,
            Severity::Info,
            name,
            [("change", "removed".to_owned())],
        );
        Ok(Outcome::Done)
    }

    fn lock_user(&mut self, name: &UserName, failures: u32) -> Result<Outcome, Refusal> {
        let user = self.known_user(name)?;
        if user.locked_until(self.at).is_some() {
            return Ok(Outcome::Done);
        }
        let span = self.directory.settings.lockout_time();
        let until = self.at.after(span);
        self.set_lock(
            &user,
            Lock {
                since: self.at,
                until,
                failures,
                lifted: false,
            },
        );
        self.event(
            EventKind::AccountLocked,
            Severity::Warning,
            name,
            [
                ("failures", failures.to_string()),
                ("until", until.to_string()),
            ],
        );
        Ok(Outcome::Done)
    }

    fn unlock_user(&mut self, name: &UserName) -> Result<Outcome, Refusal> {
        let user = self.known_user(name)?;
        let held = user.lock.filter(|lock| self.at < lock.until);
        self.set_lock(
            &user,
            Lock {
                since: held.map_or(self.at, |held| held.since),
                until: self.at,
                failures: held.map_or(0, |held| held.failures),
                lifted: true,
            },
        );
        self.event(
            EventKind::UserChanged,
            Severity::Info,
            name,
            [("change", "unlocked".to_owned())],
        );
        Ok(Outcome::Done)
    }

    fn known_user(&self, name: &UserName) -> Result<Arc<User>, Refusal> {
        let user = self.directory.users.get(name).cloned();
        user.ok_or_else(|| Refusal::NotFound {
            kind: Kind::User,
            name: name.to_string(),
        })
    }

    /// The record stays at its version: a stranger is not to get in the way of who edits it.
    fn set_lock(&mut self, user: &User, lock: Lock) {
        let record = User {
            lock: Some(lock),
            ..user.clone()
        };
        self.directory
            .users
            .insert(record.name.clone(), Arc::new(record));
    }

    /// Refuses that `name` stops being an administrator when nobody else is one.
    fn keep_an_administrator(&self, name: &UserName) -> Result<(), Refusal> {
        let users = &self.directory.users;
        if !users.get(name).is_some_and(|user| administers(user)) {
            return Ok(());
        }
        if users
            .values()
            .any(|other| other.name != *name && administers(other))
        {
            return Ok(());
        }
        Err(Refusal::LastAdministrator { name: name.clone() })
    }
}

/// Whoever is checked elsewhere does not count: what is elsewhere may be out of reach.
fn administers(user: &User) -> bool {
    user.role == Role::Admin && !user.disabled && user.has_password()
}
