//! Secrets that an operator keeps in files: short texts under a flag of their own. Who may read
//! such a file is `file`'s rule.

use std::path::Path;

use zeroize::Zeroizing;

use crate::file::{self, FileError};

/// An admin token shorter than this can be guessed over a network.
pub const ADMIN_TOKEN_LEAST: usize = 16;

/// Far more than any secret has.
const MOST_BYTES: u64 = 64 << 10;

/// A secret from a file; one trailing newline is not part of it.
///
/// # Errors
/// A sentence that says what is wrong and how to make a good one.
pub fn read(file: &Path, flag: &str, least: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    let (mut bytes, _) =
        file::read_secret(file, MOST_BYTES).map_err(|error| sentence(flag, &error))?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.len() < least {
        let found = bytes.len();
        return Err(format!(
            "{flag} {}: holds {found} bytes, at least {least} are needed; make a good one with: openssl rand -base64 48 > {}",
            file.display(),
            file.display()
        ));
    }
    Ok(bytes)
}

fn sentence(flag: &str, error: &FileError) -> String {
    match error {
        FileError::Missing(path) => {
            format!(
                "{flag} {}: cannot be read: there is no such file",
                path.display()
            )
        }
        other => format!("{flag} {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn write(file: &Path, text: &str) {
        std::fs::write(file, text).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn one_trailing_newline_is_not_part_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        write(&file, "0123456789abcdef\n");
        assert_eq!(
            read(&file, "--secret", 16).unwrap().as_slice(),
            b"0123456789abcdef"
        );
        write(&file, "0123456789abcdef\n\n");
        assert_eq!(
            read(&file, "--secret", 16).unwrap().as_slice(),
            b"0123456789abcdef\n"
        );
    }

    #[test]
    fn a_short_one_is_refused_with_the_command_that_makes_a_good_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        write(&file, "short\n");
        let fault = read(&file, "--secret", 16).unwrap_err();
        assert!(
            fault.contains("holds 5 bytes") && fault.contains("openssl rand"),
            "{fault}"
        );
        assert!(
            read(&dir.path().join("none"), "--secret", 16)
                .unwrap_err()
                .contains("cannot be read")
        );
    }

    #[test]
    fn one_that_others_can_read_is_refused_under_its_flag() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        write(&file, "0123456789abcdef");
        assert!(read(&file, "--secret", 16).is_ok());
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let fault = read(&file, "--secret", 16).unwrap_err();
        assert!(
            fault.starts_with("--secret ") && fault.contains("chmod 600"),
            "{fault}"
        );
    }
}
