//! How long requests took, under the name and with the attributes of OpenTelemetry's semantic
//! conventions for HTTP servers, so that dashboards which are made for those fit.
//!
//! Read off the storage of our own histogram. The route is the plugin's mount, which is
//! configuration; a plugin that no table has any more has none, and is left out.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use super::durations::{Key, Sums};
use super::{Meters, Text};

/// The name; `http.server.request.duration` in OpenTelemetry's own spelling, with its unit as
/// Prometheus writes it.
const NAME: &str = "http_server_request_duration_seconds";

impl Meters {
    /// Writes it. `route` says of a plugin's name where it is mounted: `None` for one that is
    /// served no more, and within that `None` where there is no route to name.
    pub fn render_http_server(
        &self,
        text: &mut Text,
        route: impl Fn(&str) -> Option<Option<String>>,
    ) {
        let plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: BTreeMap<(Option<String>, Option<Key>), Sums> = BTreeMap::new();
        for plugin in plugins.values() {
            let Some(route) = route(&plugin.name) else {
                continue;
            };
            for (key, sums) in plugin.slots.iter().flat_map(|slot| slot.duration.series()) {
                all.entry((route.clone(), key)).or_default().add(&sums);
            }
        }
        drop(plugins);
        text.family(NAME, "histogram", "Duration of HTTP server requests.");
        for ((route, key), sums) in &all {
            let status = key.map(|key| key.status.to_string());
            let mut labels = Vec::with_capacity(4);
            match (key, &status) {
                (Some(key), Some(status)) => {
                    labels.push(("http_request_method", key.method()));
                    labels.push(("http_response_status_code", status));
                }
                // As OpenTelemetry has it for what a bounded set has no place for.
                _ => labels.push(("otel_metric_overflow", "true")),
            }
            if let Some(route) = route {
                labels.push(("http_route", route));
            }
            text.histogram(NAME, &labels, sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Method;

    use super::*;

    #[test]
    fn the_series_of_a_plugin_are_told_by_its_mount() {
        let meters = Meters::new(2, &[]);
        let took = Duration::from_millis(2);
        for (plugin, worker, method, status) in [
            ("lab", 0, Method::GET, 200),
            ("lab", 1, Method::GET, 200),
            ("lab", 1, Method::POST, 503),
            ("none", 0, Method::GET, 404),
            ("gone", 0, Method::GET, 200),
        ] {
            let plugin = meters.plugin(plugin);
            plugin.slot(worker).finish(&method, status, took, None);
        }
        let mut text = Text::default();
        meters.render_http_server(&mut text, |name| match name {
            "lab" => Some(Some("/v1/lab".to_owned())),
            "none" => Some(None),
            _ => None,
        });
        let text = text.into_string();
        let of = |labels: &str| format!("http_server_request_duration_seconds_{labels}");
        for line in [
            "bucket{http_request_method=\"GET\",http_response_status_code=\"200\",http_route=\"/v1/lab\",le=\"0.001\"} 0",
            "bucket{http_request_method=\"GET\",http_response_status_code=\"200\",http_route=\"/v1/lab\",le=\"0.0025\"} 2",
            "sum{http_request_method=\"GET\",http_response_status_code=\"200\",http_route=\"/v1/lab\"} 0.004000",
            "count{http_request_method=\"POST\",http_response_status_code=\"503\",http_route=\"/v1/lab\"} 1",
            "count{http_request_method=\"GET\",http_response_status_code=\"404\"} 1",
        ] {
            assert!(
                text.lines().any(|found| found == of(line)),
                "{line} in\n{text}"
            );
        }
        assert_eq!(text.matches("_count{").count(), 3, "{text}");
    }
}
