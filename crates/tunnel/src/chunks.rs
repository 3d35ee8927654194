//! A queue of bytes that keeps large pieces as they came and gathers small ones into blocks.
//!
//! Always true: the memory behind a queue of `n` bytes is in proportion to `n`, even when the bytes came one at a time; a large
//! piece is never copied.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// A piece below this is copied into a block: cheaper than an entry of its own that may pin a much larger buffer.
const SMALL: usize = 4 * 1024;
/// Small pieces are gathered up to this.
const BLOCK: usize = 16 * 1024;

/// Bytes in order, taken from the front, added at the back.
#[derive(Default)]
pub(crate) struct Chunks {
    blocks: VecDeque<Bytes>,
    /// Small pieces after the last block.
    tail: BytesMut,
    len: usize,
}

/// A place in a [`Chunks`] from which reading goes on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    /// Index of a block, or the number of blocks for the tail.
    block: usize,
    within: usize,
}

impl Chunks {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        if bytes.len() >= SMALL {
            self.seal();
            self.blocks.push_back(bytes);
        } else {
            if self.tail.len() + bytes.len() > BLOCK {
                self.seal();
            }
            self.tail.extend_from_slice(&bytes);
        }
    }

    /// Takes the piece at the front, which is never empty.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        if self.blocks.is_empty() {
            self.seal();
        }
        let bytes = self.blocks.pop_front()?;
        self.len -= bytes.len();
        Some(bytes)
    }

    /// Drops `count` bytes at the front, at most as many as there are; `cursor` stays at its byte, which must not be before them.
    pub(crate) fn drop_front(&mut self, count: usize, cursor: &mut Cursor) {
        self.settle(cursor);
        let mut rest = count.min(self.len);
        self.len -= rest;
        while rest > 0 {
            match self.blocks.front_mut() {
                Some(front) if front.len() <= rest => {
                    rest -= front.len();
                    self.blocks.pop_front();
                    cursor.block = cursor.block.saturating_sub(1);
                    continue;
                }
                Some(front) => front.advance(rest),
                None => self.tail.advance(rest.min(self.tail.len())),
            }
            if cursor.block == 0 {
                cursor.within = cursor.within.saturating_sub(rest);
            }
            rest = 0;
        }
    }

    /// The cursor at the byte `position` bytes after the front.
    pub(crate) fn seek(&self, position: usize) -> Cursor {
        let mut cursor = Cursor {
            block: 0,
            within: position,
        };
        self.settle(&mut cursor);
        cursor
    }

    /// Copies the next `count` bytes, as far as there are so many, and moves the cursor behind them.
    pub(crate) fn copy(&self, cursor: &mut Cursor, count: usize, out: &mut BytesMut) {
        let mut rest = count;
        while rest > 0 {
            self.settle(cursor);
            let block = self
                .blocks
                .get(cursor.block)
                .map_or(self.tail.as_ref(), Bytes::as_ref);
            let part = block.get(cursor.within..).unwrap_or_default();
            let part = part.get(..rest).unwrap_or(part);
            if part.is_empty() {
                return;
            }
            out.extend_from_slice(part);
            cursor.within += part.len();
            rest -= part.len();
        }
    }

    /// A cursor behind the end of a block moves to the start of the next.
    fn settle(&self, cursor: &mut Cursor) {
        while let Some(block) = self.blocks.get(cursor.block)
            && cursor.within >= block.len()
        {
            cursor.within -= block.len();
            cursor.block += 1;
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.blocks.push_back(self.tail.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Push(usize),
        Pop,
        Drop(usize),
        Copy(usize),
        Seek(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            prop_oneof![0usize..20, 4000usize..5000].prop_map(Step::Push),
            Just(Step::Pop),
            (0usize..9000).prop_map(Step::Drop),
            (0usize..9000).prop_map(Step::Copy),
            any::<prop::sample::Index>().prop_map(Step::Seek),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_plain_queue_of_bytes(steps in prop::collection::vec(step(), 1..100)) {
            let (mut chunks, mut cursor) = (Chunks::default(), Cursor::default());
            let (mut twin, mut at, mut next) = (VecDeque::new(), 0usize, 0u8);
            for step in steps {
                match step {
                    Step::Push(count) => {
                        let bytes: Vec<u8> = (0..count).map(|_| { next = next.wrapping_add(1); next }).collect();
                        twin.extend(bytes.iter().copied());
                        chunks.push(bytes.into());
                    }
                    Step::Pop => {
                        if let Some(bytes) = chunks.pop() {
                            let expected: Vec<u8> = twin.drain(..bytes.len()).collect();
                            prop_assert_eq!(bytes, expected);
                        } else {
                            prop_assert!(twin.is_empty());
                        }
                        (cursor, at) = (chunks.seek(0), 0);
                    }
                    Step::Drop(count) => {
                        let count = count.min(at);
                        chunks.drop_front(count, &mut cursor);
                        twin.drain(..count);
                        at -= count;
                    }
                    Step::Copy(count) => {
                        let mut out = BytesMut::new();
                        chunks.copy(&mut cursor, count, &mut out);
                        let expected: Vec<u8> = twin.iter().skip(at).take(count).copied().collect();
                        prop_assert_eq!(&out[..], &expected[..]);
                        at += out.len();
                    }
                    Step::Seek(index) => {
                        at = index.index(twin.len() + 1);
                        cursor = chunks.seek(at);
                    }
                }
                prop_assert_eq!(chunks.len(), twin.len());
            }
        }
    }

    #[test]
    fn single_bytes_share_blocks_and_large_pieces_stay_as_they_are() {
        let mut chunks = Chunks::default();
        for _ in 0..BLOCK * 3 {
            chunks.push(Bytes::from_static(b"x"));
        }
        assert!(chunks.blocks.len() <= 3, "{} blocks", chunks.blocks.len());
        let large = Bytes::from(vec![1; SMALL]);
        chunks.push(large.clone());
        while let Some(bytes) = chunks.pop() {
            if chunks.len() == 0 {
                assert_eq!(bytes.as_ptr(), large.as_ptr());
            }
        }
    }
}
