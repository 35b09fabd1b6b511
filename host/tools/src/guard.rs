//! Who sees to it that a server, with all that it started, ends with the host, however the host ends.
//!
//! A server's direct child status ends with its parent by the kernel's word (`PR_SET_PDEATHSIG`), but what it started itself (`npx` starts a
//! shell, and that the server) would stay. So the host starts itself once more as a guard, leader of a process group of its own; the guard
//! starts the server in that group and waits for whichever ends first, host or server. Then it ends the whole group, itself included.
//!
//! Deliberately absent: processes that leave their group. Whoever declares a program that does so looks after it.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitCode};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, getppid, kill_process_group, pidfd_open};

use crate::process::die_with_parent;

/// The program is not there, as shells say it.
const EXIT_NOT_STARTED: u8 = 127;

/// What a guard does: `HOST_PID PROGRAM ARGS…`. Ends by the signal that it sends to its group.
pub fn guard_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let host = args.next().and_then(|pid| pid.to_str()?.parse().ok()).and_then(Pid::from_raw);
    let (Some(host), Some(program)) = (host, args.next()) else {
        eprintln!("a guard is started by a host and by nobody else");
        return ExitCode::from(EXIT_NOT_STARTED);
    };
    match watch(host, &program, args.collect()) {
        Ok(()) => {
            // Our own group, by its leader: ourselves too.
            let _ = kill_process_group(getpid(), Signal::KILL);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("failed to start '{}': {error}", program.display());
            ExitCode::from(EXIT_NOT_STARTED)
        }
    }
}

/// Returns when the host or the server has ended.
fn watch(host: Pid, program: &OsString, args: Vec<OsString>) -> std::io::Result<()> {
    let alive = pidfd_open(host, PidfdFlags::empty())?;
    // Looked at after the host's process is held: another one may have its number.
    if getppid() != Some(host) {
        return Ok(());
    }
    let mut command = Command::new(program);
    command.args(args);
    die_with_parent(&mut command);
    let child = command.spawn()?;
    let running = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    wait(&alive, &running)
}

fn wait(host: &OwnedFd, server: &OwnedFd) -> std::io::Result<()> {
    let mut ends = [PollFd::new(host, PollFlags::IN), PollFd::new(server, PollFlags::IN)];
    loop {
        match poll(&mut ends, None) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
