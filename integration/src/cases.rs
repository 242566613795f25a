//! Cases: SQL with what it answers, in plain text (`integration/cases/*.test`), for asking a server and the proxy the same.
//!
//! A file is read line by line. A statement ends with `;` at the end of a line (`delimiter //` changes that, as in the
//! command-line client). Behind it may stand what the server answers: `= cell | cell` for each row, `! 1146` for an error. What
//! is not written down is compared all the same. `[mariadb]` or `[mysql]` before a statement keeps it for that family, and
//! `flavour mariadb;` at the top the whole file. `\xHH` in a statement that begins with `bytes ` is that byte.
//!
//! Some statements are for the runner:
//!
//! ```text
//! connection a;              the statements that follow come from this client; it logs in when it is first named
//! connection a charset 28;   with this collation id in its login (28: gbk_chinese_ci)
//! root CREATE ROLE r;        run at the first server itself by root; all servers have it before the next statement
//! reset;                     COM_RESET_CONNECTION
//! schema t_other;            COM_INIT_DB
//! option multi off;          COM_SET_OPTION
//! text SHOW WARNINGS;        COM_QUERY, in the binary protocol as well
//! pinned temporary_table;    through the proxy: SHOW CLIENTS says that this client is pinned, and why
//! free;                      through the proxy: SHOW CLIENTS says that it holds no connection
//! ```

use anyhow::{Context, Result, bail};

use crate::flavour::Flavour;
use crate::witness::UTF8MB4;

/// One file.
#[derive(Debug, Clone)]
pub struct Case {
    /// The file's name without its ending.
    pub name: String,
    /// What is done, in order; empty when the file is for the other family.
    pub steps: Vec<Step>,
}

/// One statement and what is known of its answer.
#[derive(Debug, Clone)]
pub struct Step {
    /// The line it begins on.
    pub line: usize,
    /// The statement.
    pub what: What,
    /// Rows of the last result, cells joined by ` | `.
    pub rows: Option<Vec<String>>,
    /// The error it ends with.
    pub error: Option<u16>,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A statement for the server.
    Sql(Vec<u8>),
    /// Another client; its name and the collation id of its login.
    Connection(String, u8),
    /// A statement at db1, by root.
    Root(String),
    /// A command: its byte and its payload.
    Command(u8, Vec<u8>),
    /// Through the proxy: pinned for this reason, or not at all.
    Pinned(Option<String>),
}

impl Case {
    /// Reads a file's text, for one family of servers.
    pub fn parse(name: &str, text: &str, flavour: Flavour) -> Result<Case> {
        let mut case = Case { name: name.into(), steps: Vec::new() };
        let mut delimiter = ";".to_owned();
        let mut statement = String::new();
        let mut begin = 0;
        let mut kept = true;
        for (index, line) in text.lines().enumerate() {
            let here = || format!("{name}.test:{}", index + 1);
            let trimmed = line.trim();
            if statement.is_empty() {
                if trimmed.is_empty() || trimmed.starts_with('#') {
                    continue;
                }
                if let Some(expected) = trimmed.strip_prefix("= ").or_else(|| (trimmed == "=").then_some("")) {
                    if kept {
                        let step = case.steps.last_mut().with_context(here)?;
                        step.rows.get_or_insert_default().push(expected.trim().to_owned());
                    }
                    continue;
                }
                if let Some(number) = trimmed.strip_prefix("! ") {
                    if kept {
                        case.steps.last_mut().with_context(here)?.error = Some(number.trim().parse().with_context(here)?);
                    }
                    continue;
                }
                if let Some(word) = trimmed.strip_prefix("delimiter ") {
                    delimiter = word.trim().to_owned();
                    continue;
                }
                begin = index + 1;
            } else {
                statement.push('\n');
            }
            statement.push_str(if statement.is_empty() { line.trim_start() } else { line });
            let Some(whole) = statement.trim_end().strip_suffix(&delimiter).map(str::to_owned) else { continue };
            statement.clear();
            if let Some(family) = whole.strip_prefix("flavour ") {
                if Flavour::parse(family).with_context(here)? != flavour {
                    return Ok(Case { name: name.into(), steps: Vec::new() });
                }
                continue;
            }
            let (family, whole) = match whole.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
                Some((family, rest)) => (Some(Flavour::parse(family).with_context(here)?), rest.to_owned()),
                None => (None, whole),
            };
            kept = family.is_none_or(|family| family == flavour);
            if kept {
                case.steps.push(Step { line: begin, what: what(&whole).with_context(here)?, rows: None, error: None });
            }
        }
        if !statement.is_empty() {
            bail!("{name}.test:{begin}: the statement has no end");
        }
        Ok(case)
    }
}

fn what(statement: &str) -> Result<What> {
    let (word, rest) = statement.split_once(' ').unwrap_or((statement, ""));
    Ok(match word {
        "connection" => {
            let mut words = rest.split_whitespace();
            let name = words.next().context("a connection has a name")?.to_owned();
            let collation = match words.next() {
                Some("charset") => words.next().context("charset takes a collation id")?.parse()?,
                _ => UTF8MB4,
            };
            What::Connection(name, collation)
        }
        "root" => What::Root(rest.to_owned()),
        "reset" if rest.is_empty() => What::Command(0x1f, Vec::new()),
        "schema" => What::Command(0x02, rest.as_bytes().to_vec()),
        "option" => What::Command(0x1b, vec![u8::from(rest == "multi off"), 0]),
        "text" => What::Command(0x03, rest.as_bytes().to_vec()),
        "pinned" => What::Pinned(Some(rest.to_owned())),
        "free" if rest.is_empty() => What::Pinned(None),
        "bytes" => What::Sql(unescape(rest)?),
        _ => What::Sql(statement.as_bytes().to_vec()),
    })
}

/// `\xHH` as that byte.
fn unescape(text: &str) -> Result<Vec<u8>> {
    let mut pieces = text.split("\\x");
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (hex, rest) = piece.split_at_checked(2).context("\\x takes two digits")?;
        bytes.push(u8::from_str_radix(hex, 16)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_statements_with_what_they_answer() {
        let text = "# a comment\nSELECT 1;\n= 1\n[mysql] SELECT 2;\n= 2\nconnection b charset 28;\ndelimiter //\n\
                    CREATE PROCEDURE p ()\nBEGIN SELECT 3; END//\ndelimiter ;\nSELEKT;\n! 1064\nbytes SELECT '\\xbf\\x5c';\nfree;\n";
        let case = Case::parse("x", text, Flavour::MariaDb).unwrap();
        let whats: Vec<_> = case.steps.iter().map(|step| step.what.clone()).collect();
        assert_eq!(
            whats,
            [
                What::Sql(b"SELECT 1".to_vec()),
                What::Connection("b".into(), 28),
                What::Sql(b"CREATE PROCEDURE p ()\nBEGIN SELECT 3; END".to_vec()),
                What::Sql(b"SELEKT".to_vec()),
                What::Sql(b"SELECT '\xbf\x5c'".to_vec()),
                What::Pinned(None),
            ]
        );
        assert_eq!(case.steps[0].rows, Some(vec!["1".to_owned()]));
        assert_eq!(case.steps[3].error, Some(1064));
        assert_eq!(Case::parse("x", text, Flavour::MySql).unwrap().steps.len(), 7);
        assert!(Case::parse("x", "flavour mysql;\nSELECT 1;\n", Flavour::MariaDb).unwrap().steps.is_empty());
        assert!(Case::parse("x", "SELECT 1\n", Flavour::MariaDb).is_err());
    }
}
