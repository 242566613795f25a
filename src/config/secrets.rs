//! Passwords: given in the file, in a file of their own, or in the environment; never printed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::read::{Report, Section};

/// A password file is read up to here; more is no password but the wrong file.
const PASSWORD_FILE_BYTES_MAX: usize = 4096;

/// A password, wiped when dropped. Neither `Debug` nor `Serialize` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes it into custody.
    pub fn new(text: impl Into<String>) -> Password {
        Password(Zeroizing::new(text.into()))
    }

    /// The password itself: for logging in, nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

/// Where an account's password comes from, and what it is.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Credential {
    /// The password, whichever way it was given; `None` when it was not.
    pub password: Option<Password>,
    /// The file that holds it (a closing newline is not part of it).
    pub password_file: Option<PathBuf>,
    /// The environment variable that holds it.
    pub password_env: Option<String>,
}

impl Credential {
    /// The password, empty when none is set.
    pub fn expose(&self) -> &str {
        self.password.as_ref().map_or("", Password::expose)
    }
}

impl Serialize for Credential {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        if let Some(file) = &self.password_file {
            map.serialize_entry("password_file", file)?;
        } else if let Some(variable) = &self.password_env {
            map.serialize_entry("password_env", variable)?;
        } else if self.password.is_some() {
            map.serialize_entry("password", "********")?;
        }
        map.end()
    }
}

/// What reading a configuration asks of the machine; a test answers for it.
pub trait Outside {
    /// The content of a file.
    ///
    /// # Errors
    /// Those of opening and reading it.
    fn read(&self, path: &Path) -> io::Result<String>;
    /// The permission bits of a file, where there are such.
    fn mode(&self, path: &Path) -> Option<u32>;
    /// An environment variable.
    fn variable(&self, name: &str) -> Option<String>;
    /// Whether certificates are what they are called: they are read by name.
    fn has_certificates(&self) -> bool {
        false
    }
}

/// The real machine.
pub struct Machine;

impl Outside for Machine {
    fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).ok().map(|m| m.permissions().mode())
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn has_certificates(&self) -> bool {
        true
    }
}

/// A path of the file, relative ones being relative to the directory of the configuration file.
pub fn beside(report: &Report<'_>, path: &Path) -> PathBuf {
    Path::new(report.name).parent().map_or_else(|| path.to_owned(), |dir| dir.join(path))
}

/// Checks that a file named by a key can be read, and gives its path in full.
pub fn readable(report: &mut Report<'_>, path: &str, file: Option<PathBuf>, outside: &dyn Outside) -> Option<PathBuf> {
    let whole = beside(report, &file?);
    if let Err(e) =
        outside.read(&whole).or_else(|e| if e.kind() == io::ErrorKind::InvalidData { Ok(String::new()) } else { Err(e) })
    {
        report.wrong(path, format!("cannot read {}: {}", whole.display(), reason(&e)), "give a file that Sluice's user may read");
    }
    Some(whole)
}

/// The system's words without Rust's `(os error 2)`.
pub fn reason(e: &io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// Reads `password`, `password_file`, `password_env` of a section.
pub fn credential(section: &Section<'_, '_>, report: &mut Report<'_>, outside: &dyn Outside) -> Credential {
    let given: Vec<&'static str> =
        ["password", "password_file", "password_env"].into_iter().filter(|key| section.raw(key).is_some()).collect();
    if let [first, others @ ..] = given.as_slice() {
        for other in others {
            report.wrong(
                &section.path_of(other),
                format!("the password is given twice: `{first}` and `{other}`"),
                format!("keep one of them; `{}` keeps it out of this file", if *first == "password" { other } else { first }),
            );
        }
    }
    let mut credential = Credential::default();
    if section.raw("password").is_some() {
        credential.password = section.optional::<String>("password", report).map(Password::new);
    }
    if let Some(file) = section.optional::<PathBuf>("password_file", report) {
        let path = section.path_of("password_file");
        let file = beside(report, &file);
        if let Some(password) = from_file(report, &path, &file, outside) {
            credential.password = Some(password);
        }
        credential.password_file = Some(file);
    }
    if let Some(variable) = section.optional::<String>("password_env", report) {
        let path = section.path_of("password_env");
        match outside.variable(&variable) {
            Some(value) => credential.password = Some(Password::new(value)),
            None => {
                report.wrong(&path, format!("the environment variable `{variable}` is not set"), "set it for Sluice's process");
            }
        }
        credential.password_env = Some(variable);
    }
    credential
}

fn from_file(report: &mut Report<'_>, path: &str, file: &Path, outside: &dyn Outside) -> Option<Password> {
    let content = match outside.read(file) {
        Ok(content) => Zeroizing::new(content),
        Err(e) => {
            let message = format!("cannot read {}: {}", file.display(), reason(&e));
            let advice = match e.kind() {
                // `check` by root reads what the service may not.
                io::ErrorKind::PermissionDenied => {
                    format!("give it to the user that Sluice runs as, like chown sluice: {}", file.display())
                }
                _ => "write the password into that file, readable for Sluice's user alone".to_owned(),
            };
            report.wrong(path, message, advice);
            return None;
        }
    };
    if content.len() > PASSWORD_FILE_BYTES_MAX {
        report.wrong(
            path,
            format!("{} holds {} bytes, which is no password", file.display(), content.len()),
            "name the file that holds the password and nothing else",
        );
        return None;
    }
    // 0o007: what all other users of the machine may do with it. Its group may be Sluice's own.
    if outside.mode(file).is_some_and(|mode| mode & 0o007 != 0) {
        let mode = outside.mode(file).unwrap_or_default() & 0o777;
        report.doubtful(
            path,
            format!("{} may be read by every user of this machine (mode {mode:04o})", file.display()),
            format!("chmod o= {}", file.display()),
        );
    }
    let text = content.strip_suffix('\n').unwrap_or(&content);
    Some(Password::new(text.strip_suffix('\r').unwrap_or(text)))
}
