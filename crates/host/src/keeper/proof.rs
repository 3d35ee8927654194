//! The secrets of streams: drawn here, and proved to be known by who resumes.
//!
//! Always true: proofs are compared in constant time, and a secret is wiped when its stream is forgotten.

use aws_lc_rs::hmac;
use model::StreamId;
use wire::client::StreamSecret;
use zeroize::Zeroizing;

/// A stream's name and secret.
pub(crate) struct Drawn {
    pub(crate) stream: StreamId,
    pub(crate) secret: Secret,
}

/// What resumes of one stream are proved with.
pub(crate) struct Secret(Zeroizing<[u8; 32]>);

/// Draws a name and a secret.
///
/// # Errors
/// The system's random source failed.
pub(crate) fn draw() -> Result<Drawn, aws_lc_rs::error::Unspecified> {
    let (mut stream, mut secret) = ([0; 16], Zeroizing::new([0; 32]));
    aws_lc_rs::rand::fill(&mut stream)?;
    aws_lc_rs::rand::fill(secret.as_mut_slice())?;
    Ok(Drawn {
        stream: StreamId::from_bytes(stream),
        secret: Secret(secret),
    })
}

impl Secret {
    /// For the client that the stream was made for.
    pub(crate) fn to_wire(&self) -> StreamSecret {
        StreamSecret(*self.0)
    }

    /// Whether a proof (HMAC-SHA256 over [`tunnel::proof_input`]) was made with this secret.
    pub(crate) fn holds(
        &self,
        proof: &[u8; 32],
        exporter: &[u8; 32],
        stream: StreamId,
        epoch: u64,
        received: u64,
    ) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_slice());
        let input = tunnel::proof_input(exporter, stream.as_bytes(), epoch, received);
        hmac::verify(&key, &input, proof).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_fits_only_what_it_was_made_for() {
        let Drawn { stream, secret } = draw().unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret.to_wire().0);
        let tag = hmac::sign(
            &key,
            &tunnel::proof_input(&[7; 32], stream.as_bytes(), 3, 99),
        );
        let proof: [u8; 32] = tag.as_ref().try_into().unwrap();
        assert!(secret.holds(&proof, &[7; 32], stream, 3, 99));
        assert!(!secret.holds(&proof, &[8; 32], stream, 3, 99));
        assert!(!secret.holds(&proof, &[7; 32], StreamId::from_bytes([0; 16]), 3, 99));
        assert!(!secret.holds(&proof, &[7; 32], stream, 4, 99));
        assert!(!secret.holds(&proof, &[7; 32], stream, 3, 98));
        assert!(!secret.holds(&[0; 32], &[7; 32], stream, 3, 99));
        assert!(
            !draw()
                .unwrap()
                .secret
                .holds(&proof, &[7; 32], stream, 3, 99)
        );
    }
}
