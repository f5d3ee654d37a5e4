//! Roots and CRLs: asked for all the time, and there at once when they change.
//!
//! In: a CA server that answers when it has news, or after a minute. Out: one more generation whenever they are others than those that
//! are there. Roots are believed from who is proven under the roots that are held, and nobody else. What does not fit, or goes back
//! behind what is there, is an alarm and changes nothing.

use std::rc::Rc;

use gapura_protocol::clock::unix;
use gapura_reload::asked::Asked;
use gapura_telemetry::alarms::Alarm;
use gapura_telemetry::log::Level;

use crate::enrol::still_proven;
use crate::est;
use crate::host::Host;
use crate::link::Link;
use crate::trouble::Trouble;

/// Seconds by which two clocks may differ before somebody should look.
const CLOCKS_APART: u64 = 240;

/// For pauses: what fails is tried again within half a minute, since a revocation is what may be missed.
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
            }
            Err(trouble) => {
                host.failed("news", &trouble);
                if let Trouble::Misfit(_) | Trouble::Disk(_) = &trouble {
                    host.alarms.raise(Alarm::Trust, &trouble.to_string());
                }
                // The first answer after a failure is not to be waited for: it says that the CA is there.
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
    /// Waits for news once, and puts them in force; or until `wake`, after which a connection is made anew: the CA server ends one with
    /// the certificate that it was made by.
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
        // A connection is good for as long as what it was judged by is in force.
        let mut link = match self.link.take() {
            Some((by, link)) if by == *held.set.hash() => link,
            _ => {
                let url = host.server().await?;
                Link::open(&url, held.set.authority_config(), Some(&held.set)).await?
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
            let now = publishing.await?;
            still_proven(host, &now.set, &link)?;
            self.after = Some(news.generation.clone());
        }
        host.heard(&news);
        host.succeeded("news");
        host.alarms.clear(Alarm::Trust);
        let by = host.held().map(|held| *held.set.hash());
        self.link = by.map(|by| (by, link));
        Ok(())
    }
}

/// News can't be from the future. A clock that is ahead shows by certificates that seem to have ended.
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
