//! What one agent knows, and the one way by which its mesh directory changes.
//!
//! Made once; the tasks of the control thread share it. Everything that is written goes through
//! [`Host::publish`], one at a time, onto what is in the directory at that moment.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gapura_enrol::news::TrustNews;
use gapura_enrol::token::JoinToken;
use gapura_fetch::Url;
use gapura_protocol::clock::Clock;
use gapura_protocol::random::Random;
use gapura_reload::watch::blocking;
use gapura_telemetry::alarms::{Alarm, Alarms};
use gapura_telemetry::log::{Level, Log};
use tokio::sync::{Mutex, watch};

use crate::config::{self, Config};
use crate::directory::{Candidate, Directory, Found, Held};
use crate::hook;
use crate::schedule;
use crate::state::State;
use crate::token;
use crate::trouble::Trouble;

/// One host's one mesh directory.
pub(crate) struct Host {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) log: Log,
    pub(crate) alarms: Alarms,
    pub(crate) state: State,
    pub(crate) directory: Directory,
    pub(crate) facts: RefCell<Facts>,
    held: RefCell<Option<Held>>,
    /// When the certificate came that is held, Unix time, where it came in this run.
    came: Cell<Option<u64>>,
    /// The id of a join token that is good for nothing any more, and why.
    spent: RefCell<Option<(String, String)>>,
    random: Random,
    writing: Mutex<()>,
    changed: watch::Sender<u64>,
}

/// What has happened, for whoever asks.
pub(crate) struct Facts {
    /// When the CA was last heard of, by a clock that nobody sets; the start where it was not in
    /// this run.
    heard: Instant,
    /// For how long it had not been by then.
    unheard_before: Duration,
    /// When it was last heard of by the wall clock, in this run or one before; `None`: never.
    pub(crate) heard_at: Option<u64>,
    /// Whether our certificate was shown then.
    pub(crate) heard_as_host: bool,
    /// What the news call themselves.
    pub(crate) news: Option<String>,
    /// Why no news come any more, where somebody must act before they do.
    no_news: Option<String>,
    /// Whether that is our certificate, which the CA server takes no more.
    pub(crate) is_unwelcome: bool,
    /// Certificates that came.
    pub(crate) certificates: u64,
    /// Generations that were written.
    pub(crate) generations: u64,
    /// What failed, by word.
    pub(crate) failures: BTreeMap<(&'static str, &'static str), u64>,
    /// The last failure of each activity that has not succeeded since.
    pub(crate) last: BTreeMap<&'static str, (u64, String)>,
}

/// For the first try after a start.
const FIRST_TRY: Duration = Duration::from_secs(15);

impl Facts {
    /// What is known at a start at `now`, Unix time, of an agent that heard of the CA at
    /// `heard_at`.
    fn begin(heard_at: Option<u64>, now: u64) -> Self {
        // One that lies ahead was written by a clock that was wrong, or is read by one.
        let heard_at = heard_at.filter(|at| *at <= now);
        Self {
            heard: Instant::now(),
            unheard_before: Duration::from_secs(heard_at.map_or(0, |at| now - at)),
            heard_at,
            heard_as_host: true,
            news: None,
            no_news: None,
            is_unwelcome: false,
            certificates: 0,
            generations: 0,
            failures: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }

    /// For how long nothing was heard of the CA; since the first start where it was never.
    pub(crate) fn news_age(&self) -> Duration {
        self.unheard_before + self.heard.elapsed()
    }

    /// Whether the first try of this run is still under way.
    fn is_trying(&self) -> bool {
        !self.last.contains_key("news") && self.heard.elapsed() < FIRST_TRY
    }
}

impl Host {
    /// An agent that holds what `directory` holds.
    pub(crate) fn new(
        config: Config,
        (state, directory, held): (State, Directory, Option<Held>),
        random: Random,
        (log, alarms, clock): (Log, Alarms, Clock),
    ) -> Self {
        let facts = Facts::begin(state.heard_at(), clock.unix());
        Self {
            config,
            clock,
            alarms,
            log,
            state,
            directory,
            facts: RefCell::new(facts),
            held: RefCell::new(held),
            came: Cell::new(None),
            spent: RefCell::default(),
            random,
            writing: Mutex::new(()),
            changed: watch::channel(0).0,
        }
    }

    /// What is in force.
    pub(crate) fn held(&self) -> Option<Held> {
        self.held.borrow().clone()
    }

    /// Looks into the directory once more, where nothing fitted before: somebody may have mended it
    /// by hand.
    pub(crate) async fn look(&self) {
        let directory = self.directory.clone();
        if let Some(Found::Held(held)) = blocking(move || directory.look()).await {
            *self.held.borrow_mut() = Some(held);
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// Follows new generations.
    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// When the certificate that is held is to be renewed, Unix time. One that came in this run
    /// counts from when it came: the CA dates it back for clocks that are behind.
    pub(crate) fn due(&self, held: &Held) -> u64 {
        let own = held.set.own();
        let begin = self.came.get().unwrap_or(own.not_before);
        schedule::due(begin, own.not_after, &own.serial)
    }

    /// The join token that an operator has put there, unless it is good for nothing any more.
    ///
    /// # Errors
    /// There is none: a sentence.
    pub(crate) async fn token(&self) -> Result<JoinToken, Trouble> {
        let Some(file) = self.config.token_file.clone() else {
            return Err(Trouble::Token(
                "a join token is needed: make one with `gapura-pki token`, and give --token-file"
                    .to_owned(),
            ));
        };
        let read = blocking(move || token::read(&file)).await;
        let token = read
            .unwrap_or_else(|| Err("the reading of --token-file broke off".to_owned()))
            .map_err(Trouble::Token)?;
        if let Some((id, why)) = &*self.spent.borrow()
            && *id == token.id
        {
            return Err(Trouble::Token(format!(
                "a new join token is needed in --token-file: {why}"
            )));
        }
        Ok(token)
    }

    /// That token is not shown again.
    pub(crate) fn spend(&self, id: &str, why: &Trouble) {
        *self.spent.borrow_mut() = Some((id.to_owned(), why.to_string()));
    }

    /// Where the CA server is.
    ///
    /// # Errors
    /// Nobody has said.
    pub(crate) async fn server(&self) -> Result<Url, Trouble> {
        if let Some(url) = &self.config.ca {
            return Ok(url.clone());
        }
        let file = self.config.token_file.clone();
        let read = blocking(move || file.map(|file| token::read(&file)))
            .await
            .flatten();
        server_of(read.and_then(Result::ok).as_ref())
    }

    /// Writes what `make` makes of what is there now, if it fits.
    ///
    /// # Errors
    /// Why not; then what was there is there still.
    pub(crate) async fn publish(
        &self,
        make: impl FnOnce(Option<&Held>) -> Option<Candidate>,
    ) -> Result<Held, Trouble> {
        let broke_off = || Trouble::Disk("the work on the mesh directory broke off".to_owned());
        let _writing = self.writing.lock().await;
        let directory = self.directory.clone();
        // Somebody may have put another there by hand; and one that vanished is written anew.
        let before = match blocking(move || directory.look())
            .await
            .ok_or_else(broke_off)?
        {
            Found::Held(held) => Some(held),
            Found::Nothing | Found::Unfit(_) => self.held(),
        };
        let candidate = make(before.as_ref())
            .ok_or_else(|| Trouble::Disk("there is no certificate yet".to_owned()))?;
        let was = self.held().map(|held| held.generation);
        let directory = self.directory.clone();
        let written = blocking(move || directory.publish(candidate, before.as_ref())).await;
        let held = written.ok_or_else(broke_off)??;
        *self.held.borrow_mut() = Some(held.clone());
        if was != Some(held.generation) {
            self.tell(&held);
        }
        Ok(held)
    }

    fn tell(&self, held: &Held) {
        self.facts.borrow_mut().generations += 1;
        let own = held.set.own();
        let message = format!(
            "generation {} of {} is written: {}",
            held.generation,
            self.config.mesh_dir.display(),
            own.id
        );
        let fields = [
            ("generation", held.generation.into()),
            ("serial", own.serial_hex().into()),
            ("not_after_seconds", own.not_after.into()),
            ("crl_next_update_seconds", held.set.crl_next_update().into()),
        ];
        self.log.event(Level::Info, "published", &message, &fields);
        self.changed.send_modify(|count| *count += 1);
    }

    /// What `--exec` is told of a generation.
    pub(crate) fn hook_news(&self, held: &Held) -> hook::News {
        let own = held.set.own();
        hook::News {
            dir: self.config.mesh_dir.display().to_string(),
            id: own.id.to_string(),
            serial: own.serial_hex(),
            generation: held.generation,
        }
    }

    /// A certificate has come and is in force.
    pub(crate) fn certificate_came(&self) {
        self.came.set(Some(self.clock.unix()));
        self.facts.borrow_mut().certificates += 1;
        self.alarms.clear(Alarm::Certificate);
        self.alarms.clear(Alarm::Clock);
        self.succeeded("certificate");
        self.alarms.clear(Alarm::Renewal);
    }

    /// The CA was heard of; `as_host`: by our certificate.
    pub(crate) async fn heard(&self, news: &TrustNews, as_host: bool) {
        let now = self.clock.unix();
        {
            let mut facts = self.facts.borrow_mut();
            facts.heard = Instant::now();
            facts.unheard_before = Duration::ZERO;
            facts.heard_at = Some(now);
            facts.heard_as_host = as_host;
            facts.news = Some(news.generation.clone());
            facts.no_news = None;
            facts.is_unwelcome &= !as_host;
        }
        let state = self.state.clone();
        match blocking(move || state.note_heard(now)).await {
            Some(Err(trouble)) => self.failed("state", &trouble),
            _ => self.succeeded("state"),
        }
    }

    /// An activity failed: counted, and told unless that was the last thing told of it.
    pub(crate) fn failed(&self, activity: &'static str, trouble: &Trouble) {
        let sentence = trouble.to_string();
        let mut facts = self.facts.borrow_mut();
        *facts
            .failures
            .entry((activity, trouble.word()))
            .or_default() += 1;
        if activity == "news" {
            let somebody_must = matches!(
                trouble,
                Trouble::Distrusted(_)
                    | Trouble::OutOfDate(_)
                    | Trouble::Unwelcome(..)
                    | Trouble::Refused(_)
            ) && trouble.is_lasting();
            facts.no_news = somebody_must.then(|| sentence.clone());
            facts.is_unwelcome |= trouble.needs_token();
        }
        let told = facts
            .last
            .insert(activity, (self.clock.unix(), sentence.clone()));
        drop(facts);
        if let Trouble::OutOfDate(_) = trouble {
            self.alarms.raise(Alarm::Clock, &sentence);
        }
        if told.is_none_or(|(_, known)| known != sentence) {
            let event = match activity {
                "certificate" => "certificate_failed",
                "exec" => "exec_failed",
                "state" => "state_failed",
                _ => "news_failed",
            };
            let fields = [("reason", trouble.word().into())];
            self.log.event(Level::Warn, event, &sentence, &fields);
        }
    }

    /// It succeeded.
    pub(crate) fn succeeded(&self, activity: &'static str) {
        self.facts.borrow_mut().last.remove(activity);
    }

    /// How long to wait after so many failures.
    pub(crate) fn pause(&self, failures: u32, left: Option<u64>) -> Duration {
        schedule::pause(failures, left, self.random.next())
    }

    /// Raises and ends what time alone decides.
    pub(crate) fn look_at_time(&self) {
        let now = self.clock.unix();
        let held = self.held();
        match &held {
            None => {
                let why = self.facts.borrow().last.get("certificate").cloned();
                if let Some((_, why)) = why {
                    let sentence = format!("there is no certificate yet: {why}");
                    self.alarms.raise(Alarm::Certificate, &sentence);
                }
            }
            Some(held) if held.set.own().expired(now) => {
                self.alarms.raise(Alarm::Certificate, &expired(held));
            }
            Some(_) => self.alarms.clear(Alarm::Certificate),
        }
        let facts = self.facts.borrow();
        if let Some(why) = &facts.no_news {
            let sentence = format!("nothing is heard of the CA any more: {why}");
            self.alarms.raise(Alarm::News, &sentence);
        } else if held.is_some() && facts.news_age() > self.config.news_alarm && !facts.is_trying()
        {
            let last = facts.last.get("news");
            let why = last.map_or_else(String::new, |(_, why)| format!(": {why}"));
            let sentence = format!(
                "nothing was heard of the CA for longer than {} s, so that nobody who was revoked since is known here{why}",
                self.config.news_alarm.as_secs()
            );
            self.alarms.raise(Alarm::News, &sentence);
        } else {
            self.alarms.clear(Alarm::News);
        }
    }
}

/// What an operator has to do about a certificate that has ended.
pub(crate) fn expired(held: &Held) -> String {
    let id = &held.set.own().id;
    format!(
        "the certificate of {id} has ended and can't renew itself any more: make a join token with `gapura-pki token {} {}` and put it into the file of --token-file",
        id.role(),
        id.name()
    )
}

/// Where a token says that the CA server is.
pub(crate) fn server_of(token: Option<&JoinToken>) -> Result<Url, Trouble> {
    let text = token
        .and_then(|token| token.url.as_deref())
        .ok_or_else(|| {
            Trouble::Token(
                "--ca is missing, and the join token does not say where the CA server is"
                    .to_owned(),
            )
        })?;
    config::server(text)
        .map_err(|why| Trouble::Token(format!("the address of the join token {why}; give --ca")))
}
