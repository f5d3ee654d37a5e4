//! What travels with a body and hears what becomes of it.
//!
//! A body knows nothing of logs, counts or kept connections: whoever wants to hear of it attaches
//! itself, and is dropped with it, sent or not. Invariant: the end is told at most once, and after
//! it neither bytes nor trailers are.

use gapura_protocol::headers::Stripped;

use super::error::BodyFault;

/// Goes with a body.
pub trait Attachment {
    /// So many bytes have come and go on.
    fn bytes(&mut self, count: u64) {
        let _ = count;
    }

    /// Its reader asks for more, and there is nothing yet.
    fn waits(&mut self) {}

    /// Trailers have come and go on, without those that were taken.
    fn trailers(&mut self, taken: &Stripped) {
        let _ = taken;
    }

    /// The body is over.
    fn ended(&mut self, end: End) {
        let _ = end;
    }
}

/// Sees what passes of a body.
pub trait Reader {
    /// These bytes go on.
    fn data(&mut self, data: &[u8]);

    /// All of it has been read.
    fn whole(self: Box<Self>);
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it was read.
    Whole,
    /// Its time was over: its reader saw an end, its sender was in the middle.
    CutShort,
    /// It broke.
    Broken(BodyFault),
    /// Its reader left before its end.
    Unread,
}

/// Those of one body. One is the rule and costs no list.
#[derive(Default)]
pub(super) struct Attachments {
    first: Option<Box<dyn Attachment>>,
    others: Vec<Box<dyn Attachment>>,
}

impl Attachments {
    pub(super) fn push(&mut self, attachment: Box<dyn Attachment>) {
        if self.first.is_none() {
            self.first = Some(attachment);
        } else {
            self.others.push(attachment);
        }
    }

    pub(super) fn each(&mut self, mut tell: impl FnMut(&mut dyn Attachment)) {
        for attachment in self.first.iter_mut().chain(&mut self.others) {
            tell(&mut **attachment);
        }
    }
}
