//! `X-Internal-Signature`: how a plugin without a sidecar knows that its context headers come from
//! the gateway (CONTRACT section 4, rule 7).
//!
//! In: the secret, once; a request's context, each time. Out: the header. The key of each plugin is
//! derived from the secret, so that one plugin cannot sign for another.

use std::fmt::Write;
use std::str::FromStr;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gapura_protocol::identity::Name;
use http::HeaderValue;

/// Signs for all plugins.
pub(crate) struct Signer {
    /// The first signs; plugins may know any of them.
    secrets: Vec<hmac::Key>,
    form: SignatureForm,
}

/// What is signed, and how it is marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SignatureForm {
    /// The older form, which says nothing of who acts for the user.
    V1,
    /// With the actor's line.
    #[default]
    V2,
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
    /// Who acts for the user, or nothing.
    pub(crate) actor: &'a str,
}

impl SignatureForm {
    /// The mark in the header and on the first line.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

impl FromStr for SignatureForm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "v1" => Ok(Self::V1),
            "v2" => Ok(Self::V2),
            _ => Err("must be v1 or v2".to_owned()),
        }
    }
}

impl Signer {
    /// A signer with the operator's secrets, of which the first signs.
    #[must_use]
    pub(crate) fn new(secrets: &[&[u8]], form: SignatureForm) -> Self {
        let key = |secret: &&[u8]| hmac::Key::new(hmac::HMAC_SHA256, secret);
        Self {
            secrets: secrets.iter().map(key).collect(),
            form,
        }
    }

    /// The keys that `plugin` verifies with: what any of them has signed is ours.
    #[must_use]
    pub(crate) fn plugin_keys(&self, plugin: &Name) -> Vec<Vec<u8>> {
        let mut input = b"gapura-sign-v1\n".to_vec();
        input.extend_from_slice(plugin.as_str().as_bytes());
        let key = |secret| hmac::sign(secret, &input).as_ref().to_vec();
        self.secrets.iter().map(key).collect()
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
            actor,
        } = context;
        let form = self.form.as_str();
        let mut lines = format!(
            "{form}\n{plugin}\n{seconds}\n{method}\n{target}\n{request_id}\n{user}\n{company}\n{role}"
        );
        if self.form == SignatureForm::V2 {
            let _ = write!(lines, "\n{actor}");
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.plugin_keys(plugin).first()?);
        let mut text = format!("{form},{seconds},");
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

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn context<'a>(plugin: &'a Name, actor: &'a str) -> Context<'a> {
        Context {
            plugin,
            seconds: 1_700_000_000,
            method: "GET",
            target: "/invoices?x=1",
            request_id: "r-1",
            user: "7",
            company: "42",
            role: "admin",
            actor,
        }
    }

    /// The wanted values were computed apart from this code, with Python's `hmac`, from the words
    /// of the rule.
    #[test]
    fn the_signature_is_what_anyone_computes_from_the_rule() {
        let plugin: Name = "billing".parse().unwrap();
        let by = |form, actor: &str| {
            let signer = Signer::new(&[SECRET, b"another"], form);
            signer.sign(&context(&plugin, actor)).unwrap()
        };
        assert_eq!(
            by(SignatureForm::V2, "support-1"),
            "v2,1700000000,JgRZzhSDPiMt1lAL8wyzXK_VdE_5d2Zro3OnfRcBNfc"
        );
        assert_eq!(
            by(SignatureForm::V2, ""),
            "v2,1700000000,CkrHGhCX2b7xtHCEha8tsl0W12mqKDIf7lnynHAONpM"
        );
        for actor in ["", "support-1"] {
            assert_eq!(
                by(SignatureForm::V1, actor),
                "v1,1700000000,HEwZYb_IgbcgaPrk8F9vvG7jxVfN1rLA_G6DCP94Whs"
            );
        }
        let signer = Signer::new(&[SECRET], SignatureForm::V2);
        let other = signer.sign(&Context {
            company: "43",
            ..context(&plugin, "")
        });
        assert_ne!(by(SignatureForm::V2, ""), other.unwrap());
    }

    #[test]
    fn the_first_of_two_secrets_signs_and_plugins_learn_both() {
        let plugin: Name = "billing".parse().unwrap();
        let both = Signer::new(&[b"another", SECRET], SignatureForm::V2);
        let old = Signer::new(&[SECRET], SignatureForm::V2);
        assert_eq!(both.plugin_keys(&plugin)[1], old.plugin_keys(&plugin)[0]);
        assert_ne!(
            both.sign(&context(&plugin, "")),
            old.sign(&context(&plugin, ""))
        );
    }
}
