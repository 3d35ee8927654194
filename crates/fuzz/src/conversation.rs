//! A client's conversation with a server: frames, requests, and what becomes of a stream.
//!
//! What holds for any bytes: the server answers what its twin says ([`Twin`]), byte by byte, and ends as it says, however the bytes
//! are cut; what comes behind the request that opens a stream reaches the keeper whole; a stranger is given little memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use model::{AppName, ServerId, ServerName, SessionId, Token};
use relay::{
    AttachTarget, ByteStream, Entry, Gate, Limits, OpenRequest, OpenedStream, Pending, Sessions,
    Stopper, Visitor, converse,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use wire::client::{Answer, Hidden, Refused, Request};
use wire::frame_into;
use wire::keeper::{Opening, OpeningAnswer};

use crate::input::{Input, pieces};
use crate::memory::at_most;
use crate::messages::requests;

mod twin;

use twin::{Twin, answer};

/// The whole conversation of a client that sends these bytes and closes: at once and in pieces.
pub fn client_conversation(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let cuts = input.byte();
    let bytes = input.rest();
    let expected = Twin::of(bytes);
    let whole = std::iter::once(bytes);
    for pieces in [whole.map(<[u8]>::to_vec).collect(), cut(bytes, cuts)] {
        // A pipe has buffers of its own, which grow to what passes.
        let room = match expected.is_proved {
            true => 4 << 20,
            false => 128 * 1024 + 2 * bytes.len(),
        };
        let found = at_most(room, || held(pieces));
        assert_eq!(found.answers, expected.answers);
        assert_eq!(found.to_keeper, expected.to_keeper);
        assert!(
            found.ending.starts_with(expected.ending),
            "{} instead of {}",
            found.ending,
            expected.ending
        );
    }
}

fn cut(bytes: &[u8], cuts: u8) -> VecDeque<Vec<u8>> {
    pieces(bytes, cuts).map(<[u8]>::to_vec).collect()
}

/// What came of a conversation.
struct Held {
    answers: Vec<u8>,
    to_keeper: Vec<u8>,
    ending: String,
}

fn held(pieces: VecDeque<Vec<u8>>) -> Held {
    thread_local! {
        static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
    }
    let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);
    let client = Side::new(pieces, true);
    let house = House {
        keeper: Side::new(VecDeque::new(), false),
    };
    let gate = Gate::new(Limits::CLIENTS);
    let Entry::Admitted(permit) = gate.enter(from.ip()) else {
        panic!("an empty gate is closed")
    };
    let (_stopper, stop) = Stopper::new();
    let ending = RUNTIME.with_borrow_mut(|runtime| {
        let runtime = runtime.get_or_insert_with(paused);
        runtime.block_on(async {
            let visitor = Visitor {
                from,
                exporter: [8; 32],
                since: tokio::time::Instant::now(),
            };
            converse(client.clone(), visitor, permit, &house, stop).await
        })
    });
    assert_eq!(gate.inside(), (0, 0), "a place was not given back");
    Held {
        answers: client.taken(),
        to_keeper: house.keeper.taken(),
        ending: format!("{ending:?}"),
    }
}

fn paused() -> Runtime {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    runtime.expect("a runtime without threads and sockets")
}

/// One side of the server: gives pieces, and keeps what it is given.
#[derive(Clone)]
struct Side {
    gives: Arc<Mutex<VecDeque<Vec<u8>>>>,
    /// Whether it closes behind the last piece; otherwise it stays silent.
    closes: bool,
    takes: Arc<Mutex<Vec<u8>>>,
}

impl Side {
    fn new(gives: VecDeque<Vec<u8>>, closes: bool) -> Self {
        Self {
            gives: Arc::new(Mutex::new(gives)),
            closes,
            takes: Arc::default(),
        }
    }

    fn taken(&self) -> Vec<u8> {
        let mut takes = self.takes.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut takes)
    }
}

impl AsyncRead for Side {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut gives = self.gives.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut piece) = gives.pop_front() else {
            return match self.closes {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            };
        };
        let rest = piece.split_off(piece.len().min(buffer.remaining()));
        buffer.put_slice(&piece);
        if !rest.is_empty() {
            gives.push_front(rest);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Side {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut takes = self.takes.lock().unwrap_or_else(PoisonError::into_inner);
        takes.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A floor above that answers at once, as [`answer`] says.
struct House {
    keeper: Side,
}

impl Sessions for House {
    fn me(&self) -> (ServerId, ServerName) {
        answer::me()
    }

    fn open(&self, request: OpenRequest) -> Pending<'_, Answer> {
        Box::pin(std::future::ready(answer::open(&request.credential)))
    }

    fn find(&self, _: &Token, _: &AppName, ticket: &Hidden) -> Answer {
        answer::find(ticket)
    }

    fn ask(&self, session: SessionId, ticket: &Hidden) -> Answer {
        answer::ask(session, ticket)
    }

    fn renew(&self, ticket: Hidden, _: SocketAddr) -> Pending<'_, Answer> {
        Box::pin(std::future::ready(answer::renew(&ticket)))
    }

    fn attach_target(
        &self,
        _: SessionId,
        ticket: Hidden,
    ) -> Pending<'_, Result<AttachTarget, Refused>> {
        Box::pin(std::future::ready(answer::attach_target(&ticket)))
    }

    fn open_stream(
        &self,
        _: SessionId,
        opening: Opening,
    ) -> Pending<'_, Result<OpenedStream, Refused>> {
        let far: Box<dyn ByteStream> = Box::new(self.keeper.clone());
        let answered: OpeningAnswer = answer::opening(&opening);
        Box::pin(std::future::ready(Ok((answered, far))))
    }
}

pub(crate) fn client_conversation_seeds() -> Vec<Vec<u8>> {
    let mut requests = requests();
    let wrong = requests.len();
    requests.extend([
        Request::Renew {
            ticket: Hidden("no ticket".to_owned()),
        },
        Request::Hello {
            protocol: 2,
            version: "x".repeat(800),
            authority: Default::default(),
        },
    ]);
    let long = wrong + 1;
    let said = |cuts: u8, which: &[usize], behind: &[u8]| {
        let mut bytes = vec![cuts];
        for request in which.iter().filter_map(|at| requests.get(*at)) {
            frame_into(request, &mut bytes);
        }
        bytes.extend_from_slice(behind);
        bytes
    };
    vec![
        said(0, &[0, 1, 3, 4, 7, 5], b"frames of the tunnel"),
        said(1, &[0, 6], &[7; 600]),
        said(2, &[0, 2, 2, 2, 2, 2, 2], b""),
        said(3, &[0, 0, 7, 3, 3, 3, 4, 4, 4, 7, 1, 2], b"\0\0\0\x01"),
        said(1, &[5], b""),
        said(2, &[0, wrong, wrong, 4, wrong, wrong], b""),
        said(3, &[0, wrong, wrong, wrong, wrong, wrong, wrong], b""),
        // As many bytes as a stranger may send, and more.
        said(1, &[0, long, long, long, long, long, long], b""),
    ]
}
