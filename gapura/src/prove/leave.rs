//! To whom attacks may be sent: to this machine, to a door behind which our own plugin answers, to
//! hosts that were named.
//!
//! In: where it would go, what was named, and whether the plugin answered. Out: leave, or what
//! would give it. A pure function.
//! Invariant: no attack is built before leave is given.

use std::net::IpAddr;

use crate::error::Error;

/// Why it may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    Loopback,
    PluginAnswered,
    Named,
}

impl Leave {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "it is this machine",
            Self::PluginAnswered => "the plugin of gapura prove answers behind it",
            Self::Named => "--i-may-test names it",
        }
    }
}

/// Whether the door may be attacked.
pub(super) fn for_door(
    host: &str,
    at: IpAddr,
    named: &[String],
    answered: bool,
) -> Result<Leave, Error> {
    match granted(host, at, named) {
        Some(leave) => Ok(leave),
        None if answered => Ok(Leave::PluginAnswered),
        None => Err(Error::Refused(format!(
            "{host} ({at}) is not this machine, and the plugin of gapura prove did not answer behind it; mount `gapura prove --plugin` at this URL, or say --i-may-test {host} if it is yours to test"
        ))),
    }
}

/// Whether the sidecar may be: a nonce through the door says nothing of whose it is.
pub(super) fn for_sidecar(host: &str, at: IpAddr, named: &[String]) -> Result<Leave, Error> {
    granted(host, at, named).ok_or_else(|| {
        Error::Refused(format!(
            "--sidecar {host} ({at}) is not this machine; say --i-may-test {host} if it is yours to test"
        ))
    })
}

fn granted(host: &str, at: IpAddr, named: &[String]) -> Option<Leave> {
    if at.is_loopback() {
        return Some(Leave::Loopback);
    }
    named
        .iter()
        .any(|name| name.eq_ignore_ascii_case(host))
        .then_some(Leave::Named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_this_machine_only_with_an_answer_or_by_name() {
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([192, 0, 2, 1]));
        let named = ["door.example".to_owned()];
        assert_eq!(
            for_door("localhost", here, &[], false).unwrap(),
            Leave::Loopback
        );
        assert_eq!(
            for_door("door.example", there, &[], true).unwrap(),
            Leave::PluginAnswered
        );
        assert_eq!(
            for_door("Door.Example", there, &named, false).unwrap(),
            Leave::Named
        );
        assert_eq!(
            for_door("door.example", there, &[], false)
                .unwrap_err()
                .exit_code(),
            2
        );
        assert!(for_door("x.door.example", there, &named, false).is_err());
        assert!(for_sidecar("door.example", there, &[]).is_err());
        assert_eq!(
            for_sidecar("door.example", there, &named).unwrap(),
            Leave::Named
        );
        assert_eq!(
            for_sidecar("localhost", here, &[]).unwrap(),
            Leave::Loopback
        );
    }
}
