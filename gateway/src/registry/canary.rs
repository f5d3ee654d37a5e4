//! Another upstream of a plugin, for some of its companies: `canary` of its file.
//!
//! In: the field, and what the plugin itself says. Out: a [`Canary`] that is not weaker than the
//! plugin, and which of the companies go there. A company goes by its id alone, so that it stays
//! where it is over restarts and whatever worker or gateway it meets; who goes at some per cent
//! also goes at more.

use std::collections::BTreeSet;

use gapura_protocol::context::TenantId;
use gapura_protocol::identity::PeerId;
use gapura_settings::json::Fields;

use super::access::read_company;
use super::auth_mode::AuthMode;
use super::upstream::Upstream;

/// Another upstream of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Canary {
    /// Where it is.
    pub upstream: Upstream,
    /// Who its sidecars must prove to be.
    pub identity: PeerId,
    /// Whether plain http may leave this machine.
    pub plaintext_upstream: bool,
    /// How much of a token it gets to see.
    pub auth: AuthMode,
    /// Whether requests to it are signed.
    pub signed: bool,
    /// Copies go there, and nobody does.
    pub mirror: bool,
    /// Whether copies carry the token.
    pub mirror_token: bool,
    /// The file says whose; copies of everybody's go only where it does not.
    chooses: bool,
    tenants: BTreeSet<String>,
    percent: u64,
}

/// What of the field is no upstream.
pub(super) struct Chosen {
    mirror: bool,
    mirror_token: bool,
    chooses: bool,
    tenants: BTreeSet<String>,
    percent: u64,
}

impl Chosen {
    /// Reads who goes there, and whether anybody does.
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Self {
        let mirror = fields.flag("mirror").unwrap_or(false);
        let mirror_token = fields.flag("mirror_token").unwrap_or(false);
        if mirror_token && !mirror {
            fields.fault(
                "mirror_token",
                "says what copies carry, and there are none; set \"mirror\": true or remove it",
            );
        }
        let chooses = ["tenants", "percent"].map(|name| fields.node(name).is_some());
        let mut tenants = BTreeSet::new();
        let listed = fields.list("tenants");
        if listed.is_some_and(<[_]>::is_empty) {
            fields.fault("tenants", "names no company; name one or remove it");
        }
        for node in listed.unwrap_or_default() {
            match read_company(node) {
                Ok(company) => drop(tenants.insert(company)),
                Err(message) => fields.fault_at(node.position, "tenants", message),
            }
        }
        Self {
            mirror,
            mirror_token,
            chooses: chooses.contains(&true),
            tenants,
            percent: fields.whole("percent", 0..=100).unwrap_or(0),
        }
    }
}

impl Canary {
    /// Both together.
    pub(super) fn new(
        chosen: Chosen,
        upstream: Upstream,
        identity: PeerId,
        plaintext_upstream: bool,
        auth: AuthMode,
        signed: bool,
    ) -> Self {
        Self {
            upstream,
            identity,
            plaintext_upstream,
            auth,
            signed,
            mirror: chosen.mirror,
            mirror_token: chosen.mirror_token,
            chooses: chosen.chooses,
            tenants: chosen.tenants,
            percent: chosen.percent,
        }
    }

    /// Whether this company's requests, or copies of them, go there. Without a company none do, but
    /// copies where the file does not say whose.
    #[must_use]
    pub(crate) fn takes(&self, company: Option<&TenantId>) -> bool {
        if self.mirror && !self.chooses {
            return true;
        }
        company.is_some_and(|company| {
            self.tenants.contains(company.as_str()) || percentile(company.as_str()) < self.percent
        })
    }

    /// The companies that are named.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = &str> {
        self.tenants.iter().map(String::as_str)
    }

    /// How many in a hundred of the others.
    #[must_use]
    pub(crate) fn percent(&self) -> u64 {
        self.percent
    }
}

/// Where a company stands among a hundred: FNV-1a of its id, mixed as SplitMix64 does, since FNV
/// alone is uneven in its high bits for short texts. Written out here so that no release of a
/// library ever moves a company.
fn percentile(company: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in company.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (hash ^ (hash >> 31)) % 100
}

#[cfg(test)]
mod tests {
    use super::*;

    fn company(id: &str) -> TenantId {
        TenantId::parse(id.as_bytes()).unwrap()
    }

    fn canary(tenants: &[&str], percent: u64, mirror: bool) -> Canary {
        let mut faults = Vec::new();
        let node = gapura_settings::json::parse(b"{\"upstream\": \"https://a:1\"}", &mut faults);
        let node = node.unwrap();
        let mut fields = Fields::open(&node, "", &["upstream"], &mut faults).unwrap();
        let chosen = Chosen {
            mirror,
            mirror_token: false,
            chooses: !tenants.is_empty() || percent > 0,
            tenants: tenants.iter().map(|id| (*id).to_owned()).collect(),
            percent,
        };
        let upstream = Upstream::read(&mut fields).unwrap();
        let identity = "spiffe://a/plugin/b".parse().unwrap();
        Canary::new(
            chosen,
            upstream,
            identity,
            false,
            AuthMode::GatewayVerified,
            false,
        )
    }

    #[test]
    fn a_company_stands_where_it_always_stood() {
        let stands: Vec<u64> = ["1", "42", "43", "acme", "acme-2"].map(percentile).to_vec();
        assert_eq!(stands, PLACES);
    }

    /// Never to be changed: whoever is at a canary must stay there over an upgrade.
    const PLACES: [u64; 5] = [51, 70, 92, 67, 90];

    #[test]
    fn so_many_in_a_hundred_go_and_who_goes_at_some_goes_at_more() {
        let companies: Vec<TenantId> = (1..=10_000_u32)
            .map(|id| company(&id.to_string()))
            .collect();
        let at = |percent| {
            let canary = canary(&[], percent, false);
            let going = companies.iter().filter(|id| canary.takes(Some(id)));
            going
                .map(|id| id.as_str().to_owned())
                .collect::<BTreeSet<_>>()
        };
        assert!(at(0).is_empty());
        assert_eq!(at(100).len(), companies.len());
        let (one, ten) = (at(1), at(10));
        assert!((60..=140).contains(&one.len()), "{}", one.len());
        assert!((880..=1120).contains(&ten.len()), "{}", ten.len());
        assert!(one.is_subset(&ten));
    }

    #[test]
    fn the_named_go_and_nobody_without_a_company() {
        let named = canary(&["42"], 0, false);
        assert!(named.takes(Some(&company("42"))) && !named.takes(Some(&company("43"))));
        for percent in [0, 100] {
            assert!(!canary(&["42"], percent, false).takes(None));
        }
        // Copies of everybody's requests, where nobody is chosen.
        assert!(canary(&[], 0, true).takes(None));
        assert!(!canary(&["42"], 0, true).takes(None));
    }

    #[test]
    fn an_empty_choice_of_copies_is_nobody_and_never_everybody() {
        let read = |text: &str| {
            let mut faults = Vec::new();
            let node = gapura_settings::json::parse(text.as_bytes(), &mut faults).unwrap();
            let known = ["mirror", "tenants", "percent"];
            let mut fields = Fields::open(&node, "", &known, &mut faults).unwrap();
            let chosen = Chosen::read(&mut fields);
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            let sample = canary(&[], 0, true);
            let canary = Canary {
                chooses: chosen.chooses,
                tenants: chosen.tenants,
                percent: chosen.percent,
                ..sample
            };
            (canary.takes(Some(&company("42"))), faults)
        };
        assert_eq!(read(r#"{"mirror": true}"#), (true, vec![]));
        assert_eq!(read(r#"{"mirror": true, "percent": 0}"#), (false, vec![]));
        let (taken, faults) = read(r#"{"mirror": true, "tenants": []}"#);
        assert!(!taken && faults.len() == 1 && faults[0].contains("names no company"));
    }
}
