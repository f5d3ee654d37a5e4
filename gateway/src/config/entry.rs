//! One entry of the list `issuers`, and what must hold between all of them.
//!
//! In: the list as it stands in the file. Out: the settings of each issuer, or every fault with its
//! line and column. What restricts is never empty: an empty list could be read as "nobody" by one
//! reader and as "no restriction" by the next.

use std::path::PathBuf;

use gapura_fetch::Url;
use gapura_protocol::context::TenantId;
use gapura_settings::json::{Fields, JsonFault, Node, Value, nearest};

use crate::authenticate::{
    Algorithm, ClaimNames, ClaimPath, HmacAlgorithm, IssuerName, IssuerSettings, KeySource,
    Tenants, check,
};

/// A provider signs with its own name.
pub(super) const NOT_THE_PROVIDER: &str = "must be the same as the provider that is asked for keys; leave it out, or give its keys by jwks";

/// What holds for each entry that says nothing else.
pub(super) struct Shared {
    pub(super) roots: Option<PathBuf>,
    pub(super) any_audience: bool,
    pub(super) claims: ClaimNames,
}

/// The fields of an entry; each may be spelled with `_` too, as everywhere in the file.
const FIELDS: [&str; 14] = [
    "issuer",
    "audience",
    "algorithms",
    "tenants",
    "any-tenant",
    "any-audience",
    "jwks",
    "jwt-secret-file",
    "jwt-secret-alg",
    "oidc-issuer",
    "issuer-ca",
    "user-claim",
    "tenant-claim",
    "role-claim",
];

const SOURCES: [&str; 3] = ["jwks", "jwt-secret-file", "oidc-issuer"];

/// The fields of one entry, in either spelling.
struct Entry<'n, 'f> {
    fields: Fields<'n, 'f>,
}

pub(super) fn read_list(
    listed: &Node,
    shared: &Shared,
    faults: &mut Vec<JsonFault>,
) -> Vec<IssuerSettings> {
    let Value::List(nodes) = &listed.value else {
        faults.push(JsonFault {
            position: listed.position,
            message: format!("\"issuers\" must be a list, found {}", listed.kind()),
        });
        return Vec::new();
    };
    if nodes.is_empty() {
        faults.push(JsonFault {
            position: listed.position,
            message: "\"issuers\" is an empty list: name an issuer, or leave it out if no tokens are taken".to_owned(),
        });
    }
    let issuers: Vec<IssuerSettings> = nodes
        .iter()
        .filter_map(|node| read(node, shared, faults))
        .collect();
    if faults.is_empty() {
        let between = check(&issuers).into_iter();
        faults.extend(between.filter_map(|(at, message)| {
            let position = nodes.get(at)?.position;
            Some(JsonFault { position, message })
        }));
    }
    issuers
}

fn read(node: &Node, shared: &Shared, faults: &mut Vec<JsonFault>) -> Option<IssuerSettings> {
    let snake: Vec<String> = FIELDS.iter().map(|name| name.replace('-', "_")).collect();
    let known: Vec<&str> = FIELDS
        .into_iter()
        .chain(snake.iter().map(String::as_str))
        .collect();
    let fields = Fields::open(node, "issuers", &known, faults)?;
    let mut entry = Entry { fields };
    entry.refuse_twice();
    let keys = entry.keys(node);
    let issuer = entry.parsed("issuer", str::parse::<IssuerName>);
    let audience = entry.audience();
    let algorithms = entry.algorithms(keys.as_ref());
    let tenants = entry.tenants();
    let claims = entry.claims(&shared.claims);
    let any_tenant = entry.flag("any-tenant");
    let any_audience = entry.flag("any-audience").unwrap_or(shared.any_audience);
    let roots = entry.text("issuer-ca").map(PathBuf::from);
    let keys = keys?;
    let issuer = match (issuer, &keys) {
        (None, KeySource::Oidc(url)) => url.as_str().parse().ok(),
        (Some(name), KeySource::Oidc(url))
            if !name.is_template() && name.as_str() != url.as_str() =>
        {
            entry.fault("issuer", NOT_THE_PROVIDER);
            None
        }
        (issuer, _) => issuer,
    };
    Some(IssuerSettings {
        issuer,
        audience,
        keys,
        algorithms,
        claims,
        tenants,
        any_tenant: any_tenant.unwrap_or(false),
        any_audience,
        roots: roots.or_else(|| shared.roots.clone()),
    })
}

impl<'n> Entry<'n, '_> {
    /// The spelling that is there.
    fn spelled(&self, name: &str) -> String {
        let snake = name.replace('-', "_");
        if self.fields.node(&snake).is_some() {
            snake
        } else {
            name.to_owned()
        }
    }

    fn node(&self, name: &str) -> Option<&'n Node> {
        self.fields.node(&self.spelled(name))
    }

    fn text(&mut self, name: &str) -> Option<&'n str> {
        let name = self.spelled(name);
        self.fields.text(&name)
    }

    fn flag(&mut self, name: &str) -> Option<bool> {
        let name = self.spelled(name);
        self.fields.flag(&name)
    }

    fn fault(&mut self, name: &str, message: &str) {
        let name = self.spelled(name);
        self.fields.fault(&name, message);
    }

    fn fault_at(&mut self, node: &Node, name: &str, message: &str) {
        let name = self.spelled(name);
        self.fields.fault_at(node.position, &name, message);
    }

    fn parsed<T>(&mut self, name: &str, read: fn(&str) -> Result<T, String>) -> Option<T> {
        match read(self.text(name)?) {
            Ok(value) => Some(value),
            Err(message) => {
                self.fault(name, &message);
                None
            }
        }
    }

    /// The same field in both spellings could say two things.
    fn refuse_twice(&mut self) {
        for name in FIELDS {
            let snake = name.replace('-', "_");
            let both = self.fields.node(name).is_some() && self.fields.node(&snake).is_some();
            if snake != name && both {
                self.fields.fault(
                    &snake,
                    format_args!("and \"{name}\" are the same setting; keep one"),
                );
            }
        }
    }

    fn keys(&mut self, node: &Node) -> Option<KeySource> {
        let mut given = SOURCES.into_iter().filter(|name| self.node(name).is_some());
        match (given.next(), given.next()) {
            (Some(first), Some(second)) => {
                drop(given);
                self.fault(
                    second,
                    &format!("and \"{first}\" both name keys; make two entries of them"),
                );
                return None;
            }
            (None, _) => {
                drop(given);
                self.fields.faults().push(JsonFault {
                    position: node.position,
                    message: "an entry of \"issuers\" names no keys; give it \"jwks\", \"oidc-issuer\" or \"jwt-secret-file\"".to_owned(),
                });
                return None;
            }
            (Some(_), None) => {}
        }
        let algorithm = self.parsed("jwt-secret-alg", str::parse::<HmacAlgorithm>);
        if let Some(path) = self.text("jwt-secret-file") {
            return Some(KeySource::SecretFile {
                path: path.into(),
                algorithm: algorithm.unwrap_or_default(),
            });
        }
        if self.node("jwt-secret-alg").is_some() {
            self.fault("jwt-secret-alg", "says nothing about public keys; each has its own algorithm, which \"algorithms\" may narrow");
        }
        self.parsed("jwks", jwks)
            .or_else(|| self.parsed("oidc-issuer", Url::parse).map(KeySource::Oidc))
    }

    /// The nodes of a list that may not be empty, or the one node that is no list.
    fn one_or_more(&mut self, name: &str) -> Vec<&'n Node> {
        let Some(node) = self.node(name) else {
            return Vec::new();
        };
        match &node.value {
            Value::List(nodes) if nodes.is_empty() => {
                self.fault(name, "is an empty list, which restricts to nothing or to everything as one reads it; name something, or leave it out");
                Vec::new()
            }
            Value::List(nodes) => nodes.iter().collect(),
            _ => vec![node],
        }
    }

    fn audience(&mut self) -> Vec<String> {
        let mut audience = Vec::new();
        for node in self.one_or_more("audience") {
            match node.text() {
                Some("") => self.fault_at(
                    node,
                    "audience",
                    "is empty: write what `aud` is, or leave it out",
                ),
                Some(text) => audience.push(text.to_owned()),
                None => self.fault_at(
                    node,
                    "audience",
                    &format!(
                        "must be a string or a list of strings, found {}",
                        node.kind()
                    ),
                ),
            }
        }
        audience
    }

    fn algorithms(&mut self, keys: Option<&KeySource>) -> Option<Vec<Algorithm>> {
        self.node("algorithms")?;
        let secret = match keys {
            Some(KeySource::SecretFile { algorithm, .. } | KeySource::Secret { algorithm, .. }) => {
                Some(algorithm.as_str())
            }
            _ => None,
        };
        let mut listed = Vec::new();
        for node in self.one_or_more("algorithms") {
            let Some(name) = node.text() else {
                self.fault_at(
                    node,
                    "algorithms",
                    &format!("must be a list of strings, found {}", node.kind()),
                );
                continue;
            };
            match (Algorithm::named(name), secret) {
                (None, _) => {
                    let hint =
                        nearest(name, Algorithm::ALL.map(Algorithm::as_str)).unwrap_or_default();
                    self.fault_at(node, "algorithms", &format!("has {name:?}, which is no algorithm that is taken; the nearest is {hint:?}"));
                }
                (Some(known), None) if known.is_shared() => {
                    self.fault_at(
                        node,
                        "algorithms",
                        &format!(
                            "has {name}, which needs a shared secret; public keys never take it"
                        ),
                    );
                }
                (Some(_), Some(own)) if own != name => {
                    self.fault_at(
                        node,
                        "algorithms",
                        &format!("has {name}, but the secret is used with {own} alone"),
                    );
                }
                (Some(known), _) => listed.push(known),
            }
        }
        Some(listed)
    }

    fn tenants(&mut self) -> Tenants {
        if self.node("tenants").is_none() {
            return Tenants::Unsaid;
        }
        let mut listed = Vec::new();
        for node in self.one_or_more("tenants") {
            let tenant = match &node.value {
                Value::Text(text)
                    if text == "*"
                        && self.node("tenants").is_some_and(|all| all.text().is_some()) =>
                {
                    return Tenants::Rest;
                }
                Value::Text(text) if text != "0" => TenantId::parse(text.as_bytes()).ok(),
                Value::Number(number) => number
                    .as_u64()
                    .and_then(|id| TenantId::from_number(id).ok()),
                _ => None,
            };
            match tenant {
                Some(tenant) => listed.push(tenant),
                None => self.fault_at(node, "tenants", &format!("must be \"*\" or a list of company ids, each a whole number from 1 or a string of letters, digits and . _ : -, found {}", shown(node))),
            }
        }
        Tenants::Only(listed)
    }

    fn claims(&mut self, shared: &ClaimNames) -> Option<ClaimNames> {
        let user = self.parsed("user-claim", str::parse::<ClaimPath>);
        let tenant = self.parsed("tenant-claim", str::parse::<ClaimPath>);
        let role = self.parsed("role-claim", str::parse::<ClaimPath>);
        if user.is_none() && tenant.is_none() && role.is_none() {
            return None;
        }
        Some(ClaimNames {
            user: user.or_else(|| shared.user.clone()),
            tenant: tenant.unwrap_or_else(|| shared.tenant.clone()),
            role: role.unwrap_or_else(|| shared.role.clone()),
        })
    }
}

/// A JWK set: where it is fetched, or the file it is in.
pub(super) fn jwks(text: &str) -> Result<KeySource, String> {
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("http://") || lower.starts_with("https://") {
        return Url::parse(text).map(KeySource::Url);
    }
    Ok(KeySource::JwksFile(PathBuf::from(text)))
}

fn shown(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => format!("{:?}", text.chars().take(64).collect::<String>()),
        Value::Number(number) => number.to_string(),
        _ => node.kind().to_owned(),
    }
}
