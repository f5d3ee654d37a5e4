//! Which plugins stand behind the mesh: the sample one, and those of `--plugin NAME=URL`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use gapura_protocol::identity::Name;
use serde_json::json;

use crate::error::Error;
use crate::state::State;

/// A plugin of one's own, as `--plugin` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPlugin {
    /// Its name, in its mount and its identity.
    pub name: Name,
    /// Where it listens, in the words of the sidecar's `--plugin`.
    pub url: String,
}

/// Where the gateway finds it.
pub(crate) fn mount(name: &Name) -> String {
    format!("/v1/plugins/{name}")
}

impl FromStr for OwnPlugin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "as in lab-reporting=http://127.0.0.1:5000";
        let (name, url) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` is not NAME=URL, {wanted}"))?;
        let name = name.parse().map_err(|why| format!("`{name}`: {why}"))?;
        let known = ["http://", "h2c://", "unix:"].iter().any(|scheme| {
            url.strip_prefix(scheme)
                .is_some_and(|rest| !rest.is_empty())
        });
        if !known {
            return Err(format!(
                "`{url}` is neither http://ADDRESS:PORT, h2c://ADDRESS:PORT nor unix:PATH, {wanted}"
            ));
        }
        Ok(Self {
            name,
            url: url.trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for OwnPlugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.url)
    }
}

/// Refuses a name that is given twice.
pub(crate) fn check_names(plugins: &[OwnPlugin]) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    match plugins.iter().find(|plugin| !seen.insert(&plugin.name)) {
        Some(twice) => Err(Error::Refused(format!(
            "--plugin names {} twice; give each plugin its own name",
            twice.name
        ))),
        None => Ok(()),
    }
}

/// Writes `plugins.d` anew: one file a plugin, and none of an earlier run.
pub(crate) fn write_registry(
    state: &State,
    plugins: &[(Name, String, SocketAddr)],
) -> Result<(), Error> {
    let folder = state.folder("plugins.d")?;
    let entries = std::fs::read_dir(&folder)
        .map_err(|err| Error::Refused(format!("can't read {}: {err}", folder.display())))?;
    for old in entries.flatten() {
        let kept = plugins
            .iter()
            .any(|(name, _, _)| old.file_name().to_str() == Some(&format!("{name}.json")));
        if !kept {
            std::fs::remove_file(old.path()).map_err(|err| {
                Error::Refused(format!("can't remove {}: {err}", old.path().display()))
            })?;
        }
    }
    for (name, version, sidecar) in plugins {
        let entry = json!({
            "name": name.as_str(),
            "version": version,
            "mount": mount(name),
            "upstream": format!("https://{sidecar}"),
            "auth_mode": "gateway_verified",
        });
        state.write(
            &format!("plugins.d/{name}.json"),
            format!("{entry:#}\n").as_bytes(),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_name_and_a_url() {
        let plugin: OwnPlugin = "lab-reporting=http://127.0.0.1:5000/".parse().unwrap();
        assert_eq!(plugin.to_string(), "lab-reporting=http://127.0.0.1:5000");
        assert!("a=unix:/run/a.sock".parse::<OwnPlugin>().is_ok());
        for text in [
            "",
            "lab",
            "http://127.0.0.1:5000",
            "Lab=http://127.0.0.1:1",
            "=http://127.0.0.1:1",
            "a=127.0.0.1:5000",
            "a=unix:",
            "a=https://b",
        ] {
            assert!(text.parse::<OwnPlugin>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_stands_once() {
        let (a, b): (OwnPlugin, OwnPlugin) = (
            "a=http://127.0.0.1:1".parse().unwrap(),
            "b=http://127.0.0.1:1".parse().unwrap(),
        );
        assert!(check_names(&[a.clone(), b.clone()]).is_ok());
        assert!(
            check_names(&[a.clone(), b, a])
                .unwrap_err()
                .to_string()
                .contains('a')
        );
    }

    #[test]
    fn the_registry_holds_this_run_only() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::take(&folder.path().join("s")).unwrap();
        let entry = |name: &str| {
            (
                name.parse().unwrap(),
                "1".to_owned(),
                "127.0.0.1:19443".parse().unwrap(),
            )
        };
        write_registry(&state, &[entry("a"), entry("b")]).unwrap();
        write_registry(&state, &[entry("b")]).unwrap();
        assert_eq!(state.read("plugins.d/a.json").unwrap(), None);
        let written: serde_json::Value =
            serde_json::from_str(&state.read("plugins.d/b.json").unwrap().unwrap()).unwrap();
        assert_eq!(
            (&written["mount"], &written["upstream"]),
            (&json!("/v1/plugins/b"), &json!("https://127.0.0.1:19443"))
        );
    }
}
