//! `--check --only plugins` and `--check --diff-running`: the plugin files judged by themselves,
//! and compared with what is in force.
//!
//! In: the folder, and the page `/plugins` of a running gateway's admin side. Out: a line for each
//! plugin or each difference, or every fault. Nothing is started. The values of `inject_headers`
//! are shown by neither side, so that they alone are not compared.

use std::collections::BTreeMap;
use std::time::Instant;

use gapura_operator::ask;
use gapura_protocol::clock::Clock;
use gapura_runtime::cli::Checked;
use gapura_runtime::load::with_docs;
use gapura_settings::AdminSide;
use gapura_telemetry::alarms::Alarm;
use serde_json::Value;

use crate::config::PluginFiles;
use crate::explain::trust_domain;
use crate::registry::{Built, Rules, Snapshot, Table, build};

/// What came of a look at the folder.
#[derive(Debug)]
pub(crate) struct Look {
    /// What to print.
    pub(crate) checked: Checked,
    /// Whether what is in force is something else.
    pub(crate) differs: bool,
}

/// A plugin's file and what it says.
type Described = BTreeMap<String, (String, Value)>;

/// Reads the folder as a start would and, if that is asked, compares it.
///
/// # Errors
/// Every fault of the folder, or why the running gateway can't be asked, a sentence each.
pub(crate) fn look(files: &PluginFiles, clock: &Clock) -> Result<Look, Vec<String>> {
    let rules = Rules {
        trust_domain: trust_domain(files.mesh_dir.as_deref(), clock)?,
        signing: files.signing,
        max_body: files.max_body,
    };
    let folder = Snapshot::take(&files.plugin_dir);
    let Built {
        table,
        faults,
        warnings,
        ..
    } = build(None, &folder, &rules, Instant::now());
    if !faults.is_empty() {
        let faults = faults.iter().map(ToString::to_string).collect();
        return Err(with_docs(faults, &[Alarm::Registry]));
    }
    let Some(running) = &files.running else {
        let checked = Checked {
            lines: lines(&table),
            warnings,
        };
        return Ok(Look {
            checked,
            differs: false,
        });
    };
    let in_force = in_force(running).map_err(|fault| vec![fault])?;
    let mut lines = differences(&in_force, &of(&table));
    let differs = !lines.is_empty();
    if !differs {
        lines.push(format!(
            "nothing differs: all {} plugins are in force as the folder describes them",
            in_force.len()
        ));
    }
    Ok(Look {
        checked: Checked { lines, warnings },
        differs,
    })
}

/// A line for each plugin of a table.
#[must_use]
pub(crate) fn lines<R>(table: &Table<R>) -> Vec<String> {
    let line = |(file, plugin): &(String, std::sync::Arc<crate::registry::Plugin>)| {
        format!(
            "{file}: plugin {} {} at {}",
            plugin.name, plugin.version, plugin.mount
        )
    };
    table.plugins().iter().map(line).collect()
}

fn of(table: &Table) -> Described {
    let described = table.plugins().iter().filter_map(|(file, plugin)| {
        let described = serde_json::from_str(&plugin.described).ok()?;
        Some((plugin.name.to_string(), (file.clone(), described)))
    });
    described.collect()
}

/// The plugins that a running gateway routes to.
fn in_force(admin: &AdminSide) -> Result<Described, String> {
    let page = ask::page(admin, "/plugins")?;
    let at = &admin.address;
    let strange = || {
        format!(
            "the admin side at {at} answers /plugins in a form that is not known here; is that a gateway of this version?"
        )
    };
    let page: Value = serde_json::from_str(&page).map_err(|_| strange())?;
    let plugins = page["plugins"].as_array().ok_or_else(strange)?;
    let described = plugins.iter().map(|plugin| {
        let text = |name: &str| plugin[name].as_str().map(str::to_owned);
        let described = plugin.get("described").cloned();
        Some((text("name")?, (text("file")?, described?)))
    });
    described.collect::<Option<_>>().ok_or_else(strange)
}

/// A line for each plugin that comes or goes, and for each field that is another.
fn differences(before: &Described, after: &Described) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, (file, described)) in after {
        let Some((was_in, was)) = before.get(name) else {
            let mount = described["mount"].as_str().unwrap_or_default();
            lines.push(format!(
                "+ {name}: would come into force at {mount} ({file})"
            ));
            continue;
        };
        if was_in != file {
            lines.push(format!("~ {name}: the file {was_in} -> {file}"));
        }
        let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
        let (was, now) = (fields(was), fields(described));
        let mut names: Vec<&String> = was.keys().chain(now.keys()).collect();
        names.sort_unstable();
        names.dedup();
        for field in names {
            let (old, new) = (was.get(field), now.get(field));
            if old != new {
                let shown = |value: Option<&Value>| {
                    value.map_or("(not set)".to_owned(), ToString::to_string)
                };
                lines.push(format!(
                    "~ {name}: {field} {} -> {}",
                    shown(old),
                    shown(new)
                ));
            }
        }
    }
    let gone = before.iter().filter(|(name, _)| !after.contains_key(*name));
    lines.extend(gone.map(|(name, (file, _))| {
        format!("- {name}: would no longer be in force ({file} is gone)")
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn described(entries: &[(&str, Value)]) -> Described {
        let entry = |(name, value): &(&str, Value)| {
            ((*name).to_owned(), (format!("{name}.json"), value.clone()))
        };
        entries.iter().map(entry).collect()
    }

    #[test]
    fn what_comes_goes_and_changes_is_a_line_each() {
        let before = described(&[
            ("a", json!({"mount": "/a", "timeout_ms": 1})),
            ("b", json!({"mount": "/b"})),
        ]);
        let after = described(&[
            (
                "a",
                json!({"mount": "/a", "enabled": false, "timeout_ms": 2}),
            ),
            ("c", json!({"mount": "/c"})),
        ]);
        assert_eq!(
            differences(&before, &after),
            [
                "~ a: enabled (not set) -> false",
                "~ a: timeout_ms 1 -> 2",
                "+ c: would come into force at /c (c.json)",
                "- b: would no longer be in force (b.json is gone)",
            ]
        );
        assert!(differences(&after, &after).is_empty());
    }
}
