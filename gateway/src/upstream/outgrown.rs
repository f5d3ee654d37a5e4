//! An upload that says no length and proves large only once it is under way.
//!
//! In: the connection that it shares with others, and its bytes as they go. Out: as soon as it is
//! bulk, the connection is its own, since nothing else begins there any more: what has begun cannot
//! move, so that all that comes next does. It counts among those that have a connection to
//! themselves; where there are as many of these as may be, it shares as before.

use std::sync::Arc;

use gapura_http2::client::Handle;
use gapura_transport::body::Attachment;
use gapura_transport::timers::Timers;

use super::cluster::{Alone, Cluster};

/// Goes with the upload's body.
pub(super) struct Outgrown {
    /// Bytes until it is bulk.
    left: u64,
    cluster: Arc<Cluster>,
    connection: Handle<Timers>,
    /// Its leave, once it has its connection to itself.
    leave: Option<Alone>,
}

/// As much as makes an upload bulk that says how long it is.
const BULK: u64 = 1024 * 1024;

impl Outgrown {
    pub(super) fn new(cluster: &Arc<Cluster>, connection: Handle<Timers>) -> Self {
        Self {
            left: BULK,
            cluster: cluster.clone(),
            connection,
            leave: None,
        }
    }
}

impl Attachment for Outgrown {
    fn bytes(&mut self, count: u64) {
        if self.left == 0 {
            return;
        }
        self.left = self.left.saturating_sub(count);
        if self.left == 0 {
            self.leave = self.cluster.alone();
            if self.leave.is_some() {
                self.connection.retire();
            }
        }
    }
}
