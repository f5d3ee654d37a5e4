//! docs/pki.md: every `sh` block, run in order as it stands, with the machine's folders moved into
//! a scratch directory.

use std::fs;
use std::path::Path;
use std::process::Command;

use gapura_tests::program::built;

#[test]
fn every_command_of_the_guide_works() {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pki.md")).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().to_str().unwrap();
    let mut script = String::from("set -eu\n");
    let (mut inside, mut commands) = (false, 0);
    for line in page.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => {
                commands += 1;
                let moved = ["/root/", "/etc/gapura", "/var/lib/gapura", "/media/usb"];
                script += &moved.iter().fold(line.to_owned(), |line, folder| {
                    line.replace(folder, &format!("{root}{folder}"))
                });
                script.push('\n');
            }
            _ => {}
        }
    }
    assert!(commands > 30, "the blocks were not found");
    for folder in ["root", "media/usb", "etc", "var/lib"] {
        fs::create_dir_all(scratch.path().join(folder)).unwrap();
    }
    let programs = built("gapura-pki");
    let path = format!(
        "{}:{}",
        programs.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let output = Command::new("sh")
        .arg("-xc")
        .arg(&script)
        .env("PATH", path)
        .current_dir(root)
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
}
