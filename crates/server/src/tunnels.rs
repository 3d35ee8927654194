//! The tunnels of each user through this server, counted, so that one user cannot take all there is.
//!
//! Always true: a tunnel counts for as long as its connection is open, and no longer; one that is resumed is never refused, because
//! the connection that it replaces may still be counted.

use model::UserName;
use relay::ByteStream;
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many each user has. A cheap clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tunnels(Arc<Mutex<HashMap<UserName, u32>>>);

/// A tunnel that is counted; no longer when dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    tunnels: Tunnels,
    user: UserName,
}

/// A user has as many as one may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{user} has {most} tunnels through this server already, and tunnel.max-per-user is {most}")]
pub(crate) struct TooMany {
    user: UserName,
    most: u32,
}

impl Tunnels {
    fn table(&self) -> MutexGuard<'_, HashMap<UserName, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts another tunnel, unless there are `most` of this user; none: there is no limit for it.
    pub(crate) fn enter(&self, user: &UserName, most: Option<u32>) -> Result<Counted, TooMany> {
        let mut table = self.table();
        let has = table.get(user).copied().unwrap_or(0);
        if let Some(most) = most.filter(|most| has >= *most) {
            let user = user.clone();
            return Err(TooMany { user, most });
        }
        table.insert(user.clone(), has + 1);
        Ok(Counted {
            tunnels: self.clone(),
            user: user.clone(),
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut table = self.tunnels.table();
        if let Some(count) = table.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                table.remove(&self.user);
            }
        }
    }
}

/// The bytes of a tunnel that is counted.
pub(crate) struct Through {
    stream: Box<dyn ByteStream>,
    /// Held as long as the bytes flow.
    _counted: Counted,
}

impl Through {
    /// The tunnel counts until this is dropped.
    pub(crate) fn new(stream: Box<dyn ByteStream>, counted: Counted) -> Self {
        Self {
            stream,
            _counted: counted,
        }
    }
}

impl AsyncRead for Through {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Through {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_so_many_until_they_end() {
        let tunnels = Tunnels::default();
        let (ann, bob): (UserName, UserName) = ("ann".parse().unwrap(), "bob".parse().unwrap());
        let first = tunnels.enter(&ann, Some(2)).unwrap();
        let _second = tunnels.enter(&ann, Some(2)).unwrap();
        let refused = tunnels.enter(&ann, Some(2)).unwrap_err().to_string();
        assert!(refused.contains("ann has 2 tunnels"), "{refused}");
        drop(tunnels.enter(&bob, Some(1)).unwrap());
        // One that is resumed counts, and is not refused.
        let resumed = tunnels.enter(&ann, None).unwrap();
        drop(first);
        assert!(tunnels.enter(&ann, Some(2)).is_err());
        drop(resumed);
        drop(tunnels.enter(&ann, Some(2)).unwrap());
        assert_eq!(tunnels.table().len(), 1);
    }
}
