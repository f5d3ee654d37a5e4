//! Prometheus's text format, version 0.0.4.

use std::fmt::Write;

use super::counter::BOUNDS;
use super::durations::Sums;

/// A page under way.
#[derive(Default)]
pub struct Text(String);

impl Text {
    /// Begins a family; its samples follow.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One whole number.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.sample_text(name, labels, &value.to_string());
    }

    /// One number that is already text.
    pub(crate) fn sample_text(&mut self, name: &str, labels: &[(&str, &str)], value: &str) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let escaped = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.0, "{open}{label}=\"{escaped}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// The samples of one histogram.
    pub(super) fn histogram(&mut self, name: &str, labels: &[(&str, &str)], sums: &Sums) {
        let bucket = format!("{name}_bucket");
        let bounds = BOUNDS.iter().map(|(_, bound)| *bound);
        let mut count = 0;
        for (held, bound) in sums.buckets.iter().zip(bounds.chain(["+Inf"])) {
            count += held;
            let labels = [labels, &[("le", bound)]].concat();
            self.sample(&bucket, &labels, count);
        }
        self.sample_text(&format!("{name}_sum"), labels, &seconds(sums.micros));
        self.sample(&format!("{name}_count"), labels, count);
    }

    /// A family of one number without labels.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// The page.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

/// Microseconds as seconds.
fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = Text::default();
        text.family("a", "gauge", "Help.");
        text.sample("a", &[("b", "x\"y\\z\n")], 1);
        text.sample("a", &[], 2);
        assert_eq!(
            text.into_string(),
            "# HELP a Help.\n# TYPE a gauge\na{b=\"x\\\"y\\\\z\\n\"} 1\na 2\n"
        );
    }
}
