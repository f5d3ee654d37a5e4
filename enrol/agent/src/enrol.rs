//! A first certificate, for a join token.
//!
//! In: the token. Out: a whole mesh directory. In this order, so that the token is shown only to
//! who is proven, and nothing is lost wherever it breaks off: the key is on the disk; whoever
//! answers shows the CAs' certificates; the one root that the token names is among them; the CA
//! server proves itself under it; the token and the request go; the answer is on the disk; roots
//! and CRLs come by the new certificate; the CA server is not revoked by them; one generation is
//! written.

use gapura_certificates::peer::Peer;
use gapura_certificates::purpose::Purpose;
use gapura_enrol::authorization::Claim;
use gapura_enrol::token::JoinToken;
use gapura_fetch::Url;
use gapura_files::pem;
use gapura_protocol::clock::{Rfc3339, from_unix};
use gapura_protocol::identity::PeerId;
use gapura_reload::watch::blocking;
use gapura_trust::set::TrustSet;
use rustls::pki_types::CertificateDer;

use crate::directory::{Candidate, chain};
use crate::est;
use crate::host::{Host, server_of};
use crate::key::HostKey;
use crate::link::Link;
use crate::reminder::remind;
use crate::state::State;
use crate::stranger::{self, Root};
use crate::trouble::Trouble;

/// Gets a certificate for the token that is there.
///
/// # Errors
/// Why not. A token that is good for nothing any more is not tried again.
pub(crate) async fn enrol(host: &Host) -> Result<(), Trouble> {
    let token = host.token().await?;
    if let Some(held) = host.held()
        && held.set.own().id != token.identity()
    {
        return Err(Trouble::Token(format!(
            "the join token is for {}, and the mesh directory holds the certificate of {}; give each its own directory",
            token.identity(),
            held.set.own().id
        )));
    }
    let id = token.id.clone();
    let done = with_token(host, token).await;
    if let Err(trouble) = &done
        && trouble.spends_token()
    {
        host.spend(&id, trouble);
    }
    done
}

async fn with_token(host: &Host, token: JoinToken) -> Result<(), Trouble> {
    let url = match &host.config.ca {
        Some(url) => url.clone(),
        None => server_of(Some(&token))?,
    };
    let wanted = token.identity();
    let key = pending_key(&host.state).await?;
    let mut stranger = Link::open(&url, stranger::unjudged(&host.clock)?, None).await?;
    let shown = est::cacerts(&mut stranger).await?;
    drop(stranger);
    let root = Root::among(&shown, &token.root_sha256, &token.trust_domain)?;
    let leaf = match usable(host, &key) {
        Some(leaf) => leaf,
        None => ask(host, &url, token, &root, &key).await?,
    };
    let first = Candidate {
        chain: chain(&leaf, shown.iter(), &shown),
        key: key.pem().clone(),
        ca: pem::encode("CERTIFICATE", root.der()),
        crl: None,
    };
    let set = host
        .directory
        .judge(&first, None, true)
        .map_err(|error| not_ours(host, &error.to_string()))?;
    if set.own().id != wanted {
        return Err(not_ours(host, &format!("it is for {}", set.own().id)));
    }
    let mut link = Link::open(&url, set.authority_config(), Some(&set)).await?;
    complete(host, &mut link, &leaf, &key).await
}

/// Shows the token, now that the CA server is proven.
async fn ask(
    host: &Host,
    url: &Url,
    token: JoinToken,
    root: &Root,
    key: &HostKey,
) -> Result<CertificateDer<'static>, Trouble> {
    let now = host.clock.unix();
    if token.expired(now) {
        return Err(Trouble::Token(format!(
            "the join token ended at {}, and our clock says {}; make a new one with `gapura-pki token {} {}`",
            Rfc3339(from_unix(token.expires)),
            Rfc3339(from_unix(now)),
            token.role,
            token.name
        )));
    }
    let request = key.request(&token.identity())?;
    let claim = Claim {
        role: token.role,
        name: token.name,
        secret: token.secret,
    };
    let mut link = Link::open(url, root.config(&host.clock)?, None).await?;
    let answer = est::enrol(&mut link, &claim, &request).await?;
    keep(&host.state, key, answer).await
}

/// The certificate for our key in an answer, kept on the disk.
pub(crate) async fn keep(
    state: &State,
    key: &HostKey,
    answer: Vec<CertificateDer<'static>>,
) -> Result<CertificateDer<'static>, Trouble> {
    let leaf = answer.into_iter().find(|der| key.is_of(der));
    let leaf = leaf.ok_or_else(|| {
        Trouble::Nonsense(
            "its answer holds no certificate for the key that was asked for".to_owned(),
        )
    })?;
    let (state, kept) = (state.clone(), leaf.clone());
    blocking(move || state.keep_answer(&[kept]))
        .await
        .unwrap_or(Ok(()))?;
    Ok(leaf)
}

/// The key to ask a certificate for.
pub(crate) async fn pending_key(state: &State) -> Result<HostKey, Trouble> {
    let state = state.clone();
    blocking(move || state.key())
        .await
        .unwrap_or_else(|| Err(Trouble::Disk("the making of a key broke off".to_owned())))
}

/// What the CA server answered before something broke off, if it is still in date.
pub(crate) fn usable(host: &Host, key: &HostKey) -> Option<CertificateDer<'static>> {
    let leaf = host.state.answer(key)?.into_iter().next()?;
    let peer = Peer::of_judged_chain(std::slice::from_ref(&leaf)).ok()?;
    (!peer.expired(host.clock.unix())).then_some(leaf)
}

/// Gets roots and CRLs over `link`, on which the CA server is proven, and puts them into force
/// together with a new leaf.
pub(crate) async fn complete(
    host: &Host,
    link: &mut Link,
    leaf: &CertificateDer<'static>,
    key: &HostKey,
) -> Result<(), Trouble> {
    in_date(host, leaf)?;
    let news = est::news(link, None).await?;
    let authorities = est::cacerts(link).await?;
    let candidate = || Candidate {
        chain: chain(leaf, authorities.iter(), &authorities),
        key: key.pem().clone(),
        ca: news.roots.clone(),
        crl: Some(news.crls.clone()),
    };
    let set = host.directory.judge(&candidate(), None, false);
    // What does not fit at all is told by the publishing.
    if let Ok(set) = &set {
        still_proven(host, set, link)?;
    }
    match host.publish(|_| Some(candidate())).await {
        Ok(_) => {}
        // The answer stays, and is published by the next try.
        Err(Trouble::RolledBack(why)) => return Err(remind(host, link, why).await),
        Err(why) => {
            if let Trouble::Misfit(_) = &why {
                host.state.drop_answer();
            }
            return Err(why);
        }
    }
    host.heard(&news, true).await;
    host.certificate_came();
    let state = host.state.clone();
    blocking(move || state.published()).await.unwrap_or(Ok(()))
}

/// Whether a certificate that just came has begun and not ended, which it has by the CA's clock.
fn in_date(host: &Host, leaf: &CertificateDer<'static>) -> Result<(), Trouble> {
    let Ok(peer) = Peer::of_judged_chain(std::slice::from_ref(leaf)) else {
        return Ok(()); // the judgement of the set says more
    };
    let now = host.clock.unix();
    if !peer.expired(now) && !peer.not_yet_valid(now) {
        return Ok(());
    }
    host.state.drop_answer();
    Err(Trouble::OutOfDate(format!(
        "the certificate that just came counts from {} to {}, and our clock says {}",
        Rfc3339(from_unix(peer.not_before)),
        Rfc3339(from_unix(peer.not_after)),
        Rfc3339(from_unix(now))
    )))
}

/// Whether who gave us these CRLs is revoked by them.
pub(crate) fn still_proven(host: &Host, set: &TrustSet, link: &Link) -> Result<(), Trouble> {
    set.judge(link.peer(), Purpose::Authority, host.clock.now())
        .map(drop)
        .map_err(|refusal| Trouble::Distrusted(refusal.to_string()))
}

/// The certificate that came is good for nothing; the next try asks again.
fn not_ours(host: &Host, why: &str) -> Trouble {
    host.state.drop_answer();
    Trouble::Misfit(format!("the certificate that was issued is no good: {why}"))
}

/// A request's identity, for whoever renews.
pub(crate) fn identity(set: &TrustSet) -> PeerId {
    set.own().id.clone()
}
