//! What CA server and agent send each other: a message of certificates that is read is written back
//! the same, a token and a claim prove what they proved before, and nothing of a secret is printed.

use gapura_enrol::authorization::Claim;
use gapura_enrol::news::TrustNews;
use gapura_enrol::refusal::Refused;
use gapura_enrol::token::JoinToken;
use gapura_enrol::{payload, pkcs7};

/// Holds the file's sentence to one input.
pub fn check(bytes: &[u8]) {
    messages(bytes);
    if let Ok(message) = payload::decode(bytes) {
        messages(&message);
        assert_eq!(
            payload::decode(payload::encode(&message).as_bytes()),
            Ok(message)
        );
    }
    if let Ok(token) = JoinToken::parse(bytes) {
        let again = JoinToken::parse(token.to_text().as_bytes()).expect("it was written here");
        assert_eq!(again.secret.sha256(), token.secret.sha256());
        assert_eq!(again.identity(), token.identity());
        assert_eq!(
            (again.root_sha256, again.expires),
            (token.root_sha256, token.expires)
        );
        assert!(!format!("{token:?}").contains(token.secret.to_text().as_str()));
    }
    if let Some(claim) = Claim::from_header(bytes) {
        let again = Claim::from_header(claim.to_header().as_bytes()).expect("it was written here");
        assert_eq!(again.secret.sha256(), claim.secret.sha256());
        assert_eq!((again.role, again.name), (claim.role, claim.name));
    }
    if let Some(refused) = Refused::parse(bytes) {
        assert!(!refused.message.chars().any(char::is_control));
        assert_eq!(Refused::parse(&refused.to_json()), Some(refused));
    }
    if let Ok(news) = TrustNews::parse(bytes) {
        assert_eq!(TrustNews::parse(&news.to_json()), Ok(news));
    }
}

fn messages(bytes: &[u8]) {
    if let Ok(certificates) = pkcs7::certificates(bytes) {
        let again = pkcs7::certificates(&pkcs7::certs_only(&certificates));
        assert_eq!(again, Ok(certificates));
    }
}
