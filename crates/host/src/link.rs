//! The server's connections to a keeper.
//!
//! [`connect`] opens a control connection: commands one way, notices the other. [`open_stream`] opens or resumes a stream, whose
//! bytes the caller then pipes to the client without looking at them.
//!
//! Always true: nothing here waits longer than it says, so that a keeper that hangs holds up nobody.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;
use wire::keeper::{
    Command, Notice, OLDEST_PROTOCOL, Opening, OpeningAnswer, OpeningRefusal, PROTOCOL, SOCKET,
    Status, TRAFFIC,
};

use crate::socket::{ReadError, read_message, write_message};

/// How long a keeper may take to answer what it can answer at once.
const ANSWER: Duration = Duration::from_secs(5);
/// The most bytes of a message from a keeper.
const LIMIT: usize = wire::frame::CLIENT_LIMIT;

/// Why a keeper could not be talked to.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No keeper accepts there.
    #[error("the keeper's socket does not accept")]
    Connect(#[source] io::Error),
    /// The connection failed.
    #[error("the connection to the keeper failed")]
    Io(#[from] io::Error),
    /// What it said makes no sense.
    #[error("the keeper's answer makes no sense")]
    Answer(#[from] ReadError),
    /// It said something else than what was asked for.
    #[error("the keeper answered something else than what was asked")]
    Unexpected,
    /// It refused.
    #[error("the keeper refused")]
    Refused(#[from] OpeningRefusal),
    /// It did not answer in time.
    #[error("the keeper did not answer within {within:?}")]
    Silent {
        /// How long it had.
        within: Duration,
    },
}

/// Opens a control connection to the keeper in the session's folder `dir`.
///
/// # Errors
/// No keeper is there, it does not answer within 5 s, or it speaks another protocol.
pub async fn connect(dir: &Path) -> Result<(Status, Commands, Notices), LinkError> {
    let ask = async |protocol| open(dir, &Opening::Control { protocol }, ANSWER).await;
    let mut answered = ask(PROTOCOL).await?;
    if let (OpeningAnswer::Refused(OpeningRefusal::Protocol { spoken }), _) = &answered
        && (OLDEST_PROTOCOL..PROTOCOL).contains(spoken)
    {
        // It is of an older version: it is spoken to as that one did.
        answered = ask(*spoken).await?;
    }
    match answered {
        (OpeningAnswer::Control(status), stream) => {
            let (read, write) = stream.into_split();
            let protocol = status.protocol;
            Ok((status, Commands { write, protocol }, Notices { read }))
        }
        (OpeningAnswer::Refused(refusal), _) => Err(refusal.into()),
        _ => Err(LinkError::Unexpected),
    }
}

/// Opens or resumes a stream. The answer is for the client, a refusal too; after [`OpeningAnswer::Attached`] and
/// [`OpeningAnswer::Resumed`] the socket carries the tunnel's frames.
///
/// An attach waits for a backend that is still starting, so `limit` should be above the application's ready timeout.
///
/// # Errors
/// No keeper is there, or it does not answer within `limit`.
pub async fn open_stream(
    dir: &Path,
    opening: &Opening,
    limit: Duration,
) -> Result<(OpeningAnswer, UnixStream), LinkError> {
    open(dir, opening, limit).await
}

async fn open(
    dir: &Path,
    opening: &Opening,
    within: Duration,
) -> Result<(OpeningAnswer, UnixStream), LinkError> {
    let exchange = async {
        let mut stream = crate::socket::connect(dir, SOCKET)
            .await
            .map_err(LinkError::Connect)?;
        write_message(&mut stream, opening).await?;
        let answer = read_message(&mut stream, LIMIT).await?;
        Ok((answer, stream))
    };
    timeout(within, exchange)
        .await
        .unwrap_or(Err(LinkError::Silent { within }))
}

/// The half of a control connection that gives commands.
#[derive(Debug)]
pub struct Commands {
    write: OwnedWriteHalf,
    /// What the keeper speaks.
    protocol: u16,
}

impl Commands {
    /// Gives a command. What comes of it is told by a notice. One that the keeper is too old for is left out.
    ///
    /// # Errors
    /// The connection failed, or the keeper took nothing for 5 s.
    pub async fn send(&mut self, command: &Command) -> Result<(), LinkError> {
        if *command == Command::Traffic && self.protocol < TRAFFIC {
            return Ok(());
        }
        match timeout(ANSWER, write_message(&mut self.write, command)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(LinkError::Silent { within: ANSWER }),
        }
    }
}

/// The half of a control connection on which the keeper says how things are.
#[derive(Debug)]
pub struct Notices {
    read: OwnedReadHalf,
}

impl Notices {
    /// The next notice; waits for it. Not cancel-safe: give it a task of its own.
    ///
    /// # Errors
    /// The connection ended: with the keeper, or because this end was too slow. Connect again to find out.
    pub async fn next(&mut self) -> Result<Notice, LinkError> {
        Ok(read_message(&mut self.read, LIMIT).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{AppName, EndReason, SessionId, Token, UnixMillis, UserName};
    use tokio::net::UnixListener;
    use wire::keeper::Phase;

    fn status(protocol: u16) -> Status {
        Status {
            protocol,
            version: "0.0.1".to_owned(),
            pid: 1,
            session: SessionId::from_bytes([1; 10]),
            token: "card.1".parse::<Token>().unwrap(),
            user: "ann".parse::<UserName>().unwrap(),
            app: "shell".parse::<AppName>().unwrap(),
            created: UnixMillis(1),
            phase: Phase::Running,
            client: None,
            last_attached: None,
            streams: 0,
        }
    }

    /// A keeper of a version that speaks one protocol alone: answers two connections, and gives the last one back.
    async fn speaks(listener: UnixListener, spoken: u16) -> UnixStream {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let opening: Opening = read_message(&mut stream, LIMIT).await.unwrap();
            let Opening::Control { protocol } = opening else {
                panic!("{opening:?}");
            };
            let is_spoken = protocol == spoken;
            let answer = match is_spoken {
                true => OpeningAnswer::Control(status(spoken)),
                false => OpeningAnswer::Refused(OpeningRefusal::Protocol { spoken }),
            };
            write_message(&mut stream, &answer).await.unwrap();
            if is_spoken {
                return stream;
            }
        }
    }

    #[tokio::test]
    async fn an_older_keeper_is_spoken_to_as_its_version_did() {
        let folder = tempfile::tempdir().unwrap();
        let listener = crate::socket::bind(folder.path(), SOCKET).unwrap();
        let (connected, mut keeper) =
            tokio::join!(connect(folder.path()), speaks(listener, OLDEST_PROTOCOL));
        let (status, mut commands, mut notices) = connected.unwrap();
        assert_eq!(status.protocol, OLDEST_PROTOCOL);
        // What it would not understand is left out, and all else is said.
        let end = Command::End {
            reason: EndReason::TimedOut,
        };
        for command in [&Command::Traffic, &Command::News, &end] {
            commands.send(command).await.unwrap();
        }
        for command in [Command::News, end] {
            let told: Command = read_message(&mut keeper, LIMIT).await.unwrap();
            assert_eq!(told, command);
        }
        let notice = Notice::Status(status);
        write_message(&mut keeper, &notice).await.unwrap();
        assert_eq!(notices.next().await.unwrap(), notice);
    }

    #[tokio::test]
    async fn a_keeper_of_this_version_is_told_of_traffic() {
        let folder = tempfile::tempdir().unwrap();
        let listener = crate::socket::bind(folder.path(), SOCKET).unwrap();
        let (connected, mut keeper) =
            tokio::join!(connect(folder.path()), speaks(listener, PROTOCOL));
        let (_, mut commands, _notices) = connected.unwrap();
        commands.send(&Command::Traffic).await.unwrap();
        let told: Command = read_message(&mut keeper, LIMIT).await.unwrap();
        assert_eq!(told, Command::Traffic);
    }

    #[tokio::test]
    async fn a_keeper_whose_protocol_is_not_known_is_refused() {
        for spoken in [OLDEST_PROTOCOL - 1, PROTOCOL + 1] {
            let folder = tempfile::tempdir().unwrap();
            let listener = crate::socket::bind(folder.path(), SOCKET).unwrap();
            let refused = tokio::select! {
                connected = connect(folder.path()) => connected.unwrap_err(),
                _ = speaks(listener, spoken) => panic!("it was asked in protocol {spoken}"),
            };
            assert!(
                matches!(
                    refused,
                    LinkError::Refused(OpeningRefusal::Protocol { spoken: told }) if told == spoken
                ),
                "{refused:?}"
            );
        }
    }
}
