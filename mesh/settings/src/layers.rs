//! Lays flags, environment and file over each other.
//!
//! An empty variable counts as one that is not set: a compose file that passes on what nobody set
//! writes exactly that. Not so for a setting that restricts, of which nothing means everyone: there
//! it is refused, and so is an empty list in the file.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Kind, Origin, Problem, Setting};
use crate::json::{self, Fields, JsonFault, Node, Position, Value};

/// A setting's text and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The text, not yet checked.
    pub text: String,
    /// Who gave it.
    pub origin: Origin,
}

/// The settings of a program, each to be asked for by name. Mistakes gather in `problems`.
#[derive(Debug, Default)]
pub struct Layers {
    found: BTreeMap<&'static str, Vec<Found>>,
    file: Option<(String, Node)>,
    problems: Vec<Problem>,
}

/// A file of settings that is longer than this is not one.
const FILE_MAX: u64 = 1 << 20;

impl Layers {
    /// Lays `flags` over `env` over the file that the setting `config` names. `structured` are keys
    /// that only the file can hold.
    #[must_use]
    pub fn new(
        settings: &[Setting],
        structured: &[&str],
        flags: BTreeMap<&'static str, Vec<String>>,
        env: &BTreeMap<String, String>,
    ) -> Self {
        let mut layers = Self::default();
        for setting in settings {
            let variable = setting.variable();
            if setting.never_empty && env.get(&variable).is_some_and(String::is_empty) {
                let message = format!(
                    "is set but empty, and --{} restricts; give it a value, or unset it to run without",
                    setting.name
                );
                layers.problem(setting.name, &Origin::Env(variable), message);
            }
            if let Some(texts) = flags.get(setting.name) {
                let origin = Origin::Flag(setting.name);
                let found = texts.iter().map(|text| Found {
                    text: text.clone(),
                    origin: origin.clone(),
                });
                layers.found.insert(setting.name, found.collect());
            } else {
                layers.take_from_env(setting, env);
            }
        }
        if let Some(config) = layers.one("config") {
            match read(&config.text) {
                Ok(bytes) => layers.take_from_file(&config.text, &bytes, settings, structured),
                Err(message) => layers.problem("config", &config.origin, message),
            }
        }
        layers.refuse_nothing(settings);
        layers
    }

    /// The one value of a setting.
    pub fn one(&self, name: &str) -> Option<Found> {
        self.found
            .get(name)
            .and_then(|found| found.first())
            .cloned()
    }

    /// All values of a setting.
    #[must_use]
    pub fn all(&self, name: &str) -> &[Found] {
        self.found.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a switch is on.
    pub fn switch(&mut self, name: &'static str) -> bool {
        self.parse(name, switched).unwrap_or(false)
    }

    /// The one value of a setting, checked; what `check` says is wrong becomes a problem.
    pub fn parse<T>(
        &mut self,
        name: &'static str,
        check: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let found = self.one(name)?;
        match check(&found.text) {
            Ok(value) => Some(value),
            Err(message) => {
                self.problem(name, &found.origin, message);
                None
            }
        }
    }

    /// All values of a setting, checked.
    pub fn parse_all<T>(
        &mut self,
        name: &'static str,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let mut values = Vec::new();
        for found in self.all(name).to_vec() {
            match check(&found.text) {
                Ok(value) => values.push(value),
                Err(message) => self.problem(name, &found.origin, message),
            }
        }
        values
    }

    /// Where a setting came from.
    #[must_use]
    pub fn origin(&self, name: &str) -> Origin {
        self.found
            .get(name)
            .and_then(|found| found.first())
            .map_or(Origin::Default, |found| found.origin.clone())
    }

    /// A key that only the file can hold, with the file's name.
    #[must_use]
    pub fn structured(&self, key: &str) -> Option<(&str, &Node)> {
        let (file, root) = self.file.as_ref()?;
        let Value::Object(members) = &root.value else {
            return None;
        };
        members
            .iter()
            .find(|member| kebab(&member.name) == key)
            .map(|member| (file.as_str(), &member.value))
    }

    /// Where such a key came from.
    #[must_use]
    pub fn structured_origin(&self, key: &str) -> Option<Origin> {
        self.structured(key)
            .map(|(file, node)| Origin::File(file.to_owned(), node.position))
    }

    /// Notes a mistake in what came from `origin`, or would have come from the flag `name`.
    pub fn problem(&mut self, name: &str, origin: &Origin, message: impl Into<String>) {
        self.problems.push(Problem::new(name, origin, message));
    }

    /// Notes mistakes in a part of the file that the program read by itself.
    pub fn file_faults(&mut self, faults: Vec<JsonFault>) {
        let name = self
            .file
            .as_ref()
            .map(|(file, _)| file.clone())
            .unwrap_or_default();
        self.problems
            .extend(faults.into_iter().map(|fault| Problem {
                at: format!("{name}:{}", fault.position),
                message: fault.message,
            }));
    }

    /// Whether there is any mistake so far.
    #[must_use]
    pub(crate) fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Notes a mistake in another file than that of the settings; `at` says where in it.
    pub fn fault_elsewhere(&mut self, at: String, message: String) {
        self.problems.push(Problem { at, message });
    }

    /// Every mistake so far.
    #[must_use]
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Of a setting that restricts no value is empty: `GAPURA_AUDIENCE=,` and `--deny ""` say as
    /// little as an empty variable.
    fn refuse_nothing(&mut self, settings: &[Setting]) {
        for setting in settings.iter().filter(|setting| setting.never_empty) {
            let Some(found) = self.found.get_mut(setting.name) else {
                continue;
            };
            let is_empty = |found: &Found| found.text.trim().is_empty();
            let empty = found.iter().find(|found| is_empty(found)).cloned();
            found.retain(|found| !is_empty(found));
            if found.is_empty() {
                self.found.remove(setting.name);
            }
            if let Some(empty) = empty {
                let message = "holds an empty value, and it restricts; give it one, or leave it out to run without";
                self.problem(setting.name, &empty.origin, message);
            }
        }
    }

    fn take_from_env(&mut self, setting: &Setting, env: &BTreeMap<String, String>) {
        let own = setting.variable();
        let names = [Some(own.as_str()), setting.also_env];
        let Some((variable, text)) = names.into_iter().flatten().find_map(|variable| {
            env.get(variable)
                .filter(|text| !text.is_empty())
                .map(|text| (variable, text))
        }) else {
            return;
        };
        let origin = Origin::Env(variable.to_owned());
        let texts = match setting.kind {
            Kind::Many(_) => text.split(',').map(|part| part.trim().to_owned()).collect(),
            Kind::One(_) | Kind::Switch => vec![text.clone()],
        };
        self.found.insert(
            setting.name,
            texts
                .into_iter()
                .map(|text| Found {
                    text,
                    origin: origin.clone(),
                })
                .collect(),
        );
    }

    fn take_from_file(
        &mut self,
        file: &str,
        bytes: &[u8],
        settings: &[Setting],
        structured: &[&str],
    ) {
        let mut faults = Vec::new();
        if let Some(root) = json::parse(bytes, &mut faults) {
            self.take_from_tree(file, &root, settings, structured, &mut faults);
            self.file = Some((file.to_owned(), root));
        } else {
            self.file = Some((
                file.to_owned(),
                Node {
                    position: Position::START,
                    value: Value::Null,
                },
            ));
        }
        faults.sort_by_key(|fault| fault.position);
        self.file_faults(faults);
    }

    fn take_from_tree(
        &mut self,
        file: &str,
        root: &Node,
        settings: &[Setting],
        structured: &[&str],
        faults: &mut Vec<JsonFault>,
    ) {
        // The file cannot name another file.
        let known: Vec<&str> = settings
            .iter()
            .map(|setting| setting.name)
            .chain(structured.iter().copied())
            .collect();
        let known: Vec<&str> = known.into_iter().filter(|name| *name != "config").collect();
        let snake: Vec<String> = known.iter().map(|name| name.replace('-', "_")).collect();
        let both: Vec<&str> = known
            .iter()
            .copied()
            .chain(snake.iter().map(String::as_str))
            .chain(["$schema"])
            .collect();
        let Some(mut fields) = Fields::open(root, "", &both, faults) else {
            return;
        };
        for setting in settings.iter().filter(|setting| setting.name != "config") {
            let snake = setting.name.replace('-', "_");
            let mut spellings = vec![setting.name];
            if snake != setting.name {
                spellings.push(&snake);
            }
            let given: Vec<&str> = spellings
                .into_iter()
                .filter(|name| fields.node(name).is_some())
                .collect();
            let Some((key, node)) = given
                .first()
                .and_then(|key| Some((*key, fields.node(key)?)))
            else {
                continue;
            };
            if let Some(twice) = given.get(1) {
                let position = fields.name_position(twice);
                fields.fault_at(
                    position,
                    twice,
                    format_args!("and \"{key}\" are the same setting; keep one"),
                );
            }
            match texts_of(setting.kind, node) {
                Ok(texts) if texts.is_empty() && setting.filled => {
                    fields.fault(key, "is an empty list, which restricts nothing: name something, or leave it out");
                }
                Ok(texts) => {
                    let found = texts
                        .into_iter()
                        .map(|(text, at)| Found {
                            text,
                            origin: Origin::File(file.to_owned(), at),
                        })
                        .collect();
                    self.found.entry(setting.name).or_insert(found);
                }
                Err((part, wanted)) => {
                    fields.fault_at(
                        part.position,
                        key,
                        format_args!("must be {wanted}, found {}", part.kind()),
                    );
                }
            }
        }
    }
}

/// The texts that a value of the file stands for, as if each had been given by a flag; else the
/// part that is not one, and what was wanted.
fn texts_of(kind: Kind, node: &Node) -> Result<Vec<(String, Position)>, (&Node, &'static str)> {
    let scalar = |node: &Node| match &node.value {
        Value::Text(text) => Some((text.clone(), node.position)),
        Value::Number(number) => Some((number.to_string(), node.position)),
        _ => None,
    };
    match (kind, &node.value) {
        (Kind::Switch, Value::Bool(on)) => Ok(vec![(on.to_string(), node.position)]),
        (Kind::Switch, _) => Err((node, "true or false")),
        (Kind::Many(_), Value::List(nodes)) => nodes
            .iter()
            .map(|node| scalar(node).ok_or((node, "a list of strings")))
            .collect(),
        (Kind::Many(_), _) => scalar(node)
            .map(|text| vec![text])
            .ok_or((node, "a string or a list of strings")),
        (Kind::One(_), _) => scalar(node)
            .map(|text| vec![text])
            .ok_or((node, "a string or a number")),
    }
}

/// Whether a switch's text means on.
///
/// # Errors
/// A sentence that says what is accepted.
pub fn switched(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

fn kebab(name: &str) -> String {
    name.replace('_', "-")
}

fn read(file: &str) -> Result<Vec<u8>, String> {
    let size =
        std::fs::metadata(Path::new(file)).map_err(|err| format!("can't read {file}: {err}"))?;
    if !size.is_file() {
        return Err(format!("can't read {file}: not a file"));
    }
    if size.len() > FILE_MAX {
        return Err(format!("can't read {file}: longer than 1 MiB"));
    }
    std::fs::read(file).map_err(|err| format!("can't read {file}: {err}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &[Setting] = &[
        Setting::one("config", "FILE", "The file."),
        Setting::one("listen", "ADDR", "Where."),
        Setting::one("plugin-dir", "DIR", "Plugins.").or_env("PLUGIN_DIR"),
        Setting::many("public-host", "NAME", "Hosts."),
        Setting::one("workers", "N", "How many."),
        Setting::switch("check", "Only check."),
    ];

    fn layers(
        flags: &[(&'static str, &[&str])],
        env: &[(&str, &str)],
        file: Option<&str>,
    ) -> (Layers, Option<tempfile::NamedTempFile>) {
        let mut flags: BTreeMap<&'static str, Vec<String>> = flags
            .iter()
            .map(|(name, texts)| (*name, texts.iter().map(|text| (*text).to_owned()).collect()))
            .collect();
        let file = file.map(|text| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            flags.insert("config", vec![file.path().to_str().unwrap().to_owned()]);
            file
        });
        let env = env
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect();
        (Layers::new(SETTINGS, &["issuers"], flags, &env), file)
    }

    fn text(layers: &Layers, name: &str) -> Option<String> {
        layers.one(name).map(|found| found.text)
    }

    #[test]
    fn a_flag_beats_the_environment_beats_the_file() {
        let file = Some("{\"listen\": \"file\", \"plugin_dir\": \"file\", \"workers\": 4}");
        let (found, _file) = layers(
            &[("listen", &["flag"])],
            &[("GAPURA_LISTEN", "env"), ("PLUGIN_DIR", "env")],
            file,
        );
        assert_eq!(text(&found, "listen").as_deref(), Some("flag"));
        assert_eq!(text(&found, "plugin-dir").as_deref(), Some("env"));
        assert_eq!(text(&found, "workers").as_deref(), Some("4"));
        assert_eq!(found.origin("listen").to_string(), "--listen");
        assert_eq!(found.origin("plugin-dir").to_string(), "PLUGIN_DIR");
        assert!(
            found.origin("workers").to_string().ends_with(":1:53"),
            "{}",
            found.origin("workers")
        );
        assert_eq!(found.origin("public-host"), Origin::Default);
        assert!(found.into_problems().is_empty());
    }

    #[test]
    fn our_own_variable_beats_the_one_of_old_and_an_empty_one_is_none() {
        let (found, _) = layers(
            &[],
            &[("GAPURA_PLUGIN_DIR", "ours"), ("PLUGIN_DIR", "old")],
            None,
        );
        assert_eq!(text(&found, "plugin-dir").as_deref(), Some("ours"));
        let (found, _) = layers(
            &[],
            &[("GAPURA_PLUGIN_DIR", ""), ("PLUGIN_DIR", "old")],
            None,
        );
        assert_eq!(text(&found, "plugin-dir").as_deref(), Some("old"));
    }

    #[test]
    fn a_setting_that_restricts_is_never_empty_by_its_variable() {
        let settings = [
            Setting::one("deny", "FILE", "x").never_empty(),
            Setting::one("admin", "ADDR", "x"),
        ];
        let problems = |env: &[(&str, &str)]| {
            let env = env
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect();
            Layers::new(&settings, &[], BTreeMap::new(), &env)
                .into_problems()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(problems(&[("GAPURA_ADMIN", "")]), [""; 0]);
        assert_eq!(problems(&[("GAPURA_DENY", "f")]), [""; 0]);
        let said = problems(&[("GAPURA_DENY", "")]).join("; ");
        assert!(
            said.starts_with("GAPURA_DENY: ") && said.contains("unset it"),
            "{said}"
        );
    }

    #[test]
    fn a_setting_that_restricts_is_no_empty_list_in_the_file() {
        let settings = [
            Setting::many("public-host", "NAME", "x").never_empty(),
            Setting::many("trusted-proxy", "CIDR", "x"),
            Setting::many("public-path", "PREFIX", "x").filled(),
            Setting::one("config", "FILE", "x"),
        ];
        let dir = tempfile::tempdir().unwrap();
        let problems = |text: &str| {
            let file = dir.path().join("gateway.json");
            std::fs::write(&file, text).unwrap();
            let flags = BTreeMap::from([("config", vec![file.display().to_string()])]);
            let problems = Layers::new(&settings, &[], flags, &BTreeMap::new()).into_problems();
            let said = problems.iter().map(ToString::to_string);
            said.collect::<Vec<_>>().join("; ")
        };
        assert_eq!(problems("{\"trusted_proxy\": []}"), "");
        let said = problems("{\"public_path\": []}");
        assert!(said.contains("\"public_path\" is an empty list"), "{said}");
        assert_eq!(problems("{\"public_host\": [\"a\"]}"), "");
        let said = problems("{\"public_host\": []}");
        assert!(said.contains("\"public_host\" is an empty list"), "{said}");
    }

    #[test]
    fn a_setting_that_restricts_has_no_empty_value_whoever_gives_it() {
        let settings = [
            Setting::many("audience", "TEXT", "x").never_empty(),
            Setting::many("public-path", "PREFIX", "x").filled(),
        ];
        let problems = |flag: Option<&str>, env: &[(&str, &str)]| {
            let flag = flag.map(|text| ("audience", vec![text.to_owned()]));
            let env = env
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect();
            let layers = Layers::new(&settings, &[], flag.into_iter().collect(), &env);
            let said = layers.into_problems();
            said.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            problems(Some("lab"), &[("GAPURA_PUBLIC_PATH", "")]),
            [""; 0]
        );
        assert_eq!(problems(None, &[("GAPURA_AUDIENCE", "a,b")]), [""; 0]);
        for said in [
            problems(Some(""), &[]),
            problems(Some(" "), &[]),
            problems(None, &[("GAPURA_AUDIENCE", ",")]),
            problems(None, &[("GAPURA_AUDIENCE", "a, ,b")]),
            problems(None, &[("GAPURA_AUDIENCE", " ")]),
        ] {
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].contains("holds an empty value"), "{said:?}");
        }
    }

    #[test]
    fn lists_come_from_each_layer() {
        let hosts = |found: &Layers| {
            found
                .all("public-host")
                .iter()
                .map(|found| found.text.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            hosts(&layers(&[("public-host", &["a", "b"])], &[], None).0),
            ["a", "b"]
        );
        assert_eq!(
            hosts(&layers(&[], &[("GAPURA_PUBLIC_HOST", "a, b")], None).0),
            ["a", "b"]
        );
        assert_eq!(
            hosts(&layers(&[], &[], Some("{\"public-host\": [\"a\", \"b\"]}")).0),
            ["a", "b"]
        );
        assert_eq!(
            hosts(&layers(&[], &[], Some("{\"public_host\": \"a\"}")).0),
            ["a"]
        );
    }

    #[test]
    fn a_switch_can_be_turned_off_above_the_file() {
        assert!(
            layers(&[], &[], Some("{\"check\": true}"))
                .0
                .switch("check")
        );
        assert!(
            !layers(&[], &[("GAPURA_CHECK", "off")], Some("{\"check\": true}"))
                .0
                .switch("check")
        );
        assert!(
            layers(&[("check", &["true"])], &[("GAPURA_CHECK", "off")], None)
                .0
                .switch("check")
        );
        let (mut found, _) = layers(&[], &[("GAPURA_CHECK", "perhaps")], None);
        assert!(!found.switch("check"));
        assert_eq!(
            found.into_problems()[0].to_string(),
            "GAPURA_CHECK: must be true or false"
        );
    }

    #[test]
    fn every_mistake_in_the_file_is_named_where_it_stands() {
        let file = "{\n\"lisen\": 1,\n\"workers\": [],\n\"plugin-dir\": \"a\", \"plugin_dir\": \"b\",\n\"public-host\": [1, null],\n\"check\": 1, \"config\": \"x\"\n}";
        let (found, file) = layers(&[], &[], Some(file));
        let name = file.unwrap().path().to_str().unwrap().to_owned();
        let said: Vec<String> = found
            .into_problems()
            .iter()
            .map(|problem| problem.to_string().replace(&name, "f"))
            .collect();
        let expected = [
            "f:2:1: unknown field \"lisen\"; the nearest valid name is \"listen\"",
            "f:3:12: \"workers\" must be a string or a number, found a list",
            "f:4:20: \"plugin_dir\" and \"plugin-dir\" are the same setting; keep one",
            "f:5:20: \"public-host\" must be a list of strings, found null",
            "f:6:10: \"check\" must be true or false, found a number",
            "f:6:13: unknown field \"config\"; the nearest valid name is \"check\"",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn a_file_that_is_not_there_or_not_json_is_one_problem() {
        let (found, _) = layers(&[("config", &["/nowhere/at-all.json"])], &[], None);
        assert!(
            found.into_problems()[0]
                .to_string()
                .starts_with("--config: can't read /nowhere/at-all.json: ")
        );
        let (found, _file) = layers(&[], &[], Some("{"));
        let problems = found.into_problems();
        assert!(
            problems.len() == 1 && problems[0].message.starts_with("not JSON"),
            "{problems:?}"
        );
    }
}
