//! What a request was, kept until its answer begins: the connection that all share may end, and
//! then it goes again.
//!
//! In: the head of a request, just before `h2` takes it. Out: the same head. Its fields are one
//! piece of text, so that to keep them costs one allocation and a copy of a few hundred bytes,
//! where a clone of the map costs an allocation more and a count for each value. Extensions are not
//! kept.
//! Invariant: what is given back is what was kept, field by field and in the same order.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

pub(super) struct Spare {
    method: Method,
    uri: Uri,
    version: Version,
    /// Of each field: the sizes of its name and value, and both.
    fields: Bytes,
}

/// Two sizes.
const SIZES: usize = 8;

/// In the size of a value: it must not be compressed with others.
const SENSITIVE: u32 = 1 << 31;

impl Spare {
    pub(super) fn of(head: &Request<()>) -> Option<Self> {
        let text = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
        let size = head
            .headers()
            .iter()
            .map(|field| SIZES + text(field))
            .sum::<usize>();
        let mut fields = BytesMut::with_capacity(size);
        for (name, value) in head.headers() {
            let mark = if value.is_sensitive() { SENSITIVE } else { 0 };
            fields.put_u32(u32::try_from(name.as_str().len()).ok()?);
            let size = u32::try_from(value.len()).ok()?;
            fields.put_u32(mark | (size & !SENSITIVE));
            fields.put_slice(name.as_str().as_bytes());
            fields.put_slice(value.as_bytes());
        }
        Some(Self {
            method: head.method().clone(),
            uri: head.uri().clone(),
            version: head.version(),
            fields: fields.freeze(),
        })
    }

    /// The head again, with this body.
    pub(super) fn into_request<B>(mut self, body: B) -> Option<Request<B>> {
        let mut headers = HeaderMap::new();
        while self.fields.has_remaining() {
            let name = usize::try_from(self.fields.try_get_u32().ok()?).ok()?;
            let value = self.fields.try_get_u32().ok()?;
            let size = usize::try_from(value & !SENSITIVE).ok()?;
            if self.fields.len() < name.checked_add(size)? {
                return None;
            }
            let name = HeaderName::from_bytes(&self.fields.split_to(name)).ok()?;
            let text = self.fields.split_to(size);
            let mut text = HeaderValue::from_maybe_shared(text).ok()?;
            text.set_sensitive(value & SENSITIVE != 0);
            headers.append(name, text);
        }
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = headers;
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_kept_comes_back(
            fields in prop::collection::vec(("[a-z][a-z0-9-]{0,20}", "[ -~]{0,60}", any::<bool>()), 0..20),
        ) {
            let mut head = Request::builder()
                .method("DELETE")
                .uri("https://a.example/b?c=%20")
                .version(Version::HTTP_2)
                .body(())
                .unwrap();
            for (name, value, sensitive) in &fields {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                let mut value = HeaderValue::from_str(value).unwrap();
                value.set_sensitive(*sensitive);
                head.headers_mut().append(name, value);
            }
            let again = Spare::of(&head).unwrap().into_request(7).unwrap();
            prop_assert_eq!(again.headers(), head.headers());
            let marks = |headers: &HeaderMap| {
                headers.iter().map(|(_, value)| value.is_sensitive()).collect::<Vec<_>>()
            };
            prop_assert_eq!(marks(again.headers()), marks(head.headers()));
            prop_assert_eq!(
                (again.method(), again.uri(), again.version()),
                (head.method(), head.uri(), head.version())
            );
            prop_assert_eq!(*again.body(), 7);
        }
    }
}
