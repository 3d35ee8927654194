//! Keeps one connection of the pool up: dials, publishes it while it stands, and dials again, with delays that grow
//! while that leads to nothing.

use super::{Channel, PoolEvent, PoolSettings, Watcher};
use crate::carrier::Heard;
use crate::dial::{DialError, PeerStream, dial};
use crate::hello::{Endpoint, Met};
use crate::link::Link;
use aws_lc_rs::rand;
use model::ServerId;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

/// How long a connection stays open after another took its place: longer than anything waits for an answer on it.
const SUPERSEDED: Duration = Duration::from_secs(10);

/// Keeps one connection up.
pub(super) struct Keeping {
    pub(super) endpoint: Endpoint,
    pub(super) settings: PoolSettings,
    pub(super) watcher: Arc<dyn Watcher>,
    pub(super) server: ServerId,
    pub(super) channel: Channel,
    pub(super) address: Arc<Mutex<String>>,
    pub(super) heard: Heard,
    pub(super) hurry: Arc<Notify>,
    /// Asks for another connection in the place of the one that stands.
    pub(super) anew: Arc<Notify>,
    pub(super) publish: watch::Sender<Option<Link>>,
}

impl Keeping {
    /// Dials, publishes, waits for the end, and dials again, until it is dropped.
    pub(super) async fn keep(self) {
        let (server, channel) = (self.server, self.channel);
        let mut delay = self.settings.first_delay;
        loop {
            match self.dial().await {
                Ok((met, stream)) => {
                    let opened = Instant::now();
                    self.stand(met, stream).await;
                    // One that ends at once is as bad as none.
                    delay = if opened.elapsed() >= self.settings.longest_delay {
                        self.settings.first_delay
                    } else {
                        (delay * 2).min(self.settings.longest_delay)
                    };
                }
                Err(error) => {
                    let refused = error.refusal().is_some() || error.revoked();
                    let error = Arc::new(error);
                    self.watcher.noticed(PoolEvent::NotReached {
                        server,
                        channel,
                        error,
                    });
                    delay = if refused {
                        self.settings.refused_delay
                    } else {
                        (delay * 2).min(self.settings.longest_delay)
                    };
                }
            }
            // Whoever hurries is served; so is whoever hurried while the dial was under way. What was refused may not be any more
            // with what is shown now.
            tokio::select! {
                () = sleep(jittered(delay)) => {}
                () = self.hurry.notified() => {}
                () = self.anew.notified() => {}
            }
        }
    }

    async fn dial(&self) -> Result<(Met, PeerStream), DialError> {
        let address = self.address.lock();
        let address = address.unwrap_or_else(PoisonError::into_inner).clone();
        let (purpose, limit) = (self.channel.purpose(), self.settings.dial_time);
        dial(&self.endpoint, self.server, &address, purpose, limit).await
    }

    /// Publishes a connection for as long as it, or one that took its place, stands.
    async fn stand(&self, met: Met, stream: PeerStream) {
        let (server, channel) = (self.server, self.channel);
        let mut link = self.put_in_use(met, stream);
        let end = loop {
            tokio::select! {
                end = link.ended() => break end,
                () = self.anew.notified() => {}
            }
            match self.dial().await {
                Ok((met, stream)) => {
                    let before = std::mem::replace(&mut link, self.put_in_use(met, stream));
                    tokio::spawn(async move {
                        // What was asked on it is answered on it.
                        sleep(SUPERSEDED).await;
                        before.close();
                    });
                }
                Err(error) => {
                    tracing::debug!(%server, ?channel, %error, "a connection was not opened anew: the one before is used");
                }
            }
        };
        self.publish.send_replace(None);
        self.watcher.noticed(PoolEvent::Ended {
            server,
            channel,
            end,
        });
    }

    fn put_in_use(&self, met: Met, stream: PeerStream) -> Link {
        let (server, channel) = (self.server, self.channel);
        self.heard.now();
        let link = Link::open(stream, self.settings.limits, self.heard.clone());
        self.publish.send_replace(Some(link.clone()));
        let introduction = met.introduction;
        self.watcher.noticed(PoolEvent::Met {
            server,
            channel,
            introduction,
        });
        link
    }
}

/// From half of `delay` to all of it, so that servers that lost each other do not dial in step.
fn jittered(delay: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness the delay is merely not spread.
    let _ = rand::fill(&mut byte);
    delay / 2 + delay / 2 * u32::from(byte[0]) / 255
}
