//! The PROXY protocol, version 2: a trusted balancer that passes bytes on says in front of them
//! whose they are.
//!
//! In: a stream of a trusted proxy, nothing of it read. Out: the client's address, or none where
//! the proxy speaks for itself, with the stream at the first byte of what the client sent. Whom to
//! ask for it is not decided here: read from anybody else it would let a client choose its own
//! address. It is never guessed whether it is there (section 2.2 of the specification, revision
//! 2020): a trusted proxy that does not begin with it is closed.
//! Invariant: no byte behind the header is taken, and none before its end is left.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Why what came is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does not begin as one.
    NotThere,
    /// It is of another version, or is neither LOCAL nor PROXY.
    Unknown,
    /// It is longer than anybody's.
    TooLong,
    /// Its addresses do not fit into its length.
    Short,
}

/// The twelve bytes that begin no other protocol.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length.
const FIXED: usize = 16;

/// The addresses and what else a balancer says. The longest known, with a whole client
/// certificate's names, stay under 2 KiB.
const LENGTH_MOST: usize = 4096;

/// Reads one header. How long it may take is the caller's to say.
///
/// # Errors
/// What the stream failed with, or a [`Fault`].
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut fixed = [0; FIXED];
    stream.read_exact(&mut fixed).await?;
    let length = length(&fixed).map_err(io::Error::other)?;
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    source(&fixed, &rest).map_err(io::Error::other)
}

/// How much follows the fixed part.
fn length(fixed: &[u8; FIXED]) -> Result<usize, Fault> {
    if fixed[..12] != SIGNATURE {
        return Err(Fault::NotThere);
    }
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > LENGTH_MOST {
        return Err(Fault::TooLong);
    }
    Ok(length)
}

/// Whose bytes follow: none where the proxy speaks for itself, or names what is no address of the
/// internet.
fn source(fixed: &[u8; FIXED], rest: &[u8]) -> Result<Option<SocketAddr>, Fault> {
    match fixed[12] {
        0x20 => return Ok(None), // LOCAL: a health check of the proxy's own
        0x21 => {}
        _ => return Err(Fault::Unknown),
    }
    let port = |at: usize| {
        let bytes = rest.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u16::from_be_bytes).ok_or(Fault::Short)
    };
    // Source address, destination address, source port, destination port; what stands behind them
    // is of no interest here.
    let (ip, port) = match fixed[13] >> 4 {
        1 if rest.len() >= 12 => {
            let ip: [u8; 4] = first(rest)?;
            (IpAddr::V4(Ipv4Addr::from(ip)), port(8)?)
        }
        2 if rest.len() >= 36 => {
            let ip: [u8; 16] = first(rest)?;
            (IpAddr::V6(Ipv6Addr::from(ip)), port(32)?)
        }
        1 | 2 => return Err(Fault::Short),
        // Unspecified, or a socket on the proxy's own host.
        0 | 3 => return Ok(None),
        _ => return Err(Fault::Unknown),
    };
    Ok(Some(SocketAddr::new(ip.to_canonical(), port)))
}

fn first<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Fault> {
    let first = bytes.get(..N).and_then(|bytes| bytes.try_into().ok());
    first.ok_or(Fault::Short)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotThere => {
                "a trusted proxy did not begin with the PROXY protocol, version 2, as --proxy-protocol wants it"
            }
            Self::Unknown => "a trusted proxy's PROXY header is of no kind that is known here",
            Self::TooLong => "a trusted proxy's PROXY header is longer than 4 KiB",
            Self::Short => "a trusted proxy's PROXY header is too short for its addresses",
        })
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend((rest.len() as u16).to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    /// What is read, and what of the stream is left behind it.
    fn read_of(bytes: &[u8]) -> (io::Result<Option<SocketAddr>>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let mut stream = bytes;
        let read = runtime.block_on(read(&mut stream));
        (read, stream.len())
    }

    const V4: [u8; 12] = [203, 0, 113, 9, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];

    #[test]
    fn tells_whose_bytes_follow_and_leaves_them() {
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        v6[15] = 7;
        v6[32..34].copy_from_slice(&443_u16.to_be_bytes());
        let mut mapped = [0; 36];
        mapped[10..16].copy_from_slice(&[0xff, 0xff, 203, 0, 113, 9]);
        let with_more = [&V4[..], b"\x03\x00\x04abcd"].concat();
        for (header, source) in [
            (header(0x21, 0x11, &V4), Some("203.0.113.9:8080")),
            (header(0x21, 0x12, &V4), Some("203.0.113.9:8080")),
            (header(0x21, 0x11, &with_more), Some("203.0.113.9:8080")),
            (header(0x21, 0x21, &v6), Some("[2001:db8::7]:443")),
            (header(0x21, 0x21, &mapped), Some("203.0.113.9:0")),
            (header(0x20, 0x00, &[]), None),
            (header(0x20, 0x11, &V4), None),
            (header(0x21, 0x00, &[]), None),
            (header(0x21, 0x31, &[0; 216]), None),
        ] {
            let (read, left) = read_of(&[&header[..], b"GET /"].concat());
            let source = source.map(|text| text.parse().unwrap());
            assert_eq!(read.unwrap(), source);
            assert_eq!(left, 5);
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let fault = |bytes: &[u8]| {
            let error = read_of(bytes).0.unwrap_err();
            let inner = error.into_inner().unwrap();
            *inner.downcast::<Fault>().unwrap()
        };
        assert_eq!(fault(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Fault::NotThere);
        assert_eq!(
            fault(b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n"),
            Fault::NotThere
        );
        assert_eq!(fault(&header(0x11, 0x11, &V4)), Fault::Unknown);
        assert_eq!(fault(&header(0x22, 0x11, &V4)), Fault::Unknown);
        assert_eq!(fault(&header(0x21, 0x41, &V4)), Fault::Unknown);
        assert_eq!(fault(&header(0x21, 0x11, &V4[..11])), Fault::Short);
        assert_eq!(fault(&header(0x21, 0x21, &V4)), Fault::Short);
        assert_eq!(fault(&header(0x21, 0x11, &[0; 4097])), Fault::TooLong);
        let cut = read_of(&header(0x21, 0x11, &V4)[..20]).0.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }

    proptest! {
        /// Whatever comes, nothing behind a header is taken, and a source is one that stands in it.
        #[test]
        fn no_bytes_are_misread(
            begins in any::<bool>(),
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = if begins { [&SIGNATURE[..], &bytes[..]].concat() } else { bytes };
            let (read, left) = read_of(&bytes);
            if let Ok(source) = read {
                let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
                prop_assert_eq!(bytes.len() - left, FIXED + length);
                if let Some(source) = source {
                    prop_assert_eq!(bytes[12], 0x21);
                    prop_assert_eq!(source.ip(), source.ip().to_canonical());
                }
            }
        }
    }
}
