//! `stead connect` against a group that lives in the test: what a viewer sees while paths, servers and sessions break.

use std::time::Duration;

use crate::fake::{Fault, Group};
use client::{Connect, ConnectError, End, Event, Local};
use model::{EndReason, SessionState};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tunnel::ResetCode;
use wire::client::Credential;

const LONG: Duration = Duration::from_secs(30);

/// A client that runs, and what it has said.
struct Running {
    events: mpsc::UnboundedReceiver<Event>,
    task: JoinHandle<Result<End, ConnectError>>,
    listen: String,
}

impl Running {
    async fn start(connect: Connect) -> Self {
        let (sender, mut events) = mpsc::unbounded_channel();
        let task = tokio::spawn(connect.run(sender));
        let listen = match timeout(LONG, events.recv()).await.unwrap() {
            Some(Event::Ready { listen, host, .. }) => {
                assert_eq!(host, "s0");
                listen
            }
            other => panic!("{other:?} instead of ready; {:?}", task.await),
        };
        Self {
            events,
            task,
            listen,
        }
    }

    async fn event(&mut self) -> Event {
        let event = timeout(LONG, self.events.recv())
            .await
            .expect("an event in time");
        event.expect("the client goes on")
    }

    async fn viewer(&self) -> TcpStream {
        TcpStream::connect(&self.listen).await.unwrap()
    }

    async fn end(self) -> Result<End, ConnectError> {
        timeout(LONG, self.task)
            .await
            .expect("an end in time")
            .unwrap()
    }
}

fn any_port() -> Local {
    Local::Listen("127.0.0.1:0".parse().unwrap())
}

async fn exchange(viewer: &mut TcpStream, bytes: &[u8]) {
    viewer.write_all(bytes).await.unwrap();
    let mut back = vec![0; bytes.len()];
    timeout(LONG, viewer.read_exact(&mut back))
        .await
        .expect("an echo in time")
        .unwrap();
    assert!(back == bytes, "the echo differs");
}

#[tokio::test]
async fn several_viewers_use_one_session_and_half_close_passes() {
    let group = Group::new(2).await;
    let client = Running::start(group.connect(any_port())).await;
    let (mut one, mut two) = (client.viewer().await, client.viewer().await);
    exchange(&mut one, b"one").await;
    exchange(&mut two, &vec![7; 300_000]).await;
    exchange(&mut one, b"more").await;
    one.shutdown().await.unwrap();
    assert_eq!(
        timeout(LONG, one.read(&mut [0; 1])).await.unwrap().unwrap(),
        0
    );
    exchange(&mut two, b"still").await;
    assert_eq!(group.with(|state| state.sessions.len()), 1);
}

/// Sends and receives `length` random bytes over one viewer connection while `disturb` is called each time a step of them is through.
async fn busy(viewer: TcpStream, length: usize, seed: u64, mut disturb: impl FnMut(usize)) {
    let mut sent = vec![0; length];
    StdRng::seed_from_u64(seed).fill_bytes(&mut sent);
    let expected = sent.clone();
    let (mut reading, mut writing) = viewer.into_split();
    let writer = tokio::spawn(async move {
        writing.write_all(&sent).await.unwrap();
        writing.shutdown().await.unwrap();
    });
    let mut back = Vec::with_capacity(length);
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let count = timeout(LONG, reading.read(&mut bytes))
            .await
            .expect("bytes in time")
            .unwrap();
        if count == 0 {
            break;
        }
        back.extend_from_slice(&bytes[..count]);
        disturb(back.len());
    }
    writer.await.unwrap();
    assert_eq!(back.len(), length, "seed {seed}");
    assert!(back == expected, "bytes differ, seed {seed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_however_often_paths_are_cut() {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let group = Group::new(3).await;
    let mut client = Running::start(group.connect(any_port())).await;
    let viewer = client.viewer().await;
    let length = 24 << 20;
    let mut next = random.random_range(0..length / 12);
    let mut cuts = 0;
    busy(viewer, length, seed, |through| {
        if through >= next {
            next = through + random.random_range(1..length / 12);
            cuts += 1;
            if random.random_bool(0.3) {
                group.with(|state| state.faults.push(Fault::LoseResumeAnswer));
            }
            group.cut_all();
        }
    })
    .await;
    assert!(cuts > 3, "{cuts} cuts, seed {seed}");
    // Outages are told in pairs.
    let mut lost = false;
    while let Ok(event) = client.events.try_recv() {
        match event {
            Event::PathLost { .. } if !lost => lost = true,
            Event::Resumed { .. } if lost => lost = false,
            other => panic!("{other:?} while lost is {lost}, seed {seed}"),
        }
    }
}

#[tokio::test]
async fn a_lost_answer_to_a_resume_is_asked_for_again() {
    let group = Group::new(1).await;
    let mut client = Running::start(group.connect(any_port())).await;
    let mut viewer = client.viewer().await;
    exchange(&mut viewer, b"before").await;
    group.with(|state| state.faults.extend([Fault::LoseResumeAnswer; 3]));
    group.cut_all();
    exchange(&mut viewer, b"after").await;
    assert!(matches!(client.event().await, Event::PathLost { .. }));
    assert!(matches!(client.event().await, Event::Resumed { .. }));
    assert!(group.with(|state| state.faults.is_empty()));
}

#[tokio::test]
async fn a_host_that_the_client_cannot_reach_is_reached_through_another_server() {
    let mut group = Group::new(3).await;
    let mut client = Running::start(group.connect(any_port())).await;
    let mut viewer = client.viewer().await;
    exchange(&mut viewer, b"before").await;
    group.servers[0].stop();
    exchange(&mut viewer, b"after").await;
    assert!(matches!(client.event().await, Event::PathLost { .. }));
    match client.event().await {
        Event::Resumed { via, .. } => assert_ne!(via, "s0"),
        other => panic!("{other:?}"),
    }
    let mut new = client.viewer().await;
    exchange(&mut new, b"and new ones").await;
}

#[tokio::test]
async fn a_path_through_another_server_gives_way_to_the_straight_one() {
    let mut group = Group::new(2).await;
    let mut client = Running::start(group.connect(any_port())).await;
    let mut viewer = client.viewer().await;
    exchange(&mut viewer, b"before").await;
    group.servers[0].stop();
    assert!(matches!(client.event().await, Event::PathLost { .. }));
    assert!(matches!(client.event().await, Event::Resumed { via, .. } if via == "s1"));
    group.servers[0].restart().await;
    let host = group.servers[0].address().server;
    let carried = || group.with(|state| state.carried.get(&host).copied());
    let before = carried();
    let moving = async {
        while carried() == before {
            exchange(&mut viewer, &vec![3; 200_000]).await;
        }
    };
    timeout(LONG, moving)
        .await
        .expect("the straight path in time");
    // The other server is not needed any more, and nobody was told of anything.
    group.servers[1].stop();
    exchange(&mut viewer, b"after").await;
    assert!(client.events.try_recv().is_err());
}

#[tokio::test]
async fn a_server_that_restarts_is_waited_for() {
    let mut group = Group::new(1).await;
    let mut client = Running::start(group.connect(any_port())).await;
    let mut viewer = client.viewer().await;
    exchange(&mut viewer, b"before").await;
    group.servers[0].stop();
    assert!(matches!(client.event().await, Event::PathLost { .. }));
    viewer.write_all(b"meanwhile").await.unwrap();
    group.servers[0].restart().await;
    let mut back = [0; 9];
    timeout(LONG, viewer.read_exact(&mut back))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&back, b"meanwhile");
    assert!(matches!(client.event().await, Event::Resumed { via, .. } if via == "s0"));
}

#[tokio::test]
async fn a_lost_host_is_announced_and_left_with_the_ticket() {
    let mut group = Group::new(3).await;
    let mut client = Running::start(group.connect(any_port())).await;
    let mut viewer = client.viewer().await;
    exchange(&mut viewer, b"before").await;
    group.kill_host();
    assert!(matches!(client.event().await, Event::PathLost { host, .. } if host == "s0"));
    group.orphan();
    assert!(matches!(client.event().await, Event::SessionLost { host, .. } if host == "s0"));
    match client.event().await {
        Event::Moved {
            from,
            to,
            reason,
            outage_ms,
            session,
        } => {
            assert_eq!((from.as_str(), to.as_str()), ("s0", "s1"));
            assert!(
                !reason.is_empty() && outage_ms > 0,
                "{reason:?} {outage_ms}"
            );
            assert_eq!(session.len(), 20);
        }
        other => panic!("{other:?}"),
    }
    // The old viewer's bytes are gone, and it is told so; the port stays.
    assert!(matches!(
        timeout(LONG, viewer.read(&mut [0; 1])).await.unwrap(),
        Ok(0) | Err(_)
    ));
    let mut viewer = client.viewer().await;
    exchange(&mut viewer, b"after").await;
    let last = group.with(|state| state.opens.last().unwrap().1.clone());
    assert!(
        matches!(last, Credential::Ticket(_)),
        "a password was used again"
    );
}

#[tokio::test]
async fn a_viewer_that_comes_while_the_session_is_being_left_gets_the_new_one() {
    let mut group = Group::new(2).await;
    let mut client = Running::start(group.connect(any_port())).await;
    group.kill_host();
    group.orphan();
    let mut viewer = client.viewer().await;
    exchange(&mut viewer, b"hello").await;
    // Whether the loss is noticed before the viewer comes is a matter of moments.
    let mut event = client.event().await;
    if matches!(event, Event::PathLost { .. }) {
        event = client.event().await;
    }
    assert!(matches!(event, Event::SessionLost { .. }), "{event:?}");
    assert!(matches!(client.event().await, Event::Moved { .. }));
}

#[tokio::test]
async fn a_loss_is_noticed_without_a_viewer() {
    let mut group = Group::new(3).await;
    let mut client = Running::start(group.connect(any_port())).await;
    group.kill_host();
    assert!(matches!(client.event().await, Event::PathLost { host, .. } if host == "s0"));
    group.orphan();
    assert!(matches!(client.event().await, Event::SessionLost { host, .. } if host == "s0"));
    assert!(matches!(client.event().await, Event::Moved { to, .. } if to == "s1"));
    // The new session is watched like the old one.
    let host = group.servers[1].address().server;
    group.with(|state| state.dead.push(host));
    group.servers[1].stop();
    assert!(matches!(client.event().await, Event::PathLost { host, .. } if host == "s1"));
    group.with(|state| state.dead.retain(|dead| *dead != host));
    group.servers[1].restart().await;
    assert!(matches!(client.event().await, Event::Resumed { .. }));
    let mut viewer = client.viewer().await;
    exchange(&mut viewer, b"after").await;
}

#[tokio::test]
async fn the_end_of_a_session_is_noticed_without_a_viewer() {
    let group = Group::new(2).await;
    let mut client = Running::start(group.connect(any_port())).await;
    group.with(|state| {
        for session in state.sessions.values_mut() {
            session.state = SessionState::Ended;
            session.reason = Some(EndReason::TimedOut);
        }
    });
    assert!(matches!(client.event().await, Event::Ended { .. }));
}

#[tokio::test]
async fn whoever_uses_a_session_that_is_moved_goes_with_it() {
    for used in [false, true] {
        let group = Group::new(2).await;
        let mut client = Running::start(group.connect(any_port())).await;
        let viewer = match used {
            true => {
                let mut viewer = client.viewer().await;
                exchange(&mut viewer, b"here").await;
                Some(viewer)
            }
            false => None,
        };
        group.move_on();
        let event = client.event().await;
        assert!(
            matches!(&event, Event::Moved { from, to, reason, .. }
                if from == "s0" && to == "s1" && reason.starts_with("ann moved it")),
            "{event:?}"
        );
        if let Some(mut viewer) = viewer {
            let closed = timeout(LONG, viewer.read(&mut [0; 1])).await.unwrap();
            assert_eq!(closed.unwrap_or(0), 0);
        }
        let mut viewer = client.viewer().await;
        exchange(&mut viewer, b"there").await;
    }
}

#[tokio::test]
async fn the_first_client_is_told_when_another_takes_over() {
    let group = Group::new(2).await;
    let mut first = Running::start(group.connect(any_port())).await;
    let mut viewer = first.viewer().await;
    exchange(&mut viewer, b"mine").await;
    let second = Running::start(group.connect(any_port())).await;
    let mut other = second.viewer().await;
    exchange(&mut other, b"mine now").await;
    assert!(matches!(first.event().await, Event::TakenOver { .. }));
    assert_eq!(first.end().await.unwrap(), End::TakenOver);
    assert_eq!(
        timeout(LONG, viewer.read(&mut [0; 1]))
            .await
            .unwrap()
            .unwrap_or(0),
        0
    );
    exchange(&mut other, b"still mine").await;
}

#[tokio::test]
async fn the_end_of_the_session_is_told_with_its_reason() {
    let group = Group::new(2).await;
    group.with(|state| state.close_after = Some(5));
    let mut client = Running::start(group.connect(any_port())).await;
    let mut viewer = client.viewer().await;
    let reason = EndReason::Exited {
        code: Some(3),
        signal: None,
    };
    group.with(|state| {
        for session in state.sessions.values_mut() {
            (session.state, session.reason) = (SessionState::Ended, Some(reason.clone()));
        }
    });
    exchange(&mut viewer, b"bye!!").await;
    assert_eq!(
        timeout(LONG, viewer.read(&mut [0; 1]))
            .await
            .unwrap()
            .unwrap(),
        0
    );
    drop(viewer);
    assert!(matches!(client.event().await, Event::Ended { reason } if reason.contains('3')));
    assert_eq!(client.end().await.unwrap(), End::Ended(reason));
}

#[tokio::test]
async fn a_session_that_ends_without_a_path_is_told_too() {
    let group = Group::new(2).await;
    let mut client = Running::start(group.connect(any_port())).await;
    let mut viewer = client.viewer().await;
    exchange(&mut viewer, b"x").await;
    group.reset_streams(ResetCode::SESSION_ENDED);
    group.with(|state| {
        for session in state.sessions.values_mut() {
            (session.state, session.reason) = (SessionState::Ended, Some(EndReason::TimedOut));
        }
    });
    assert!(matches!(client.event().await, Event::Ended { .. }));
    assert_eq!(client.end().await.unwrap(), End::Ended(EndReason::TimedOut));
}

#[tokio::test]
async fn a_busy_server_is_not_asked_again_before_its_time() {
    let group = Group::new(1).await;
    group.with(|state| state.faults.extend([Fault::ComeBack { after_ms: 300 }; 2]));
    let _client = Running::start(group.connect(any_port())).await;
    let opens = group.with(|state| std::mem::take(&mut state.opens));
    assert_eq!(opens.len(), 3);
    for pair in opens.windows(2) {
        let wait = pair[1].0 - pair[0].0;
        assert!(
            wait >= Duration::from_millis(300),
            "came back after {wait:?}"
        );
        assert_eq!(pair[0].2, pair[1].2, "a repeat is the same attempt");
    }
}

#[tokio::test]
async fn a_busy_server_is_not_asked_what_became_of_a_session_before_its_time() {
    let mut group = Group::new(2).await;
    let mut client = Running::start(group.connect(any_port())).await;
    let mut viewer = client.viewer().await;
    exchange(&mut viewer, b"before").await;
    group.with(|state| {
        state.faults.extend([Fault::NoNews { after_ms: 300 }; 2]);
        state.asked.clear();
    });
    group.kill_host();
    group.orphan();
    while !matches!(client.event().await, Event::Moved { .. }) {}
    let asked = group.with(|state| std::mem::take(&mut state.asked));
    assert!(asked.len() >= 3, "{asked:?}");
    for pair in asked.windows(2).take(2) {
        let wait = pair[1] - pair[0];
        assert!(wait >= Duration::from_millis(300), "asked after {wait:?}");
    }
}

#[tokio::test]
async fn a_server_without_room_is_not_met_before_its_time() {
    let mut group = Group::new(2).await;
    let mut client = Running::start(group.connect(any_port())).await;
    let mut viewer = client.viewer().await;
    exchange(&mut viewer, b"before").await;
    group.with(|state| state.faults.extend([Fault::NoRoom { after_ms: 400 }; 4]));
    group.kill_host();
    group.orphan();
    while !matches!(client.event().await, Event::Moved { .. }) {}
    let turned_away = group.with(|state| std::mem::take(&mut state.turned_away));
    assert_eq!(turned_away.len(), 4);
    // The stream looks for a path while it is asked what became of the session: of three times, two are of the same.
    for three in turned_away.windows(3) {
        let wait = three[2] - three[0];
        assert!(
            wait >= Duration::from_millis(400),
            "came back after {wait:?}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_opened_is_an_error_that_says_why() {
    let group = Group::new(1).await;
    let refused = |connect: Connect| async {
        let (sender, _events) = mpsc::unbounded_channel();
        timeout(LONG, connect.run(sender))
            .await
            .unwrap()
            .unwrap_err()
    };
    let mut connect = group.connect(any_port());
    connect.credential = Credential::Password {
        user: Some("ann".parse().unwrap()),
        password: wire::client::Hidden("wrong".to_owned()),
    };
    assert!(refused(connect).await.to_string().contains("login failed"));

    let mut connect = group.connect(any_port());
    connect.patience = Duration::from_millis(200);
    connect.servers = vec!["127.0.0.1:1".to_owned()];
    let error = refused(connect).await;
    assert!(
        matches!(
            error,
            ConnectError::Open(client::connect::OpenError::NotReachable(_))
        ),
        "{error:?}"
    );

    let mut connect = group.connect(Local::Program(vec!["/does/not/exist".to_owned()]));
    connect.patience = Duration::from_millis(200);
    assert!(matches!(refused(connect).await, ConnectError::Local(_)));
}

#[tokio::test]
async fn a_viewer_program_is_run_and_its_exit_code_is_given_on() {
    let group = Group::new(2).await;
    let script = "exec 3<>/dev/tcp/{host}/{port}; printf hello >&3; read -r -N 5 answer <&3; \
                  [ \"$answer\" = hello ] && exit 7";
    let words = ["bash", "-c", script].map(str::to_owned).to_vec();
    let client = Running::start(group.connect(Local::Program(words))).await;
    assert_eq!(client.end().await.unwrap(), End::ViewerExited(7));
}

#[tokio::test]
async fn a_viewer_program_that_ends_with_its_session_is_run_again() {
    for moved in [false, true] {
        runs_again(moved).await;
    }
}

async fn runs_again(moved: bool) {
    let mut group = Group::new(2).await;
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("ran");
    // The first run waits for the end of its connection, the second one echoes and is content.
    let script = format!(
        "exec 3<>/dev/tcp/{{host}}/{{port}}; printf hello >&3; read -r -N 5 answer <&3; \
         if mkdir {0} 2>/dev/null; then cat <&3; exit 1; fi; [ \"$answer\" = hello ] && exit 9",
        mark.display()
    );
    let words = ["bash", "-c", &script].map(str::to_owned).to_vec();
    let client = Running::start(group.connect(Local::Program(words))).await;
    let ran = async {
        while !mark.exists() {
            // tidy: polls: a program can only be seen to have come so far.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, ran).await.unwrap();
    if moved {
        group.move_on();
    } else {
        group.kill_host();
        group.orphan();
    }
    assert_eq!(client.end().await.unwrap(), End::ViewerExited(9));
}
