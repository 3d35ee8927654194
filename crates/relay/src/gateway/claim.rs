//! Which token a gateway's client claims, read from its first bytes.
//!
//! | from | token |
//! | --- | --- |
//! | the cookie of RDP | `user.NAME`, in small letters, without its domain |
//! | a routing token of RDP | itself where it is written like a token, else `msts.TEXT` |
//! | the server name of TLS, or the authority of a PROXY header | the name where it has a full stop, else `sni.NAME` |
//! | an address | `addr.ADDRESS` |
//!
//! A client that says nothing has the token of its address. What cannot be written as a token is written in hexadecimal digits,
//! as `hex.DIGITS`.

use data_encoding::HEXLOWER;
use model::{Token, TokenFrom};
use rustls::server::Acceptor;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use wire::{proxy, rdp};

/// Bytes that a client may send before its claim is read.
pub const LIMIT: usize = 16 * 1024;
/// Time in which the claim must be there.
pub const TIME: Duration = Duration::from_secs(10);
/// Bytes that are read at once.
const PIECE: usize = 4 * 1024;
/// Bytes of a text that are written in hexadecimal digits at most; what is longer is cut.
const HEX: usize = 60;

/// What a client claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The token.
    pub token: Token,
    /// The client's address, as far as it can be known.
    pub client: SocketAddr,
    /// The address that it reached.
    pub reached: SocketAddr,
}

/// Why there is no claim.
#[derive(Debug, thiserror::Error)]
pub enum NoClaim {
    /// It took too long.
    #[error("the client did not say in time who it is")]
    TooSlow,
    /// It sent too much before it had said who it is.
    #[error("the client sent {LIMIT} bytes and did not say who it is")]
    TooMuch,
    /// It went before it had said who it is.
    #[error("the client has gone before it said who it is")]
    Gone,
    /// The load balancer in front only looks whether somebody is here.
    #[error("a health check")]
    HealthCheck,
    /// It does not speak RDP.
    #[error(transparent)]
    Rdp(#[from] rdp::RdpError),
    /// It does not speak TLS.
    #[error("the client does not begin with TLS: {0}")]
    Tls(rustls::Error),
    /// There is no PROXY header.
    #[error(transparent)]
    Proxy(#[from] proxy::NoHeader),
    /// This server stops.
    #[error("this server stops")]
    Stopped,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
}

/// Reads what a client claims, and what is to be passed on of the bytes that it took.
///
/// # Errors
/// It claims nothing.
pub async fn read(
    io: &TcpStream,
    from: SocketAddr,
    token_from: TokenFrom,
) -> Result<(Claim, Vec<u8>), NoClaim> {
    let mut reading = Reading::new(token_from, from, io.local_addr()?);
    let taking = async {
        let mut early = Vec::new();
        loop {
            if let Some(claim) = reading.look(&mut early)? {
                return Ok((claim, early));
            }
            more(io, &mut early).await?;
        }
    };
    let outcome = timeout(TIME, taking).await;
    outcome.unwrap_or(Err(NoClaim::TooSlow))
}

/// A claim that is being read from bytes as they come: what [`read`] does, without its socket and its clock.
pub struct Reading {
    token_from: TokenFrom,
    /// The claim of one who says nothing.
    claim: Claim,
    /// Made when it is needed.
    hello: Option<Box<Hello>>,
}

impl Reading {
    /// Nothing has come yet from the client at `from`, which reached the address `reached`.
    pub fn new(token_from: TokenFrom, from: SocketAddr, reached: SocketAddr) -> Self {
        Self {
            token_from,
            claim: Claim {
                token: of_address(from.ip()),
                client: from,
                reached,
            },
            hello: None,
        }
    }

    /// Looks at all that has come so far, `early`, of which a PROXY header is taken off; none while more has to come. Not to be
    /// asked again once it has answered.
    ///
    /// # Errors
    /// The client claims nothing, whatever may still come.
    pub fn look(&mut self, early: &mut Vec<u8>) -> Result<Option<Claim>, NoClaim> {
        let found = match self.token_from {
            TokenFrom::RdpCookie => of_rdp(early)?,
            TokenFrom::Sni => {
                let hello = self.hello.get_or_insert_default();
                hello.read(early).map_err(NoClaim::from)?
            }
            TokenFrom::ProxyProtocol => match proxy::read(early)? {
                Some(header) => {
                    early.drain(..header.length);
                    self.claim.client = header.client.ok_or(NoClaim::HealthCheck)?;
                    let authority = header.authority.as_deref().map(of_host);
                    Some(Some(
                        authority.unwrap_or_else(|| of_address(self.claim.client.ip())),
                    ))
                }
                None => None,
            },
            TokenFrom::SourceAddress => Some(None),
        };
        match found {
            Some(token) => {
                let mut claim = self.claim.clone();
                claim.token = token.unwrap_or(claim.token);
                Ok(Some(claim))
            }
            None if early.len() >= LIMIT => Err(NoClaim::TooMuch),
            None => Ok(None),
        }
    }
}

/// Waits for more bytes.
async fn more(io: &TcpStream, early: &mut Vec<u8>) -> Result<(), NoClaim> {
    let mut piece = vec![0; PIECE.min(LIMIT - early.len())];
    loop {
        io.readable().await?;
        match io.try_read(&mut piece) {
            Ok(0) => return Err(NoClaim::Gone),
            Ok(count) => {
                early.extend_from_slice(piece.get(..count).unwrap_or_default());
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a decoder says: not yet, or what is claimed, which may be nothing.
type Found = Option<Option<Token>>;

fn of_rdp(early: &[u8]) -> Result<Found, rdp::RdpError> {
    let said = rdp::connection_request(early)?;
    Ok(said.map(|said| match said {
        rdp::Said::User(name) => Some(of_user(name)),
        rdp::Said::Routing(text) => Some(of_routing(text)),
        rdp::Said::Nothing => None,
    }))
}

/// A TLS client hello, which may come in pieces.
#[derive(Default)]
struct Hello {
    acceptor: Acceptor,
    seen: usize,
}

impl Hello {
    fn read(&mut self, early: &[u8]) -> Result<Found, NotTls> {
        let mut fresh = early.get(self.seen..).unwrap_or_default();
        self.seen = early.len();
        while !fresh.is_empty() {
            // A slice has no errors of its own, and the limit of bytes is below that of the library.
            if let Ok(0) | Err(_) = self.acceptor.read_tls(&mut fresh) {
                break;
            }
            match self.acceptor.accept() {
                Ok(Some(accepted)) => {
                    let name = accepted.client_hello().server_name().map(of_host);
                    return Ok(Some(name));
                }
                Ok(None) => {}
                Err((error, _)) => return Err(NotTls(error)),
            }
        }
        Ok(None)
    }
}

struct NotTls(rustls::Error);

impl From<NotTls> for NoClaim {
    fn from(error: NotTls) -> Self {
        Self::Tls(error.0)
    }
}

fn of_user(name: &str) -> Token {
    let name = name.rsplit('\\').next().unwrap_or(name).to_lowercase();
    written("user", &name)
}

fn of_routing(text: &str) -> Token {
    match text.contains('.') {
        true => text.parse().unwrap_or_else(|_| in_hex(text)),
        false => written("msts", text),
    }
}

fn of_host(name: &str) -> Token {
    let name = name.trim_end_matches('.').to_lowercase();
    match name.contains('.') {
        true => name.parse().unwrap_or_else(|_| in_hex(&name)),
        false => written("sni", &name),
    }
}

fn of_address(address: IpAddr) -> Token {
    written("addr", &address.to_canonical().to_string())
}

fn written(kind: &str, id: &str) -> Token {
    let token = format!("{kind}.{id}").parse();
    token
        .ok()
        .filter(|_| !id.is_empty())
        .unwrap_or_else(|| in_hex(id))
}

fn in_hex(text: &str) -> Token {
    let bytes = text.as_bytes();
    let digits = HEXLOWER.encode(bytes.get(..HEX).unwrap_or(bytes));
    let token = format!("hex.{digits}").parse();
    token.expect("invariant: so many hexadecimal digits are a token")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    #[test]
    fn claims_become_tokens() {
        let long = "x".repeat(500);
        for (token, text) in [
            (of_user("ann"), "user.ann"),
            (of_user("DESK\\Ann"), "user.ann"),
            (of_user("ann@example.org"), "user.ann@example.org"),
            (of_user("J. Doe"), "hex.6a2e20646f65"),
            (of_user(""), "hex."),
            (of_routing("card.1234"), "card.1234"),
            (of_routing("3640205228.15629.0000"), "3640205228.15629.0000"),
            (of_routing("farm"), "msts.farm"),
            (of_routing("tsv://a.b c"), "hex.7473763a2f2f612e622063"),
            (of_host("Ann.Desk.Example."), "ann.desk.example"),
            (of_host("gate"), "sni.gate"),
            (of_address([10, 0, 0, 5].into()), "addr.10.0.0.5"),
            (
                of_address("::ffff:10.0.0.5".parse().unwrap()),
                "addr.10.0.0.5",
            ),
            (
                of_address("2001:db8::5".parse().unwrap()),
                "addr.2001:db8::5",
            ),
            (of_user(&long), &format!("hex.{}", "78".repeat(HEX))),
        ] {
            assert_eq!(token.as_str(), text);
        }
    }

    async fn said(bytes: &[u8], token_from: TokenFrom) -> Result<(Claim, Vec<u8>), NoClaim> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut client, (io, from)) = (client.unwrap(), accepted.unwrap());
        let saying = async {
            // In two pieces, and then nothing more.
            let (first, second) = bytes.split_at(bytes.len() / 2);
            client.write_all(first).await?;
            client.flush().await?;
            tokio::task::yield_now().await;
            client.write_all(second).await?;
            client.shutdown().await
        };
        let (said, found) = tokio::join!(saying, read(&io, from, token_from));
        said.unwrap();
        found
    }

    fn client_hello(name: &str) -> Vec<u8> {
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = name.to_owned().try_into().unwrap();
        let mut connection = rustls::ClientConnection::new(config.into(), name).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[tokio::test]
    async fn a_client_hello_is_peeked_at_and_passed_on() {
        let hello = client_hello("Ann.desk.example");
        let (claim, early) = said(&hello, TokenFrom::Sni).await.unwrap();
        assert_eq!(claim.token.as_str(), "ann.desk.example");
        assert_eq!(early, hello);
        // One that names an address names nobody.
        let (claim, _) = said(&client_hello("192.0.2.1"), TokenFrom::Sni)
            .await
            .unwrap();
        assert_eq!(claim.token.as_str(), "addr.127.0.0.1");
        let error = said(b"GET / HTTP/1.1\r\n\r\n", TokenFrom::Sni)
            .await
            .unwrap_err();
        assert!(matches!(error, NoClaim::Tls(_)), "{error:?}");
        let half = hello.get(..hello.len() / 2).unwrap();
        let error = said(half, TokenFrom::Sni).await.unwrap_err();
        assert!(matches!(error, NoClaim::Gone), "{error:?}");
    }

    #[tokio::test]
    async fn a_header_of_a_load_balancer_is_taken_off() {
        let line = b"PROXY TCP4 192.0.2.9 192.0.2.1 50000 443\r\nthe rest";
        let (claim, early) = said(line, TokenFrom::ProxyProtocol).await.unwrap();
        assert_eq!(claim.token.as_str(), "addr.192.0.2.9");
        assert_eq!(claim.client, "192.0.2.9:50000".parse().unwrap());
        assert_eq!(early, b"the rest");
        let error = said(b"PROXY UNKNOWN\r\n", TokenFrom::ProxyProtocol)
            .await
            .unwrap_err();
        assert!(matches!(error, NoClaim::HealthCheck), "{error:?}");
    }

    #[tokio::test]
    async fn who_sends_too_much_or_nothing_claims_nothing() {
        let request = [
            &[3, 0, 15, 255, 250, 0xE0, 0, 0, 0, 0, 0][..],
            &[b'x'; 20_000],
        ]
        .concat();
        let error = said(&request, TokenFrom::RdpCookie).await.unwrap_err();
        assert!(matches!(error, NoClaim::Rdp(_)), "{error:?}");
        let error = said(b"", TokenFrom::RdpCookie).await.unwrap_err();
        assert!(matches!(error, NoClaim::Gone), "{error:?}");
        let (claim, early) = said(b"", TokenFrom::SourceAddress).await.unwrap();
        assert_eq!((claim.token.as_str(), early.len()), ("addr.127.0.0.1", 0));
    }
}
