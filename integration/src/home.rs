//! One directory for all that this process leaves on disk, removed however the process ends.
//!
//! Rust drops no statics, and nothing at all is dropped when a process is killed. So a small `sh` waits on a pipe that only we
//! hold: when we end, for whatever reason, the pipe closes and the shell removes the directory. (The child processes are ended
//! by the kernel, see [`crate::process`]; the shell tries a few times, since they may still be writing.)

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result};

/// A Unix socket's path may have 107 bytes; the longest name we put below the directory has about 30.
const PATH_MAX: usize = 70;

/// This process's own directory, made at the first call: below `SLUICE_SANDBOX_DIR` when set, else below the system's
/// temporary directory.
pub fn home() -> Result<&'static Path> {
    static HOME: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match HOME.get_or_init(|| make().map_err(|error| format!("{error:#}"))) {
        Ok(path) => Ok(path),
        Err(text) => Err(anyhow::anyhow!("{text}")),
    }
}

/// A new empty directory below [`home`], its name beginning with `name`.
pub fn new_dir(name: &str) -> Result<PathBuf> {
    let dir = tempfile::Builder::new().prefix(&format!("{name}-")).rand_bytes(4).tempdir_in(home()?)?;
    Ok(dir.keep())
}

fn make() -> Result<PathBuf> {
    let base = std::env::var_os("SLUICE_SANDBOX_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    std::fs::create_dir_all(&base)?;
    let fits = base.as_os_str().len() + "/sluice-4194304-xxxx".len() <= PATH_MAX;
    let base = if fits { base } else { PathBuf::from("/tmp") };
    let prefix = format!("sluice-{}-", std::process::id());
    let dir = tempfile::Builder::new().prefix(&prefix).rand_bytes(4).tempdir_in(base)?.keep();
    // cat ends when our end of the pipe closes; the signals a terminal sends to the whole group must not end the shell first
    const REAPER: &str = r#"trap "" HUP INT TERM; cat >/dev/null; for i in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$0" 2>/dev/null && exit 0; sleep 0.2; done"#;
    let mut command = Command::new("sh");
    command.arg("-c").arg(REAPER).arg(&dir).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let reaper = command.spawn().context("start the shell that cleans up after us")?;
    std::mem::forget(reaper); // keeps the pipe open for as long as we live
    Ok(dir)
}
