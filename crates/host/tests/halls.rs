//! Keepers of many sessions: used, left alone, killed.

#[expect(
    dead_code,
    reason = "it is shared with the tests of keepers, which use all of it"
)]
mod viewer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use host::{Found, Halls, Launched, discover};
use model::EndReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};
use tunnel::Event;
use viewer::{LONG, Place, Viewer, app, echo, program};
use wire::keeper::{Command, HALL_SOCKET, HallAnswer, HallOrder};

fn halls(place: &Place) -> (Halls, PathBuf) {
    let folder = place.folder.path().join("halls");
    let sessions = place.sessions.clone();
    (
        Halls::new(program().to_owned(), folder.clone(), sessions),
        folder,
    )
}

async fn keep(halls: &Halls, place: &Place, backend: &str) -> Launched {
    let kept = halls.keep(&place.spec(app(None, &[backend]))).await;
    kept.unwrap_or_else(|error| panic!("not kept: {error:?}"))
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LONG:?}: {what}");
        sleep(Duration::from_millis(10)).await; // tidy: polls: other processes change the folders
    }
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

async fn end(launched: &mut Launched) {
    let by_hand = EndReason::ByHand { by: "root".into() };
    for command in [Command::End { reason: by_hand }, Command::Forget] {
        launched.commands.send(&command).await.expect("sent");
        while let Ok(wire::keeper::Notice::Status(status)) = launched.notices.next().await {
            if matches!(status.phase, wire::keeper::Phase::Ended { .. }) {
                break;
            }
        }
    }
}

#[tokio::test]
async fn many_sessions_share_a_process_that_outlives_its_server_and_goes_with_the_last() {
    let mut place = Place::new();
    place.sessions = place.folder.path().join("sessions");
    place.retain_ms = 100;
    let backend = echo().await;
    let (halls, folder) = halls(&place);
    let mut kept = Vec::new();
    for _ in 0..5 {
        kept.push(keep(&halls, &place, &backend).await);
    }
    let pid = kept[0].status.pid;
    assert!(kept.iter().all(|kept| kept.status.pid == pid));
    assert_ne!(pid, std::process::id());
    let mut viewers = Vec::new();
    for (number, kept) in kept.iter().enumerate() {
        let mut viewer = Viewer::attach(&kept.dir, 1).await;
        let words = format!("words of {number}");
        viewer.ask(&words, &words).await;
        viewers.push(viewer);
    }
    // One session ends, and the others do not notice.
    let mut first = kept.remove(0);
    end(&mut first).await;
    viewers.remove(0).event(Event::PeerFinished).await;
    until("the folder of the session to go", || !first.dir.exists()).await;
    for viewer in &mut viewers {
        viewer.ask("still there", "still there").await;
    }
    // Its server goes: sessions are found by the next one, and their streams go on.
    drop((halls, kept));
    let found = discover(&place.sessions).await.expect("a folder");
    assert_eq!(found.len(), 4);
    for found in found {
        let Found::Live(live) = found else {
            panic!("{found:?}")
        };
        assert_eq!(live.status.pid, pid);
        let mut live = Launched {
            dir: live.dir,
            status: live.status,
            commands: live.commands,
            notices: live.notices,
            warning: live.warning,
        };
        assert!(!is_empty(&folder), "it went before its last session");
        end(&mut live).await;
    }
    drop(viewers);
    until("the process to go", || is_empty(&folder)).await;
    assert!(is_empty(&place.sessions));
}

/// What a keeper of many sessions answers a server.
async fn order(hall: &mut UnixStream, order: &HallOrder) -> HallAnswer {
    let mut frame = Vec::new();
    wire::frame_into(order, &mut frame);
    hall.write_all(&frame).await.expect("written");
    let mut header = [0; wire::frame::HEADER];
    hall.read_exact(&mut header).await.expect("an answer");
    let length = wire::frame_length(header, wire::frame::CLIENT_LIMIT).expect("its length");
    let mut body = vec![0; length];
    hall.read_exact(&mut body).await.expect("the answer");
    wire::decode(&body).expect("an answer")
}

#[tokio::test]
async fn a_session_that_did_not_come_up_is_kept_no_longer() {
    let mut place = Place::new();
    place.sessions = place.folder.path().join("sessions");
    let backend = echo().await;
    let (halls, folder) = halls(&place);
    let (left, other) = (
        keep(&halls, &place, &backend).await,
        keep(&halls, &place, &backend).await,
    );
    let mut entries = std::fs::read_dir(&folder).expect("a folder");
    let hall = entries.next().expect("one").expect("one").path();
    let hall = UnixStream::connect(hall.join(HALL_SOCKET)).await;
    let mut hall = hall.expect("it accepts");
    let session = left.status.session;
    for _ in 0..2 {
        let answer = order(&mut hall, &HallOrder::Leave { session }).await;
        assert_eq!(answer, HallAnswer::Left, "whether it is there or not");
    }
    // Nobody finds it, and it can be kept again: nothing holds its folder any more.
    let again = HallOrder::Keep { session };
    assert_eq!(order(&mut hall, &again).await, HallAnswer::Kept);
    let (status, ..) = host::connect(&left.dir).await.expect("it is kept");
    assert_eq!(status.session, session);
    let mut viewer = Viewer::attach(&other.dir, 1).await;
    viewer.ask("still there", "still there").await;
    let pid = rustix::process::Pid::from_raw(status.pid.cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told to go");
    drop((viewer, left, other));
    until("the process to go", || is_empty(&folder)).await;
}

#[tokio::test]
async fn one_that_was_killed_is_replaced_and_swept_away() {
    let mut place = Place::new();
    place.sessions = place.folder.path().join("sessions");
    let backend = echo().await;
    let (halls, folder) = halls(&place);
    let first = keep(&halls, &place, &backend).await;
    let pid = rustix::process::Pid::from_raw(first.status.pid.cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    let second = keep(&halls, &place, &backend).await;
    assert_ne!(second.status.pid, first.status.pid);
    let mut viewer = Viewer::attach(&second.dir, 1).await;
    viewer.ask("hello", "hello").await;
    let found = discover(&place.sessions).await.expect("a folder");
    let is_lost = |found: &Found| matches!(found, Found::Lost { dir, .. } if *dir == first.dir);
    assert!(found.iter().any(is_lost), "{found:?}");
    let folders = || std::fs::read_dir(&folder).expect("a folder").count();
    assert_eq!(folders(), 2);
    halls.sweep().await;
    assert_eq!(folders(), 1, "only what was killed is swept away");
    viewer.ask("still there", "still there").await;
    let pid = rustix::process::Pid::from_raw(second.status.pid.cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told to go");
    drop((viewer, second));
    until("the process to go", || is_empty(&folder)).await;
}
