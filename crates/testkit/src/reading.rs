//! Reading from a connection until something came.

use crate::seconds;
use std::io::Read;
use std::net::TcpStream;

/// What came up to and including `end`; panics when that does not come within 30 s.
#[track_caller]
pub fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let limit = stream.set_read_timeout(Some(seconds(30)));
    limit.expect("a limit");
    let mut came = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&came);
        if text.contains(end) {
            return text.into_owned();
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(count @ 1..) => came.extend(piece.iter().take(count)),
            other => panic!("not {end:?} but {other:?} after {text:?}"),
        }
    }
}
