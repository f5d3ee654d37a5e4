//! Sees one client's connection through: its deadlines between requests, a client that stops reading, and the program's end.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use gapura_mesh::shutdown::Phase;
use gapura_mesh::worker::Core;

use super::strict_io::Link;
use crate::limits::{HEAD_WITHIN, KEEP_ALIVE_IDLE};

/// For a client to take what we write.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// For a connection that was told to close, to do so.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a connection is waited on for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// Its first head.
    First,
    /// The rest of a head.
    Head,
    /// The next request, after so many.
    Idle(usize),
    /// A request that is under way.
    Request,
    /// A client that takes nothing, since this mark.
    Stalled(u64),
    /// Its end.
    Closing,
}

/// Drives `connection` to its end; `close` asks it to take no further request. Whether it ended by itself: a connection that
/// was upgraded has.
pub(super) async fn drive<C: Future>(connection: C, close: impl Fn(Pin<&mut C>), link: &Arc<Link>, core: &Rc<Core>, http1: bool) -> bool {
    let mut connection = std::pin::pin!(connection);
    let mut stopping = core.seed.stopping.clone();
    let deadline = core.timers.sleep(HEAD_WITHIN);
    let mut waiting = Waiting::First;
    // HTTP/2 can say that it goes before it does; HTTP/1.1 says so with each answer, and closes when the listener does.
    let mut closes_at = if http1 { Phase::Closing } else { Phase::Draining };
    loop {
        let phase = stopping.phase();
        if phase >= closes_at {
            close(connection.as_mut());
            closes_at = Phase::Cut;
        }
        let turn = poll_fn(|cx| {
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            let next = now_waiting(waiting, link);
            if next != waiting {
                waiting = next;
                match waiting {
                    Waiting::First | Waiting::Closing => {}
                    Waiting::Head => deadline.reset(HEAD_WITHIN),
                    Waiting::Idle(_) => deadline.reset(KEEP_ALIVE_IDLE),
                    Waiting::Request => deadline.unset(),
                    Waiting::Stalled(_) => deadline.reset(STALL_LIMIT),
                }
            }
            deadline.poll_passed(cx).map(|()| false)
        });
        tokio::select! {
            biased;
            ended = turn => match (ended, waiting) {
                (true, _) => return true,
                (false, Waiting::Head) if http1 => {
                    link.give_up();
                    (waiting, _) = (Waiting::Closing, deadline.reset(LAST_WORDS));
                }
                (false, Waiting::First | Waiting::Idle(_)) => {
                    close(connection.as_mut());
                    (waiting, _) = (Waiting::Closing, deadline.reset(LAST_WORDS));
                }
                // It had its time.
                (false, _) => return false,
            },
            _ = stopping.rises(), if closes_at < Phase::Cut => {}
        }
    }
}

fn now_waiting(before: Waiting, link: &Link) -> Waiting {
    let (blocked, mark) = link.write_state();
    match before {
        Waiting::Closing => Waiting::Closing,
        Waiting::Stalled(since) if blocked && mark == since => before,
        _ if blocked => Waiting::Stalled(mark),
        _ if link.requests() > 0 => Waiting::Request,
        _ if link.is_in_head() => Waiting::Head,
        _ if link.served() == 0 => Waiting::First,
        // Whole requests may come and go between two looks: each starts the time anew.
        _ => Waiting::Idle(link.served()),
    }
}
