//! Standard input and output as a viewer; on a terminal, with its keys passed on as they are.
//!
//! Keys go to the session unchanged, Ctrl-C too, so leaving needs a sequence of its own: Enter, `~`, `.`, as users know it from ssh.
//!
//! Always true: the terminal is as it was when this is dropped.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;

use super::stream::BoxedViewer;

/// A terminal whose keys are passed on; set back when dropped.
pub(crate) struct Terminal {
    before: Option<Termios>,
    left: Arc<Notify>,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // The terminal may be gone by now.
            let _ = tcsetattr(io::stdin(), OptionalActions::Drain, before);
        }
    }
}

impl Terminal {
    /// Takes standard input and output. What is no terminal is taken as it is.
    pub(crate) fn take() -> (Self, BoxedViewer) {
        let before = isatty(io::stdin())
            .then(|| tcgetattr(io::stdin()).ok())
            .flatten();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            // Line by line is better than not at all.
            let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &raw);
        }
        let left = Arc::new(Notify::new());
        let (keys, screen) = (tokio::io::stdin(), tokio::io::stdout());
        let viewer: BoxedViewer = match &before {
            Some(_) => Box::new(tokio::io::join(Keys::new(keys, left.clone()), screen)),
            None => Box::new(tokio::io::join(keys, screen)),
        };
        (Self { before, left }, viewer)
    }

    /// Waits until the user asks to leave.
    pub(crate) async fn left(&self) {
        self.left.notified().await;
    }
}

/// Keys on their way to the session.
struct Keys<R> {
    from: R,
    left: Arc<Notify>,
    typed: Typed,
    /// What is passed on as soon as there is room.
    waiting: Vec<u8>,
}

/// How much of the sequence has been typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Typed {
    Nothing,
    Enter,
    Tilde,
}

impl<R> Keys<R> {
    fn new(from: R, left: Arc<Notify>) -> Self {
        Self {
            from,
            left,
            typed: Typed::Enter,
            waiting: Vec::new(),
        }
    }

    /// Takes note of keys; those that could be the sequence's wait until it is clear.
    fn note(&mut self, keys: &[u8]) {
        for &key in keys {
            match (self.typed, key) {
                (Typed::Enter, b'~') => {
                    self.typed = Typed::Tilde;
                    continue;
                }
                (Typed::Tilde, b'.') => {
                    self.left.notify_one();
                    return;
                }
                // `~~` at the start of a line is one.
                (Typed::Tilde, b'~') => {}
                (Typed::Tilde, _) => self.waiting.push(b'~'),
                _ => {}
            }
            self.waiting.push(key);
            self.typed = if matches!(key, b'\r' | b'\n') {
                Typed::Enter
            } else {
                Typed::Nothing
            };
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Keys<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.waiting.is_empty() {
            let mut bytes = [0; 1024];
            let mut keys = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.from).poll_read(cx, &mut keys))?;
            if keys.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.note(keys.filled());
        }
        let count = self.waiting.len().min(buffer.remaining());
        buffer.put_slice(self.waiting.get(..count).unwrap_or_default());
        self.waiting.drain(..count);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    async fn typed(keys: &[u8]) -> (Vec<u8>, bool) {
        let left = Arc::new(Notify::new());
        let mut passed = Vec::new();
        let mut keys = Keys::new(keys, left.clone());
        keys.read_to_end(&mut passed).await.unwrap();
        let asked = tokio::select! {
            biased;
            () = left.notified() => true,
            () = std::future::ready(()) => false,
        };
        (passed, asked)
    }

    #[tokio::test]
    async fn only_the_sequence_leaves() {
        for (keys, passed, leaves) in [
            (&b"ls\r~."[..], &b"ls\r"[..], true),
            (b"~.", b"", true),
            (b"a~.\r", b"a~.\r", false),
            (b"\r~~.", b"\r~.", false),
            (b"\r~x~.", b"\r~x~.", false),
            (b"\x03\x04", b"\x03\x04", false),
        ] {
            assert_eq!(typed(keys).await, (passed.to_vec(), leaves), "{keys:?}");
        }
    }
}
