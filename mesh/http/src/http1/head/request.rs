//! The head of a request.
//!
//! A method, one target in a form that the method may have, a version of HTTP/1, and fields. What
//! is refused here could be read in two ways by two programs; what is merely unwelcome (a method, a
//! host, a path) is for the pipeline to judge.

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{Method, Request, Uri, Version};

use super::scan::{Lines, Scan, is_token};
use super::{Length, Limits, METHOD_MOST, take_block};
use crate::http1::fields;
use crate::http1::{Malformed, Refusal, RefusalKind};

/// Reads one head. A new one for each.
#[derive(Debug)]
pub struct RequestReader(Scan);

/// A whole head.
#[derive(Debug)]
pub struct RequestHead {
    /// Method, target, version and fields, those of the connection among them.
    pub parts: Parts,
    /// What follows.
    pub body: Length,
    /// Whether the client wants to go on afterwards.
    pub keep_alive: bool,
    /// Whether it waits for a 100 before its body.
    pub expects_continue: bool,
    /// Whether it takes trailers.
    pub wants_trailers: bool,
    /// Whether it asks for another protocol.
    pub upgrade: bool,
}

impl Default for RequestReader {
    fn default() -> Self {
        Self(Scan::new(Lines::Request))
    }
}

impl RequestReader {
    /// Takes a whole head off `bytes`, or nothing while it is not whole.
    ///
    /// # Errors
    /// [`Refusal`], as soon as `bytes` can't begin a head any more. No request can be read from
    /// that stream after it.
    pub fn read(
        &mut self,
        bytes: &mut BytesMut,
        limits: &Limits,
    ) -> Result<Option<RequestHead>, Box<Refusal>> {
        let extent = match self.0.step(bytes, limits) {
            Ok(Some(extent)) => extent,
            Ok(None) => return Ok(None),
            Err(fault) => return Err(Box::new(Refusal::of(fault, bytes))),
        };
        let block = take_block(bytes, extent.fields.end);
        let head = parse(
            &block.slice(extent.start.clone()),
            &block.slice(extent.fields),
            extent.count,
            limits,
        );
        head.map(Some)
            .map_err(|fault| Box::new(Refusal::of(fault, &block[extent.start.start..])))
    }
}

fn parse(
    start: &Bytes,
    block: &Bytes,
    count: usize,
    limits: &Limits,
) -> Result<RequestHead, Malformed> {
    let (method, uri, version) = request_line(start, limits)?;
    let fields = fields::parse(block, count)?;
    let modern = version == Version::HTTP_11;
    if fields.chunked && !modern {
        return Err(Malformed::bad("Transfer-Encoding in HTTP/1.0"));
    }
    let body = match fields.length {
        _ if fields.chunked => Length::Chunked,
        None | Some(0) => Length::None,
        Some(length) => Length::Exact(length),
    };
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method;
    parts.uri = uri;
    parts.version = version;
    parts.headers = fields.map;
    let connection = fields.connection;
    Ok(RequestHead {
        parts,
        body,
        keep_alive: !connection.close && (modern || connection.keep_alive),
        expects_continue: fields.expects_continue && modern && body != Length::None,
        wants_trailers: fields.wants_trailers,
        upgrade: connection.upgrade && modern,
    })
}

fn request_line(line: &Bytes, limits: &Limits) -> Result<(Method, Uri, Version), Malformed> {
    let space = line
        .iter()
        .position(|byte| *byte == b' ')
        .ok_or(Malformed::bad("the request line has no target"))?;
    let (method, rest) = (&line[..space], &line[space + 1..]);
    if method.len() > METHOD_MOST || !method.iter().copied().all(is_token) {
        return Err(Malformed::bad("the method is no token"));
    }
    let method =
        Method::from_bytes(method).map_err(|_| Malformed::bad("the method is no token"))?;
    let space =
        memchr::memrchr(b' ', rest).ok_or(Malformed::bad("the request line has no version"))?;
    let (target, version) = (&rest[..space], &rest[space + 1..]);
    if target.len() > limits.target {
        return Err(Malformed {
            kind: RefusalKind::UriTooLong,
            reason: "the target is longer than allowed",
        });
    }
    let version = match version {
        b"HTTP/1.0" => Version::HTTP_10,
        // A higher minor version is one that we can answer in ours (RFC 9112, section 2.3).
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Version::HTTP_11,
        _ => return Err(Malformed::bad("the version is none of HTTP/1")),
    };
    if target
        .iter()
        .any(|byte| !byte.is_ascii_graphic() || *byte == b'#')
    {
        return Err(Malformed::bad(
            "the target has a blank, a `#`, a control character or a byte outside ASCII",
        ));
    }
    if !has_form(target, &method) {
        return Err(Malformed::bad(
            "the target has a form that the method does not take",
        ));
    }
    let uri = Uri::from_maybe_shared(line.slice_ref(target))
        .map_err(|_| Malformed::bad("the target has a character that none may have"))?;
    Ok((method, uri, version))
}

/// A path; `*` for OPTIONS; a whole address, of http or https; anything for CONNECT, which nobody
/// serves.
fn has_form(target: &[u8], method: &Method) -> bool {
    let scheme = |scheme: &[u8]| {
        target
            .get(..scheme.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
    };
    match target {
        [] => false,
        [b'/', ..] => true,
        b"*" => *method == Method::OPTIONS,
        _ => *method == Method::CONNECT || scheme(b"http://") || scheme(b"https://"),
    }
}
