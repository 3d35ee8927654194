//! Connections kept up against a member that comes, goes and moves.

use super::*;
use crate::hello::Acquaintance;
use crate::kit::{Group, PATIENCE, Port, Server, server_id};
use crate::link::LinkEnd;
use crate::listener::{Arrival, ListenerLimits};
use crate::serve::serve;
use crate::shown::Shown;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use wire::hello::HelloRefusal;

struct Noticed(mpsc::UnboundedSender<PoolEvent>);

impl Watcher for Noticed {
    fn noticed(&self, event: PoolEvent) {
        let _ = self.0.send(event);
    }
}

struct Watched {
    pool: Pool,
    events: mpsc::UnboundedReceiver<PoolEvent>,
}

fn pool_of(server: &Server) -> Watched {
    let (queue, events) = mpsc::unbounded_channel();
    let runtime = Handle::current();
    let settings = PoolSettings {
        first_delay: Duration::from_millis(5),
        longest_delay: Duration::from_millis(50),
        refused_delay: Duration::from_millis(50),
        ..PoolSettings::on(runtime.clone(), runtime)
    };
    Watched {
        pool: Pool::new(server.endpoint.clone(), settings, Arc::new(Noticed(queue))),
        events,
    }
}

impl Watched {
    /// Waits for an event that is looked for.
    async fn until<T>(&mut self, mut wanted: impl FnMut(PoolEvent) -> Option<T>) -> T {
        let looking = async {
            loop {
                let event = self.events.recv().await.expect("the pool is gone");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, looking).await.expect("it never happened")
    }

    async fn met_on(&mut self, wanted: Channel) {
        self.until(|event| {
            matches!(event, PoolEvent::Met { channel, .. } if channel == wanted).then_some(())
        })
        .await;
    }
}

/// Answers what comes over a connection with its purpose and the request.
fn answer(arrival: Arrival) {
    let purpose = arrival.met.purpose;
    tokio::spawn(async move {
        let handler = move |request: Bytes| async move {
            Bytes::from([format!("{purpose:?} ").as_bytes(), &request].concat())
        };
        serve(
            arrival.stream,
            &handler,
            LinkLimits::default(),
            Heard::default(),
        )
        .await
    });
}

async fn answer_two(port: &mut Port) {
    for _ in 0..2 {
        answer(port.arrival().await);
    }
}

#[tokio::test]
async fn consensus_and_control_are_apart_and_both_answer() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    let mut port = Port::open(&two, ListenerLimits::default()).await;
    let Watched { pool, .. } = pool_of(&one);
    assert_eq!(pool.last_heard(two.id), None);
    let own = (one.id, "127.0.0.1:1".to_owned());
    pool.set_members([own, (two.id, port.address.to_string())]);
    assert!(pool.heard(one.id).is_none(), "it dials itself");
    answer_two(&mut port).await;
    for (channel, expected) in [
        (Channel::Consensus, "Consensus hello"),
        (Channel::Control, "Control hello"),
    ] {
        let request = Bytes::from_static(b"hello");
        let asked = pool.ask_when_connected(two.id, channel, request.clone(), PATIENCE);
        assert_eq!(asked.await.unwrap(), expected);
        assert_eq!(
            pool.ask(two.id, channel, request, PATIENCE).await.unwrap(),
            expected
        );
    }
    assert!(pool.last_heard(two.id).unwrap().elapsed() < PATIENCE);
    let stranger = pool
        .ask(server_id(9), Channel::Control, Bytes::new(), PATIENCE)
        .await;
    assert!(matches!(stranger, Err(AskError::Stranger(_))));
}

#[tokio::test]
async fn what_was_asked_is_answered_although_the_connection_is_opened_anew() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    let mut port = Port::open(&two, ListenerLimits::default()).await;
    let mut watched = pool_of(&one);
    watched
        .pool
        .set_members([(two.id, port.address.to_string())]);
    let (asked, mut asking) = mpsc::unbounded_channel();
    let gate = Arc::new(Notify::new());
    for _ in 0..2 {
        let (arrival, asked, gate) = (port.arrival().await, asked.clone(), Arc::clone(&gate));
        tokio::spawn(async move {
            let handler = move |request: Bytes| {
                let (asked, gate) = (asked.clone(), Arc::clone(&gate));
                async move {
                    asked.send(()).expect("the test waits");
                    gate.notified().await;
                    request
                }
            };
            let (limits, heard) = (LinkLimits::default(), Heard::default());
            serve(arrival.stream, &handler, limits, heard).await
        });
    }
    watched.met_on(Channel::Control).await;
    let pool = watched.pool.clone();
    let ask = |words: &'static [u8]| {
        let (pool, words) = (pool.clone(), Bytes::from_static(words));
        async move {
            pool.ask_when_connected(server_id(2), Channel::Control, words, PATIENCE)
                .await
        }
    };
    let first = tokio::spawn(ask(b"first"));
    asking.recv().await.expect("it is asked");

    let before = Shown::by(&connect(&one, &two, &mut port).await).unwrap();
    one.endpoint.tls.renew(&group.trust(one.id)).unwrap();
    watched.pool.open_anew();
    let anew = [port.arrival().await, port.arrival().await];
    for arrival in anew {
        let shown = Shown::by(&arrival.stream).unwrap();
        assert_ne!(format!("{shown:?}"), format!("{before:?}"));
        answer(arrival);
    }
    watched.met_on(Channel::Control).await;
    assert_eq!(ask(b"second").await.unwrap(), "Control second");
    gate.notify_one();
    assert_eq!(first.await.unwrap().unwrap(), "first");
}

/// A connection that one server opens to another, as that one has it.
async fn connect(one: &Server, two: &Server, port: &mut Port) -> PeerStream {
    let address = port.address.to_string();
    let purpose = Purpose::Stream;
    let dialled = dial(&one.endpoint, two.id, &address, purpose, PATIENCE).await;
    dialled.unwrap();
    port.arrival().await.stream
}

#[tokio::test]
async fn a_member_that_dies_and_returns_is_found_again() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    let mut port = Port::open(&two, ListenerLimits::default()).await;
    let address = port.address.to_string();
    let mut watched = pool_of(&one);
    watched.pool.set_members([(two.id, address.clone())]);
    let held = [port.arrival().await, port.arrival().await];
    watched.met_on(Channel::Consensus).await;
    let pool = watched.pool.clone();
    let asking = tokio::spawn(async move {
        pool.ask_when_connected(server_id(2), Channel::Control, Bytes::new(), PATIENCE)
            .await
    });
    watched.met_on(Channel::Control).await;
    port.close().await;
    drop(held);
    // A request that is under way may have been acted on, or was not sent.
    let lost = asking.await.unwrap().unwrap_err();
    assert!(
        matches!(lost, AskError::Call { .. } | AskError::NotConnected(_)),
        "{lost:?}"
    );
    watched
        .until(|event| matches!(event, PoolEvent::NotReached { .. }).then_some(()))
        .await;
    let now = watched
        .pool
        .ask(two.id, Channel::Control, Bytes::new(), PATIENCE)
        .await;
    assert!(matches!(now, Err(AskError::NotConnected(_))), "{now:?}");
    let mut port = Port::open_at(
        &address,
        &two,
        ListenerLimits::default(),
        crate::kit::NobodyJoins,
    )
    .await;
    answer_two(&mut port).await;
    let asked = watched
        .pool
        .ask_when_connected(two.id, Channel::Control, Bytes::new(), PATIENCE);
    assert_eq!(asked.await.unwrap(), "Control ");
}

#[tokio::test]
async fn a_member_that_moves_is_followed_and_one_that_leaves_is_dropped() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    let nobody = Port::open(&two, ListenerLimits::default()).await;
    let empty_address = nobody.address.to_string();
    nobody.close().await;
    let mut port = Port::open(&two, ListenerLimits::default()).await;
    let mut watched = pool_of(&one);
    watched.pool.set_members([(two.id, empty_address)]);
    watched
        .until(|event| matches!(event, PoolEvent::NotReached { .. }).then_some(()))
        .await;
    watched
        .pool
        .set_members([(two.id, port.address.to_string())]);
    let arrivals = [port.arrival().await, port.arrival().await];
    watched.pool.set_members([]);
    for mut arrival in arrivals {
        let mut rest = Vec::new();
        let closed = arrival.stream.read_to_end(&mut rest);
        let _ = timeout(PATIENCE, closed).await.expect("still connected");
    }
    assert!(watched.pool.link(two.id, Channel::Control).is_none());
}

#[tokio::test]
async fn refusals_are_told_and_a_hurry_dials_at_once() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    two.outlook.knows(1, Acquaintance::Removed);
    let mut port = Port::open(&two, ListenerLimits::default()).await;
    let mut watched = pool_of(&one);
    // So long that only a hurry can dial again.
    let settings = PoolSettings {
        refused_delay: Duration::from_secs(3600),
        ..watched.pool.inner.settings.clone()
    };
    let watcher = Arc::clone(&watched.pool.inner.watcher);
    watched.pool = Pool::new(one.endpoint.clone(), settings, watcher);
    watched
        .pool
        .set_members([(two.id, port.address.to_string())]);
    for _ in 0..2 {
        let error = watched
            .until(|event| match event {
                PoolEvent::NotReached { error, .. } => Some(error),
                _ => None,
            })
            .await;
        assert_eq!(error.refusal(), Some(&HelloRefusal::Removed));
    }
    two.outlook.knows(1, Acquaintance::Member);
    watched.pool.hurry(two.id);
    answer_two(&mut port).await;
    watched.met_on(Channel::Control).await;
}

#[tokio::test]
async fn a_goodbye_is_heard_as_one() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    let mut port = Port::open(&two, ListenerLimits::default()).await;
    let mut watched = pool_of(&one);
    watched
        .pool
        .set_members([(two.id, port.address.to_string())]);
    let mut ends = Vec::new();
    for _ in 0..2 {
        let arrival = port.arrival().await;
        ends.push(tokio::spawn(async move {
            let nothing = |_| async { Bytes::new() };
            serve(
                arrival.stream,
                &nothing,
                LinkLimits::default(),
                Heard::default(),
            )
            .await
        }));
        watched
            .until(|event| matches!(event, PoolEvent::Met { .. }).then_some(()))
            .await;
    }
    watched.pool.goodbye(PATIENCE).await;
    for end in ends {
        let end = timeout(PATIENCE, end).await.unwrap().unwrap();
        assert!(matches!(end, LinkEnd::Goodbye), "{end:?}");
    }
}

#[tokio::test]
async fn connections_that_end_at_once_are_dialled_less_and_less_often() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    let mut port = Port::open(&two, ListenerLimits::default()).await;
    let Watched { pool, .. } = pool_of(&one);
    pool.set_members([(two.id, port.address.to_string())]);
    let start = Instant::now();
    let mut dials = 0;
    // The first at once, then after at least 5, 10, 20, 25 and 25 ms: half of doubling delays from 10 to 50 ms.
    while dials < 6 {
        let arrival = port.arrival().await;
        dials += usize::from(arrival.met.purpose == Purpose::Control);
    }
    assert!(
        start.elapsed() >= Duration::from_millis(85),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn streams_carry_bytes_as_they_are() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    let mut port = Port::open(&two, ListenerLimits::default()).await;
    let Watched { pool, .. } = pool_of(&one);
    assert!(matches!(
        pool.open_stream(two.id, PATIENCE).await,
        Err(StreamError::Stranger(_))
    ));
    pool.set_members([(two.id, port.address.to_string())]);
    let (met, mut near) = pool.open_stream(two.id, PATIENCE).await.unwrap();
    assert_eq!(met.introduction.server, two.id);
    let mut far = loop {
        let arrival = port.arrival().await;
        if arrival.met.purpose == Purpose::Stream {
            break arrival.stream;
        }
    };
    let sent: Vec<u8> = (0..1_000_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    let expected = sent.clone();
    let sending = tokio::spawn(async move {
        near.write_all(&sent).await.unwrap();
        near.shutdown().await.unwrap();
        near
    });
    let mut read = Vec::new();
    timeout(PATIENCE, far.read_to_end(&mut read))
        .await
        .unwrap()
        .unwrap();
    assert!(read == expected);
    sending.await.unwrap();
}

/// The connection for consensus is driven by its own runtime, on both sides.
#[test]
fn consensus_has_a_runtime_of_its_own() {
    let build = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let (consensus, data) = (build(), build());
    let drivers = Arc::new(Mutex::new(Vec::new()));
    struct Ids(Arc<Mutex<Vec<(Channel, tokio::runtime::Id)>>>);
    impl Watcher for Ids {
        fn noticed(&self, event: PoolEvent) {
            if let PoolEvent::Met { channel, .. } = event {
                self.0
                    .lock()
                    .unwrap()
                    .push((channel, Handle::current().id()));
            }
        }
    }
    let (own, other) = (consensus.handle().clone(), data.handle().clone());
    let (consensus_id, data_id) = (own.id(), other.id());
    let watcher = Arc::new(Ids(Arc::clone(&drivers)));
    data.block_on(async move {
        let group = Group::new(1);
        let (one, two) = (group.server(1), group.server(2));
        let mut port = Port::open(&two, ListenerLimits::default()).await;
        let settings = PoolSettings::on(own.clone(), other);
        let pool = Pool::new(one.endpoint.clone(), settings, watcher);
        pool.set_members([(two.id, port.address.to_string())]);
        for _ in 0..2 {
            let mut arrival = port.arrival().await;
            if arrival.met.purpose == Purpose::Consensus {
                own.spawn(async move {
                    arrival.move_here().unwrap();
                    answer(arrival);
                });
            } else {
                answer(arrival);
            }
        }
        for channel in [Channel::Consensus, Channel::Control] {
            pool.ask_when_connected(two.id, channel, Bytes::new(), PATIENCE)
                .await
                .unwrap();
        }
    });
    let drivers = drivers.lock().unwrap();
    assert!(
        drivers.contains(&(Channel::Consensus, consensus_id)),
        "{drivers:?}"
    );
    assert!(
        drivers.contains(&(Channel::Control, data_id)),
        "{drivers:?}"
    );
}
