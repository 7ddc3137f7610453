//! Starts the storage servers that tests of adapters run against, on ports of their own.
//!
//! The servers are looked for on the PATH and where `ci/servers` puts them; nothing is installed here.

#![allow(dead_code, reason = "each test file uses some of it")]

pub(crate) mod gcs;
pub(crate) mod wire;

use std::env;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const START_MAX: Duration = Duration::from_secs(240);

/// A server of this test's own. Ends with the test.
pub(crate) struct Server {
    process: Child,
    pub(crate) port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The path of a server's program.
fn find(program: &str) -> PathBuf {
    let installed = [
        env::var_os("FOREBAY_TEST_VENV").map(|dir| PathBuf::from(dir).join("bin")),
        env::var_os("FOREBAY_TEST_NODE").map(|dir| PathBuf::from(dir).join(".bin")),
    ];
    let on_path =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let dirs = installed.into_iter().flatten().chain(on_path);
    let found = dirs.map(|dir| dir.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{program} is not installed: run `eval \"$(ci/servers)\"` and try again"))
}

/// A port that nothing listens at. None of those that the kernel gives: on a busy machine it would give the same one to
/// whoever connects to something else meanwhile.
fn free_port() -> u16 {
    let any = || 10_000 + (RandomState::new().build_hasher().finish() % 20_000) as u16;
    let mut ports = std::iter::repeat_with(any);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("it goes on for ever")
}

fn start(mut command: Command, port: u16) -> Server {
    let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut server = Server { process: process.unwrap_or_else(|e| panic!("{command:?}: {e}")), port };
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < START_MAX, "{command:?} does not listen after {START_MAX:?}");
        if let Some(status) = server.process.try_wait().unwrap() {
            panic!("{command:?} ended: {status}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    server
}

/// S3 by moto. With `checked_after`, signatures are checked after so many requests.
pub(crate) fn moto(checked_after: Option<u32>) -> Server {
    let port = free_port();
    let mut command = Command::new(find("moto_server"));
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    if let Some(count) = checked_after {
        command.env("INITIAL_NO_AUTH_ACTION_COUNT", count.to_string());
    }
    start(command, port)
}

/// Azure Blob Storage by Azurite, in memory.
pub(crate) fn azurite() -> Server {
    let port = free_port();
    let mut command = Command::new(find("azurite-blob"));
    let dir = env::temp_dir();
    command.current_dir(dir).args([
        "--silent",
        "--disableTelemetry",
        "--inMemoryPersistence",
        "--skipApiVersionCheck",
    ]);
    command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
    start(command, port)
}

/// One plain HTTP request; returns the answer whole. Good enough to set a server up.
pub(crate) fn http(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
