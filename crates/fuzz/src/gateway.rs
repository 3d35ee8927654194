//! What gateways read of clients that know nothing of Stead: RDP, the PROXY protocol, TLS.
//!
//! What holds for any bytes: an answer does not change when more bytes come; what is said to have been read is there; the pieces
//! in which bytes come make no difference.

use model::{Token, TokenFrom};
use proxy_header::{ProxiedAddress, ProxyHeader, Tlv};
use relay::gateway::claim::{Claim, LIMIT, Reading};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::net::{Ipv4Addr, SocketAddr};
use wire::proxy::Header;
use wire::rdp::Said;
use wire::{proxy, rdp};

use crate::input::{Input, pieces};
use crate::memory::at_most;

/// Where the client of a harness is, and what it reached.
const FROM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 40_000);
const REACHED: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 3389);

/// Lengths of a beginning that are looked at: all short ones, and some of the others.
fn beginnings(length: usize) -> impl Iterator<Item = usize> {
    (0..length).filter(move |end| *end < 300 || end % 257 == 0 || end + 3 > length)
}

/// Asserts that an answer stays what it is when more bytes come, and that a refusal stays one. Its words may become others.
fn answers_stay<T: PartialEq + std::fmt::Debug, E: std::fmt::Debug>(
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Result<Option<T>, E>,
) {
    let whole = read(bytes);
    for end in beginnings(bytes.len()) {
        let earlier = read(bytes.get(..end).unwrap_or_default());
        let stays = match (&earlier, &whole) {
            (Ok(None), _) | (Err(_), Err(_)) => true,
            (Ok(earlier), Ok(whole)) => earlier == whole,
            _ => false,
        };
        let length = bytes.len();
        assert!(
            stays,
            "{earlier:?} after {end} of {length} bytes, then {whole:?}"
        );
    }
}

/// The connection request of an RDP client.
pub fn rdp_request(bytes: &[u8]) {
    let read = |bytes: &[u8]| {
        let said = at_most(0, || rdp::connection_request(bytes));
        said.map(|said| said.map(|said| owned(&said)))
    };
    answers_stay(bytes, read);
    let Ok(Some(said)) = rdp::connection_request(bytes) else {
        return;
    };
    let both = match bytes {
        [_, _, high, low, indicator, ..] => Some(([*high, *low], *indicator)),
        _ => None,
    };
    let fits = |(length, indicator)| u16::from_be_bytes(length) == u16::from(indicator) + 5;
    assert!(both.is_some_and(fits), "lengths that contradict each other");
    let line = match said {
        Said::User(name) => format!("Cookie: mstshash={name}\r\n"),
        Said::Routing(text) => format!("Cookie: msts={text}\r\n"),
        Said::Nothing => String::new(),
    };
    // No encoder of this is in the product. A routing token that came bare may not fit with the words in front of it.
    if let Some(again) = connection_request(line.as_bytes()) {
        assert_eq!(rdp::connection_request(&again), Ok(Some(said)));
    }
}

fn owned(said: &Said<'_>) -> (u8, String) {
    match said {
        Said::User(name) => (0, (*name).to_owned()),
        Said::Routing(text) => (1, (*text).to_owned()),
        Said::Nothing => (2, String::new()),
    }
}

/// A connection request with this behind its fixed part; none when that is too long for one.
fn connection_request(rest: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(11 + rest.len()).ok()?;
    let indicator = u8::try_from(length - 5).ok()?;
    let [high, low] = length.to_be_bytes();
    let head = [3, 0, high, low, indicator, 0xE0, 0, 0, 0, 0, 0];
    Some([&head[..], rest].concat())
}

/// A header of the PROXY protocol, version 1 or 2.
pub fn proxy_header(bytes: &[u8]) {
    let read = |bytes: &[u8]| at_most(bytes.len(), || proxy::read(bytes));
    answers_stay(bytes, read);
    let found = read(bytes);
    let is_line = bytes.first() == Some(&b'P') && bytes.windows(2).any(|two| two == b"\r\n");
    assert!(found != Ok(None) || !is_line, "a whole line waits for more");
    let Ok(Some(header)) = found else { return };
    assert!(header.length <= bytes.len().min(proxy::LIMIT));
    assert!(bytes.first() != Some(&b'P') || header.length <= proxy::LINE_LIMIT);
    let (own, _) = bytes.split_at(header.length);
    assert_eq!(read(own).as_ref(), Ok(&Some(header.clone())));
    if let Some((_, cut)) = own.split_last() {
        assert_eq!(read(cut), Ok(None), "without its last byte");
    }
    if let Some(client) = header.client {
        let again = proxy::written(client, client);
        let canonical = SocketAddr::new(client.ip().to_canonical(), client.port());
        let expected = Header {
            client: Some(canonical),
            authority: None,
            length: again.len(),
        };
        assert_eq!(read(&again), Ok(Some(expected)));
    }
}

/// The client hello of TLS, for the name of the server that it asks for.
pub fn tls_server_name(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let cuts = input.byte();
    claims_alike(TokenFrom::Sni, cuts, input.rest());
}

/// Whatever a gateway reads a claim from.
pub fn gateway_claim(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let token_from = input.one_of(&TokenFrom::ALL);
    let cuts = input.byte();
    claims_alike(token_from, cuts, input.rest());
}

/// Asserts that a client that sends these bytes claims the same at once and in pieces, and that the claim can be kept.
fn claims_alike(token_from: TokenFrom, cuts: u8, bytes: &[u8]) {
    let bytes = bytes.get(..LIMIT.min(bytes.len())).unwrap_or_default();
    // The library of TLS keeps what it has been given, in a buffer that grows by doubling.
    let room = 64 * 1024 + 8 * bytes.len();
    let whole = at_most(room, || claimed(token_from, std::iter::once(bytes)));
    let cut = at_most(room, || claimed(token_from, pieces(bytes, cuts)));
    assert_eq!(whole.found, cut.found, "at once, and in pieces");
    let Some(Some(claim)) = whole.found else {
        return;
    };
    assert_eq!(whole.passed_on, cut.passed_on, "at once, and in pieces");
    assert!(bytes.ends_with(&whole.passed_on));
    let header = match token_from {
        TokenFrom::ProxyProtocol => proxy::read(bytes).ok().flatten(),
        _ => None,
    };
    assert_eq!(header.is_some(), token_from == TokenFrom::ProxyProtocol);
    let (client, taken_off) = match &header {
        Some(header) => (header.client, header.length),
        None => (Some(FROM), 0),
    };
    assert_eq!(whole.passed_on.len(), bytes.len() - taken_off);
    assert_eq!((Some(claim.client), claim.reached), (client, REACHED));
    assert_eq!(claim.token.as_str().parse(), Ok(claim.token.clone()));
    if token_from == TokenFrom::SourceAddress {
        assert_eq!(claim.token, token("addr.192.0.2.7"));
    }
}

fn token(text: &str) -> Token {
    text.parse().expect("a token")
}

/// What came of a client's first bytes.
struct Claimed {
    /// What is claimed; none when the client is refused.
    found: Option<Option<Claim>>,
    /// Bytes that the backend gets: what was taken and is passed on, and then what was not taken.
    passed_on: Vec<u8>,
}

fn claimed<'a>(token_from: TokenFrom, pieces: impl Iterator<Item = &'a [u8]>) -> Claimed {
    let mut reading = Reading::new(token_from, FROM, REACHED);
    let mut early = Vec::new();
    let mut found = reading.look(&mut early);
    let mut rest = Vec::new();
    for piece in pieces {
        if matches!(found, Ok(None)) {
            early.extend_from_slice(piece);
            found = reading.look(&mut early);
        } else {
            rest.extend_from_slice(piece);
        }
    }
    if let Err(refused) = &found {
        assert!(!refused.to_string().is_empty());
    }
    early.extend(rest);
    Claimed {
        found: found.ok(),
        passed_on: early,
    }
}

pub(crate) fn rdp_request_seeds() -> Vec<Vec<u8>> {
    let negotiation: &[u8] = &[1, 0, 8, 0, 3, 0, 0, 0];
    let lines: [&[u8]; 5] = [
        b"Cookie: mstshash=ann\r\n",
        b"Cookie: mstshash=DESK\\ann\r\n",
        b"Cookie: msts=3640205228.15629.0000\r\n",
        b"card.1234\r\n",
        b"",
    ];
    lines
        .iter()
        .filter_map(|line| connection_request(&[line, negotiation].concat()))
        .collect()
}

pub(crate) fn proxy_header_seeds() -> Vec<Vec<u8>> {
    let addresses = [
        ("10.0.0.5:40000", "10.0.0.1:3389"),
        ("[2001:db8::5]:40000", "[2001:db8::1]:3389"),
        ("10.0.0.5:1", "[2001:db8::1]:2"),
    ];
    let mut seeds = Vec::new();
    for (client, reached) in addresses {
        let (client, reached) = (address(client), address(reached));
        seeds.push(proxy::written(client, reached));
        if client.is_ipv4() != reached.is_ipv4() {
            continue;
        }
        let address = ProxiedAddress::stream(client, reached);
        let plain = ProxyHeader::with_address(address.clone());
        let extensions = [
            Tlv::Alpn(b"h2"[..].into()),
            Tlv::Authority("ann.desk.example".into()),
            Tlv::Crc32c(7),
        ];
        let extended = ProxyHeader::with_tlvs(Some(address), extensions);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        plain.encode_v1(&mut first).expect("a header of version 1");
        extended
            .encode_v2(&mut second)
            .expect("a header of version 2");
        seeds.extend([[&first[..], b"the client's own"].concat(), second]);
    }
    for more in [1, 91, 92] {
        let more = "x".repeat(more);
        seeds.push(format!("PROXY UNKNOWN {more}\r\n").into_bytes());
    }
    seeds
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// What a client sends that wants to reach a server of this name.
fn client_hello(name: &str) -> Vec<u8> {
    let mut config = ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = name.to_owned().try_into().expect("a server name");
    let mut connection = ClientConnection::new(config.into(), name).expect("a client");
    let mut bytes = Vec::new();
    connection
        .write_tls(&mut bytes)
        .expect("a vector takes all");
    bytes
}

pub(crate) fn tls_server_name_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (cuts, name) in [(3, "Ann.desk.example"), (2, "gate"), (1, "192.0.2.1")] {
        let hello = client_hello(name);
        seeds.push([&[cuts], &hello[..]].concat());
        seeds.push([&[cuts], &hello[..], b"early data"].concat());
        // One message in two records, as it may be sent.
        if let Some((head, body)) = hello.split_first_chunk::<5>() {
            let (first, second) = body.split_at(body.len() / 2);
            let record = |part: &[u8]| {
                let length = u16::try_from(part.len()).expect("a short record");
                let [kind, major, minor, ..] = *head;
                [&[kind, major, minor][..], &length.to_be_bytes(), part].concat()
            };
            seeds.push([&[cuts][..], &record(first), &record(second)].concat());
        }
    }
    seeds
}

pub(crate) fn gateway_claim_seeds() -> Vec<Vec<u8>> {
    let of = |which: u8, seeds: Vec<Vec<u8>>| {
        seeds
            .into_iter()
            .map(move |seed| [&[which, which], &seed[..]].concat())
    };
    let hellos = tls_server_name_seeds();
    let hellos = hellos.iter().filter_map(|seed| seed.get(1..));
    let hellos = hellos.map(<[u8]>::to_vec).collect();
    of(0, rdp_request_seeds())
        .chain(of(1, hellos))
        .chain(of(2, proxy_header_seeds()))
        .chain(of(3, vec![Vec::new()]))
        .collect()
}
