//! A browser's WebSocket brings its token as a subprotocol, since scripts can set no header there.
//!
//! In: a request for a WebSocket at a mount with `ws_token`, and later the plugin's 101. Out: the
//! same request with the token where every other request has it and no trace of it in the list the
//! plugin sees, and a 101 that names one of the names offered: a browser ends a connection whose
//! subprotocols were all passed over.
//! Invariant: no `bearer.` goes on to a plugin or back to a client.

use std::fmt;

use gapura_protocol::envelope::Code;
use gapura_transport::tunnel::{self, NotAskedFor};
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use http::request::Parts;

use crate::cors;
use crate::registry::Plugin;

/// The first name that was offered beside the token.
#[derive(Debug)]
pub(crate) struct Offered(HeaderValue);

/// Whether a request asks for a WebSocket, and how.
pub(crate) struct WebSocket {
    /// It does.
    pub(crate) asked: bool,
    /// The name that a 101 answers with where the plugin's names none.
    pub(crate) offered: Option<Offered>,
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// There is nothing else offered, or more than one token came.
    Malformed,
    /// It comes from a page that `cors.origins` does not list, or from none.
    Origin,
}

const PREFIX: &[u8] = b"bearer.";

impl WebSocket {
    /// Whether `head` asks for one; where a page does, its token is moved to where every other
    /// request has it.
    ///
    /// # Errors
    /// [`Error`]
    pub(crate) fn asked_for(plugin: &Plugin, head: &mut Parts) -> Result<Self, Error> {
        let asked = tunnel::is_asked_for(head);
        let offered = match asked && plugin.ws_token {
            true => take(plugin, &mut head.headers)?,
            false => None,
        };
        Ok(Self { asked, offered })
    }
}

/// Moves the token from the subprotocols of a request for a WebSocket to `Authorization`; `None` if
/// it brings none there.
///
/// # Errors
/// [`Error`]
fn take(plugin: &Plugin, headers: &mut HeaderMap) -> Result<Option<Offered>, Error> {
    let names = names(headers);
    let mut tokens = names.iter().filter_map(|name| name.strip_prefix(PREFIX));
    let Some(token) = tokens.next() else {
        return Ok(None);
    };
    let others: Vec<&[u8]> = names
        .iter()
        .filter(|name| !name.starts_with(PREFIX))
        .map(Vec::as_slice)
        .collect();
    let first = others.first().ok_or(Error::Malformed)?;
    if tokens.next().is_some() || headers.contains_key(AUTHORIZATION) {
        return Err(Error::Malformed);
    }
    let is_listed = cors::origin(headers)
        .and_then(|origin| origin.to_str().ok())
        .zip(plugin.cors.as_ref())
        .is_some_and(|(origin, cors)| cors.origins.has(origin));
    if !is_listed {
        return Err(Error::Origin);
    }
    let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).map_err(|_| Error::Malformed);
    let mut authorization = value(&[b"Bearer ", token].concat())?;
    authorization.set_sensitive(true);
    let (offered, rest) = (Offered(value(first)?), value(&others.join(&b", "[..]))?);
    headers.insert(AUTHORIZATION, authorization);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, rest);
    Ok(Some(offered))
}

/// Makes a plugin's 101 one that the browser takes.
///
/// # Errors
/// [`NotAskedFor`] if it names a token.
pub(crate) fn answer(
    headers: &mut HeaderMap,
    offered: Option<&Offered>,
) -> Result<(), NotAskedFor> {
    let names = names(headers);
    if names.iter().any(|name| name.starts_with(PREFIX)) {
        return Err(NotAskedFor);
    }
    if let Some(Offered(first)) = offered.filter(|_| names.is_empty()) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, first.clone());
    }
    Ok(())
}

/// Each subprotocol that a message names.
fn names(headers: &HeaderMap) -> Vec<Vec<u8>> {
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .into_iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

impl Error {
    /// The code it is answered with.
    #[must_use]
    pub(crate) fn code(self) -> Code {
        match self {
            Self::Malformed => Code::BadRequest,
            Self::Origin => Code::Forbidden,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => {
                "a token as a subprotocol needs one other name beside it and no other token"
            }
            Self::Origin => "a token as a subprotocol is taken from the origins of cors only",
        })
    }
}

impl std::error::Error for Error {}
