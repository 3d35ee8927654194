//! How a new path takes the place of an old one: epochs, and what the proof is computed over.
//!
//! The client opens a new connection and asks for its stream with `{stream, epoch, received, proof}`. In this order:
//!
//! 1. The keeper's side computes the proof itself, over [`proof_input`] with the secret that was issued inside the first connection, and
//!    compares in constant time. Both computations are the callers': no cryptography here.
//! 2. [`EpochGate::admit`] looks at the epoch, with the outcome of 1.
//! 3. [`Stream::check_resume`](crate::Stream::check_resume), and then [`Stream::path_replaced`](crate::Stream::path_replaced), look at `received`.
//! 4. Only now the old connection is dropped, and the answer says what the keeper has received.
//!
//! Always true: an attempt without the secret changes nothing, an admitted epoch is never admitted again, and an answer that got lost
//! is repaired by asking again with a higher epoch.

/// Length of [`proof_input`], in bytes.
pub const PROOF_INPUT: usize = DOMAIN.len() + 32 + 16 + 8 + 8;

/// Says what the rest is, so that a proof fits nothing else that is ever computed with the secret.
const DOMAIN: &[u8; 24] = b"stead tunnel resume v1\0\0";

/// The bytes that the proof of a resume is computed over: a domain of 24 bytes, the exporter of the TLS connection that asks (so that the
/// proof is worth nothing on another one), the stream, the epoch and the client's received offset, numbers big-endian.
///
/// This is a wire format: a change needs a new domain.
pub fn proof_input(
    exporter: &[u8; 32],
    stream_id: &[u8; 16],
    epoch: u64,
    received: u64,
) -> [u8; PROOF_INPUT] {
    let mut input = [0; PROOF_INPUT];
    let (epoch, received) = (epoch.to_be_bytes(), received.to_be_bytes());
    let parts: [&[u8]; 5] = [DOMAIN, exporter, stream_id, &epoch, &received];
    for (place, byte) in input.iter_mut().zip(parts.into_iter().flatten()) {
        *place = *byte;
    }
    input
}

/// Why a resume was refused. The old path goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResumeRefused {
    /// The proof does not fit.
    #[error("the proof does not hold")]
    BadProof,
    /// The epoch was used before: a repeated or belated request.
    #[error("epoch {epoch} is not above {last}, the last one admitted")]
    StaleEpoch {
        /// The epoch asked for.
        epoch: u64,
        /// The last epoch admitted.
        last: u64,
    },
}

/// The epochs of one stream at the client, which chooses them. The first connection has epoch 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EpochCounter {
    last: u64,
}

impl EpochCounter {
    /// The epoch for the next attempt to resume; every attempt, answered or not, takes a new one.
    ///
    /// # Panics
    /// After 2^64 attempts.
    #[expect(
        clippy::should_implement_trait,
        reason = "an endless counter is no iterator"
    )]
    pub fn next(&mut self) -> u64 {
        self.last = self
            .last
            .checked_add(1)
            .expect("invariant: nobody resumes 2^64 times");
        self.last
    }

    /// Epochs so far: how often a resume was tried.
    pub fn last(self) -> u64 {
        self.last
    }
}

/// The epochs of one stream at the keeper, which admits them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EpochGate {
    last: u64,
}

impl EpochGate {
    /// Admits a resume whose proof holds and whose epoch is above every admitted one. Epochs may be left out: their requests got lost.
    ///
    /// # Errors
    /// Why it is refused; nothing has changed then. A bad proof is told before anything about epochs is.
    pub fn admit(&mut self, epoch: u64, proof_holds: bool) -> Result<(), ResumeRefused> {
        if !proof_holds {
            return Err(ResumeRefused::BadProof);
        }
        if epoch <= self.last {
            return Err(ResumeRefused::StaleEpoch {
                epoch,
                last: self.last,
            });
        }
        self.last = epoch;
        Ok(())
    }

    /// The last epoch admitted; 0 is the first connection.
    pub fn last(self) -> u64 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_proof_is_over_these_bytes() {
        let input = proof_input(&[0xaa; 32], &[0xbb; 16], 0x0102, 0x0304);
        let expected: [&[u8]; 5] = [
            b"stead tunnel resume v1\0\0",
            &[0xaa; 32],
            &[0xbb; 16],
            &[0, 0, 0, 0, 0, 0, 1, 2],
            &[0, 0, 0, 0, 0, 0, 3, 4],
        ];
        assert_eq!(input.as_slice(), expected.concat());
    }

    #[test]
    fn a_lost_answer_is_repaired_by_a_higher_epoch() {
        let (mut client, mut keeper) = (EpochCounter::default(), EpochGate::default());
        let first = client.next();
        assert_eq!(keeper.admit(first, true), Ok(()));
        assert_eq!(
            keeper.admit(first, true),
            Err(ResumeRefused::StaleEpoch { epoch: 1, last: 1 })
        );
        assert_eq!(keeper.admit(client.next(), true), Ok(()));
    }

    #[test]
    fn a_bad_proof_changes_nothing() {
        let mut keeper = EpochGate::default();
        assert_eq!(keeper.admit(u64::MAX, false), Err(ResumeRefused::BadProof));
        assert_eq!(keeper.admit(0, false), Err(ResumeRefused::BadProof));
        assert_eq!(keeper, EpochGate::default());
        assert_eq!(keeper.admit(1, true), Ok(()));
    }

    proptest! {
        #[test]
        fn admitted_epochs_rise(asked in prop::collection::vec((0u64..50, any::<bool>()), 0..100)) {
            let mut gate = EpochGate::default();
            let mut admitted = vec![0];
            for (epoch, holds) in asked {
                let fits = holds && admitted.last().is_some_and(|last| epoch > *last);
                prop_assert_eq!(gate.admit(epoch, holds).is_ok(), fits);
                if fits {
                    admitted.push(epoch);
                }
            }
        }

        #[test]
        fn every_part_of_the_proof_counts(a in any::<([u8; 32], [u8; 16], u64, u64)>(), b in any::<([u8; 32], [u8; 16], u64, u64)>()) {
            let (x, y) = (proof_input(&a.0, &a.1, a.2, a.3), proof_input(&b.0, &b.1, b.2, b.3));
            prop_assert_eq!(x == y, a == b);
        }
    }
}
