//! What a program of its own process does with signals: the first SIGTERM or SIGINT drains, the
//! second ends at once, SIGHUP reads everything again.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::program::Running;
use crate::systemd::Manager;

/// How soon the end of a program is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Attends to signals until the program has ended, and keeps the service manager informed. Blocks
/// the thread.
///
/// # Errors
/// If signals cannot be received, or the program broke.
pub(crate) fn attend(running: Running, manager: &Manager) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt, mut hangup) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
        manager.ready(&running);
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut asked = false;
        let tending = manager.tend(&running);
        tokio::pin!(tending);
        let stop = || {
            manager.stopping();
            running.stop().signal();
            true
        };
        loop {
            tokio::select! {
                _ = terminate.recv() => asked = stop(),
                _ = interrupt.recv() => asked = stop(),
                _ = hangup.recv() => manager.reload(&running).await,
                () = &mut tending => {}
                // Nobody needs to look fifty times a second at a program that just runs.
                _ = look.tick(), if asked => if running.ended() { break },
                () = tokio::time::sleep(Duration::from_secs(1)), if !asked => if running.ended() { break },
            }
        }
        Ok::<_, io::Error>(())
    })?;
    running.wait()
}
