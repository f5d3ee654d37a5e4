//! Gives memory that nobody uses back to the system.
//!
//! The C library's allocator keeps what was freed: after a crowd of 1,500 clients has gone, 17 MiB
//! stay resident of which 14 are free, and no setting of it changes that. It gives them back when
//! it is asked. Knows nothing of ours. This is the one place with `unsafe`: a single call, without
//! pointers, of a function that any thread may call at any time.

/// Whether the allocator of this build can be asked.
pub const GIVES_BACK: bool = cfg!(all(target_os = "linux", target_env = "gnu"));

/// Gives back each whole page that is free, of all threads. It takes milliseconds at most, for
/// which a thread that allocates may wait: seldom, and not on a worker.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: malloc_trim(3) takes a number, gives a number, touches no memory that is in use, and
    // is MT-safe.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages that are resident and nobody's file (proc_pid_statm(5)).
    fn anonymous_pages() -> u64 {
        let all = std::fs::read_to_string("/proc/self/statm").unwrap();
        let mut numbers = all.split(' ').map(|number| number.parse::<u64>().unwrap());
        let (resident, shared) = (numbers.nth(1).unwrap(), numbers.next().unwrap());
        resident - shared
    }

    #[test]
    fn what_is_free_between_what_is_used_goes_back_to_the_system() {
        if !GIVES_BACK {
            println!("not tried: this allocator can't be asked");
            return;
        }
        let used = |count: usize| (0..count).map(|_| vec![1_u8; 8 * 1024]).collect::<Vec<_>>();
        let mut all = used(8 * 1024); // 64 MiB
        let mut at = 0;
        // Each sixteenth stays, so that no end of the heap is free.
        all.retain(|_| {
            at += 1;
            at % 16 == 0
        });
        let before = anonymous_pages();
        give_back();
        let after = anonymous_pages();
        assert!(after * 3 < before, "{before} pages, then {after}");
        assert!(all.iter().all(|one| one[8191] == 1));
    }
}
