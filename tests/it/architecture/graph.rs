//! Which source file names which other, across all crates, and the circles among them.
//!
//! In: the text of every file of a package. Out: an edge for each path that leads into another
//! file, in a `use` or inline. A `pub use` is a signpost and no knowledge: who follows it is led to
//! the file behind it, and the file that holds it knows that one only if it uses the name itself.
//! Knows no compiler: macros are text, and a file that is a test is not in the graph.

use std::collections::{BTreeMap, BTreeSet};

/// A module: the crate's name as code spells it, then the names below it.
type Module = Vec<String>;

/// A path as it is written, split at `::`.
type Written = Vec<String>;

/// The files of some packages.
#[derive(Default)]
pub(super) struct Graph {
    modules: BTreeMap<Module, File>,
}

struct File {
    name: String,
    /// Paths the file makes use of.
    paths: Vec<Written>,
    /// What a `use` brings in, by the name it has here, and whether others see it too.
    brought: BTreeMap<String, (Written, bool)>,
    /// Every word outside of `use`.
    words: BTreeSet<String>,
}

impl Graph {
    /// Enters a file of the package `krate`; `below` is its path under `src`, `code` what it says.
    pub(super) fn enter(&mut self, krate: &str, below: &str, name: &str, code: &str) {
        let mut module = vec![krate.to_owned()];
        module.extend(below.trim_end_matches(".rs").split('/').map(str::to_owned));
        if matches!(module.last().map(String::as_str), Some("lib" | "mod")) {
            module.pop();
        }
        self.modules.insert(module, File::read(name, &tokens(code)));
    }

    /// How many files there are.
    pub(super) fn len(&self) -> usize {
        self.modules.len()
    }

    /// The files that each file names.
    pub(super) fn edges(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut edges = BTreeMap::new();
        for (module, file) in &self.modules {
            let used = file
                .brought
                .iter()
                .filter(|(name, (_, public))| !public || file.words.contains(*name))
                .map(|(_, (path, _))| path);
            let known: BTreeSet<&str> = file
                .paths
                .iter()
                .chain(used)
                .filter_map(|path| self.resolve(module, path, 0))
                .map(|found| self.modules[found].name.as_str())
                .filter(|name| *name != file.name)
                .collect();
            edges.insert(file.name.as_str(), known);
        }
        edges
    }

    /// The module in which `path`, written in `from`, ends.
    fn resolve(&self, from: &Module, path: &[String], depth: usize) -> Option<&Module> {
        if depth > 8 {
            return None; // a signpost that leads to itself
        }
        let mut at = from.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (at, rest) = (vec![from[0].clone()], &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|word| word == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
            }
            first if self.modules.contains_key(&vec![first.to_owned()]) => {
                (at, rest) = (vec![first.to_owned()], &path[1..]);
            }
            first => {
                let child: Module = at.iter().cloned().chain([first.to_owned()]).collect();
                let brought = self.modules[from].brought.contains_key(first);
                if !self.modules.contains_key(&child) && !brought {
                    return None;
                }
            }
        }
        while let Some(word) = rest.first() {
            let child: Module = at.iter().cloned().chain([word.clone()]).collect();
            if self.modules.contains_key(&child) {
                at = child;
                rest = &rest[1..];
                continue;
            }
            if let Some((behind, _)) = self.modules.get(&at)?.brought.get(word)
                && (at != *from || behind.as_slice() != path)
            {
                let whole: Written = behind.iter().chain(&rest[1..]).cloned().collect();
                if let Some(found) = self.resolve(&at, &whole, depth + 1) {
                    return Some(found);
                }
            }
            break;
        }
        self.modules.get_key_value(&at).map(|(module, _)| module)
    }
}

/// The circles of a graph: each the files that reach each other, in order.
pub(super) fn circles(edges: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<BTreeSet<String>> {
    let reach: BTreeMap<&str, BTreeSet<&str>> = edges
        .keys()
        .map(|start| {
            let mut seen = BTreeSet::new();
            let mut next: Vec<&str> = edges[start].iter().copied().collect();
            while let Some(file) = next.pop() {
                if seen.insert(file) {
                    next.extend(edges.get(file).into_iter().flatten().copied());
                }
            }
            (*start, seen)
        })
        .collect();
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for (file, seen) in reach.iter().filter(|(file, seen)| seen.contains(*file)) {
        if found.iter().any(|circle| circle.contains(*file)) {
            continue;
        }
        let members = seen.iter().filter(|other| reach[**other].contains(file));
        found.push(members.map(|member| (*member).to_owned()).collect());
    }
    found
}

impl File {
    fn read(name: &str, tokens: &[String]) -> Self {
        let mut file = Self {
            name: name.to_owned(),
            paths: Vec::new(),
            brought: BTreeMap::new(),
            words: BTreeSet::new(),
        };
        let mut at = 0;
        while at < tokens.len() {
            let word = tokens[at].as_str();
            if word == "use" {
                let end = at
                    + tokens[at..]
                        .iter()
                        .position(|token| token == ";")
                        .unwrap_or(0);
                let public = at > 0 && matches!(tokens[at - 1].as_str(), "pub" | ")");
                file.brings(&tokens[at + 1..end.max(at + 1)], &[], public);
                at = end.max(at) + 1;
                continue;
            }
            if word == "mod" {
                at += 2; // says that there is one, and names nothing of it
                continue;
            }
            if is_word(word) {
                let mut path = vec![word.to_owned()];
                while tokens.get(at + 1).is_some_and(|token| token == "::")
                    && tokens.get(at + 2).is_some_and(|token| is_word(token))
                {
                    path.push(tokens[at + 2].clone());
                    at += 2;
                }
                file.words.insert(path[0].clone());
                if path.len() > 1 {
                    file.paths.push(path);
                }
            }
            at += 1;
        }
        file
    }

    /// Takes in one tree of a `use`.
    fn brings(&mut self, tree: &[String], before: &[String], public: bool) {
        let mut path = before.to_vec();
        let mut at = 0;
        while at < tree.len() {
            match tree[at].as_str() {
                "{" => {
                    let inside = &tree[at + 1..tree.len().saturating_sub(1)];
                    for part in parts(inside) {
                        self.brings(part, &path, public);
                    }
                    return;
                }
                "as" => {
                    let name = tree.get(at + 1).cloned().unwrap_or_default();
                    self.brought.insert(name, (path, public));
                    return;
                }
                "::" => {}
                "*" => {
                    self.paths.push(path);
                    return;
                }
                // `use a::b::{self}` brings `b`.
                "self" if !path.is_empty() => {}
                word => path.push(word.to_owned()),
            }
            at += 1;
        }
        if let Some(name) = path.last() {
            self.brought.insert(name.clone(), (path, public));
        }
    }
}

/// Splits at the commas that stand in no braces.
fn parts(tokens: &[String]) -> Vec<&[String]> {
    let (mut depth, mut start, mut found) = (0_usize, 0, Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            "," if depth == 0 => {
                found.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&tokens[start..]);
    found.retain(|part| !part.is_empty());
    found
}

fn is_word(token: &str) -> bool {
    token
        .chars()
        .next()
        .is_some_and(|first| first.is_alphabetic() || first == '_')
}

/// Words, `::` and single marks; no comments, no texts.
fn tokens(code: &str) -> Vec<String> {
    let chars: Vec<char> = code.chars().collect();
    let (mut at, mut found) = (0, Vec::new());
    let starts = |at: usize, text: &str| {
        text.chars()
            .enumerate()
            .all(|(n, c)| chars.get(at + n) == Some(&c))
    };
    while at < chars.len() {
        let char = chars[at];
        if starts(at, "//") {
            at += chars[at..]
                .iter()
                .position(|c| *c == '\n')
                .unwrap_or(chars.len() - at);
        } else if char == 'r' && (starts(at, "r\"") || starts(at, "r#\"")) {
            let end = if starts(at, "r\"") { "\"" } else { "\"#" };
            at += 1 + end.len();
            while at < chars.len() && !starts(at, end) {
                at += 1;
            }
            at += end.len();
        } else if char.is_alphanumeric() || char == '_' {
            let end = chars[at..]
                .iter()
                .position(|c| !c.is_alphanumeric() && *c != '_');
            let end = end.map_or(chars.len(), |length| at + length);
            found.push(chars[at..end].iter().collect());
            at = end;
        } else if char == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if char == '\'' && chars.get(at + 1) == Some(&'\\') {
            at += 3 + chars[at + 3..].iter().position(|c| *c == '\'').unwrap_or(0);
        } else if char == '\'' && chars.get(at + 2) == Some(&'\'') {
            at += 3;
        } else if starts(at, "::") {
            found.push("::".to_owned());
            at += 2;
        } else {
            if !char.is_whitespace() {
                found.push(char.to_string());
            }
            at += 1;
        }
    }
    found
}
