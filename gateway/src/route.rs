//! Finds who answers a request: the gateway itself, or the plugin whose mount takes the path.
//!
//! In: the registry's table and a canonical path. Out: a [`Target`], with the running side of its
//! plugin, or why there is none. Nothing here looks at a method, a header or a caller; the
//! gateway's own paths win over every mount, `/` included.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gapura_protocol::envelope::Code;
use gapura_protocol::path::CanonicalPath;

use crate::registry::{Found, Plugin, Table, is_reserved};

/// Who answers.
#[derive(Debug)]
pub(crate) enum Target<'a, R = ()> {
    /// The gateway itself.
    Endpoint(Endpoint),
    /// A plugin.
    Plugin(Route<'a, R>),
}

/// The plugin that takes a path, and the path it gets.
#[derive(Clone, Debug)]
pub(crate) struct Route<'a, R = ()> {
    /// The plugin.
    pub(crate) plugin: &'a Arc<Plugin>,
    /// What runs for it.
    pub(crate) running: &'a R,
    /// What is left of the path below its mount, or the whole path where it keeps the mount.
    pub(crate) path: &'a str,
}

/// A path of the public side that the gateway answers by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Endpoint {
    /// The process lives.
    Healthz,
    /// It can serve.
    Readyz,
    /// What it was built from.
    Version,
    /// The plugins' contracts, merged.
    Openapi,
    /// A provider tells of a logout.
    BackchannelLogout,
    /// Below `/.gapura`, where nothing is.
    Reserved,
}

/// Why nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// No mount takes the path.
    NoRoute,
    /// The mount is named by a file that is faulty or has just gone.
    Held,
    /// The plugin's file says `"enabled": false`.
    Disabled,
}

impl<'a, R> Route<'a, R> {
    /// The plugin, if its file says that it serves.
    ///
    /// # Errors
    /// [`Error::Disabled`]
    pub(crate) fn enabled(&self) -> Result<&'a Arc<Plugin>, Error> {
        match self.plugin.enabled {
            true => Ok(self.plugin),
            false => Err(Error::Disabled),
        }
    }
}

impl Endpoint {
    /// The own path that `path` is, if it is one.
    #[must_use]
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path {
            "/healthz" => Some(Self::Healthz),
            "/readyz" => Some(Self::Readyz),
            "/version" => Some(Self::Version),
            "/openapi.json" => Some(Self::Openapi),
            "/.gapura/backchannel-logout" => Some(Self::BackchannelLogout),
            _ if is_reserved(path) => Some(Self::Reserved),
            _ => None,
        }
    }
}

impl Error {
    /// The code of the answer (CONTRACT section 5).
    #[must_use]
    pub(crate) fn code(self) -> Code {
        match self {
            Self::NoRoute => Code::NoRoute,
            Self::Held | Self::Disabled => Code::UpstreamUnavailable,
        }
    }

    /// When it may be worth another try: a hold for a vanished file ends after five seconds.
    #[must_use]
    pub(crate) fn retry_after(self) -> Option<Duration> {
        match self {
            Self::NoRoute => None,
            Self::Held | Self::Disabled => Some(Duration::from_secs(5)),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRoute => "no plugin is mounted at this path",
            Self::Held | Self::Disabled => "the plugin at this path is not available right now",
        })
    }
}

impl std::error::Error for Error {}

/// Who answers a request for `path`.
///
/// # Errors
/// [`Error`] if nobody does.
pub(crate) fn find<'a, R>(
    table: &'a Table<R>,
    path: &'a CanonicalPath<'_>,
) -> Result<Target<'a, R>, Error> {
    let path = path.as_str();
    if let Some(own) = Endpoint::of(path) {
        return Ok(Target::Endpoint(own));
    }
    match table.find(path) {
        Found::Plugin {
            plugin,
            running,
            rest,
        } => Ok(Target::Plugin(Route {
            plugin,
            running,
            path: rest,
        })),
        Found::Held => Err(Error::Held),
        Found::NoRoute => Err(Error::NoRoute),
    }
}

/// Each step of that decision, a sentence each, for `explain`.
#[must_use]
pub(crate) fn explain<R>(table: &Table<R>, path: &CanonicalPath<'_>) -> Vec<String> {
    let path = path.as_str();
    if Endpoint::of(path).is_some() {
        return vec![format!(
            "{path} is one of the gateway's own paths; it answers itself"
        )];
    }
    let candidates = table.candidates(path);
    let mut steps = Vec::new();
    for (at, (mount, plugin)) in candidates.iter().enumerate() {
        let who = plugin.map_or(
            "a file that is faulty or has just gone".to_owned(),
            |plugin| format!("plugin {}", plugin.name),
        );
        let why = if at == 0 {
            "takes the path and is the longest that does"
        } else {
            "would take it too, but is shorter"
        };
        steps.push(format!("mount {mount} of {who} {why}"));
    }
    steps.push(match table.find(path) {
        Found::Plugin { plugin, .. } if !plugin.enabled => format!(
            "plugin {} is not enabled: 503 upstream_unavailable",
            plugin.name
        ),
        Found::Plugin { plugin, rest, .. } => format!("plugin {} gets {rest}", plugin.name),
        Found::Held => "the mount is on hold: 503 upstream_unavailable".to_owned(),
        Found::NoRoute => "no mount takes the path: 404 no_route".to_owned(),
    });
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{File, Rules, Snapshot, build};
    use std::time::Instant;

    fn table() -> Table {
        let plugin = |name: &str, mount: &str| {
            let text = format!(
                "{{\"name\": \"{name}\", \"version\": \"1\", \"mount\": \"{mount}\", \"upstream\": \"https://a:1\", \"auth_mode\": \"public\"}}"
            );
            File {
                name: format!("{name}.json"),
                content: Ok(text.as_bytes().into()),
            }
        };
        let files = vec![
            plugin("root", "/"),
            plugin("lab", "/v1/lab"),
            plugin("Bad", "/v1/lab/bad"),
        ];
        build(
            None,
            &Snapshot {
                folder: "d".to_owned(),
                files: Ok(files),
            },
            &rules(),
            Instant::now(),
        )
        .table
    }

    fn rules() -> Rules {
        Rules {
            trust_domain: "a".parse().unwrap(),
            signing: crate::registry::Signing::Off,
            max_body: None,
        }
    }

    fn found(table: &Table, path: &str) -> String {
        match find(table, &CanonicalPath::parse(path.as_bytes()).unwrap()) {
            Ok(Target::Endpoint(own)) => format!("{own:?}"),
            Ok(Target::Plugin(route)) => format!("{} {}", route.plugin.name, route.path),
            Err(err) => err.code().as_str().to_owned(),
        }
    }

    #[test]
    fn own_paths_win_over_every_mount() {
        let table = table();
        for (path, who) in [
            ("/healthz", "Healthz"),
            ("/readyz", "Readyz"),
            ("//version", "Version"),
            ("/open%61pi.json", "Openapi"),
            ("/healthz/", "root /healthz/"),
            ("/healthz/x", "root /healthz/x"),
            ("/v1/lab/healthz", "lab /healthz"),
            ("/v1/lab/bad/x", "upstream_unavailable"),
        ] {
            assert_eq!(found(&table, path), who, "{path}");
        }
        assert_eq!(found(&Table::default(), "/x"), "no_route");
        assert!(Error::Held.retry_after().is_some() && Error::NoRoute.retry_after().is_none());
    }

    #[test]
    fn explains_each_step() {
        let steps = |path: &str| explain(&table(), &CanonicalPath::parse(path.as_bytes()).unwrap());
        assert_eq!(
            steps("/v1/lab/a"),
            [
                "mount /v1/lab of plugin lab takes the path and is the longest that does",
                "mount / of plugin root would take it too, but is shorter",
                "plugin lab gets /a",
            ]
        );
        assert!(
            steps("/v1/lab/bad")[0].contains("faulty") && steps("/v1/lab/bad")[3].contains("503")
        );
        assert_eq!(steps("/version").len(), 1);
    }

    /// A figure: `cargo test --release --locked -p gapura-gateway --lib -- --ignored --nocapture
    /// route::`.
    #[test]
    #[ignore = "a figure: release build, quiet machine"]
    fn among_ten_thousand_mounts_a_route_is_found_in_less_than_300_ns() {
        let mounts: Vec<String> = (0..10_000)
            .map(|number| format!("/v1/area-{}/feature-{number}", number % 100))
            .collect();
        let files = mounts.iter().enumerate().map(|(number, mount)| {
            let name = format!("p{number}");
            let text = format!(
                "{{\"name\": \"{name}\", \"version\": \"1\", \"mount\": \"{mount}\", \"upstream\": \"https://a:1\", \"auth_mode\": \"public\"}}"
            );
            File {
                name: format!("{name}.json"),
                content: Ok(text.as_bytes().into()),
            }
        });
        let snapshot = Snapshot {
            folder: "d".to_owned(),
            files: Ok(files.collect()),
        };
        let table = build(None, &snapshot, &rules(), Instant::now()).table;
        let paths: Vec<String> = mounts
            .iter()
            .map(|mount| format!("{mount}/reports/2024"))
            .collect();
        let paths: Vec<CanonicalPath<'_>> = paths
            .iter()
            .map(|path| CanonicalPath::parse(path.as_bytes()).unwrap())
            .collect();
        let mut best = std::time::Duration::MAX;
        for _ in 0..20 {
            let begun = Instant::now();
            for at in 0..paths.len() {
                // Not in the order in which they were put in.
                let path = &paths[at * 7919 % paths.len()];
                assert!(matches!(find(&table, path), Ok(Target::Plugin(_))));
            }
            best = best.min(begun.elapsed());
        }
        let each = best / u32::try_from(paths.len()).unwrap();
        println!("among 10,000 mounts: {each:?} a route");
        assert!(
            each < std::time::Duration::from_nanos(300) || cfg!(debug_assertions),
            "{each:?}"
        );
    }
}
