//! Commands of other accounts: what they are, what they can reach, and whom no session becomes. They need root.

#[expect(
    dead_code,
    reason = "it is shared with the tests of keepers, which use all of it"
)]
mod viewer;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use host::{Found, Launched, discover};
use model::{Application, EndReason, SessionId};
use tokio::net::UnixListener;
use tokio::time::{Duration, timeout};
use viewer::{LONG, Place, Viewer, app, program};
use wire::keeper::{Command, Notice, OpeningRefusal, Phase};

/// An account that is nobody's and that every system has; its user id is one that a person's may be.
const ACCOUNT: &str = "nobody";

fn as_account(name: &str, launch: &str, backends: &[&str]) -> Application {
    assert!(
        rustix::process::geteuid().is_root(),
        "only root can run commands as another account"
    );
    Application {
        run_as: Some(name.parse().expect("an account")),
        ..app(Some(launch), backends)
    }
}

/// A folder that everybody may enter.
fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
    folder
}

/// Where a session's command has its own folder.
fn private(session: SessionId) -> PathBuf {
    Path::new("/run/stead").join(format!("stead-{session}"))
}

/// What the session ended with.
async fn ended(launched: &mut Launched) -> EndReason {
    let asked = launched.commands.send(&Command::Status).await;
    asked.expect("sent");
    let ended = async {
        loop {
            let Notice::Status(status) = launched.notices.next().await.expect("a notice");
            if let Phase::Ended { reason, .. } = status.phase {
                return reason;
            }
        }
    };
    timeout(LONG, ended).await.expect("it ends")
}

/// Why the session could not be started.
async fn failure(mut launched: Launched) -> String {
    match ended(&mut launched).await {
        EndReason::FailedToStart { detail } => detail,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_command_is_the_account_and_nothing_of_the_keeper() {
    let open = open_folder();
    let secret = open.path().join("secret");
    fs::write(&secret, "root alone\n").expect("written");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("its mode");
    let mut place = Place::new();
    let launched = place.launch(as_account(ACCOUNT, "@pty /bin/sh", &[])).await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    let ids =
        "grep -E '^(Uid|Gid|Groups|CapPrm|CapEff)' /proc/self/status | tr '\\t' ' '; echo =ids\n";
    viewer.ask(ids, "\n=ids").await;
    for expected in [
        "Uid: 65534 65534 65534 65534",
        "Gid: 65534 65534 65534 65534",
        "Groups: 65534",
        "CapPrm: 0000000000000000",
        "CapEff: 0000000000000000",
    ] {
        assert!(viewer.text().contains(expected), "{}", viewer.text());
    }
    viewer
        .ask(
            "echo =$USER-$LOGNAME-$HOME-$SHELL-$STEAD_USER=\n",
            "=nobody-nobody-/nonexistent-/usr/sbin/nologin-ann=",
        )
        .await;
    viewer
        .ask("echo cargo-$(env | grep -c CARGO)=\n", "cargo-0=")
        .await;
    viewer
        .ask(
            "stat -c '%U %G %a' $(tty) .; echo =own\n",
            "nobody nogroup 700",
        )
        .await;
    assert!(
        viewer.text().contains("nobody tty 620"),
        "{}",
        viewer.text()
    );
    // What is root's stays root's.
    viewer
        .ask(&format!("cat {}\n", secret.display()), "Permission denied")
        .await;
    assert!(!viewer.text().contains("root alone"), "{}", viewer.text());
    let session = launched.dir.display();
    viewer
        .ask(&format!("ls {session}; echo again=$?\n"), "again=2")
        .await;
    viewer
        .ask(
            "kill -0 $PPID; echo back=$?; setpriv --reuid 0 id; echo root=$?\n",
            "back=1",
        )
        .await;
    viewer.ask("", "root=127").await;
}

#[tokio::test]
async fn its_socket_and_its_folder_are_its_own() {
    let open = open_folder();
    let copy = open.path().join("echo");
    fs::copy(program(), &copy).expect("copied");
    let mut place = Place::new();
    place.retain_ms = 100;
    let launch = format!("{} echo-at {{socket}}", copy.display());
    let mut launched = place
        .launch(as_account(ACCOUNT, &launch, &["unix:{socket}"]))
        .await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    viewer
        .ask("through its own socket", "through its own socket")
        .await;
    let own = private(launched.status.session);
    assert!(own.join("app.sock").exists(), "{}", own.display());
    let reason = EndReason::TimedOut;
    let end = launched.commands.send(&Command::End { reason }).await;
    end.expect("sent");
    ended(&mut launched).await;
    launched
        .commands
        .send(&Command::Forget)
        .await
        .expect("sent");
    let gone = async { while launched.notices.next().await.is_ok() {} };
    timeout(LONG, gone).await.expect("the keeper goes");
    goes(&own).await;
}

/// Waits until there is nothing at the path.
async fn goes(path: &Path) {
    let looking = async {
        while path.exists() {
            // tidy: polls: looks again until the condition of the loop or its limit is there
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let gone = timeout(LONG, looking).await;
    gone.unwrap_or_else(|_| panic!("{} stays", path.display()));
}

#[tokio::test]
async fn what_a_killed_keeper_leaves_of_it_goes() {
    let mut place = Place::new();
    let launched = place.launch(as_account(ACCOUNT, "@pty /bin/sh", &[])).await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    viewer
        .ask("echo $$ > pid; echo noted-$((1+1))\n", "noted-2")
        .await;
    let own = private(launched.status.session);
    let pid = fs::read_to_string(own.join("pid")).expect("a pid");
    let keeper = rustix::process::Pid::from_raw(launched.status.pid.cast_signed()).expect("a pid");
    rustix::process::kill_process(keeper, rustix::process::Signal::KILL).expect("it lives");
    let lost = async {
        let sessions = place.folder.path();
        while !matches!(
            discover(sessions).await.expect("a folder").as_slice(),
            [Found::Lost { .. }]
        ) {
            // tidy: polls: looks again until the condition of the loop or its limit is there
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, lost).await.expect("it is seen to be lost");
    // The kernel has ended the command with its keeper, though it is another account's.
    goes(&Path::new("/proc").join(pid.trim()).join("exe")).await;
    host::remove(&launched.dir).expect("a lost session's folder goes");
    assert!(!own.exists(), "{} stays", own.display());
}

#[tokio::test]
async fn whom_no_session_becomes_is_said_with_the_server() {
    for (run_as, user, expected) in [
        (
            "no-such-account",
            "ann",
            &["no account \"no-such-account\" on server alpha"][..],
        ),
        (
            "{user}",
            "no-such-user",
            &["no account \"no-such-user\" on server alpha"],
        ),
        (
            "{user}",
            "root",
            &["\"root\" of server alpha has user id 0", "UID_MIN"],
        ),
        ("{user}", "daemon", &["\"daemon\"", "user id 1:"]),
    ] {
        let mut place = Place::new();
        let mut spec = place.spec(as_account(run_as, "@pty /bin/sh", &[]));
        spec.user = user.parse().expect("a user");
        let why = failure(place.launch_spec(spec).await).await;
        for part in expected {
            assert!(why.contains(part), "{why}");
        }
    }
}

#[tokio::test]
async fn the_account_named_like_the_user_is_found() {
    let mut place = Place::new();
    let mut spec = place.spec(as_account("{user}", "@pty /bin/sh", &[]));
    spec.user = ACCOUNT.parse().expect("a user");
    let launched = place.launch_spec(spec).await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    viewer.ask("id -un; echo =$((1+1))\n", "nobody").await;
}

#[tokio::test]
async fn what_the_account_may_not_do_is_said_with_its_name() {
    let mut folder = as_account(ACCOUNT, "@pty /bin/sh", &[]);
    let closed = tempfile::tempdir().expect("a folder");
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).expect("its mode");
    folder.dir = Some(closed.path().display().to_string());
    let print = "sh -c 'echo the reason is here > /dev/stderr; exit 3'";
    for (app, expected) in [
        (
            folder,
            &[
                "\"nobody\"",
                closed.path().to_str().expect("text"),
                "ermission",
            ][..],
        ),
        (
            as_account(ACCOUNT, "/etc/passwd", &["unix:{socket}"]),
            &["/etc/passwd", "\"nobody\"", "ermission"],
        ),
        (
            as_account(ACCOUNT, print, &["unix:{socket}"]),
            &["status 3", "the reason is here"],
        ),
    ] {
        let mut place = Place::new();
        let why = failure(place.launch(app).await).await;
        for part in expected {
            assert!(why.contains(part), "{why}");
        }
    }
}

/// The keeper is root and could connect to anything: a link in place of the account's socket leads nowhere.
#[tokio::test]
async fn a_link_to_a_socket_of_roots_is_not_followed() {
    let open = open_folder();
    let roots = open.path().join("roots.sock");
    let listener = UnixListener::bind(&roots).expect("bound");
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes).await;
            tell.send(read.map(|_| bytes)).expect("the test goes on");
        }
    });
    let mut place = Place::new();
    let launch = format!("sh -c 'ln -s {} {{socket}}; sleep 600'", roots.display());
    let mut app = as_account(ACCOUNT, &launch, &["unix:{socket}"]);
    app.ready_timeout_ms = 500;
    let launched = place.launch(app).await;
    match Viewer::try_attach(&launched.dir, 1).await {
        Err(OpeningRefusal::Backend { .. } | OpeningRefusal::Ended(_)) => {}
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("attached to root's socket"),
    }
    let why = failure(launched).await;
    assert!(why.contains("user id 0 listens there"), "{why}");
    let met = timeout(LONG, told.recv()).await.expect("it was reached");
    let bytes = met.expect("somebody came").expect("read");
    assert!(bytes.is_empty(), "{bytes:?}");
}
