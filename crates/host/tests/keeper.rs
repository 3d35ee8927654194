//! Keepers as processes of their own: started, used, cut off, resumed, taken over, ended.

mod viewer;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use host::{Found, Notices, discover, open_stream};
use model::{EndReason, Resumable, StreamId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tunnel::{Event, ResetCode};
use viewer::{LONG, Place, Viewer, app, echo, program};
use wire::keeper::{
    Command, Notice, Opening, OpeningAnswer, OpeningRefusal, Phase, SOCKET, Status,
};

async fn status(notices: &mut Notices, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
    let mut last = None;
    let found = timeout(LONG, async {
        loop {
            let Notice::Status(status) = notices.next().await.expect("a notice");
            if wanted(&status) {
                return status;
            }
            last = Some(status);
        }
    });
    match found.await {
        Ok(status) => status,
        Err(_) => panic!("not {what} within {LONG:?}: {last:?}"),
    }
}

fn random(count: usize) -> Bytes {
    let mut bytes = vec![0; count];
    aws_lc_rs::rand::fill(&mut bytes).expect("randomness");
    bytes.into()
}

#[tokio::test]
async fn bytes_go_to_a_running_server_and_back() {
    let mut place = Place::new();
    let launched = place.launch(app(None, &[&echo().await])).await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    viewer.ask("hello", "hello").await;
    viewer.ends = true;
    viewer.event(Event::Finished).await;
    assert_eq!(viewer.came, b"hello");
}

/// Of several running servers a session stays with the one that accepted it, also when a better one is back.
#[tokio::test]
async fn a_session_stays_with_its_backend_while_that_lives() {
    let mut place = Place::new();
    let (away, second) = (
        tokio::net::TcpListener::bind("127.0.0.1:0").await,
        echo().await,
    );
    let first = away.expect("a port").local_addr().expect("an address");
    let launched = place
        .launch(app(None, &[&format!("tcp:{first}"), &second]))
        .await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    viewer.ask("by the second", "by the second").await;
    // Whoever came to the first would be greeted.
    let listener = tokio::net::TcpListener::bind(first)
        .await
        .expect("it is free");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"by the first").await.ok();
        }
    });
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    viewer
        .ask("still by the second", "still by the second")
        .await;
    assert!(!viewer.text().contains("by the first"), "{}", viewer.text());
}

#[tokio::test]
async fn a_shell_on_a_terminal() {
    let mut place = Place::new();
    let mut launched = place.launch(app(Some("@pty /bin/sh"), &[])).await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    viewer
        .ask("tty; stty size; echo $STEAD_USER-$TERM\n", "ann-")
        .await;
    assert!(
        viewer.text().contains("/dev/pts/") && viewer.text().contains("24 80"),
        "{}",
        viewer.text()
    );
    viewer.to_send = Bytes::from_static(b"exit 7\n");
    viewer.event(Event::PeerFinished).await;
    let ended = status(&mut launched.notices, "ended", |status| {
        matches!(status.phase, Phase::Ended { .. })
    })
    .await;
    let Phase::Ended { reason, .. } = ended.phase else {
        unreachable!()
    };
    assert_eq!(
        reason,
        EndReason::Exited {
            code: Some(7),
            signal: None
        }
    );
}

#[tokio::test]
async fn programs_may_open_as_many_files_as_the_server_was_given() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let half = before.maximum.unwrap_or(20_000) / 2;
    let given = Rlimit {
        current: Some(half),
        ..before
    };
    setrlimit(Resource::Nofile, given).unwrap();
    host::descriptors::take_all();
    assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
    let mut place = Place::new();
    let launched = place.launch(app(Some("@pty /bin/sh"), &[])).await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    let expected = format!("limit {half}");
    viewer.ask("echo limit $(ulimit -Sn)\n", &expected).await;
}

#[tokio::test]
async fn keepers_leave_no_core_files_and_programs_may() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, dumpable_behavior};
    use rustix::process::{getrlimit, setrlimit};
    let given = Rlimit {
        current: Some(1_048_576),
        ..getrlimit(Resource::Core)
    };
    setrlimit(Resource::Core, given).expect("no hard limit below it");
    host::core_dumps::leave_none();
    assert_eq!(getrlimit(Resource::Core).current, Some(0));
    assert_eq!(
        dumpable_behavior().expect("asked"),
        DumpableBehavior::NotDumpable
    );
    let mut place = Place::new();
    let launched = place.launch(app(Some("@pty /bin/sh"), &[])).await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    let ask = "while read a b c d soft rest; do [ $b = core ] && echo limit $soft; done < /proc/self/limits\n";
    viewer.ask(ask, "limit 1048576").await;
}

#[tokio::test]
async fn the_end_is_told_recorded_and_forgotten() {
    let mut place = Place::new();
    let mut launched = place.launch(app(Some("@pty /bin/cat"), &[])).await;
    let by_hand = EndReason::ByHand { by: "root".into() };
    launched
        .commands
        .send(&Command::End {
            reason: by_hand.clone(),
        })
        .await
        .expect("sent");
    let ended = status(&mut launched.notices, "ended", |status| {
        matches!(status.phase, Phase::Ended { .. })
    })
    .await;
    assert!(matches!(ended.phase, Phase::Ended { reason, .. } if reason == by_hand));
    launched
        .commands
        .send(&Command::Forget)
        .await
        .expect("sent");
    timeout(LONG, async {
        while launched.notices.next().await.is_ok() {}
    })
    .await
    .expect("the keeper goes");
    timeout(LONG, async {
        while launched.dir.exists() {
            // tidy: polls: looks again until the condition of the loop or its limit is there
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the folder goes");
    assert!(
        discover(place.folder.path())
            .await
            .expect("a folder")
            .iter()
            .all(|found| !matches!(found, Found::Live(_)))
    );
}

/// Carries 64 MB there and back while the path breaks again and again, at any byte, sometimes with a lost answer.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "a random test tells its seed")]
async fn no_byte_is_lost_when_paths_are_cut() {
    let mut seed = [0; 8];
    aws_lc_rs::rand::fill(&mut seed).expect("randomness");
    let mut draw = u64::from_le_bytes(seed) | 1;
    println!("seed {draw}");
    let mut next = move |below: usize| {
        // xorshift64: good enough to choose where to cut.
        draw ^= draw << 13;
        draw ^= draw >> 7;
        draw ^= draw << 17;
        usize::try_from(draw % below as u64).expect("small")
    };
    let mut place = Place::new();
    let launched = place.launch(app(None, &[&echo().await])).await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    let sent = random(64 << 20);
    viewer.to_send = sent.clone();
    viewer.ends = true;
    let mut cuts = 0;
    while !viewer.events.contains(&Event::Finished) {
        let limit = 1 + next(16 << 20);
        viewer
            .until("cut or finished", |viewer| {
                viewer.passed >= limit || viewer.events.contains(&Event::Finished)
            })
            .await;
        if viewer.events.contains(&Event::Finished) {
            break;
        }
        cuts += 1;
        if next(3) == 0 {
            // The keeper acts on this one, but nobody hears its answer.
            let opening = viewer.resume_opening();
            viewer.cut();
            drop(
                open_stream(&launched.dir, &opening, LONG)
                    .await
                    .expect("an answer"),
            );
        }
        viewer.resume().await.expect("resumed");
    }
    assert!(cuts > 3, "{cuts} cuts");
    assert!(
        viewer.came == sent,
        "{} bytes of {} came, or others",
        viewer.came.len(),
        sent.len()
    );
}

#[tokio::test]
async fn a_bad_attempt_harms_only_itself() {
    let mut place = Place::new();
    let launched = place.launch(app(None, &[&echo().await])).await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    viewer.ask("one", "one").await;
    let good = viewer.resume_opening();
    let Opening::Resume {
        stream,
        epoch,
        received,
        proof,
        exporter,
        address,
    } = good.clone()
    else {
        unreachable!()
    };
    let other_stream = StreamId::from_bytes([3; 16]);
    let attempts = [
        Opening::Resume {
            stream: other_stream,
            epoch,
            received,
            proof,
            exporter,
            address: address.clone(),
        },
        Opening::Resume {
            stream,
            epoch,
            received,
            proof: [0; 32],
            exporter,
            address: address.clone(),
        },
        Opening::Resume {
            stream,
            epoch: epoch + 1,
            received,
            proof,
            exporter,
            address: address.clone(),
        },
        Opening::Resume {
            stream,
            epoch,
            received: received + 1,
            proof,
            exporter,
            address: address.clone(),
        },
        Opening::Resume {
            stream,
            epoch,
            received,
            proof,
            exporter: [0; 32],
            address,
        },
    ];
    for attempt in attempts {
        let (answer, _) = open_stream(&launched.dir, &attempt, LONG)
            .await
            .expect("an answer");
        assert_eq!(
            answer,
            OpeningAnswer::Refused(OpeningRefusal::Resume),
            "{attempt:?}"
        );
    }
    viewer.ask("two", "onetwo").await;
    // The true one works once.
    viewer.cut();
    let (answer, _) = open_stream(&launched.dir, &good, LONG)
        .await
        .expect("an answer");
    assert!(
        matches!(answer, OpeningAnswer::Resumed { .. }),
        "{answer:?}"
    );
    let (answer, _) = open_stream(&launched.dir, &good, LONG)
        .await
        .expect("an answer");
    assert_eq!(answer, OpeningAnswer::Refused(OpeningRefusal::Resume));
    viewer.resume().await.expect("a higher epoch");
    viewer.ask("three", "onetwothree").await;
}

#[tokio::test]
async fn a_proven_lie_about_offsets_is_refused_and_the_path_goes_on() {
    let mut place = Place::new();
    let launched = place.launch(app(None, &[&echo().await])).await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    viewer.ask("one", "one").await;
    let lie = viewer.claim(1 << 40);
    let (answer, _) = open_stream(&launched.dir, &lie, LONG)
        .await
        .expect("an answer");
    assert_eq!(answer, OpeningAnswer::Refused(OpeningRefusal::Resume));
    viewer.ask("two", "onetwo").await;
}

#[tokio::test]
async fn another_client_takes_the_session_over() {
    let mut place = Place::new();
    let mut launched = place.launch(app(None, &[&echo().await])).await;
    let mut first = Viewer::attach(&launched.dir, 1).await;
    let mut second_stream = Viewer::attach(&launched.dir, 1).await;
    first.ask("mine", "mine").await;
    second_stream.ask("also", "also").await;
    let mut away = Viewer::attach(&launched.dir, 1).await;
    away.cut();
    let mut other = Viewer::attach(&launched.dir, 2).await;
    other.ask("now mine", "now mine").await;
    let taken = Event::Reset {
        code: ResetCode::TAKEN_OVER,
    };
    first.event(taken).await;
    second_stream.event(taken).await;
    away.resume().await.expect("a path to be told over");
    away.event(taken).await;
    other.ask("!", "now mine!").await;
    status(&mut launched.notices, "taken over", |status| {
        status.streams == 1 && status.client.as_deref() == Some("192.0.2.2:1000")
    })
    .await;
}

#[tokio::test]
async fn a_terminal_shows_the_screen_as_it_was_left() {
    let mut place = Place::new();
    let launched = place.launch(app(Some("@pty /bin/sh"), &[])).await;
    let mut first = Viewer::attach(&launched.dir, 1).await;
    first.ask("echo left-$((40+2))\n", "left-42").await;
    let mut newer = Viewer::attach(&launched.dir, 1).await;
    newer
        .until("the screen", |viewer| viewer.text().contains("left-42"))
        .await;
    first
        .event(Event::Reset {
            code: ResetCode::REPLACED,
        })
        .await;
    newer.ask("echo right-$((40+3))\n", "right-43").await;
}

#[tokio::test]
async fn a_terminal_nobody_looks_at_holds_nothing_up() {
    let mut place = Place::new();
    let launched = place.launch(app(Some("@pty /bin/sh"), &[])).await;
    let done = launched.dir.join("done");
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    viewer.ask("(sleep 0.2; head -c 9000000 /dev/zero | tr '\\0' x; touch done) & echo ready-$((1+1))\n", "ready-2").await;
    viewer.stream.reset(ResetCode::DONE);
    viewer.until("gone", |viewer| viewer.stream.is_over()).await;
    appears(&done).await;
}

#[tokio::test]
async fn a_command_with_a_socket_of_its_own() {
    let mut place = Place::new();
    let launch = format!("{} echo-at {{socket}}", program().display());
    let launched = place.launch(app(Some(&launch), &["unix:{socket}"])).await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    viewer.ask("through a socket", "through a socket").await;
}

#[tokio::test]
async fn a_command_that_accepts_once_on_a_port() {
    let mut place = Place::new();
    let launch = format!("{} echo-once {{port}}", program().display());
    let launched = place
        .launch(app(Some(&launch), &["tcp:127.0.0.1:{port}"]))
        .await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    viewer.ask("through a port", "through a port").await;
}

#[tokio::test]
async fn a_folder_too_deep_for_sockets() {
    let mut place = Place::new();
    let deep = place.folder.path().join("d".repeat(120));
    place.sessions = deep;
    let launch = format!("{} echo-at {{socket}}", program().display());
    let mut launched = place.launch(app(Some(&launch), &["unix:{socket}"])).await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    viewer.ask("deep", "deep").await;
    launched
        .commands
        .send(&Command::End {
            reason: EndReason::TimedOut,
        })
        .await
        .expect("sent");
    ended(&mut launched.notices).await;
}

/// What the session ended with.
async fn ended(notices: &mut Notices) -> EndReason {
    let status = status(notices, "ended", |status| {
        matches!(status.phase, Phase::Ended { .. })
    })
    .await;
    match status.phase {
        Phase::Ended { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

async fn appears(path: &std::path::Path) {
    let looking = async {
        while !path.exists() {
            // tidy: polls: looks again until the condition of the loop or its limit is there
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, looking)
        .await
        .unwrap_or_else(|_| panic!("{} does not appear", path.display()));
}

/// Why an application cannot be started, as the end of the session says it; a client that waits is told too.
async fn failure(launch: Option<&str>, backends: &[&str]) -> String {
    let mut place = Place::new();
    let mut app = app(launch, backends);
    app.ready_timeout_ms = 400;
    let mut launched = place.launch(app).await;
    if let Err(refusal) = Viewer::try_attach(&launched.dir, 1).await {
        assert!(
            matches!(
                refusal,
                OpeningRefusal::Backend { .. } | OpeningRefusal::Ended(_)
            ),
            "{refusal:?}"
        );
    }
    launched
        .commands
        .send(&Command::Status)
        .await
        .expect("sent");
    match ended(&mut launched.notices).await {
        EndReason::FailedToStart { detail } => detail,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn failures_to_start_are_said_clearly() {
    let nowhere = "unix:{dir}/nowhere";
    let cases: [(Option<&str>, &str, &[&str]); 8] = [
        (Some("no-such-program --now"), nowhere, &["no-such-program"]),
        (Some("/etc/passwd"), nowhere, &["/etc/passwd", "ermission"]),
        (Some("sh 'unclosed"), nowhere, &["quote"]),
        (Some("   "), nowhere, &["empty"]),
        (Some("sh {nothing}"), nowhere, &["{nothing}", "{socket}"]),
        (
            Some("sh -c 'echo the reason is here >&2; exit 3'"),
            nowhere,
            &["status 3", "the reason is here"],
        ),
        (
            Some("sh -c 'echo not yet; sleep 60'"),
            nowhere,
            &["did not accept within 400ms", "nowhere", "not yet"],
        ),
        (
            None,
            "tcp:127.0.0.1:1",
            &["did not accept", "tcp:127.0.0.1:1", "refused"],
        ),
    ];
    for (launch, backend, expected) in cases {
        let detail = failure(launch, &[backend]).await;
        for part in expected {
            assert!(
                detail.contains(part),
                "{launch:?}: {part:?} is not in {detail:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_command_that_ignores_signals_is_killed_with_its_children() {
    let mut place = Place::new();
    let launch = "@pty /bin/sh -c \"trap '' HUP TERM; (trap '' HUP TERM; setsid sh -c 'echo $$ > inner; sleep 600') & echo $$ > outer; echo up; while :; do sleep 600; done\"";
    let mut launched = place.launch(app(Some(launch), &[])).await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    viewer.ask("", "up").await;
    appears(&launched.dir.join("inner")).await;
    let pid = |name: &str| {
        std::fs::read_to_string(launched.dir.join(name))
            .expect("a pid")
            .trim()
            .to_owned()
    };
    let outer = PathBuf::from("/proc").join(pid("outer"));
    assert!(outer.exists());
    launched
        .commands
        .send(&Command::End {
            reason: EndReason::TimedOut,
        })
        .await
        .expect("sent");
    assert_eq!(ended(&mut launched.notices).await, EndReason::TimedOut);
    assert!(!outer.exists(), "the command outlived its session");
}

#[tokio::test]
async fn what_a_command_printed_before_its_end_arrives() {
    let mut place = Place::new();
    let launch = "@pty /bin/sh -c 'read go; seq 1 100000; echo the very end'";
    let mut launched = place.launch(app(Some(launch), &[])).await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    viewer.to_send = Bytes::from_static(b"go\n");
    viewer.event(Event::PeerFinished).await;
    let text = viewer.text();
    assert!(
        text.contains("\r\n99999\r\n100000\r\nthe very end"),
        "{}",
        &text[text.len().saturating_sub(200)..]
    );
    assert_eq!(
        ended(&mut launched.notices).await,
        EndReason::Exited {
            code: Some(0),
            signal: None
        }
    );
}

#[tokio::test]
async fn what_was_printed_before_the_end_arrives_over_a_later_path() {
    let mut place = Place::new();
    let launch = "@pty /bin/sh -c 'read go; echo going; sleep 0.3; echo last words'";
    let mut launched = place.launch(app(Some(launch), &[])).await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    viewer.ask("go\n", "going").await;
    viewer.cut();
    ended(&mut launched.notices).await;
    launched
        .commands
        .send(&Command::Forget)
        .await
        .expect("sent");
    viewer
        .resume()
        .await
        .expect("the keeper stays for its client");
    viewer.event(Event::PeerFinished).await;
    assert!(viewer.text().contains("last words"), "{}", viewer.text());
}

#[tokio::test]
async fn sessions_without_clients_end_as_their_application_says() {
    for (resumable, detach, suspended) in [
        (Resumable::Attached, 100, None),
        (Resumable::Always, 60_000, Some(100)),
        (Resumable::Never, 60_000, None),
    ] {
        let mut place = Place::new();
        let mut app = app(Some("@pty /bin/cat"), &[]);
        (
            app.resumable,
            app.detach_timeout_ms,
            app.suspended_timeout_ms,
        ) = (resumable, detach, suspended);
        place.retain_ms = 2000;
        let mut launched = place.launch(app).await;
        if let Ok(mut viewer) = Viewer::try_attach(&launched.dir, 1).await {
            viewer.ask("x\n", "x").await;
        }
        assert_eq!(
            ended(&mut launched.notices).await,
            EndReason::TimedOut,
            "{resumable:?}"
        );
    }
}

/// A client is attached all the time; bytes put the end off.
#[tokio::test]
async fn a_session_through_which_nothing_passes_ends() {
    let mut place = Place::new();
    let mut app = app(Some("@pty /bin/cat"), &[]);
    app.idle_timeout_ms = Some(1_000);
    let mut launched = place.launch(app).await;
    // What a server says that passes elsewhere counts too.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1_500) {
        let told = launched.commands.send(&Command::Traffic).await;
        told.expect("sent");
        // tidy: polls: traffic goes on for longer than the session may be idle
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    let start = Instant::now();
    let mut asked = 0;
    while start.elapsed() < Duration::from_millis(1_500) {
        asked += 1;
        let word = format!("word-{asked}.");
        viewer.ask(&format!("{word}\n"), &word).await;
    }
    let last = Instant::now();
    assert_eq!(ended(&mut launched.notices).await, EndReason::Idle);
    assert!(last.elapsed() >= Duration::from_millis(900), "{last:?}");
}

#[tokio::test]
async fn a_keeper_outlives_who_started_it_and_is_found_again() {
    let mut place = Place::new();
    let launched = place.launch(app(Some("@pty /bin/sh"), &[])).await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    viewer.ask("echo here\n", "here").await;
    let stat =
        std::fs::read_to_string(format!("/proc/{}/stat", launched.status.pid)).expect("it lives");
    let parent: u32 = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok())
        .expect("a parent");
    assert_ne!(parent, std::process::id(), "it is a child of the server");
    let signal = |signal| {
        let pid = rustix::process::Pid::from_raw(launched.status.pid.cast_signed()).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("it lives");
    };
    signal(rustix::process::Signal::HUP);
    signal(rustix::process::Signal::PIPE);
    let found = discover(place.folder.path()).await.expect("a folder");
    let [Found::Live(live)] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(
        (live.status.pid, live.spec.session),
        (launched.status.pid, launched.status.session)
    );
    viewer.ask("echo still-$((1+1))\n", "still-2").await;
    host::remove(&launched.dir).expect_err("a live session's folder stays");
    // Now the keeper is killed: its command goes with it, and nothing says why.
    viewer
        .ask("echo $$ > shell; echo noted-$((1+1))\n", "noted-2")
        .await;
    let shell = std::fs::read_to_string(launched.dir.join("shell")).expect("a pid");
    signal(rustix::process::Signal::KILL);
    let gone = async {
        while !matches!(
            discover(place.folder.path())
                .await
                .expect("a folder")
                .as_slice(),
            [Found::Lost { .. }]
        ) {
            // tidy: polls: looks again until the condition of the loop or its limit is there
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, gone).await.expect("it is seen to be lost");
    host::remove(&launched.dir).expect("a lost session's folder goes");
    assert!(
        !PathBuf::from("/proc")
            .join(shell.trim())
            .join("exe")
            .exists(),
        "the shell outlived its keeper"
    );
}

#[tokio::test]
async fn an_ended_session_is_found_with_its_reason() {
    let mut place = Place::new();
    let mut launched = place.launch(app(Some("@pty /bin/true"), &[])).await;
    launched
        .commands
        .send(&Command::Status)
        .await
        .expect("sent");
    let reason = ended(&mut launched.notices).await;
    assert_eq!(
        reason,
        EndReason::Exited {
            code: Some(0),
            signal: None
        }
    );
    let pid = rustix::process::Pid::from_raw(launched.status.pid.cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)
        .expect("it stays for a server");
    let gone = async {
        loop {
            if let [Found::Ended { record, .. }] = discover(place.folder.path())
                .await
                .expect("a folder")
                .as_slice()
            {
                return record.reason.clone();
            }
            // tidy: polls: looks again until the condition of the loop or its limit is there
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert_eq!(timeout(LONG, gone).await.expect("found"), reason);
}

#[tokio::test]
async fn hostile_bytes_and_idle_connections_do_no_harm() {
    let mut place = Place::new();
    let launched = place.launch(app(None, &[&echo().await])).await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    let socket = launched.dir.join(SOCKET);
    let mut idle = Vec::new();
    for round in 0..100u8 {
        let mut stream = UnixStream::connect(&socket).await.expect("it accepts");
        let bytes: Bytes = match round % 4 {
            0 => random(3000),
            1 => Bytes::from_static(&[0xff; 64]),
            2 => Bytes::from_static(&[0, 0, 0x10, 1, 0]),
            _ => Bytes::from_static(&[0, 0, 0, 9, 1]),
        };
        // It may have hung up already.
        stream.write_all(&bytes).await.ok();
        idle.push(stream);
    }
    viewer.ask("unharmed", "unharmed").await;
    let mut answer = Vec::new();
    let mut too_long = UnixStream::connect(&socket).await.expect("it accepts");
    too_long.write_all(&[0, 0, 0x10, 1]).await.expect("written");
    timeout(LONG, too_long.read_to_end(&mut answer))
        .await
        .expect("it hangs up")
        .ok();
    assert!(answer.is_empty(), "{answer:?}");
}

#[tokio::test]
async fn a_client_that_violates_the_tunnels_protocol_loses_its_stream_only() {
    let mut place = Place::new();
    let launched = place.launch(app(None, &[&echo().await])).await;
    let mut good = Viewer::attach(&launched.dir, 1).await;
    let mut bad = Viewer::attach(&launched.dir, 1).await;
    let path = bad.path.as_mut().expect("a path");
    path.write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("written");
    bad.event(Event::Reset {
        code: ResetCode::PROTOCOL,
    })
    .await;
    good.ask("unharmed", "unharmed").await;
}

#[tokio::test]
async fn there_is_a_limit_to_streams() {
    let mut place = Place::new();
    let launched = place.launch(app(None, &[&echo().await])).await;
    let mut viewers = Vec::new();
    for _ in 0..64 {
        viewers.push(Viewer::attach(&launched.dir, 1).await);
    }
    let refusal = Viewer::try_attach(&launched.dir, 1).await.err();
    assert_eq!(refusal, Some(OpeningRefusal::TooManyStreams { limit: 64 }));
    let mut other = Viewer::attach(&launched.dir, 2).await;
    other.ask("taken over", "taken over").await;
}
