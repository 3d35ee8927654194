//! Control connections: commands come in, the newest status goes out.
//!
//! Always true: nobody waits for a server that reads slowly. It is told the newest status when it has taken the one before, and dropped
//! when it takes none for [`SLOW`].

use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use wire::frame::CLIENT_LIMIT;
use wire::keeper::{
    Command, Notice, OLDEST_PROTOCOL, OpeningAnswer, OpeningRefusal, PROTOCOL, Status,
};

use super::happening::Happening;
use crate::socket::{read_message, write_message};

/// How long a server may take for one message.
const SLOW: Duration = Duration::from_secs(5);
/// The most control connections.
const CONNECTIONS: usize = 16;

/// The servers that are told of every change.
pub(crate) struct Controls {
    newest: watch::Sender<Option<Status>>,
    conversations: JoinSet<()>,
}

impl Controls {
    pub(crate) fn new() -> Self {
        Self {
            newest: watch::Sender::new(None),
            conversations: JoinSet::new(),
        }
    }

    /// Takes a new connection, which gets `status` as its answer.
    pub(crate) fn open(
        &mut self,
        stream: UnixStream,
        protocol: u16,
        status: Status,
        happenings: mpsc::Sender<Happening>,
    ) {
        if !(OLDEST_PROTOCOL..=PROTOCOL).contains(&protocol) {
            refuse(stream, OpeningRefusal::Protocol { spoken: PROTOCOL });
            return;
        }
        while self.conversations.try_join_next().is_some() {}
        if self.conversations.len() >= CONNECTIONS {
            tracing::warn!("a control connection was dropped: there are {CONNECTIONS} already");
            return;
        }
        let answer = OpeningAnswer::Control(status);
        let newest = self.newest.subscribe();
        self.conversations
            .spawn(converse(stream, answer, newest, happenings));
    }

    /// Tells everybody.
    pub(crate) fn tell(&mut self, status: Status) {
        self.newest.send_replace(Some(status));
    }

    /// Tells no more. Returns when everybody has been told what there was to tell, or after a while.
    pub(crate) async fn close(mut self) {
        drop(self.newest);
        // Whoever is slower finds out from the session's folder.
        let _ = timeout(SLOW, async {
            while self.conversations.join_next().await.is_some() {}
        })
        .await;
    }
}

async fn converse(
    stream: UnixStream,
    answer: OpeningAnswer,
    mut newest: watch::Receiver<Option<Status>>,
    happenings: mpsc::Sender<Happening>,
) {
    let (mut read, mut write) = stream.into_split();
    let listening = async move {
        while let Ok(command) = read_message::<Command>(&mut read, CLIENT_LIMIT).await {
            if happenings
                .send(Happening::Commanded(command))
                .await
                .is_err()
            {
                return;
            }
        }
    };
    let telling = async move {
        let mut told = timeout(SLOW, write_message(&mut write, &answer)).await;
        while let Ok(Ok(())) = told {
            // Fails when no more will come, which is after the last one was taken.
            if newest.changed().await.is_err() {
                return;
            }
            let Some(status) = newest.borrow_and_update().clone() else {
                continue;
            };
            told = timeout(SLOW, write_message(&mut write, &Notice::Status(status))).await;
        }
    };
    // Either end of it is the end of both.
    tokio::select! {
        () = listening => {}
        () = telling => {}
    }
}

/// Says no, without anybody waiting for it.
pub(crate) fn refuse(mut stream: UnixStream, refusal: OpeningRefusal) {
    tokio::spawn(async move {
        // Who does not take the refusal does without.
        let answer = OpeningAnswer::Refused(refusal);
        let _ = timeout(SLOW, write_message(&mut stream, &answer)).await;
    });
}
