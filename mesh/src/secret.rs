//! Secrets that an operator keeps in files.

use std::path::Path;

use zeroize::Zeroizing;

/// An admin token shorter than this can be guessed over a network.
pub const ADMIN_TOKEN_LEAST: usize = 16;

/// A secret from a file; one trailing newline is not part of it.
///
/// # Errors
/// A sentence that says what is wrong and how to make a good one.
pub fn read(file: &Path, flag: &str, least: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut bytes = std::fs::read(file)
        .map(Zeroizing::new)
        .map_err(|error| format!("{flag} {}: cannot be read: {error}", file.display()))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_trailing_newline_is_not_part_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        assert_eq!(
            read(&file, "--secret", 16).unwrap().as_slice(),
            b"0123456789abcdef"
        );
        std::fs::write(&file, "0123456789abcdef\n\n").unwrap();
        assert_eq!(
            read(&file, "--secret", 16).unwrap().as_slice(),
            b"0123456789abcdef\n"
        );
    }

    #[test]
    fn a_short_one_is_refused_with_the_command_that_makes_a_good_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "short\n").unwrap();
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
}
