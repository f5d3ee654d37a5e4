//! What a browser gets before it knows anything of the program: one page, one script, one style
//! sheet, all of them in the program.

/// One file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asset {
    /// Where it is.
    pub path: &'static str,
    /// Its media type.
    pub kind: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// All of them.
pub(crate) const ASSETS: [Asset; 4] = [
    Asset {
        path: "/",
        kind: "text/html; charset=utf-8",
        text: include_str!("assets/page.html"),
    },
    Asset {
        path: "/page.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("assets/page.js"),
    },
    Asset {
        path: "/page.css",
        kind: "text/css; charset=utf-8",
        text: include_str!("assets/page.css"),
    },
    Asset {
        path: "/docs/alarms.md",
        kind: "text/plain; charset=utf-8",
        text: include_str!("../../../docs/alarms.md"),
    },
];

impl Asset {
    /// The one at this path.
    #[must_use]
    pub fn at(path: &str) -> Option<&'static Self> {
        ASSETS.iter().find(|asset| asset.path == path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that a browser is told to load is here, and nothing is run but the script.
    #[test]
    fn the_page_names_nothing_from_elsewhere_and_holds_no_script_of_its_own() {
        let page = Asset::at("/").unwrap().text;
        for (attribute, count) in [("src=\"", 1), ("href=\"", 1)] {
            let named: Vec<&str> = page
                .split(attribute)
                .skip(1)
                .map(|rest| rest.split('"').next().unwrap())
                .filter(|name| !name.starts_with('#'))
                .collect();
            assert_eq!(named.len(), count, "{named:?}");
            assert!(named.iter().all(|name| Asset::at(name).is_some()));
        }
        assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" on"));
        assert_eq!(page.matches("<script").count(), 1);
    }

    /// What comes from files, plugins and callers is text and nothing else.
    #[test]
    fn the_script_makes_no_markup_of_text() {
        let script = Asset::at("/page.js").unwrap().text;
        for way in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "eval(",
            "new Function",
            "localStorage",
            "document.cookie",
            "http://",
            "https://",
        ] {
            let found: Vec<&str> = script.lines().filter(|line| line.contains(way)).collect();
            let svg = |line: &&&str| !line.contains("http://www.w3.org/2000/svg");
            assert_eq!(found.iter().filter(svg).count(), 0, "{way}: {found:?}");
        }
    }
}
