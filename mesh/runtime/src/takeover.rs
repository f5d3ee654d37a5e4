//! `--takeover PATH`: listeners pass from a running program to the next of its kind, over a unix
//! socket, so that a new binary refuses nobody, also where no service manager holds the sockets.
//!
//! The next program has loaded everything before it asks ([`handed`]); the running one gives its
//! listeners away only when the next says that it serves and lives on for a moment ([`offer`]), and
//! drains from then on. Until then both hold them, and whoever connects waits in one line that
//! either may serve. Should the next break off at any point before, the running one has lost
//! nothing. Both ends belong to one user, in a folder that nobody else can write to: listeners are
//! as good as the program itself.

pub(crate) mod handed;
pub(crate) mod offer;
mod pass;

/// The first words of the conversation; another form of it would be another number.
const GREETING: &str = "gapura-takeover 1";

/// The next program serves.
const SERVES: &str = "serves";

/// The running one has stopped accepting.
const GOES: &str = "goes";

/// What the socket of a takeover is itself called among the listeners that pass.
pub(crate) const ITSELF: &str = "takeover";
