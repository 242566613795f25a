//! The configuration file: read it, say all that is wrong with it, compare two of them.
//!
//! [`load`] and [`parse`] give a whole [`Config`] or every [`Mistake`] of the file at once. Nothing here is global: `run`
//! takes the value apart and gives each room its own settings. What every key does stands in `config/sluice.toml`.
//!
//! Reading goes `toml` (syntax, spans) -> [`decode`] (types, one section at a time) -> [`check`] (what several keys mean
//! together). Passwords are fetched on the way ([`secrets`]).

pub mod address;
mod check;
mod decode;
pub mod edit;
pub mod import;
pub mod keys;
pub mod mistake;
mod read;
pub mod reload;
pub mod resolve;
pub mod secrets;
mod shown;
pub mod types;
pub mod units;
mod watch;
pub mod words;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use toml::de::DeTable;

pub use address::Address;
pub use mistake::{Mistake, Severity};
pub use secrets::{Credential, Password};
pub use types::*;
pub use units::{Period, Size};

use read::Report;
use secrets::{Machine, Outside};

/// A configuration file is read up to here; real ones have a few KiB.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Mistakes reported of one file; the rest is counted.
const MISTAKES_MAX: usize = 100;

/// Reads a configuration file.
///
/// # Errors
/// Every mistake of the file in the order of its lines (at least one of them an error), or that it cannot be read.
pub fn load(path: &Path) -> Result<Config, Vec<Mistake>> {
    let name = path.display().to_string();
    let unreadable = |what: String| vec![Mistake::whole_file(&name, what, Some("name another file with --config".to_owned()))];
    let size = std::fs::metadata(path).map_or(0, |m| m.len());
    if size > FILE_BYTES_MAX {
        return Err(unreadable(format!("the configuration has {size} bytes; at most {FILE_BYTES_MAX} are read")));
    }
    let text =
        std::fs::read_to_string(path).map_err(|e| unreadable(format!("cannot read the configuration: {}", secrets::reason(&e))))?;
    parse(&text, &name)
}

/// Reads a configuration from text; `name` is the file's name in messages, and paths in it are relative to its directory.
/// Password and certificate files are read, environment variables looked up.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, name: &str) -> Result<Config, Vec<Mistake>> {
    parse_with(text, name, &Machine)
}

/// [`parse`] with the machine's answers given.
///
/// # Errors
/// As [`load`].
pub fn parse_with(text: &str, name: &str, outside: &dyn Outside) -> Result<Config, Vec<Mistake>> {
    let mut report = Report { name, text, mistakes: Vec::new(), marks: HashMap::new(), unsound: HashSet::new() };
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        let message = error.message();
        report.wrong_at(span, format!("not TOML: {}", message.lines().next().unwrap_or(message)), None);
    }
    let broken: HashSet<usize> = report.mistakes.iter().map(|m| m.line).collect();
    let mut config = decode::document(root.get_ref(), &mut report, outside);
    if errors.is_empty() {
        check::all(&config, &mut report, outside);
    } else {
        // What could not be read leaves holes: say nothing about the lines of those, nor about what seems to be missing.
        let syntax = errors.len();
        let mut seen = 0;
        report.mistakes.retain(|m| {
            seen += 1;
            seen <= syntax || (!broken.contains(&m.line) && (m.message.starts_with("unknown") || m.message.contains("must be")))
        });
    }
    let mut mistakes = report.mistakes;
    // Stable: mistakes of one place stay in the order in which they were found.
    mistakes.sort_by_key(|m| (m.line, m.column));
    mistakes.dedup();
    if mistakes.iter().all(|m| m.severity == Severity::Warning) {
        config.warnings = mistakes;
        return Ok(config);
    }
    if mistakes.len() > MISTAKES_MAX {
        let more = mistakes.len() - MISTAKES_MAX;
        mistakes.truncate(MISTAKES_MAX);
        mistakes.push(Mistake::whole_file(name, format!("and {more} more"), None));
    }
    Err(mistakes)
}
