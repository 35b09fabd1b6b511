//! What a guest can learn of the machine that it runs on.

use std::fs;
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use caisson_sdk::{Context, Failure};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct ReadClock {
    times: usize,
    /// Sleeps so long in between.
    sleep_ms: u64,
    /// Works so long in between: loops over arithmetic.
    rounds: u64,
}

impl Default for ReadClock {
    fn default() -> Self {
        Self { times: 2, sleep_ms: 0, rounds: 0 }
    }
}

/// What both clocks show, in microseconds: since 1970, and since the first look.
pub(crate) fn read_clock(_: &Context, input: ReadClock) -> Result<Value, Failure> {
    let start = Instant::now();
    let mut wall = Vec::new();
    let mut monotonic = Vec::new();
    for time in 0..input.times.min(10_000) {
        if time > 0 && input.sleep_ms > 0 {
            std::thread::sleep(Duration::from_millis(input.sleep_ms));
        }
        let worked = (0..input.rounds).fold(0_u64, |sum, round| std::hint::black_box(sum.wrapping_add(round)));
        std::hint::black_box(worked);
        wall.push(json!(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros()));
        monotonic.push(json!(start.elapsed().as_micros()));
    }
    Ok(json!({"wall": wall, "monotonic": monotonic}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadRandom {
    bytes: u64,
}

/// Random bytes in hexadecimal, from each of the sources.
pub(crate) fn read_random(_: &Context, input: ReadRandom) -> Result<Value, Failure> {
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let (a, b) = wasip2::random::insecure_seed::insecure_seed();
    Ok(json!({
        "secure": hex(wasip2::random::random::get_random_bytes(input.bytes)),
        "insecure": hex(wasip2::random::insecure::get_insecure_random_bytes(input.bytes)),
        "seed": format!("{a:016x}{b:016x}"),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EnvProbe {
    paths: Vec<String>,
    addresses: Vec<String>,
}

impl Default for EnvProbe {
    fn default() -> Self {
        let owned = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
        Self {
            paths: owned(&["/", ".", "..", "/etc/passwd", "/proc/self/environ", "/tmp", "~", "C:\\"]),
            addresses: owned(&["127.0.0.1:22", "169.254.169.254:80", "[::1]:80", "localhost:80"]),
        }
    }
}

/// Everything that could be seen, by kind; nothing but empty lists and `false` on a host that keeps its word.
pub(crate) fn env_probe(_: &Context, input: EnvProbe) -> Result<Value, Failure> {
    let paths =
        |open: &dyn Fn(&str) -> bool| -> Vec<&String> { input.paths.iter().filter(|path| open(path)).collect() };
    let addresses = |open: &dyn Fn(&str) -> bool| -> Vec<&String> {
        input.addresses.iter().filter(|address| open(address)).collect()
    };
    let written = |path: &str| fs::write(format!("{path}/caisson-probe"), "x").is_ok();
    Ok(json!({
        "args": std::env::args().collect::<Vec<_>>(),
        "vars": std::env::vars().collect::<Vec<_>>(),
        "directory": std::env::current_dir().ok().filter(|directory| fs::read_dir(directory).is_ok()),
        "preopens": wasip2::filesystem::preopens::get_directories().len(),
        "read": paths(&|path| fs::read(path).is_ok() || fs::read_dir(path).is_ok()),
        "metadata": paths(&|path| fs::metadata(path).is_ok()),
        "written": paths(&written),
        "connected": addresses(&|address| TcpStream::connect(address).is_ok()),
        "resolved": addresses(&|address| address.contains("localhost") && address.to_socket_addrs().is_ok()),
        "listening": TcpListener::bind("127.0.0.1:0").is_ok(),
        "udp": UdpSocket::bind("127.0.0.1:0").is_ok(),
        "process": Command::new("sh").arg("-c").arg("true").status().is_ok(),
        "thread": std::thread::Builder::new().spawn(|| {}).is_ok(),
        "terminal": std::io::IsTerminal::is_terminal(&std::io::stdout()),
        "stdin": std::io::read_to_string(std::io::stdin()).unwrap_or_default(),
    }))
}
