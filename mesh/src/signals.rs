//! What a program of its own process does with signals: the first SIGTERM or SIGINT drains, the second ends at once, SIGHUP reads
//! everything again.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::program::Running;

/// How soon the end of a program is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Attends to signals until the program has ended. Blocks the thread.
///
/// # Errors
/// If signals cannot be received, or the program broke.
pub fn attend(running: Running) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt, mut hangup) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut asked = false;
        loop {
            tokio::select! {
                _ = terminate.recv() => (asked, _) = (true, running.stop().signal()),
                _ = interrupt.recv() => (asked, _) = (true, running.stop().signal()),
                _ = hangup.recv() => running.reload(),
                // Nobody needs to look fifty times a second at a program that just runs.
                _ = look.tick(), if asked => if running.ended() { break },
                () = tokio::time::sleep(Duration::from_secs(1)), if !asked => if running.ended() { break },
            }
        }
        Ok::<_, io::Error>(())
    })?;
    running.wait()
}
