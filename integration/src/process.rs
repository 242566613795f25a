//! Child processes that never outlive us, and the signals we send them.
//!
//! The kernel ends them: each is started through `setpriv --pdeathsig KILL` (util-linux), so it is killed when the **thread**
//! that started it ends. That thread must therefore live as long as the process does: all children are started by one thread
//! of ours that never ends, not by a test's or a runtime's worker. `setpriv` and the MySQL wrapper both `exec`, which keeps
//! the process id and the setting. Each child has a process group of its own, so Ctrl-C in a terminal reaches us alone and we
//! decide what ends when.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// A signal by its short name, as `kill` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ask to end.
    Term,
    /// End at once.
    Kill,
    /// Freeze: sockets stay open, nothing answers.
    Stop,
    /// Thaw.
    Cont,
    /// Reload, for the proxy.
    Hup,
    /// Start a new process that takes over, for the proxy.
    Usr2,
}

/// A running child.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with `args` and extra environment; its output goes to the end of the file `log`.
    pub fn start(program: &Path, args: &[String], env: &[(String, String)], log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log).with_context(|| format!("open {}", log.display()))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(args).envs(env.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let child = spawn(command).context("start a child through setpriv (package util-linux)")?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, or `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal. An error when the process has ended already.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.ended() {
            bail!("the process has already ended: {status}");
        }
        let name = match signal {
            Signal::Kill => return self.child.kill().context("kill"),
            Signal::Term => "TERM",
            Signal::Stop => "STOP",
            Signal::Cont => "CONT",
            Signal::Hup => "HUP",
            Signal::Usr2 => "USR2",
        };
        // the shell's own kill: signalling needs unsafe code or one more dependency otherwise
        let status = Command::new("sh").args(["-c", "kill -$0 $1", name, &self.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { bail!("kill -{name} {} failed", self.id()) }
    }

    /// Waits for the end, at most `limit`; an error when it still runs then.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if start.elapsed() > limit {
                bail!("process {} still runs after {limit:?}", self.id());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it at once and collects it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The last `lines` lines it wrote.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last `lines` lines of a file; what could not be read is said in their place.
pub fn tail(path: &Path, lines: usize) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|error| format!("({}: {error})", path.display()).into_bytes());
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Starts a command from the one thread that never ends.
fn spawn(command: Command) -> Result<Child> {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static ORDERS: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Order>();
        std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for (mut command, answer) in receiver {
                    let _ = answer.send(command.spawn());
                }
            })
            .expect("a thread can be started");
        Mutex::new(sender)
    });
    let (sender, receiver) = mpsc::channel();
    orders.lock().expect("never poisoned: nothing panics under it").send((command, sender)).map_err(|_| anyhow!("no spawner"))?;
    Ok(receiver.recv().context("the spawner thread is gone")??)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, log: &Path) -> Process {
        Process::start(Path::new("sh"), &["-c".into(), script.into()], &[], log).unwrap()
    }

    #[test]
    fn a_child_can_be_frozen_thawed_and_ended_and_its_words_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut child = sh("echo one; echo two; echo three; trap 'exit 7' TERM; while :; do sleep 0.01; done", &log);
        while child.log_tail(9).lines().count() < 3 {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(child.log_tail(2), "two\nthree");
        std::thread::sleep(Duration::from_millis(100));
        child.signal(Signal::Stop).unwrap();
        child.signal(Signal::Term).unwrap();
        assert!(child.wait(Duration::from_millis(100)).is_err(), "a frozen process cannot hear TERM");
        child.signal(Signal::Cont).unwrap();
        assert_eq!(child.wait(Duration::from_secs(10)).unwrap().code(), Some(7));
        assert!(child.signal(Signal::Stop).is_err());
    }

    #[test]
    fn a_child_survives_the_thread_that_asked_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut child = std::thread::spawn(move || sh("sleep 60", &log)).join().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(child.ended(), None);
    }
}
