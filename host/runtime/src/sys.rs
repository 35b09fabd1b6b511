//! The three calls of the system's library that no dependency wraps, and all `unsafe` of the crate but one line (see `cache`).

/// CPU time of the calling thread in nanoseconds.
#[expect(unsafe_code, reason = "clock_gettime writes to a timespec that lives on this stack")]
pub(crate) fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid for the call, and the clock exists on every platform that the crate builds for.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    debug_assert_eq!(result, 0, "the thread clock exists");
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Makes the calling thread give way to the host's own. Best effort: guests are correct without it.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "setpriority takes plain numbers")]
pub(crate) fn lower_thread_priority(nice: i32) {
    // SAFETY: no pointers; on Linux 0 means the calling thread.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, nice);
    }
}

/// Elsewhere a nice value is the whole process's, which must not be lowered.
#[cfg(not(target_os = "linux"))]
pub(crate) fn lower_thread_priority(_: i32) {}

/// Gives freed memory back to the system: a compiler leaves more than a hundred megabytes behind, which glibc would keep.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "malloc_trim takes a plain number")]
pub(crate) fn release_memory() {
    // SAFETY: no pointers; it may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators give it back by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn release_memory() {}
