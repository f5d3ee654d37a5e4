//! `gapura keys`: what the front door of `gapura up` has of its own, without starting anything.
//!
//! In: a state folder. Out: a public certificate for this machine with its root, and a key for tokens with its `jwks.json`; what is
//! there and serves is kept. For containers, where each program runs alone. All of it is for development, like `gapura up`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use gapura_protocol::clock::Clock;

use crate::error::Error;
use crate::state::State;
use crate::token::Issuer;
use crate::up::public;

/// The files of a front door.
pub struct Keys {
    /// The root, for `curl --cacert`.
    pub root: PathBuf,
    /// The certificate, for `--tls-cert`.
    pub cert: PathBuf,
    /// Its key, for `--tls-key`.
    pub key: PathBuf,
    /// The key set, for `--jwks`.
    pub jwks: PathBuf,
}

/// Makes what is missing in the state folder.
///
/// # Errors
/// If the folder can't be used, or another program uses it.
pub fn ensure(state: &Path, clock: &Clock) -> Result<Keys, Error> {
    let state = State::take(state)?;
    let issuer = Issuer::open_or_make(&state)?;
    let jwks = state.write("jwks.json", issuer.jwks().as_bytes())?;
    let public = public::ensure(&state, IpAddr::V4(Ipv4Addr::LOCALHOST), clock.now())?;
    Ok(Keys {
        root: public.root,
        cert: public.cert,
        key: public.key,
        jwks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_keeps_what_the_first_made() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("door");
        let clock = Clock::system();
        let read = |keys: Keys| {
            [keys.root, keys.cert, keys.key, keys.jwks]
                .map(|path| std::fs::read_to_string(path).unwrap())
        };
        let first = read(ensure(&root, &clock).unwrap());
        assert_eq!(read(ensure(&root, &clock).unwrap()), first);
        clock.shift(25 * 86_400);
        let later = read(ensure(&root, &clock).unwrap());
        assert_ne!(
            later[1], first[1],
            "a certificate near its end is made anew"
        );
        assert_eq!(later[3], first[3], "tokens stay good");
    }
}
