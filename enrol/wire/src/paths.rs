//! Where a CA server is asked for what, and how much either end takes. The one list, for both ends.

use std::time::Duration;

/// EST, RFC 7030 section 4.1: the certificates of the CAs, to anybody.
pub const CACERTS: &str = "/.well-known/est/cacerts";
/// EST, section 4.2: a first certificate, for a join token.
pub const SIMPLEENROLL: &str = "/.well-known/est/simpleenroll";
/// EST, section 4.2.2: the next certificate, for the one that is presented in the handshake.
pub const SIMPLEREENROLL: &str = "/.well-known/est/simplereenroll";
/// Roots and CRLs, as JSON, to anybody; who presents a certificate in the handshake may wait for
/// others.
pub const TRUST: &str = "/v1/trust";
/// CRLs of this CA that its record may have forgotten, as PEM, from whoever presents a certificate
/// in the handshake.
pub const CRLS: &str = "/v1/crls";
/// The query parameter of [`TRUST`]: the generation that the asker has; the answer waits for
/// another.
pub const AFTER: &str = "after";

/// What a request to enrol is.
pub const PKCS10: &str = "application/pkcs10";
/// What `cacerts` answers with.
pub const PKCS7: &str = "application/pkcs7-mime";
/// What an enrolment answers with.
pub const PKCS7_CERTS_ONLY: &str = "application/pkcs7-mime; smime-type=certs-only";

/// What [`CRLS`] takes.
pub const PEM: &str = "application/x-pem-file";

/// A CA server answers [`TRUST`] after this long at the latest, whether there is news or not.
pub const LONG_POLL: Duration = Duration::from_secs(55);
/// No request has a longer body: a request for a certificate has under 2 KiB.
pub const MOST_REQUEST: usize = 64 << 10;
/// No CRLs that are given back are longer: one of 100,000 entries has 6 MiB.
pub const MOST_CRLS: usize = 16 << 20;
/// No answer has a longer body: a CRL of 100,000 entries has 6 MiB as PEM.
pub const MOST_ANSWER: usize = 64 << 20;
