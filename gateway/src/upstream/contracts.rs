//! Asks each instance for its contract.
//!
//! In: the plugins in force, and the time. Out: what each instance serves as its contract, put into
//! the book, and whether the instance keeps to the one in force. It is asked when it appears, when
//! it says another version, when its plugin's file says another thing of either, and every minute;
//! a document may be large, so that few are read at a time, and no other question waits for one.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use gapura_openapi::MAX_BYTES;
use gapura_protocol::identity::Name;
use gapura_runtime::worker::Worker;
use http::StatusCode;

use super::Error;
use super::cluster::Running;
use super::instance::{Contract, Instance};
use super::question::{Question, judge};
use crate::openapi::{Asked, Book, Digest, digest};
use crate::registry::{self, Plugin, Table};

/// Who asks.
pub(super) struct Contracts {
    /// Where contracts are kept.
    book: Book,
    /// Plugins of which a document is being read: one of each, so that none with many slow
    /// instances keeps others waiting.
    reading: Rc<RefCell<BTreeSet<Name>>>,
    /// The plugins as they were when they were looked at last. Not they themselves: whoever lets go
    /// of a thousand last takes a millisecond for that, and this thread serves requests.
    known: HashMap<Name, Described>,
    /// The table that was looked at last.
    seen: Weak<Table<Running>>,
}

/// What a plugin's file says of its contract, and of what runs.
struct Described {
    contract: Option<registry::Contract>,
    version: String,
}

/// The question for its contract.
struct ForContract {
    to: Question,
    book: Book,
    reading: Rc<RefCell<BTreeSet<Name>>>,
}

/// How often an instance is asked for its contract, and how soon again when it could not be asked.
const CONTRACT_EVERY_MS: u64 = 60_000;
const CONTRACT_AGAIN_MS: u64 = 5_000;

/// A contract is as long as it is, and a plugin that has to write it first may take its time.
const CONTRACT_WAIT: Duration = Duration::from_secs(10);

/// Documents that are read at a time: each may be of some megabytes.
const READING_MOST: usize = 4;

impl Contracts {
    pub(super) fn new(book: Book) -> Self {
        Self {
            book,
            reading: Rc::default(),
            known: HashMap::new(),
            seen: Weak::new(),
        }
    }

    /// A plugin whose file says another thing of its contract, or of what runs, is asked for it anew;
    /// of one that is gone nothing is remembered. Before any plugin was there nobody is gone: what
    /// was kept over a restart waits for the files.
    pub(super) fn compare(&mut self, table: &Arc<Table<Running>>) {
        if std::ptr::eq(self.seen.as_ptr(), Arc::as_ptr(table)) {
            return;
        }
        self.seen = Arc::downgrade(table);
        let mut is_other = false;
        for (plugin, running) in table.running() {
            let known = self.known.get(&plugin.name);
            if known.is_some_and(|known| known.is_of(plugin)) {
                continue;
            }
            is_other = true;
            self.known
                .insert(plugin.name.clone(), Described::of(plugin));
            for instance in running.main.instances().iter() {
                instance.asking.next_contract.at_once();
            }
        }
        let plugins = table.plugins().iter().map(|(_, plugin)| plugin);
        if self.known.len() > plugins.len() {
            is_other = true;
            let there: BTreeSet<&Name> = plugins.clone().map(|plugin| &plugin.name).collect();
            self.known.retain(|name, _| there.contains(name));
        }
        if is_other {
            let with_one = plugins.filter(|plugin| plugin.contract.is_some());
            self.book
                .keep_only(&with_one.map(|plugin| plugin.name.as_str()).collect());
        }
    }

    /// Asks an instance of the plugin `name`, if it is time.
    pub(super) fn look(
        &self,
        name: &Name,
        instance: &Instance,
        worker: &Worker,
        now: u64,
        to: impl FnOnce() -> Question,
    ) {
        let (asking, mut reading) = (&instance.asking, self.reading.borrow_mut());
        if reading.len() >= READING_MOST || reading.contains(name) {
            return;
        }
        let spread = worker.random.next() % (CONTRACT_EVERY_MS / 5);
        let every = CONTRACT_EVERY_MS - CONTRACT_EVERY_MS / 10 + spread;
        if !asking.next_contract.is_due(now, every) {
            return;
        }
        reading.insert(name.clone());
        drop(reading);
        let question = ForContract {
            to: to(),
            book: self.book.clone(),
            reading: self.reading.clone(),
        };
        worker.tasks.spawn("a look at a contract", question.ask());
    }
}

impl Described {
    fn of(plugin: &Plugin) -> Self {
        Self {
            contract: plugin.contract.clone(),
            version: plugin.version.clone(),
        }
    }

    fn is_of(&self, plugin: &Plugin) -> bool {
        self.contract == plugin.contract && self.version == plugin.version
    }
}

impl ForContract {
    async fn ask(self) {
        let to = &self.to;
        let Some(contract) = &to.plugin.contract else {
            return;
        };
        let told = to
            .get_within(&contract.path, CONTRACT_WAIT, MAX_BYTES)
            .await;
        let document = match told {
            // Nobody is there, or nobody in a state to say: that is no word about its contract.
            Err(Error::Timeout) => {
                let seconds = CONTRACT_WAIT.as_secs();
                return self.in_vain(format!("it does not come whole within {seconds} s"));
            }
            Err(_) => return self.again_soon(),
            Ok(told) if told.status.is_server_error() => {
                let status = told.status.as_u16();
                return self.in_vain(format!("it answers {status} at {}", contract.path));
            }
            Ok(told) if told.made => Err(format!(
                "its sidecar lets nobody ask for {} without a caller; name it there with --probe-path",
                contract.path
            )),
            Ok(told) if told.cut => Err(format!("is longer than {} MiB", MAX_BYTES >> 20)),
            Ok(told) if told.status == StatusCode::OK => Ok(told.body),
            Ok(told) => Err(format!(
                "it answers {} at {}",
                told.status.as_u16(),
                contract.path
            )),
        };
        let served = document.as_ref().ok().map(|bytes| digest(bytes));
        let is_other = |one: &&Arc<Instance>| !Arc::ptr_eq(one, &to.instance);
        let instances = to.cluster.instances().clone();
        let others = instances.iter().filter(is_other);
        let others: Vec<Digest> = others.filter_map(|one| one.contract()?.digest).collect();
        let asked = Asked {
            at: to.instance.at().to_string(),
            version: to.instance.version().map(|said| (*said).clone()),
            others,
            document,
        };
        let (book, plugin) = (self.book.clone(), to.plugin.clone());
        let judged = tokio::task::spawn_blocking(move || book.judge(&plugin, asked));
        let Ok(fits) = judged.await else {
            return self.again_soon();
        };
        to.instance.serves_contract(Contract {
            digest: served,
            fits,
        });
        judge(&to.plugin, &to.cluster, &to.instance, &to.worker);
    }

    /// Tells why it could not be read this time, which changes nothing of what is known.
    fn in_vain(&self, why: String) {
        let (plugin, at) = (&self.to.plugin, self.to.instance.at().to_string());
        self.book.in_vain(plugin, &at, why);
        self.again_soon();
    }

    fn again_soon(&self) {
        let next = self.to.cluster.epoch().now() + CONTRACT_AGAIN_MS;
        self.to.instance.asking.next_contract.at(next);
    }
}

impl Drop for ForContract {
    /// However it ended, the next one may be asked.
    fn drop(&mut self) {
        self.reading.borrow_mut().remove(&self.to.plugin.name);
    }
}
