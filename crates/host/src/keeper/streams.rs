//! The streams of a session: who may open one, resume one, and take the session over.
//!
//! Always true: all streams that are not being given up belong to one client; a resume that proves nothing changes nothing; there are
//! at most [`LIMIT`] streams, and at most as many again that have finished and are kept for a client that may not know it.

use std::collections::BTreeMap;

use model::{Backend, StreamId};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tunnel::{Config, EpochGate, ResetCode};
use wire::client::ClientId;
use wire::keeper::{OpeningAnswer, OpeningRefusal};

use super::backend::Socket;
use super::carrier::{Carrier, News, Order};
use super::happening::Happening;
use super::proof::{self, Drawn, Secret};
use super::traffic::Traffic;

/// The most streams of a session.
pub(crate) const LIMIT: usize = 64;
/// Orders that may wait for a stream.
const ORDERS: usize = 8;

/// All streams of a session.
pub(crate) struct Streams {
    config: Config,
    /// One stream at a time, because there is one terminal.
    single: bool,
    kept: BTreeMap<StreamId, Kept>,
    /// Who the session belongs to now.
    client: Option<ClientId>,
    /// Order of attaching, to know which finished stream is the oldest.
    count: u64,
    /// Whether there is something to know about the session: every new stream is told so, too.
    has_news: bool,
    traffic: Traffic,
    happenings: mpsc::Sender<Happening>,
}

/// What is known of one stream.
struct Kept {
    client: ClientId,
    secret: Secret,
    gate: EpochGate,
    orders: mpsc::Sender<Order>,
    /// The client's address, while it has a path.
    address: Option<String>,
    finished: bool,
    number: u64,
}

/// A client that has asked for a stream.
pub(crate) struct Asking {
    pub(crate) path: UnixStream,
    pub(crate) client: ClientId,
    pub(crate) address: String,
}

/// A client that wants to go on with a stream.
pub(crate) struct Resuming {
    pub(crate) path: UnixStream,
    pub(crate) stream: StreamId,
    pub(crate) epoch: u64,
    pub(crate) received: u64,
    pub(crate) proof: [u8; 32],
    pub(crate) exporter: [u8; 32],
    pub(crate) address: String,
}

impl Streams {
    pub(crate) fn new(
        config: Config,
        backends: &[Backend],
        on_terminal: bool,
        happenings: mpsc::Sender<Happening>,
    ) -> Self {
        let single = backends
            .first()
            .map_or(on_terminal, |first| *first == Backend::Pty);
        Self {
            config,
            single,
            kept: BTreeMap::new(),
            client: None,
            count: 0,
            has_news: false,
            traffic: Traffic::new(),
            happenings,
        }
    }

    /// Streams that still carry something.
    pub(crate) fn open(&self) -> usize {
        self.kept.values().filter(|kept| !kept.finished).count()
    }

    /// When bytes pass.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Whether none is left, the finished ones included.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The address of the client that is attached, if one is.
    pub(crate) fn address(&self) -> Option<&str> {
        let newest = self
            .kept
            .values()
            .filter(|kept| kept.address.is_some())
            .max_by_key(|kept| kept.number);
        newest?.address.as_deref()
    }

    /// Whether a client may open another stream. One that takes the session over may: the others' go.
    pub(crate) fn check(&self, client: ClientId) -> Result<(), OpeningRefusal> {
        let own = self
            .kept
            .values()
            .filter(|kept| !kept.finished && kept.client == client)
            .count();
        // Streams that are being given up count against a limit of their own.
        let too_many = (own >= LIMIT && !self.single) || self.kept.len() >= 4 * LIMIT;
        if too_many {
            return Err(OpeningRefusal::TooManyStreams {
                limit: LIMIT as u32,
            });
        }
        Ok(())
    }

    /// Makes a stream between a client and a backend; the client takes the session over if it was another's.
    pub(crate) fn attach(&mut self, asking: Asking, backend: Socket) {
        let Ok(Drawn { stream, secret }) = proof::draw() else {
            tracing::error!("the system's random source failed");
            return;
        };
        self.make_room(asking.client);
        let answer = OpeningAnswer::Attached {
            stream,
            secret: secret.to_wire(),
        };
        let (orders, receiver) = mpsc::channel(ORDERS);
        let address = Some(asking.address.clone());
        let path = (asking.path, asking.address);
        let carrier = Carrier::new(
            stream,
            self.config,
            path,
            &answer,
            backend,
            receiver,
            (self.happenings.clone(), self.traffic.clone()),
        );
        tokio::spawn(carrier.run());
        self.count += 1;
        let kept = Kept {
            client: asking.client,
            secret,
            gate: EpochGate::default(),
            orders,
            address,
            finished: false,
            number: self.count,
        };
        if self.has_news {
            kept.order(Order::News);
        }
        self.kept.insert(stream, kept);
    }

    /// Gives up the streams that a new one of `client` takes the place of.
    fn make_room(&mut self, client: ClientId) {
        for kept in self.kept.values().filter(|kept| !kept.finished) {
            if kept.client != client {
                kept.order(Order::Reset(ResetCode::TAKEN_OVER));
            } else if self.single {
                kept.order(Order::Reset(ResetCode::REPLACED));
            }
        }
        self.client = Some(client);
        let finished = self
            .kept
            .iter()
            .filter(|(_, kept)| kept.finished && kept.address.is_none());
        let oldest = finished
            .clone()
            .min_by_key(|(_, kept)| kept.number)
            .map(|(id, _)| *id);
        if finished.count() >= LIMIT
            && let Some(oldest) = oldest
        {
            // Its carrier ends when nobody can give it orders any more.
            self.kept.remove(&oldest);
        }
    }

    /// Gives a stream its new path if the client proves that it is its own.
    pub(crate) fn resume(
        &mut self,
        resuming: Resuming,
    ) -> Result<(), (UnixStream, OpeningRefusal)> {
        let Resuming {
            path,
            stream,
            epoch,
            received,
            proof,
            exporter,
            address,
        } = resuming;
        let Some(kept) = self.kept.get_mut(&stream) else {
            return Err((path, OpeningRefusal::Resume));
        };
        let holds = kept
            .secret
            .holds(&proof, &exporter, stream, epoch, received);
        if let Err(error) = kept.gate.admit(epoch, holds) {
            tracing::warn!(%stream, %address, %error, "a resume is refused");
            return Err((path, OpeningRefusal::Resume));
        }
        kept.order(Order::Path {
            path,
            epoch,
            received,
            address,
        });
        Ok(())
    }

    /// Takes in what a stream tells; true when the session's status has changed.
    pub(crate) fn heard(&mut self, stream: StreamId, news: News) -> bool {
        let Some(kept) = self.kept.get_mut(&stream) else {
            return false;
        };
        match news {
            News::Attached(address) => kept.address = Some(address),
            News::Detached => kept.address = None,
            News::Finished => kept.finished = true,
            News::Over => {
                self.kept.remove(&stream);
            }
        }
        true
    }

    /// There is something to know about the session.
    pub(crate) fn tell_news(&mut self) {
        self.has_news = true;
        for kept in self.kept.values() {
            kept.order(Order::News);
        }
    }

    /// The session is over: what backends have sent is still delivered.
    pub(crate) fn end(&self) {
        for kept in self.kept.values() {
            kept.order(Order::SessionEnded);
        }
    }
}

impl Kept {
    fn order(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            // A stream that has just ended, or a client that floods it with paths: the connection ends.
            tracing::debug!("an order to a stream was dropped");
        }
    }
}
