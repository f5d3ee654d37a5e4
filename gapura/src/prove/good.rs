//! Good requests: who is behind the door, what passes it unharmed before the attacks and after
//! them, and what the plugin has seen.
//!
//! In: a door, tokens. Out: what good requests look like behind it. A door that lets nothing in
//! would hold everything, so that without a good request nothing is judged.

use std::time::Duration;

use serde_json::Value;

use super::answer::Answer;
use super::exchange;
use super::fill::Filling;
use super::judge::{Baseline, identity_of};
use super::mark;
use super::seen::Seen;
use super::target::Target;
use super::wire::Protocol;
use crate::error::Error;

/// What the plugin says of itself.
pub(super) struct Witness {
    pub(super) listens: String,
    pub(super) loopback: bool,
}

/// Asks whether our plugin is behind the door. The one request that goes out before leave is given:
/// a GET with the good token.
pub(super) fn witness(filling: &Filling<'_>) -> Option<Witness> {
    let nonce = filling.run.name();
    let bytes = filling.good(
        Protocol::Http1,
        &format!("/prove-nonce/{nonce}"),
        &filling.good.whole,
        "hello",
    );
    let answer = exchange::once(filling.target, Protocol::Http1, &bytes).ok()?;
    let data = serde_json::from_slice::<Value>(&answer.body).ok()?["data"].take();
    (data["answer"].as_str()? == mark::answer_to(nonce)).then_some(())?;
    Some(Witness {
        listens: data["listens"].as_str()?.to_owned(),
        loopback: data["loopback"].as_bool()?,
    })
}

/// The marks of good requests.
const GOOD: usize = 900_001;
const GOOD_OTHER: usize = 900_002;
const GOOD_UPLOAD: usize = 900_003;
const GOOD_HTTP2: usize = 900_004;
const GOOD_UPLOAD_HTTP2: usize = 900_005;

/// What a good request looks like: a door that lets nothing in would hold everything.
pub(super) fn baseline(filling: &Filling<'_>, plugin: bool) -> Result<Baseline, Error> {
    let good = |protocol, token: &str, number: usize| {
        let mark = filling.run.mark(number);
        passes(
            filling.target,
            protocol,
            &filling.good(protocol, &format!("/{mark}"), token, &mark),
            plugin,
        )
    };
    let upload = |protocol, number: usize| {
        passes(
            filling.target,
            protocol,
            &filling.good_upload(protocol, &filling.run.mark(number)),
            plugin,
        )
    };
    let failed = |what: &str, why: String| {
        Error::Failed(format!(
            "{}: {what}: {why}; nothing was attacked",
            filling.target.url
        ))
    };
    good(Protocol::Http1, &filling.good.whole, GOOD)
        .map_err(|why| failed("a good request does not get through", why))?;
    if let Some(other) = filling.other {
        good(Protocol::Http1, other, GOOD_OTHER)
            .map_err(|why| failed("the other token's request does not get through", why))?;
    }
    let not_good =
        |request: Result<(), String>, what: &str| request.err().map(|why| format!("{what}: {why}"));
    let http1 = not_good(
        upload(Protocol::Http1, GOOD_UPLOAD),
        "a good upload does not get through",
    );
    let http2 = not_good(
        good(Protocol::Http2, &filling.good.whole, GOOD_HTTP2),
        "a good request does not get through",
    )
    .or_else(|| {
        not_good(
            upload(Protocol::Http2, GOOD_UPLOAD_HTTP2),
            "a good upload does not get through",
        )
    });
    Ok(Baseline {
        plugin,
        http1,
        http2,
        ..Baseline::default()
    })
}

/// Behind the door is our plugin, which answers 200, or something of which only a refusal by the
/// door is no good.
fn passes(target: &Target, protocol: Protocol, bytes: &[u8], plugin: bool) -> Result<(), String> {
    let Answer { status, .. } = exchange::once(target, protocol, bytes)?;
    match status {
        200..=299 => Ok(()),
        404 | 405 if !plugin => Ok(()),
        status => Err(format!("answered {status}")),
    }
}

pub(super) fn still_there(filling: &Filling<'_>) -> Result<(), Error> {
    let bytes = filling.good(Protocol::Http1, "/after", &filling.good.whole, "after");
    let answer = exchange::once(filling.target, Protocol::Http1, &bytes);
    let gone = |why: String| {
        Error::Failed(format!(
            "{}: after the attacks a good request does not get through: {why}",
            filling.target.url
        ))
    };
    match answer {
        Ok(answer) if answer.status < 500 => Ok(()),
        Ok(answer) => Err(gone(format!("answered {}", answer.status))),
        Err(why) => Err(gone(why)),
    }
}

/// Everything that reached the plugin, fetched through the door.
pub(super) fn seen_behind(filling: &Filling<'_>) -> Result<Vec<Seen>, Error> {
    // What hides in a message reaches the plugin with it, or right behind it on a connection of the
    // door's own.
    std::thread::sleep(Duration::from_millis(300));
    let mut all = Vec::new();
    loop {
        let tail = format!("/prove-seen/{}/{}", filling.run.name(), all.len());
        let bytes = filling.good(Protocol::Http1, &tail, &filling.good.whole, "tell");
        let failed = |why: String| {
            Error::Failed(format!(
                "{}: the plugin does not tell what it saw: {why}",
                filling.target.url
            ))
        };
        let answer = exchange::once(filling.target, Protocol::Http1, &bytes).map_err(failed)?;
        let value: Value =
            serde_json::from_slice(&answer.body).map_err(|err| failed(err.to_string()))?;
        let page: Vec<Seen> = value["data"]["seen"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Seen::from_json)
            .collect();
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

/// Fills in what the good requests looked like behind the door.
pub(super) fn complete(base: &mut Baseline, seen: &[Seen], filling: &Filling<'_>) {
    let of = |number: usize| {
        let mark = filling.run.mark(number);
        seen.iter().find(|seen| seen.mark == mark)
    };
    if let Some(good) = of(GOOD) {
        base.identity = identity_of(good);
        base.prefix = good.target.replace(&good.mark, "");
    }
    base.other = of(GOOD_OTHER).map(identity_of);
    if base.plugin && of(GOOD_HTTP2).is_none() && base.http2.is_none() {
        base.http2 = Some("a good request over HTTP/2 did not reach the plugin".to_owned());
    }
    // Uploads are judged only where a whole one arrives whole.
    for (number, not_good) in [
        (GOOD_UPLOAD, &mut base.http1),
        (GOOD_UPLOAD_HTTP2, &mut base.http2),
    ] {
        let whole = of(number).is_some_and(|seen| seen.complete);
        if base.plugin && !whole && not_good.is_none() {
            *not_good = Some("a good upload did not reach the plugin".to_owned());
        }
    }
}
