//! What a harness that makes choices draws them from: its bytes, front to back. Behind their end every choice is the plainest.

/// Bytes that become choices.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next byte; none at the end.
    pub(crate) fn step(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next byte, zero at the end.
    pub(crate) fn byte(&mut self) -> u8 {
        self.step().unwrap_or(0)
    }

    /// One of several.
    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        let which = usize::from(self.byte()) % choices.len();
        *choices.get(which).expect("invariant: within the choices")
    }

    /// A small number more often than a large one, `u16::MAX` at most.
    pub(crate) fn length(&mut self) -> usize {
        let first = self.byte();
        match first {
            0..0xC0 => usize::from(first),
            _ => usize::from(u16::from_be_bytes([self.byte(), self.byte()])),
        }
    }

    /// A number of eight bytes.
    pub(crate) fn number(&mut self) -> u64 {
        u64::from_be_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// A number at or near `this` more often than any other.
    pub(crate) fn near(&mut self, this: u64) -> u64 {
        match self.byte() {
            0..0x40 => this,
            near @ 0x40..0xC0 => this.wrapping_add_signed(i64::from(near) - 0x80),
            0xC0..0xE0 => self.length() as u64,
            _ => self.number(),
        }
    }

    /// The next bytes, `count` at most.
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// Cuts bytes into pieces whose lengths come from `seed`: some of one byte, some long.
pub(crate) fn pieces(bytes: &[u8], seed: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    // Knuth's multiplier: low bits of one state say nothing of the next.
    let mut state = u64::from(seed) + 1;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let longest = match seed % 4 {
            0 => 1,
            1 => 7,
            2 => 100,
            _ => 5000,
        };
        let count = usize::try_from(state >> 33).map_or(1, |drawn| 1 + drawn % longest);
        let (piece, behind) = rest.split_at(count.min(rest.len()));
        rest = behind;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_up_the_whole() {
        let bytes: Vec<u8> = (0..=255).cycle().take(9000).collect();
        for seed in 0..16 {
            let all: Vec<&[u8]> = pieces(&bytes, seed).collect();
            assert!(all.len() > 1 && all.iter().all(|piece| !piece.is_empty()));
            assert_eq!(all.concat(), bytes);
        }
    }
}
