//! This host's certificate over time: the first one for a join token, the next one at two thirds of
//! the life of the last.
//!
//! In: the clock, what is held, SIGHUP. Out: a certificate in force, or an alarm that says what to
//! do. Invariant: what is held is never given up for a try that failed, and no try that failed is
//! the last.

use std::rc::Rc;
use std::time::Duration;

use gapura_certificates::refusal::Refusal;
use gapura_reload::asked::Asked;
use gapura_telemetry::alarms::Alarm;

use crate::directory::Held;
use crate::enrol;
use crate::est;
use crate::host::{self, Host};
use crate::link::Link;
use crate::schedule;
use crate::trouble::Trouble;

/// The wall clock may be set, and a token may be put there: nobody sleeps longer than this.
const LOOK_EVERY: Duration = Duration::from_secs(20);

/// For pauses, as if this many seconds were left: a try within half a minute.
const NOTHING_LEFT: u64 = 600;

/// Keeps the certificate fresh until it is dropped.
pub(crate) async fn run(host: Rc<Host>, mut asked: Asked) {
    let mut failures = 0;
    let mut trouble: Option<Trouble> = None;
    loop {
        let wait = match step(&host, trouble.as_ref()).await {
            Ok(()) => {
                (failures, trouble) = (0, None);
                // What failed before, by a clock that was wrong, is not wanted any more.
                host.succeeded("certificate");
                host.alarms.clear(Alarm::Renewal);
                let due = host.held().map(|held| host.due(&held));
                let left = due.map_or(0, |due| due.saturating_sub(host.clock.unix()));
                Duration::from_secs(left.max(1)).min(LOOK_EVERY)
            }
            Err(fault) => {
                tell(&host, &fault);
                let now = host.clock.unix();
                let left = host
                    .held()
                    .map(|held| held.set.own().not_after.saturating_sub(now));
                // Who has none that counts has nothing to lose by asking again soon.
                let left = left.filter(|left| *left > 0).unwrap_or(NOTHING_LEFT);
                let pause = host.pause(failures, Some(left));
                failures += 1;
                // Somebody who brings a token wants to see what comes of it.
                let most = if fault.needs_token() {
                    LOOK_EVERY
                } else {
                    pause
                };
                trouble = Some(fault);
                pause.min(most)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = asked.changed() => {}
        }
    }
}

/// Does what is due. `before` is what the last try failed with.
///
/// # Errors
/// Why it could not be done.
pub(crate) async fn step(host: &Host, before: Option<&Trouble>) -> Result<(), Trouble> {
    if host.held().is_none() {
        host.look().await;
    }
    let Some(held) = host.held() else {
        return enrol::enrol(host).await;
    };
    let now = host.clock.unix();
    let over = over_for_good(host, &held);
    if over.is_none() && now < host.due(&held) {
        return Ok(());
    }
    // A token that is there helps where the certificate itself can't any more.
    if over.is_some() || before.is_some_and(Trouble::needs_token) {
        match (enrol::enrol(host).await, over) {
            (Err(why), Some(over)) if why.needs_token() || why.spends_token() => {
                return Err(Trouble::Token(format!("{over}: {why}")));
            }
            (Err(Trouble::Token(_)), None) => {}
            (other, _) => return other,
        }
    }
    renew(host, &held).await
}

/// Why the certificate that is held can never renew itself again, in a sentence that says what to
/// do.
fn over_for_good(host: &Host, held: &Held) -> Option<String> {
    let id = &held.set.own().id;
    let what = match held.set.own_refusal(host.clock.now()) {
        _ if held.set.own().expired(host.clock.unix()) => return Some(host::expired(held)),
        Some(Refusal::Revoked { .. }) => "is revoked",
        _ if host.facts.borrow().is_unwelcome => "is taken by the CA server no more",
        _ => return None,
    };
    Some(format!(
        "the certificate of {id} {what}; if this host is still trusted, make a join token with `gapura-pki token {} {}` and put it into the file of --token-file",
        id.role(),
        id.name()
    ))
}

async fn renew(host: &Host, held: &Held) -> Result<(), Trouble> {
    let url = host.server().await?;
    let key = enrol::pending_key(&host.state).await?;
    let mut link = Link::open(&url, held.set.authority_config(), Some(&held.set)).await?;
    let leaf = match enrol::usable(host, &key) {
        Some(leaf) => leaf,
        None => {
            let request = key.request(&enrol::identity(&held.set))?;
            let answer = est::renew(&mut link, &request).await?;
            enrol::keep(&host.state, &key, answer).await?
        }
    };
    enrol::complete(host, &mut link, &leaf, &key).await
}

fn tell(host: &Host, trouble: &Trouble) {
    host.failed("certificate", trouble);
    let now = host.clock.unix();
    let overdue = host
        .held()
        .is_some_and(|held| schedule::is_overdue(host.due(&held), held.set.own().not_after, now));
    if host.held().is_some() && (trouble.is_lasting() || overdue) {
        let sentence = format!("the certificate is not renewed: {trouble}");
        host.alarms.raise(Alarm::Renewal, &sentence);
    }
}
