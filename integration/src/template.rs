//! The data directory all servers of a flavour are copied from, made once and kept.
//!
//! Making one takes seconds (system tables, accounts, the `shop` schema), copying one a fraction of a second. It is kept
//! beside the build (`target/sandbox-template/FLAVOUR-HASH`), where the hash covers the server's version and all that is put
//! into it, so a changed account or a new server makes a new one. Test processes that start together agree through a lock file.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use mysql_async::prelude::Queryable;

use crate::accounts;
use crate::install::Install;
use crate::server::{Server, ServerOptions};

/// The template of this server program, made when it is not there yet (`progress` is told).
pub async fn template(install: &Install, progress: &crate::cluster::Progress) -> Result<PathBuf> {
    let statements = accounts::statements(install.flavour);
    let mut hasher = DefaultHasher::new();
    (&install.version, &statements, LAYOUT).hash(&mut hasher);
    let base = cache_dir();
    std::fs::create_dir_all(&base).with_context(|| format!("make {}", base.display()))?;
    let ready = base.join(format!("{}-{:016x}", install.flavour, hasher.finish()));
    if ready.is_dir() {
        return Ok(ready);
    }
    let lock_file = base.join(format!("{}.lock", install.flavour));
    // blocking, but nothing else can go on before the template is there
    let lock = File::options().create(true).append(true).open(&lock_file)?;
    lock.lock().with_context(|| format!("lock {}", lock_file.display()))?;
    if ready.is_dir() {
        return Ok(ready); // another process made it while we waited
    }
    progress(&format!("making the {} data directory all servers are copied from (once)", install.flavour.title()));
    let data = crate::home::new_dir("template")?.join("data");
    install.initialise(&data)?;
    let server = Server::over(install, ServerOptions::new("template", 99).without_binlog(), data.clone())?;
    let mut root = server.root().await?;
    for statement in &statements {
        root.query_drop(statement).await.with_context(|| format!("template: {statement}"))?;
    }
    root.disconnect().await?;
    server.stop()?;
    // a server's identity must be its own
    let _ = std::fs::remove_file(data.join("auto.cnf"));
    let half = base.join(format!("{}-{}.half", install.flavour, std::process::id()));
    copy(&data, &half)?;
    std::fs::rename(&half, &ready)?;
    Ok(ready)
}

/// Counted up when the way a template is made changes.
const LAYOUT: u32 = 1;

/// Copies a data directory; shares the blocks where the file system can.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let output = Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to).output()?;
    if !output.status.success() {
        bail!("copying {} failed: {}", from.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// `SLUICE_CACHE_DIR`, else `sandbox-template` in the build directory this program lies in, else one in the temporary directory.
fn cache_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("SLUICE_CACHE_DIR") {
        return dir.into();
    }
    let exe = std::env::current_exe().unwrap_or_default();
    let target = exe.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file());
    target.map_or_else(|| std::env::temp_dir().join("sluice-sandbox-template"), |dir| dir.join("sandbox-template"))
}
