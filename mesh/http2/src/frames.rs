//! The heads of frames as they pass, read beside `h2`, which answers some of them without telling
//! its user.
//!
//! In: the bytes of one direction, cut anywhere. Out: each frame's head, once, in order. Of a
//! payload no more is looked at than the code of a reset and how a block of fields begins, and
//! nothing is kept. Invariant: however the bytes are cut, the heads are the same.

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
    /// Of a block of fields: its first one is a pseudo-header, as far as the block alone tells. One
    /// that refers to what came before on the connection does not.
    pub(super) is_pseudo: bool,
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

/// The code of a reset.
const CODE: usize = 4;

/// Of a block of fields: padding and priority in front, a representation, the length of a name and
/// its first byte.
const FIELD: usize = 1 + 5 + 3;

/// Of HEADERS.
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// Reads one direction.
#[derive(Debug)]
pub(super) struct FrameHeads {
    /// The beginning of a frame that has not all come.
    begun: [u8; HEAD + FIELD],
    have: usize,
    /// Bytes to pass over.
    skip: usize,
}

impl FrameHeads {
    /// Of a direction whose frames begin behind `skip` bytes.
    pub(super) fn behind(skip: usize) -> Self {
        Self {
            begun: [0; HEAD + FIELD],
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
        if self.have < HEAD {
            return HEAD;
        }
        match self.begun[3] {
            RST_STREAM if self.length() == 4 => HEAD + CODE,
            HEADERS => HEAD + FIELD.min(usize::try_from(self.length()).unwrap_or(FIELD)),
            _ => HEAD,
        }
    }

    fn length(&self) -> u32 {
        self.number(0) >> 8
    }

    fn number(&self, at: usize) -> u32 {
        let bytes = &self.begun[at..at + 4];
        bytes
            .iter()
            .fold(0_u32, |number, byte| number << 8 | u32::from(*byte))
    }

    fn head(&self) -> FrameHead {
        let (kind, flags) = (self.begun[3], self.begun[4]);
        FrameHead {
            kind,
            flags,
            stream: self.number(5) & 0x7fff_ffff,
            length: self.length(),
            code: if kind == RST_STREAM && self.have == HEAD + CODE {
                self.number(HEAD)
            } else {
                0
            },
            is_pseudo: kind == HEADERS && is_pseudo(flags, &self.begun[HEAD..self.have]),
        }
    }
}

/// Whether the first field of a block has a name that begins with a colon (RFC 7541, section 6 and
/// appendices A and B).
fn is_pseudo(flags: u8, payload: &[u8]) -> bool {
    let before = usize::from(flags & PADDED != 0) + if flags & PRIORITY != 0 { 5 } else { 0 };
    let block = payload.get(before..).unwrap_or_default();
    let Some(first) = block.first() else {
        return false;
    };
    // The static table begins with them: 14 of them.
    let is_known = |index: u8| (1..=14).contains(&index);
    let index = match first {
        0x80.. => return is_known(first & 0x7f),
        0x40..0x80 => first & 0x3f,
        0x20..0x40 => return false, // a new size of the table
        _ => first & 0x0f,
    };
    match (index, block.get(1), block.get(2)) {
        (0, Some(length), Some(sign)) if length & 0x80 == 0 => *sign == b':',
        // In Huffman's code a colon is 1011100.
        (0, Some(_), Some(sign)) => sign >> 1 == 0b101_1100,
        _ => is_known(index),
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
            is_pseudo: false,
        };
        let wanted = [
            head(DATA, END_STREAM, 7, 5, 0),
            head(RST_STREAM, 0, 9, 4, 0x102),
            head(RST_STREAM, 0, 11, 5, 0),
            head(4, 1, 0, 0, 0),
        ];
        assert_eq!(heads(3, &[&bytes]), wanted);
    }

    #[test]
    fn a_block_that_begins_with_a_pseudo_header_is_known_in_each_form_but_by_what_came_before() {
        let is =
            |flags: u8, block: &[u8]| heads(0, &[&frame(HEADERS, flags, 3, block)])[0].is_pseudo;
        for block in [
            &[0x82][..],
            &[0x8e],
            &[0x44, 1, b'/'],
            &[0x04, 1, b'/'],
            &[0x14, 1, b'/'],
            b"\x00\x05:path\x01/",
            b"\x40\x05:path\x01/",
            b"\x10\x05:path\x01/",
            &[0x00, 0x84, 0xb9, 0x58, 0xd3, 0x3f],
        ] {
            assert!(is(4, block), "{block:?}");
        }
        assert!(is(4 | PADDED | PRIORITY, &[0, 0, 0, 0, 3, 7, 0x82]));
        for block in [
            &[][..],
            &[0x8f],
            &[0xbe],
            &[0x7e, 1, b'/'],
            &[0x0f, 0x30, 1, b'7'],
            b"\x00\x01x\x011",
            &[0x00, 0x84, 0xf2, 0xb2, 0x4a, 0x84],
            &[0x3f, 0xe1, 0x1f, 0x82],
        ] {
            assert!(!is(4, block), "{block:?}");
        }
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
