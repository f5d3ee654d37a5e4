//! The users and sessions of many logouts, by their names.
//!
//! In: logouts. Out: whether one of them is of a token's session, or of its user and not older than
//! the token.

use std::collections::HashMap;
use std::sync::Arc;

use super::logout::Logout;

/// The names of many logouts.
#[derive(Clone, Default)]
pub(super) struct Names {
    /// By session: the issuers that have ended one of that name.
    sessions: HashMap<Arc<str>, Vec<Arc<str>>>,
    /// By user: the issuers, and until when tokens had been issued that no longer count.
    subjects: HashMap<Arc<str>, Vec<(Arc<str>, u64)>>,
    len: usize,
}

impl Names {
    /// How many logouts it is made of.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn add(&mut self, logout: &Logout) {
        self.len += 1;
        let issuer = &logout.issuer;
        if let Some(session) = &logout.session {
            let issuers = self.sessions.entry(session.clone()).or_default();
            if !issuers.contains(issuer) {
                issuers.push(issuer.clone());
            }
        }
        let Some(subject) = &logout.subject else {
            return;
        };
        let known = self.subjects.entry(subject.clone()).or_default();
        match known.iter_mut().find(|(known, _)| known == issuer) {
            Some((_, last)) => *last = logout.issued_at.max(*last),
            None => known.push((issuer.clone(), logout.issued_at)),
        }
    }

    /// Whether a token of this issuer, user and session is of one of them. One that does not say
    /// when it was issued counts as earlier.
    pub(super) fn have(
        &self,
        issuer: &str,
        subject: &str,
        session: Option<&str>,
        issued_at: Option<u64>,
    ) -> bool {
        if self.len == 0 {
            return false;
        }
        let of_session = session
            .and_then(|session| self.sessions.get(session))
            .is_some_and(|issuers| issuers.iter().any(|known| **known == *issuer));
        let of_subject = || {
            let known = self.subjects.get(subject).map(Vec::as_slice);
            known.unwrap_or_default().iter().any(|(known, last)| {
                **known == *issuer && issued_at.is_none_or(|issued_at| issued_at <= *last)
            })
        };
        of_session || of_subject()
    }
}
