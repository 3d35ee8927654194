//! What people see: displays inside of namespaces, what is painted on them, and pictures of them.

use crate::{Node, Process, eventually, seconds};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An X server that leaves nothing on disk, and is reached only inside of its namespace.
pub const XTIGERVNC: &str =
    "-SecurityTypes None -depth 24 -ac -nolock -nolisten unix -nolisten tcp -listen local";
/// With other encodings it stumbles over TigerVNC's cursor; and it waits for ever when all is black, unless told not to.
pub const VNCSNAPSHOT: [&str; 5] = ["-quiet", "-allowblank", "-nocursor", "-encodings", "raw"];

/// Starts a display of so many pixels in a namespace, with a VNC server at a port of 127.0.0.1, and waits for it.
#[track_caller]
pub fn display(node: &Node, name: &str, (width, height): (usize, usize), port: u16) -> Process {
    let words = format!(
        "{name} {XTIGERVNC} -geometry {width}x{height} -rfbport {port} -interface 127.0.0.1"
    );
    let words: Vec<&str> = words.split(' ').collect();
    let started = node.start("a display", "Xtigervnc", &words);
    eventually(seconds(20), "a display", || {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        node.connect(address, seconds(1)).is_ok()
    });
    started
}

/// Paints the background of a display, with options of `xsetroot`.
#[track_caller]
pub fn paint(node: &Node, display: &str, how: &[&str]) {
    let mut command = node.command("xsetroot");
    command.env("DISPLAY", display).args(how);
    let mut painting = Process::start("xsetroot", &mut command);
    let status = painting.wait(seconds(10));
    assert!(status.success(), "{}", painting.story());
}

/// What a VNC client sees at an address.
#[track_caller]
pub fn snapshot(viewer: &Node, address: SocketAddr, file: &Path) -> Picture {
    let place = format!("{}::{}", address.ip(), address.port());
    let mut command = viewer.command("vncsnapshot");
    command.args(VNCSNAPSHOT).arg(&place).arg(file);
    let mut taking = Process::start("vncsnapshot", &mut command);
    let status = taking.wait(seconds(20));
    assert!(status.success(), "{}", taking.story());
    Picture::read(file)
}

/// A picture, three bytes a pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Width and height.
    pub size: (usize, usize),
    pixels: Vec<u8>,
}

impl Picture {
    /// Reads a JPEG file; panics where it is none.
    #[track_caller]
    pub fn read(file: &Path) -> Self {
        let decoded: PathBuf = file.with_extension("ppm");
        let mut command = Command::new("djpeg");
        command.arg("-pnm").arg("-outfile").arg(&decoded).arg(file);
        let mut decoding = Process::start("djpeg", &mut command);
        let status = decoding.wait(seconds(10));
        assert!(status.success(), "{}", decoding.story());
        let bytes = std::fs::read(&decoded).expect("a decoded picture");
        // `P6`, width, height and the largest value, each followed by one white byte.
        let mut parts = bytes.splitn(5, u8::is_ascii_whitespace);
        assert_eq!(parts.next(), Some(&b"P6"[..]), "{}", file.display());
        let mut number = || {
            let word = parts.next().map(String::from_utf8_lossy);
            word.and_then(|word| word.parse().ok())
                .unwrap_or_else(|| panic!("no picture in {}", file.display()))
        };
        let (size, largest): (_, usize) = ((number(), number()), number());
        assert_eq!(largest, 255);
        let pixels = parts.next().expect("pixels").to_vec();
        assert_eq!(pixels.len(), size.0 * size.1 * 3);
        Self { size, pixels }
    }

    /// Pixels of this colour, within what JPEG rounds away.
    pub fn count(&self, colour: [u8; 3]) -> usize {
        let is_near = |pixel: &&[u8]| {
            pixel
                .iter()
                .zip(colour)
                .all(|(is, of)| is.abs_diff(of) <= 4)
        };
        self.pixels.chunks(3).filter(is_near).count()
    }

    /// How many different colours there are.
    pub fn colours(&self) -> usize {
        let all: BTreeSet<&[u8]> = self.pixels.chunks(3).collect();
        all.len()
    }
}
