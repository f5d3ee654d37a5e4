//! The names by which proxies and platforms tell a service who somebody is.
//!
//! In: a header's name in lower case. Out: whether some plugin could take its value for a proof. From a client such a header is a
//! claim that nobody checked; rule 1 of CONTRACT section 4 lists them.

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
const BEGINNINGS: [&str; 18] = [
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

/// Whether a name, in lower case, is one by which proxies tell who somebody is.
#[must_use]
pub fn tells_who(name: &str) -> bool {
    // Nearly every header of nearly every request is decided by its first letter.
    if !matches!(
        name.as_bytes().first(),
        Some(
            b'a' | b'c'
                | b'd'
                | b'f'
                | b'g'
                | b'i'
                | b'l'
                | b'm'
                | b'n'
                | b'o'
                | b'p'
                | b'r'
                | b's'
                | b't'
                | b'w'
        )
    ) {
        return false;
    }
    NAMES.contains(&name)
        || name.starts_with("proxy-")
        || BEGINNINGS
            .iter()
            .any(|beginning| name.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_letter_decides_for_no_name_of_the_list() {
        for name in NAMES.iter().chain(&BEGINNINGS).chain(&["proxy-user"]) {
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
