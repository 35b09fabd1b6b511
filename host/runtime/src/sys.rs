//! The calls of the system's library that no dependency wraps, and all `unsafe` of the crate but one line (see
//! `cache`).

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

/// Gives freed memory back to the system: a compiler leaves more than a hundred megabytes behind, which glibc would
/// keep.
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

/// A limit of this process and its value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ProcessLimit {
    /// Address space in bytes.
    AddressSpace(u64),
    /// CPU time in seconds.
    Cpu(u64),
    /// The largest file in bytes.
    File(u64),
    /// The largest memory dump in bytes.
    Core(u64),
}

/// Sets a limit that cannot be lifted again.
#[expect(unsafe_code, reason = "setrlimit reads a struct that lives on this stack")]
pub(crate) fn limit_process(limit: ProcessLimit) -> std::io::Result<()> {
    let (resource, value) = match limit {
        ProcessLimit::AddressSpace(bytes) => (libc::RLIMIT_AS, bytes),
        ProcessLimit::Cpu(seconds) => (libc::RLIMIT_CPU, seconds),
        ProcessLimit::File(bytes) => (libc::RLIMIT_FSIZE, bytes),
        ProcessLimit::Core(bytes) => (libc::RLIMIT_CORE, bytes),
    };
    let both = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the pointer is valid for the call.
    if unsafe { libc::setrlimit(resource, &raw const both) } == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Makes this process give way to others. Best effort.
#[expect(unsafe_code, reason = "setpriority takes plain numbers")]
pub(crate) fn lower_process_priority(nice: i32) {
    // SAFETY: no pointers; called while there is one thread, whose value all later ones inherit.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, nice);
    }
}
