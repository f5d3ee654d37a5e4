//! Every promise of the contract that can be held to the built programs from outside, one file a
//! promise.
//! See `tests/harness` for what they are held with, and `tests/run` for how to run them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // that is how a test fails
#![allow(clippy::print_stdout)] // and how one says what it could not try

mod admin; // what the operator's side shows, and to whom
mod alarms; // what each alarm and each code means is written down
mod architecture; // which room may know which
mod bodies; // streaming, trailers, early and missing ends
mod canary; // another upstream for some companies, and copies for comparison
mod check; // plugin files by themselves, and beside what is in force
mod clients; // clients that no one here wrote
mod corpora; // what fuzzing has kept
mod crowds; // many clients, and silent ones, keep nobody else out
mod door; // how clients come in
mod drain; // going down without losing a request
mod enrol; // certificates reach hosts by themselves
mod envelope; // plugins that do not answer as all do
mod fairness; // a stalled stream delays no other
mod figures; // what is promised in numbers, measured by hand
mod floods; // who does too much is ended, and nobody else notices
mod framing; // which HTTP/1.1 is unambiguous
mod grpc; // refusals and deadlines as gRPC's clients read them
mod h2cases; // the cases of h2spec, by number
mod headers; // who may say what
mod hints; // what may come before an answer
mod hop; // who may speak to a sidecar
mod http2; // the same rules over HTTP/2
mod inside; // several programs in one process, and other times
mod instances; // several instances of one plugin
mod issuers; // whose keys count, and for which companies
mod judgement; // which certificate is let in: verify, a start and a handshake agree
mod logouts; // what an OpenID provider tells of
mod logs; // one line a request, and never a secret
mod memory; // what streams and idle programs hold
mod neighbours; // beside a flood all others are served, and the memory comes back
mod openapi; // the plugins' contracts, merged and compared
mod overload; // one company floods, and no other notices
mod page; // the operator's page
mod pages; // pages of other origins, and their WebSockets
mod paths; // one form of every path
mod permissions; // who may do what
mod pki; // certificates over the years
mod plugin_test; // does a plugin keep companies apart
mod plugins; // what a plugin may say, good and bad
mod prove; // the known attacks at our own door, and at one that leaks
mod rate_limits; // how much one company may send
mod registry; // plugins.d while it changes
mod restarts; // what outlasts one
mod routes; // mounts, modes, and the gateway's own paths
mod siege; // all loads at once, by hand
mod signature; // plain http upstreams
mod spans; // where a request's time went, as a collector gets it
mod stack; // the whole of it in containers
mod standing; // who is no longer welcome
mod start_up; // good and bad configuration
mod streams; // what lasts goes on where it began
mod sums; // what is held in all, and what follows for the containers
mod systemd; // what a service manager is told
mod takeover; // the next program takes the listeners over
mod tap; // finished requests, live, for who may look
mod threats; // the threat model names tests that exist
mod timeouts; // every wait has an end
mod tokens; // a good token, and all the others
mod trust; // new certificates and CRLs while running
mod up; // the whole mesh on one machine, as a stranger meets it
mod upgrades; // WebSocket and nothing else
mod uploads; // refused while they still come
mod upstream; // which connection, for how long, and what is sent twice
mod world; // the larger pieces of other people's software
mod wrap; // a plugin and its sidecar as one
