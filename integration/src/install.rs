//! Where the server programs of each flavour are, and how to get them when they are not there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use crate::flavour::Flavour;

/// The server programs of one flavour on this machine.
#[derive(Debug, Clone)]
pub struct Install {
    /// Which family.
    pub flavour: Flavour,
    /// The server program.
    pub server: PathBuf,
    /// The command-line client to paste in a shell, when there is one.
    pub client: Option<PathBuf>,
    /// What `--version` says, one line: names the template made with this server.
    pub version: String,
}

impl Install {
    /// Finds the server program of a flavour. MariaDB: `SLUICE_MARIADBD`, else `mariadbd` on `PATH` and in the usual `sbin`s.
    /// MySQL: `SLUICE_MYSQLD`, else below `SLUICE_MYSQL_DIR`, `/opt/mysql97` and `~/.cache/sluice/mysql97` (where `tools/setup
    /// mysql` puts it), else a `mysqld` on `PATH` that is not MariaDB's.
    pub fn find(flavour: Flavour) -> Result<Self> {
        let candidates = match flavour {
            Flavour::MariaDb => env_path("SLUICE_MARIADBD").into_iter().chain(on_path("mariadbd")).collect::<Vec<_>>(),
            Flavour::MySql => env_path("SLUICE_MYSQLD")
                .into_iter()
                .chain(mysql_dirs().into_iter().map(|dir| dir.join("bin/mysqld")))
                .chain(on_path("mysqld"))
                .collect(),
        };
        for server in candidates.into_iter().filter(|path| path.is_file()) {
            let Ok(version) = version_of(&server) else { continue };
            if version.contains("MariaDB") == (flavour == Flavour::MariaDb) {
                let client = client_beside(flavour, &server);
                return Ok(Self { flavour, server, client, version });
            }
        }
        Err(match flavour {
            Flavour::MariaDb => anyhow!("no mariadbd on this machine. Run `tools/setup` (or: apt-get install mariadb-server)"),
            Flavour::MySql => anyhow!(
                "no MySQL 9 server on this machine. Run `tools/setup mysql`: it unpacks one into a private folder \
                 (SLUICE_MYSQL_DIR, /opt/mysql97 or ~/.cache/sluice/mysql97). SLUICE_MYSQLD may also name a mysqld"
            ),
        })
    }

    /// A private data directory with the system tables and a passwordless root, made at `datadir` (which must not exist yet).
    pub fn initialise(&self, datadir: &Path) -> Result<()> {
        let mut command = match self.flavour {
            Flavour::MariaDb => {
                let tool = on_path("mariadb-install-db").into_iter().find(|path| path.is_file());
                let mut command = Command::new(tool.context("no mariadb-install-db on this machine. Run `tools/setup`")?);
                command.args([
                    "--no-defaults",
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                    "--skip-name-resolve",
                ]);
                command.arg("--innodb-log-file-size=8M");
                command
            }
            Flavour::MySql => {
                let mut command = Command::new(&self.server);
                command.args(["--no-defaults", "--initialize-insecure", "--innodb-redo-log-capacity=16M", "--secure-file-priv="]);
                command
            }
        };
        // A MariaDB server that starts takes away the temporary tables it finds in its directory for them, those of another that is
        // just being made in the same /tmp included.
        let own_tmp = datadir.parent().filter(|dir| dir.is_dir()).context("a data directory is made in a directory")?;
        command.env("TMPDIR", own_tmp);
        command.args(user_argument()).arg(format!("--datadir={}", datadir.display())).arg("--innodb-flush-method=nosync");
        let output = command.output().with_context(|| format!("start {:?}", command.get_program()))?;
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            return Err(anyhow!("making a {} data directory failed:\n{}", self.flavour.title(), String::from_utf8_lossy(&text)));
        }
        Ok(())
    }
}

/// `--user=root` when we are root: the servers refuse to run as root unless told so.
pub fn user_argument() -> Option<&'static str> {
    use std::os::unix::fs::MetadataExt;
    let root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    root.then_some("--user=root")
}

/// Folders `tools/setup mysql` may have used, in the order it tries them.
pub fn mysql_dirs() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = env_path("SLUICE_MYSQL_DIR").into_iter().collect();
    dirs.push("/opt/mysql97".into());
    dirs.extend(std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/sluice/mysql97")));
    dirs
}

fn env_path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// A program's places on `PATH`, and in the `sbin`s, which are not on an ordinary user's.
fn on_path(program: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/usr/libexec"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .collect()
}

fn client_beside(flavour: Flavour, server: &Path) -> Option<PathBuf> {
    let beside = |name: &str| server.parent().map(|dir| dir.join(name)).filter(|path| path.is_file());
    match flavour {
        Flavour::MariaDb => on_path("mariadb").into_iter().find(|path| path.is_file()),
        Flavour::MySql => beside("mysql").or_else(|| on_path("mysql").into_iter().find(|path| path.is_file())),
    }
}

fn version_of(server: &Path) -> Result<String> {
    let output = Command::new(server).args(["--no-defaults", "--version"]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
