//! Requests and answers on a client's connection: reads whole frames, and gathers answers to requests that came together.
//!
//! Always true: no more than one frame of the limit and [`READ`] bytes are held; answers are sent before more requests are waited for.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use wire::client::{Answer, Request};
use wire::frame::{FrameError, HEADER};
use wire::{DecodeError, decode, frame_into, frame_length};

/// Room for one read.
const READ: usize = 8 * 1024;
/// Answers are sent when they are this many bytes, even if more requests are at hand.
const GATHERED: usize = 32 * 1024;

/// Why there is no request.
#[derive(Debug)]
pub(crate) enum NoRequest {
    /// The client closed the connection.
    Closed,
    /// The client sent what is no frame.
    Frame(FrameError),
    /// The client sent what is no request.
    Decode(DecodeError),
    /// The connection broke.
    Failed(io::Error),
}

/// A connection that carries frames.
pub(crate) struct Frames<IO> {
    io: IO,
    input: Vec<u8>,
    /// Where in `input` the next frame begins.
    at: usize,
    output: Vec<u8>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Frames<IO> {
    pub(crate) fn new(io: IO) -> Self {
        Self {
            io,
            input: Vec::new(),
            at: 0,
            output: Vec::new(),
        }
    }

    /// A request that has arrived already, and the bytes of its frame.
    pub(crate) fn at_hand(&mut self, limit: usize) -> Result<Option<(Request, usize)>, NoRequest> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let Some((header, body)) = rest.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = frame_length(*header, limit).map_err(NoRequest::Frame)?;
        let Some(body) = body.get(..length) else {
            return Ok(None);
        };
        let request = decode(body).map_err(NoRequest::Decode)?;
        self.at += HEADER + length;
        Ok(Some((request, HEADER + length)))
    }

    /// Sends the answers and waits for the next request; also gives the bytes of its frame.
    pub(crate) async fn next(&mut self, limit: usize) -> Result<(Request, usize), NoRequest> {
        self.send().await.map_err(NoRequest::Failed)?;
        loop {
            if let Some(request) = self.at_hand(limit)? {
                return Ok(request);
            }
            match self.fill().await {
                Ok(0) => return Err(NoRequest::Closed),
                Ok(_) => {}
                Err(error) => return Err(NoRequest::Failed(error)),
            }
        }
    }

    /// Waits for more bytes; gives how many came, none at the end. Nothing is lost when it is dropped before.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        self.input.drain(..self.at);
        self.at = 0;
        self.input.reserve(READ);
        (&mut self.io)
            .take(READ as u64)
            .read_buf(&mut self.input)
            .await
    }

    /// Puts an answer behind those that wait to be sent. False: they are many, and to be sent.
    pub(crate) fn put(&mut self, answer: &Answer) -> bool {
        frame_into(answer, &mut self.output);
        self.output.len() < GATHERED
    }

    /// Sends the answers that wait.
    pub(crate) async fn send(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            self.io.write_all(&self.output).await?;
            self.output.clear();
            self.io.flush().await?;
        }
        Ok(())
    }

    /// Sends the answers that wait and says goodbye.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        self.send().await?;
        self.io.shutdown().await
    }

    /// The connection, and bytes that came behind the last request.
    pub(crate) fn into_parts(mut self) -> (IO, Vec<u8>) {
        (self.io, self.input.split_off(self.at))
    }
}
