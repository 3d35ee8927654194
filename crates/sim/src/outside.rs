//! Those outside of the servers: clients that write and start sessions, and administrators.
//!
//! Always true: each asks one server after the other until it knows what became of its change or gives up, with the same
//! idempotency key; what it cannot know it counts as unknown. Start at [`write()`].

use crate::checks::{Invariant, broken};
use crate::fixture::{admin, app, change, invitation, server, server_id};
use crate::formations::{give_way, make_by_hand};
use crate::scene::Scene;
use crate::server::Server;
use model::{
    Author, Change, ChangeId, Command, FormationId, Outcome, ResilienceMode, ServerId, SessionId,
    Standing, Token, UnixMillis,
};
use policy::recovery::Recovery;
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use replica::{Applied, ProposeError};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use wire::control::Request;

/// How long an administrator waits for a primary.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long a planned change of primary may take.
const TRANSFER_LIMIT: Duration = Duration::from_secs(2);
/// How long a server may take to leave consensus.
const LEAVE_LIMIT: Duration = Duration::from_secs(8);
/// Whose sessions there are.
const TOKENS: u64 = 4;

/// A server that can be asked, and where it runs.
pub(crate) type Door = (Arc<Server>, Handle);

/// The servers that can be asked; replaced when one starts or ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Doors(Arc<Mutex<Vec<Door>>>);

impl Doors {
    fn inside(&self) -> MutexGuard<'_, Vec<Door>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on these can be asked.
    pub(crate) fn replace(&self, doors: Vec<Door>) {
        *self.inside() = doors;
    }

    pub(crate) fn all(&self) -> Vec<Door> {
        self.inside().clone()
    }

    /// One that acts as primary.
    fn primary(&self, chance: &mut SmallRng, scene: &Scene) -> Option<Door> {
        let acting = scene.with_seen(|seen| seen.acting.clone());
        let acting = *acting.choose(chance)?;
        self.all().into_iter().find(|(door, _)| door.me == acting)
    }
}

/// Asks a server; none: it is not known what became of it.
async fn ask(door: Door, change: Change, limit: Duration) -> Option<Result<Applied, ProposeError>> {
    let (server, handle) = door;
    let asked = handle.spawn(async move { server.propose(&change, limit).await });
    timeout(limit * 2, asked).await.ok()?.ok()
}

/// A client: one change after the other.
pub(crate) async fn write(number: u64, mut chance: SmallRng, doors: Doors, scene: Scene) {
    for step in 0.. {
        let this = number * 1_000_000 + step;
        if chance.random_bool(0.2) {
            one_session(&mut chance, &doors, &scene).await;
        } else {
            one_user(this, &mut chance, &doors, &scene).await;
        }
        sleep(Duration::from_millis(chance.random_range(10..150))).await;
    }
}

pub(crate) fn choose(chance: &mut SmallRng, doors: &Doors, scene: &Scene) -> Option<Door> {
    let primary = doors.primary(chance, scene);
    primary.or_else(|| doors.all().choose(chance).cloned())
}

async fn one_user(this: u64, chance: &mut SmallRng, doors: &Doors, scene: &Scene) {
    for attempt in 0.. {
        let limit = Duration::from_millis(chance.random_range(50..1500));
        if let Some(door) = choose(chance, doors, scene) {
            // Counted as unknown as soon as it is asked for, because this client may be stopped while it waits.
            scene.with_seen(|seen| seen.unknown.insert(this));
            if chance.random_bool(0.1)
                && let Some(other) = doors.all().choose(chance).cloned()
            {
                // The same change arrives twice: its key makes it one.
                let (server, handle) = other;
                handle.spawn(async move { drop(server.propose(&change(this), limit).await) });
            }
            let by = door.0.me;
            match ask(door, change(this), limit).await {
                Some(Ok(Applied {
                    outcome: Ok(_),
                    name,
                })) => {
                    scene.with_seen(|seen| {
                        seen.unknown.remove(&this);
                        seen.acknowledge(this, name, by);
                    });
                    return;
                }
                Some(Ok(Applied { outcome, .. })) => {
                    let seen = format!("change {this} was refused: {outcome:?}");
                    return scene.judge(broken(Invariant::Once, seen));
                }
                Some(Err(ProposeError::OutcomeUnknown)) | None if attempt > 3 => return,
                _ => {}
            }
        }
        sleep(Duration::from_millis(chance.random_range(1..60))).await;
    }
}

/// Somebody asks one server for a change so long, until it is made.
pub(crate) async fn ask_at(
    server: ServerId,
    this: u64,
    patience: Duration,
    doors: Doors,
    scene: Scene,
) {
    scene.with_seen(|seen| seen.unknown.insert(this));
    let until = scene.now() + patience;
    while scene.now() < until {
        let door = doors.all().into_iter().find(|(door, _)| door.me == server);
        if let Some(door) = door
            && let Some(Ok(Applied {
                outcome: Ok(_),
                name,
            })) = ask(door, change(this), patience).await
        {
            scene.with_seen(|seen| {
                seen.unknown.remove(&this);
                seen.acknowledge(this, name, server);
            });
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn one_session(chance: &mut SmallRng, doors: &Doors, scene: &Scene) {
    let Some((server, handle)) = choose(chance, doors, scene) else {
        return;
    };
    let state = server.replica.state();
    let Some(directory) = &state.directory else {
        return;
    };
    let token = format!("token-{}", chance.random_range(0..TOKENS));
    let token = Token::new(&token).expect("invariant: a valid token");
    let hosts = directory.servers().filter(|host| host.standing.hosts());
    let hosts: Vec<ServerId> = hosts.map(|host| host.id).collect();
    let Some(host) = hosts.choose(chance).copied() else {
        return;
    };
    let current = directory.current_session(&token, &app());
    let command = match current {
        Some(session) if chance.random_bool(0.4) => Command::EndSession {
            session: session.id,
            by: "admin".into(),
        },
        _ => Command::CreateSession {
            session: SessionId::from_bytes(chance.random()),
            token,
            user: admin(),
            app: app(),
            host,
        },
    };
    let change = asked_by_admin(chance, command);
    let limit = Duration::from_millis(chance.random_range(100..1500));
    if let Some(Ok(Applied {
        outcome: Ok(Outcome::Session { session, .. }),
        name,
    })) = ask((server, handle), change, limit).await
    {
        scene.with_seen(|seen| seen.sessions.insert(session, name));
    }
}

fn asked_by_admin(chance: &mut SmallRng, command: Command) -> Change {
    Change {
        id: ChangeId::from_bytes(chance.random()),
        at: UnixMillis(0),
        author: administrator(),
        command,
    }
}

pub(crate) fn administrator() -> Author {
    Author::User {
        name: admin(),
        from: "192.0.2.200".into(),
    }
}

/// What an administrator asks of a server that has it made.
fn by_admin(server: &Server, command: Command) -> Change {
    Change {
        author: administrator(),
        ..server.change(command)
    }
}

/// An administrator asks for changes, one after the other, each until it is made or refused, or nobody is there for it.
pub(crate) async fn administer(
    commands: Vec<Command>,
    mut chance: SmallRng,
    doors: Doors,
    scene: Scene,
) {
    let end = scene.now() + PATIENCE;
    for command in commands {
        let change = asked_by_admin(&mut chance, command);
        while scene.now() < end {
            if let Some(door) = doors.primary(&mut chance, &scene)
                && let Some(Ok(_)) = ask(door, change.clone(), PATIENCE).await
            {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What admits a new server.
pub(crate) fn admission(number: u8, standing: Standing) -> Vec<Command> {
    let invitation = invitation(number, standing);
    let id = invitation.id;
    vec![
        Command::Invite {
            invitation: Box::new(invitation),
        },
        Command::AdmitServer {
            server: Box::new(server(number, standing)),
            invitation: id,
        },
    ]
}

/// An administrator promotes a server; runs on the primary.
pub(crate) async fn promote(primary: Arc<Server>, to: u8, temporary: bool) {
    let to = server_id(to);
    let plan = |view: &policy::View<'_>| match temporary {
        true => policy::promotion::temporary_promotion(view, to),
        false => policy::promotion::promotion(view, to),
    };
    if !primary.with_view(plan).is_possible() {
        return;
    }
    let state = primary.replica.state();
    if let (false, Some(directory)) = (temporary, &state.directory) {
        let before = &directory.group().backups;
        let backups = policy::promotion::backups_after(before, to);
        let reason = None;
        let change = primary.change(Command::SetBackups { backups, reason });
        let made = primary.propose(&change, TRANSFER_LIMIT).await;
        if !made.is_ok_and(|applied| applied.outcome.is_ok()) {
            return;
        }
    }
    // Who is primary then is seen from outside.
    let _moved = primary.replica.transfer_to(to, TRANSFER_LIMIT).await;
}

/// An administrator lets one of several formations that act stand, the one of a choice, or makes one; runs on any server.
pub(crate) async fn recover(server: Arc<Server>, choice: u64) {
    server.ask_sides().await;
    let mut sides = server.sides();
    sides.insert(server.me, server.side());
    let acting: BTreeSet<FormationId> = policy::formations::acting(&sides)
        .map(|(_, formation, _)| formation.id)
        .collect();
    let count = u64::try_from(acting.len()).unwrap_or(u64::MAX);
    let place = usize::try_from(choice.checked_rem(count).unwrap_or(0)).unwrap_or(0);
    let wanted = acting.iter().nth(place).map(ToString::to_string);
    let wanted = wanted.filter(|_| acting.len() > 1);
    let plan =
        |view: &policy::View<'_>| policy::recovery::recovery(view, &sides, wanted.as_deref());
    let (author, reason) = (Author::Server(server.me), None);
    // What came of it is seen from outside.
    match server.with_view(plan).1 {
        Some(Recovery::Make { on, from }) if on == server.me => {
            drop(make_by_hand(&server, from).await);
        }
        Some(Recovery::Make { on, from }) => {
            let request = Request::MakeFormation {
                from,
                author,
                reason,
            };
            drop(server.call(on, request, PATIENCE).await);
        }
        Some(Recovery::GiveWay {
            primaries,
            to,
            primary,
        }) => {
            for other in primaries {
                if other == server.me {
                    drop(give_way(&server, to.id, primary).await);
                    continue;
                }
                let request = Request::GiveWay {
                    to: to.id,
                    primary,
                    author: author.clone(),
                    reason: None,
                };
                drop(server.call(other, request, PATIENCE).await);
            }
        }
        None => {}
    }
}

/// An administrator removes a server, and says, if asked, what the group is to be; runs on the primary.
pub(crate) async fn remove(primary: Arc<Server>, number: u8, mode: Option<ResilienceMode>) {
    let id = server_id(number);
    let possible = |mode| {
        let plan = |view: &policy::View<'_>| policy::removal::removal(view, id, mode);
        primary.with_view(plan).is_possible()
    };
    if let Some(mode) = mode.filter(|mode| possible(Some(*mode))) {
        let command = Command::SetSetting {
            key: "resilience.mode".into(),
            value: mode.as_str().into(),
            on: None,
        };
        let change = by_admin(&primary, command);
        drop(primary.propose(&change, TRANSFER_LIMIT).await);
    }
    if !possible(None) || primary.leaving().is_some() {
        return;
    }
    primary.set_leaving(Some(id));
    let takes_part = || {
        let status = primary.replica.status();
        status.voters.contains(&id) || status.learners.contains(&id)
    };
    let gone = async {
        while takes_part() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(LEAVE_LIMIT, gone).await.is_ok() {
        let reason = None;
        let change = by_admin(&primary, Command::RemoveServer { server: id, reason });
        // Whether it was removed is looked up in the directory.
        drop(primary.propose(&change, TRANSFER_LIMIT).await);
    }
    primary.set_leaving(None);
}
