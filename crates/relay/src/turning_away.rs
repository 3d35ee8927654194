//! What a client gets for which there is no room: the time to come back.
//!
//! Always true: it takes one frame and a few seconds, whatever the client does.

use std::time::Duration;

use tokio::time::timeout;
use wire::client::Answer;
use wire::frame::UNPROVED_LIMIT;

use crate::admission::TurningAway;
use crate::conversation::Ending;
use crate::frames::Frames;
use crate::sessions::ByteStream;

/// Tells a client for which there is no room now when to come back, and closes the connection.
pub async fn turn_away<IO: ByteStream>(io: IO, after_ms: u64, permit: TurningAway) -> Ending {
    const PATIENCE: Duration = Duration::from_secs(5);
    let mut frames = Frames::new(io);
    let told = timeout(PATIENCE, async {
        // Whatever it asks is answered so; reading it first keeps the answer from being lost in a reset.
        frames.next(UNPROVED_LIMIT).await?;
        let _few = frames.put(&Answer::ComeBack { after_ms });
        frames.close().await.map_err(Ending::Failed)
    });
    let ending = match told.await {
        Ok(Ok(())) => Ending::ComeBack,
        Ok(Err(ending)) => ending,
        Err(_) => Ending::TooSlow,
    };
    drop(permit);
    ending
}
