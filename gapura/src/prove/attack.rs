//! What an attack is: an id, what it tries, the probes that try it, and how it is told whether it
//! was held.
//!
//! Everything here is data. A text may hold placeholders, which `fill.rs` knows: `{mount}`,
//! `{host}`, `{mark}`, `{auth}` (the line with the good token), `{good}`, `{other}` (tokens),
//! `{10k}`. The canary is the word `spoofed`.

use super::forge::Forgery;

/// Fields, in order.
pub(super) type Fields = &'static [(&'static str, &'static str)];

/// One attack of the catalogue.
pub(super) struct Attack {
    /// `H1`, `F9`: a name for good.
    pub(super) id: &'static str,
    /// What it tries, in a few words.
    pub(super) tries: &'static str,
    /// By which rule it is judged.
    pub(super) expect: Expect,
    /// How it is tried.
    pub(super) by: By,
}

/// How an attack is tried.
pub(super) enum By {
    /// Each probe on a connection of its own.
    Shots(&'static [Probe]),
    /// With tokens made from the one that was given.
    Tokens(&'static [Forgery]),
    /// By connections that never get done, which are opened first and looked at last.
    Slow,
    /// By very many frames; takes `--floods`.
    Flood(Flood),
    /// From the sidecar's other side; takes `--sidecar`.
    Sidecar(Knock),
    /// By asking the plugin where it listens.
    Plugin,
    /// Not from outside, and why.
    Nothing(&'static str),
}

/// One way to try it.
pub(super) struct Probe {
    /// Which one this is, in a few words.
    pub(super) what: &'static str,
    /// What is sent.
    pub(super) send: Send,
}

/// What is sent. Where nothing else is said it is a GET of `{mount}/{mark}` with the good token,
/// over both versions of HTTP.
pub(super) enum Send {
    /// With these fields too.
    Fields(Fields),
    /// Of another target.
    Target(&'static str),
    /// With another method.
    Method(&'static str),
    /// A POST of a small body, then these trailers.
    Trailers(Fields),
    /// Exactly these bytes, over HTTP/1.1 alone.
    Raw(&'static str),
    /// Exactly these fields, over HTTP/2 alone, and what follows them.
    Head(Fields, Then),
}

/// What follows a head over HTTP/2.
#[derive(Clone, Copy)]
pub(super) enum Then {
    /// Nothing: the head ends the stream.
    End,
    /// A body, which ends it.
    Body(&'static str),
    /// A body, then trailers that do not end it.
    OpenTrailers(Fields),
}

/// The rule by which a shot is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// It may pass, but the plugin sees the identity of the token and nothing else, and no canary.
    Clean,
    /// It does not reach the plugin.
    Refused,
    /// It may pass, in a form in which no two readers differ about the path.
    OneForm,
    /// It may pass, with the path that the plain spelling has.
    SamePath,
    /// It is one request at most: what hides in it reaches nobody.
    Once,
    /// Nothing is switched to, and nothing of the wish reaches the plugin.
    NoSwitch,
    /// The answer bears nothing that is internal.
    CleanAnswer,
    /// The request on the same connection that is somebody else's is judged as theirs.
    EachItsOwn,
    /// Others are served all the while, and the offender is not for ever.
    Others,
}

/// Floods, each by its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flood {
    /// Streams that are reset as soon as they are opened.
    RapidReset,
    /// Header blocks without end, empty frames, pings and settings without end, and heads that grow
    /// when they are unpacked.
    Frames,
}

/// Who knocks at the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knock {
    /// Nobody that can be named: no certificate, a greeting in two records, no server name.
    Nameless,
    /// The same over each protocol that is on offer.
    EachProtocol,
    /// Somebody with a gateway's name that another authority wrote.
    Impostor,
}

pub(super) const fn probe(what: &'static str, send: Send) -> Probe {
    Probe { what, send }
}

pub(super) const fn shots(
    id: &'static str,
    tries: &'static str,
    expect: Expect,
    probes: &'static [Probe],
) -> Attack {
    Attack {
        id,
        tries,
        expect,
        by: By::Shots(probes),
    }
}
