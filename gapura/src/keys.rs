//! `gapura keys`: what the front door of `gapura up` has of its own, without starting anything.
//!
//! In: a state folder. Out: a public certificate for this machine with its root, and a key for
//! tokens with its `jwks.json`; what is there and serves is kept. For containers, where each
//! program runs alone. All of it is for development, like `gapura up`. Where a door is named, a
//! gateway reads there, and finds there what it verifies and serves with, and nothing that signs.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use gapura_files::file;
use gapura_protocol::clock::Clock;

use crate::error::Error;
use crate::state::{self, State};
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

/// What a gateway reads, by its name in the state folder.
const SHOWN: [&str; 3] = ["public/cert.pem", "public/key.pem", "jwks.json"];

/// What signs, or vouches: once it lay where a gateway could read it.
const SIGNS: [&str; 2] = ["token-key.pem", "public/root-key.pem"];

/// Makes what is missing in the state folder, and puts a copy of what a gateway reads into `door`,
/// where there is one.
///
/// # Errors
/// If a folder can't be used, or another program uses the state.
pub fn ensure(state: &Path, door: Option<&Path>, clock: &Clock) -> Result<Keys, Error> {
    let state = State::take(state)?;
    if let Some(door) = door {
        state::prepare(door)?;
        state::prepare(&door.join("public"))?;
        take_back(&state, door)?;
    }
    let made = make(&state, clock)?;
    let Some(door) = door else {
        return Ok(made);
    };
    for name in SHOWN {
        let text = state.read(name)?.unwrap_or_default();
        put(&door.join(name), text.as_bytes())?;
    }
    Ok(Keys {
        root: made.root,
        cert: door.join(SHOWN[0]),
        key: door.join(SHOWN[1]),
        jwks: door.join(SHOWN[2]),
    })
}

/// Takes what signs out of the gateway's sight; a state that has none of its own goes on with it,
/// so that tokens stay good.
fn take_back(state: &State, door: &Path) -> Result<(), Error> {
    let is_new = state.read(SIGNS[0])?.is_none();
    if is_new && door.join(SIGNS[0]).exists() {
        state.folder("public")?;
        for name in SIGNS.into_iter().chain(SHOWN).chain(["ca.pem"]) {
            if let Ok(text) = std::fs::read(door.join(name)) {
                state.write(name, &text)?;
            }
        }
    }
    for name in SIGNS {
        let path = door.join(name);
        match std::fs::remove_file(&path) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                let path = path.display();
                return Err(Error::Refused(format!(
                    "can't remove {path}, which a gateway must not see: {err}"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    file::replace(path, bytes)
        .map_err(|err| Error::Refused(format!("can't write {}: {err}", path.display())))
}

fn make(state: &State, clock: &Clock) -> Result<Keys, Error> {
    let issuer = Issuer::open_or_make(state)?;
    let jwks = state.write("jwks.json", issuer.jwks().as_bytes())?;
    let public = public::ensure(state, IpAddr::V4(Ipv4Addr::LOCALHOST), clock.now())?;
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
        let first = read(ensure(&root, None, &clock).unwrap());
        assert_eq!(read(ensure(&root, None, &clock).unwrap()), first);
        clock.shift(25 * 86_400);
        let later = read(ensure(&root, None, &clock).unwrap());
        assert_ne!(
            later[1], first[1],
            "a certificate near its end is made anew"
        );
        assert_eq!(later[3], first[3], "tokens stay good");
    }

    /// The files below a folder.
    fn below(root: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(root).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_dir() {
                found.extend(
                    below(&entry.path())
                        .into_iter()
                        .map(|file| format!("{name}/{file}")),
                );
            } else {
                found.push(name);
            }
        }
        found.sort();
        found
    }

    #[test]
    fn a_gateway_sees_what_verifies_and_nothing_that_signs() {
        let folder = tempfile::tempdir().unwrap();
        let (state, door) = (folder.path().join("keys"), folder.path().join("door"));
        let clock = Clock::system();
        let keys = ensure(&state, Some(&door), &clock).unwrap();
        assert_eq!(
            below(&door),
            ["jwks.json", "public/cert.pem", "public/key.pem"]
        );
        assert!(keys.jwks.starts_with(&door) && keys.root.starts_with(&state));
        let jwks = std::fs::read_to_string(keys.jwks).unwrap();
        assert_eq!(jwks, Issuer::open(&state).unwrap().jwks());
    }

    #[test]
    fn what_signed_in_the_gateways_sight_is_taken_back_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (state, door) = (folder.path().join("keys"), folder.path().join("door"));
        let clock = Clock::system();
        // As it once was: one folder for both.
        let before = ensure(&door, None, &clock).unwrap();
        let [jwks, cert] = [before.jwks, before.cert].map(|path| std::fs::read(path).unwrap());
        let after = ensure(&state, Some(&door), &clock).unwrap();
        assert_eq!(
            std::fs::read(&after.jwks).unwrap(),
            jwks,
            "tokens stay good"
        );
        assert_eq!(
            std::fs::read(&after.cert).unwrap(),
            cert,
            "clients trust the same root"
        );
        for name in SIGNS {
            assert!(
                !door.join(name).exists() && state.join(name).exists(),
                "{name}"
            );
        }
    }
}
