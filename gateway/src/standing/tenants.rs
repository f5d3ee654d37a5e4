//! The folder `--tenants`: one file a company, and what a reload makes of it, as a pure function.
//!
//! In: the state so far (none at start), a snapshot of the folder, and the time. Out: a [`Built`].
//! The rules are those of the plugin folder, but closed: a company that a faulty file names, or two
//! files claim, and for which nothing good is in force, is suspended. The last version of a file
//! that has gone holds a while, so that a tool which replaces it by removing it first opens
//! nothing. A folder that can't be read, or is suddenly empty, changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tenant::{self, Reading, Tenant};
use crate::registry::{Bounds, File, FileFault, OriginSet, Snapshot};

/// What holds for which company.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    by_company: HashMap<Box<str>, Arc<Tenant>>,
    /// The origins of all companies.
    pub(super) origins: OriginSet,
}

/// What is remembered from one reload to the next.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    files: BTreeMap<String, FileState>,
    vanished: Vec<Vanished>,
}

#[derive(Clone, Debug, Default)]
struct FileState {
    in_force: Option<InForce>,
    claims: Vec<Box<str>>,
}

#[derive(Clone, Debug)]
struct InForce {
    tenant: Arc<Tenant>,
    text: Arc<[u8]>,
}

#[derive(Clone, Debug)]
struct Vanished {
    file: String,
    tenants: Vec<Arc<Tenant>>,
    until: Instant,
}

/// What came of a reload.
pub(super) struct Built {
    pub(super) table: Tenants,
    pub(super) state: State,
    pub(super) faults: Vec<FileFault>,
    pub(super) warnings: Vec<String>,
}

/// Ten thousand companies and more.
pub(super) const BOUNDS: Bounds = Bounds {
    files: 65_536,
    mebibytes: 64,
    what: "companies' files",
};

/// How long the last version of a file that has gone holds.
const HOLD: Duration = Duration::from_secs(5);

/// One file while doubles are being settled.
struct Claim<'a> {
    file: &'a str,
    /// What is to be in force: the new version, or the last good one.
    chosen: Option<InForce>,
    is_old: bool,
    before: Option<InForce>,
    claims: Vec<Box<str>>,
}

impl Tenants {
    /// What holds for a company; nothing for one without a file.
    pub(super) fn of(&self, company: &str) -> Option<&Tenant> {
        self.by_company.get(company).map(|tenant| &**tenant)
    }

    /// The companies that are not let in, in their order.
    pub(super) fn suspended(&self) -> Vec<String> {
        let all = self.by_company.values();
        let suspended = all.filter(|tenant| tenant.suspended);
        let mut names: Vec<String> = suspended.map(|tenant| tenant.company.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// How many companies something holds for.
    pub(super) fn len(&self) -> usize {
        self.by_company.len()
    }
}

impl State {
    /// When a hold ends and the next table should be made, if nothing else happens.
    pub(super) fn next_change(&self) -> Option<Instant> {
        self.vanished.iter().map(|vanished| vanished.until).min()
    }

    /// Whether no file counts.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The text of each file in force.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().filter_map(|(file, state)| {
            let in_force = state.in_force.as_ref()?;
            Some((file.as_str(), &*in_force.text))
        })
    }

    fn table(&self) -> Tenants {
        let mut table = Tenants::default();
        let mut put = |tenant: Arc<Tenant>, wins: bool| {
            let company = tenant.company.clone();
            if wins || !table.by_company.contains_key(&company) {
                table.by_company.insert(company, tenant);
            }
        };
        for state in self.files.values() {
            if let Some(in_force) = &state.in_force {
                put(in_force.tenant.clone(), true);
            }
        }
        for tenant in self.vanished.iter().flat_map(|vanished| &vanished.tenants) {
            put(tenant.clone(), false);
        }
        // What a file names and nothing good says is closed, whatever its writer meant.
        for claim in self.files.values().flat_map(|state| &state.claims) {
            put(Arc::new(Tenant::suspended(claim)), false);
        }
        for tenant in table.by_company.values() {
            table.origins.extend(&tenant.origins);
        }
        table
    }
}

/// The next table and state.
pub(super) fn build(previous: Option<&State>, snapshot: &Snapshot, now: Instant) -> Built {
    let nothing = State::default();
    let before = previous.unwrap_or(&nothing);
    let files = match &snapshot.files {
        Ok(files) if files.is_empty() && !before.is_empty() => {
            return keep(
                before,
                &snapshot.folder,
                "holds no *.json file any more; what held for each company is kept; put the files back, or restart to run without them",
            );
        }
        Ok(files) => files,
        Err(message) => return keep(before, &snapshot.folder, message),
    };
    let folder = snapshot.folder.trim_end_matches('/');
    let mut faults = Vec::new();
    let mut claims: Vec<Claim<'_>> = files
        .iter()
        .map(|file| claim(file, folder, before, &mut faults))
        .collect();
    settle(&mut claims, before, folder, &mut faults);
    faults.sort();
    faults.dedup();
    let there: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let state = State {
        vanished: still_held(before, &there, now),
        files: claims
            .into_iter()
            .map(|claim| {
                let state = FileState {
                    in_force: claim.chosen,
                    claims: claim.claims,
                };
                (claim.file.to_owned(), state)
            })
            .collect(),
    };
    Built {
        table: state.table(),
        warnings: gone(before, &state, &there),
        state,
        faults,
    }
}

/// Nothing changes, and somebody must look at the folder.
fn keep(before: &State, folder: &str, message: &str) -> Built {
    let faults = vec![FileFault {
        file: folder.to_owned(),
        position: None,
        message: message.to_owned(),
    }];
    Built {
        table: before.table(),
        state: before.clone(),
        faults,
        warnings: Vec::new(),
    }
}

/// What a file wants before it is compared with the others.
fn claim<'a>(
    file: &'a File,
    folder: &str,
    before: &State,
    faults: &mut Vec<FileFault>,
) -> Claim<'a> {
    let was = before.files.get(&file.name);
    let last_good = was.and_then(|was| was.in_force.clone());
    let mut fault = |position, message: &str| {
        faults.push(FileFault {
            file: format!("{folder}/{}", file.name),
            position,
            message: message.to_owned(),
        });
    };
    let (chosen, is_old, mut claims) = match &file.content {
        // Ten thousand files that nobody touched are not read again.
        Ok(text) if last_good.as_ref().is_some_and(|good| good.text == *text) => {
            (last_good.clone(), true, Vec::new())
        }
        Ok(text) => {
            let Reading {
                tenant,
                claims,
                faults,
            } = tenant::read(text);
            for found in faults {
                fault(Some(found.position), &found.message);
            }
            match tenant {
                Some(tenant) => {
                    let in_force = InForce {
                        tenant: Arc::new(tenant),
                        text: text.clone(),
                    };
                    (Some(in_force), false, claims)
                }
                None => (last_good.clone(), true, claims),
            }
        }
        Err(message) => {
            fault(None, message);
            (last_good.clone(), true, Vec::new())
        }
    };
    if claims.is_empty() {
        // Nothing can be learnt from it; what it named before it still names.
        claims = was.map(|was| was.claims.clone()).unwrap_or_default();
    }
    Claim {
        file: &file.name,
        chosen,
        is_old,
        before: last_good,
        claims,
    }
}

/// Of several files that name one company the one in force keeps it; of new ones none gets it. Each
/// round settles everything or takes back at least one new version.
fn settle(claims: &mut [Claim<'_>], before: &State, folder: &str, faults: &mut Vec<FileFault>) {
    loop {
        let mut by_company: BTreeMap<Box<str>, Vec<usize>> = BTreeMap::new();
        for (at, claim) in claims.iter().enumerate() {
            if let Some(in_force) = &claim.chosen {
                let company = in_force.tenant.company.clone();
                by_company.entry(company).or_default().push(at);
            }
        }
        let mut losers: BTreeMap<usize, String> = BTreeMap::new();
        for (company, rivals) in by_company.iter().filter(|(_, rivals)| rivals.len() > 1) {
            let winner = winner(claims, rivals, company, before);
            for at in rivals.iter().filter(|at| Some(**at) != winner) {
                let others = rivals
                    .iter()
                    .filter(|other| **other != *at && winner.is_none_or(|winner| winner == **other))
                    .filter_map(|other| claims.get(*other))
                    .map(|other| other.file);
                let others = others.collect::<Vec<_>>().join(", ");
                let message = if winner.is_some() {
                    format!(
                        "\"company_id\" {company} is taken by {others}, which is in force and keeps it; remove one of the files"
                    )
                } else {
                    format!(
                        "\"company_id\" {company} is also named by {others}; the company is suspended until one gives way"
                    )
                };
                losers.insert(*at, message);
            }
        }
        if losers.is_empty() {
            return;
        }
        for (at, message) in losers {
            let Some(claim) = claims.get_mut(at) else {
                continue;
            };
            faults.push(FileFault {
                file: format!("{folder}/{}", claim.file),
                position: None,
                message,
            });
            // An old version can only lose to another old one, which cannot be; without this the
            // loop might not end.
            claim.chosen = if claim.is_old {
                None
            } else {
                claim.before.clone()
            };
            claim.is_old = true;
        }
    }
}

/// The file that had the company, else the one that holds what a file now gone had held: a renamed
/// one.
fn winner(claims: &[Claim<'_>], rivals: &[usize], company: &str, before: &State) -> Option<usize> {
    let is_it = |in_force: &InForce| *in_force.tenant.company == *company;
    let one = |found: Vec<usize>| match found.as_slice() {
        [one] => Some(*one),
        _ => None,
    };
    let had_it = |at: &usize| {
        claims
            .get(*at)
            .is_some_and(|claim| claim.before.as_ref().is_some_and(is_it))
    };
    let gone: Vec<&InForce> = before
        .files
        .iter()
        .filter(|(file, _)| claims.iter().all(|claim| claim.file != file.as_str()))
        .filter_map(|(_, state)| state.in_force.as_ref())
        .collect();
    let was_it = |at: &usize| {
        let chosen = claims.get(*at).and_then(|claim| claim.chosen.as_ref());
        chosen.is_some_and(|chosen| gone.iter().any(|gone| gone.tenant == chosen.tenant))
    };
    one(rivals.iter().copied().filter(had_it).collect())
        .or_else(|| one(rivals.iter().copied().filter(was_it).collect()))
}

/// The holds of files that have gone, now or a moment ago.
fn still_held(before: &State, there: &BTreeSet<&str>, now: Instant) -> Vec<Vanished> {
    let earlier = before
        .vanished
        .iter()
        .filter(|vanished| vanished.until > now)
        .cloned();
    let just_gone = before.files.iter().map(|(file, state)| {
        let good = state.in_force.iter().map(|good| good.tenant.clone());
        let closed = state
            .claims
            .iter()
            .filter(|claim| {
                state
                    .in_force
                    .as_ref()
                    .is_none_or(|good| good.tenant.company != **claim)
            })
            .map(|claim| Arc::new(Tenant::suspended(claim)));
        Vanished {
            file: file.clone(),
            tenants: good.chain(closed).collect(),
            until: now + HOLD,
        }
    });
    earlier
        .chain(just_gone)
        .filter(|vanished| !there.contains(vanished.file.as_str()))
        .collect()
}

/// A warning for each company whose file has gone and that no other file names.
fn gone(before: &State, after: &State, there: &BTreeSet<&str>) -> Vec<String> {
    let named: BTreeSet<&str> = after
        .files
        .values()
        .filter_map(|state| state.in_force.as_ref())
        .map(|in_force| &*in_force.tenant.company)
        .collect();
    let gone = before
        .files
        .iter()
        .filter(|(file, _)| !there.contains(file.as_str()))
        .filter_map(|(file, state)| Some((file, &state.in_force.as_ref()?.tenant)));
    gone.filter(|(_, tenant)| !named.contains(&*tenant.company))
        .map(|(file, tenant)| {
            format!(
                "company {}: its file {file} has gone; what it said ({}) ends in 5 seconds",
                tenant.company,
                tenant.in_words()
            )
        })
        .collect()
}

#[cfg(test)]
mod figures;
#[cfg(test)]
mod tests;
