//! Finished requests, live, for the few who look at them.
//!
//! In: of each finished request what viewers may choose by, and its line. Out: to each viewer, in
//! batches, the lines that it asked for. While nobody looks a request costs one relaxed load. While
//! somebody does, a worker writes into batches of its own and hands them over without waiting: a
//! viewer that does not keep up loses lines and hears how many, and no request is slower for it.
//! Knows no runtime, so a viewer looks whether something has come; knows no record either, so what
//! a line says is decided where access lines are made.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where the requests of one program can be looked at. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tap(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Which list of viewers is in force; 0 while there is none.
    generation: AtomicU64,
    viewers: Mutex<Viewers>,
}

#[derive(Default)]
struct Viewers {
    changes: u64,
    list: Vec<Arc<Viewer>>,
}

struct Viewer {
    filter: Filter,
    batches: SyncSender<Batch>,
    dropped: AtomicU64,
}

struct Batch {
    lines: Vec<u8>,
    count: u64,
}

/// Which requests a viewer asks for; all of them, unless something is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of this plugin.
    pub plugin: Option<String>,
    /// Those that act for this company.
    pub company: Option<String>,
    /// Those with such a status.
    pub status: Option<Statuses>,
    /// Those that took so long or longer.
    pub slow: Option<Duration>,
}

/// One status, or all of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statuses {
    /// This one.
    One(u16),
    /// The class that begins with this digit.
    Class(u16),
}

/// What viewers may choose by.
pub(crate) struct Facts<'a> {
    pub(crate) plugin: &'a str,
    pub(crate) company: Option<&'a str>,
    pub(crate) status: u16,
    pub(crate) took: Duration,
}

/// One viewer's end: what has come for it. It is no viewer any more once this is dropped.
pub struct Watch {
    tap: Tap,
    viewer: Arc<Viewer>,
    batches: Receiver<Batch>,
}

/// One worker's end.
#[derive(Default)]
pub(crate) struct Source {
    tap: Option<Tap>,
    open: RefCell<Open>,
}

/// What a worker knows of the viewers, and has gathered for each.
#[derive(Default)]
struct Open {
    generation: u64,
    viewers: Vec<(Arc<Viewer>, Batch)>,
    line: Vec<u8>,
}

/// A page for a few people and their terminals.
pub const VIEWERS: usize = 8;

/// A batch goes out when it is this long, or when the worker's timer says so.
const BATCH: usize = 16 * 1024;

/// Batches that wait for one viewer: 1 MiB of lines.
const WAITING: usize = 64;

impl Tap {
    /// Begins to look; `None` where as many do as may.
    #[must_use]
    pub fn watch(&self, filter: Filter) -> Option<Watch> {
        let mut viewers = self.viewers();
        if viewers.list.len() >= VIEWERS {
            return None;
        }
        let (sender, batches) = sync_channel(WAITING);
        let viewer = Arc::new(Viewer {
            filter,
            batches: sender,
            dropped: AtomicU64::new(0),
        });
        viewers.list.push(viewer.clone());
        self.changed(&mut viewers);
        Some(Watch {
            tap: self.clone(),
            viewer,
            batches,
        })
    }

    fn viewers(&self) -> MutexGuard<'_, Viewers> {
        let viewers = &self.0.viewers;
        viewers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, viewers: &mut Viewers) {
        viewers.changes += 1;
        let generation = match viewers.list.is_empty() {
            true => 0,
            false => viewers.changes,
        };
        self.0.generation.store(generation, Ordering::Relaxed);
    }
}

impl Filter {
    fn takes(&self, facts: &Facts<'_>) -> bool {
        let plugin = |wanted: &String| wanted == facts.plugin;
        let company = |wanted: &String| Some(wanted.as_str()) == facts.company;
        self.plugin.as_ref().is_none_or(plugin)
            && self.company.as_ref().is_none_or(company)
            && self.status.is_none_or(|wanted| wanted.has(facts.status))
            && self.slow.is_none_or(|least| facts.took >= least)
    }
}

impl Statuses {
    /// Takes `404` or `5xx`.
    ///
    /// # Errors
    /// A sentence that says what is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let class = text.strip_suffix("xx").and_then(|digit| digit.parse().ok());
        let one = text.parse().ok();
        match (class, one) {
            (Some(class @ 1..=5), _) if text.len() == 3 => Ok(Self::Class(class)),
            (_, Some(one @ 100..=599)) if text.len() == 3 => Ok(Self::One(one)),
            _ => Err("must be a status from 100 to 599, or a class such as 5xx".to_owned()),
        }
    }

    fn has(self, status: u16) -> bool {
        match self {
            Self::One(one) => status == one,
            Self::Class(class) => status / 100 == class,
        }
    }
}

impl Watch {
    /// Appends the lines that have come since the last time, each ended by a line feed.
    pub fn take(&self, lines: &mut Vec<u8>) {
        while let Ok(batch) = self.batches.try_recv() {
            lines.extend_from_slice(&batch.lines);
        }
    }

    /// How many lines were lost since the last time.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.viewer.dropped.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut viewers = self.tap.viewers();
        viewers.list.retain(|one| !Arc::ptr_eq(one, &self.viewer));
        self.tap.changed(&mut viewers);
    }
}

impl Source {
    pub(crate) fn new(tap: Option<Tap>) -> Self {
        Self {
            tap,
            open: RefCell::default(),
        }
    }

    /// Whether anybody could ever look.
    pub(crate) fn is_there(&self) -> bool {
        self.tap.is_some()
    }

    /// Whether anybody looks.
    pub(crate) fn is_watched(&self) -> bool {
        self.generation() != 0
    }

    fn generation(&self) -> u64 {
        let tap = self.tap.as_ref();
        tap.map_or(0, |tap| tap.0.generation.load(Ordering::Relaxed))
    }

    /// Offers a finished request to whoever looks; `write` makes its line if anybody asks for it.
    pub(crate) fn offer(&self, facts: &Facts<'_>, write: impl FnOnce(&mut Vec<u8>)) {
        let (Some(tap), mut open) = (&self.tap, self.open.borrow_mut()) else {
            return;
        };
        open.follow(tap, self.generation());
        let Open { viewers, line, .. } = &mut *open;
        let mut wanted = viewers
            .iter_mut()
            .filter(|(viewer, _)| viewer.filter.takes(facts))
            .peekable();
        if wanted.peek().is_none() {
            return;
        }
        line.clear();
        write(line);
        for (viewer, batch) in wanted {
            batch.lines.extend_from_slice(line);
            batch.count += 1;
            if batch.lines.len() >= BATCH {
                viewer.send(batch);
            }
        }
    }

    /// Hands over what has gathered.
    pub(crate) fn flush(&self) {
        let Some(tap) = &self.tap else { return };
        let mut open = self.open.borrow_mut();
        for (viewer, batch) in open.viewers.iter_mut().filter(|(_, batch)| batch.count > 0) {
            viewer.send(batch);
        }
        open.follow(tap, self.generation());
    }
}

impl Open {
    /// Takes the list of `generation` over. What was gathered for who stays is kept.
    fn follow(&mut self, tap: &Tap, generation: u64) {
        if self.generation == generation {
            return;
        }
        let listed = tap.viewers().list.clone();
        self.viewers
            .retain(|(known, _)| listed.iter().any(|one| Arc::ptr_eq(one, known)));
        for viewer in listed {
            let mut known = self.viewers.iter();
            if !known.any(|(known, _)| Arc::ptr_eq(known, &viewer)) {
                self.viewers.push((viewer, Batch::empty()));
            }
        }
        self.generation = generation;
        if self.viewers.is_empty() {
            *self = Self::default();
        }
    }
}

impl Batch {
    fn empty() -> Self {
        Self {
            lines: Vec::new(),
            count: 0,
        }
    }
}

impl Viewer {
    /// Never waits. What finds no room is counted, unless it was for nobody.
    fn send(&self, batch: &mut Batch) {
        let full = std::mem::replace(batch, Batch::empty());
        batch.lines.reserve(full.lines.len().min(BATCH));
        if let Err(TrySendError::Full(lost)) = self.batches.try_send(full) {
            self.dropped.fetch_add(lost.count, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(status: u16) -> Facts<'static> {
        Facts {
            plugin: "lab",
            company: Some("42"),
            status,
            took: Duration::from_millis(200),
        }
    }

    fn offered(source: &Source, count: usize) {
        for _ in 0..count {
            source.offer(&facts(200), |line| line.extend_from_slice(b"{}\n"));
        }
        source.flush();
    }

    fn taken(watch: &Watch) -> usize {
        let mut lines = Vec::new();
        watch.take(&mut lines);
        lines.iter().filter(|byte| **byte == b'\n').count()
    }

    #[test]
    fn each_viewer_gets_what_it_asked_for_and_nothing_else() {
        let takes = |filter: Filter| filter.takes(&facts(503));
        let text = |text: &str| Some(text.to_owned());
        let all = Filter::default;
        for (filter, expected) in [
            (all(), true),
            (
                Filter {
                    plugin: text("lab"),
                    ..all()
                },
                true,
            ),
            (
                Filter {
                    plugin: text("la"),
                    ..all()
                },
                false,
            ),
            (
                Filter {
                    company: text("42"),
                    ..all()
                },
                true,
            ),
            (
                Filter {
                    company: text("4"),
                    ..all()
                },
                false,
            ),
            (
                Filter {
                    status: Some(Statuses::One(503)),
                    ..all()
                },
                true,
            ),
            (
                Filter {
                    status: Some(Statuses::One(500)),
                    ..all()
                },
                false,
            ),
            (
                Filter {
                    status: Some(Statuses::Class(5)),
                    ..all()
                },
                true,
            ),
            (
                Filter {
                    status: Some(Statuses::Class(4)),
                    ..all()
                },
                false,
            ),
            (
                Filter {
                    slow: Some(Duration::from_millis(200)),
                    ..all()
                },
                true,
            ),
            (
                Filter {
                    slow: Some(Duration::from_millis(201)),
                    ..all()
                },
                false,
            ),
            (
                Filter {
                    plugin: text("lab"),
                    company: text("7"),
                    ..all()
                },
                false,
            ),
        ] {
            assert_eq!(takes(filter.clone()), expected, "{filter:?}");
        }
        let nobody = Facts {
            company: None,
            ..facts(200)
        };
        assert!(all().takes(&nobody));
        assert!(
            !Filter {
                company: text("42"),
                ..all()
            }
            .takes(&nobody)
        );
    }

    #[test]
    fn a_status_is_a_number_or_a_class() {
        assert_eq!(Statuses::parse("404"), Ok(Statuses::One(404)));
        assert_eq!(Statuses::parse("5xx"), Ok(Statuses::Class(5)));
        for wrong in [
            "", "5x", "6xx", "0xx", "99", "600", "+200", "0200", "+5xx", "xx", "5XX",
        ] {
            assert!(Statuses::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_is_written_while_nobody_looks() {
        let tap = Tap::default();
        let source = Source::new(Some(tap.clone()));
        assert!(!source.is_watched());
        let watch = tap.watch(Filter::default()).unwrap();
        assert!(source.is_watched());
        offered(&source, 3);
        assert_eq!((taken(&watch), watch.dropped()), (3, 0));
        drop(watch);
        assert!(!source.is_watched());
        source.offer(&facts(200), |_| panic!("nobody asked for a line"));
        let other = Filter {
            plugin: Some("other".to_owned()),
            ..Filter::default()
        };
        let _watch = tap.watch(other).unwrap();
        source.offer(&facts(200), |_| panic!("nobody asked for this one"));
        assert!(!Source::new(None).is_watched());
    }

    #[test]
    fn a_viewer_that_does_not_read_loses_lines_and_hears_how_many() {
        let tap = Tap::default();
        let source = Source::new(Some(tap.clone()));
        let (slow, other) = (
            tap.watch(Filter::default()).unwrap(),
            tap.watch(Filter::default()).unwrap(),
        );
        let mut others = 0;
        for _ in 0..WAITING + 10 {
            offered(&source, 7);
            others += taken(&other);
        }
        assert_eq!(others, (WAITING + 10) * 7, "another loses none");
        assert_eq!((slow.dropped(), slow.dropped()), (70, 0));
        assert_eq!(taken(&slow), WAITING * 7);
        offered(&source, 1);
        assert_eq!((taken(&slow), slow.dropped()), (1, 0), "it goes on");
    }

    #[test]
    fn eight_may_look_and_one_that_goes_makes_room() {
        let tap = Tap::default();
        let mut all: Vec<Watch> = (0..VIEWERS)
            .map(|_| tap.watch(Filter::default()).unwrap())
            .collect();
        assert!(tap.watch(Filter::default()).is_none());
        let source = Source::new(Some(tap.clone()));
        offered(&source, 1);
        all.pop();
        let late = tap.watch(Filter::default()).unwrap();
        offered(&source, 1);
        assert_eq!(taken(&late), 1);
        assert!(all.iter().all(|watch| taken(watch) == 2));
    }
}
