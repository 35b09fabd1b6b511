//! What a tool server does not learn of its host, although both run as the same user.

/// Hides this process's memory and variables from others of the same user: they cannot be read below `/proc`, nor can a debugger attach. The
/// system's administrator still can, and so can whoever may trace (`CAP_SYS_PTRACE`, `CAP_PERFMON`). The process leaves no memory dump.
/// What it starts is not hidden. Elsewhere than on Linux it does nothing.
pub fn hide_process() -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}
