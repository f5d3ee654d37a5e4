//! The document of all plugins, as one table of plugins and the contracts in force make it.
//!
//! In: both. Out: each plugin's part, made once; and views of the whole, one for each choice of
//! operations that callers may see. A part is kept for as long as its plugin, its contract and the
//! mounts within its own are the same, whatever becomes of the others. Callers with the same rights
//! have the same view, so that there are few of them; the last ones are kept.
//! Invariant: an operation that a caller's rules leave no request for is in no view of theirs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use gapura_openapi::{About, Document, Door, Part, Seen, Site, merge};
use gapura_protocol::headers::{is_reserved, tells_who};
use http::{HeaderName, HeaderValue, Method};

use super::book::Book;
use super::entry::{Digest, digest};
use super::who::Who;
use crate::registry::{AuthMode, Found, Plugin, Table};
use crate::route::Endpoint;
use crate::upstream::cluster::Running;

/// The document of all plugins.
pub(super) struct Whole {
    pub(super) table: Arc<Table<Running>>,
    pub(super) generation: u64,
    placed: Vec<Arc<Placed>>,
    views: Mutex<VecDeque<(Choice, Arc<View>)>>,
}

/// A plugin with its part.
struct Placed {
    plugin: Arc<Plugin>,
    digest: Digest,
    /// The mounts within its own, which take paths from it.
    inner: Vec<String>,
    part: Part,
}

/// The whole as some callers see it.
#[derive(Debug)]
pub(crate) struct View {
    /// The document.
    pub(crate) text: Bytes,
    /// By which one who has it already is told so.
    pub(crate) etag: HeaderValue,
}

/// What is seen of each part: all of it, or the marked operations.
type Choice = Vec<Option<Box<[bool]>>>;

/// So many views are kept, and so many bytes of them at most, the last one aside.
const VIEWS_MOST: usize = 32;
const VIEWS_BYTES: usize = 64 << 20;

impl Whole {
    /// Makes it, with the parts of `before` that are the same still.
    pub(super) fn make(table: Arc<Table<Running>>, book: &Book, before: Option<&Self>) -> Self {
        let generation = book.generation();
        let in_force = book.in_force();
        let each = table.plugins().iter();
        let mut mounts: Vec<String> = each.map(|(_, one)| one.mount.to_string()).collect();
        mounts.extend(table.held().into_iter().map(str::to_owned));
        mounts.sort_unstable();
        let before = before.map_or(&[][..], |before| &before.placed);
        let before: HashMap<&str, &Arc<Placed>> = before
            .iter()
            .map(|placed| (placed.plugin.name.as_str(), placed))
            .collect();
        let mut placed = Vec::new();
        for (_, plugin) in table.plugins() {
            let Some(contract) = in_force.get(plugin.name.as_str()) else {
                continue;
            };
            if !plugin.enabled || plugin.contract.is_none() {
                continue;
            }
            let inner = inner(plugin, &mounts);
            let known = before.get(plugin.name.as_str()).filter(|one| {
                one.plugin == *plugin && one.digest == contract.digest && one.inner == inner
            });
            let made = known.map(|known| (*known).clone()).or_else(|| {
                let document = Document::read(&contract.bytes).ok()?;
                Some(Arc::new(Placed {
                    part: part(&document, plugin, &table),
                    plugin: plugin.clone(),
                    digest: contract.digest,
                    inner,
                }))
            });
            placed.extend(made);
        }
        Self {
            table,
            generation,
            placed,
            views: Mutex::default(),
        }
    }

    /// The view of a caller, or of somebody of whom nothing is asked.
    pub(super) fn view(&self, who: Option<&Who>, title: &str) -> Arc<View> {
        let choice: Choice = self.placed.iter().map(|placed| placed.marks(who)).collect();
        if let Some(known) = self.known(&choice) {
            return known;
        }
        let parts: Vec<(&Part, Seen<'_>)> = self
            .placed
            .iter()
            .zip(&choice)
            .map(|(placed, marks)| {
                let seen = marks.as_deref().map_or(Seen::All, Seen::Marked);
                (&placed.part, seen)
            })
            .collect();
        let about = About {
            title,
            description: "What the plugins behind this gateway serve, each below its mount.",
            version: env!("CARGO_PKG_VERSION"),
        };
        let text = Bytes::from(merge(&about, &parts));
        let digest = URL_SAFE_NO_PAD.encode(digest(&text));
        let etag = HeaderValue::from_str(&format!("\"{digest}\""));
        let view = Arc::new(View {
            text,
            etag: etag.unwrap_or_else(|_| HeaderValue::from_static("\"\"")),
        });
        self.keep(choice, &view);
        view
    }

    fn known(&self, choice: &Choice) -> Option<Arc<View>> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let at = views.iter().position(|(known, _)| known == choice)?;
        // The last one asked for is the last one to go.
        let found = views.remove(at)?;
        let view = found.1.clone();
        views.push_back(found);
        Some(view)
    }

    fn keep(&self, choice: Choice, view: &Arc<View>) {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.push_back((choice, view.clone()));
        let bytes = |views: &VecDeque<(Choice, Arc<View>)>| -> usize {
            views.iter().map(|(_, view)| view.text.len()).sum()
        };
        while views.len() > VIEWS_MOST || views.len() > 1 && bytes(&views) > VIEWS_BYTES {
            views.pop_front();
        }
    }
}

impl Placed {
    /// What a caller may see of it; `None` for all.
    fn marks(&self, who: Option<&Who>) -> Option<Box<[bool]>> {
        let plugin = &self.plugin;
        if !plugin.access.restricts() || who.is_none() {
            return None;
        }
        // Where no token is verified the rules know nobody.
        let who = who.filter(|_| plugin.auth.is_verified());
        let passes = |operation: &gapura_openapi::Operation| {
            let Ok(method) = Method::from_bytes(operation.method.as_bytes()) else {
                return false;
            };
            let path = &operation.path;
            let below = plugin.mount.rest(path).unwrap_or(path);
            match who {
                Some(who) => {
                    who.ask(|subject| plugin.access.may_pass(Some(subject), &method, below))
                }
                None => plugin.access.may_pass(None, &method, below),
            }
        };
        let marks: Box<[bool]> = self.part.operations().iter().map(passes).collect();
        // Without an operation nobody has shown that they may see anything.
        if !marks.is_empty() && marks.iter().all(|mark| *mark) {
            None
        } else {
            Some(marks)
        }
    }
}

/// The mounts within a plugin's own: of all others none changes which paths lead to it.
/// `mounts` are in order.
fn inner(plugin: &Plugin, mounts: &[String]) -> Vec<String> {
    let own = plugin.mount.as_str();
    let within = format!("{}/", own.trim_end_matches('/'));
    let begin = mounts.partition_point(|mount| *mount < within);
    let from = mounts.get(begin..).unwrap_or_default().iter();
    let found = from.take_while(|mount| mount.starts_with(&within));
    found.filter(|mount| *mount != own).cloned().collect()
}

fn part(document: &Document, plugin: &Arc<Plugin>, table: &Table<Running>) -> Part {
    let leads_here = |path: &str| match table.find(path) {
        Found::Plugin { plugin: found, .. } => {
            found.name == plugin.name && Endpoint::of(path).is_none()
        }
        Found::Held | Found::NoRoute => false,
    };
    let site = Site {
        plugin: plugin.name.as_str(),
        mount: plugin.mount.as_str(),
        keeps_mount: plugin.keep_mount_prefix,
        found_at: plugin
            .contract
            .as_ref()
            .map_or("/", |contract| &contract.path),
        door: match plugin.auth {
            AuthMode::Public => Door::Open,
            AuthMode::ForwardUnverified | AuthMode::ForwardJwt | AuthMode::GatewayVerified => {
                Door::Token
            }
        },
        passes: &|name| passes(plugin, name),
        leads_here: &leads_here,
    };
    Part::of(document, &site)
}

/// Whether a header of a client's reaches the plugin, and is one that a contract speaks of (OpenAPI
/// 3.1, section 4.8.12.1).
fn passes(plugin: &Plugin, name: &str) -> bool {
    let Ok(name) = HeaderName::try_from(name) else {
        return false;
    };
    let lower = name.as_str();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if matches!(lower, "accept" | "content-type" | "authorization")
        || is_reserved(lower)
        || !lower.bytes().all(is_plain)
        || plugin.strip_headers.names_it(lower)
    {
        return false;
    }
    let is_dropped = lower.starts_with("x-") || tells_who(lower);
    !is_dropped || plugin.forward_headers.takes(&name)
}
