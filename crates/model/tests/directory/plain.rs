//! The plain twin: the same rules in the most obvious form, lists that are looked through from end to end.
//!
//! It answers with a word where the directory refuses with figures. Events are not its business.

pub(crate) use authority::Authorities;
use model::change::SessionLimit;
use model::*;
pub(crate) use seal::Seals;
use std::collections::BTreeMap;

mod addresses;
mod authority;
mod backups;
mod certificates;
mod divergence;
mod gateways;
mod locks;
mod moving;
mod of_group;
mod profiles;
mod seal;
mod secrets;
mod tokens;

/// What came of a change: the outcome, or the word of the refusal.
pub(crate) type Answer = Result<Outcome, &'static str>;

/// The word of a refusal.
pub(crate) fn word(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NotFound { .. } => "not found",
        Refusal::Exists { .. } => "exists",
        Refusal::Version { .. } => "version",
        Refusal::Setting(_) => "setting",
        Refusal::SessionLimit {
            limit: SessionLimit::PerUser,
            ..
        } => "per user",
        Refusal::SessionLimit {
            limit: SessionLimit::PerServer,
            ..
        } => "per server",
        Refusal::LastAdministrator { .. } => "last administrator",
        Refusal::InUse { .. } => "in use",
        Refusal::IsPrimary { .. } => "primary",
        Refusal::InvitationUsed { .. } => "used",
        Refusal::InvitationExpired => "expired",
        Refusal::ServerRemoved { .. } => "removed",
        Refusal::Unfit { .. } => "unfit",
        Refusal::NotAllowed { .. } => "not allowed",
        Refusal::Invalid { .. } => "invalid",
        Refusal::LastVoter { .. } => "last voter",
        Refusal::TooOld { .. } => "too old",
        Refusal::OtherUser { .. } => "other user",
        Refusal::NotPaused => "not paused",
        Refusal::ModeNeeded { .. } => "mode needed",
        Refusal::TokenDisabled { .. } => "token disabled",
        Refusal::TokenOfAnother { .. } => "token of another",
        Refusal::TokenUnknown { .. } => "token unknown",
        Refusal::TokenInUse { .. } => "token in use",
        Refusal::SecretInUse { .. } => "secret in use",
        Refusal::SecretInSetting { .. } => "secret in setting",
        Refusal::Full { .. } | Refusal::TooLarge { .. } | Refusal::StructureBusy { .. } => "bounds",
    }
}

/// The directory as plain lists.
pub(crate) struct Plain {
    pub(crate) servers: Vec<Server>,
    pub(crate) removed: Vec<ServerId>,
    pub(crate) backups: Vec<ServerId>,
    pub(crate) primary: Option<ServerId>,
    pub(crate) pause: Option<Pause>,
    /// The mark of the group secret, and whether it rotates.
    pub(crate) secret: (SecretMark, bool),
    pub(crate) authorities: Authorities,
    pub(crate) seals: Seals,
    pub(crate) mode: ResilienceMode,
    pub(crate) users: Vec<User>,
    pub(crate) apps: Vec<Application>,
    pub(crate) tokens: Vec<RegisteredToken>,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) certificates: Vec<ExternalCertificate>,
    pub(crate) secrets: Vec<StoredSecret>,
    pub(crate) profiles: Vec<Profile>,
    pub(crate) preferences: Vec<Preferences>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) invitations: Vec<Invitation>,
    pub(crate) settings: BTreeMap<(String, Option<ServerId>), String>,
    pub(crate) divergences: Vec<Divergence>,
    pub(crate) diverged: Vec<Diverged>,
    /// What the newest change could not apply, and the words of the refusals.
    pub(crate) refused: Vec<(Subject, &'static str)>,
    pub(crate) last_user_change: u64,
    formation: FormationId,
    clock: UnixMillis,
    /// Who makes the change, in words.
    author: String,
    answered: Vec<(ChangeId, Answer)>,
}

impl Plain {
    /// The same as a directory in which nothing has happened but its founding.
    pub(crate) fn of(directory: &Directory) -> Self {
        Self {
            servers: directory
                .servers()
                .map(|server| (**server).clone())
                .collect(),
            removed: Vec::new(),
            backups: directory.group().backups.clone(),
            primary: directory.group().primary,
            pause: None,
            secret: Default::default(),
            authorities: Authorities::of(directory),
            seals: Seals::of(directory),
            mode: directory.group().mode,
            users: directory.users().map(|user| (**user).clone()).collect(),
            apps: Vec::new(),
            tokens: Vec::new(),
            gateways: Vec::new(),
            certificates: Vec::new(),
            secrets: Vec::new(),
            profiles: Vec::new(),
            preferences: Vec::new(),
            sessions: Vec::new(),
            invitations: Vec::new(),
            settings: BTreeMap::new(),
            divergences: Vec::new(),
            diverged: Vec::new(),
            refused: Vec::new(),
            last_user_change: 0,
            formation: directory.group().formation.this.id,
            clock: directory.group().clock,
            author: String::new(),
            answered: Vec::new(),
        }
    }

    /// One change.
    pub(crate) fn apply(&mut self, number: u64, change: &Change) -> Answer {
        self.clock = self.clock.max(change.at);
        if let Some((_, answer)) = self.answered.iter().find(|(id, _)| *id == change.id) {
            return answer.clone();
        }
        let sessions = self.sessions.clone();
        self.refused.clear();
        self.author = match &change.author {
            Author::User { name, .. } => name.to_string(),
            _ => String::new(),
        };
        let answer = self.carry_out(number, &change.command);
        if answer.is_ok() && self.by_people(&change.command, &sessions, &answer) {
            self.last_user_change = number;
        }
        self.answered.push((change.id, answer.clone()));
        self.trim();
        answer
    }

    /// Whether people's doing changed something.
    fn by_people(&self, command: &Command, before: &[Session], answer: &Answer) -> bool {
        if let Command::CreateSession { .. } = command {
            return self.sessions != before;
        }
        if let Ok(Outcome::Divergence { done, .. }) = answer {
            return *done > 0;
        }
        let words = format!("{command:?}");
        let of_servers = [
            "SetVoting",
            "ReportServer",
            "TakePrimary",
            "ObserveSessions",
            "RegisterSessions",
            "OrphanSessions",
            "ChangePause { change: RunOut",
            "KeepDivergence",
            "BindToken",
            "LockUser",
        ];
        !of_servers.iter().any(|word| words.starts_with(word))
    }

    /// The history keeps the newest; of those that ended at one moment, the higher ids.
    fn trim(&mut self) {
        let keep: usize = match self.settings.get(&("sessions.history".to_owned(), None)) {
            Some(text) => text.parse().unwrap(),
            None => 10_000,
        };
        let mut ended: Vec<_> = self
            .sessions
            .iter()
            .filter_map(|s| s.ended.map(|at| (at, s.id)))
            .collect();
        ended.sort();
        ended.reverse();
        let kept: Vec<_> = ended.into_iter().take(keep).map(|(_, id)| id).collect();
        self.sessions
            .retain(|s| s.ended.is_none() || kept.contains(&s.id));
    }

    fn carry_out(&mut self, number: u64, command: &Command) -> Answer {
        match command {
            Command::PutUser { user, expect } => self.put_user(number, user, *expect),
            Command::RemoveUser { name } => self.remove_user(name),
            Command::LockUser { name, failures } => self.lock_user(name, *failures),
            Command::UnlockUser { name } => self.unlock_user(name),
            Command::PutApp { app, expect } => self.put_app(number, app, *expect),
            Command::RemoveApp { name } => self.remove_app(name),
            Command::PutToken { token, expect } => self.put_token(number, token, *expect),
            Command::RemoveToken { token } => self.remove_token(token),
            Command::PutGateway { gateway, expect } => self.put_gateway(number, gateway, *expect),
            Command::RemoveGateway { name } => self.remove_gateway(name),
            Command::PutCertificate { certificate } => self.put_certificate(number, certificate),
            Command::RemoveCertificate { name } => self.remove_certificate(name),
            Command::ChangeStoredSecret {
                change: StoredSecretChange::Put { secret, expect },
            } => self.put_secret(number, secret, *expect),
            Command::ChangeStoredSecret {
                change: StoredSecretChange::Remove { name },
            } => self.remove_secret(name),
            Command::ChangeProfile { change } => self.change_profile(number, change),
            Command::BindToken {
                session,
                token,
                app,
                host,
            } => self.bind(number, *session, token, app, *host),
            Command::SetSetting { key, value, on } => self.set(key, Some(value), *on),
            Command::UnsetSetting { key, on } => self.set(key, None, *on),
            Command::CreateSession {
                session,
                token,
                user,
                app,
                host,
            } => self.create(number, *session, token, user, app, *host),
            Command::ObserveSessions { host, observations } => {
                self.observe(number, *host, observations)
            }
            Command::RegisterSessions {
                host,
                sessions,
                complete_to,
            } => self.register(number, *host, sessions, *complete_to),
            Command::OrphanSessions { host, .. } => self.orphan(number, *host),
            Command::EndSession { session, by } => self.end_by_hand(number, *session, by),
            Command::SelectSession { session, .. } => self.select(number, *session),
            Command::MoveSession {
                session,
                new,
                to,
                by,
            } => self.move_on(number, *session, *new, *to, by),
            Command::Invite { invitation } => self.invite(invitation),
            Command::WithdrawInvitation { invitation, .. } => self.withdraw(*invitation),
            Command::AdmitServer { server, invitation } => self.admit(number, server, *invitation),
            Command::SetVoting { server, voting } => self.set_voting(number, *server, *voting),
            Command::RemoveServer { server, .. } => self.remove_server(number, *server),
            Command::ReportServer {
                server,
                incarnation,
                peer_key,
                ..
            } => self.report(number, *server, (*incarnation, *peer_key)),
            Command::SetAddresses {
                server,
                peer_address,
                client_address,
            } => self.set_addresses(number, *server, (peer_address, client_address)),
            Command::SetBackups { backups, .. } => self.set_backups(backups),
            Command::EditBackups { edit, .. } => self.edit_backups(*edit),
            Command::TakePrimary { server, .. } => self.take_primary(*server),
            Command::ChangePause { change } => self.change_pause(change),
            Command::ChangeSecret { change } => self.change_secret(change),
            Command::ChangeSeal { change } => self.change_seal(change),
            Command::ChangeAuthority { change } => self.change_authority(change),
            Command::RevokeCertificates { server, key, .. } => self.revoke(number, *server, *key),
            Command::KeepDivergence {
                within,
                divergence,
                records,
                last,
            } => match *within == self.formation {
                true => self.keep(divergence, records, *last),
                false => Err("invalid"),
            },
            Command::ApplyDiverged {
                formation,
                subjects,
                ..
            } => self.decide(number, *formation, subjects, true),
            Command::DiscardDiverged {
                formation,
                subjects,
                ..
            } => self.decide(number, *formation, subjects, false),
            other => panic!("the twin was not taught {other:?}"),
        }
    }

    fn put_user(&mut self, number: u64, user: &User, expect: Option<u64>) -> Answer {
        let old = self.users.iter().find(|old| old.name == user.name).cloned();
        versions(old.as_ref().map(|old| old.version_number), expect)?;
        let mut next: Vec<User> = self
            .users
            .iter()
            .filter(|old| old.name != user.name)
            .cloned()
            .collect();
        let lock = old.as_ref().and_then(|old| old.lock);
        let origin = old.as_ref().map_or(user.origin, |old| old.origin);
        let same = old.filter(|old| old.password == user.password);
        let password_set = same.map_or(self.clock, |old| old.password_set);
        next.push(User {
            password_set,
            version_number: number,
            lock,
            origin,
            ..user.clone()
        });
        if !next.iter().any(admin) {
            return Err("last administrator");
        }
        self.users = next;
        Ok(Outcome::Done)
    }

    fn remove_user(&mut self, name: &UserName) -> Answer {
        if !self.users.iter().any(|user| user.name == *name) {
            return Err("not found");
        }
        if !self
            .users
            .iter()
            .any(|user| user.name != *name && admin(user))
        {
            return Err("last administrator");
        }
        self.users.retain(|user| user.name != *name);
        self.tokens.retain(|token| token.user != *name);
        let of_user = |one: &Profile| one.audience == profile::Audience::User(name.clone());
        self.profiles.retain(|one| !of_user(one));
        self.preferences.retain(|one| one.user != *name);
        Ok(Outcome::Done)
    }

    fn put_app(&mut self, number: u64, app: &Application, expect: Option<u64>) -> Answer {
        let old = self.apps.iter().find(|old| old.name == app.name);
        versions(old.map(|old| old.version_number), expect)?;
        for name in secrets::given(app) {
            if !self.secrets.iter().any(|one| one.name.as_str() == name) {
                return Err("not found");
            }
        }
        if app.launch.is_some() && self.gateways.iter().any(|one| one.app == app.name) {
            return Err("invalid");
        }
        self.apps.retain(|old| old.name != app.name);
        self.apps.push(Application {
            version_number: number,
            ..app.clone()
        });
        Ok(Outcome::Done)
    }

    fn remove_app(&mut self, name: &AppName) -> Answer {
        if !self.apps.iter().any(|app| app.name == *name) {
            return Err("not found");
        }
        if self.gateways.iter().any(|one| one.app == *name) {
            return Err("invalid");
        }
        if self
            .sessions
            .iter()
            .any(|s| s.app == *name && s.state != SessionState::Ended)
        {
            return Err("in use");
        }
        self.apps.retain(|app| app.name != *name);
        let of_app = |one: &Profile| one.audience == profile::Audience::App(name.clone());
        self.profiles.retain(|one| !of_app(one));
        Ok(Outcome::Done)
    }

    /// The random changes give only whole seconds of `tunnel.retain`, figures of `sessions.history`, and nonsense.
    fn set(&mut self, key: &str, value: Option<&String>, on: Option<ServerId>) -> Answer {
        let words = key == "resilience.mode" || key == "tokens.unregistered";
        if key != "sessions.history" && key != "tunnel.retain" && !words {
            return Err("setting");
        }
        if on.is_some_and(|on| !self.servers.iter().any(|server| server.id == on)) {
            return Err("not found");
        }
        if on.is_some() && key != "tunnel.retain" {
            return Err("setting");
        }
        let Some(value) = value else {
            self.settings.remove(&(key.to_owned(), on));
            self.strengthen();
            return Ok(Outcome::Done);
        };
        let fits = match key {
            "resilience.mode" => ["auto", "quorum", "availability"].contains(&value.as_str()),
            "tokens.unregistered" => ["allow", "register", "refuse"].contains(&value.as_str()),
            "sessions.history" => value.parse::<u64>().is_ok_and(|count| count <= 1_000_000),
            _ => value
                .strip_suffix('s')
                .is_some_and(|s| s.parse::<u64>().is_ok_and(|s| s > 1 && s < 60)),
        };
        if !fits {
            return Err("setting");
        }
        self.settings.insert((key.to_owned(), on), value.clone());
        self.strengthen();
        Ok(Outcome::Done)
    }

    fn create(
        &mut self,
        number: u64,
        id: SessionId,
        token: &Token,
        user: &UserName,
        app: &AppName,
        host: ServerId,
    ) -> Answer {
        let application = self.app_for(user, app)?;
        let token = &self.admitted(token, user)?;
        let mine = |s: &&Session| s.token == *token && s.app == *app;
        if let Some(current) = self
            .sessions
            .iter()
            .filter(mine)
            .find(|s| s.current && reachable(s))
            .cloned()
        {
            if current.user.as_str() == "nobody" {
                self.user_room(&application, user)?;
                let session = self.sessions.iter_mut().find(|s| s.id == current.id);
                let session = session.unwrap();
                session.user = user.clone();
                session.version_number = number;
            } else if current.user != *user {
                return Err("other user");
            }
            return Ok(Outcome::Session {
                session: current.id,
                host: current.host,
                created: false,
            });
        }
        let others = self
            .sessions
            .iter()
            .filter(mine)
            .filter(|s| reachable(s) && s.user == *user);
        let other = others
            .max_by_key(|s| (s.last_attached.unwrap_or(s.created), s.id))
            .cloned();
        if let Some(other) = other {
            self.make_current(number, &other);
            return Ok(Outcome::Session {
                session: other.id,
                host: other.host,
                created: false,
            });
        }
        self.room_for(&application, user, host)?;
        if self.sessions.iter().any(|s| s.id == id) {
            return Err("exists");
        }
        self.register_if_new(number, token, user);
        let session = Session {
            id,
            token: token.clone(),
            user: user.clone(),
            app: app.clone(),
            host,
            state: first_state(&application),
            current: true,
            created: self.clock,
            last_attached: None,
            client: None,
            ended: None,
            reason: None,
            heard_number: number,
            version_number: number,
        };
        self.make_current(number, &session);
        self.sessions.push(session);
        Ok(Outcome::Session {
            session: id,
            host,
            created: true,
        })
    }

    fn app_for(&self, user: &UserName, app: &AppName) -> Result<Application, &'static str> {
        let application = self
            .apps
            .iter()
            .find(|one| one.name == *app)
            .ok_or("not found")?;
        let account = self
            .users
            .iter()
            .find(|one| one.name == *user)
            .ok_or("not found")?;
        let in_group = |entry: &String| {
            account
                .groups
                .iter()
                .any(|group| format!("@{group}") == *entry)
        };
        let listed = application
            .users
            .iter()
            .any(|entry| entry == user.as_str() || in_group(entry));
        if account.disabled || (!application.users.is_empty() && !listed) {
            return Err("not allowed");
        }
        Ok(application.clone())
    }

    /// The one is current, and the one that was no longer is.
    fn make_current(&mut self, number: u64, the_one: &Session) {
        for session in self
            .sessions
            .iter_mut()
            .filter(|s| s.token == the_one.token && s.app == the_one.app)
        {
            if session.current || session.id == the_one.id {
                session.current = session.id == the_one.id;
                session.version_number = number;
            }
        }
    }

    fn room_for(
        &self,
        app: &Application,
        user: &UserName,
        host: ServerId,
    ) -> Result<(), &'static str> {
        let server = self.known(host)?;
        let labelled = app
            .hosts
            .iter()
            .all(|(key, value)| server.labels.get(key) == Some(value));
        if server.standing == Standing::Witness || !labelled {
            return Err("unfit");
        }
        self.user_room(app, user)?;
        let on_host =
            |s: &&Session| s.host == host && s.app == app.name && s.state != SessionState::Ended;
        if app
            .max_per_server
            .is_some_and(|most| self.sessions.iter().filter(on_host).count() >= most as usize)
        {
            return Err("per server");
        }
        Ok(())
    }

    fn user_room(&self, app: &Application, user: &UserName) -> Result<(), &'static str> {
        let of_user = |s: &&Session| s.user == *user && s.app == app.name && reachable(s);
        let has = self.sessions.iter().filter(of_user).count();
        let full = app.max_per_user.is_some_and(|most| has >= most as usize);
        match full && user.as_str() != "nobody" {
            true => Err("per user"),
            false => Ok(()),
        }
    }

    fn observe(&mut self, number: u64, host: ServerId, observations: &[Observation]) -> Answer {
        self.known(host)?;
        for observation in observations {
            let live = |s: &&Session| {
                s.id == observation.session && s.host == host && s.state != SessionState::Ended
            };
            let Some(mut session) = self.sessions.iter().find(live).cloned() else {
                continue;
            };
            let ends = matches!(observation.seen, Seen::Ended { .. });
            if session.state == SessionState::Orphaned && !ends {
                continue;
            }
            match &observation.seen {
                Seen::Active { client, at } => {
                    session.state = SessionState::Active;
                    session.client = Some(client.as_str().into());
                    session.last_attached = session.last_attached.max(Some(*at.min(&self.clock)));
                    self.put_back(number, session);
                }
                Seen::Suspended => {
                    if session.state == SessionState::Active {
                        session.last_attached = Some(self.clock);
                    }
                    session.state = SessionState::Suspended;
                    self.put_back(number, session);
                }
                Seen::Ended { reason } => self.end(number, session.id, reason.clone()),
            }
        }
        Ok(Outcome::Done)
    }

    /// Whether the session goes on. Of it and another one that is current, the one used last is current from then on.
    fn put_back(&mut self, number: u64, mut session: Session) -> bool {
        session.heard_number = number;
        session.version_number = number;
        let old = self.sessions.iter().position(|s| s.id == session.id);
        let old = old.map(|place| self.sessions.remove(place));
        let was_reachable = old
            .is_some_and(|old| !matches!(old.state, SessionState::Ended | SessionState::Orphaned));
        let current = self
            .sessions
            .iter()
            .find(|s| s.current && s.token == session.token && s.app == session.app);
        let current = current.cloned();
        if !session.current && current.is_none() {
            session.current = true;
        }
        let later = |one: &Session, other: &Session| {
            let (used, than) = (
                one.state == SessionState::Active,
                other.state == SessionState::Active,
            );
            if used == than {
                let last = |s: &Session| s.last_attached.into_iter().chain([s.created]).max();
                last(one) > last(other)
            } else {
                used
            }
        };
        let takes_over = !session.current
            && !was_reachable
            && current.as_ref().is_some_and(|other| later(&session, other));
        let reachable = |s: &&Session| {
            s.user == session.user
                && s.app == session.app
                && !matches!(s.state, SessionState::Ended | SessionState::Orphaned)
        };
        let others = self.sessions.iter().filter(reachable).count();
        let most = self
            .apps
            .iter()
            .find(|app| app.name == session.app)
            .and_then(|app| app.max_per_user);
        let too_many = most.is_some_and(|most| others >= most as usize);
        let id = session.id;
        if let (true, Some(other)) = (takes_over, &current) {
            session.current = true;
            if too_many {
                self.end(number, other.id, EndReason::Superseded { by: id });
            } else {
                let other = self.sessions.iter_mut().find(|s| s.id == other.id);
                let other = other.unwrap();
                other.current = false;
                other.version_number = number;
            }
        }
        let second = !session.current;
        self.sessions.push(session);
        if second && !was_reachable && too_many {
            self.end(
                number,
                id,
                EndReason::Superseded {
                    by: current.unwrap().id,
                },
            );
            return false;
        }
        true
    }

    fn end(&mut self, number: u64, id: SessionId, reason: EndReason) {
        let clock = self.clock;
        let session = self.sessions.iter_mut().find(|s| s.id == id).unwrap();
        session.state = SessionState::Ended;
        session.current = false;
        session.ended = Some(clock);
        session.reason = Some(Box::new(reason));
        session.heard_number = number;
        session.version_number = number;
    }

    fn register(
        &mut self,
        number: u64,
        host: ServerId,
        found: &[Registration],
        complete_to: Option<u64>,
    ) -> Answer {
        self.known(host)?;
        let mut over = Vec::new();
        for one in found {
            let old = self.sessions.iter().find(|s| s.id == one.session).cloned();
            let gone = |s: &Session| {
                s.state == SessionState::Ended
                    && s.reason.as_deref() != Some(&EndReason::LostWithHost)
            };
            if old.as_ref().is_some_and(|s| s.host != host || gone(s)) {
                over.push(one.session);
                continue;
            }
            let named = |name: &Token| self.entry(name).map_or(name, |known| &known.token).clone();
            let old = old.map(|old| match old.state {
                SessionState::Ended => Session {
                    token: named(&old.token),
                    ..old
                },
                _ => old,
            });
            let mut session = old.unwrap_or_else(|| Session {
                id: one.session,
                token: named(&one.token),
                user: one.user.clone(),
                app: one.app.clone(),
                host,
                state: SessionState::Suspended,
                current: false,
                created: one.created.min(self.clock),
                last_attached: None,
                client: None,
                ended: None,
                reason: None,
                heard_number: number,
                version_number: number,
            });
            session.ended = None;
            session.reason = None;
            let last = one.last_attached.map(|at| at.min(self.clock));
            session.state = SessionState::Suspended;
            session.last_attached = session.last_attached.max(last);
            if let Some(client) = &one.client {
                session.state = SessionState::Active;
                session.client = Some(client.as_str().into());
                session.last_attached = session.last_attached.max(Some(last.unwrap_or(self.clock)));
            }
            if !self.put_back(number, session) {
                over.push(one.session);
            }
        }
        let missing = |s: &&Session| {
            let quiet = !matches!(s.state, SessionState::Ended | SessionState::Starting);
            let listed = found.iter().any(|one| one.session == s.id);
            s.host == host
                && quiet
                && !listed
                && complete_to.is_some_and(|view| s.heard_number <= view)
        };
        let missing: Vec<_> = self.sessions.iter().filter(missing).map(|s| s.id).collect();
        for id in missing {
            self.end(number, id, EndReason::LostWithHost);
        }
        Ok(Outcome::Registered { end: over })
    }

    fn orphan(&mut self, number: u64, host: ServerId) -> Answer {
        self.known(host)?;
        for session in self.sessions.iter_mut().filter(|s| s.host == host) {
            if !matches!(session.state, SessionState::Ended | SessionState::Orphaned) {
                session.state = SessionState::Orphaned;
                session.version_number = number;
            }
        }
        Ok(Outcome::Done)
    }

    fn end_by_hand(&mut self, number: u64, id: SessionId, by: &str) -> Answer {
        let session = self
            .sessions
            .iter()
            .find(|s| s.id == id)
            .ok_or("not found")?;
        if session.state != SessionState::Ended {
            self.end(number, id, EndReason::ByHand { by: by.to_owned() });
        }
        Ok(Outcome::Done)
    }

    /// A session that runs becomes the current one of its token and application.
    fn select(&mut self, number: u64, id: SessionId) -> Answer {
        let chosen = self.sessions.iter().find(|s| s.id == id).cloned();
        let chosen = chosen.ok_or("not found")?;
        if matches!(chosen.state, SessionState::Ended | SessionState::Orphaned) {
            return Err("invalid");
        }
        if !chosen.current {
            for other in &mut self.sessions {
                let same = other.token == chosen.token && other.app == chosen.app;
                if same && (other.current || other.id == id) {
                    other.current = other.id == id;
                    other.version_number = number;
                }
            }
        }
        Ok(Outcome::Done)
    }

    fn known(&self, id: ServerId) -> Result<&Server, &'static str> {
        self.servers
            .iter()
            .find(|server| server.id == id)
            .ok_or("not found")
    }

    fn admit(&mut self, number: u64, server: &Server, code: InvitationId) -> Answer {
        let clock = self.clock;
        let invitation = self
            .invitations
            .iter_mut()
            .find(|one| one.id == code)
            .ok_or("not found")?;
        if invitation.used_by.is_some() {
            return Err("used");
        }
        if invitation.expires <= clock {
            return Err("expired");
        }
        if self.removed.contains(&server.id) {
            return Err("removed");
        }
        if invitation.standing != server.standing {
            return Err("invalid");
        }
        if self
            .servers
            .iter()
            .any(|other| other.id == server.id || other.name == server.name)
        {
            return Err("exists");
        }
        let reached = [&server.peer_address, &server.client_address];
        if reached
            .iter()
            .any(|at| addresses::is_taken(&self.servers, server.id, at))
        {
            return Err("exists");
        }
        invitation.used_by = Some(server.name.to_string());
        self.servers.push(Server {
            joined: clock,
            version_number: number,
            ..server.clone()
        });
        Ok(Outcome::Done)
    }

    fn chosen(&self) -> Option<ResilienceMode> {
        let key = ("resilience.mode".to_owned(), None);
        match self.settings.get(&key).map(String::as_str) {
            Some("quorum") => Some(ResilienceMode::Quorum),
            Some("availability") => Some(ResilienceMode::Availability),
            _ => None,
        }
    }

    fn strengthen(&mut self) {
        let voters = self.servers.iter().filter(|server| server.voting).count();
        let own = (voters >= 3).then_some(ResilienceMode::Quorum);
        self.mode = self.chosen().or(own).unwrap_or(self.mode);
    }

    fn last_voter(&self, id: ServerId) -> bool {
        let mut voters = self.servers.iter().filter(|server| server.voting);
        voters.all(|server| server.id == id)
    }

    fn set_voting(&mut self, number: u64, id: ServerId, voting: bool) -> Answer {
        let server = self.known(id)?.clone();
        if server.voting == voting {
            return Ok(Outcome::Done);
        }
        if voting && server.standing == Standing::NonVoter {
            return Err("unfit");
        }
        if !voting && self.last_voter(id) {
            return Err("last voter");
        }
        let place = self
            .servers
            .iter_mut()
            .find(|server| server.id == id)
            .unwrap();
        place.voting = voting;
        place.version_number = number;
        self.strengthen();
        if voting && server.standing == Standing::Voter && !self.backups.contains(&id) {
            self.backups.push(id);
        }
        Ok(Outcome::Done)
    }

    fn remove_server(&mut self, number: u64, id: ServerId) -> Answer {
        let gone = self.known(id)?.clone();
        let voting = gone.voting;
        if self.primary == Some(id) {
            return Err("primary");
        }
        if voting && self.last_voter(id) {
            return Err("last voter");
        }
        let leads = self.known(id)?.standing.may_lead();
        let votes = |s: &&Server| s.voting && s.id != id;
        let others = self.servers.iter().filter(votes).count();
        if voting && self.mode == ResilienceMode::Quorum && self.chosen().is_none() && others == 2 {
            return Err("mode needed");
        }
        let there: Vec<_> = self
            .sessions
            .iter()
            .filter(|s| s.host == id && s.ended.is_none())
            .map(|s| s.id)
            .collect();
        for session in there {
            self.end(number, session, EndReason::HostRemoved);
        }
        self.authorities.exposed |= leads;
        self.expose_seal(leads);
        self.servers.retain(|server| server.id != id);
        self.backups.retain(|backup| *backup != id);
        self.settings.retain(|(_, on), _| *on != Some(id));
        self.removed.push(id);
        self.expose(number, &gone);
        Ok(Outcome::Done)
    }

    fn report(&mut self, number: u64, id: ServerId, said: (IncarnationId, KeyMark)) -> Answer {
        let (incarnation, peer_key) = said;
        let before = self.known(id)?.clone();
        let reborn = before.started && before.incarnation != incarnation;
        let voting = before.voting && (!reborn || self.last_voter(id));
        let after = Server {
            started: true,
            incarnation,
            voting,
            peer_key,
            ..before.clone()
        };
        if after != before {
            let place = self
                .servers
                .iter_mut()
                .find(|server| server.id == id)
                .unwrap();
            *place = Server {
                version_number: number,
                ..after
            };
        }
        Ok(Outcome::Done)
    }
}

/// A session of an application that launches nothing runs at once.
fn first_state(app: &Application) -> SessionState {
    match app.launch {
        Some(_) => SessionState::Starting,
        None => SessionState::Suspended,
    }
}

fn reachable(session: &Session) -> bool {
    !matches!(session.state, SessionState::Ended | SessionState::Orphaned)
}

fn versions(found: Option<u64>, expect: Option<u64>) -> Result<(), &'static str> {
    match (found, expect) {
        (None, None) => Ok(()),
        (Some(found), Some(expected)) if found == expected => Ok(()),
        (Some(_), Some(_)) => Err("version"),
        (Some(_), None) => Err("exists"),
        (None, Some(_)) => Err("not found"),
    }
}

/// Somebody who can log in and change everything, whatever is out of reach.
fn admin(user: &User) -> bool {
    user.role == Role::Admin && !user.disabled && !user.password.0.is_empty()
}
