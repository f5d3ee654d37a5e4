//! Finds the token in a request: `Authorization: Bearer TOKEN`, and nowhere else.
//!
//! RFC 6750, section 2.1: `credentials = "Bearer" 1*SP b64token`; the scheme in any case (RFC 9110,
//! section 11.1). One space only: the single-space form is what every client sends, and a plugin
//! behind `forward_jwt` must cut the header where we did. A token in the query or in a body
//! (sections 2.2 and 2.3) ends in logs and is not read. The length is capped before any byte is
//! decoded.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use memchr::memchr2;

use super::error::{Error, Reason};

/// The longest token that is looked at, in bytes.
pub(super) const TOKEN_MAX: usize = 8 * 1024;

/// The token of the request, not yet looked into.
pub(super) fn token(headers: &HeaderMap) -> Result<&[u8], Error> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Error::TokenMissing)?.as_bytes();
    // The framing rule has refused this before; should it ever not, the first of two must not win
    // here and the second elsewhere.
    if values.next().is_some() {
        return Err(Reason::Header.into());
    }
    let end = value
        .iter()
        .position(|byte| *byte == b' ')
        .unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end);
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(Error::TokenMissing);
    }
    match rest {
        [] | [b' '] => Err(Error::TokenMissing),
        [b' ', token @ ..] if memchr2(b' ', b'\t', token).is_some() => Err(Reason::Header.into()),
        [b' ', token @ ..] if token.len() > TOKEN_MAX => Err(Reason::TooLong.into()),
        [b' ', token @ ..] => Ok(token),
        _ => Err(Reason::Header.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn found(values: &[&str]) -> Result<String, Error> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(
                AUTHORIZATION,
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        token(&headers).map(|token| String::from_utf8(token.to_vec()).unwrap())
    }

    #[test]
    fn the_scheme_is_taken_in_any_case() {
        for value in [
            "Bearer a.b.c",
            "bearer a.b.c",
            "BEARER a.b.c",
            "bEaReR a.b.c",
        ] {
            assert_eq!(found(&[value]).as_deref(), Ok("a.b.c"), "{value}");
        }
    }

    #[test]
    fn no_token_and_another_scheme_are_the_same() {
        assert_eq!(found(&[]), Err(Error::TokenMissing));
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Basic YTpi",
            "Bearerx a",
            "Bearer\ta",
            "Token a.b.c",
            "a.b.c",
            "DPoP a.b.c",
            " Bearer a",
        ] {
            assert_eq!(found(&[value]), Err(Error::TokenMissing), "{value:?}");
        }
    }

    #[test]
    fn exactly_one_header_one_space_and_one_token() {
        for value in [
            "Bearer  a.b.c",
            "Bearer a.b.c ",
            "Bearer a.b.c d",
            "Bearer a,\tb",
            "Bearer a, Bearer b",
        ] {
            assert_eq!(found(&[value]), Err(Reason::Header.into()), "{value:?}");
        }
        assert_eq!(found(&["Bearer a", "Bearer a"]), Err(Reason::Header.into()));
        assert_eq!(found(&["Bearer a", "Basic b"]), Err(Reason::Header.into()));
    }

    #[test]
    fn a_token_of_8_kib_is_the_longest() {
        let longest = "a".repeat(TOKEN_MAX);
        assert_eq!(found(&[&format!("Bearer {longest}")]), Ok(longest.clone()));
        assert_eq!(
            found(&[&format!("Bearer {longest}a")]),
            Err(Reason::TooLong.into())
        );
    }
}
