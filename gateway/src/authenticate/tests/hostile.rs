//! Tokens that were not made to be verified.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn no_bytes_make_it_stumble(token in proptest::collection::vec(any::<u8>(), 0..200)) {
        let gate = by_secret();
        let _ = verify_anew(&gate.keys.ring(), &token, NOW);
    }

    #[test]
    fn nothing_that_looks_like_a_token_is_one(header in r#"\{("alg"|"kid"|"typ"|"crit"|"HS256"|"JWT"|:|,|\[|\]|1|null){0,9}\}"#, claims in r#"\{("exp"|"sub"|:|,|9{10}|1e9|"x"){0,9}\}"#) {
        let gate = by_secret();
        let token = format!("{}.{}.{}", encode(header), encode(claims), encode([7; 32]));
        prop_assert!(verify_anew(&gate.keys.ring(), token.as_bytes(), NOW).is_err());
    }

    #[test]
    fn a_changed_token_never_verifies(which in 0..4_usize, at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let alg = ["HS256", "RS256", "ES256", "EdDSA"][which];
        let gate = if alg == "HS256" { by_secret() } else { by_jwks(&[Signers::ours().jwk(alg)]) };
        let mut token = Signers::ours().token(&json!({"alg": alg}), &claims()).into_bytes();
        prop_assert!(verify_anew(&gate.keys.ring(), &token, NOW).is_ok());
        let at = at.index(token.len());
        prop_assume!(token[at] != to);
        token[at] = to;
        prop_assert!(verify_anew(&gate.keys.ring(), &token, NOW).is_err());
    }

    #[test]
    fn a_token_cut_or_lengthened_never_verifies(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let gate = by_secret();
        let mut token = Signers::ours().token(&json!({"alg": "HS256"}), &claims()).into_bytes();
        let at = at.index(token.len());
        if cut { token.remove(at); } else { token.insert(at, byte); }
        prop_assert!(verify_anew(&gate.keys.ring(), &token, NOW).is_err());
    }

    #[test]
    fn whatever_goes_on_is_what_the_token_says(user in "[a-z0-9@|:\\r\\n, \"-]{1,12}", company in "[a-z0-9.:\\r\\n, -]{1,12}") {
        let gate = by_secret();
        let claims = with(claims(), &json!({"user_id": user, "company_id": company}));
        let token = Signers::ours().token(&json!({"alg": "HS256"}), &claims);
        if let Ok(caller) = verify_anew(&gate.keys.ring(), token.as_bytes(), NOW) {
            prop_assert_eq!(caller.user().as_str(), user);
            prop_assert_eq!(caller.tenant().as_str(), company);
        }
    }
}
