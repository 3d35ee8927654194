//! Control connections: commands come in, notices go out.
//!
//! Always true: a server that reads slowly is dropped, never waited for; it connects again and gets the status as it is.

use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use wire::frame::CLIENT_LIMIT;
use wire::keeper::{
    Command, Notice, OLDEST_PROTOCOL, OpeningAnswer, OpeningRefusal, PROTOCOL, Status,
};

use super::happening::Happening;
use crate::socket::{read_message, write_message};

/// Notices that may wait for a server.
const NOTICES: usize = 64;
/// How long a server may take for one.
const SLOW: Duration = Duration::from_secs(5);
/// The most control connections; the oldest goes when there is one more.
const CONNECTIONS: usize = 16;

/// The servers that are told of every change.
#[derive(Debug, Default)]
pub(crate) struct Controls {
    notices: Vec<mpsc::Sender<Status>>,
}

impl Controls {
    /// Takes a new connection.
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
        self.notices.retain(|notices| !notices.is_closed());
        if self.notices.len() >= CONNECTIONS {
            self.notices.remove(0);
        }
        let (sender, receiver) = mpsc::channel(NOTICES);
        self.notices.push(sender);
        tokio::spawn(converse(
            stream,
            OpeningAnswer::Control(status),
            receiver,
            happenings,
        ));
    }

    /// Tells everybody.
    pub(crate) fn tell(&mut self, status: &Status) {
        self.notices
            .retain(|notices| notices.try_send(status.clone()).is_ok());
    }

    /// Tells no more. Returns when what waits has been written, or after 5 s.
    pub(crate) async fn close(self) {
        let written = async {
            for notices in &self.notices {
                // All of the queue is free only when it is empty; an error means that nobody listens.
                let _ = notices.reserve_many(NOTICES).await;
            }
        };
        // Whoever is slower finds out from the session's folder.
        let _ = timeout(SLOW, written).await;
    }
}

async fn converse(
    stream: UnixStream,
    answer: OpeningAnswer,
    mut notices: mpsc::Receiver<Status>,
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
            let Some(status) = notices.recv().await else {
                return;
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
        let _ = timeout(
            SLOW,
            write_message(&mut stream, &OpeningAnswer::Refused(refusal)),
        )
        .await;
    });
}
