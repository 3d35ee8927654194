//! What a command is given in secret: it alone has it, by descriptor, and it lies nowhere else.

#[expect(
    dead_code,
    reason = "it is shared with the tests of keepers, which use all of it"
)]
mod viewer;

use std::fs;
use std::path::Path;

use model::Application;
use tokio::time::timeout;
use viewer::{LONG, Place, Viewer, app};
use wire::credentials::SecretBytes;
use wire::keeper::{Command, Handed, Notice, Phase};

const VALUE: &str = "correct-horse-battery";

fn handed() -> Handed {
    let secret = |name: &str, value: &str| {
        let name = name.parse().expect("a name");
        (name, SecretBytes(value.as_bytes().to_vec()))
    };
    // More than the application is given: it gets what it names.
    Handed(vec![
        secret("mail.password", VALUE),
        secret("other", "not for it"),
    ])
}

/// A terminal whose environment says where the secret is; as an argument too, of a shell that waits.
fn given() -> Application {
    let launch = "@pty /bin/sh -c 'sh -i' x {secret:mail.password}";
    let mut app = app(Some(launch), &[]);
    app.env = [("MAIL".to_owned(), "{secret:mail.password}".to_owned())].into();
    app
}

/// Every file below a folder that holds the value.
fn found_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        match entry.file_type().expect("its kind") {
            kind if kind.is_dir() => found.extend(found_below(&path)),
            kind if kind.is_file() => {
                let bytes = fs::read(&path).expect("a file");
                if holds(&bytes) {
                    found.push(path.display().to_string());
                }
            }
            _ => {}
        }
    }
    found
}

fn holds(bytes: &[u8]) -> bool {
    bytes
        .windows(VALUE.len())
        .any(|piece| piece == VALUE.as_bytes())
}

/// Where every process that was started for the session shows the value in its arguments or environment, or holds the memory.
fn processes_of(session: &str) -> Vec<(u32, String, usize)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("proc").flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let (line, environment) = (read("cmdline"), read("environ"));
        let of_it = |bytes: &[u8]| {
            bytes
                .windows(session.len())
                .any(|it| it == session.as_bytes())
        };
        if !of_it(&line) && !of_it(&environment) {
            continue;
        }
        assert!(
            !holds(&line) && !holds(&environment),
            "process {pid} shows the value"
        );
        let links = fs::read_dir(entry.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        let secrets = links.filter(|link| {
            let to = fs::read_link(link.path()).unwrap_or_default();
            to.to_string_lossy().contains("stead-secret")
        });
        let line = String::from_utf8_lossy(&line).into_owned();
        found.push((pid, line, secrets.count()));
    }
    found
}

async fn is_given(app: Application) {
    let mut place = Place::new();
    let spec = place.spec(app);
    let session = spec.session.to_string();
    let launched = place.launch_with(spec, handed()).await;
    let mut viewer = Viewer::attach(&launched.dir, 1).await;
    viewer.ask("echo =$MAIL=\n", "=/proc/self/fd/").await;
    // Each reader has it from the beginning, whatever others have read.
    for time in ["one", "two"] {
        let ask = format!("echo {time}-$(cat $MAIL)-$(wc -c < $MAIL)\n");
        let wanted = format!("{time}-{VALUE}-{}", VALUE.len());
        viewer.ask(&ask, &wanted).await;
    }
    viewer
        .ask("echo x > $MAIL; echo written=$?\n", "written=")
        .await;
    assert!(!viewer.text().contains("written=0"), "{}", viewer.text());
    // The keeper has let go of it: the command, its shell, and what they ask here.
    let processes = processes_of(&session);
    let keeper = processes
        .iter()
        .find(|(pid, ..)| *pid == launched.status.pid);
    assert_eq!(keeper.expect("the keeper").2, 0, "{processes:?}");
    assert!(
        processes.iter().any(|(_, _, secrets)| *secrets == 1),
        "{processes:?}"
    );
    assert_eq!(found_below(place.sessions.as_path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_command_reads_its_secret_and_nobody_else_has_it() {
    is_given(given()).await;
}

#[tokio::test]
async fn a_command_of_another_account_reads_it_too() {
    assert!(
        rustix::process::geteuid().is_root(),
        "only root can run commands as another account"
    );
    let run_as = Some("nobody".parse().expect("an account"));
    is_given(Application { run_as, ..given() }).await;
}

#[tokio::test]
async fn a_command_does_not_start_without_what_it_is_given() {
    let mut place = Place::new();
    let mut launched = place.launch(given()).await;
    let asked = launched.commands.send(&Command::Status).await;
    asked.expect("sent");
    let ended = async {
        loop {
            let Notice::Status(status) = launched.notices.next().await.expect("a notice");
            if let Phase::Ended { reason, .. } = status.phase {
                return reason.to_string();
            }
        }
    };
    let why = timeout(LONG, ended).await.expect("it ends");
    let wanted = "{secret:mail.password} stands for nothing here";
    assert!(why.contains(wanted), "{why}");
}
