//! The network between simulated servers: delays, losses, cuts in one direction or both.
//!
//! Always true: within a lane from one server to another nothing overtakes, as on a connection; between lanes it does. A lost
//! request or answer is silence until its sender gives up; where no process listens the machine says so at once. What a
//! server says that lost its power, or that was removed, reaches nobody. Start at [`Network::post`] and [`Network::due`].

use bytes::Bytes;
use model::{Change, IncarnationId, ServerId};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use replica::disk::MemoryDisk;
use replica::{Lane, LinkAnswer, LinkError, Links};
use std::cmp::max;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use wire::control::{Answer, Request};

/// As in the daemon: how long a tie-breaker may take, and how often it is asked.
const ECHO_LIMIT: Duration = Duration::from_millis(400);
const ECHO_TRIES: u32 = 2;

/// How the network behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Air {
    /// The longest delay of a message.
    pub(crate) delay: Duration,
    /// How many of a thousand messages are lost.
    pub(crate) lost: u32,
}

impl Air {
    /// A network without trouble.
    pub(crate) fn quiet() -> Self {
        Self {
            delay: Duration::from_millis(2),
            lost: 0,
        }
    }
}

/// What servers tell each other beside consensus, each interval; every second with a report.
#[derive(Debug, Clone)]
pub(crate) struct News {
    /// The life of the sender's log.
    pub(crate) incarnation: IncarnationId,
    /// How the sender is.
    pub(crate) report: Option<Report>,
}

/// What a server says of itself every second.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// The number of the newest change that it has.
    pub(crate) applied: u64,
    /// Its calendar, in milliseconds.
    pub(crate) at: u64,
    /// Its lease.
    pub(crate) lease: Duration,
    /// Whom it has heard within the grace period.
    pub(crate) hears: BTreeSet<ServerId>,
    /// Those without which it acknowledges nothing.
    pub(crate) in_sync: BTreeSet<ServerId>,
}

/// Why a server did not answer a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// Its machine says that nobody listens.
    Refused,
    /// Nothing came in time.
    Silent,
    /// It says that this server was removed.
    Removed,
    /// It is not sure of that: it has been away. As if it did not answer.
    Doubted,
}

type Replied = oneshot::Sender<Result<Answer, NoAnswer>>;
type Answered = oneshot::Sender<Result<Bytes, LinkError>>;

/// What is on its way.
#[derive(Debug)]
pub(crate) enum Load {
    /// A question of consensus.
    Question(Bytes, Answered),
    /// Its answer.
    Answer(Result<Bytes, LinkError>, Answered),
    /// News.
    News(News),
    /// A change that a server wants made, for the primary.
    Wish(Box<Change>),
    /// What a member asks beside consensus.
    Request(Box<Request>, Replied),
    /// The answer.
    Reply(Box<Result<Answer, NoAnswer>>, Replied),
}

/// Something that has arrived.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// Who sent it.
    pub(crate) from: ServerId,
    /// In which life.
    life: u64,
    /// What it is.
    pub(crate) load: Load,
}

type Way = (ServerId, ServerId);

#[derive(Debug)]
struct Inside {
    chance: SmallRng,
    air: Air,
    cut: BTreeSet<Way>,
    lives: BTreeMap<ServerId, (u64, MemoryDisk)>,
    sent: u64,
    /// By receiver, and there by the time of arrival and the order of sending.
    under_way: BTreeMap<ServerId, BTreeMap<(Duration, u64), Parcel>>,
    /// When the newest message of a lane arrives.
    lanes: BTreeMap<(Way, u8), Duration>,
}

/// The network. Clones are handles.
#[derive(Debug, Clone)]
pub(crate) struct Network(Arc<Mutex<Inside>>);

/// The network as one server sees it during one life.
#[derive(Debug)]
pub(crate) struct Plug {
    network: Network,
    me: ServerId,
    life: u64,
    /// When this server's clock began, on its own clock and on the world's.
    start: (Instant, Duration),
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inside {
            chance: SmallRng::seed_from_u64(seed),
            air: Air::quiet(),
            cut: BTreeSet::new(),
            lives: BTreeMap::new(),
            sent: 0,
            under_way: BTreeMap::new(),
            lanes: BTreeMap::new(),
        })))
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server starts: what it says from now on is heard, what it said in earlier lives is not.
    pub(crate) fn plug_in(
        &self,
        me: ServerId,
        disk: &MemoryDisk,
        start: (Instant, Duration),
    ) -> Arc<Plug> {
        let mut inside = self.inside();
        let life = inside.next_life(me, disk);
        Arc::new(Plug {
            network: self.clone(),
            me,
            life,
            start,
        })
    }

    /// The server stops; what was on its way to it is lost with it.
    pub(crate) fn unplug(&self, me: ServerId, disk: &MemoryDisk) {
        let mut inside = self.inside();
        inside.next_life(me, disk);
        inside.under_way.remove(&me);
        inside.lanes.retain(|((from, _), _), _| *from != me);
    }

    /// Cuts one direction.
    pub(crate) fn cut(&self, from: ServerId, to: ServerId) {
        self.inside().cut.insert((from, to));
    }

    /// Mends everything.
    pub(crate) fn mend(&self) {
        self.inside().cut.clear();
    }

    /// Changes how the network behaves.
    pub(crate) fn set_air(&self, air: Air) {
        self.inside().air = air;
    }

    /// What has arrived at a server by `now`, in order.
    pub(crate) fn due(&self, me: ServerId, now: Duration) -> Vec<Parcel> {
        let mut inside = self.inside();
        let Some(waiting) = inside.under_way.get_mut(&me) else {
            return Vec::new();
        };
        let later = waiting.split_off(&(now, u64::MAX));
        let arrived = std::mem::replace(waiting, later);
        let mut parcels: Vec<Parcel> = arrived.into_values().collect();
        parcels.retain(|parcel| inside.reaches((parcel.from, me), parcel.life));
        parcels
    }

    /// What arrives at a machine where no process listens is refused by the machine.
    pub(crate) fn refuse(&self, me: ServerId, now: Duration) {
        for parcel in self.due(me, now) {
            let refused = match parcel.load {
                Load::Question(_, waits) => Load::Answer(Err(LinkError::Unreachable), waits),
                Load::Request(_, waits) => Load::Reply(Box::new(Err(NoAnswer::Refused)), waits),
                _ => continue,
            };
            let life = self.inside().lives.get(&me).map_or(0, |(life, _)| *life);
            self.post((me, parcel.from), life, now, refused);
        }
    }

    /// Whether an echo request from here comes back now, and after how long; none: it does not.
    fn echo(&self, way: Way) -> Option<Duration> {
        let mut inside = self.inside();
        let (there, lost) = inside.draw();
        let (back, lost_back) = inside.draw();
        let (from, to) = way;
        let cut = inside.cut.contains(&way) || inside.cut.contains(&(to, from));
        (!lost && !lost_back && !cut).then_some(there + back)
    }

    /// Whether nothing is cut between two machines.
    pub(crate) fn connects(&self, one: ServerId, other: ServerId) -> bool {
        let inside = self.inside();
        !inside.cut.contains(&(one, other)) && !inside.cut.contains(&(other, one))
    }

    /// Sends something that no order is kept for.
    fn post(&self, way: Way, life: u64, now: Duration, load: Load) {
        let mut inside = self.inside();
        let (delay, lost) = inside.draw();
        if !lost {
            inside.send(way, life, now + delay, load);
        }
    }
}

impl Inside {
    fn next_life(&mut self, me: ServerId, disk: &MemoryDisk) -> u64 {
        let life = self.lives.get(&me).map_or(0, |(life, _)| *life) + 1;
        self.lives.insert(me, (life, disk.clone()));
        life
    }

    fn draw(&mut self) -> (Duration, bool) {
        let longest = u64::try_from(self.air.delay.as_micros()).unwrap_or(u64::MAX);
        let delay = Duration::from_micros(self.chance.random_range(0..=longest));
        (delay, self.chance.random_ratio(self.air.lost, 1000))
    }

    fn reaches(&self, way: Way, life: u64) -> bool {
        !self.cut.contains(&way) && self.lives.get(&way.0).is_some_and(|(now, _)| *now == life)
    }

    fn send(&mut self, (from, to): Way, life: u64, at: Duration, load: Load) {
        // A machine whose power is lost at this very moment says nothing more.
        if self.lives.get(&from).is_none_or(|(_, disk)| disk.is_dead()) {
            return;
        }
        self.sent += 1;
        let place = (at, self.sent);
        let parcel = Parcel { from, life, load };
        self.under_way.entry(to).or_default().insert(place, parcel);
    }
}

impl Plug {
    fn now(&self) -> Duration {
        self.start.1 + (Instant::now() - self.start.0)
    }

    /// Tells a server something.
    pub(crate) fn tell(&self, to: ServerId, load: Load) {
        self.network
            .post((self.me, to), self.life, self.now(), load);
    }

    /// Asks a member something.
    pub(crate) async fn ask(
        &self,
        to: ServerId,
        request: Request,
        limit: Duration,
    ) -> Result<Answer, NoAnswer> {
        let (reply, replied) = oneshot::channel();
        self.tell(to, Load::Request(Box::new(request), reply));
        let deadline = Instant::now() + limit;
        match tokio::time::timeout_at(deadline, replied).await {
            Ok(Ok(answer)) => answer,
            // What was lost on the way is silence until its time is over.
            Ok(Err(_)) | Err(_) => {
                tokio::time::sleep_until(deadline).await;
                Err(NoAnswer::Silent)
            }
        }
    }

    /// Whether nothing is cut between this machine and another.
    pub(crate) fn connects(&self, to: ServerId) -> bool {
        self.network.connects(self.me, to)
    }

    /// Asks a machine whether it is there, as often and as long as the daemon asks a tie-breaker.
    pub(crate) async fn echo(&self, to: ServerId) -> bool {
        for _ in 0..ECHO_TRIES {
            match self.network.echo((self.me, to)) {
                Some(took) if took < ECHO_LIMIT => {
                    tokio::time::sleep(took).await;
                    return true;
                }
                _ => tokio::time::sleep(ECHO_LIMIT).await,
            }
        }
        false
    }

    /// Sends an answer back.
    pub(crate) fn answer(&self, to: ServerId, bytes: Result<Bytes, LinkError>, waits: Answered) {
        self.tell(to, Load::Answer(bytes, waits));
    }
}

impl Links for Plug {
    fn call(&self, to: ServerId, lane: Lane, request: Bytes, limit: Duration) -> LinkAnswer {
        let (answer, answered) = oneshot::channel();
        {
            let mut inside = self.network.inside();
            let (delay, lost) = inside.draw();
            let number = match lane {
                Lane::Urgent => 0,
                Lane::Log => 1,
                Lane::Snapshot => 2,
            };
            let way = (self.me, to);
            let newest = inside.lanes.entry((way, number)).or_default();
            let at = max(*newest, self.now() + delay);
            *newest = at;
            if !lost {
                inside.send(way, self.life, at, Load::Question(request, answer));
            }
        }
        Box::pin(async move {
            let deadline = Instant::now() + limit;
            match tokio::time::timeout_at(deadline, answered).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => {
                    tokio::time::sleep_until(deadline).await;
                    Err(LinkError::TimedOut)
                }
            }
        })
    }
}
