//! What `check` found, as the textfile collector of the node exporter reads it.
//!
//! In: a [`Checkup`]. Out: text in the exposition format, and a file that is replaced in one
//! rename, so that no half of one is scraped.

use std::fmt::Write;
use std::path::Path;

use crate::check::{Checkup, EndOf, Level};
use crate::error::Error;
use crate::held_dir;
use crate::store::Access;
use crate::timestamp::Timestamp;

impl Checkup {
    /// The findings as metrics.
    #[must_use]
    pub(crate) fn exposition(&self, now: Timestamp) -> String {
        let mut text = String::new();
        let left = |at: Timestamp| i128::from(at.0) - i128::from(now.0);
        let mut family = |name: &str, help: &str, samples: Vec<(String, String)>| {
            if samples.is_empty() {
                return;
            }
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let of = |pick: &dyn Fn(&EndOf) -> Option<String>| {
            self.ends
                .iter()
                .filter_map(|end| Some((pick(&end.of)?, left(end.at).to_string())))
                .collect::<Vec<_>>()
        };
        family(
            "gapura_pki_leaf_seconds_left",
            "Seconds until the leaf in a mesh directory ends; negative once it has.",
            of(&|end| match end {
                EndOf::Leaf(label, out) => Some(format!(
                    "{{name=\"{}\",dir=\"{}\"}}",
                    escaped(label),
                    escaped(&out.display().to_string())
                )),
                _ => None,
            }),
        );
        family(
            "gapura_pki_ca_seconds_left",
            "Seconds until an active CA ends.",
            of(&|end| match end {
                EndOf::Ca(id) => Some(format!("{{ca=\"{}\"}}", escaped(id))),
                _ => None,
            }),
        );
        family(
            "gapura_pki_crl_seconds_left",
            "Seconds until the last CRL of a CA is out of date.",
            of(&|end| match end {
                EndOf::Crl(id) => Some(format!("{{ca=\"{}\"}}", escaped(id))),
                _ => None,
            }),
        );
        let levels = [Level::Info, Level::Warning, Level::Critical];
        family(
            "gapura_pki_findings",
            "What check found, by level.",
            levels
                .into_iter()
                .map(|level| {
                    let found = self.findings.iter().filter(|one| one.level == level);
                    (
                        format!("{{level=\"{}\"}}", level.as_str()),
                        found.count().to_string(),
                    )
                })
                .collect(),
        );
        let plain = |value: String| vec![(String::new(), value)];
        family(
            "gapura_pki_pushes_failed",
            "Mesh directories that --push or --exec has yet to succeed for.",
            plain(self.undelivered.to_string()),
        );
        family(
            "gapura_pki_last_success_timestamp_seconds",
            "When renew --all, ensure or crl refresh last did all it had to.",
            self.last_success
                .map_or_else(Vec::new, |at| plain(at.0.to_string())),
        );
        family(
            "gapura_pki_check_timestamp_seconds",
            "When this was found.",
            plain(now.0.to_string()),
        );
        text
    }

    /// Writes the metrics to `file`.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write_metrics(&self, file: &Path, now: Timestamp) -> Result<(), Error> {
        let absolute = std::path::absolute(file).map_err(Error::io("find", file))?;
        let name = absolute.file_name().and_then(|name| name.to_str());
        let (Some(folder), Some(name)) = (absolute.parent(), name) else {
            return Err(Error::Usage(format!(
                "--metrics {}: this names no file; give one that ends in .prom",
                file.display()
            )));
        };
        let dir = held_dir::open(folder)?.ok_or_else(|| {
            Error::Usage(format!(
                "--metrics {}: there is no folder {}; make it, or name the one the node exporter reads",
                file.display(),
                folder.display()
            ))
        })?;
        Ok(dir.replace(name, self.exposition(now).as_bytes(), Access::Everyone)?)
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::End;

    #[test]
    fn labels_are_escaped_and_what_has_ended_is_negative() {
        let mut checkup = Checkup::default();
        checkup.ends.push(End {
            of: EndOf::Leaf("plugin/lab".to_owned(), "/a\"b\\c".into()),
            at: Timestamp(90),
        });
        let text = checkup.exposition(Timestamp(100));
        let wanted = r#"gapura_pki_leaf_seconds_left{name="plugin/lab",dir="/a\"b\\c"} -10"#;
        assert!(text.lines().any(|line| line == wanted), "{text}");
        assert!(
            text.contains("gapura_pki_findings{level=\"critical\"} 0"),
            "{text}"
        );
        assert!(!text.contains("last_success"), "{text}");
    }
}
