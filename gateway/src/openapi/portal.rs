//! Answers for the document of all plugins.
//!
//! In: who asks. Out: the document as they may see it, made on another thread where it has to be
//! made; or that too many ask at a time. Whoever has it already is told so (RFC 9110, section
//! 13.1.2).

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use gapura_transport::body::Body;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, VARY,
};
use http::{Response, StatusCode};

use super::book::Book;
use super::turns::Turns;
use super::who::Who;
use super::whole::{View, Whole};
use crate::registry::{LimitKey, RateLimit, Registry};

/// Who may read the document of all plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Everybody, all of it.
    Public,
    /// Callers with a token, what their rules let them do.
    #[default]
    Token,
    /// Nobody.
    Off,
}

/// The document, for all workers. Clones are the same.
#[derive(Clone)]
pub(crate) struct Portal(Arc<Shared>);

struct Shared {
    mode: Mode,
    title: String,
    book: Book,
    registry: Registry,
    whole: ArcSwapOption<Whole>,
    making: Mutex<()>,
    turns: Turns,
    limit: Arc<RateLimit>,
}

/// How often one company, or where nobody is known one address, may have it: so many times in so
/// many seconds, and so many at once.
const OFTEN: (u64, u64, u64) = (600, 60, 120);

/// How often one may have it; none if [`OFTEN`] made no limit.
#[must_use]
pub(crate) fn limit(mode: Mode) -> Option<Arc<RateLimit>> {
    let key = match mode {
        Mode::Public => LimitKey::Ip,
        Mode::Token | Mode::Off => LimitKey::Tenant,
    };
    RateLimit::new(OFTEN, key, "openapi").map(Arc::new)
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "public" => Ok(Self::Public),
            "token" => Ok(Self::Token),
            "off" => Ok(Self::Off),
            _ => Err("must be public, token or off".to_owned()),
        }
    }
}

impl Mode {
    /// The word, as a setting has it.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Token => "token",
            Self::Off => "off",
        }
    }
}

impl Portal {
    /// A portal to what `book` and `registry` hold; none if [`OFTEN`] made no limit.
    pub(crate) fn new(mode: Mode, title: String, book: Book, registry: Registry) -> Option<Self> {
        let limit = limit(mode)?;
        Some(Self(Arc::new(Shared {
            mode,
            title,
            book,
            registry,
            whole: ArcSwapOption::empty(),
            making: Mutex::default(),
            turns: Turns::new(),
            limit,
        })))
    }

    /// How often one may ask for it.
    pub(crate) fn limit(&self) -> &Arc<RateLimit> {
        &self.0.limit
    }

    /// Who may read it.
    pub(crate) fn mode(&self) -> Mode {
        self.0.mode
    }

    /// The document as `who` may see it, or anybody. `None` if too many ask at a time.
    pub(crate) async fn view(&self, who: Option<Who>) -> Option<Arc<View>> {
        let inside = self.0.clone();
        let view = move || inside.whole().view(who.as_ref(), &inside.title);
        self.0.turns.done(view).await
    }

    /// The answer to who asks with these headers.
    #[must_use]
    pub(crate) fn answer(&self, view: &View, asked: &HeaderMap) -> Response<Body> {
        let knows = asked.get_all(IF_NONE_MATCH).into_iter().any(|tags| {
            let mut tags = tags.as_bytes().split(|byte| *byte == b',');
            tags.any(|tag| {
                let tag = tag.trim_ascii();
                let tag = tag.strip_prefix(b"W/").unwrap_or(tag);
                tag == view.etag.as_bytes() || tag == b"*"
            })
        });
        let mut response = if knows {
            let mut unchanged = Response::new(Body::empty());
            *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
            unchanged
        } else {
            let mut whole = Response::new(Body::full(view.text.clone()));
            let kind = HeaderValue::from_static("application/json");
            whole.headers_mut().insert(CONTENT_TYPE, kind);
            whole
        };
        let headers = response.headers_mut();
        headers.insert(ETAG, view.etag.clone());
        let kept = match self.0.mode {
            Mode::Public => "no-cache",
            Mode::Token | Mode::Off => "private, no-cache",
        };
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(kept));
        if self.0.mode == Mode::Token {
            headers.insert(VARY, HeaderValue::from_static("Authorization"));
        }
        response
    }
}

impl Shared {
    /// The whole as it is now; made anew where plugins or contracts have changed.
    fn whole(&self) -> Arc<Whole> {
        let _alone = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let (table, generation) = (self.registry.table(), self.book.generation());
        let known = self.whole.load_full();
        if let Some(known) = &known
            && known.generation == generation
            && Arc::ptr_eq(&known.table, &table)
        {
            return known.clone();
        }
        let whole = Arc::new(Whole::make(table, &self.book, known.as_deref()));
        self.whole.store(Some(whole.clone()));
        whole
    }
}
