//! Divergences in their most obvious form: a list of records, looked through from end to end.

use super::{Answer, Plain};
use model::divergence::EditedServer;
use model::*;

impl Plain {
    pub(super) fn keep(&mut self, report: &Divergence, records: &[Diverged], last: bool) -> Answer {
        if report.formation.id == self.formation {
            return Err("invalid");
        }
        let id = report.formation.id;
        let held = self.divergences.iter().find(|one| one.formation.id == id);
        let held = held.cloned();
        if let Some(held) = &held
            && held.complete
            && held.number >= report.number
        {
            return Ok(Outcome::Done);
        }
        // What several records of one report say of one subject counts only by the last of them that is news.
        let before = self.diverged.clone();
        for record in records {
            let same_place = |one: &&Diverged| one.formation == id && one.subject == record.subject;
            if before
                .iter()
                .any(|one| same_place(&one) && one.number >= record.number)
            {
                continue;
            }
            self.diverged
                .retain(|one| one.formation != id || one.subject != record.subject);
            let fork = self.by_now(record.fork.clone());
            let loser = self.by_now(record.loser.clone());
            let here = self.present(&record.subject);
            let unchanged = fork.is_some() && alike(&fork, &loser);
            if !unchanged && !alike(&here, &loser) {
                self.diverged.push(record.clone());
            }
        }
        let next = Divergence {
            number: match held.as_ref().filter(|held| held.complete) {
                Some(whole) if last => whole.number.max(report.number),
                Some(whole) => whole.number,
                None => report.number,
            },
            kept: held.as_ref().map_or(self.clock, |held| held.kept),
            complete: last || held.as_ref().is_some_and(|held| held.complete),
            ..report.clone()
        };
        self.divergences.retain(|one| one.formation.id != id);
        self.divergences.push(next);
        Ok(Outcome::Done)
    }

    pub(super) fn decide(
        &mut self,
        number: u64,
        id: FormationId,
        subjects: &[Subject],
        apply: bool,
    ) -> Answer {
        let of_it: Vec<Diverged> = self
            .diverged
            .iter()
            .filter(|one| one.formation == id)
            .cloned()
            .collect();
        let known = |subject: &Subject| of_it.iter().any(|one| one.subject == *subject);
        if of_it.is_empty() || !subjects.iter().all(known) {
            return Err("not found");
        }
        let wanted = |one: &Diverged| subjects.is_empty() || subjects.contains(&one.subject);
        let mut chosen: Vec<Diverged> = of_it.iter().filter(|one| wanted(one)).cloned().collect();
        chosen.sort_by_key(|one| one.subject.clone());
        let mut left = if apply { chosen.clone() } else { Vec::new() };
        let mut refused = Vec::new();
        for _round in 0..3 {
            let before = left.len();
            refused.clear();
            left.retain(|one| match self.put(number, one) {
                Ok(_) => false,
                Err(word) => {
                    refused.push((one.subject.clone(), word));
                    true
                }
            });
            if left.len() == before {
                break;
            }
        }
        if subjects.len() == 1
            && let Some((_, word)) = refused.first()
        {
            return Err(word);
        }
        let is_in = |list: &[Diverged], one: &Diverged| {
            let mut list = list.iter();
            list.any(|it| it.formation == one.formation && it.subject == one.subject)
        };
        let gone = |one: &Diverged| is_in(&chosen, one) && !is_in(&left, one);
        self.diverged.retain(|one| !gone(one));
        self.refused = refused;
        Ok(Outcome::Divergence {
            done: (chosen.len() - left.len()) as u32,
            left: (of_it.len() - chosen.len() + left.len()) as u32,
            refused: Vec::new(),
        })
    }

    fn put(&mut self, number: u64, record: &Diverged) -> Answer {
        let mut all = self.diverged.iter();
        let same =
            |one: &&Diverged| one.formation == record.formation && one.subject == record.subject;
        let now = all.find(same).cloned();
        let record = now.as_ref().unwrap_or(record);
        let wanted = self.by_now(record.loser.clone());
        let here = self.present(&record.subject);
        if alike(&here, &wanted) {
            return Ok(Outcome::Done);
        }
        match (&record.subject, wanted) {
            (Subject::Setting(key, on), Some(Content::Setting(value))) => {
                self.set(key, Some(&value), *on)
            }
            (Subject::Setting(key, on), _) => self.set(key, None, *on),
            (Subject::User(name), Some(Content::User(user))) => {
                let held = self.users.iter().find(|one| one.name == *name);
                let version = held.map(|one| one.version_number);
                self.put_user(number, &user, version)
            }
            (Subject::User(name), _) => self.remove_user(name),
            (Subject::Application(name), Some(Content::Application(app))) => {
                let held = self.apps.iter().find(|one| one.name == *name);
                let version = held.map(|one| one.version_number);
                self.put_app(number, &app, version)
            }
            (Subject::Application(name), _) => self.remove_app(name),
            (Subject::Token(name), Some(Content::Token(token))) => {
                let held = self.tokens.iter().find(|one| one.token == *name);
                let version = held.map(|one| one.version_number);
                self.put_token(number, &token, version)
            }
            (Subject::Token(name), _) => self.remove_token(name),
            (Subject::Gateway(name), Some(Content::Gateway(gateway))) => {
                let held = self.gateways.iter().find(|one| one.name == *name);
                let version = held.map(|one| one.version_number);
                self.put_gateway(number, &gateway, version)
            }
            (Subject::Gateway(name), _) => self.remove_gateway(name),
            (Subject::Certificate(_), Some(Content::Certificate(one))) => {
                self.put_certificate(number, &one)
            }
            (Subject::Certificate(name), _) => self.remove_certificate(name),
            (Subject::Secret(name), Some(Content::Secret(secret))) => {
                let held = self.secrets.iter().find(|one| one.name == *name);
                let version = held.map(|one| one.version_number);
                self.take_secret(number, &secret, version)
            }
            (Subject::Secret(name), _) => self.remove_secret(name),
            (Subject::Profile(of), Some(Content::Profile(profile))) => {
                let held = self.profiles.iter().find(|one| one.audience == *of);
                let version = held.map(|one| one.version_number);
                self.put_profile(number, &profile, version)
            }
            (Subject::Profile(audience), _) => self.remove_profile(audience),
            (Subject::Preferences(of), Some(Content::Preferences(preferences))) => {
                let held = self.preferences.iter().find(|one| one.user == *of);
                let version = held.map(|one| one.version_number);
                self.prefer(number, &preferences, version)
            }
            (Subject::Preferences(user), _) => self.forget_preferences(user),
            (Subject::Server(id), Some(Content::Server(server))) => {
                self.edit_server(number, *id, &server)
            }
            (Subject::Removed(id), Some(_)) if self.known(*id).is_ok() => {
                self.remove_server(number, *id)
            }
            (Subject::Removed(id), Some(_)) => {
                self.removed.push(*id);
                Ok(Outcome::Done)
            }
            (Subject::Backups, Some(Content::Backups(list))) => self.set_backups(&list),
            (Subject::Pause, Some(Content::Pause(pause))) => {
                let week = 7 * 24 * 3_600_000;
                if pause.reason.is_empty() || pause.until.0 > self.clock.0 + week {
                    return Err("invalid");
                }
                self.pause = Some(pause);
                Ok(Outcome::Done)
            }
            (Subject::Pause, _) => {
                self.pause = None;
                Ok(Outcome::Done)
            }
            _ => Err("invalid"),
        }
    }

    /// The random changes take nobody offline.
    fn edit_server(&mut self, number: u64, id: ServerId, to: &EditedServer) -> Answer {
        let known = self.known(id).map_err(|_| "invalid")?;
        if !(100..=1_000_000).contains(&to.power) {
            return Err("invalid");
        }
        if known.peer_address != to.peer_address || known.client_address != to.client_address {
            let (peer, client) = (to.peer_address.clone(), to.client_address.clone());
            self.move_server(number, id, peer, client)?;
        }
        let place = self.servers.iter_mut().find(|server| server.id == id);
        let server = place.ok_or("invalid")?;
        if server.power != to.power || server.labels != to.labels {
            server.power = to.power;
            server.labels = to.labels.clone();
            server.version_number = number;
        }
        Ok(Outcome::Done)
    }

    fn by_now(&self, content: Option<Content>) -> Option<Content> {
        match content {
            Some(Content::Pause(pause)) if pause.until <= self.clock => None,
            other => other,
        }
    }

    /// What there is now.
    fn present(&self, subject: &Subject) -> Option<Content> {
        let found = match subject {
            Subject::Removed(id) => {
                let removed = self.removed.contains(id);
                removed.then_some(Content::Removed(UnixMillis(0)))
            }
            Subject::Server(id) => self
                .known(*id)
                .ok()
                .map(|server| Content::Server(server.into())),
            Subject::Setting(key, on) => self
                .settings
                .get(&(key.clone(), *on))
                .cloned()
                .map(Content::Setting),
            Subject::User(name) => {
                let user = self.users.iter().find(|user| user.name == *name);
                user.map(|user| Content::User(user.clone().into()))
            }
            Subject::Application(name) => {
                let app = self.apps.iter().find(|app| app.name == *name);
                app.map(|app| Content::Application(app.clone().into()))
            }
            Subject::Token(name) => {
                let token = self.tokens.iter().find(|token| token.token == *name);
                token.map(|token| Content::Token(token.clone().into()))
            }
            Subject::Gateway(name) => {
                let gateway = self.gateways.iter().find(|one| one.name == *name);
                gateway.map(|one| Content::Gateway(one.clone().into()))
            }
            Subject::Certificate(name) => {
                let one = self.certificates.iter().find(|one| one.name == *name);
                one.map(|one| Content::Certificate(one.clone().into()))
            }
            Subject::Secret(name) => {
                let secret = self.secrets.iter().find(|one| one.name == *name);
                secret.map(|one| Content::Secret(one.clone().into()))
            }
            Subject::Profile(of) => {
                let profile = self.profiles.iter().find(|one| one.audience == *of);
                profile.map(|one| Content::Profile(one.clone().into()))
            }
            Subject::Preferences(of) => {
                let preferences = self.preferences.iter().find(|one| one.user == *of);
                preferences.map(|one| Content::Preferences(one.clone().into()))
            }
            Subject::Backups => Some(Content::Backups(self.backups.clone())),
            Subject::Pause => self.pause.clone().map(Content::Pause),
        };
        self.by_now(found)
    }
}

/// Whether people would call both the same.
fn alike(one: &Option<Content>, other: &Option<Content>) -> bool {
    let (Some(Content::Secret(first)), Some(Content::Secret(second))) = (one, other) else {
        return seen(one) == seen(other);
    };
    // Of a value that was sealed anew nobody sees more than that it was set then, by whom, and that it is there.
    let of = |secret: &StoredSecret| (secret.set, secret.by.clone(), secret.sealed.0.is_empty());
    let anew = first.sealed.mark() != second.sealed.mark() && of(first) == of(second);
    (anew || first.sealed == second.sealed) && first.description == second.description
}

/// What people see of it.
fn seen(content: &Option<Content>) -> Option<Content> {
    content.clone().map(|content| match content {
        Content::Removed(_) => Content::Removed(UnixMillis(0)),
        Content::User(user) => {
            let mut user = (*user).clone();
            user.version_number = 0;
            user.password_set = UnixMillis(0);
            user.lock = None;
            Content::User(user.into())
        }
        Content::Application(app) => {
            let mut app = (*app).clone();
            app.version_number = 0;
            Content::Application(app.into())
        }
        Content::Token(token) => {
            let mut token = (*token).clone();
            token.version_number = 0;
            token.created = UnixMillis(0);
            Content::Token(token.into())
        }
        Content::Gateway(gateway) => {
            let mut gateway = (*gateway).clone();
            gateway.version_number = 0;
            Content::Gateway(gateway.into())
        }
        Content::Certificate(one) => {
            let mut one = (*one).clone();
            one.version_number = 0;
            one.key = Default::default();
            Content::Certificate(one.into())
        }
        Content::Profile(profile) => {
            let mut profile = (*profile).clone();
            profile.version_number = 0;
            profile.changed = UnixMillis(0);
            Content::Profile(profile.into())
        }
        Content::Preferences(preferences) => {
            let mut preferences = (*preferences).clone();
            preferences.version_number = 0;
            preferences.changed = UnixMillis(0);
            Content::Preferences(preferences.into())
        }
        other => other,
    })
}
