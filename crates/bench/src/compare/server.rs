//! A server that the comparison starts and ends itself.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::pinning::Pinning;
use crate::baseline::LISTENING;
use crate::error::{BenchError, Doing};

/// How long a server may take until it is ready.
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of a failed server's output that are shown.
const SHOWN_SIZE: usize = 2000;

/// The Clarion under test and how to start it.
#[derive(Debug, Clone)]
pub(crate) struct Clarion {
    pub(crate) program: PathBuf,
    /// Arguments behind those of the comparison.
    pub(crate) arguments: Vec<String>,
    /// Environment: settings, as `NAME=VALUE`.
    pub(crate) settings: Vec<(String, String)>,
}

/// A child process that serves; it is ended, and its folder removed, when this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    folder: Option<PathBuf>,
}

impl Server {
    /// Starts `baseline-echo` or `baseline-fanout` of this very program.
    pub(crate) fn baseline(name: &str, pinning: &Pinning) -> Result<Self, BenchError> {
        let program = std::env::current_exe().doing(|| "finding this program".to_owned())?;
        let mut child = pinning
            .command(program.as_os_str(), 1)
            .args(words_before_compare(std::env::args_os().skip(1)))
            .arg(name)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .doing(|| format!("starting {name}"))?;
        let mut line = String::new();
        let read = match child.stdout.take() {
            Some(out) => BufReader::new(out).read_line(&mut line),
            None => Ok(0),
        };
        let address = read
            .ok()
            .and_then(|_| line.strip_prefix(LISTENING)?.trim().parse().ok())
            .ok_or_else(|| BenchError::Server(format!("{name} did not start: {line:?}")));
        // The guard first, so that a child that did not answer is ended, too.
        let mut server = Self { child, address: loopback(0), folder: None };
        server.address = address?;
        Ok(server)
    }

    /// Starts Clarion with memory and disk of its own, and waits until it is ready.
    pub(crate) fn clarion(
        clarion: &Clarion,
        workers: usize,
        pinning: &Pinning,
    ) -> Result<Self, BenchError> {
        let folder = new_folder()?;
        let address = free_address()?;
        let log = File::create(folder.join("log")).doing(|| "making a log file".to_owned())?;
        let log_too = log.try_clone().doing(|| "making a log file".to_owned())?;
        let child = pinning
            .command(clarion.program.as_os_str(), workers)
            .arg("serve")
            .args(["--listen", &address.to_string()])
            .args([OsStr::new("--data-dir"), folder.join("data").as_os_str()])
            .args(["--workers", &workers.to_string(), "--echo"])
            .args(&clarion.arguments)
            .envs(clarion.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .spawn()
            .doing(|| format!("starting {}", clarion.program.display()))?;
        let mut server = Self { child, address, folder: Some(folder) };
        server.await_ready()?;
        Ok(server)
    }

    /// The server's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn await_ready(&mut self) -> Result<(), BenchError> {
        let give_up = Instant::now() + START_TIMEOUT;
        loop {
            if is_ready(self.address) {
                return Ok(());
            }
            let ended = self.child.try_wait().doing(|| "waiting for the server".to_owned())?;
            if ended.is_some() || Instant::now() > give_up {
                let why = match ended {
                    Some(status) => format!("ended with {status}"),
                    None => format!("was not ready after {START_TIMEOUT:?}"),
                };
                return Err(BenchError::Server(format!("the server {why}; {}", self.last_words())));
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn last_words(&self) -> String {
        let log = self.folder.as_ref().map(|folder| folder.join("log"));
        let text = log.and_then(|log| std::fs::read(log).ok()).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(SHOWN_SIZE)..];
        format!("it said:\n{}", String::from_utf8_lossy(tail))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Killed and not asked: a drain of 10,000 sessions is not what is measured. An error means
        // that the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Whether `GET /readyz` is answered 200.
fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let request =
            format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        // In one piece: a server that answers the first of several and closes resets the others.
        stream.write_all(request.as_bytes())?;
        let mut head = [0; 64];
        let size = stream.read(&mut head)?;
        Ok(String::from_utf8_lossy(&head[..size]).into_owned())
    };
    ask().is_ok_and(|head| head.starts_with("HTTP/1.1 200"))
}

/// A port that was free a moment ago.
fn free_address() -> Result<SocketAddr, BenchError> {
    TcpListener::bind(loopback(0))
        .and_then(|listener| listener.local_addr())
        .doing(|| "looking for a free port".to_owned())
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A new folder for what is to be removed afterwards.
pub(crate) fn new_folder() -> Result<PathBuf, BenchError> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("clarion-bench-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir(&folder).doing(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// The words that lead to these commands: none for `clarion-bench compare`, `bench` for
/// `clarion bench compare`.
fn words_before_compare(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    arguments.take_while(|word| word != "compare").collect()
}

#[cfg(test)]
mod tests {
    use super::{is_ready, words_before_compare};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    fn one_answer(answer: &'static str) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut request = [0; 512];
            let size = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..size]).into_owned()
        });
        let ready = is_ready(address);
        assert!(server.join().unwrap().starts_with("GET /readyz HTTP/1.1\r\n"));
        ready
    }

    #[test]
    fn ready_is_200_and_nothing_else() {
        assert!(one_answer("HTTP/1.1 200 OK\r\n\r\n"));
        assert!(!one_answer("HTTP/1.1 503 Service Unavailable\r\n\r\n"));
        assert!(!one_answer(""));
    }

    #[test]
    fn baselines_are_started_like_the_comparison() {
        let words =
            |line: &str| words_before_compare(line.split(' ').map(Into::into)).join("+".as_ref());
        assert_eq!(words("compare --quick"), "");
        assert_eq!(words("bench compare --quick"), "bench");
    }
}
