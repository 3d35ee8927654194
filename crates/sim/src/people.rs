//! People and their sessions: crowds that ask for one at once, on any server and under any of a token's names, sessions that are
//! moved, servers that are drained, clients that come and go.
//!
//! Start at [`Story::people_act`], which is for whole stories.

use crate::checks;
use crate::fixture::{admin, app, kept_app, server_id, tie_breaker};
use crate::outside::{Door, administrator};
use crate::story::Story;
use model::server::Offline;
use model::{
    AppName, ChangeId, Command, Drain, Mode, Outcome, RegisteredToken, ServerId, SessionId, Token,
    UnixMillis,
};
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use std::collections::BTreeSet;
use std::time::Duration;
use wire::control::Request;

/// Tokens that people have, each with another name.
const TOKENS: u64 = 4;

/// A token, by its name or another one.
fn token(number: u64, alias: bool) -> Token {
    let word = if alias { "card" } else { "token" };
    Token::new(&format!("{word}-{number}")).expect("invariant: a valid token")
}

impl Story {
    /// One more thing that people do.
    pub(crate) fn people_act(&mut self, chance: &mut SmallRng) {
        match chance.random_range(0..100) {
            0..35 => self.crowd(chance),
            35..48 => self.move_any(chance),
            48..75 => self.visits(chance),
            75..84 => self.offline_any(chance),
            84..92 => self.online_any(chance),
            _ => self.register(chance),
        }
    }

    fn any_host(&self, chance: &mut SmallRng) -> Option<ServerId> {
        let hosts = self.directory(|directory| {
            let hosts = directory.servers().filter(|it| it.standing.hosts());
            hosts.map(|server| server.id).collect::<Vec<_>>()
        });
        hosts?.choose(chance).copied()
    }

    /// Several ask for the session of one token at once, each another server.
    fn crowd(&mut self, chance: &mut SmallRng) {
        let (number, app) = (chance.random_range(0..TOKENS), any_app(chance));
        let count = chance.random_range(2..6);
        self.note(
            "crowd",
            None,
            format!("{count} ask for {app} of token-{number}"),
        );
        for _ in 0..count {
            let alias = chance.random_bool(0.3);
            let by_name = chance.random_bool(0.1);
            let host = by_name.then(|| self.any_host(chance)).flatten();
            let request = Request::OpenSession {
                id: ChangeId::from_bytes(chance.random()),
                author: administrator(),
                token: token(number, alias),
                user: admin(),
                app: app.clone(),
                host,
                client: None,
            };
            self.carry(request, chance);
        }
    }

    /// The same, told: these servers are asked at once.
    pub(crate) fn crowd_at(&mut self, numbers: &[u8], app: &AppName) {
        for (place, number) in numbers.iter().enumerate() {
            let request = Request::OpenSession {
                id: ChangeId::from_bytes([0xc0 | u8::try_from(place).unwrap_or(0); 16]),
                author: administrator(),
                token: token(0, false),
                user: admin(),
                app: app.clone(),
                host: None,
                client: None,
            };
            if let Some(running) = self.world.server(*number) {
                let door = (running.server.clone(), running.handle());
                self.world.spawn(carry(door, request));
            }
        }
    }

    fn carry(&self, request: Request, chance: &mut SmallRng) {
        if let Some(door) = self.doors.all().choose(chance).cloned() {
            self.world.spawn(carry(door, request));
        }
    }

    fn move_any(&mut self, chance: &mut SmallRng) {
        let live = self.directory(|directory| {
            let live = directory.sessions().filter(|session| session.is_live());
            live.map(|session| session.id).collect::<Vec<SessionId>>()
        });
        let Some(session) = live.unwrap_or_default().choose(chance).copied() else {
            return;
        };
        let to = chance.random_bool(0.5);
        let to = to.then(|| self.any_host(chance)).flatten();
        self.note(
            "move",
            None,
            format!("session {session} is to move to {to:?}"),
        );
        let request = Request::MoveSession {
            id: ChangeId::from_bytes(chance.random()),
            author: administrator(),
            session,
            to,
            by: "admin".into(),
        };
        self.carry(request, chance);
    }

    /// Clients come to sessions that run, or go.
    fn visits(&mut self, chance: &mut SmallRng) {
        for machine in self.world.machines.values() {
            let running: Vec<SessionId> = machine.keepers.running().into_iter().collect();
            if let Some(session) = running.choose(chance) {
                let at = self.world.scene.calendar(machine.id);
                machine.keepers.visit(*session, chance.random_bool(0.6), at);
            }
        }
    }

    /// A client comes to every session of a machine.
    pub(crate) fn attach_at(&mut self, number: u8) {
        if let Some(machine) = self.world.machines.get(&number) {
            let at = self.world.scene.calendar(machine.id);
            for session in machine.keepers.running() {
                machine.keepers.visit(session, true, at);
            }
        }
    }

    fn offline_any(&mut self, chance: &mut SmallRng) {
        let drains = chance.random_bool(0.7);
        let within = Duration::from_millis(chance.random_range(0..12_000));
        if let Some(server) = self.any_host(chance) {
            self.take_offline(server, drains.then_some(within));
        }
    }

    /// An administrator takes a server offline, and drains it where it is said within which time.
    pub(crate) fn take_offline(&mut self, server: ServerId, within: Option<Duration>) {
        // No server runs there, so its calendar is right.
        let now = self.world.scene.calendar(tie_breaker());
        let mode = Mode::Offline(Offline {
            by: "admin".into(),
            reason: None,
            since: UnixMillis(0),
            until: None,
            drain: within.map(|within| Drain {
                deadline: now.after(within),
                finished: None,
            }),
        });
        let words = format!("{server} goes offline, drained within {within:?}");
        let servers = vec![server];
        self.ask("offline", &words, vec![Command::SetMode { servers, mode }]);
    }

    fn online_any(&mut self, chance: &mut SmallRng) {
        if let Some(server) = self.any_host(chance) {
            let command = Command::SetMode {
                servers: vec![server],
                mode: Mode::Online,
            };
            self.ask("online", &format!("{server} goes online"), vec![command]);
        }
    }

    /// A token gets its other name, or loses it with its registration.
    fn register(&mut self, chance: &mut SmallRng) {
        let number = chance.random_range(0..TOKENS);
        let command = match chance.random_bool(0.6) {
            true => Command::PutToken {
                token: Box::new(RegisteredToken {
                    token: token(number, false),
                    user: admin(),
                    app: None,
                    home: None,
                    enabled: true,
                    aliases: vec![token(number, true)],
                    created: UnixMillis(0),
                    version_number: 0,
                }),
                expect: None,
            },
            false => Command::RemoveToken {
                token: token(number, false),
            },
        };
        let words = format!("the names of token-{number}");
        self.ask("token", &words, vec![command]);
    }

    /// Whether every member runs what the directory has on it, and nothing else.
    pub(crate) fn hosts_agree(&self) -> bool {
        let found = self.directory(|directory| {
            let machines = self.world.machines.values();
            let mut members = machines.filter(|it| directory.server(it.id).is_some());
            members.all(|machine| {
                let here = || directory.sessions_on(machine.id).filter(|it| it.is_live());
                let reached = here().all(|it| it.is_reachable());
                reached
                    && here().map(|it| it.id).collect::<BTreeSet<_>>() == machine.keepers.running()
            })
        });
        found == Some(true)
    }

    /// Whether every drain has come to its end, or has nowhere to move its sessions to.
    pub(crate) fn drains_ended(&self) -> bool {
        let ended = self.directory(|directory| {
            let online = |id: ServerId| {
                let mut others = directory.servers().filter(|other| other.id != id);
                others.any(|other| other.mode.is_online() && other.standing.hosts())
            };
            directory.servers().all(|server| {
                let Some((drain, since)) = server.mode.drain() else {
                    return true;
                };
                let left = checks::to_move(directory, server, since);
                drain.finished.is_some() || left > 0 && !online(server.id)
            })
        });
        ended == Some(true)
    }

    /// How many sessions that are live a server has, as the primary's directory says.
    pub(crate) fn sessions_on(&self, number: u8) -> usize {
        let id = server_id(number);
        let count = self.directory(|directory| {
            let here = directory.sessions_on(id);
            here.filter(|session| session.is_live()).count()
        });
        count.unwrap_or(0)
    }
}

fn any_app(chance: &mut SmallRng) -> AppName {
    match chance.random_bool(0.75) {
        true => app(),
        false => kept_app(),
    }
}

/// Asks a server for a session, or for a move; what it answers with it has itself.
async fn carry(door: Door, request: Request) {
    let (server, handle) = door;
    let scene = server.scene.clone();
    let asked = handle.spawn(async move {
        let answer = server.carry(request).await.ok()?;
        let Ok(Outcome::Session { session, .. }) = answer.outcome else {
            return None;
        };
        let state = server.replica.state();
        let verdict = checks::answered(server.directory(&state), server.me, session);
        server.scene.judge(verdict);
        Some((session, answer.name))
    });
    if let Ok(Some((session, name))) = asked.await {
        scene.with_seen(|seen| seen.sessions.insert(session, name));
    }
}
