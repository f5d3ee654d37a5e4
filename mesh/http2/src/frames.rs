//! The heads of frames as they pass, read beside `h2`, which answers some of them without telling its user.
//!
//! In: the bytes of one direction, cut anywhere. Out: each frame's head, once, in order. Of a payload no more is looked at than the
//! code of a reset, and nothing is kept. Invariant: however the bytes are cut, the heads are the same.

/// What a frame says before its payload (RFC 9113, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    /// Bytes of payload.
    pub(super) length: u32,
    /// Of a reset, why; 0 for others.
    pub(super) code: u32,
}

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Of DATA and HEADERS.
pub(super) const END_STREAM: u8 = 1;

/// Bytes of a head.
const HEAD: usize = 9;

/// And of a reset with its code.
const RESET: usize = HEAD + 4;

/// Reads one direction.
#[derive(Debug)]
pub(super) struct FrameHeads {
    /// The beginning of a frame that has not all come.
    begun: [u8; RESET],
    have: usize,
    /// Bytes to pass over.
    skip: usize,
}

impl FrameHeads {
    /// Of a direction whose frames begin behind `skip` bytes.
    pub(super) fn behind(skip: usize) -> Self {
        Self {
            begun: [0; RESET],
            have: 0,
            skip,
        }
    }

    /// Reads on.
    pub(super) fn read(&mut self, mut bytes: &[u8], mut each: impl FnMut(FrameHead)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let passed = self.skip.min(bytes.len());
                self.skip -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            let wanted = self.wanted();
            let taken = (wanted - self.have).min(bytes.len());
            self.begun[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == self.wanted() {
                let head = self.head();
                let length = usize::try_from(head.length).unwrap_or(usize::MAX);
                self.skip = length.saturating_sub(self.have - HEAD);
                self.have = 0;
                each(head);
            }
        }
    }

    /// Bytes that this frame is read to.
    fn wanted(&self) -> usize {
        if self.have < HEAD || self.begun[3] != RST_STREAM || self.begun[..3] != [0, 0, 4] {
            HEAD
        } else {
            RESET
        }
    }

    fn head(&self) -> FrameHead {
        let number = |at: usize| {
            let bytes = &self.begun[at..at + 4];
            bytes
                .iter()
                .fold(0_u32, |number, byte| number << 8 | u32::from(*byte))
        };
        FrameHead {
            kind: self.begun[3],
            flags: self.begun[4],
            stream: number(5) & 0x7fff_ffff,
            length: number(0) >> 8,
            code: if self.have == RESET { number(HEAD) } else { 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::frame;
    use proptest::prelude::*;

    fn heads(skip: usize, pieces: &[&[u8]]) -> Vec<FrameHead> {
        let (mut reader, mut heads) = (FrameHeads::behind(skip), Vec::new());
        for piece in pieces {
            reader.read(piece, |head| heads.push(head));
        }
        heads
    }

    #[test]
    fn a_reset_tells_its_code_and_others_their_length() {
        let mut bytes = b"PRI".to_vec();
        bytes.extend(frame(DATA, END_STREAM, 7, b"seven"));
        bytes.extend(frame(RST_STREAM, 0, 0x8000_0009, &[0, 0, 1, 2]));
        bytes.extend(frame(RST_STREAM, 0, 11, &[0, 0, 1, 2, 3]));
        bytes.extend(frame(4, 1, 0, &[]));
        let head = |kind, flags, stream, length, code| FrameHead {
            kind,
            flags,
            stream,
            length,
            code,
        };
        let wanted = [
            head(DATA, END_STREAM, 7, 5, 0),
            head(RST_STREAM, 0, 9, 4, 0x102),
            head(RST_STREAM, 0, 11, 5, 0),
            head(4, 1, 0, 0, 0),
        ];
        assert_eq!(heads(3, &[&bytes]), wanted);
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_heads_are_the_same(
            frames in prop::collection::vec((0_u8..12, any::<u8>(), 0_u32..9, 0_usize..40), 0..12),
            cuts in prop::collection::vec(1_usize..30, 1..40),
        ) {
            let mut bytes = vec![7; 24];
            for (kind, flags, stream, length) in &frames {
                bytes.extend(frame(*kind, *flags, *stream, &vec![1; *length]));
            }
            let mut pieces = Vec::new();
            let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                pieces.push(piece);
                rest = behind;
            }
            let read = heads(24, &pieces);
            prop_assert_eq!(read.len(), frames.len());
            prop_assert_eq!(read, heads(24, &[&bytes]));
        }
    }
}
