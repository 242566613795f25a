//! The side of the old process in an upgrade: it hands the doors to whoever asks on its socket, and starts the new process when
//! it is told to (SIGUSR2).

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::frontend::listener::{SocketFile, Stays};
use crate::run::doors::Door;
use crate::run::talk::{HELLO, Talk};

/// How long the new process may take to become ready.
pub const READY_LIMIT: Duration = Duration::from_secs(60);
/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where new processes ask.
#[derive(Debug)]
pub struct UpgradeDoor {
    listener: UnixListener,
    _file: SocketFile,
}

impl UpgradeDoor {
    /// Opens it for this user only. With `replace` the file of the process that was taken over from is replaced.
    ///
    /// # Errors
    /// What is wrong with the path; that another proxy listens there.
    pub fn open(path: &str, replace: bool, stays: &Stays) -> Result<UpgradeDoor, String> {
        let explain = |e: io::Error| format!("cannot listen on {path} (proxy.upgrade_socket): {e}");
        let path = Path::new(path);
        if !replace && std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(format!(
                "another proxy runs with proxy.upgrade_socket = \"{}\": stop it, or take over from it with --takeover",
                path.display()
            ));
        }
        // Its mode is right before it is at its place.
        let beside = PathBuf::from(format!("{}.new", path.display()));
        let _ = std::fs::remove_file(&beside);
        let listener = UnixListener::bind(&beside).map_err(explain)?;
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).map_err(explain)?;
        std::fs::rename(&beside, path).map_err(explain)?;
        Ok(UpgradeDoor { listener, _file: SocketFile::at(path, stays).map_err(explain)? })
    }

    /// Begins to answer new processes with these doors. Those that become ready come out of what is returned.
    ///
    /// # Errors
    /// File descriptors have run out.
    pub fn answer(self, doors: &[Door]) -> Result<(JoinHandle<()>, mpsc::Receiver<Talk>), String> {
        let doors = copies(doors).map_err(|e| format!("cannot keep the listening sockets: {e}"))?;
        let (ready, successors) = mpsc::channel(1);
        Ok((tokio::spawn(self.serve(doors, ready)), successors))
    }

    /// Answers new processes, one after the other; those that become ready are given to `ready`.
    async fn serve(self, doors: Vec<Door>, ready: mpsc::Sender<Talk>) {
        loop {
            let talk = match self.listener.accept().await {
                Ok((stream, _)) => Talk::on(stream),
                Err(error) => {
                    tracing::warn!(%error, "the upgrade socket: could not accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let prepared = match talk {
                Ok(talk) => prepare(talk, &doors).await,
                Err(error) => Err(error),
            };
            match prepared {
                Ok(talk) => {
                    if ready.send(talk).await.is_err() {
                        return;
                    }
                }
                Err(error) => tracing::warn!("an upgrade came to nothing, this process goes on: {error}"),
            }
        }
    }
}

/// Up to the word that the new process is ready.
async fn prepare(mut talk: Talk, doors: &[Door]) -> io::Result<Talk> {
    let hello = talk.line_soon().await?;
    let Some(version) = hello.strip_prefix(HELLO).and_then(|rest| rest.strip_prefix(' ')) else {
        let why = format!("this process understands \"{HELLO}\"; it needs a restart");
        talk.say(&format!("no {why}")).await?;
        return Err(io::Error::other(format!("the new process says {hello:?}; {why}")));
    };
    tracing::info!(version, pid = talk.peer(), "a new process asks for the listening sockets");
    talk.pass(doors).await?;
    match timeout(READY_LIMIT, talk.line()).await {
        Ok(line) => {
            let line = line?;
            if line == "ready" { Ok(talk) } else { Err(io::Error::other(format!("the new process says {line:?}"))) }
        }
        Err(_) => {
            let why = format!("the new process was not ready within {READY_LIMIT:?}");
            talk.say(&format!("no {why}")).await?;
            Err(io::Error::other(why))
        }
    }
}

/// The doors once more.
///
/// # Errors
/// Those of the system, when file descriptors have run out.
pub fn copies(doors: &[Door]) -> io::Result<Vec<Door>> {
    let copy = |socket: &OwnedFd| socket.as_fd().try_clone_to_owned();
    doors.iter().map(|door| Ok(Door { name: door.name.clone(), socket: copy(&door.socket)? })).collect()
}

/// The program's file. Asked at the start, when the working directory is still that of whoever started it.
pub fn program() -> Option<PathBuf> {
    let named = std::env::args_os().next().and_then(|name| as_named(Path::new(&name)));
    named.filter(|path| path.is_file()).or_else(|| std::env::current_exe().ok())
}

/// The path that the program was started from, when it was one: a symbolic link in it may lead to another version by the time of an upgrade,
/// and what the system tells is the file behind it.
fn as_named(name: &Path) -> Option<PathBuf> {
    let is_path = name.parent().is_some_and(|parent| !parent.as_os_str().is_empty());
    is_path.then(|| std::path::absolute(name).ok()).flatten()
}

/// The arguments of the new process: those of this one, and `--takeover`.
fn arguments(own: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = own.filter(|argument| argument != "--takeover").collect();
    if !arguments.iter().any(|argument| argument == "run") {
        arguments.insert(0, "run".into());
    }
    arguments.push("--takeover".into());
    arguments
}

/// Starts the program again, from the path it was started from: an upgrade has put another file there. A child of this process
/// is in the same service of systemd, which follows it as soon as it is told.
pub fn start(program: &Path) {
    let mut command = Command::new(program);
    command.args(arguments(std::env::args_os().skip(1)));
    match command.spawn() {
        Ok(mut child) => {
            tracing::info!(pid = child.id(), program = %program.display(), "SIGUSR2: a new process was started to take over");
            // Collected when it ends, so that one that could not start leaves nothing behind.
            std::thread::spawn(move || match child.wait() {
                Ok(status) if !status.success() => tracing::warn!(%status, "the new process has ended"),
                _ => {}
            });
        }
        Err(error) => tracing::error!(%error, program = %program.display(), "SIGUSR2: cannot start the new process"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_where_it_was_named() {
        let here = std::env::current_dir().unwrap();
        for (name, path) in [
            ("/usr/bin/sluice", Some(PathBuf::from("/usr/bin/sluice"))),
            ("target/sluice", Some(here.join("target/sluice"))),
            ("./sluice", Some(here.join("sluice"))),
            // Found in PATH.
            ("sluice", None),
            ("", None),
        ] {
            assert_eq!(as_named(Path::new(name)), path, "{name}");
        }
        assert!(program().unwrap().is_file());
    }

    #[test]
    fn the_new_process_is_started_as_this_one_was() {
        let line = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>().into_iter();
        let whole = |own: &str| arguments(line(own)).join(&OsString::from(" ")).into_string().unwrap();
        assert_eq!(whole("run --config a.toml"), "run --config a.toml --takeover");
        assert_eq!(whole("--config a.toml --log-format json"), "run --config a.toml --log-format json --takeover");
        assert_eq!(whole("run --takeover --config a.toml"), "run --config a.toml --takeover");
    }
}
