//! `X-Internal-Signature`: how a plugin without a sidecar knows that its context headers come from the gateway (CONTRACT section
//! 4, rule 7).
//!
//! In: the secret, once; a request's context, each time. Out: the header. The key of each plugin is derived from the secret, so
//! that one plugin cannot sign for another.

use std::fmt::Write;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gapura_mesh::identity::Name;
use http::HeaderValue;

/// Signs for all plugins.
pub(crate) struct Signer {
    secret: hmac::Key,
}

/// What is signed.
pub(crate) struct Context<'a> {
    /// The plugin it is for.
    pub(crate) plugin: &'a Name,
    /// Unix seconds.
    pub(crate) seconds: u64,
    /// The method.
    pub(crate) method: &'a str,
    /// The target as sent.
    pub(crate) target: &'a str,
    /// The request's id.
    pub(crate) request_id: &'a str,
    /// The user, or nothing.
    pub(crate) user: &'a str,
    /// The company, or nothing.
    pub(crate) company: &'a str,
    /// The roles, or nothing.
    pub(crate) role: &'a str,
}

impl Signer {
    /// A signer with the operator's secret.
    #[must_use]
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self {
            secret: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }

    /// The key that `plugin` verifies with.
    #[must_use]
    pub(crate) fn plugin_key(&self, plugin: &Name) -> Vec<u8> {
        let mut input = b"gapura-sign-v1\n".to_vec();
        input.extend_from_slice(plugin.as_str().as_bytes());
        hmac::sign(&self.secret, &input).as_ref().to_vec()
    }

    /// The header's value.
    #[must_use]
    pub(crate) fn sign(&self, context: &Context<'_>) -> Option<HeaderValue> {
        let Context {
            plugin,
            seconds,
            method,
            target,
            request_id,
            user,
            company,
            role,
        } = context;
        let lines = format!(
            "v1\n{plugin}\n{seconds}\n{method}\n{target}\n{request_id}\n{user}\n{company}\n{role}"
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.plugin_key(plugin));
        let mut text = format!("v1,{seconds},");
        let _ = write!(
            text,
            "{}",
            URL_SAFE_NO_PAD.encode(hmac::sign(&key, lines.as_bytes()))
        );
        HeaderValue::from_str(&text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wanted value was computed apart from this code, with Python's `hmac`, from the words of the rule.
    #[test]
    fn the_signature_is_what_anyone_computes_from_the_rule() {
        let plugin: Name = "billing".parse().unwrap();
        let signer = Signer::new(b"0123456789abcdef0123456789abcdef");
        let context = Context {
            plugin: &plugin,
            seconds: 1_700_000_000,
            method: "GET",
            target: "/invoices?x=1",
            request_id: "r-1",
            user: "7",
            company: "42",
            role: "admin",
        };
        let value = signer.sign(&context).unwrap();
        assert_eq!(
            value,
            "v1,1700000000,HEwZYb_IgbcgaPrk8F9vvG7jxVfN1rLA_G6DCP94Whs"
        );
        let other = signer
            .sign(&Context {
                company: "43",
                ..context
            })
            .unwrap();
        assert_ne!(value, other);
    }
}
