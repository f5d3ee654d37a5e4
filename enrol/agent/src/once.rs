//! `--once`: what is due now is done, and what came of it said: for a timer, or a host that is
//! being set up.

use tokio::runtime::LocalOptions;

use crate::host::Host;
use crate::news::Listening;
use crate::renewal;

/// Does it.
///
/// # Errors
/// A sentence.
pub(crate) fn run(host: &Host) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(|error| format!("no runtime can be started: {error}"))?;
    let done = runtime.block_on(async {
        let certificate = renewal::step(host, None).await;
        // A certificate that can't be renewed today is no reason to leave out a revocation.
        let news = Listening::default()
            .turn(host, std::future::pending())
            .await;
        certificate.and(news)
    });
    runtime.shutdown_background();
    done.map_err(|trouble| trouble.to_string())?;
    let held = host.held().ok_or("there is no certificate yet")?;
    let own = held.set.own();
    let line = format!(
        "{} holds generation {}: {}, serial {}",
        host.config.mesh_dir.display(),
        held.generation,
        own.id,
        own.serial_hex()
    );
    let Some(hook) = &host.config.exec else {
        return Ok(line);
    };
    if host.facts.borrow().generations > 0 {
        hook.run(&host.hook_news(&held))?;
    }
    Ok(line)
}
