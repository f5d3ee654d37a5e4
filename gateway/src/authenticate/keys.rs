//! Holds the ring in force and puts a new one in its place while requests run.
//!
//! In: a look at the files from time to time, and fetches. Out: the ring for the next request,
//! behind one pointer that no request waits for. Each issuer stands alone: a broken file or a
//! provider in trouble keeps its last good keys in force under the alarm `keys`, and keeps no
//! other's change from being taken. Contents are compared, not times: a file restored from a
//! backup, or swapped by a symlink within the same second, is seen. Fetched keys that could not be
//! fetched again count for a day, then no more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use aws_lc_rs::digest;
use gapura_fetch::Client;
use gapura_files::directory::{Stamp, hash};
use gapura_protocol::clock::Clock;
use gapura_reload::asked::Asked;
use gapura_reload::watch::{FileWatch, Follower, Pace, Reading, Why};
use gapura_telemetry::alarms::{Alarm, Alarms};
use gapura_telemetry::log::{Level, Log};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::fetching::Fetching;
use super::key_ring::{self, IssuerKeys, KeyRing};
use super::provider::{Provider, Round, SPACING};
use super::rules_between;
use super::settings::{IssuerSettings, KeySource, Settings};

/// The ring in force. Clones share it.
#[derive(Clone)]
pub(crate) struct Keys {
    shared: Arc<Shared>,
}

/// What a look at the files came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// Nothing has changed.
    Unchanged,
    /// New keys are in force.
    Taken,
    /// What changed is broken; the keys from before stay in force, and the alarm `keys` says why.
    Kept,
}

/// What following the sources works with.
#[derive(Clone)]
pub(crate) struct Follow {
    /// The clock by which fetched keys grow old.
    pub clock: Clock,
    /// Where faults are raised, as `keys`.
    pub alarms: Alarms,
    /// Where new keys are told.
    pub log: Log,
    /// Changes whenever everything is to be read again (SIGHUP).
    pub reload: Asked,
}

struct Shared {
    ring: ArcSwap<KeyRing>,
    /// Held while files are read, by whoever looks at them; never by a request, never over a fetch.
    watch: Mutex<Watch>,
}

struct Watch {
    settings: Settings,
    issuers: Vec<Watched>,
}

/// One issuer's source as it was last seen.
struct Watched {
    seen: Seen,
    good: Arc<IssuerKeys>,
    /// Since when these are in force.
    since: Instant,
    problem: Option<String>,
    /// Where its keys are fetched, and when they last were, Unix seconds.
    provider: Option<(Arc<Provider>, u64)>,
}

/// One issuer's keys, for the operator to see; none of them can be had from it.
pub(crate) struct KeysFacts {
    /// Where they come from.
    pub(crate) source: String,
    /// The issuer's name, where one is configured.
    pub(crate) issuer: Option<String>,
    /// Each key's name and what it verifies.
    pub(crate) keys: Vec<String>,
    /// Since when these are in force.
    pub(crate) since: Instant,
    /// When they were last fetched, Unix seconds, where they are.
    pub(crate) fetched: Option<u64>,
    /// Why they could not be read or fetched again.
    pub(crate) problem: Option<String>,
}

/// How one fetch ended.
struct Outcome {
    /// For how long its keys may be kept; a failure says why there are none.
    keep: Result<Duration, String>,
    changed: bool,
}

/// A digest of the contents, so that no copy of a secret lies about, or why they could not be read.
type Seen = Result<Box<[u8]>, String>;

/// What one source of keys holds, or why it could not be read.
pub(super) type Contents = Result<Zeroizing<Vec<u8>>, String>;

/// The files of keys, followed.
struct Files {
    keys: Keys,
    alarms: Alarms,
}

/// Half of what a change may take. Keys are few and small: they are read each time.
const PACE: Pace = Pace {
    look: Duration::from_secs(1),
    read: Duration::ZERO,
};

/// How often it is looked whether fetched keys have grown old.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long keys count that can't be fetched again: a provider's bad day, and no longer.
const STALE: u64 = 24 * 3600;

/// After failures a fetch is tried again after one second, two, four and so on, up to this.
const RETRY_MOST: u64 = 10;

impl Keys {
    /// Reads and checks every issuer's keys. Those that are fetched come later: a provider that is
    /// down stops no start.
    ///
    /// # Errors
    /// All faults, each a sentence that says what is wrong, where, and what to do.
    pub(crate) fn load(settings: Settings) -> Result<Self, Vec<String>> {
        let watch = Watch::load(settings)?;
        Ok(Self {
            shared: Arc::new(Shared {
                ring: ArcSwap::from_pointee(watch.ring(1)),
                watch: Mutex::new(watch),
            }),
        })
    }

    /// The ring in force now.
    #[must_use]
    pub(crate) fn ring(&self) -> Guard<Arc<KeyRing>> {
        self.shared.ring.load()
    }

    /// Each issuer with its keys, in the order of the settings.
    #[must_use]
    pub(crate) fn facts(&self) -> Vec<KeysFacts> {
        let watch = self.watch();
        let all = watch.settings.issuers.iter().zip(&watch.issuers);
        all.map(|(entry, watched)| KeysFacts {
            source: entry.keys.label(),
            issuer: entry.issuer.as_ref().map(ToString::to_string),
            keys: watched.good.describe(),
            since: watched.since,
            fetched: watched
                .provider
                .as_ref()
                .map(|(_, fetched)| *fetched)
                .filter(|fetched| *fetched > 0),
            problem: watched.problem.clone(),
        })
        .collect()
    }

    /// Reads every source that is not fetched.
    pub(super) fn reader(&self) -> impl Fn() -> Reading<Vec<Contents>> + use<> {
        let sources = self.watch().sources();
        move || reading(&sources)
    }

    /// Takes what has changed of what was read.
    pub(super) fn take(&self, contents: &[Contents], alarms: &Alarms) -> Reload {
        let mut watch = self.watch();
        let outcome = watch.look(contents);
        if outcome == Reload::Taken {
            self.publish(&watch);
        }
        if outcome != Reload::Unchanged {
            watch.tell(alarms);
        }
        outcome
    }

    /// Follows files and providers for ever, on the program's control thread.
    pub(crate) async fn follow(self, with: Follow) {
        let mut tasks = JoinSet::new();
        tasks.spawn_local(self.clone().look_at_files(with.clone()));
        for at in 0..self.count() {
            let Some((fetching, provider)) = self.fetching(at) else {
                continue;
            };
            tasks.spawn_local(self.clone().fetch_on(at, fetching, provider, with.clone()));
        }
        // What nobody listens to must not be waited for.
        drop(with);
        while tasks.join_next().await.is_some() {}
    }

    /// Fetches every provider's keys once, for programs that serve nothing. Blocks.
    ///
    /// # Errors
    /// Every fault, a sentence each.
    pub(crate) fn fetch_now(&self, clock: &Clock) -> Result<(), Vec<String>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| vec![format!("keys cannot be fetched: {error}")])?;
        let mut faults = Vec::new();
        for at in 0..self.count() {
            let Some((mut fetching, provider)) = self.fetching(at) else {
                continue;
            };
            let outcome = runtime.block_on(self.fetch(at, &mut fetching, &provider, clock));
            faults.extend(outcome.keep.err());
        }
        runtime.shutdown_background();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }

    async fn look_at_files(self, with: Follow) {
        let seen = (Stamp::default(), [0; 32]);
        let watch = FileWatch::new(PACE, seen, Stamp::default, self.reader());
        let alarms = with.alarms;
        watch.run(Files { keys: self, alarms }, with.reload).await;
    }

    /// Fetches one issuer's keys: at once, when they grow old, and when a request asks.
    async fn fetch_on(
        self,
        at: usize,
        mut fetching: Fetching,
        provider: Arc<Provider>,
        mut with: Follow,
    ) {
        let (mut due, mut failures, mut asked) = (0, 0_u32, false);
        let mut last_asked: Option<Instant> = None;
        let mut due_at = Instant::now();
        loop {
            // By whichever comes first: a clock that is set back must not keep old keys, nor a
            // machine that slept.
            let now = if Instant::now() >= due_at {
                due
            } else {
                with.clock.unix()
            };
            // A request that asked while a fetch ran may have its answer by that.
            asked = asked && self.is_wanted(at, &provider);
            let spaced = last_asked.is_none_or(|last| last.elapsed() >= SPACING);
            if now >= due || (asked && spaced) {
                if asked && now < due {
                    last_asked = Some(Instant::now());
                }
                asked = false;
                let outcome = self.fetch(at, &mut fetching, &provider, &with.clock).await;
                let wait = match &outcome.keep {
                    Ok(keep) => {
                        failures = 0;
                        keep.as_secs()
                    }
                    Err(_) => {
                        failures = failures.saturating_add(1);
                        (1_u64 << (failures - 1).min(8)).min(RETRY_MOST)
                    }
                };
                due = with.clock.unix().saturating_add(wait);
                due_at = Instant::now() + Duration::from_secs(wait);
                self.end_round(at, &outcome, &with);
            } else {
                self.drop_stale(at, &with);
            }
            let pause = match last_asked.filter(|_| asked) {
                Some(last) => SPACING.saturating_sub(last.elapsed()).min(LOOK_EVERY),
                None => LOOK_EVERY,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = provider.asked(), if !asked => asked = true,
                () = with.reload.changed() => due = 0,
            }
        }
    }

    async fn fetch(
        &self,
        at: usize,
        fetching: &mut Fetching,
        provider: &Arc<Provider>,
        clock: &Clock,
    ) -> Outcome {
        let asked = provider.begin();
        let fetched = fetching.fetch().await;
        let mut watch = self.watch();
        let taken = match fetched {
            Ok(fetched) => watch
                .take_fetched(at, &fetched.bytes, clock.unix())
                .map(|changed| (fetched.keep, changed)),
            Err(why) => Err(watch.fetch_failed(at, &why)),
        };
        if matches!(taken, Ok((_, true))) {
            self.publish(&watch);
        }
        let keys = watch.issuers.get(at).map(|issuer| issuer.good.clone());
        drop(watch);
        let (keep, changed) = match taken {
            Ok((keep, changed)) => (Ok(keep), changed),
            Err(why) => (Err(why), false),
        };
        // What a fetch did not bring is absent; a failed one has shown nothing.
        let absent = match (&keep, keys.as_deref()) {
            (Ok(_), Some(IssuerKeys::Public(set))) => asked
                .into_iter()
                .filter(|kid| !set.keys.iter().any(|key| key.is_named(kid)))
                .collect(),
            _ => Vec::new(),
        };
        let failed = keep.is_err();
        provider.end(Round { failed }, absent);
        Outcome { keep, changed }
    }

    fn end_round(&self, at: usize, outcome: &Outcome, with: &Follow) {
        self.drop_stale(at, with);
        let watch = self.watch();
        watch.tell(&with.alarms);
        if let (true, Some(entry)) = (outcome.changed, watch.settings.issuers.get(at)) {
            let message = format!("new keys of {} are in force", entry.keys.label());
            with.log.event(Level::Info, "keys_fetched", &message, &[]);
        }
    }

    /// Takes keys out of force that could not be fetched again for a day.
    fn drop_stale(&self, at: usize, with: &Follow) {
        let mut watch = self.watch();
        let Some(issuer) = watch.issuers.get_mut(at) else {
            return;
        };
        let Some((_, fetched)) = &issuer.provider else {
            return;
        };
        let here = !matches!(*issuer.good, IssuerKeys::Absent);
        if here && issuer.problem.is_some() && with.clock.unix().saturating_sub(*fetched) > STALE {
            issuer.takes(IssuerKeys::Absent);
            issuer.seen = Err(String::new());
            self.publish(&watch);
            watch.tell(&with.alarms);
        }
    }

    /// Whether a request still wants keys that are not here.
    fn is_wanted(&self, at: usize, provider: &Provider) -> bool {
        let keys = self
            .watch()
            .issuers
            .get(at)
            .map(|issuer| issuer.good.clone());
        match keys.as_deref() {
            Some(IssuerKeys::Public(set)) => {
                provider.still_asks(|kid| set.keys.iter().any(|key| key.is_named(kid)))
            }
            _ => true,
        }
    }

    fn fetching(&self, at: usize) -> Option<(Fetching, Arc<Provider>)> {
        let watch = self.watch();
        let (provider, _) = watch.issuers.get(at)?.provider.as_ref()?;
        let entry = watch.settings.issuers.get(at)?;
        let fetching = Fetching::new(entry, &watch.settings.issuers);
        Some((fetching, provider.clone()))
    }

    /// How many issuers there are; a call of its own, so that no loop over them holds the lock.
    fn count(&self) -> usize {
        self.watch().issuers.len()
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.shared
            .watch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The watch is locked, so generations only ever grow.
    fn publish(&self, watch: &Watch) {
        let generation = self.shared.ring.load().generation() + 1;
        self.shared.ring.store(Arc::new(watch.ring(generation)));
    }
}

impl Watch {
    fn load(settings: Settings) -> Result<Self, Vec<String>> {
        let between = rules_between::check(&settings.issuers);
        let mut problems: Vec<String> = between.into_iter().map(|(_, message)| message).collect();
        let mut issuers = Vec::new();
        for entry in &settings.issuers {
            match Watched::open(entry) {
                Ok(watched) => issuers.push(watched),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            Ok(Self { settings, issuers })
        } else {
            Err(problems)
        }
    }

    /// Where keys come from that are not fetched.
    fn sources(&self) -> Vec<KeySource> {
        let sources = self.settings.issuers.iter().map(|entry| &entry.keys);
        sources
            .filter(|source| !source.is_fetched())
            .cloned()
            .collect()
    }

    /// Takes what each of [`Self::sources`] holds, where that has changed.
    fn look(&mut self, contents: &[Contents]) -> Reload {
        let mut outcome = Reload::Unchanged;
        let all = self.settings.issuers.iter().zip(&mut self.issuers);
        let of_files = all.filter(|(entry, _)| !entry.keys.is_fetched());
        for ((entry, watched), contents) in of_files.zip(contents) {
            let now = seen(contents);
            if now == watched.seen {
                continue;
            }
            watched.seen = now;
            let built = match contents {
                Ok(bytes) => IssuerKeys::build(&entry.keys, bytes),
                Err(why) => Err(why.clone()),
            };
            match built {
                Ok(good) => {
                    watched.takes(good);
                    watched.problem = None;
                    outcome = Reload::Taken;
                }
                Err(problem) => {
                    watched.problem =
                        Some(format!("{problem}; the keys from before stay in force"));
                    if outcome == Reload::Unchanged {
                        outcome = Reload::Kept;
                    }
                }
            }
        }
        outcome
    }

    /// Takes a set that was fetched; whether it differs from the one before, or why it is not one.
    fn take_fetched(&mut self, at: usize, bytes: &[u8], now: u64) -> Result<bool, String> {
        let (Some(entry), Some(watched)) =
            (self.settings.issuers.get(at), self.issuers.get_mut(at))
        else {
            return Err("the issuer is gone".to_owned());
        };
        let digest: Seen = Ok(digest::digest(&digest::SHA256, bytes).as_ref().into());
        if watched.seen != digest {
            match IssuerKeys::build(&entry.keys, bytes) {
                Ok(good) => watched.takes(good),
                Err(why) => return Err(watched.failed(why)),
            }
        }
        watched.problem = None;
        if let Some((_, fetched)) = &mut watched.provider {
            *fetched = now;
        }
        let changed = watched.seen != digest;
        watched.seen = digest;
        Ok(changed)
    }

    /// Notes why a fetch failed, and gives the sentence.
    fn fetch_failed(&mut self, at: usize, why: &str) -> String {
        let (Some(entry), Some(watched)) =
            (self.settings.issuers.get(at), self.issuers.get_mut(at))
        else {
            return why.to_owned();
        };
        watched.failed(format!("{} cannot be fetched: {why}", entry.keys.label()))
    }

    /// Raises or ends the alarm by what is wrong now.
    fn tell(&self, alarms: &Alarms) {
        let problems = self.issuers.iter().filter_map(|issuer| {
            let problem = issuer.problem.as_deref()?;
            let state = match (&issuer.provider, &*issuer.good) {
                (None, _) => "",
                (Some(_), IssuerKeys::Absent) => {
                    "; its tokens are answered with 503 until that is mended"
                }
                (Some(_), _) => "; the keys from before stay in force for a day",
            };
            Some(format!("{problem}{state}"))
        });
        let problems = problems.collect::<Vec<_>>();
        if problems.is_empty() {
            alarms.clear(Alarm::Keys);
        } else {
            alarms.raise(Alarm::Keys, &problems.join("; "));
        }
    }

    fn ring(&self, generation: u64) -> KeyRing {
        let keys = self.issuers.iter().map(|issuer| {
            let provider = issuer.provider.as_ref().map(|(provider, _)| provider);
            (&issuer.good, provider)
        });
        KeyRing::assemble(&self.settings, keys, generation)
    }
}

impl Watched {
    fn open(entry: &IssuerSettings) -> Result<Self, String> {
        if let KeySource::Url(url) | KeySource::Oidc(url) = &entry.keys {
            // Roots that cannot be read are the operator's to mend now, not a provider's trouble
            // later.
            Client::new(entry.roots.as_deref()).check(url)?;
            return Ok(Self {
                seen: Err(String::new()),
                good: Arc::new(IssuerKeys::Absent),
                since: Instant::now(),
                problem: None,
                provider: Some((Arc::new(Provider::new()), 0)),
            });
        }
        let contents = key_ring::read(&entry.keys);
        let seen = seen(&contents);
        let good = contents.and_then(|bytes| IssuerKeys::build(&entry.keys, &bytes))?;
        Ok(Self {
            seen,
            good: Arc::new(good),
            since: Instant::now(),
            problem: None,
            provider: None,
        })
    }

    fn takes(&mut self, keys: IssuerKeys) {
        (self.good, self.since) = (Arc::new(keys), Instant::now());
    }

    fn failed(&mut self, why: String) -> String {
        self.problem = Some(why.clone());
        why
    }
}

impl Follower<Vec<Contents>> for Files {
    async fn take(&mut self, contents: Vec<Contents>, _: Why) {
        // What came of it is told by the alarm and by the next request.
        let _ = self.keys.take(&contents, &self.alarms);
    }
}

fn reading(sources: &[KeySource]) -> Reading<Vec<Contents>> {
    let content: Vec<Contents> = sources.iter().map(key_ring::read).collect();
    let digest = hash(content.iter().map(|contents| match contents {
        Ok(bytes) => bytes.as_slice(),
        Err(why) => why.as_bytes(),
    }));
    Reading { content, digest }
}

fn seen(contents: &Contents) -> Seen {
    match contents {
        Ok(bytes) => Ok(digest::digest(&digest::SHA256, bytes).as_ref().into()),
        Err(why) => Err(why.clone()),
    }
}
