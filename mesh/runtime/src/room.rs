//! How much there is room for: the sums that follow from the limits of files and memory that the
//! system sets.
//!
//! In: those limits as they are at the start. Out: how many connections there may be and how many
//! bytes streams may hold, for `--check` to show and for the program to keep to. Where the system
//! sets none, what one program on a usual host needs at most.

use crate::memory;

/// What there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Files that may be open; each connection is one.
    pub files: u64,
    /// Bytes of memory, where they are limited.
    pub memory: Option<u64>,
    /// Connections that are accepted at a time.
    pub connections: usize,
    /// Bytes that the streams of HTTP/2 may hold, all together.
    pub held: usize,
}

/// Connections whatever there is.
const CONNECTIONS_MOST: u64 = 20_000;

/// What an idle connection over TLS costs.
const CONNECTION: u64 = 20 * 1024;

/// Streams may hold so much whatever there is.
const HELD_MOST: u64 = 32 * 1024 * 1024;

/// Files that are no connections: the log, listeners, what is watched and reloaded.
const OTHER_FILES: u64 = 64;

/// What older kernels say where there is no limit: the largest number of whole pages.
const UNLIMITED: u64 = 1 << 62;

/// Fewer than this are no service.
const LEAST: u64 = 16;

impl Room {
    /// By the limits of this process, once it has raised that of files as far as it may.
    #[must_use]
    pub fn found() -> Self {
        let files = rlimit::getrlimit(rlimit::Resource::NOFILE);
        Self::of(files.map_or(1024, |(_, hard)| hard), memory::limit())
    }

    /// By so many files and so much memory: of that idle connections may fill a half and streams an
    /// eighth, so that a half and more is left for what is under way when both have all of theirs.
    #[must_use]
    pub fn of(files: u64, memory: Option<u64>) -> Self {
        // A client's upload may have a connection to its plugin for itself.
        let by_files = files.saturating_sub(OTHER_FILES) / 2;
        let by_memory = memory.map_or(u64::MAX, |memory| memory / 2 / CONNECTION);
        let held = memory.map_or(HELD_MOST, |memory| (memory / 8).min(HELD_MOST));
        let connections = CONNECTIONS_MOST.min(by_files).min(by_memory).max(LEAST);
        Self {
            files,
            memory,
            connections: usize::try_from(connections).unwrap_or(usize::MAX),
            held: usize::try_from(held).unwrap_or(usize::MAX),
        }
    }

    /// The sums in words, a line each: what there is, and what follows (`docs/limits.md` tells what
    /// happens at each).
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mib = |bytes: u64| format!("{} MiB", bytes / (1024 * 1024));
        let memory = self.memory.filter(|bytes| *bytes < UNLIMITED);
        let memory = memory.map_or("no limit".to_owned(), mib);
        let rows = [
            ("files that may be open", self.files.to_string()),
            ("memory", memory),
            ("connections at a time", self.connections.to_string()),
            ("held by streams of HTTP/2", mib(self.held as u64)),
        ];
        rows.map(|(what, value)| format!("limit: {what:<26} {value}"))
            .into()
    }

    /// What one address may have of the connections, unless the operator says otherwise.
    #[must_use]
    pub fn per_address(&self) -> usize {
        (self.connections / 8).max(1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn the_number_of_connections_follows_from_files_and_memory() {
        for (files, memory, connections) in [
            (1 << 20, None, 20_000),
            (1024, None, 480),
            (256, None, 96),
            (10, None, 16),
            (1 << 20, Some(256 * MIB), 6553),
            (1 << 20, Some(64 * MIB), 1638),
            (1024, Some(64 * MIB), 480),
            (u64::MAX, Some(u64::MAX), 20_000),
            (1 << 20, Some(0), 16),
        ] {
            assert_eq!(
                Room::of(files, memory).connections,
                connections,
                "{files} {memory:?}"
            );
        }
    }

    #[test]
    fn all_of_it_together_fits() {
        for memory in [64 * MIB, 128 * MIB, 256 * MIB, 4096 * MIB] {
            let room = Room::of(1 << 20, Some(memory));
            let idle = room.connections as u64 * CONNECTION;
            assert!(idle + room.held as u64 <= memory / 8 * 5, "{memory}");
        }
    }

    #[test]
    fn the_sums_are_told() {
        let lines = Room::of(65_536, Some(256 * MIB)).lines().join("\n");
        for wanted in ["65536", "256 MiB", "6553", "32 MiB"] {
            assert!(lines.contains(wanted), "{lines}");
        }
        let lines = Room::of(65_536, Some(u64::MAX / 2)).lines().join("\n");
        assert!(
            lines.contains("no limit") && lines.contains("20000"),
            "{lines}"
        );
    }

    #[test]
    fn an_address_has_an_eighth_and_never_next_to_nothing() {
        assert_eq!(Room::of(1 << 20, None).per_address(), 2500);
        assert_eq!(Room::of(1024, None).per_address(), 1024);
    }
}
