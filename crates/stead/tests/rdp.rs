//! RDP as people use it: `xfreerdp` at a gateway, `xrdp` on every host, and what is seen on the screen.

#![expect(
    clippy::indexing_slicing,
    reason = "a test that indexes wrongly fails, as it should"
)]

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use testkit::screen::{display, paint, snapshot};
use testkit::{Machine, Process, Stage, eventually, seconds, text};

const SERVERS: [&str; 3] = ["boston", "newyork", "detroit"];

/// Where the gateway is, on every server, and where `xrdp` is behind it.
const GATEWAY: u16 = 3389;
const XRDP: u16 = 3388;
/// Width and height of every host's desktop, and the VNC server that `xrdp` shows.
const DESKTOP: (usize, usize) = (400, 300);
const DESKTOP_PORT: u16 = 5921;
/// What each host's desktop is painted with.
const COLOURS: [[u8; 3]; 3] = [[0xc0, 0x20, 0x20], [0x20, 0xc0, 0x40], [0x20, 0x40, 0xc0]];
const SCREEN: (usize, usize) = (640, 480);

#[test]
fn an_rdp_client_sees_the_host_of_its_token_whichever_server_it_asks() {
    let machine = Machine::alone();
    let stage = Stage::set(&machine, env!("CARGO_BIN_EXE_stead"), &SERVERS);
    let group = &stage.group;
    let backend = format!("tcp:127.0.0.1:{XRDP}");
    group.add_app(0, "rdp", &["--backend", &backend]);
    group.json(0, &["config", "set", "balance.method", "least-sessions"]);
    let listen = format!("0.0.0.0:{GATEWAY}");
    group.json(
        0,
        &[
            "gateway",
            "add",
            "front",
            "--listen",
            &listen,
            "--app",
            "rdp",
            "--token-from",
            "rdp-cookie",
        ],
    );
    let _hosts: Vec<_> = (0..SERVERS.len())
        .map(|host| serve_desktop(&stage, host))
        .collect();
    for name in SERVERS {
        eventually(seconds(20), "its gateway listens", || {
            let address = (stage.network.node(name).address(), GATEWAY);
            stage.viewer().connect(address.into(), seconds(1)).is_ok()
        });
    }

    let ann = Person::at(&stage, "ann", 0, 1);
    let bob = Person::at(&stage, "bob", 1, 2);
    let (of_ann, of_bob) = (ann.sees(&stage), bob.sees(&stage));
    assert_ne!(
        of_ann, of_bob,
        "two tokens on two hosts, whose loads were equal"
    );
    // From another place, through another server: the same desktop.
    let elsewhere = Person::at(&stage, "ann", 2, 3);
    assert_eq!(elsewhere.sees(&stage), of_ann);
    for (name, host) in [("ann", of_ann), ("bob", of_bob)] {
        let token = format!("user.{name}");
        let listed = group.json(0, &["session", "list", "--token", &token]);
        let hosts: Vec<String> = listed
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| text(one, "host"))
            .collect();
        assert_eq!(hosts, [SERVERS[host]], "{listed}");
    }
}

/// A host's desktop in its colour, and `xrdp` in front of it.
fn serve_desktop(stage: &Stage, host: usize) -> (Process, Process) {
    let node = stage.network.node(SERVERS[host]);
    let name = format!(":18{host}");
    let shown = display(node, &name, DESKTOP, DESKTOP_PORT);
    let [red, green, blue] = COLOURS[host];
    paint(
        node,
        &name,
        &["-solid", &format!("#{red:02x}{green:02x}{blue:02x}")],
    );
    let folder = stage.group.folder().join(format!("xrdp-{host}"));
    fs::create_dir(&folder).expect("a folder");
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=host",
        ])
        .arg("-keyout")
        .arg(folder.join("key.pem"))
        .arg("-out")
        .arg(folder.join("cert.pem"))
        .stderr(Stdio::null())
        .status();
    assert!(made.expect("openssl").success());
    let config = folder.join("xrdp.ini");
    let at = folder.display();
    let words = format!(
        "[Globals]\nini_version=1\nfork=true\nport=tcp://127.0.0.1:{XRDP}\nsecurity_layer=negotiate\n\
         crypt_level=high\ncertificate={at}/cert.pem\nkey_file={at}/key.pem\nautorun=desktop\nallow_channels=true\n\
         max_bpp=32\n[Logging]\nLogFile={at}/xrdp.log\nLogLevel=INFO\nEnableSyslog=false\n[desktop]\nname=desktop\n\
         lib=libvnc.so\nip=127.0.0.1\nport={DESKTOP_PORT}\nusername=na\npassword=na\n"
    );
    fs::write(&config, words).expect("written");
    let config = config.display().to_string();
    let xrdp = node.start("xrdp", "xrdp", &["--nodaemon", "--config", &config]);
    let address = SocketAddr::from(([127, 0, 0, 1], XRDP));
    eventually(seconds(20), "xrdp", || {
        node.connect(address, seconds(1)).is_ok()
    });
    (shown, xrdp)
}

/// Somebody with a screen and an RDP client on it.
struct Person {
    screen: SocketAddr,
    client: Process,
    _display: Process,
}

impl Person {
    fn at(stage: &Stage, name: &str, server: usize, place: u16) -> Self {
        let viewer = stage.viewer();
        let (shown, port) = (format!(":19{place}"), 5930 + place);
        let screen = display(viewer, &shown, SCREEN, port);
        let address = stage.network.node(SERVERS[server]).address();
        let (width, height) = DESKTOP;
        let mut command = viewer.command("xfreerdp");
        command
            .env("DISPLAY", &shown)
            .env("HOME", stage.group.folder());
        command.args([
            format!("/v:{address}:{GATEWAY}"),
            format!("/u:{name}"),
            format!("/size:{width}x{height}"),
        ]);
        command.args(["/p:secret", "/cert:ignore"]);
        Self {
            screen: SocketAddr::from(([127, 0, 0, 1], port)),
            client: Process::start("xfreerdp", &mut command),
            _display: screen,
        }
    }

    /// The host whose desktop is on the screen, whole.
    #[track_caller]
    fn sees(&self, stage: &Stage) -> usize {
        let file = stage
            .group
            .folder()
            .join(format!("{}.jpg", self.screen.port()));
        let mut seen = None;
        eventually(seconds(30), "a desktop to be shown", || {
            let picture = snapshot(stage.viewer(), self.screen, &file);
            // A few pixels are the pointer's.
            let whole = DESKTOP.0 * DESKTOP.1 * 99 / 100;
            seen = COLOURS
                .iter()
                .position(|colour| picture.count(*colour) >= whole);
            seen.is_some()
        });
        seen.unwrap_or_else(|| panic!("{}", self.client.story()))
    }
}
