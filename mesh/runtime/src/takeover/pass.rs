//! One line of text with open files, through a unix socket (SCM_RIGHTS, unix(7)).
//!
//! In: a connected stream. Out: the line and the files, closed on exec. A line that is longer than
//! [`LINE_MOST`], or comes with more files than [`FILES_MOST`], is none. Nothing here knows what
//! the files are.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Every listener that a program can have, twice over.
pub(super) const FILES_MOST: usize = 32;

/// Every name of them.
pub(super) const LINE_MOST: usize = 1024;

/// Sends a line with files, in one piece.
pub(super) fn send(socket: impl AsFd, line: &str, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("too many listeners to pass"));
    }
    let text = format!("{line}\n");
    // A peer that is gone is an error of this call, and no signal that ends the program.
    let sent = sendmsg(
        socket,
        &[IoSlice::new(text.as_bytes())],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    if sent == text.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// Receives a line and the files that came with it.
pub(super) fn receive(socket: impl AsFd) -> io::Result<(String, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; LINE_MOST];
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut text)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            files.extend(passed);
        }
    }
    let text = text.get(..received.bytes).unwrap_or_default();
    let line = text
        .strip_suffix(b"\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let line = std::str::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok((line.to_owned(), files))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_line_and_its_files_come_out_at_the_other_end() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut kept, passed) = UnixStream::pair().unwrap();
        send(&here, "one", &[passed.as_fd()]).unwrap();
        drop(passed);
        let (line, mut files) = receive(&there).unwrap();
        assert_eq!((line.as_str(), files.len()), ("one", 1));
        let mut passed = UnixStream::from(files.remove(0));
        passed.write_all(b"x").unwrap();
        let mut byte = [0];
        kept.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        send(&here, "two", &[]).unwrap();
        assert_eq!(receive(&there).unwrap().0, "two");
        drop(here);
        assert!(receive(&there).is_err());
        assert!(send(&there, "three", &[]).is_err());
    }
}
