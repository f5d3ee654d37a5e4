//! Has the system ask whether the other end of a quiet connection is still there.
//!
//! A peer that was switched off says no goodbye: a WebSocket that carries nothing would live until
//! its token ends. Both ends of a connection that is well answer by themselves, whatever their
//! programs do.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Nothing has come for so long: ask.
const QUIET: Duration = Duration::from_secs(20);

/// And again, so often.
const AGAIN: Duration = Duration::from_secs(10);
const TIMES: u32 = 3;

/// What was sent has not been taken by the other end's system for so long: it is gone. Together
/// with the above a dead end is noticed within a minute, whether or not there was something to say.
const UNTAKEN: Duration = Duration::from_secs(50);

/// To a program of ours, or to a plugin: longer than the minute that one has which is there and
/// reads nothing. To the system its closed window looks like an end that is gone.
const UNTAKEN_THERE: Duration = Duration::from_secs(75);

/// Has a client's TCP connection watched.
///
/// # Errors
/// What the system says.
pub fn keep(stream: &impl AsFd) -> io::Result<()> {
    quiet(stream)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(UNTAKEN))
}

/// Has a TCP connection of ours to another program watched. One that is there and reads nothing is
/// left to whoever sends, for its minute.
///
/// # Errors
/// What the system says.
pub fn ask(stream: &impl AsFd) -> io::Result<()> {
    quiet(stream)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(UNTAKEN_THERE))
}

fn quiet(stream: &impl AsFd) -> io::Result<()> {
    let ask = TcpKeepalive::new()
        .with_time(QUIET)
        .with_interval(AGAIN)
        .with_retries(TIMES);
    SockRef::from(stream).set_tcp_keepalive(&ask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_end_is_noticed_within_a_minute() {
        assert!(
            QUIET + AGAIN * TIMES <= Duration::from_secs(55) && UNTAKEN <= QUIET + AGAIN * TIMES
        );
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        keep(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), QUIET);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNTAKEN));
        let other = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        ask(&other).unwrap();
        let socket = SockRef::from(&other);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNTAKEN_THERE));
        let minute = Duration::from_secs(60);
        assert!(
            UNTAKEN_THERE > minute,
            "who reads nothing has its whole minute"
        );
    }
}
