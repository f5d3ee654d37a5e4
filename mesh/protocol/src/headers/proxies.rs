//! The names by which proxies and platforms tell a service who somebody is.
//!
//! In: a header's name in lower case. Out: whether some plugin could take its value for a proof.
//! From a client such a header is a claim that nobody checked; rule 1 of CONTRACT section 4 lists
//! them.

/// Whole names.
const NAMES: [&str; 11] = [
    "client-ip",
    "cluster-client-ip",
    "true-client-ip",
    "remote-user",
    "remote-groups",
    "remote-email",
    "remote-name",
    "txn-token",
    "front-end-https",
    "auth-user",
    "authenticated-user",
];

/// Beginnings of names.
const BEGINNINGS: [&str; 19] = [
    "proxy-",
    "client-cert",
    "impersonate-",
    "ssl-",
    "cf-",
    "fastly-",
    "fly-",
    "tailscale-",
    "workload-",
    "l5d-",
    "iv-",
    "sm-",
    "shib-",
    "oidc-",
    "mellon-",
    "gap-",
    "ngrok-",
    "akamai-",
    "dapr-",
];

/// By a name's first letter, what is to be compared with it: a bit for each of [`NAMES`], and
/// behind them for each of [`BEGINNINGS`]. So nearly every header of nearly every request is
/// decided by a few comparisons.
const BY_LETTER: [u32; 256] = {
    let mut letters = [0; 256];
    let mut at = 0;
    while at < NAMES.len() {
        letters[NAMES[at].as_bytes()[0] as usize] |= 1 << at;
        at += 1;
    }
    at = 0;
    while at < BEGINNINGS.len() {
        letters[BEGINNINGS[at].as_bytes()[0] as usize] |= 1 << (NAMES.len() + at);
        at += 1;
    }
    letters
};

/// Whether a name, in lower case, is one by which proxies tell who somebody is.
#[must_use]
pub fn tells_who(name: &str) -> bool {
    let first = name.as_bytes().first();
    let mut left = first.map_or(0, |first| BY_LETTER[usize::from(*first)]);
    while left != 0 {
        let at = left.trailing_zeros() as usize;
        let fits = match NAMES.get(at) {
            Some(whole) => name == *whole,
            None => BEGINNINGS
                .get(at - NAMES.len())
                .is_some_and(|beginning| name.starts_with(beginning)),
        };
        if fits {
            return true;
        }
        left &= left - 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_list_is_found_by_its_first_letter() {
        for name in NAMES.iter().chain(&BEGINNINGS) {
            assert!(tells_who(name), "{name}");
            assert!(
                NAMES.contains(name) || tells_who(&format!("{name}x")),
                "{name}"
            );
        }
    }

    #[test]
    fn what_every_request_has_is_not_listed() {
        for name in [
            "accept",
            "accept-language",
            "authorization",
            "cookie",
            "content-type",
            "content-length",
            "cache-control",
            "client",
            "if-match",
            "origin",
            "range",
            "referer",
            "remote-users",
            "sec-fetch-site",
            "sec-websocket-key",
            "traceparent",
            "user-agent",
            "proxy",
            "x-user-id",
        ] {
            assert!(!tells_who(name), "{name}");
        }
    }
}
