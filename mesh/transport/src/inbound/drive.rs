//! Sees one connection through: its deadlines between requests, a client that stops reading, and the program's end.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::strict_io::Link;
use crate::shutdown::{Phase, Stopping};
use crate::timers::Timers;

/// A whole request head: whoever needs longer for 32 KiB is holding a connection, not sending a request.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// A connection between two requests.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(60);

/// For a client to take what we write, and for us to take the rest of what it sends.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// For a connection that was told to close, to do so.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a connection is waited on for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// Its first head.
    First,
    /// The rest of a head.
    Head,
    /// The next request, after so many.
    Idle(usize),
    /// A request that is under way.
    Request,
    /// The rest of a body whose answer came early, after so many readings.
    Rest(u64),
    /// A client that takes nothing, since this mark.
    Stalled(u64),
    /// Its end: it was told to go, and no request is under way.
    Closing,
}

/// Drives `connection` to its end; `close` asks it to take no further request, which it is once `retired` is ready at the latest.
/// Whether it ended by itself: a connection that was upgraded has.
pub async fn drive<C: Future>(
    connection: C,
    close: impl Fn(Pin<&mut C>),
    retired: impl Future<Output = ()>,
    link: &Arc<Link>,
    timers: &Timers,
    mut stopping: Stopping,
    http1: bool,
) -> bool {
    let mut retired = std::pin::pin!(retired);
    let mut connection = std::pin::pin!(connection);
    let deadline = timers.sleep(HEAD_WITHIN);
    let mut waiting = Waiting::First;
    let mut closing = false;
    // HTTP/2 can say that it goes before it does; HTTP/1.1 says so with each answer, and closes when the listener does. So does a
    // connection of HTTP/2 that comes during the delay: told at once, it would carry nothing.
    let closes_at = if http1 || stopping.phase() != Phase::Run {
        Phase::Closing
    } else {
        Phase::Draining
    };
    loop {
        if !closing && stopping.phase() >= closes_at {
            close(connection.as_mut());
            closing = true;
        }
        let turn = poll_fn(|cx| {
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            let next = now_waiting(waiting, link, closing, http1);
            if next != waiting {
                waiting = next;
                match waiting.limit() {
                    Some(limit) => deadline.reset(limit),
                    None => deadline.unset(),
                }
            }
            deadline.poll_passed(cx).map(|()| false)
        });
        tokio::select! {
            biased;
            ended = turn => match (ended, waiting) {
                (true, _) => return true,
                (false, Waiting::Head) => {
                    link.give_up();
                    closing = true;
                }
                (false, Waiting::First | Waiting::Idle(_)) => {
                    close(connection.as_mut());
                    closing = true;
                }
                // It had its time.
                (false, Waiting::Request | Waiting::Rest(_) | Waiting::Stalled(_) | Waiting::Closing) => return false,
            },
            () = &mut retired, if !closing => {
                close(connection.as_mut());
                closing = true;
            }
            () = stopping.reached(closes_at), if !closing => {}
        }
    }
}

fn now_waiting(before: Waiting, link: &Link, closing: bool, http1: bool) -> Waiting {
    let (blocked, mark) = link.write_state();
    match before {
        Waiting::Stalled(since) if blocked && mark == since => before,
        _ if blocked => Waiting::Stalled(mark),
        _ if link.requests() > 0 => Waiting::Request,
        _ if link.is_in_body() => Waiting::Rest(link.reads()),
        _ if closing => Waiting::Closing,
        // Over HTTP/2 a frame that is no request would look like the beginning of one: an idle client may well ping.
        _ if http1 && link.is_in_head() => Waiting::Head,
        _ if link.served() == 0 => Waiting::First,
        // Whole requests may come and go between two looks: each starts the time anew.
        _ => Waiting::Idle(link.served()),
    }
}

impl Waiting {
    /// For how long; the pipeline has its own limits for a request.
    fn limit(self) -> Option<Duration> {
        match self {
            Self::First | Self::Head => Some(HEAD_WITHIN),
            Self::Idle(_) => Some(KEEP_ALIVE_IDLE),
            Self::Request => None,
            Self::Rest(_) | Self::Stalled(_) => Some(STALL_LIMIT),
            Self::Closing => Some(LAST_WORDS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_told_to_go_has_all_the_time_for_a_request_that_is_under_way() {
        let link = Link::default();
        assert_eq!(
            now_waiting(Waiting::First, &link, false, true),
            Waiting::First
        );
        let request = link.begin();
        assert_eq!(
            now_waiting(Waiting::Closing, &link, true, true),
            Waiting::Request
        );
        drop(request);
        assert_eq!(
            now_waiting(Waiting::Request, &link, true, true),
            Waiting::Closing
        );
        assert_eq!(
            now_waiting(Waiting::Request, &link, false, true),
            Waiting::Idle(1)
        );
    }
}
