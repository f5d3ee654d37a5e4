use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gapura_files::mesh_dir::generations;

use super::*;
use crate::disk::Operation;
use crate::held_dir::HeldDir;
use crate::keys;
use crate::pem;
use crate::store::UNFINISHED;
use crate::tests::faults::Plan;

/// The user whose folder it is while we are root.
const OTHER: u32 = 65_534;

fn content() -> Content {
    let key = keys::generate().unwrap();
    let certificate = rcgen::CertificateParams::default()
        .self_signed(&key)
        .unwrap();
    Content {
        ca: certificate.pem(),
        crl: pem::encode("X509 CRL", b"a list"),
        cert: certificate.pem(),
        key: Some(Zeroizing::new(key.serialize_pem().into_bytes())),
    }
}

fn publish(dir: &Path, content: &Content) -> Result<u64, Error> {
    Ok(stage(dir, content, Durability::Now)?.publish()?)
}

fn held(dir: &Path) -> HeldDir {
    held_dir::open(dir).unwrap().unwrap()
}

/// Says why nothing is proved, where the tests are not run by root.
#[allow(clippy::print_stderr, reason = "what is not tested is said")]
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: this needs root, to act as two users");
    }
    root
}

/// A mesh directory that belongs to another user, with one generation in it.
fn of_another() -> (tempfile::TempDir, std::path::PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let dir = scratch.path().join("lab");
    fs::create_dir(&dir).unwrap();
    chown(&dir, Some(OTHER), Some(OTHER)).unwrap();
    publish(&dir, &content()).unwrap();
    (scratch, dir)
}

/// Runs a line of shell as that user.
fn as_other(line: &str) {
    let status = Command::new("sh")
        .args(["-c", line])
        .uid(OTHER)
        .gid(OTHER)
        .current_dir("/")
        .status()
        .unwrap();
    assert!(status.success(), "{line}");
}

#[test]
fn stable_names_lead_to_the_newest_generation_and_old_ones_go() {
    let dir = tempfile::tempdir().unwrap();
    for number in 1..=5 {
        let content = content();
        assert_eq!(publish(dir.path(), &content).unwrap(), number);
        let key = fs::read(dir.path().join("key.pem")).unwrap();
        assert_eq!(key, **content.key.as_ref().unwrap());
        let shown = current(dir.path()).unwrap().unwrap();
        assert_eq!(
            (shown.generation, shown.print()),
            (Some(number), content.print())
        );
        assert_eq!(shown.key_mode, Some(0o100_600 & 0o7777));
    }
    assert_eq!(generations(&held(dir.path())).unwrap(), [3, 4, 5]);
}

#[test]
fn what_is_staged_and_dropped_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let first = content();
    publish(dir.path(), &first).unwrap();
    drop(stage(dir.path(), &content(), Durability::Later).unwrap());
    let names = held(dir.path()).names().unwrap();
    assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
    let key = fs::read(dir.path().join("key.pem")).unwrap();
    assert_eq!(key, **first.key.as_ref().unwrap());
}

#[test]
fn plain_files_of_another_tool_are_read_by_the_same_rules_and_give_way() {
    let dir = tempfile::tempdir().unwrap();
    let old = content();
    let put = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    put("cert.pem", old.cert.as_bytes());
    put("ca.pem", old.ca.as_bytes());
    put("crl.pem", old.crl.as_bytes());
    put("key.pem", old.key.as_ref().unwrap());
    let shown = current(dir.path()).unwrap().unwrap();
    assert!(shown.key.is_some() && shown.generation.is_none());

    fs::rename(dir.path().join("cert.pem"), dir.path().join("elsewhere")).unwrap();
    symlink("elsewhere", dir.path().join("cert.pem")).unwrap();
    let told = current(dir.path()).err().unwrap().to_string();
    assert!(told.contains("a link"), "{told}");

    let new = content();
    publish(dir.path(), &new).unwrap();
    assert_eq!(
        fs::read_to_string(dir.path().join("cert.pem")).unwrap(),
        new.cert
    );
    assert!(fs::read_link(dir.path().join("key.pem")).is_ok());
}

#[test]
fn a_key_of_another_certificate_is_never_taken() {
    let dir = tempfile::tempdir().unwrap();
    publish(dir.path(), &content()).unwrap();
    let key = dir.path().join("current/key.pem");
    fs::write(&key, content().key.unwrap().as_slice()).unwrap();
    let shown = current(dir.path()).unwrap().unwrap();
    assert!(shown.key.is_none() && shown.has_wrong_key());
    assert!(current_key(dir.path()).is_err());
}

#[test]
fn current_leads_to_a_generation_beside_it_and_nowhere_else() {
    let scratch = tempfile::tempdir().unwrap();
    let (mine, other) = (scratch.path().join("mine"), scratch.path().join("other"));
    publish(&mine, &content()).unwrap();
    publish(&other, &content()).unwrap();
    let current_link = mine.join("current");
    for target in [
        "../other/current",
        "../other/gen-000001",
        "gen-1",
        "gen-000001/",
        ".",
    ] {
        fs::remove_file(&current_link).unwrap();
        symlink(target, &current_link).unwrap();
        let told = current(&mine).err().unwrap().to_string();
        assert!(told.contains("it leads to"), "{target}: {told}");
    }
    // Nor a generation that is itself a link.
    fs::remove_file(&current_link).unwrap();
    symlink("gen-000002", &current_link).unwrap();
    symlink("../other/gen-000001", mine.join("gen-000002")).unwrap();
    assert!(current(&mine).is_err());
    fs::remove_file(mine.join("gen-000002")).unwrap();
    fs::remove_file(&current_link).unwrap();
    symlink("gen-000001", &current_link).unwrap();
    assert!(current(&mine).unwrap().is_some());
}

#[test]
fn a_mount_of_kubernetes_is_read_and_leads_nowhere_else() {
    let scratch = tempfile::tempdir().unwrap();
    let (mount, content) = (scratch.path().join("mount"), content());
    let data = mount.join("..2026_01_01");
    fs::create_dir_all(&data).unwrap();
    for (name, text) in [
        ("cert.pem", &content.cert),
        ("ca.pem", &content.ca),
        ("crl.pem", &content.crl),
    ] {
        fs::write(data.join(name), text).unwrap();
        symlink(format!("..data/{name}"), mount.join(name)).unwrap();
    }
    fs::write(
        data.join("key.pem"),
        content.key.as_ref().unwrap().as_slice(),
    )
    .unwrap();
    symlink("..2026_01_01", mount.join("..data")).unwrap();
    assert_eq!(current(&mount).unwrap().unwrap().print(), content.print());
    publish(&scratch.path().join("other"), &content).unwrap();
    for target in ["../other/gen-000001", "..", "..2026/../../other"] {
        fs::remove_file(mount.join("..data")).unwrap();
        symlink(target, mount.join("..data")).unwrap();
        assert!(current(&mount).is_err(), "{target}");
    }
}

#[test]
fn a_fifo_in_the_place_of_a_file_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    publish(dir.path(), &content()).unwrap();
    for name in ["key.pem", "crl.pem", "cert.pem"] {
        let path = dir.path().join("current").join(name);
        fs::remove_file(&path).unwrap();
        assert!(
            Command::new("mkfifo")
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
        let began = Instant::now();
        let told = current(dir.path()).err().unwrap().to_string();
        assert!(told.contains("not a regular file"), "{told}");
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn what_is_written_for_another_user_is_theirs_and_theirs_alone() {
    if !is_root() {
        return;
    }
    let (_scratch, dir) = of_another();
    for name in ["current/key.pem", "current/cert.pem", "current"] {
        assert_eq!(fs::metadata(dir.join(name)).unwrap().uid(), OTHER, "{name}");
    }
    as_other(&format!("cat {}/key.pem > /dev/null", dir.display()));
    assert!(current(&dir).unwrap().unwrap().key.is_some());
}

#[test]
fn links_that_the_owner_put_there_give_nothing_of_roots_away() {
    if !is_root() {
        return;
    }
    let (scratch, dir) = of_another();
    let secret = scratch.path().join("secret");
    fs::write(&secret, content().key.unwrap().as_slice()).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let (text, dir_text) = (secret.display(), dir.display());
    as_other(&format!("ln -sf {text} {dir_text}/current/key.pem"));
    let told = current(&dir).err().unwrap().to_string();
    assert!(told.contains("a link"), "{told}");
    // A file that neither root nor the owner wrote is not read either.
    as_other(&format!("rm {dir_text}/current/key.pem"));
    let planted = dir.join("current/key.pem");
    fs::write(&planted, b"x").unwrap();
    chown(&planted, Some(OTHER - 1), None).unwrap();
    let told = current(&dir).err().unwrap().to_string();
    assert!(told.contains("neither of root nor"), "{told}");
    // Writing anew heals it, and the secret is still root's.
    publish(&dir, &content()).unwrap();
    assert!(current(&dir).unwrap().unwrap().key.is_some());
    let found = fs::metadata(&secret).unwrap();
    assert_eq!((found.uid(), found.mode() & 0o777), (0, 0o600));
}

#[test]
fn a_link_on_the_way_is_followed_only_where_root_put_it() {
    if !is_root() {
        return;
    }
    let (scratch, dir) = of_another();
    let way = scratch.path().join("way");
    symlink(scratch.path(), &way).unwrap();
    assert!(current(&way.join("lab")).unwrap().is_some());
    lchown(&way, Some(OTHER), Some(OTHER)).unwrap();
    let told = current(&way.join("lab")).err().unwrap().to_string();
    assert!(
        told.contains("leads over") && told.contains("65534"),
        "{told}"
    );
    // Nor in a folder of theirs, whoever owns the link.
    let inner = dir.join("inner");
    symlink(scratch.path(), &inner).unwrap();
    assert!(current(&inner.join("lab")).is_err());
}

/// The owner waits for the moment before root gives the new files away, and exchanges the folder
/// they are in.
#[test]
fn an_exchanged_folder_gets_its_owner_nothing() {
    if !is_root() {
        return;
    }
    for moment in [Operation::Owner, Operation::Rename, Operation::Create] {
        let (scratch, dir) = of_another();
        let victim = scratch.path().join("victim");
        fs::create_dir(&victim).unwrap();
        for name in ["key.pem", "cert.pem", "ca.pem", "crl.pem"] {
            fs::write(victim.join(name), "root's").unwrap();
        }
        let done = AtomicBool::new(false);
        let (folder, target) = (dir.clone(), victim.clone());
        let plan = Plan::pausing(&dir, move |change, _| {
            let staged = fs::read_dir(&folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .find(|name| name.starts_with(UNFINISHED));
            let Some(staged) = staged.filter(|_| change == moment) else {
                return;
            };
            if !done.swap(true, Ordering::SeqCst) {
                let folder = folder.display();
                as_other(&format!(
                    "cd {folder} && mv {staged} taken && ln -s {} {staged}",
                    target.display()
                ));
            }
        });
        let result = publish(&dir, &content());
        drop(plan);
        // Whatever became of the directory, which is theirs: nothing of root's changed hands.
        for entry in fs::read_dir(&victim).unwrap() {
            let found = entry.unwrap().metadata().unwrap();
            assert_eq!(found.uid(), 0, "{moment:?}");
        }
        assert_eq!(fs::metadata(&victim).unwrap().uid(), 0, "{moment:?}");
        assert!(
            result.is_err(),
            "{moment:?}: it says that something is wrong"
        );
        fs::remove_dir_all(dir.join("taken")).unwrap();
        fs::remove_file(dir.join("current")).ok();
        publish(&dir, &content()).unwrap();
    }
}
