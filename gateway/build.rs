//! Takes Swagger UI's two files out of the archive that `utoipa-swagger-ui-vendored` carries, for
//! the page at `/docs`.
//!
//! An archive keeps a file as a bare deflate stream with its length and its CRC-32: between the
//! head and the tail of gzip (RFC 1952) that is what browsers take, so that nothing is unpacked
//! here and nothing packed again.

use std::path::{Path, PathBuf};
use std::{env, fs};

use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED as ARCHIVE;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    for name in ["swagger-ui-bundle.js", "swagger-ui.css"] {
        let packed = packed(name)
            .ok_or_else(|| format!("the archive holds no dist/{name} that is deflated"))?;
        fs::write(file(&out, name), packed)?;
    }
    Ok(())
}

fn file(out: &Path, name: &str) -> PathBuf {
    out.join(format!("{name}.gz"))
}

/// A file of the archive in gzip's form.
fn packed(name: &str) -> Option<Vec<u8>> {
    const DEFLATED: u16 = 8;
    let entry = entry(&format!("/dist/{name}"))?;
    if number16(entry, 10)? != DEFLATED {
        return None;
    }
    let (crc, packed) = (entry.get(16..20)?, number32(entry, 20)?);
    let (plain, local) = (entry.get(24..28)?, number32(entry, 42)?);
    // What stands in front of the data has a length of its own.
    let head = ARCHIVE.get(local..)?;
    let begin = 30 + usize::from(number16(head, 26)?) + usize::from(number16(head, 28)?);
    let data = head.get(begin..begin.checked_add(packed)?)?;
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];
    gzip.extend_from_slice(data);
    gzip.extend_from_slice(crc);
    gzip.extend_from_slice(plain);
    Some(gzip)
}

/// The entry of the central directory whose name ends so (APPNOTE.TXT, section 4.3.12).
fn entry(end: &str) -> Option<&'static [u8]> {
    const DIRECTORY: &[u8] = b"PK\x01\x02";
    const END: &[u8] = b"PK\x05\x06";
    let last = ARCHIVE.windows(END.len()).rposition(|bytes| bytes == END)?;
    let mut at = number32(ARCHIVE.get(last..)?, 16)?;
    loop {
        let entry = ARCHIVE.get(at..)?;
        if !entry.starts_with(DIRECTORY) {
            return None;
        }
        let name = usize::from(number16(entry, 28)?);
        if entry.get(46..46 + name)?.ends_with(end.as_bytes()) {
            return Some(entry);
        }
        at += 46 + name + usize::from(number16(entry, 30)?) + usize::from(number16(entry, 32)?);
    }
}

fn number16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn number32(bytes: &[u8], at: usize) -> Option<usize> {
    let number = u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?);
    usize::try_from(number).ok()
}
