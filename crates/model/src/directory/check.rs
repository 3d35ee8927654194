//! What must always be true of a directory, checked the slow and obvious way: for tests, simulation and doubt.

use super::Directory;
use super::index::mark;
use crate::profile::Audience;
use crate::server::Standing;
use std::collections::{BTreeMap, BTreeSet};

impl Directory {
    /// Everything in which the directory contradicts itself, in words; empty when all is well. Looks at every record.
    pub fn check(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.check_sessions(&mut found);
        self.check_group(&mut found);
        self.check_journal(&mut found);
        self.check_divergences(&mut found);
        self.check_tokens(&mut found);
        self.check_gateways(&mut found);
        self.check_certificates(&mut found);
        self.check_secrets(&mut found);
        self.check_profiles(&mut found);
        found
    }

    fn check_sessions(&self, found: &mut Vec<String>) {
        let mut current = BTreeMap::new();
        let mut by_token = BTreeSet::new();
        let mut by_user = BTreeSet::new();
        let mut by_host = BTreeMap::<_, BTreeSet<_>>::new();
        let mut ended = BTreeSet::new();
        let mut per_host = BTreeMap::new();
        for (id, session) in &self.sessions {
            if *id != session.id {
                found.push(format!("session {} is kept under {id}", session.id));
            }
            if session.is_live() != session.ended.is_none()
                || (session.current && !session.is_live())
            {
                found.push(format!("session {id} contradicts itself: {session:?}"));
            }
            if let Some(at) = session.ended {
                ended.insert((at, *id));
                continue;
            }
            if session.current
                && let Some(other) = current.insert((&session.token, &session.app), *id)
            {
                found.push(format!(
                    "sessions {other} and {id} are both current for {} and {}",
                    session.token, session.app
                ));
            }
            by_token.insert((mark(session.token.as_str()), *id));
            by_user.insert((mark(session.user.as_str()), *id));
            by_host.entry(session.host).or_default().insert(*id);
            *per_host
                .entry((session.app.clone(), session.host))
                .or_insert(0u32) += 1;
        }
        let on_hosts: BTreeMap<_, BTreeSet<_>> = self
            .by_host
            .iter()
            .map(|(host, ids)| (*host, ids.iter().copied().collect()))
            .collect();
        let agree = [
            ("sessions by token", self.by_token.iter().eq(by_token)),
            ("sessions by user", self.by_user.iter().copied().eq(by_user)),
            ("sessions by host", on_hosts == by_host),
            ("ended sessions", self.ended.iter().copied().eq(ended)),
            (
                "sessions per host",
                self.per_host
                    .iter()
                    .map(|(k, v)| (k.clone(), *v))
                    .eq(per_host),
            ),
        ];
        let wrong = agree.iter().filter(|(_, agrees)| !agrees);
        found.extend(
            wrong.map(|(index, _)| format!("the index of {index} does not agree with the table")),
        );
    }

    fn check_group(&self, found: &mut Vec<String>) {
        let mut names = BTreeSet::new();
        for (id, server) in &self.servers {
            if *id != server.id {
                found.push(format!("server {} is kept under {id}", server.id));
            }
            if !names.insert(server.name.as_str().to_ascii_lowercase()) {
                found.push(format!("two servers are called {}", server.name));
            }
            if self.removed.contains_key(id) {
                found.push(format!("server {} is a member and removed", server.name));
            }
            if server.voting && !server.standing.votes() {
                found.push(format!("server {} counts and must not", server.name));
            }
            if server.feature_level < self.group.feature_level {
                found.push(format!(
                    "server {} is older than the group's feature level",
                    server.name
                ));
            }
        }
        if self.voters().next().is_none() {
            found.push("nobody counts".to_owned());
        }
        let mut listed = BTreeSet::new();
        for id in &self.group.backups {
            let fit = self
                .servers
                .get(id)
                .is_some_and(|server| server.standing == Standing::Voter);
            if !fit || !listed.insert(*id) {
                found.push(format!(
                    "the backup list holds {} wrongly",
                    self.name_of(*id)
                ));
            }
        }
        if let Err(error) = self.settings.check() {
            found.push(error.to_string());
        }
    }

    fn check_journal(&self, found: &mut Vec<String>) {
        if self
            .journal
            .iter()
            .any(|(seq, event)| *seq != event.seq || *seq > self.group.last_event || *seq == 0)
        {
            found.push("an event stands at a place that is not its own".to_owned());
        }
        if !self.answers.agrees(&self.answered) {
            found.push("the keys of the answered changes do not agree with the table".to_owned());
        }
    }

    fn check_tokens(&self, found: &mut Vec<String>) {
        let mut aliases = BTreeMap::new();
        for (token, record) in &self.tokens {
            if *token != record.token {
                found.push(format!("token {} is kept under {token}", record.token));
            }
            for alias in &record.aliases {
                if self.tokens.contains_key(alias) || aliases.insert(alias, token).is_some() {
                    found.push(format!("{alias} is the name of two tokens"));
                }
            }
            if !self.users.contains_key(&record.user) {
                found.push(format!("token {token} belongs to nobody"));
            }
        }
        if !self.aliases.iter().eq(aliases) {
            found.push("the index of aliases does not agree with the table".to_owned());
        }
    }

    fn check_certificates(&self, found: &mut Vec<String>) {
        for (name, certificate) in &self.certificates {
            if *name != certificate.name {
                let own = &certificate.name;
                found.push(format!("the certificate for {own} is kept under {name}"));
            }
        }
    }

    fn check_gateways(&self, found: &mut Vec<String>) {
        for (name, gateway) in &self.gateways {
            if *name != gateway.name {
                found.push(format!("gateway {} is kept under {name}", gateway.name));
            }
            let app = self.apps.get(&gateway.app);
            if app.is_none_or(|app| app.launch.is_some()) {
                found.push(format!("gateway {name} leads nowhere"));
            }
        }
    }

    fn check_secrets(&self, found: &mut Vec<String>) {
        for (name, secret) in &self.secrets {
            if *name != secret.name {
                found.push(format!("secret {} is kept under {name}", secret.name));
            }
        }
        for app in self.apps.values() {
            let given = app.secrets().unwrap_or_default();
            let missing = given.iter().find(|name| !self.secrets.contains_key(*name));
            found.extend(
                missing.map(|name| format!("{} is given {name}, which is not there", app.name)),
            );
        }
    }

    fn check_profiles(&self, found: &mut Vec<String>) {
        for (audience, profile) in &self.profiles {
            let there = match audience {
                Audience::App(name) => self.apps.contains_key(name),
                Audience::User(name) => self.users.contains_key(name),
                Audience::Group | Audience::Token(_) => true,
            };
            if *audience != profile.audience || !there {
                found.push(format!("profile {audience} is of {}", profile.audience));
            }
        }
        for (user, preferences) in &self.preferences {
            if *user != preferences.user || !self.users.contains_key(user) {
                found.push(format!("{user} has preferences of {}", preferences.user));
            }
        }
    }

    fn check_divergences(&self, found: &mut Vec<String>) {
        let mut counted = BTreeMap::new();
        for ((formation, subject), record) in &self.diverged {
            if record.formation != *formation || record.subject != *subject {
                found.push(format!("{subject} of {formation} is kept at another place"));
            }
            *counted.entry(*formation).or_insert(0u32) += 1;
        }
        for (id, divergence) in &self.divergences {
            if *id != divergence.formation.id {
                found.push(format!("the divergence of {id} is kept at another place"));
            }
            if counted.remove(id).unwrap_or(0) != divergence.records {
                found.push(format!(
                    "the records of the divergence of {id} are miscounted"
                ));
            }
        }
        if !counted.is_empty() {
            found.push("a record diverged in a formation that nobody knows".to_owned());
        }
        if self.group.last_user_change > self.group.number {
            found.push("the newest change by a person is yet to come".to_owned());
        }
    }
}
