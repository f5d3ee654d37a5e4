//! `gapura-agent status`: what a running agent holds, in a few lines.

use gapura_operator::ask;
use gapura_settings::AdminSide;
use serde_json::Value;

use crate::pages::STATUS;

/// Asks. Out: the lines, and whether all is well.
///
/// # Errors
/// A sentence: it can't be reached.
pub(crate) fn ask(admin: &AdminSide) -> Result<(String, bool), String> {
    let page = ask::page(admin, STATUS)?;
    let page: Value = serde_json::from_str(&page)
        .map_err(|_| format!("what listens at {} is no gapura-agent", admin.address))?;
    Ok(told(&page))
}

fn told(page: &Value) -> (String, bool) {
    let text = |at: &str| {
        let found = page.pointer(at).unwrap_or(&Value::Null);
        found
            .as_str()
            .map_or_else(|| found.to_string(), str::to_owned)
    };
    let mut lines = Vec::new();
    if page["certificate"].is_null() {
        lines.push("certificate: none yet".to_owned());
    } else {
        lines.push(format!("identity:    {}", text("/certificate/id")));
        lines.push(format!(
            "certificate: serial {}, ends {}, renews {}",
            text("/certificate/serial"),
            text("/certificate/not_after"),
            text("/certificate/renews_at")
        ));
    }
    lines.push(format!(
        "directory:   {}, generation {}",
        text("/mesh_dir"),
        text("/certificate/generation")
    ));
    lines.push(match page["news"]["heard_at"].as_str() {
        Some(at) => {
            let how = match page["news"]["by_certificate"].as_bool() {
                Some(false) => ", without the certificate, which counts no more",
                _ => "",
            };
            format!(
                "news:        heard {} s ago ({at}){how}",
                text("/news/age_seconds")
            )
        }
        None => "news:        none yet".to_owned(),
    });
    for (activity, failed) in page["failed"].as_object().into_iter().flatten() {
        let why = failed["message"].as_str().unwrap_or_default();
        lines.push(format!("failed:      {activity}: {why}"));
    }
    let alarms = page["alarms"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    for alarm in alarms {
        let (name, why) = (alarm["name"].as_str(), alarm["message"].as_str());
        lines.push(format!(
            "ALARM:       {}: {}",
            name.unwrap_or_default(),
            why.unwrap_or_default()
        ));
    }
    (lines.join("\n"), alarms.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_held_is_told_in_a_few_lines_and_an_alarm_is_no_success() {
        let mut page = json!({
            "mesh_dir": "/etc/gapura/lab",
            "certificate": {"id": "spiffe://a/plugin/lab", "serial": "0a", "not_after": "T1", "renews_at": "T0", "generation": 3},
            "news": {"heard_at": "T", "age_seconds": 7, "generation": "ab"},
            "failed": {}, "alarms": [],
        });
        let (lines, well) = told(&page);
        assert!(
            well && lines.contains("heard 7 s ago") && lines.contains("generation 3"),
            "{lines}"
        );
        assert!(!lines.contains("counts no more"), "{lines}");
        page["news"]["by_certificate"] = false.into();
        assert!(told(&page).0.contains("without the certificate"));
        page["alarms"] = json!([{"name": "news", "message": "old"}]);
        let (lines, well) = told(&page);
        assert!(!well && lines.contains("ALARM:       news: old"), "{lines}");
        assert!(told(&json!({})).0.contains("none yet"));
    }
}
