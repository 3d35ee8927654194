//! The PROXY protocol: who a client is, said by whoever relays it, in a header before the client's first byte.
//!
//! Source: <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>. Both versions are read, version 2 is written.

use proxy_header::{Error, ParseConfig, ProxiedAddress, ProxyHeader};
use std::net::SocketAddr;

/// The longest header that is looked at.
pub const LIMIT: usize = 4 * 1024;
/// The longest header of version 1, which is a line, by the specification.
pub const LINE_LIMIT: usize = 107;

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The client's address; none where the relay speaks for itself, as health checks do.
    pub client: Option<SocketAddr>,
    /// The host name that the client asked for, in the client hello of TLS that the relay saw.
    pub authority: Option<String>,
    /// How many bytes the header has: the client's own follow.
    pub length: usize,
}

/// Bytes that are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no header of the PROXY protocol")]
pub struct NoHeader;

/// Reads a header from what has arrived so far; none while more has to come.
///
/// # Errors
/// There is none, whatever may still come.
pub fn read(bytes: &[u8]) -> Result<Option<Header>, NoHeader> {
    let config = ParseConfig {
        include_tlvs: true,
        allow_v1: true,
        allow_v2: true,
    };
    // What is too long is none also where all of it has come at once.
    let longest = match bytes.first() {
        Some(b'P') => LINE_LIMIT,
        _ => LIMIT,
    };
    let head = bytes.get(..longest.min(bytes.len())).unwrap_or_default();
    match ProxyHeader::parse(head, config) {
        Ok((header, length)) => Ok(Some(Header {
            client: header.proxied_address().map(|address| address.source),
            authority: header.authority().map(str::to_owned),
            length,
        })),
        Err(Error::BufferTooShort) if bytes.len() < longest && !is_whole_line(bytes) => Ok(None),
        Err(_) => Err(NoHeader),
    }
}

/// Whether a header of version 1 has come to its end.
fn is_whole_line(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'P') && bytes.windows(2).any(|two| two == b"\r\n")
}

/// The header that says that a connection is `client`'s, who wanted to reach `reached`. Where the two are of different
/// families it says nothing of either.
pub fn written(client: SocketAddr, reached: SocketAddr) -> Vec<u8> {
    let header = match (canonical(client), canonical(reached)) {
        (client, reached) if client.is_ipv4() == reached.is_ipv4() => {
            ProxyHeader::with_address(ProxiedAddress::stream(client, reached))
        }
        _ => ProxyHeader::with_local(),
    };
    let mut bytes = Vec::with_capacity(64);
    header
        .encode_v2(&mut bytes)
        .expect("invariant: a header without extensions fits, and a vector takes everything");
    bytes
}

/// IPv4 addresses that came through an IPv6 socket are IPv4 addresses.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        for (client, reached) in [
            ("10.0.0.5:40000", "10.0.0.1:3389"),
            ("[2001:db8::5]:40000", "[2001:db8::1]:3389"),
        ] {
            let mut bytes = written(address(client), address(reached));
            let length = bytes.len();
            bytes.extend_from_slice(b"the client's own");
            let header = read(&bytes).unwrap().unwrap();
            assert_eq!(header.client, Some(address(client)));
            assert_eq!(header.length, length);
            for end in 0..length {
                assert_eq!(read(&bytes[..end]), Ok(None), "{end}");
            }
        }
        let mapped = written(address("[::ffff:10.0.0.5]:1"), address("10.0.0.1:2"));
        assert_eq!(
            read(&mapped).unwrap().unwrap().client,
            Some(address("10.0.0.5:1"))
        );
    }

    #[test]
    fn addresses_of_two_families_say_nothing() {
        let bytes = written(address("10.0.0.5:1"), address("[2001:db8::1]:2"));
        assert_eq!(read(&bytes).unwrap().unwrap().client, None);
    }

    #[test]
    fn version_1_is_read_and_nothing_else() {
        let line = b"PROXY TCP4 192.0.2.9 192.0.2.1 50000 443\r\nrest";
        let header = read(line).unwrap().unwrap();
        assert_eq!(header.client, Some(address("192.0.2.9:50000")));
        assert_eq!(&line[header.length..], b"rest");
        assert_eq!(read(b"PROXY UNKNOWN\r\n").unwrap().unwrap().client, None);
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 nonsense\r\n",
            &[3, 0, 0, 19],
        ] {
            assert_eq!(read(bytes), Err(NoHeader), "{bytes:?}");
        }
        assert_eq!(read(b""), Ok(None));
        // The longest line, and one more byte: at once as in pieces.
        let line = |length: usize| {
            let (start, end) = ("PROXY UNKNOWN ", "\r\n");
            let padding = "x".repeat(length - start.len() - end.len());
            format!("{start}{padding}{end}").into_bytes()
        };
        let longest = line(LINE_LIMIT);
        assert_eq!(read(&longest).unwrap().unwrap().length, LINE_LIMIT);
        assert_eq!(read(&longest[..LINE_LIMIT - 1]), Ok(None));
        let longer = line(LINE_LIMIT + 1);
        assert_eq!(read(&longer), Err(NoHeader));
        assert_eq!(read(&longer[..LINE_LIMIT]), Err(NoHeader));
        assert_eq!(read(&vec![b'P'; LIMIT]), Err(NoHeader));
    }
}
