//! Decides which company a request acts for.
//!
//! In: the request's headers. Out: a [`Company`], the only key that the store's queries accept, so
//! that a query without a company does not compile. The value is believed as it stands, since only
//! the sidecar can reach this service; but it must be there, once, and have the form of a company
//! id: two values are two readings, and "all companies" is never one of them.

use hyper::HeaderMap;
use hyper::header::HeaderValue;

/// The company whose rows a request may see. Made by [`Company::of`] alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Company(String);

/// Why a request has no company.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoCompany {
    Missing,
    Twice,
    Malformed,
}

impl Company {
    /// The company named by `X-Company-Id`.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, NoCompany> {
        let mut values = headers.get_all("x-company-id").iter();
        let Some(value) = values.next() else {
            return Err(NoCompany::Missing);
        };
        if values.next().is_some() {
            return Err(NoCompany::Twice);
        }
        id(value)
            .map(|id| Self(id.to_owned()))
            .ok_or(NoCompany::Malformed)
    }

    /// The id as it stands in the database and in the log.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn named(id: &str) -> Self {
        Self(id.to_owned())
    }
}

impl NoCompany {
    /// What is wrong with the header, for the caller.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Missing => "is missing; the sidecar in front of this service sets it",
            Self::Twice => "stands more than once",
            Self::Malformed => {
                "must be 1 to 128 of A-Z a-z 0-9 . _ : - and begin with a letter or a digit"
            }
        }
    }
}

fn id(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    let fits = (1..=128).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-'));
    fits.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Result<Company, NoCompany> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-company-id", HeaderValue::from_str(value).unwrap());
        }
        Company::of(&headers)
    }

    #[test]
    fn takes_one_id_and_nothing_else() {
        for id in ["42", "acme", "A.b_c:d-9", &"7".repeat(128)] {
            assert_eq!(of(&[id]), Ok(Company::named(id)));
        }
        assert_eq!(of(&[]), Err(NoCompany::Missing));
        assert_eq!(of(&["42", "42"]), Err(NoCompany::Twice));
        for id in [
            "",
            "*",
            "%",
            "-1",
            "42 ",
            "42,7",
            "42' OR '1'='1",
            "4\u{e9}",
            &"7".repeat(129),
        ] {
            assert_eq!(of(&[id]), Err(NoCompany::Malformed), "{id:?}");
        }
    }
}
