//! One file of the folder, judged by itself.
//!
//! In: its name and bytes. Out: the plugin it describes, or faults; and in either case the mounts
//! it names, which are reserved whether the file is good or not. Even a text that is not JSON is
//! searched for them: a comma too many must not hand a plugin's paths to the one below it.

use gapura_settings::json::{self, Node, Position};

use super::fault::FileFault;
use super::mount::Mount;
use super::plugin::Plugin;
use super::rules::Rules;

/// What a file says.
pub(super) struct Reading {
    /// The plugin, if nothing is wrong.
    pub(super) plugin: Option<Plugin>,
    /// Where the name and the mount stand, for faults that only the whole folder shows.
    pub(super) name_at: Position,
    pub(super) mount_at: Position,
    /// The mounts it names.
    pub(super) claims: Vec<Mount>,
    /// What is wrong.
    pub(super) faults: Vec<FileFault>,
}

/// A broken text is not searched for more mounts than this.
const CLAIMS_MAX: usize = 16;

/// Reads a file's bytes, or takes the reason why there are none. `file` is what faults call it.
pub(super) fn read(file: &str, content: Result<&[u8], &str>, rules: &Rules) -> Reading {
    let fault = |fault: json::JsonFault| FileFault {
        file: file.to_owned(),
        position: Some(fault.position),
        message: fault.message,
    };
    let bytes = match content {
        Ok(bytes) => bytes,
        Err(message) => {
            let faults = vec![FileFault {
                file: file.to_owned(),
                position: None,
                message: message.to_owned(),
            }];
            return Reading {
                plugin: None,
                name_at: Position::START,
                mount_at: Position::START,
                claims: Vec::new(),
                faults,
            };
        }
    };
    let mut faults = Vec::new();
    let root = json::parse(bytes, &mut faults);
    let is_plain_tree = faults.is_empty();
    let plugin = root
        .as_ref()
        .and_then(|root| Plugin::read(root, rules, &mut faults))
        .filter(|_| faults.is_empty());
    let at = |pointer| {
        root.as_ref()
            .and_then(|root| root.find(pointer))
            .map_or(Position::START, |node| node.position)
    };
    let claims = match (&plugin, &root) {
        (Some(plugin), _) => vec![plugin.mount.clone()],
        // A tree with names that stand twice holds only the first of two mounts; the bare text
        // holds both.
        (None, Some(root)) if is_plain_tree => claim_of(root).into_iter().collect(),
        (None, _) => claims_in(&String::from_utf8_lossy(bytes)),
    };
    faults.sort_by_key(|fault| fault.position);
    Reading {
        plugin,
        name_at: at("/name"),
        mount_at: at("/mount"),
        claims,
        faults: faults.into_iter().map(fault).collect(),
    }
}

fn claim_of(root: &Node) -> Option<Mount> {
    Mount::parse(root.find("/mount")?.text()?).ok()
}

/// The values of everything that looks like `"mount": "…"`.
fn claims_in(text: &str) -> Vec<Mount> {
    let mut claims = Vec::new();
    for (at, key) in text.match_indices("\"mount\"") {
        let after = text.get(at + key.len()..).unwrap_or_default().trim_start();
        let Some(value) = after.strip_prefix(':').map(str::trim_start) else {
            continue;
        };
        let mut values = serde_json::Deserializer::from_str(value).into_iter::<String>();
        if let Some(Ok(value)) = values.next()
            && let Ok(mount) = Mount::parse(&value)
            && !claims.contains(&mount)
        {
            claims.push(mount);
        }
        if claims.len() == CLAIMS_MAX {
            break;
        }
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "{\"name\": \"a\", \"version\": \"1\", \"mount\": \"/a/\",\n\"upstream\": \"https://a:1\", \"auth_mode\": \"public\"}";

    fn rules() -> Rules {
        Rules {
            trust_domain: "a".parse().unwrap(),
            signing: crate::registry::Signing::Off,
            max_body: None,
        }
    }

    fn claims(text: &str) -> Vec<String> {
        let reading = read("a.json", Ok(text.as_bytes()), &rules());
        assert_eq!(reading.plugin.is_none(), !reading.faults.is_empty());
        reading.claims.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_file_is_a_plugin_and_claims_its_mount() {
        let reading = read("a.json", Ok(GOOD.as_bytes()), &rules());
        assert!(reading.plugin.is_some() && reading.faults.is_empty());
        assert_eq!(claims(GOOD), ["/a"]);
        assert_eq!(
            (reading.name_at.to_string(), reading.mount_at.to_string()),
            ("1:10".to_owned(), "1:40".to_owned())
        );
    }

    #[test]
    fn a_faulty_file_still_claims_its_mount() {
        assert_eq!(claims(&GOOD.replace("\"1\"", "1")), ["/a"]);
        assert_eq!(claims(&GOOD.replace("\"1\",", "\"1\"")), ["/a"]);
        assert_eq!(claims(&GOOD.replace('}', "")), ["/a"]);
        assert_eq!(
            claims(&GOOD.replace("public\"", "public\", \"mount\" : \"/b\"")),
            ["/a", "/b"]
        );
        assert_eq!(claims("{\"mount\": \"/a"), [""; 0]);
        assert_eq!(claims("{\"mount\": \"/../a\"}"), [""; 0]);
        assert_eq!(claims(""), [""; 0]);
    }

    #[test]
    fn faults_carry_the_files_name_and_stand_in_its_order() {
        let text = GOOD.replace("\"1\"", "1").replace("https://a:1", "a");
        let reading = read("a.json", Ok(text.as_bytes()), &rules());
        let said: Vec<String> = reading.faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            said[0],
            "a.json:1:26: \"version\" must be a string, found a number"
        );
        assert!(
            said[1].starts_with("a.json:2:13: \"upstream\" must begin with"),
            "{said:?}"
        );
        let unread = read("a.json", Err("can't be read: denied"), &rules());
        assert_eq!(
            unread.faults[0].to_string(),
            "a.json: can't be read: denied"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), cut in 0..GOOD.len(), put in ".{0,3}") {
            let _ = read("a.json", Ok(&bytes), &rules());
            let broken = format!("{}{put}{}", &GOOD[..cut], &GOOD[cut..]);
            let reading = read("a.json", Ok(broken.as_bytes()), &rules());
            prop_assert_eq!(reading.plugin.is_some(), reading.faults.is_empty());
        }
    }
}
