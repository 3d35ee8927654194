//! Random changes of the seal key.

use super::*;
use model::trust::{Resealed, SealChange, SealMark, Sealed, TicketKeys};

/// Something that is sealed under one of a few keys, with few nonces: what is sealed anew is found among what there is.
pub(super) fn sealed(key: u8, nonce: u8) -> Sealed {
    let mut bytes = vec![Sealed::VERSION];
    bytes.extend([key; SealMark::LEN]);
    bytes.extend([nonce; 12]);
    bytes.extend([key ^ nonce; 20]);
    Sealed(bytes)
}

pub(super) fn seal_command() -> impl Strategy<Value = Command> {
    let mark = (0..4u8).prop_map(|number| SealMark([number; SealMark::LEN]));
    let begin = (mark.clone(), any::<bool>()).prop_map(|(next, waits)| SealChange::Begin {
        next,
        waits,
        reason: None,
    });
    let overlap = select(&[0, 5_000, 100_000][..]);
    let seal =
        (1..4u8, overlap, any::<u8>()).prop_map(|(next, overlap_ms, public)| SealChange::Seal {
            next: SealMark([next; SealMark::LEN]),
            tickets: TicketKeys {
                public: vec![public; 32],
                key: sealed(next, public),
            },
            overlap_ms,
            unconfirmed: Vec::new(),
        });
    let at = prop_oneof![
        any_secret().prop_map(|secret| SealedAt::Secret(secret.name)),
        any_certificate().prop_map(|one| SealedAt::ExternalKey(one.name)),
    ];
    let one = (at, (1..4u8, 1..3u8), 1..4u8).prop_map(|(at, (before, nonce), key)| Resealed {
        at,
        before: sealed(before, nonce).header().to_vec(),
        sealed: sealed(key, nonce + 8),
    });
    let again = vec(one, 1..6).prop_map(|values| SealChange::Again { values });
    let finish = mark.prop_map(|before| SealChange::Finish { before, lost: 0 });
    prop_oneof![2 => begin, 4 => seal, 3 => again, 4 => finish].prop_map(|change| {
        Command::ChangeSeal {
            change: Box::new(change),
        }
    })
}
