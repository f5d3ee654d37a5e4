//! What a CA server and an agent must agree on: where things are asked for, and how each thing that
//! passes between them is written.
//!
//! Enrolling and renewing are EST (RFC 7030 as RFC 8951 mends it): `cacerts`, `simpleenroll` with a
//! [`token::JoinToken`] as its HTTP authentication, `simplereenroll` over mutual TLS. Roots and
//! CRLs come as one [`news::TrustNews`], every refusal as one [`refusal::Refused`]. In: bytes from
//! the other end. Out: values that hold no nonsense. Nothing here opens a socket, reads a file,
//! signs, or decides who gets what.

pub mod authorization;
pub mod news;
pub mod paths;
pub mod payload;
pub mod pkcs7;
pub mod refusal;
pub mod token;
