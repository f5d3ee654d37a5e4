//! Roots and CRLs: asked for all the time, and there at once when they change.
//!
//! In: a CA server that answers when it has news, or after a minute. Out: one more generation
//! whenever they are others than those that are there. Roots are believed from who is proven under
//! the roots that are held, and nobody else. What does not fit, or goes back behind what is there,
//! is an alarm and changes nothing; where the CA has forgotten what its own CRLs here say, it is
//! given them back.
//!
//! Who asks need not be proven, since all of this is public: a host whose certificate has ended, or
//! is revoked, asks without it.

use std::rc::Rc;
use std::time::Duration;

use gapura_certificates::refusal::Refusal;
use gapura_protocol::clock::unix;
use gapura_reload::asked::Asked;
use gapura_telemetry::alarms::Alarm;
use gapura_telemetry::log::Level;

use crate::directory::Held;
use crate::enrol::still_proven;
use crate::est;
use crate::host::Host;
use crate::link::Link;
use crate::reminder::remind;
use crate::trouble::Trouble;

/// Seconds by which two clocks may differ before somebody should look.
const CLOCKS_APART: u64 = 240;

/// A CA server lets nobody wait whom it does not know: then it is asked so often.
const AS_NOBODY_EVERY: Duration = Duration::from_secs(30);

/// For pauses: what fails is tried again within half a minute, since a revocation is what may be
/// missed.
const AT_STAKE: Option<u64> = Some(600);

/// What is known of the news so far.
#[derive(Default)]
pub(crate) struct Listening {
    link: Option<([u8; 32], Link)>,
    /// What is in force, as the CA server calls it.
    after: Option<String>,
}

/// Keeps roots and CRLs fresh until it is dropped.
pub(crate) async fn run(host: Rc<Host>, mut asked: Asked) {
    let mut listening = Listening::default();
    let mut failures = 0;
    let mut changed = host.follow();
    loop {
        if host.held().is_none() {
            tokio::select! {
                _ = changed.changed() => {}
                () = asked.changed() => {}
            }
            continue;
        }
        // What is waited for is broken off, never what is written.
        let wake = async {
            tokio::select! {
                _ = changed.changed() => {}
                () = asked.changed() => {}
            }
        };
        match listening.turn(&host, wake).await {
            Ok(()) => {
                changed.borrow_and_update();
                if failures > 0 {
                    let message = "the CA is heard of again";
                    host.log.event(Level::Info, "news_again", message, &[]);
                }
                failures = 0;
                if !host.facts.borrow().heard_as_host {
                    tokio::select! {
                        () = tokio::time::sleep(AS_NOBODY_EVERY) => {}
                        _ = changed.changed() => {}
                        () = asked.changed() => {}
                    }
                }
            }
            Err(trouble) => {
                host.failed("news", &trouble);
                match &trouble {
                    Trouble::Misfit(_) | Trouble::Disk(_) => {
                        host.alarms.raise(Alarm::Trust, &trouble.to_string());
                    }
                    Trouble::RolledBack(_) => {
                        host.alarms.raise(Alarm::RolledBack, &trouble.to_string());
                    }
                    _ => {}
                }
                // The first answer after a failure is not to be waited for: it says that the CA is
                // there.
                listening = Listening::default();
                let pause = host.pause(failures, AT_STAKE);
                failures = failures.saturating_add(1);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = asked.changed() => {}
                }
            }
        }
    }
}

impl Listening {
    /// Waits for news once, and puts them in force; or until `wake`, after which a connection is
    /// made anew: the CA server ends one with the certificate that it was made by.
    ///
    /// # Errors
    /// Why they could not be had, or are not taken.
    pub(crate) async fn turn(
        &mut self,
        host: &Host,
        wake: impl Future<Output = ()>,
    ) -> Result<(), Trouble> {
        let Some(held) = host.held() else {
            return Ok(());
        };
        let as_host = counts(host, &held);
        // A connection is good for as long as what it was judged by is in force.
        let mut link = match self.link.take() {
            Some((by, link)) if by == *held.set.hash() => link,
            _ => {
                let url = host.server().await?;
                let tls = if as_host {
                    held.set.authority_config()
                } else {
                    held.set.authority_config_of_nobody()
                };
                Link::open(&url, tls, Some(&held.set)).await?
            }
        };
        let news = tokio::select! {
            news = est::news(&mut link, self.after.as_deref()) => news?,
            () = wake => {
                self.after = None;
                return Ok(());
            }
        };
        compare_clocks(host, news.as_of);
        if self.after.as_ref() != Some(&news.generation) {
            let authorities = est::cacerts(&mut link).await?;
            let publishing = host.publish(|before| {
                let (ca, crl) = (news.roots.clone(), news.crls.clone());
                Some(before?.with_news(ca, crl, &authorities))
            });
            let now = match publishing.await {
                Err(Trouble::RolledBack(why)) => {
                    // Whom it does not know it takes nothing from; the next certificate will do, or
                    // another host.
                    return Err(match as_host {
                        true => remind(host, &mut link, why).await,
                        false => Trouble::RolledBack(why),
                    });
                }
                other => other?,
            };
            still_proven(host, &now.set, &link)?;
            self.after = Some(news.generation.clone());
        }
        host.heard(&news, as_host).await;
        host.succeeded("news");
        host.alarms.clear(Alarm::Trust);
        host.alarms.clear(Alarm::RolledBack);
        let by = host.held().map(|held| *held.set.hash());
        // One without a certificate is ended by the CA server before it is asked again.
        self.link = by.filter(|_| as_host).map(|by| (by, link));
        Ok(())
    }
}

/// Whether our certificate is of use at a CA server.
fn counts(host: &Host, held: &Held) -> bool {
    !matches!(
        held.set.own_refusal(host.clock.now()),
        Some(Refusal::Expired { .. } | Refusal::Revoked { .. })
    )
}

/// News can't be from the future. A clock that is ahead shows by certificates that seem to have
/// ended.
fn compare_clocks(host: &Host, theirs: u64) {
    let ahead = theirs.saturating_sub(unix(host.clock.now()));
    if ahead > CLOCKS_APART {
        let sentence = format!(
            "the CA server's clock is at least {ahead} s ahead of ours: set both by NTP, or what it issues begins too late here"
        );
        host.alarms.raise(Alarm::Clock, &sentence);
    } else {
        host.alarms.clear(Alarm::Clock);
    }
}
