//! Whom the program believes, and whom it speaks with: the page's section of that name.
//!
//! In: the trust set in force, the live connections, what became of the last revocation. Out:
//! names, numbers and dates; never a key.

use std::time::{Instant, SystemTime};

use gapura_protocol::clock::unix;
use gapura_transport::live::Together;
use gapura_trust::set::TrustSet;
use serde::Serialize;

use crate::life::Life;

/// Whom the program believes.
#[derive(Clone, Debug, Serialize)]
pub struct Trust {
    /// Which set is in force: the first is 1.
    pub generation: u64,
    /// Our own identity.
    pub id: String,
    /// Who issued our certificate.
    pub issuer: Option<String>,
    /// Its serial number.
    pub serial: String,
    /// Its first second, Unix time.
    pub not_before: u64,
    /// Its last.
    pub not_after: u64,
    /// When the next one should be here.
    pub renewal: u64,
    /// How it stands.
    pub life: Life,
    /// The certificate that clients see, where there is one.
    pub public: Option<Certificate>,
    /// Who vouches for everybody.
    pub roots: Vec<Root>,
    /// Who is no longer believed; none where the program does without.
    pub crls: Option<Vec<Crl>>,
    /// Those at the other end of a hop.
    pub hops: Vec<Hop>,
    /// The last list that named more than the one before, and what came of it.
    pub last_revocation: Option<LastRevocation>,
    /// How many connections were ever closed for a revocation.
    pub revoked_closed: u64,
}

/// A certificate beside our own.
#[derive(Clone, Debug, Serialize)]
pub struct Certificate {
    /// Its serial number.
    pub serial: String,
    /// Its last second, Unix time.
    pub not_after: u64,
    /// How it stands.
    pub life: Life,
}

/// A root.
#[derive(Clone, Debug, Serialize)]
pub struct Root {
    /// Its name.
    pub subject: String,
    /// Its last second, Unix time.
    pub not_after: u64,
}

/// One issuer's list of revoked certificates.
#[derive(Clone, Debug, Serialize)]
pub struct Crl {
    /// The issuer.
    pub issuer: String,
    /// The list's number, as hex digits.
    pub number: Option<String>,
    /// When it was made, Unix time.
    pub this_update: u64,
    /// When the next is due.
    pub next_update: u64,
    /// How many it names.
    pub revoked: usize,
    /// How it stands.
    pub life: Life,
}

/// The connections with one peer that agreed on the same.
#[derive(Clone, Debug, Serialize)]
pub struct Hop {
    /// Which connections: `hop`.
    pub side: &'static str,
    /// Who is at the other end.
    pub peer: String,
    /// The peer's serial number.
    pub serial: String,
    /// The last second of the peer's certificate, Unix time.
    pub not_after: u64,
    /// How that stands.
    pub life: Life,
    /// `TLS 1.3`.
    pub tls: String,
    /// `h2` or `http/1.1`.
    pub http: &'static str,
    /// The group whose keys were exchanged.
    pub group: String,
    /// Whether that holds against a quantum computer.
    pub post_quantum: bool,
    /// The cipher suite.
    pub cipher: String,
    /// How many connections there are.
    pub connections: usize,
    /// How long the oldest has stood, in seconds.
    pub oldest_s: u64,
}

/// What became of a list that named more than the one before.
#[derive(Clone, Debug, Serialize)]
pub struct LastRevocation {
    /// When it came in force, Unix time.
    pub at: u64,
    /// How many were new.
    pub added: usize,
    /// How many connections it cut.
    pub cut: usize,
    /// Whose these were: a few of them.
    pub peers: Vec<String>,
}

/// What happened, beside what is in force.
#[derive(Clone, Debug, Default)]
pub struct Happened {
    /// The last list that named more than the one before.
    pub last_revocation: Option<LastRevocation>,
    /// How many connections were ever closed for one.
    pub revoked_closed: u64,
}

impl Trust {
    /// As it is now.
    #[must_use]
    pub fn now(
        set: &TrustSet,
        public: Option<Certificate>,
        live: Vec<Together>,
        happened: Happened,
        now: SystemTime,
    ) -> Self {
        let (own, seconds) = (set.own(), unix(now));
        let lists = set.lists().into_iter();
        let lists = lists.map(|list| Crl {
            life: Life::of(list.this_update, list.next_update, seconds),
            issuer: list.issuer,
            number: list.number,
            this_update: list.this_update,
            next_update: list.next_update,
            revoked: list.revoked,
        });
        let roots = set.roots().map(|(subject, not_after)| Root {
            subject: subject.to_owned(),
            not_after,
        });
        Self {
            generation: set.generation(),
            id: own.id.to_string(),
            issuer: set.issuer(),
            serial: own.serial_hex(),
            not_before: own.not_before,
            not_after: own.not_after,
            renewal: Life::renewal(own.not_before, own.not_after),
            life: Life::of(own.not_before, own.not_after, seconds),
            public,
            roots: roots.collect(),
            crls: set.has_lists().then(|| lists.collect()),
            hops: live
                .into_iter()
                .map(|group| Hop::of(&group, seconds))
                .collect(),
            last_revocation: happened.last_revocation,
            revoked_closed: happened.revoked_closed,
        }
    }
}

impl Certificate {
    /// One that lives from its first to its last second, Unix time.
    #[must_use]
    pub fn of(serial: String, not_before: u64, not_after: u64, now: u64) -> Self {
        Self {
            serial,
            not_after,
            life: Life::of(not_before, not_after, now),
        }
    }
}

impl Hop {
    fn of(group: &Together, now: u64) -> Self {
        let (peer, session) = (&group.peer, &group.session);
        Self {
            side: group.side.as_str(),
            peer: peer.id.to_string(),
            serial: peer.serial_hex(),
            not_after: peer.not_after,
            life: Life::of(peer.not_before, peer.not_after, now),
            tls: session.version(),
            http: session.http(),
            group: session.group(),
            post_quantum: session.is_post_quantum(),
            cipher: session.cipher(),
            connections: group.count,
            oldest_s: Instant::now()
                .saturating_duration_since(group.oldest)
                .as_secs(),
        }
    }
}
