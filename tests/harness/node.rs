//! One server process: started, stopped in every way there is, and asked how it is.

use crate::binaries::{self, Binaries};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Where a node of a test listens and keeps its things.
#[derive(Debug)]
pub struct Node {
    /// Its id, from 1.
    pub id: u32,
    /// Its loopback address; every cluster has addresses of its own, so ports are fixed.
    pub ip: String,
    /// Configuration and log; `data` is within unless a test put it elsewhere.
    pub directory: PathBuf,
    /// The server's data directory.
    pub data: PathBuf,
    binaries: Binaries,
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

/// Ports are the same for every node.
pub const CLIENT_PORT: u16 = 7401;
/// Node to node.
pub const PEER_PORT: u16 = 7501;
/// Health and metrics.
pub const HTTP_PORT: u16 = 7601;

/// How often a condition is looked at while waiting for it.
pub const LOOK: Duration = Duration::from_millis(10);

impl Node {
    /// A node that does not run yet.
    pub fn new(id: u32, ip: String, directory: PathBuf) -> Self {
        let data = directory.join("data");
        let binaries = binaries::plain().clone();
        Self { id, ip, directory, data, binaries, environment: Vec::new(), child: None }
    }

    /// From the next start on, runs another build, with these in its environment.
    pub fn use_build(&mut self, binaries: &Binaries, environment: &[(&str, &str)]) {
        self.binaries = binaries.clone();
        self.environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    }

    /// `host:port` for clients.
    pub fn client(&self) -> String {
        format!("{}:{CLIENT_PORT}", self.ip)
    }

    /// `host:port` for other nodes.
    pub fn peer(&self) -> String {
        format!("{}:{PEER_PORT}", self.ip)
    }

    /// `host:port` for probes and metrics.
    pub fn http(&self) -> String {
        format!("{}:{HTTP_PORT}", self.ip)
    }

    /// What it prints.
    pub fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.join("node.toml")
    }

    /// Starts the process; with `--init` where there is no data yet.
    #[expect(unsafe_code, reason = "the kernel is asked to end a node whose test has died")]
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "node {} runs already", self.id);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).expect("log file");
        let fresh = std::fs::read_dir(&self.data)
            .map_or(true, |mut entries| !entries.any(|e| e.is_ok_and(|e| e.file_name() != "lost+found")));
        let mut command = Command::new(&self.binaries.server);
        // Settings of the test's own are not the server's, which refuses what it does not know.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FLOTILLA_"))
        {
            command.env_remove(name);
        }
        command
            .arg("--config")
            .arg(self.config())
            .args(fresh.then_some("--init"))
            // The machine that runs the tests may be fuller than a server should be.
            .env("FLOTILLA_BROKER__DISK__SOFT_FREE_PERCENT", "2")
            .env("FLOTILLA_BROKER__DISK__HARD_FREE_PERCENT", "1")
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be doubled"))
            .stderr(log);
        // SAFETY: between fork and exec only one system call is made.
        unsafe {
            command.pre_exec(|| {
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into)
            });
        }
        let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", self.binaries.server.display()));
        self.child = Some(child);
    }

    /// The process id of what runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether a process was started and has not ended by itself.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    fn signal(&self, signal: Signal) {
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid as i32)).expect("the node runs");
        // Our own child that was not waited for: the number cannot be another process's.
        kill_process(pid, signal).expect("a child can be signalled");
    }

    /// SIGKILL, and gone when this returns.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// SIGTERM, without waiting: [`Node::wait_exit`] does.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGINT, as a person at a terminal sends it.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Waits until the process has ended; `None` if it does not within `limit`.
    pub async fn wait_exit(&mut self, limit: Duration) -> Option<ExitStatus> {
        for _ in 0..limit.as_millis() / LOOK.as_millis() {
            if let Some(status) = self.child.as_mut()?.try_wait().expect("a child can be waited for") {
                self.child = None;
                return Some(status);
            }
            tokio::time::sleep(LOOK).await;
        }
        None
    }

    /// SIGSTOP; returns once every thread stands still.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.pid().expect("the node runs"));
        let stopped = |task: &Path| {
            let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
            // The state follows the name, which is in parentheses and may hold anything. A thread that
            // has just ended has no file any more.
            stat.rsplit(')')
                .next()
                .is_none_or(|rest| matches!(rest.trim_start().chars().next(), Some('T' | 't' | 'Z') | None))
        };
        loop {
            let threads = std::fs::read_dir(&tasks).expect("a child has threads");
            if threads.flatten().all(|task| stopped(&task.path())) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// One HTTP answer's status and body; `None` if nobody answers.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let address = self.http().parse().expect("an address and a port");
        let wait = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&address, wait).ok()?;
        stream.set_read_timeout(Some(wait)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// Whether it says that it can serve.
    pub fn ready(&self) -> bool {
        self.get("/readyz").is_some_and(|(status, _)| status == 200)
    }

    /// Waits until the node is ready; panics with the end of its log if it ends or does not get there.
    pub async fn wait_ready(&mut self, limit: Duration) {
        for _ in 0..limit.as_millis() / LOOK.as_millis() {
            if self.ready() {
                return;
            }
            assert!(self.runs(), "node {} ended at start\n{}", self.id, self.log_end());
            tokio::time::sleep(LOOK).await;
        }
        panic!(
            "node {} is not ready after {limit:?}: {:?}\n{}",
            self.id,
            self.get("/readyz"),
            self.log_end()
        );
    }

    /// Physical memory of the process, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid().expect("the node runs"));
        let status = std::fs::read_to_string(path).expect("a child has a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("memory is reported");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB") * 1024
    }

    /// The last lines it printed.
    pub fn log_end(&self) -> String {
        const SHOWN: usize = 20;
        let log = std::fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}
