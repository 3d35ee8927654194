//! People at work while their group falls apart and comes together: each a session with a viewer.

use crate::common::{Stage, Transfer};
use std::net::SocketAddr;
use testkit::{Process, event, events, eventually_some, seconds, text};

/// Bytes each way that show that a session works.
const SOME: u64 = 256 << 10;
/// Bytes each way of somebody who works all the time, and how many of them a second.
const MANY: u64 = 2 << 20;
const PACE: u64 = 64 << 10;

/// Somebody's session, and the client that leads there.
pub(crate) struct Desk {
    pub(crate) connect: Process,
    pub(crate) port: SocketAddr,
    pub(crate) token: String,
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
        Self::of(stage, token, connect, port)
    }

    /// A desk with a session on each of the first servers, in their order. Where each goes is for the balance to say: tokens are
    /// put in until all have one, and people whom it has put beside others leave again.
    pub(crate) fn on_each(stage: &Stage, servers: usize) -> Vec<Self> {
        let mut desks: Vec<Self> = Vec::new();
        for card in 1.. {
            if desks.len() == servers {
                break;
            }
            assert!(card < 32, "a server gets no session");
            let desk = Self::open(stage, &format!("card.{card}"));
            if desk.host < servers && desks.iter().all(|other| other.host != desk.host) {
                desks.push(desk);
            }
        }
        desks.sort_by_key(|desk| desk.host);
        desks
    }

    /// As [`Desk::open`] where only the servers at these addresses are known.
    pub(crate) fn open_by(stage: &Stage, token: &str, addresses: &str) -> Self {
        let viewer = Some(stage.viewer());
        let group = &stage.group;
        let connect = group.connect_by(addresses, viewer, "ann", token, "bulk");
        let port = testkit::listening(&connect, seconds(20));
        Self::of(stage, token, connect, port)
    }

    fn of(stage: &Stage, token: &str, connect: Process, port: SocketAddr) -> Self {
        let session = text(&event(&connect, "ready", seconds(1)), "session");
        let host = stage.host_of(&connect);
        Self {
            connect,
            port,
            token: token.to_owned(),
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

    /// The session was lost with its host, which its user was told, and the token has another one elsewhere, which works.
    pub(crate) fn has_another(&mut self, stage: &Stage) {
        let lost = event(&self.connect, "session-lost", seconds(30));
        assert_eq!(text(&lost, "session"), self.session);
        let moved = eventually_some(seconds(30), "another session", || {
            let all = events(&self.connect, "moved");
            all.into_iter().next_back()
        });
        self.session = text(&moved, "session");
        let host = text(&moved, "to");
        self.host = stage.group.index_of(&host).expect("a server's name");
        self.carries(stage);
    }

    /// The token's session works, whichever it is by now.
    pub(crate) fn carries(&mut self, stage: &Stage) {
        self.asked += 1;
        Transfer::start(stage.viewer(), self.port, self.asked, SOME, None).finish(seconds(40));
    }
}
