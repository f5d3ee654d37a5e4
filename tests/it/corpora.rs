//! What fuzzing has found or begun with is held for good: each kept input, and inputs near it, once
//! more as plain tests.

use std::fs;
use std::path::Path;

use gapura_hostile::TARGETS;

/// The kept inputs of one target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/seeds")
        .join(target);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| fs::read(path).unwrap())
        .collect()
}

#[test]
fn each_kept_input_holds_what_its_parser_promises() {
    for (target, check) in TARGETS {
        let kept = seeds(target);
        assert!(!kept.is_empty(), "fuzz/seeds/{target} is empty");
        for input in kept {
            check(&input);
        }
    }
}

#[test]
fn so_does_each_kept_input_cut_short_and_with_each_byte_changed() {
    for (target, check) in TARGETS {
        for input in seeds(target) {
            // A large input is cut and changed at every place of its first part only: the aim is
            // seconds, not hours.
            for place in 0..input.len().min(512) {
                check(&input[..place]);
                let mut changed = input.clone();
                for byte in [0, b'\n', b'"', 0xff, input[place].wrapping_add(1)] {
                    changed[place] = byte;
                    check(&changed);
                }
            }
        }
    }
}

#[test]
fn each_target_has_its_seeds_and_each_seed_its_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let names = |folder: &str| {
        let mut names: Vec<String> = fs::read_dir(root.join(folder))
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        names.sort();
        names
    };
    let known: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names("seeds"), known);
    assert_eq!(names("fuzz_targets"), known);
}
