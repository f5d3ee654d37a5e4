//! The next program's end of a takeover: asks whoever serves now for its listeners.
//!
//! In: the path of the socket and what kind of program we are. Out: the listeners by name, or
//! nothing where nobody offers any, or a sentence where somebody is there and it cannot be: then
//! nothing has changed for anybody. What is not taken of them, because the settings name another
//! address, is closed with the program before us.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use gapura_files::ownership::{self, Owners};
use rustix::net::sockopt::{socket_acceptconn, socket_peercred};

use super::{GOES, GREETING, SERVES, pass};

/// Listeners that a running program has passed to us, and the conversation with it.
#[derive(Debug)]
pub(crate) struct Handed {
    tcp: Vec<(String, TcpListener)>,
    unix: Vec<(String, UnixListener)>,
    with: UnixStream,
}

/// A program that takes longer to answer is stopped or broken.
const WITHIN: Duration = Duration::from_secs(5);

impl Handed {
    /// Asks at `path` for the listeners of a program of this kind.
    ///
    /// # Errors
    /// A sentence: what is there is not a socket of ours alone, or whoever listens there cannot or
    /// will not pass anything on.
    pub(crate) fn ask(path: &Path, service: &str) -> Result<Option<Self>, String> {
        let at = |why: &str| format!("--takeover {}: {why}", path.display());
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        ownership::check(folder, Owners::Ours).map_err(|why| at(&why))?;
        let us = rustix::process::geteuid();
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(&format!("cannot be looked at: {error}"))),
            Ok(found) if !found.file_type().is_socket() => {
                return Err(at("is there and no socket; choose another path"));
            }
            Ok(found) if found.uid() != us.as_raw() || found.mode() & 0o077 != 0 => {
                return Err(at(
                    "is a socket that others may use, so anybody could pass anything; it must be ours alone, with mode 0600",
                ));
            }
            Ok(_) => {}
        }
        let with = match UnixStream::connect(path) {
            Ok(with) => with,
            // Whoever offered something there has ended.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(None),
            Err(error) => return Err(at(&format!("cannot be connected to: {error}"))),
        };
        let told = |error: std::io::Error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => at(&format!(
                "who listens there does not answer within {} s; is it stopped? end it, or start without --takeover",
                WITHIN.as_secs()
            )),
            _ => at(&format!("who listens there broke off: {error}")),
        };
        let peer = socket_peercred(&with).map_err(|error| told(error.into()))?;
        if peer.uid != us {
            return Err(at(&format!(
                "who listens there belongs to user {}, and this program to user {}",
                peer.uid.as_raw(),
                us.as_raw()
            )));
        }
        with.set_read_timeout(Some(WITHIN)).map_err(told)?;
        with.set_write_timeout(Some(WITHIN)).map_err(told)?;
        pass::send(&with, &format!("{GREETING} {service}"), &[]).map_err(told)?;
        let (line, files) = pass::receive(&with).map_err(told)?;
        let Some(names) = line.strip_prefix("listeners ") else {
            return Err(at(&format!("nothing is passed on: {line}")));
        };
        let mut handed = Self {
            tcp: Vec::new(),
            unix: Vec::new(),
            with,
        };
        handed
            .sort(names, files)
            .map_err(|why| at(&format!("what is passed on cannot be used: {why}")))?;
        Ok(Some(handed))
    }

    fn sort(&mut self, names: &str, files: Vec<OwnedFd>) -> Result<(), String> {
        let names: Vec<&str> = names.split(' ').collect();
        if names.len() != files.len() {
            return Err(format!("{} names and {} sockets", names.len(), files.len()));
        }
        for (name, file) in names.into_iter().zip(files) {
            if !socket_acceptconn(&file).unwrap_or(false) {
                return Err(format!("{name} is no listener"));
            }
            // A socket of another family has no address of this one.
            let name = name.to_owned();
            let tcp = TcpListener::from(file);
            if tcp.local_addr().is_ok() {
                self.tcp.push((name, tcp));
            } else {
                self.unix
                    .push((name, UnixListener::from(OwnedFd::from(tcp))));
            }
        }
        Ok(())
    }

    /// The listener called `name`, if it is where we want one; port 0 is any port.
    #[must_use]
    pub(crate) fn take(&mut self, name: &str, wanted: SocketAddr) -> Option<TcpListener> {
        let fits = |listener: &TcpListener| {
            listener.local_addr().is_ok_and(|address| {
                address.ip() == wanted.ip() && [0, address.port()].contains(&wanted.port())
            })
        };
        let at = self
            .tcp
            .iter()
            .position(|(known, listener)| known == name && fits(listener))?;
        Some(self.tcp.swap_remove(at).1)
    }

    /// The same for one on a path.
    #[must_use]
    pub(crate) fn take_unix(&mut self, name: &str, wanted: &Path) -> Option<UnixListener> {
        let fits = |listener: &UnixListener| {
            let address = listener.local_addr();
            address.is_ok_and(|address| address.as_pathname() == Some(wanted))
        };
        let at = self
            .unix
            .iter()
            .position(|(known, listener)| known == name && fits(listener))?;
        Some(self.unix.swap_remove(at).1)
    }

    /// Says that we serve, and waits until the program before us has stopped accepting.
    ///
    /// # Errors
    /// A sentence, if it does not say so.
    pub(crate) fn serves(self) -> Result<(), String> {
        let talk = pass::send(&self.with, SERVES, &[]).and_then(|()| pass::receive(&self.with));
        match talk {
            Ok((line, _)) if line == GOES => Ok(()),
            Ok((line, _)) => Err(format!("the program before this one says: {line}")),
            Err(error) => Err(format!(
                "the program before this one does not say that it goes, and may still accept: {error}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    fn socket(folder: &Path) -> (PathBuf, UnixListener) {
        let path = folder.join("takeover");
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        (path, listener)
    }

    #[test]
    fn where_nobody_offers_anything_there_is_nothing_to_take() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            Handed::ask(&folder.path().join("none"), "gateway")
                .unwrap()
                .is_none()
        );
        let (path, listener) = socket(folder.path());
        drop(listener);
        assert!(
            Handed::ask(&path, "gateway").unwrap().is_none(),
            "left by one that is dead"
        );
    }

    #[test]
    fn what_is_not_ours_alone_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: &Path| Handed::ask(path, "gateway").unwrap_err();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(refused(&file).contains("no socket"));
        let (path, _listener) = socket(folder.path());
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        assert!(refused(&path).contains("0600"));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(refused(&path).contains("chmod go-w"));
    }

    /// What is said of a program that answers `line` with `files`.
    fn answered(line: &'static str, files: Vec<OwnedFd>) -> Result<Option<Handed>, String> {
        let folder = tempfile::tempdir().unwrap();
        let (path, listener) = socket(folder.path());
        let other = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            assert_eq!(
                pass::receive(&stream).unwrap().0,
                "gapura-takeover 1 gateway"
            );
            let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
            pass::send(&stream, line, &files).unwrap();
        });
        let handed = Handed::ask(&path, "gateway");
        other.join().unwrap();
        handed
    }

    #[test]
    fn listeners_go_to_who_wants_their_name_and_address() {
        let (tcp, folder) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            tempfile::tempdir().unwrap(),
        );
        let (address, path) = (tcp.local_addr().unwrap(), folder.path().join("admin"));
        let unix = UnixListener::bind(&path).unwrap();
        let mut handed = answered("listeners public admin", vec![tcp.into(), unix.into()])
            .unwrap()
            .unwrap();
        let other: SocketAddr = "127.0.0.2:0".parse().unwrap();
        assert!(handed.take("health", address).is_none());
        assert!(handed.take("public", other).is_none());
        assert!(handed.take_unix("admin", Path::new("/elsewhere")).is_none());
        assert!(
            handed
                .take("public", "127.0.0.1:0".parse().unwrap())
                .is_some()
        );
        assert!(handed.take_unix("admin", &path).is_some());
        assert!(handed.take("public", address).is_none(), "taken once");
    }

    #[test]
    fn what_is_no_listener_or_has_no_name_is_not_taken() {
        let listener = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
        let (stream, _other) = UnixStream::pair().unwrap();
        for (line, files, word) in [
            ("listeners public", vec![stream.into()], "is no listener"),
            (
                "listeners public admin",
                vec![listener()],
                "2 names and 1 sockets",
            ),
            ("this is a sidecar", vec![], "this is a sidecar"),
        ] {
            let why = answered(line, files).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }
}
