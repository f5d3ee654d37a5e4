//! What the operator names on the command line, and somebody else may have sent: certificates,
//! requests, CRLs, lists.
//!
//! In: a path or a stream. Out: its bytes. Nothing here looks into them. Invariant: a pipe that was
//! put in the place of a file is never waited for, and what has no end is not read to it.

use std::io::Read;
use std::path::Path;

use crate::error::Error;
use crate::store;

/// A CRL of a million entries, as gateway and sidecar take it.
const MOST: u64 = 64 << 20;

/// The bytes of a file.
///
/// # Errors
/// It is not there, is no regular file, or is larger than any certificate, request or CRL.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    store::read_at_most(path, MOST)
}

/// The same from a stream, such as standard input; `name` is what a sentence calls it.
///
/// # Errors
/// It can't be read, or has no end.
pub fn read_stream(stream: impl Read, name: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    stream
        .take(MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", Path::new(name)))?;
    if bytes.len() as u64 > MOST {
        return Err(Error::Failed(format!(
            "{name} is larger than {MOST} bytes; no certificate, request or CRL is"
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_not_read_to_it() {
        assert!(read_stream(std::io::repeat(b'a'), "it").is_err());
        assert_eq!(read_stream(&b"abc"[..], "it").unwrap(), b"abc");
    }

    #[test]
    fn a_pipe_is_not_waited_for_and_a_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, whole) = (dir.path().join("pipe"), dir.path().join("file"));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for path in [&pipe, Path::new("/dev/zero"), dir.path()] {
            let said = read(path).unwrap_err().to_string();
            assert!(said.contains("not a regular file"), "{said}");
        }
        std::fs::write(&whole, "abc").unwrap();
        assert_eq!(read(&whole).unwrap(), b"abc");
    }
}
