//! How much memory the system lets this program have, and giving back what it does not use.
//!
//! In: what the kernel says of the program's control group and those above it. Out: the least of
//! their limits, or none where there is none, or nothing can be read: then there is no sum to keep
//! to. And now and then what was freed goes back, so that the next program of this host, or of its
//! control group, can have it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

/// How often what is free goes back: what a crowd took is gone within that of its end.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(10);

/// Gives back what the calling thread does not use, for ever: no other can do it for a worker, nor
/// for the control thread.
pub(crate) async fn give_back() {
    loop {
        sleep(GIVE_BACK_EVERY).await;
        gapura_allocator::give_back();
    }
}

/// Where control groups are seen.
const ROOT: &str = "/sys/fs/cgroup";

/// The limit in bytes.
#[must_use]
pub(crate) fn limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    limits(&groups, Path::new(ROOT)).into_iter().min()
}

/// The limits of all groups that `groups` names, in the form of `/proc/self/cgroup`, and of those
/// above them.
fn limits(groups: &str, root: &Path) -> Vec<u64> {
    let read = |file: PathBuf| std::fs::read_to_string(file).ok()?.trim().parse().ok();
    files(groups, root).into_iter().filter_map(read).collect()
}

fn files(groups: &str, root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = if controllers.is_empty() {
            (root.to_owned(), "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        let group = Path::new(path.trim_start_matches('/'));
        files.extend(group.ancestors().map(|above| root.join(above).join(file)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("a/b/memory.max", "max\n");
        put("a/memory.max", "268435456\n");
        put("memory/c/memory.limit_in_bytes", "1000\n");
        let least = |groups: &str| limits(groups, dir.path()).into_iter().min();
        assert_eq!(least("0::/a/b\n"), Some(268_435_456));
        assert_eq!(least("0::/\n"), None);
        assert_eq!(least("5:cpu,memory:/c\n4:pids:/c\n"), Some(1000));
        for nonsense in ["", "x", "0:", "0::/../../etc", "::\n:::"] {
            assert_eq!(least(nonsense), None, "{nonsense:?}");
        }
    }
}
