//! What a server sees of its client's frames that `h2` answers by itself: floods, and heads that
//! are no requests.
//!
//! In: both directions of a connection, frame by frame, and which streams were handed on. Out:
//! whether the client does too much of what costs it nothing, and the streams that `h2` refused on
//! its own, so that they leave their line.
//!
//! A frame that brings nothing on (a ping, settings, a priority, a reset, DATA without data, a kind
//! that nobody knows) takes from an allowance, which each request, each second of work and the DATA
//! that we send fill up again; a window's update takes from another, which grows with the DATA that
//! we send, since that is what it answers. Envoy and HAProxy bound both; the numbers are wide of
//! any client we know of: Python's `h2` answers each DATA frame with two updates, Firefox opens
//! with six priorities.
//! Invariant: what a client may make us do for nothing is bounded by a constant and by what else it
//! does.

use std::cell::RefCell;
use std::rc::Rc;

use super::frames::{
    CONTINUATION, DATA, END_STREAM, FrameHead, FrameHeads, HEADERS, RST_STREAM, WINDOW_UPDATE,
};

/// One connection's.
pub(super) struct Watch {
    came: FrameHeads,
    went: FrameHeads,
    /// Frames that the client may send for nothing.
    left: u32,
    /// Updates of windows that it may send.
    updates: u64,
    flooded: bool,
    /// The last stream that was handed on.
    accepted: u32,
    refused: Vec<(u32, Refused)>,
    /// The last stream of the client's that has begun.
    begun: u32,
    marked: Marked,
}

/// Streams whose trailers begin with a pseudo-header, which `h2` reads past (RFC 9113, section
/// 8.1). One that is named by its place in the table that the client builds up itself can't be told
/// from another field without a decoder of our own beside `h2`'s: `h2` drops that one, and nothing
/// of it goes on. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Marked(Rc<RefCell<Vec<u32>>>);

/// How `h2` refused a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// By a reset: its head is malformed.
    Malformed,
    /// By a bare 431.
    TooLarge,
}

/// The client's preface, before its first frame.
const PREFACE: usize = 24;

/// Frames for nothing at once.
const BURST: u32 = 1000;

/// And so many more with each request,
const PER_REQUEST: u32 = 10;

/// with each second in which something is under way,
const PER_SECOND: u32 = 10;

/// and with each frame of DATA that we send: gRPC's clients measure the line by a ping whenever
/// some has come.
const PER_DATA: u32 = 2;

/// Updates of windows for each frame of DATA that we send: one of the stream's and one of the
/// connection's, with room.
const UPDATES_PER_DATA: u64 = 10;

/// Refusals that wait to be told of: as many faults as `h2` answers before it ends the connection.
const REFUSED_MOST: usize = 1024;

/// More than a client may have open at once; those whose trailers nobody reads are not forgotten.
const MARKED_MOST: usize = 1024;

/// The code of a reset over a malformed message (RFC 9113, section 7).
const PROTOCOL_ERROR: u32 = 1;

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            came: FrameHeads::behind(PREFACE),
            went: FrameHeads::behind(0),
            left: BURST,
            updates: u64::from(BURST),
            flooded: false,
            accepted: 0,
            refused: Vec::new(),
            begun: 0,
            marked: Marked::default(),
        }
    }

    /// The streams whose trailers are none, for who reads them.
    pub(super) fn marked(&self) -> Marked {
        self.marked.clone()
    }

    /// These bytes came from the client.
    pub(super) fn came(&mut self, bytes: &[u8]) {
        let (left, updates, flooded) = (&mut self.left, &mut self.updates, &mut self.flooded);
        let (begun, marked) = (&mut self.begun, &self.marked);
        self.came.read(bytes, |head| {
            let paid = match head.kind {
                HEADERS => {
                    if head.stream > *begun {
                        *begun = head.stream;
                    } else if head.is_pseudo {
                        marked.mark(head.stream);
                    }
                    *left = (*left + PER_REQUEST).min(BURST);
                    *updates += u64::from(PER_REQUEST);
                    true
                }
                // `h2` counts those itself.
                CONTINUATION => true,
                DATA if head.length > 0 || head.flags & END_STREAM != 0 => true,
                WINDOW_UPDATE => take(updates),
                _ => take(left),
            };
            *flooded |= !paid;
        });
    }

    /// These bytes go to the client.
    pub(super) fn went(&mut self, bytes: &[u8]) {
        let (updates, left) = (&mut self.updates, &mut self.left);
        let (accepted, refused) = (self.accepted, &mut self.refused);
        self.went.read(bytes, |head| {
            let FrameHead {
                kind, stream, code, ..
            } = head;
            let how = match kind {
                DATA => {
                    *updates += UPDATES_PER_DATA;
                    *left = (*left + PER_DATA).min(BURST);
                    return;
                }
                // What was not handed on was answered by nobody else.
                HEADERS if stream > accepted => Refused::TooLarge,
                RST_STREAM if stream > accepted && code == PROTOCOL_ERROR => Refused::Malformed,
                _ => return,
            };
            let is_known = refused.last().is_some_and(|(known, _)| *known == stream);
            if !is_known && refused.len() < REFUSED_MOST {
                refused.push((stream, how));
            }
        });
    }

    /// A second has passed in which something was under way.
    pub(super) fn a_second_passed(&mut self) {
        self.left = (self.left + PER_SECOND).min(BURST);
    }

    /// This stream was handed on: whatever was wrong with it is told there.
    pub(super) fn accepted(&mut self, stream: u32) {
        self.accepted = stream;
        if !self.refused.is_empty() {
            self.refused.retain(|(known, _)| *known != stream);
        }
    }

    /// The streams that `h2` refused since the last time. To be asked once all that came has been
    /// handed on.
    pub(super) fn take_refused(&mut self) -> Vec<(u32, Refused)> {
        std::mem::take(&mut self.refused)
    }

    /// Whether the client has done too much for nothing.
    pub(super) fn is_flooded(&self) -> bool {
        self.flooded
    }
}

impl Marked {
    fn mark(&self, stream: u32) {
        let mut marked = self.0.borrow_mut();
        if marked.len() < MARKED_MOST && !marked.contains(&stream) {
            marked.push(stream);
        }
    }

    /// Whether it is one of them; it is forgotten then.
    pub(super) fn take(&self, stream: u32) -> bool {
        let mut marked = self.0.borrow_mut();
        let known = marked.iter().position(|known| *known == stream);
        known.is_some_and(|at| marked.swap_remove(at) == stream)
    }
}

/// Takes one, if one is left.
fn take<N: Copy + PartialEq + From<u8> + std::ops::SubAssign>(left: &mut N) -> bool {
    let paid = *left != N::from(0);
    if paid {
        *left -= N::from(1);
    }
    paid
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::frame;

    /// A connection behind its preface.
    fn begun() -> Watch {
        let mut watch = Watch::new();
        watch.came(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        watch
    }

    #[test]
    fn each_kind_for_nothing_has_its_end_and_a_body_has_none() {
        for (kind, flags, payload) in [
            (6, 0, &[0; 8][..]),
            (6, 1, &[0; 8]),
            (4, 0, &[]),
            (4, 1, &[]),
            (2, 0, &[0; 5]),
            (3, 0, &[0; 4]),
            (0, 0, &[]),
            (0xbe, 0, &[]),
            (WINDOW_UPDATE, 0, &[0, 0, 0, 1]),
        ] {
            let mut watch = begun();
            let one = frame(kind, flags, 0, payload);
            (0..BURST).for_each(|_| watch.came(&one));
            assert!(!watch.is_flooded(), "kind {kind}");
            watch.came(&one);
            assert!(watch.is_flooded(), "kind {kind}");
        }
        let mut watch = begun();
        (0..BURST * 3).for_each(|_| watch.came(&frame(DATA, 0, 1, b"x")));
        assert!(!watch.is_flooded());
    }

    #[test]
    fn trailers_that_begin_with_a_pseudo_header_are_marked_and_a_request_is_not() {
        let mut watch = begun();
        let marked = watch.marked();
        for (stream, block) in [
            (1, &[0x82][..]),
            (3, &[0x82]),
            (3, &[0x82]),
            (1, b"\x00\x01x\x011"),
        ] {
            watch.came(&frame(HEADERS, 4, stream, block));
        }
        assert!(!marked.take(1) && marked.take(3) && !marked.take(3));
    }

    #[test]
    fn requests_time_and_data_fill_up_again() {
        let mut watch = begun();
        let (ping, update) = (
            frame(6, 0, 0, &[0; 8]),
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        );
        for _ in 0..BURST {
            watch.came(&frame(HEADERS, 5, 1, b""));
            (0..PER_REQUEST).for_each(|_| watch.came(&ping));
        }
        (0..BURST - PER_REQUEST).for_each(|_| watch.came(&ping));
        for _ in 0..100 {
            watch.a_second_passed();
            (0..PER_SECOND).for_each(|_| watch.came(&ping));
        }
        for _ in 0..BURST * 3 {
            watch.went(&frame(DATA, 0, 1, b"x"));
            (0..2).for_each(|_| watch.came(&update));
            watch.came(&ping);
        }
        assert!(!watch.is_flooded());
        (0..BURST).for_each(|_| watch.came(&ping));
        watch.came(&ping);
        assert!(watch.is_flooded());
    }

    #[test]
    fn what_was_refused_without_us_is_told_once_and_what_was_handed_on_is_not() {
        let mut watch = begun();
        let reset = |stream, code: u32| frame(RST_STREAM, 0, stream, &code.to_be_bytes());
        watch.accepted(1);
        watch.went(&reset(1, 1));
        watch.went(&frame(HEADERS, 4, 1, b""));
        watch.went(&reset(3, 1));
        watch.went(&frame(HEADERS, 4, 5, b""));
        watch.went(&reset(5, 1));
        watch.went(&reset(7, 1));
        watch.went(&reset(9, 7));
        watch.accepted(7);
        assert_eq!(
            watch.take_refused(),
            [(3, Refused::Malformed), (5, Refused::TooLarge)]
        );
        assert!(watch.take_refused().is_empty());
    }
}
