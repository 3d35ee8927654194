//! Sessions of every kind, as people use them: a shell on a terminal, launched commands on a socket and on a port, a
//! server that runs anyway, and desktops with ordinary VNC servers and viewers.

mod common;

use common::{SERVERS, Stage, Transfer};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use testkit::screen::{Picture, VNCSNAPSHOT, XTIGERVNC, display, paint, snapshot};
use testkit::{GroupPlan, Machine, Process, event, events, eventually, read_until, seconds, text};

/// Width and height of every session's desktop.
const DESKTOP: (usize, usize) = (320, 240);
/// The displays of the sessions on a socket and on a port, in their hosts' namespaces: both may be on the same host.
const SESSION_DISPLAY: &str = ":171";
const PORT_DISPLAY: &str = ":173";
/// The display that the viewer is shown on.
const VIEWER_DISPLAY: &str = ":172";
const VIEWER_DISPLAY_PORT: u16 = 5972;

#[test]
fn every_kind_of_session_carries_bytes() {
    let mut stage = Stage::of(Machine::alone(), &SERVERS, GroupPlan::start);
    add_apps(&stage);
    a_shell_at_a_local_port_and_on_standard_streams(&stage);
    a_launched_command_on_a_socket(&stage);
    a_server_that_runs_anyway(&stage);
    a_desktop_on_a_port(&stage);
    a_desktop_is_watched_while_its_host_restarts(&mut stage);
}

fn add_apps(stage: &Stage) {
    let add = |name: &str, launch: &str, backend: Option<&str>| {
        let mut options = vec!["--launch", launch];
        options.extend(backend.iter().flat_map(|backend| ["--backend", backend]));
        stage.group.add_app(0, name, &options);
    };
    let echo = format!("{} demo --echo {{socket}}", env!("CARGO_BIN_EXE_stead"));
    let (width, height) = DESKTOP;
    let x = |display: &str| format!("Xtigervnc {display} {XTIGERVNC} -geometry {width}x{height}");
    add("shell", "@pty /bin/sh", None);
    add("echo", &echo, Some("unix:{socket}"));
    let on_socket = format!("{} -rfbport -1 -rfbunixpath {{socket}}", x(SESSION_DISPLAY));
    add("desktop", &on_socket, Some("unix:{socket}"));
    let on_port = format!("{} -rfbport {{port}} -interface 127.0.0.1", x(PORT_DISPLAY));
    add("desktop-port", &on_port, Some("tcp:127.0.0.1:{port}"));
}

fn a_shell_at_a_local_port_and_on_standard_streams(stage: &Stage) {
    let (connect, port) = stage.connect("card.shell", "shell");
    let mut shell = viewer_of(stage, port);
    // What is typed comes back too, but with the arithmetic not done.
    shell
        .write_all(b"word=kept; echo $((40+2)) in $PWD\n")
        .expect("typed");
    read_until(&mut shell, "42 in /");
    drop(shell);
    drop(connect);

    // The same shell from another place, by a script this time.
    let mut command = stage.group.command_at(Some(stage.viewer()));
    command
        .arg("connect")
        .args(stage.group.remote_arguments())
        .args(["--token", "card.shell", "--app", "shell", "--user", "ann"])
        .arg("--password-file")
        .arg(stage.group.password_file())
        .arg("--stdio");
    let mut stdio = Process::start("connect --stdio", &mut command);
    stdio.write(b"echo [$word] $((50+5))\n");
    stdio.line(seconds(20), "what the shell remembers", |line| {
        line.contains("[kept] 55")
    });
    stdio.write(b"exit 7\n");
    let status = stdio.wait(seconds(20));
    assert!(status.success(), "{}", stdio.story());
    eventually(seconds(10), "the end to be recorded", || {
        let sessions = stage.group.json(0, &["session", "list", "--all"]);
        let sessions = sessions.as_array().expect("a list");
        let shell = sessions.iter().find(|session| session["app"] == "shell");
        shell.is_some_and(|shell| {
            shell["state"] == "ended" && text(shell, "reason").contains("status 7")
        })
    });
}

fn a_launched_command_on_a_socket(stage: &Stage) {
    let (_connect, port) = stage.connect("card.echo", "echo");
    // Each of a viewer's connections is a stream of its own.
    let mut both = [viewer_of(stage, port), viewer_of(stage, port)];
    for (number, viewer) in both.iter_mut().enumerate() {
        viewer
            .write_all(format!("stream {number}.").as_bytes())
            .expect("sent");
    }
    for (number, viewer) in both.iter_mut().enumerate() {
        assert_eq!(read_until(viewer, "."), format!("stream {number}."));
    }
}

fn a_server_that_runs_anyway(stage: &Stage) {
    let (_connect, port) = stage.connect("card.bulk", "bulk");
    Transfer::start(stage.viewer(), port, 1, 8 << 20, None)
        .flows()
        .finish(seconds(60));
}

/// The viewer is started by `stead connect` itself, which ends with it.
fn a_desktop_on_a_port(stage: &Stage) {
    let shot = stage.group.folder().join("port.jpg");
    let mut command = stage.group.command_at(Some(stage.viewer()));
    command
        .arg("connect")
        .args(stage.group.remote_arguments())
        .args(["--token", "card.port", "--app", "desktop-port"])
        .args(["--user", "ann", "--password-file"])
        .arg(stage.group.password_file())
        .args(["--", "vncsnapshot"])
        .args(VNCSNAPSHOT)
        .arg("{host}::{port}")
        .arg(&shot);
    let mut connect = Process::start("connect -- vncsnapshot", &mut command);
    let status = connect.wait(seconds(40));
    assert!(status.success(), "{}", connect.story());
    let picture = Picture::read(&shot);
    assert_eq!(
        (picture.size, picture.count([0, 0, 0])),
        (DESKTOP, DESKTOP.0 * DESKTOP.1)
    );
}

fn a_desktop_is_watched_while_its_host_restarts(stage: &mut Stage) {
    let (connect, port) = stage.connect("card.desk", "desktop");
    let host = stage.host_of(&connect);
    let node = stage.group.server(host).node().cloned();
    let node = node.expect("a server on a node");
    let viewer = stage.viewer().clone();
    // Without a viewer nothing is launched: the first look brings the desktop up.
    let shot = stage.group.folder().join("shot.jpg");
    let black = snapshot(&viewer, port, &shot);
    assert_eq!(black.count([0, 0, 0]), DESKTOP.0 * DESKTOP.1);
    paint(&node, SESSION_DISPLAY, &["-solid", "#2040c0"]);
    let blue = snapshot(&viewer, port, &shot);
    assert_eq!(
        (blue.size, blue.count([0x20, 0x40, 0xc0])),
        (DESKTOP, DESKTOP.0 * DESKTOP.1)
    );

    let _display = display(&viewer, VIEWER_DISPLAY, (640, 480), VIEWER_DISPLAY_PORT);
    let screen = SocketAddr::from(([127, 0, 0, 1], VIEWER_DISPLAY_PORT));
    let mut command = viewer.command("xtigervncviewer");
    command
        .env("DISPLAY", VIEWER_DISPLAY)
        .env("HOME", stage.group.folder())
        .arg(format!("127.0.0.1::{}", port.port()));
    let mut vnc = Process::start("xtigervncviewer", &mut command);
    // The viewer lays a few words over the picture at first.
    let shows = |colour| snapshot(&viewer, screen, &shot).count(colour) > DESKTOP.0 * DESKTOP.1 / 2;
    eventually(seconds(20), "the desktop to be shown", || {
        shows([0x20, 0x40, 0xc0])
    });

    stage.group.kill(host);
    event(&connect, "path-lost", seconds(10));
    paint(&node, SESSION_DISPLAY, &["-solid", "#20c040"]);
    assert!(
        shows([0x20, 0x40, 0xc0]),
        "the last picture stays while nothing comes"
    );
    stage.group.serve(host);
    event(&connect, "resumed", seconds(20));
    eventually(seconds(20), "the picture to follow", || {
        shows([0x20, 0xc0, 0x40])
    });
    assert!(vnc.is_running(), "{}", vnc.story());
    assert!(
        events(&connect, "session-lost").is_empty() && events(&connect, "moved").is_empty(),
        "{}",
        connect.story()
    );
    a_desktop_goes_along_with_its_user(stage, &connect, port);
}

/// The user goes to another client, with the same card: the screen there is as it was left.
fn a_desktop_goes_along_with_its_user(stage: &Stage, first: &Process, port: SocketAddr) {
    let host = stage.group.server(stage.host_of(first)).node();
    let pattern = ["-mod", "16", "12", "-fg", "#c08020", "-bg", "#103060"];
    paint(host.expect("a server on a node"), SESSION_DISPLAY, &pattern);
    let shot = stage.group.folder().join("left.jpg");
    let left = snapshot(stage.viewer(), port, &shot);
    assert_eq!(left.size, DESKTOP);
    assert!(left.colours() > 1, "there is something to see");
    let (second, port) = stage.connect("card.desk", "desktop");
    let there = snapshot(stage.viewer(), port, &shot);
    assert!(there == left, "the screen is not as it was left");
    event(first, "taken-over", seconds(10));
    let session = |connect: &Process| text(&event(connect, "ready", seconds(1)), "session");
    assert_eq!(session(&second), session(first));
}

/// A viewer's connection to the local port of a `stead connect`.
fn viewer_of(stage: &Stage, port: SocketAddr) -> TcpStream {
    let stream = stage.viewer().connect(port, seconds(5));
    let stream = stream.expect("the local port of `stead connect`");
    let limit = stream.set_read_timeout(Some(seconds(20)));
    limit.expect("a time limit");
    stream
}
