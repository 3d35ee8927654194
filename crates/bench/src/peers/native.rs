//! Stead's client protocol: sessions opened and looked up by programs that keep their connections, as a gateway does for
//! many clients.
//!
//! A connection carries requests in order and gets its answers in the same order, so that the first waiter is always the
//! one who is answered. Requests that are waiting leave in one write.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use client::{Conversation, Fingerprint, Trust};
use testkit::PASSWORD;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, oneshot};
use wire::client::{Answer, Credential, Hidden, Opened, Request};
use wire::frame::{CLIENT_LIMIT, HEADER, decode, frame_into, frame_length};

use crate::cluster::Cluster;
use crate::load::Service;
use crate::peers::stead::{APP, Stead, USER};

const LIMIT: Duration = Duration::from_secs(30);
/// Requests that leave in one write.
const BATCH: usize = 64;

/// One server's client port.
#[derive(Clone)]
pub(crate) struct Port {
    address: String,
    trust: Trust,
}

impl Port {
    /// The client port of a server of the group.
    ///
    /// # Errors
    /// When the group has no fingerprint.
    pub(crate) fn of(stead: &Stead, index: usize) -> Result<Self> {
        let address: SocketAddr = stead.address(index);
        Ok(Self {
            address: address.to_string(),
            trust: Trust::new(stead.group().ca().parse::<Fingerprint>()?),
        })
    }

    /// Opens a connection and logs in on it, for the session of a token.
    async fn log_in(&self, token: String) -> Result<(Conversation, Opened)> {
        let mut conversation = Conversation::dial(&self.address, &self.trust).await?;
        let attempt = attempt(&token);
        let answer = conversation.ask(&open(&token, attempt)?, LIMIT).await?;
        let Answer::Opened(opened) = answer else {
            bail!("no session: {answer:?}")
        };
        Ok((conversation, *opened))
    }
}

/// The same for every request for a token, and for no other.
fn attempt(token: &str) -> [u8; 16] {
    let mut attempt = [0; 16];
    for (place, byte) in attempt.iter_mut().zip(token.bytes().rev()) {
        *place = byte;
    }
    attempt
}

fn open(token: &str, attempt: [u8; 16]) -> Result<Request> {
    let credential = Credential::Password {
        user: Some(USER.parse()?),
        password: Hidden(PASSWORD.to_owned()),
    };
    Ok(Request::Open {
        token: token.parse()?,
        app: Some(APP.parse()?),
        credential,
        attempt,
    })
}

type Waiter = oneshot::Sender<Answer>;

/// A connection; clones share it.
#[derive(Clone)]
pub(crate) struct Line {
    /// The lookup that is asked on it.
    find: Arc<Vec<u8>>,
    asked: mpsc::UnboundedSender<(Arc<Vec<u8>>, Waiter)>,
}

impl Line {
    fn over(conversation: Conversation, find: Arc<Vec<u8>>) -> Self {
        let (reader, writer) = tokio::io::split(conversation.into_path());
        let (asked, to_write) = mpsc::unbounded_channel();
        let (written, waiting) = mpsc::unbounded_channel();
        tokio::spawn(write(writer, to_write, written));
        tokio::spawn(read(reader, waiting));
        Self { find, asked }
    }

    async fn ask(&self, request: Arc<Vec<u8>>) -> Result<Answer> {
        let (answered, answer) = oneshot::channel();
        let sent = self.asked.send((request, answered));
        sent.ok().context("the connection is closed")?;
        answer.await.context("the connection broke")
    }
}

async fn write(
    mut io: impl AsyncWrite + Unpin,
    mut asked: mpsc::UnboundedReceiver<(Arc<Vec<u8>>, Waiter)>,
    written: mpsc::UnboundedSender<Waiter>,
) -> Result<()> {
    let mut batch = Vec::new();
    let mut bytes = Vec::new();
    while asked.recv_many(&mut batch, BATCH).await > 0 {
        for (request, answered) in batch.drain(..) {
            bytes.extend_from_slice(&request);
            let sent = written.send(answered);
            sent.ok().context("the reader has ended")?;
        }
        io.write_all(&bytes).await?;
        io.flush().await?;
        bytes.clear();
    }
    Ok(())
}

async fn read(
    io: impl AsyncRead + Unpin,
    mut waiting: mpsc::UnboundedReceiver<Waiter>,
) -> Result<()> {
    let mut io = BufReader::with_capacity(CLIENT_LIMIT, io);
    let mut body = Vec::new();
    while !io.fill_buf().await?.is_empty() {
        let mut header = [0; HEADER];
        io.read_exact(&mut header).await?;
        body.resize(frame_length(header, CLIENT_LIMIT)?, 0);
        io.read_exact(&mut body).await?;
        let answer: Answer = decode(&body)?;
        let waiter = waiting.recv().await;
        let waiter = waiter.context("an answer that nobody asked for")?;
        // A client that has stopped waiting is no failure.
        let _stopped = waiter.send(answer);
    }
    Ok(())
}

/// Sessions of new tokens, one for each request. Each connection has logged in once.
pub(crate) struct Opens {
    port: Port,
    next: AtomicUsize,
}

impl Opens {
    /// What the report says of one request.
    pub(crate) const WORDS: &str = "`Open` of the client protocol for a token that has no session, of an application with a running backend, over TLS 1.3";

    /// At one server.
    pub(crate) fn at(port: Port) -> Self {
        Self {
            port,
            next: AtomicUsize::new(0),
        }
    }
}

impl Service for Opens {
    type Line = Line;

    async fn open(&self) -> Result<Line> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (conversation, _) = self.port.log_in(format!("line.{number}")).await?;
        Ok(Line::over(conversation, Arc::default()))
    }

    async fn ask(&self, line: &Line, number: u64) -> Result<()> {
        let token = format!("card.{number}");
        let mut request = Vec::new();
        frame_into(&open(&token, attempt(&token))?, &mut request);
        match line.ask(Arc::new(request)).await? {
            Answer::Opened(opened) if opened.created => Ok(()),
            other => bail!("no new session for {token}: {other:?}"),
        }
    }
}

/// Lookups of tokens at one server, each connection with a ticket of its own token.
pub(crate) struct Finds {
    port: Port,
    requests: Vec<Arc<Vec<u8>>>,
    next: AtomicUsize,
}

impl Finds {
    /// Logs in for as many tokens as there will be connections; they have sessions.
    ///
    /// # Errors
    /// When a login is refused.
    pub(crate) async fn prepare(port: Port, lines: usize) -> Result<Self> {
        let mut requests = Vec::new();
        for number in 0..lines {
            let token = format!("card.{number}");
            let (_, opened) = port.log_in(token.clone()).await?;
            ensure!(!opened.created, "{token} had no session");
            let find = Request::Find {
                token: token.parse()?,
                app: APP.parse()?,
                ticket: opened.ticket,
            };
            let mut frame = Vec::new();
            frame_into(&find, &mut frame);
            requests.push(Arc::new(frame));
        }
        Ok(Self {
            port,
            requests,
            next: AtomicUsize::new(0),
        })
    }
}

impl Service for Finds {
    type Line = Line;

    async fn open(&self) -> Result<Line> {
        let conversation = Conversation::dial(&self.port.address, &self.port.trust).await?;
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.requests.len().max(1);
        let request = self.requests.get(index).context("a ticket")?;
        Ok(Line::over(conversation, Arc::clone(request)))
    }

    async fn ask(&self, line: &Line, _number: u64) -> Result<()> {
        let answer = line.ask(Arc::clone(&line.find)).await?;
        let found = matches!(
            answer,
            Answer::Found {
                session: Some(_),
                ..
            }
        );
        ensure!(found, "not found: {answer:?}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_differ_between_tokens() {
        assert_eq!(attempt("card.1000000001"), attempt("card.1000000001"));
        assert_ne!(attempt("card.1000000001"), attempt("card.1000000002"));
        assert_ne!(attempt("card.1"), attempt("line.1"));
        assert_ne!(attempt("card.9999999"), attempt("card.99999999"));
    }
}
