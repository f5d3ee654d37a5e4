//! What the program answers instead of serving: is this configuration good, and by which key does a
//! plugin verify.
//!
//! In: settings that were read. Out: what to print, or every fault, a sentence each. Nothing is
//! bound and nothing runs; what a start would refuse is refused here, since the same functions load
//! it.

use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gapura_protocol::clock::Clock;
use gapura_protocol::identity::Name;
use gapura_runtime::cli::Checked;
use gapura_runtime::room::Room;
use gapura_telemetry::alarms::Alarms;
use gapura_telemetry::log::Log;

use crate::config::Config;
use crate::load::{Loaded, read_signer};
use crate::sign::SignatureForm;

/// Loads everything as a start would; names the fields that this build does not act on yet.
///
/// # Errors
/// Every fault, a sentence each.
pub(crate) fn check(config: &Config) -> Result<Checked, Vec<String>> {
    let clock = Clock::system();
    let log = Log::to("gateway", clock.clone(), Box::new(io::sink()))
        .map_err(|error| vec![format!("no thread can be started: {error}")])?;
    let loaded = Loaded::load(config, &clock, &log, &Alarms::new(log.clone()))?;
    // A provider that is down stops no start; who asks for a check wants to know.
    loaded.keys.fetch_now(&clock)?;
    let mut lines = vec![format!("{:#}", config.to_json())];
    lines.extend(loaded.keys.ring().describe());
    let room = Room::found();
    let share = config.connections_per_address.unwrap_or(room.per_address());
    lines.extend(room.lines());
    lines.push(format!(
        "limit: {:<26} {share}",
        "connections of one address"
    ));
    lines.extend(crate::check::lines(&loaded.registry.table()));
    Ok(Checked {
        lines,
        warnings: [loaded.ground.warnings, loaded.warnings].concat(),
    })
}

/// The keys by which `plugin` verifies `X-Internal-Signature`, as text: one for each of the
/// gateway's secrets.
///
/// # Errors
/// What is wrong with the file that holds the gateway's secrets, a sentence.
pub(crate) fn signing_keys(plugin: &Name, secret_file: &Path) -> Result<Vec<String>, String> {
    // The form makes no difference to the keys.
    let signer = read_signer(secret_file, SignatureForm::default())?;
    let keys = signer.plugin_keys(plugin);
    Ok(keys.iter().map(|key| URL_SAFE_NO_PAD.encode(key)).collect())
}
