//! Gateways: ordinary clients, which know nothing of Stead, are relayed to the host of their token.
//!
//! A client's first bytes say which token it claims ([`claim`]); the floor above finds the session ([`Hosts`]); then bytes are
//! passed on until both sides have said all, inside the kernel where the backend is on this server ([`kernel`]).
//!
//! Always true: until the claim is read a client may send [`claim::LIMIT`] bytes and take [`claim::TIME`]; nothing is made for one
//! that says nothing. What was cut off is never made to look like an end: unless both sides have finished, both are reset.

pub mod claim;
mod forward;
mod kernel;
mod passing;
mod pipes;
mod socket;

pub use claim::{Claim, NoClaim};
pub use forward::Forwarded;
pub use passing::Passing;
pub use pipes::Pipes;
pub use socket::Socket;

use crate::admission::Permit;
use crate::sessions::{ByteStream, Pending};
use crate::stop::Stop;
use model::TokenFrom;
use std::any::Any;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// The way to a session's backend.
pub struct Way {
    /// The connection.
    pub far: Far,
    /// Given when the session is there no longer.
    pub over: Stop,
    /// Told of what passes, where the session is on this server.
    pub passing: Passing,
    /// What is kept as long as the connection is.
    pub held: Box<dyn Any + Send>,
}

/// A connection to a backend, or towards it.
pub enum Far {
    /// The backend is on this server.
    Here(Socket),
    /// Through the server that hosts it.
    There(Box<dyn ByteStream>),
}

/// Why there is no way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NoWay {
    /// In words, for the log: a client that knows nothing of Stead is not told.
    pub why: String,
}

/// What stands behind a gateway.
pub trait Hosts: Send + Sync {
    /// The way to the session of the token that is claimed, which is made where there is none. May take as long as a backend may
    /// take to accept.
    fn way(&self, claim: &Claim) -> Pending<'_, Result<Way, NoWay>>;
}

/// How a client's visit ended.
#[derive(Debug)]
pub enum Farewell {
    /// It claimed nothing.
    NoClaim(NoClaim),
    /// There was no way for it.
    NoWay(NoWay),
    /// Its bytes were passed on.
    Forwarded(Forwarded),
}

/// Serves a gateway's client until its connection ends. The permit is given back then.
pub async fn visit(
    io: TcpStream,
    from: SocketAddr,
    token_from: TokenFrom,
    hosts: &dyn Hosts,
    pipes: &Pipes,
    mut permit: Permit,
    stop: Stop,
) -> Farewell {
    let claimed = {
        let mut stop = stop.clone();
        tokio::select! {
            claimed = claim::read(&io, from, token_from) => claimed,
            () = stop.given() => Err(NoClaim::Stopped),
        }
    };
    let (claim, early) = match claimed {
        Ok(claimed) => claimed,
        Err(why) => return Farewell::NoClaim(why),
    };
    let near = Socket::Tcp(io);
    let Way {
        far,
        over,
        passing,
        held,
    } = match hosts.way(&claim).await {
        Ok(way) => way,
        Err(why) => {
            near.will_reset();
            return Farewell::NoWay(why);
        }
    };
    permit.prove();
    let forwarded = match far {
        Far::Here(far) => kernel::forward(near, far, &early, pipes, &passing, over, stop).await,
        Far::There(far) => forward::forward(near, far, &early, &passing, over, stop).await,
    };
    drop(held);
    Farewell::Forwarded(forwarded)
}

/// Passes the bytes of a gateway's client on, between the server that it reached and the backend on this one.
pub async fn forward_here(
    far: Box<dyn ByteStream>,
    backend: Socket,
    passing: &Passing,
    over: Stop,
    stop: Stop,
) -> Forwarded {
    let forwarded = forward::forward(backend, far, &[], passing, over, stop).await;
    // The backend was the near side here.
    Forwarded {
        to_client: forwarded.to_far,
        to_far: forwarded.to_client,
        ..forwarded
    }
}

/// What ended the passing on of bytes.
#[derive(Debug)]
pub enum End {
    /// Both sides have said all.
    Finished,
    /// The session is there no longer.
    Over,
    /// This server stops.
    Stopped,
    /// A connection broke.
    Broken(io::Error),
}
