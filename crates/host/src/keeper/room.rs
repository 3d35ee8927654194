//! Memory for reads: little for streams that are idle, much for those that are busy.

use std::io;

use bytes::buf::Limit;
use bytes::{BufMut, Bytes, BytesMut};

/// A read begins with this much room ...
const LEAST_READ: usize = 4 * 1024;
/// ... and gets up to this much while it is filled.
pub(crate) const MOST_READ: usize = 256 * 1024;

/// A buffer for reads that grows with what comes, so that idle streams cost little.
pub(crate) struct Room {
    buffer: BytesMut,
    size: usize,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            size: LEAST_READ,
        }
    }

    /// Reads once, at most `limit` bytes.
    pub(crate) fn read(
        &mut self,
        limit: usize,
        read: impl FnOnce(&mut Limit<&mut BytesMut>) -> io::Result<usize>,
    ) -> io::Result<Option<Bytes>> {
        let wanted = self.size.min(limit);
        self.buffer.reserve(wanted);
        match read(&mut (&mut self.buffer).limit(wanted)) {
            Ok(0) => Ok(None),
            Ok(count) => {
                if count == self.size {
                    self.size = (self.size * 2).min(MOST_READ);
                } else if count < self.size / 4 {
                    self.size = (self.size / 2).max(LEAST_READ);
                }
                Ok(Some(self.buffer.split().freeze()))
            }
            Err(error) => Err(error),
        }
    }

    /// Gives memory back.
    pub(crate) fn rest(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(room: &mut Room, limit: usize, most: usize) -> usize {
        let read = room.read(limit, |buffer| {
            let count = buffer.remaining_mut().min(most);
            buffer.put_bytes(7, count);
            Ok(count)
        });
        read.unwrap().unwrap().len()
    }

    #[test]
    fn it_grows_with_what_comes_and_shrinks_again() {
        let mut room = Room::new();
        let sizes: Vec<usize> = (0..8)
            .map(|_| fill(&mut room, usize::MAX, usize::MAX))
            .collect();
        assert_eq!(sizes[0], LEAST_READ);
        assert_eq!(sizes[7], MOST_READ);
        for _ in 0..8 {
            assert_eq!(fill(&mut room, usize::MAX, 10), 10);
        }
        assert_eq!(fill(&mut room, usize::MAX, usize::MAX), LEAST_READ);
        assert_eq!(
            fill(&mut room, 3, usize::MAX),
            3,
            "never more than there is room for"
        );
    }

    #[test]
    fn an_end_and_an_error_are_told_apart() {
        let mut room = Room::new();
        assert!(room.read(10, |_| Ok(0)).unwrap().is_none());
        assert!(
            room.read(10, |_| Err(io::ErrorKind::WouldBlock.into()))
                .is_err()
        );
    }
}
