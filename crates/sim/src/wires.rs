//! The network between simulated servers: delays, losses, cuts in one direction or both.
//!
//! Always true: within a lane from one server to another nothing overtakes, as on a connection; between lanes it does. A lost
//! request or answer is silence until its sender gives up. What a crashed machine still says reaches nobody.

use bytes::Bytes;
use model::ServerId;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use replica::{Lane, LinkAnswer, LinkError, Links, Replica};
use std::cmp::max;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// How the network behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Air {
    /// The longest delay of a message.
    pub(crate) delay: Duration,
    /// How many of a thousand messages are lost.
    pub(crate) lost: u32,
}

/// One request on its way.
struct Parcel {
    at: Instant,
    lost: bool,
    bytes: Bytes,
    answer: oneshot::Sender<Bytes>,
}

type Way = (ServerId, ServerId);
type LaneKey = (ServerId, u64, ServerId, u8);

#[derive(Debug)]
struct Inside {
    chance: SmallRng,
    air: Air,
    cut: BTreeSet<Way>,
    lives: BTreeMap<ServerId, u64>,
    replicas: BTreeMap<ServerId, Replica>,
    lanes: BTreeMap<LaneKey, (mpsc::UnboundedSender<Parcel>, Instant)>,
}

/// The network. Clones are handles.
#[derive(Debug, Clone)]
pub(crate) struct Wires(Arc<Mutex<Inside>>);

/// The network as one machine sees it during one life.
#[derive(Debug)]
pub(crate) struct Plug {
    wires: Wires,
    me: ServerId,
    life: u64,
}

impl Wires {
    pub(crate) fn new(seed: u64, air: Air) -> Self {
        Self(Arc::new(Mutex::new(Inside {
            chance: SmallRng::seed_from_u64(seed),
            air,
            cut: BTreeSet::new(),
            lives: BTreeMap::new(),
            replicas: BTreeMap::new(),
            lanes: BTreeMap::new(),
        })))
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A machine starts: what it says from now on is heard, what it said in earlier lives is not.
    pub(crate) fn plug_in(&self, me: ServerId) -> Arc<Plug> {
        let mut inside = self.inside();
        let life = inside.lives.entry(me).or_default();
        *life += 1;
        let life = *life;
        Arc::new(Plug {
            wires: self.clone(),
            me,
            life,
        })
    }

    /// The machine answers from now on.
    pub(crate) fn answers(&self, me: ServerId, replica: Replica) {
        self.inside().replicas.insert(me, replica);
    }

    /// The machine stops.
    pub(crate) fn unplug(&self, me: ServerId) {
        let mut inside = self.inside();
        *inside.lives.entry(me).or_default() += 1;
        inside.replicas.remove(&me);
        inside.lanes.retain(|(from, ..), _| *from != me);
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

    /// Carries the parcels of one lane, in order.
    async fn carry(self, from: Way, life: u64, mut parcels: mpsc::UnboundedReceiver<Parcel>) {
        while let Some(parcel) = parcels.recv().await {
            tokio::time::sleep_until(parcel.at).await;
            let answering = {
                let inside = self.inside();
                let reaches = !parcel.lost && inside.reaches(from, life);
                match inside.replicas.get(&from.1).filter(|_| reaches) {
                    Some(replica) => replica.handle(&parcel.bytes),
                    None => continue,
                }
            };
            let wires = self.clone();
            tokio::spawn(async move {
                let Ok(bytes) = answering.await else { return };
                let (delay, lost) = wires.inside().draw();
                tokio::time::sleep(delay).await;
                let back = (from.1, from.0);
                if !lost && !wires.inside().cut.contains(&back) {
                    // Who asked may have given up.
                    drop(parcel.answer.send(bytes));
                }
            });
        }
    }
}

impl Inside {
    fn draw(&mut self) -> (Duration, bool) {
        let longest = u64::try_from(self.air.delay.as_micros()).unwrap_or(u64::MAX);
        let delay = Duration::from_micros(self.chance.random_range(0..=longest));
        (delay, self.chance.random_ratio(self.air.lost, 1000))
    }

    fn reaches(&self, way: Way, life: u64) -> bool {
        !self.cut.contains(&way) && self.lives.get(&way.0) == Some(&life)
    }
}

impl Links for Plug {
    fn call(&self, to: ServerId, lane: Lane, request: Bytes, limit: Duration) -> LinkAnswer {
        let (answer, answered) = oneshot::channel();
        {
            let mut inside = self.wires.inside();
            let (delay, lost) = inside.draw();
            let number = match lane {
                Lane::Urgent => 0,
                Lane::Log => 1,
                Lane::Snapshot => 2,
            };
            let way = (self.me, to);
            let key = (self.me, self.life, to, number);
            let lane = inside.lanes.entry(key).or_insert_with(|| {
                let (sender, parcels) = mpsc::unbounded_channel();
                tokio::spawn(self.wires.clone().carry(way, self.life, parcels));
                (sender, Instant::now())
            });
            let at = max(lane.1, Instant::now() + delay);
            lane.1 = at;
            let parcel = Parcel {
                at,
                lost,
                bytes: request,
                answer,
            };
            // The carrier lives as long as its lane.
            drop(lane.0.send(parcel));
        }
        Box::pin(async move {
            let deadline = Instant::now() + limit;
            match tokio::time::timeout_at(deadline, answered).await {
                Ok(Ok(bytes)) => Ok(bytes),
                Ok(Err(_)) | Err(_) => {
                    tokio::time::sleep_until(deadline).await;
                    Err(LinkError::TimedOut)
                }
            }
        })
    }
}
