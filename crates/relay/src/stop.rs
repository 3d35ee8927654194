//! The signal that a server stops in an orderly way.
//!
//! Once given it stays given; whoever waits or asks later learns of it too.

use tokio::sync::watch;

/// Gives the signal; when it is dropped the signal is given as well.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// Learns of the signal. A cheap clone.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stopper {
    /// A new signal, not given yet.
    pub fn new() -> (Self, Stop) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Stop(receiver))
    }

    /// Gives the signal.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Another who learns of it.
    pub fn listener(&self) -> Stop {
        Stop(self.0.subscribe())
    }
}

impl Stop {
    /// Whether the signal was given.
    pub fn is_given(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Waits for the signal.
    pub async fn given(&mut self) {
        // An error means that the giver is gone, which is the signal too.
        let _ = self.0.wait_for(|given| *given).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_learnt_of_before_and_after_it_was_given() {
        let (stopper, mut early) = Stopper::new();
        assert!(!early.is_given());
        stopper.stop();
        let mut late = stopper.listener();
        early.given().await;
        late.given().await;
        assert!(late.is_given());
    }

    #[tokio::test]
    async fn a_vanished_giver_is_a_signal() {
        let (stopper, mut stop) = Stopper::new();
        drop(stopper);
        stop.given().await;
        assert!(stop.is_given());
    }
}
