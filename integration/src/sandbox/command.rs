//! What can be typed in the sandbox.

use anyhow::{Result, bail};

/// What `help` prints.
pub const HELP: &str = "Commands:
  kill db1 · stop db1 · start db1     end a server (SIGKILL, cleanly), start it again
  freeze db1 · thaw db1               stop its process as a hung machine would, let it go on
  sql SELECT …                        a statement through Sluice, as user app on schema shop
  admin SHOW SERVERS                  a statement on Sluice's admin port
  workload on|off · help · quit";

/// What to do with a server's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// SIGKILL.
    Kill,
    /// A clean end.
    Stop,
    /// SIGSTOP.
    Freeze,
    /// SIGCONT.
    Thaw,
    /// Start it again.
    Start,
}

impl Act {
    /// The state afterwards, in a word.
    pub fn done(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Stop => "stopped",
            Self::Freeze => "frozen",
            Self::Thaw => "thawed",
            Self::Start => "running again",
        }
    }
}

/// A typed line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Something to a server.
    Server(Act, String),
    /// A statement through Sluice.
    Sql(String),
    /// A statement on the admin port.
    Admin(String),
    /// Clients busy or not.
    Workload(bool),
    /// What can be typed.
    Help,
    /// End.
    Quit,
}

impl Command {
    /// Reads a line; `None` when it is empty. The error says what would have been right.
    pub fn parse(line: &str) -> Result<Option<Self>> {
        let line = line.trim().trim_end_matches(';').trim_end();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let server = |act| match rest {
            "" => bail!("{word} which server? {word} db1"),
            name => Ok(Some(Self::Server(act, name.to_owned()))),
        };
        match word.to_ascii_lowercase().as_str() {
            "" => Ok(None),
            "kill" => server(Act::Kill),
            "stop" => server(Act::Stop),
            "freeze" => server(Act::Freeze),
            "thaw" => server(Act::Thaw),
            "start" => server(Act::Start),
            "sql" | "admin" if rest.is_empty() => bail!("{word} needs a statement"),
            "sql" => Ok(Some(Self::Sql(rest.into()))),
            "admin" => Ok(Some(Self::Admin(rest.into()))),
            "workload" if rest == "on" || rest == "off" => Ok(Some(Self::Workload(rest == "on"))),
            "workload" => bail!("workload on, or workload off"),
            "help" | "?" => Ok(Some(Self::Help)),
            "quit" | "exit" | "q" => Ok(Some(Self::Quit)),
            "select" | "insert" | "update" | "delete" | "show" | "explain" => {
                bail!("through Sluice: sql {line} · on its admin port: admin {line}")
            }
            _ => bail!("unknown command {word:?}; help tells what there is"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_what_they_mean() {
        let server = |act, name: &str| Some(Command::Server(act, name.into()));
        for (line, meaning) in [
            ("", None),
            ("  ;", None),
            ("kill db1", server(Act::Kill, "db1")),
            (" FREEZE  db2 ; ", server(Act::Freeze, "db2")),
            ("start db1", server(Act::Start, "db1")),
            ("sql select 1;", Some(Command::Sql("select 1".into()))),
            ("admin SHOW  SERVERS", Some(Command::Admin("SHOW  SERVERS".into()))),
            ("workload off", Some(Command::Workload(false))),
            ("exit", Some(Command::Quit)),
        ] {
            assert_eq!(Command::parse(line).unwrap(), meaning, "{line:?}");
        }
    }

    #[test]
    fn wrong_lines_are_told_what_is_right() {
        for (line, hint) in [("kill", "kill db1"), ("select 1", "sql select 1"), ("workload", "workload on"), ("dance", "help")] {
            let error = Command::parse(line).unwrap_err().to_string();
            assert!(error.contains(hint), "{line:?}: {error}");
        }
    }
}
