//! People at work while their group falls apart and comes together: each a session with a viewer.

use crate::common::{Stage, Transfer};
use std::net::SocketAddr;
use testkit::{Process, event, events, seconds, text};

/// Bytes each way that show that a session works.
const SOME: u64 = 256 << 10;
/// Bytes each way of somebody who works all the time, and how many of them a second.
const MANY: u64 = 2 << 20;
const PACE: u64 = 64 << 10;

/// Somebody's session, and the client that leads there.
pub(crate) struct Desk {
    pub(crate) connect: Process,
    pub(crate) port: SocketAddr,
    /// The session's id.
    pub(crate) session: String,
    /// The index of the server that runs it.
    pub(crate) host: usize,
    asked: u64,
}

impl Desk {
    /// A token is put in; any server may be asked.
    pub(crate) fn open(stage: &Stage, token: &str) -> Self {
        let (connect, port) = stage.connect(token, "bulk");
        Self::of(stage, connect, port)
    }

    /// The same where only the servers at these addresses are known.
    pub(crate) fn open_by(stage: &Stage, token: &str, addresses: &str) -> Self {
        let viewer = Some(stage.viewer());
        let group = &stage.group;
        let connect = group.connect_by(addresses, viewer, "ann", token, "bulk");
        let port = testkit::listening(&connect, seconds(20));
        Self::of(stage, connect, port)
    }

    fn of(stage: &Stage, connect: Process, port: SocketAddr) -> Self {
        let session = text(&event(&connect, "ready", seconds(1)), "session");
        let host = stage.host_of(&connect);
        Self {
            connect,
            port,
            session,
            host,
            asked: 0,
        }
    }

    /// Somebody works all the time from now on, for half a minute at least.
    pub(crate) fn work_on(&self, stage: &Stage) -> Transfer {
        Transfer::start(stage.viewer(), self.port, 1_000, MANY, Some(PACE)).flows()
    }

    /// The session works, and is the one that it was.
    pub(crate) fn works(&mut self, stage: &Stage) {
        self.carries(stage);
        assert!(
            events(&self.connect, "session-lost").is_empty(),
            "{}",
            self.connect.story()
        );
    }

    /// The token's session works, whichever it is by now.
    pub(crate) fn carries(&mut self, stage: &Stage) {
        self.asked += 1;
        Transfer::start(stage.viewer(), self.port, self.asked, SOME, None).finish(seconds(40));
    }
}
