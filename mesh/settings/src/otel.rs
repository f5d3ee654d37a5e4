//! Where spans go, as OpenTelemetry has these settings: from its own variables, so that what is
//! known of them holds here too.
//!
//! In: the environment. Out: [`Traces`], or nothing where no collector is named; every mistake is
//! noted under its variable. An empty variable is one that is not set. Whether the address can be
//! used is judged where it is used.

mod list;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use gapura_telemetry::span::Sampler;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::{Effective, Layers, Origin};

/// Where spans go, and which.
#[derive(Clone)]
pub struct Traces {
    /// The variable that says where, for a sentence about it.
    pub variable: &'static str,
    /// The whole address to which traces are posted.
    pub endpoint: String,
    /// What each post says besides; a collector's key, as a rule.
    pub headers: HeaderMap,
    /// How long one post may take.
    pub timeout: Duration,
    /// The roots that the collector is verified by; the system's if `None`.
    pub certificate: Option<PathBuf>,
    /// Which requests are recorded.
    pub sampler: Sampler,
    /// What spans say of the program, `service.name` among it.
    pub resource: Vec<(String, String)>,
    shown: Vec<(&'static str, Value, Origin)>,
}

/// Variables that hold a collector's key.
pub const OTEL_SECRETS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
];

/// Where a collector takes traces below its address (OTLP, section on requests over HTTP).
const PATH: &str = "/v1/traces";

const TIMEOUT: Duration = Duration::from_secs(10);

/// A post that takes longer is one to nobody.
const TIMEOUT_MOST: u64 = 600_000;

/// What frames a post, or says what it is: not for others to set.
const OURS: [&str; 8] = [
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "te",
    "upgrade",
];

/// Variables that would change what is sent or to whom, and which this build does not act on.
const NOT_BUILT: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
];

/// The environment, and who hears of its mistakes.
struct Reader<'a> {
    env: &'a BTreeMap<String, String>,
    layers: &'a mut Layers,
    shown: Vec<(&'static str, Value, Origin)>,
}

/// A variable and its value.
type Given<'a> = (&'static str, &'a str);

impl Traces {
    /// Reads them; `service` is what the program is called unless they say otherwise.
    pub fn read(
        layers: &mut Layers,
        env: &BTreeMap<String, String>,
        service: &str,
    ) -> Option<Self> {
        let mut reader = Reader {
            env,
            layers,
            shown: Vec::new(),
        };
        let disabled = reader.parse(&["OTEL_SDK_DISABLED"], |text| {
            match text.to_ascii_lowercase().as_str() {
                "true" => Ok((true, true.into())),
                "false" => Ok((false, false.into())),
                _ => Err("must be true or false".to_owned()),
            }
        });
        if disabled == Some(true) {
            return None;
        }
        let exporter = reader.parse(&["OTEL_TRACES_EXPORTER"], |text| match text {
            "otlp" | "none" => Ok((text == "otlp", text.into())),
            _ => Err("must be otlp or none: spans are exported in no other way".to_owned()),
        });
        let endpoint = reader.endpoint();
        let headers = reader.headers();
        let timeout = reader.timeout();
        let certificate = reader.parse(
            &[
                "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
                "OTEL_EXPORTER_OTLP_CERTIFICATE",
            ],
            |text| Ok((PathBuf::from(text), text.into())),
        );
        reader.protocol();
        for name in NOT_BUILT {
            reader.parse::<()>(&[name], |_| {
                Err("is not built: a collector is shown no certificate; unset it, and let the collector ask for a header (OTEL_EXPORTER_OTLP_HEADERS)".to_owned())
            });
        }
        let sampler = reader.sampler();
        let resource = reader.resource(service);
        let shown = reader.shown;
        let (variable, endpoint) = endpoint.filter(|_| exporter != Some(false))?;
        Some(Self {
            variable,
            endpoint,
            headers: headers.unwrap_or_default(),
            timeout,
            certificate,
            sampler,
            resource,
            shown,
        })
    }

    /// Puts them among what is shown. Of headers only their names are.
    pub fn show(traces: Option<&Self>, shown: &mut Effective) {
        let Some(traces) = traces else {
            shown.set(OTEL_ENDPOINT, Value::Null, Origin::Default);
            return;
        };
        for (name, value, from) in &traces.shown {
            shown.set(name, value.clone(), from.clone());
        }
    }
}

const OTEL_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

impl<'a> Reader<'a> {
    /// The first of these variables that is set.
    fn given(&self, names: &[&'static str]) -> Option<Given<'a>> {
        let mut found = names.iter().filter_map(|name| {
            let text = self.env.get(*name)?;
            Some((*name, text.trim())).filter(|(_, text)| !text.is_empty())
        });
        found.next()
    }

    /// Its value, checked, and how it is shown under the last of the names, by which all of them
    /// are known.
    fn parse<T>(
        &mut self,
        names: &[&'static str],
        check: impl FnOnce(&str) -> Result<(T, Value), String>,
    ) -> Option<T> {
        let (name, text) = self.given(names)?;
        let from = Origin::Env(name.to_owned());
        match check(text) {
            Ok((value, shown)) => {
                let known_by = names.last().copied().unwrap_or(name);
                self.shown.push((known_by, shown, from));
                Some(value)
            }
            Err(message) => {
                self.layers.problem(name, &from, message);
                None
            }
        }
    }

    /// The address, and the variable that it is from. A query may hold a key, and is not shown.
    fn endpoint(&mut self) -> Option<(&'static str, String)> {
        let whole = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        let (variable, _) = self.given(&[whole, OTEL_ENDPOINT])?;
        self.parse(&[whole, OTEL_ENDPOINT], |text| {
            let endpoint = if variable == whole {
                text.to_owned()
            } else if text.contains('?') {
                return Err(format!(
                    "has a query, behind which {PATH} cannot go; write the whole address as {whole}"
                ));
            } else {
                format!("{}{PATH}", text.trim_end_matches('/'))
            };
            let shown = match endpoint.split_once('?') {
                Some((shown, _)) => format!("{shown}?…").into(),
                None => endpoint.as_str().into(),
            };
            Ok(((variable, endpoint), shown))
        })
    }

    fn headers(&mut self) -> Option<HeaderMap> {
        let names = [
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
            "OTEL_EXPORTER_OTLP_HEADERS",
        ];
        self.parse(&names, |text| {
            let mut headers = HeaderMap::new();
            for (name, value) in list::pairs(text)? {
                let (name, value) = header(&name, &value)?;
                headers.append(name, value);
            }
            let shown = headers
                .keys()
                .map(|name| (name.as_str().to_owned(), "set, not shown".into()));
            let shown = Value::Object(shown.collect());
            Ok((headers, shown))
        })
    }

    fn timeout(&mut self) -> Duration {
        let names = [
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
            "OTEL_EXPORTER_OTLP_TIMEOUT",
        ];
        let timeout = self.parse(&names, |text| {
            let millis = text.parse::<u64>().ok();
            let millis = millis.filter(|millis| (1..=TIMEOUT_MOST).contains(millis));
            let millis = millis.ok_or_else(|| {
                format!("must be a number of milliseconds from 1 to {TIMEOUT_MOST}")
            })?;
            Ok((Duration::from_millis(millis), millis.into()))
        });
        timeout.unwrap_or(TIMEOUT)
    }

    fn protocol(&mut self) {
        let names = [
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        ];
        self.parse(&names, |text| match text {
            "http/json" => Ok(((), text.into())),
            _ => Err("must be http/json: spans are exported in no other form; every collector takes that at the port of OTLP over HTTP, 4318 as a rule".to_owned()),
        });
    }

    /// As the SDKs of OpenTelemetry have it; those that ask a server which traces to record are not
    /// built.
    fn sampler(&mut self) -> Sampler {
        let argument = self.parse(&["OTEL_TRACES_SAMPLER_ARG"], |text| {
            let ratio = text.parse::<f64>().ok();
            let ratio = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
            let ratio = ratio.ok_or("must be a number from 0 to 1, such as 0.05")?;
            Ok((ratio, ratio.into()))
        });
        let ratio = Sampler::ratio(argument.unwrap_or(1.0));
        let sampler = self.parse(&["OTEL_TRACES_SAMPLER"], |text| {
            let sampler = match text {
                "always_on" => Sampler::ALWAYS,
                "always_off" => Sampler::NEVER,
                "traceidratio" => ratio,
                "parentbased_always_on" => Sampler::ALWAYS.parent_based(),
                "parentbased_always_off" => Sampler::NEVER.parent_based(),
                "parentbased_traceidratio" => ratio.parent_based(),
                _ => {
                    return Err("must be always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or parentbased_traceidratio".to_owned());
                }
            };
            Ok((sampler, text.into()))
        });
        sampler.unwrap_or_else(|| {
            let name = "parentbased_traceidratio";
            self.shown
                .push(("OTEL_TRACES_SAMPLER", name.into(), Origin::Default));
            ratio.parent_based()
        })
    }

    /// `service.name` first.
    fn resource(&mut self, service: &str) -> Vec<(String, String)> {
        let given = self.parse(&["OTEL_RESOURCE_ATTRIBUTES"], |text| {
            let pairs = list::pairs(text)?;
            let shown = pairs
                .iter()
                .map(|(name, value)| (name.clone(), Value::from(value.as_str())));
            let shown = Value::Object(shown.collect());
            Ok((pairs, shown))
        });
        let mut given = given.unwrap_or_default();
        let named = self.parse(&["OTEL_SERVICE_NAME"], |text| {
            Ok((text.to_owned(), text.into()))
        });
        let among = given.iter().find(|(name, _)| name == SERVICE_NAME);
        let among = among.map(|(_, value)| value.clone());
        given.retain(|(name, _)| name != SERVICE_NAME);
        let name = named.or(among).unwrap_or_else(|| {
            let name = format!("gapura-{service}");
            let shown = name.as_str().into();
            self.shown
                .push(("OTEL_SERVICE_NAME", shown, Origin::Default));
            name
        });
        given.insert(0, (SERVICE_NAME.to_owned(), name));
        given
    }
}

const SERVICE_NAME: &str = "service.name";

/// The value of a header that may be a key is in no sentence.
fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| "names a header with characters that no header has".to_owned())?;
    if OURS.contains(&name.as_str()) {
        return Err(format!(
            "names {name}, which is the exporter's own to say; leave it out"
        ));
    }
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| format!("gives {name} a value that no header can have"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces")
            .field("variable", &self.variable)
            .field("sampler", &self.sampler)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
