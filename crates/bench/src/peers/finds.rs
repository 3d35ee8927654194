//! Lookups through the client protocol: `Find` requests, as many in flight on a connection as are asked at once.
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
use wire::client::{Answer, Credential, Hidden, Request};
use wire::frame::{CLIENT_LIMIT, HEADER, decode, frame_into, frame_length};

use crate::cluster::Cluster;
use crate::load::Service;
use crate::peers::stead::{Sessions, Stead};

const LIMIT: Duration = Duration::from_secs(30);
/// Requests that leave in one write.
const BATCH: usize = 64;

/// Lookups of tokens at one server, each connection with a ticket of its own token.
pub(crate) struct Finds {
    address: String,
    trust: Trust,
    requests: Vec<Arc<Vec<u8>>>,
    next: AtomicUsize,
}

impl Finds {
    /// Logs in for as many tokens as there will be connections; they have sessions.
    ///
    /// # Errors
    /// When a login is refused.
    pub(crate) async fn prepare(stead: &Stead, index: usize, lines: usize) -> Result<Self> {
        let address: SocketAddr = stead.address(index);
        let address = address.to_string();
        let trust = Trust::new(stead.group().ca().parse::<Fingerprint>()?);
        let mut requests = Vec::new();
        for number in 0..lines {
            let mut conversation = Conversation::dial(&address, &trust).await?;
            let (token, app) = (format!("card.{number}").parse()?, Sessions::APP.parse()?);
            let credential = Credential::Password {
                user: Sessions::USER.parse()?,
                password: Hidden(PASSWORD.to_owned()),
            };
            let attempt = u128::try_from(number)?.to_be_bytes();
            let open = Request::Open {
                token,
                app,
                credential,
                attempt,
            };
            let Answer::Opened(opened) = conversation.ask(&open, LIMIT).await? else {
                bail!("no session")
            };
            let Request::Open { token, app, .. } = open else {
                bail!("invariant: it was made above")
            };
            let mut frame = Vec::new();
            frame_into(
                &Request::Find {
                    token,
                    app,
                    ticket: opened.ticket,
                },
                &mut frame,
            );
            requests.push(Arc::new(frame));
        }
        Ok(Self {
            address,
            trust,
            requests,
            next: AtomicUsize::new(0),
        })
    }
}

/// A connection. What is sent to it is answered when its answer has come.
#[derive(Clone)]
pub(crate) struct FindLine {
    request: Arc<Vec<u8>>,
    asked: mpsc::UnboundedSender<(Arc<Vec<u8>>, oneshot::Sender<()>)>,
}

impl Service for Finds {
    type Line = FindLine;

    async fn open(&self) -> Result<FindLine> {
        let conversation = Conversation::dial(&self.address, &self.trust).await?;
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.requests.len().max(1);
        let request = Arc::clone(self.requests.get(index).context("a ticket")?);
        let (reader, writer) = tokio::io::split(conversation.into_path());
        let (asked, to_write) = mpsc::unbounded_channel();
        let (written, waiting) = mpsc::unbounded_channel();
        tokio::spawn(write(writer, to_write, written));
        tokio::spawn(read(reader, waiting));
        Ok(FindLine { request, asked })
    }

    async fn ask(&self, line: &FindLine, _number: u64) -> Result<()> {
        let (answered, answer) = oneshot::channel();
        line.asked
            .send((Arc::clone(&line.request), answered))
            .ok()
            .context("the connection is closed")?;
        answer
            .await
            .context("the connection broke, or the token was not found")
    }
}

async fn write(
    mut io: impl AsyncWrite + Unpin,
    mut asked: mpsc::UnboundedReceiver<(Arc<Vec<u8>>, oneshot::Sender<()>)>,
    written: mpsc::UnboundedSender<oneshot::Sender<()>>,
) -> Result<()> {
    let mut batch = Vec::new();
    let mut bytes = Vec::new();
    while asked.recv_many(&mut batch, BATCH).await > 0 {
        for (request, answered) in batch.drain(..) {
            bytes.extend_from_slice(&request);
            written
                .send(answered)
                .ok()
                .context("the reader has ended")?;
        }
        io.write_all(&bytes).await?;
        io.flush().await?;
        bytes.clear();
    }
    Ok(())
}

async fn read(
    io: impl AsyncRead + Unpin,
    mut waiting: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
) -> Result<()> {
    let mut io = BufReader::with_capacity(CLIENT_LIMIT, io);
    let mut body = Vec::new();
    while !io.fill_buf().await?.is_empty() {
        let mut header = [0; HEADER];
        io.read_exact(&mut header).await?;
        body.resize(frame_length(header, CLIENT_LIMIT)?, 0);
        io.read_exact(&mut body).await?;
        let answer: Answer = decode(&body)?;
        ensure!(
            matches!(
                answer,
                Answer::Found {
                    session: Some(_),
                    ..
                }
            ),
            "not found: {answer:?}"
        );
        let answered = waiting
            .recv()
            .await
            .context("an answer that nobody asked for")?;
        // A client that has stopped waiting is no failure.
        let _stopped = answered.send(());
    }
    Ok(())
}
