//! Follows the file of the deny list.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gapura_files::directory::{hash, stamp_of};
use gapura_files::file;
use gapura_reload::asked::Asked;
use gapura_reload::watch::{FileWatch, Follower, Reading, Why, blocking};
use gapura_telemetry::alarms::{Alarm, Alarms};
use gapura_telemetry::log::Level;

use super::followed::{Common, Followed, PACE, raise};
use crate::registry::{Bounds, keep_files};
use crate::standing::deny::DenyList;

pub(super) struct DenyWatch {
    pub(super) common: Common,
    pub(super) followed: FollowedDeny,
}

/// What is known of the deny list: its text is what is copied.
pub(super) type FollowedDeny = Followed<Arc<[u8]>>;

/// What stands in the file of the deny list.
type Text = Result<Arc<[u8]>, String>;

/// A hundred thousand entries and more.
const DENY_MAX: u64 = 16 << 20;

/// The copy of the deny list is a folder of one file.
const ONE: Bounds = Bounds {
    files: 4096,
    mebibytes: 16,
    what: "the copy of the deny list",
};
const COPY_OF_DENY: &str = "deny.json";

/// Reads the deny list for the first time.
pub(super) fn open(
    file: &Path,
    copy: Option<PathBuf>,
    alarms: &Alarms,
) -> Result<(FollowedDeny, DenyList), Vec<String>> {
    let stamp = stamp_of([file.to_owned()].into_iter());
    let Reading { content, digest } = read_deny(file);
    let followed = |good| Followed {
        path: file.to_owned(),
        copy: copy.clone(),
        seen: (stamp.clone(), digest),
        good,
        copied: false,
    };
    let faults = match judge(file, &content) {
        Ok((list, text)) => return Ok((followed(text), list)),
        Err(faults) => faults,
    };
    let kept = copy
        .as_ref()
        .and_then(|copy| judge(file, &read_text(&copy.join(COPY_OF_DENY))).ok());
    let Some((list, text)) = kept else {
        return Err(faults
            .into_iter()
            .map(|fault| format!("--deny {fault}"))
            .collect());
    };
    let what = "the deny list is faulty, the last good copy is in force";
    raise(alarms, Alarm::Deny, what, &faults);
    Ok((followed(text), list))
}

impl DenyWatch {
    pub(super) async fn run(self, asked: Asked) {
        let (looked_at, file) = (self.followed.path.clone(), self.followed.path.clone());
        let watch = FileWatch::new(
            PACE,
            self.followed.seen.clone(),
            move || stamp_of([looked_at.clone()].into_iter()),
            move || read_deny(&file),
        );
        watch.run(self, asked).await;
    }
}

impl Follower<Text> for DenyWatch {
    async fn take(&mut self, text: Text, why: Why) {
        if why == Why::Unchanged {
            return;
        }
        let Common {
            standing,
            log,
            alarms,
        } = &self.common;
        let file = self.followed.path.clone();
        match blocking(move || judge(&file, &text)).await {
            None => {}
            Some(Ok((list, text))) => {
                alarms.clear(Alarm::Deny);
                if text == self.followed.good {
                    return;
                }
                (self.followed.good, self.followed.copied) = (text, false);
                log.event(Level::Info, "deny_list", "a new deny list is in force", &[]);
                if let Some(slot) = &standing.0.deny {
                    slot.store(Arc::new(list));
                }
                self.common.changed();
            }
            Some(Err(faults)) => {
                let what = "the deny list is faulty, the last good one stays in force";
                raise(alarms, Alarm::Deny, what, &faults);
            }
        }
    }

    async fn looked(&mut self) {
        let keep = |folder: &Path, text: &Arc<[u8]>| {
            keep_files(folder, [(COPY_OF_DENY, &**text)].into_iter(), &ONE)
        };
        self.followed.keep_copy(&self.common.alarms, keep).await;
    }
}

fn read_deny(file: &Path) -> Reading<Text> {
    let content = read_text(file);
    let digest = match &content {
        Ok(text) => hash([&**text]),
        Err(why) => hash([why.as_bytes(), b"not read"]),
    };
    Reading { content, digest }
}

/// The file's text, or why there is none.
fn read_text(path: &Path) -> Text {
    let read = file::read(path, DENY_MAX);
    read.map(|(text, _)| text.into())
        .map_err(|error| format!("can't be read: {error}"))
}

/// The list that a text is, or every fault with the file's name.
fn judge(file: &Path, text: &Text) -> Result<(DenyList, Arc<[u8]>), Vec<String>> {
    let file = file.display();
    match text {
        Err(message) => Err(vec![format!("{file}: {message}")]),
        Ok(text) => match DenyList::read(text) {
            Ok(list) => Ok((list, text.clone())),
            Err(faults) => Err(faults
                .iter()
                .map(|fault| format!("{file}:{fault}"))
                .collect()),
        },
    }
}
