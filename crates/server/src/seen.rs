//! The group as this server sees it now, in the form in which policies ask.

use crate::clock;
use crate::node::Node;
use model::{KeyMark, ServerId, UnixMillis};
use peer::identity::CertificateFacts;
use policy::failback::Outlook;
use policy::voting;
use policy::{Explanation, Peer, View};
use replica::Status;
use std::collections::BTreeMap;
use std::sync::PoisonError;

impl Node {
    /// What is known of the other members.
    pub(crate) fn seen(&self) -> BTreeMap<ServerId, Peer> {
        let heard = self.heard().into_iter().map(|(server, heard)| {
            let silent_for = heard.last_seen_ms.map(std::time::Duration::from_millis);
            let clock_offset_ms = heard.clock_offset_ms;
            (
                server,
                Peer {
                    reachable: heard.reachable,
                    silent_for,
                    lag: heard.lag_changes,
                    clock_offset_ms,
                    elsewhere: heard.elsewhere.is_some(),
                },
            )
        });
        let mut seen: BTreeMap<ServerId, Peer> = heard.collect();
        // A leader knows better than reports how far the others are.
        let status = self.0.replica.status();
        for (server, progress) in &status.progress {
            if let (Some(peer), Some(matched)) = (seen.get_mut(server), progress.matched) {
                peer.lag = Some(status.last_entry.saturating_sub(matched));
            }
        }
        seen
    }

    /// Asks something of the group as this server sees it.
    pub(crate) fn with_view<T>(&self, ask: impl FnOnce(&View<'_>) -> T) -> T {
        let directory = self.directory();
        let (peers, status) = (self.seen(), self.0.replica.status());
        let counted = policy::view::counted(&directory, &status.voters);
        ask(&View {
            directory: &directory,
            me: self.me(),
            calendar: clock::calendar(),
            leader: self.leader(),
            acting: status.acting.is_yes(),
            voters: &counted,
            joint: &status.joint,
            peers: &peers,
        })
    }

    /// What the group can still lose, in figures and in words.
    pub fn protection(&self) -> policy::Protection {
        self.with_view(policy::losses::protection)
    }

    /// What becomes of the original primary, as this server saw it last. Only a primary that acts looks.
    pub(crate) fn outlook(&self) -> Outlook {
        let outlook = self.0.outlook.lock();
        outlook.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_outlook(&self, outlook: Outlook) {
        *self
            .0
            .outlook
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = outlook;
    }

    /// Why a server is not primary now.
    pub fn why_not(&self, server: ServerId) -> Explanation {
        self.with_view(|view| policy::why_not::why_not(view, server))
    }

    /// Who is primary and why, as last decided.
    pub fn explain(&self) -> Explanation {
        let decided = self
            .0
            .decision
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        decided.unwrap_or_else(|| self.with_view(policy::why_not::who_is_primary))
    }

    /// Keeps a decision to be explained.
    pub(crate) fn decided(&self, explanation: Explanation) {
        *self
            .0
            .decision
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(explanation);
    }

    /// How far the others are, for arranging who counts.
    pub(crate) fn progress(&self, status: &Status) -> BTreeMap<ServerId, voting::Progress> {
        let lease = self.directory().settings().grace_period();
        let progress = |(server, progress): (&ServerId, &replica::Progress)| {
            let healthy = progress.heard.is_some_and(|heard| heard.ago() <= lease);
            let lag = progress
                .matched
                .map(|matched| status.last_entry.saturating_sub(matched));
            (
                *server,
                voting::Progress {
                    healthy,
                    lag,
                    incarnation: self.0.peers.incarnation(*server),
                },
            )
        };
        status.progress.iter().map(progress).collect()
    }

    /// The key of this server's peer certificate.
    pub(crate) fn peer_key(&self) -> KeyMark {
        let facts = CertificateFacts::read(&self.trust().peer.certificate);
        facts.map_or_else(|_| KeyMark::default(), |facts| facts.key)
    }

    /// When this server's peer certificate expires.
    pub(crate) fn certificate_expires(&self) -> UnixMillis {
        let facts = CertificateFacts::read(&self.trust().peer.certificate);
        facts.map_or(UnixMillis(0), |facts| facts.not_after)
    }
}
