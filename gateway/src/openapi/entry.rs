//! One plugin's contract: the one in force, and those that its instances served besides.
//!
//! In: each contract that an instance serves, with what it breaks of the one in force. Out: whether
//! the instance keeps to it. A contract that breaks nothing takes the place of the one in force;
//! one that does takes it too, unless such instances are kept out. What has been in force once
//! breaks nothing later, so that instances of two versions may run side by side. Until an instance
//! has spoken that runs what the plugin's file says, the one in force is a guess, and gives way to
//! that one's.

use std::collections::VecDeque;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest as hash};
use bytes::Bytes;
use gapura_openapi::{Document, Finding};

/// By which one document is told from another.
pub(crate) type Digest = [u8; 32];

/// The digest of a document.
#[must_use]
pub(crate) fn digest(bytes: &[u8]) -> Digest {
    let mut digest = Digest::default();
    digest.copy_from_slice(hash(&SHA256, bytes).as_ref());
    digest
}

/// So many contracts are remembered of each kind: more versions of one plugin do not run side by
/// side.
const REMEMBERED: usize = 16;

/// A contract that is in force.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) digest: Digest,
    /// As it was served: a tree of it is ten times as large, and is made when it is needed.
    pub(super) bytes: Bytes,
    pub(super) title: String,
    pub(super) version: String,
}

/// What is in force of a plugin, as far as it must outlast a restart.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) in_force: Arc<InForce>,
    pub(super) settled: bool,
    /// What has ever been in force, the last one last.
    pub(super) accepted: Vec<Digest>,
}

/// On what terms an instance is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    /// It runs the version that the plugin's file says.
    pub(super) is_believed: bool,
    /// A contract that breaks the one in force keeps its instance out.
    pub(super) keeps_out: bool,
    /// What the plugin's instances serve now.
    pub(super) served: &'a [Digest],
}

#[derive(Debug, Default)]
pub(super) struct Entry {
    in_force: Option<Arc<InForce>>,
    /// It is that of an instance which runs what the plugin's file says, or has followed one.
    settled: bool,
    accepted: VecDeque<Digest>,
    refused: VecDeque<Digest>,
    /// What of it must outlast a restart has changed since it was kept.
    changed: bool,
    /// Why the last document could not be used.
    pub(super) fault: Option<String>,
    /// What the last contract breaks that broke any.
    pub(super) breaking: Vec<Finding>,
    /// Breaking changes ever found.
    pub(super) found: u64,
}

/// What there is to tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Another contract is in force, and breaks nothing.
    InForce,
    /// One that was in force earlier is so again, since nobody serves the later one.
    Back,
    /// It breaks the one that was in force; whether that keeps its instance out.
    Breaks(bool),
}

impl Entry {
    /// As it was before a restart.
    pub(super) fn of(standing: Standing) -> Self {
        Self {
            in_force: Some(standing.in_force),
            settled: standing.settled,
            accepted: standing.accepted.into(),
            ..Self::default()
        }
    }

    pub(super) fn in_force(&self) -> Option<&Arc<InForce>> {
        self.in_force.as_ref()
    }

    /// What is to be kept, if that has changed.
    pub(super) fn to_keep(&self) -> Option<Standing> {
        let in_force = self.in_force.as_ref().filter(|_| self.changed)?;
        Some(Standing {
            in_force: in_force.clone(),
            settled: self.settled,
            accepted: self.accepted.iter().copied().collect(),
        })
    }

    /// It has been kept.
    pub(super) fn kept(&mut self) {
        self.changed = false;
    }

    /// Whether an instance with this contract keeps to the one in force, if that is known without
    /// looking into it.
    pub(super) fn known(&mut self, digest: &Digest, terms: Terms<'_>) -> Option<bool> {
        let in_force = self.in_force.as_ref()?;
        if in_force.digest == *digest {
            self.changed |= terms.is_believed && !self.settled;
            self.settled |= terms.is_believed;
            self.fault = None;
            return Some(true);
        }
        let takes_over = terms.is_believed && !self.settled;
        let is_served = terms.served.contains(&in_force.digest);
        if self.accepted.contains(digest) && !takes_over && is_served {
            self.fault = None;
            return Some(true);
        }
        let is_refused = terms.keeps_out && !takes_over && self.refused.contains(digest);
        is_refused.then_some(false)
    }

    /// Takes a contract that breaks `findings` of the one in force; whether its instance keeps to
    /// what is in force now.
    pub(super) fn take(
        &mut self,
        contract: InForce,
        findings: Vec<Finding>,
        terms: Terms<'_>,
    ) -> (bool, News) {
        self.fault = None;
        let takes_over = terms.is_believed && !self.settled;
        if self.in_force.is_none() || takes_over {
            // Whatever was a guess before is judged by this one when it is heard of next.
            self.accepted.clear();
            self.refused.clear();
            self.breaking.clear();
            self.settled = terms.is_believed;
            self.put(contract);
            return (true, News::InForce);
        }
        if self.accepted.contains(&contract.digest) {
            self.put(contract);
            return (true, News::Back);
        }
        if findings.is_empty() {
            self.put(contract);
            return (true, News::InForce);
        }
        self.found += findings.len() as u64;
        self.breaking = findings;
        if terms.keeps_out {
            remember(&mut self.refused, contract.digest);
            return (false, News::Breaks(true));
        }
        self.put(contract);
        (true, News::Breaks(false))
    }

    /// Its contract can't be used; whether its instance may serve all the same, and whether that is
    /// news. What was in force stays.
    pub(super) fn broken(&mut self, why: String, terms: Terms<'_>) -> (bool, bool) {
        let is_news = self.fault.as_ref() != Some(&why);
        self.fault = Some(why);
        // What can't be read may break anything.
        (!terms.keeps_out || self.in_force.is_none(), is_news)
    }

    fn put(&mut self, contract: InForce) {
        remember(&mut self.accepted, contract.digest);
        self.refused.clear();
        self.in_force = Some(Arc::new(contract));
        self.changed = true;
    }
}

fn remember(list: &mut VecDeque<Digest>, digest: Digest) {
    list.retain(|known| *known != digest);
    if list.len() == REMEMBERED {
        list.pop_front();
    }
    list.push_back(digest);
}

impl InForce {
    pub(super) fn new(digest: Digest, bytes: Bytes, document: &Document) -> Self {
        Self {
            digest,
            bytes,
            title: document.title().to_owned(),
            version: document.version().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract(mark: u8) -> InForce {
        InForce {
            digest: [mark; 32],
            bytes: Bytes::new(),
            title: String::new(),
            version: String::new(),
        }
    }

    fn finding() -> Vec<Finding> {
        vec![Finding {
            kind: "path_removed",
            pointer: "#/paths/~1a".to_owned(),
            message: "the path /a is gone".to_owned(),
        }]
    }

    fn terms(is_believed: bool, keeps_out: bool, served: &[Digest]) -> Terms<'_> {
        Terms {
            is_believed,
            keeps_out,
            served,
        }
    }

    fn mark(entry: &Entry) -> u8 {
        entry.in_force().unwrap().digest[0]
    }

    #[test]
    fn a_breaking_one_comes_into_force_or_is_kept_out_and_one_that_breaks_nothing_takes_over() {
        let both = [[1; 32], [2; 32]];
        for keeps_out in [false, true] {
            let mut entry = Entry::default();
            let terms = terms(true, keeps_out, &both);
            assert_eq!(
                entry.take(contract(1), vec![], terms),
                (true, News::InForce)
            );
            let judged = entry.take(contract(2), finding(), terms);
            assert_eq!(judged, (!keeps_out, News::Breaks(keeps_out)));
            assert_eq!(
                (mark(&entry), entry.found),
                (if keeps_out { 1 } else { 2 }, 1)
            );
            assert_eq!(entry.known(&[2; 32], terms), Some(!keeps_out));
            assert_eq!(
                entry.take(contract(3), vec![], terms),
                (true, News::InForce)
            );
            assert_eq!(mark(&entry), 3);
        }
    }

    #[test]
    fn two_versions_side_by_side_break_nothing_and_one_may_be_gone_back_to() {
        let mut entry = Entry::default();
        let both = [[1; 32], [2; 32]];
        entry.take(contract(1), vec![], terms(true, true, &both[..1]));
        entry.take(contract(2), vec![], terms(false, true, &both));
        // The older instance is asked again and again; seen from the newer contract its own lacks
        // something.
        assert_eq!(entry.known(&[1; 32], terms(true, true, &both)), Some(true));
        assert_eq!(mark(&entry), 2);
        // Nobody serves the newer one any more.
        let old = terms(true, true, &both[..1]);
        assert_eq!(entry.known(&[1; 32], old), None);
        assert_eq!(entry.take(contract(1), finding(), old), (true, News::Back));
        assert_eq!((mark(&entry), entry.found), (1, 0));
    }

    #[test]
    fn whoever_runs_what_the_file_says_decides_whichever_was_heard_of_first() {
        let mut entry = Entry::default();
        let both = [[1; 32], [2; 32]];
        // The new version answers first, after a restart of the gateway.
        entry.take(contract(2), vec![], terms(false, true, &both));
        let believed = terms(true, true, &both);
        assert_eq!(entry.known(&[1; 32], believed), None);
        assert_eq!(
            entry.take(contract(1), finding(), believed),
            (true, News::InForce)
        );
        let other = terms(false, true, &both);
        assert_eq!(entry.known(&[2; 32], other), None, "it is judged anew");
        assert_eq!(
            entry.take(contract(2), finding(), other),
            (false, News::Breaks(true))
        );
        assert_eq!(mark(&entry), 1);
    }

    #[test]
    fn what_cannot_be_read_keeps_out_only_where_there_is_something_to_break() {
        let mut entry = Entry::default();
        let terms = terms(true, true, &[]);
        assert_eq!(entry.broken("is not JSON".to_owned(), terms), (true, true));
        assert_eq!(entry.broken("is not JSON".to_owned(), terms), (true, false));
        entry.take(contract(1), vec![], terms);
        assert_eq!(entry.fault, None);
        assert_eq!(entry.broken("is not JSON".to_owned(), terms), (false, true));
        assert_eq!(mark(&entry), 1);
    }
}
