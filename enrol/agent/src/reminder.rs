//! A CA that was put back to an older backup is given back what it has forgotten: the CRLs of this
//! host, which prove themselves by the CA's own signature.
//!
//! In: a connection on which we are proven. Out: a sentence in either case, since the news that
//! showed it are not taken.

use crate::est;
use crate::host::Host;
use crate::link::Link;
use crate::trouble::Trouble;

/// Gives it back. The next news are those of a CA that knows it again.
pub(crate) async fn remind(host: &Host, link: &mut Link, why: String) -> Trouble {
    let Some(held) = host.held() else {
        return Trouble::RolledBack(why);
    };
    Trouble::RolledBack(match est::remind(link, &held.crl).await {
        Ok(()) => format!("{why}; it was given the CRLs of this host, and knows it again"),
        Err(refused) => format!(
            "{why}; it was given the CRLs of this host and did not take them ({refused}): restore its newest backup, or revoke again there"
        ),
    })
}
