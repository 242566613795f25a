//! Reading what ProxySQL writes: `proxysql.cnf` (the syntax of libconfig) or a dump of its tables (`INSERT INTO ...`).

use std::collections::BTreeMap;

/// One row of a table: column and value; numbers as they are written, NULL is left out.
pub type Row = BTreeMap<String, String>;

/// What was read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Source {
    /// Rows by table: `mysql_servers`, `mysql_users`, ...
    pub tables: BTreeMap<String, Vec<Row>>,
    /// `mysql-max_connections` and the like.
    pub variables: BTreeMap<String, String>,
}

/// Columns of a dump that names none, in ProxySQL's order.
const COLUMNS: &[(&str, &str)] = &[
    (
        "mysql_servers",
        "hostgroup_id hostname port gtid_port status weight compression max_connections max_replication_lag use_ssl max_latency_ms \
         comment",
    ),
    (
        "mysql_users",
        "username password active use_ssl default_hostgroup default_schema schema_locked transaction_persistent fast_forward \
         backend frontend max_connections attributes comment",
    ),
    (
        "mysql_query_rules",
        "rule_id active username schemaname flagIN client_addr proxy_addr proxy_port digest match_digest match_pattern \
         negate_match_pattern re_modifiers flagOUT replace_pattern destination_hostgroup cache_ttl cache_empty_result cache_timeout \
         reconnect timeout retries delay next_query_flagIN mirror_flagOUT mirror_hostgroup error_msg OK_msg sticky_conn multiplex \
         gtid_from_hostgroup log apply attributes comment",
    ),
    ("mysql_replication_hostgroups", "writer_hostgroup reader_hostgroup check_type comment"),
    ("global_variables", "variable_name variable_value"),
    ("scheduler", "id active interval_ms filename arg1 arg2 arg3 arg4 arg5 comment"),
];

/// Reads either form.
///
/// # Errors
/// What is wrong, with its line.
pub fn read(text: &str) -> Result<Source, String> {
    let is_dump = text.lines().any(|line| {
        let line = line.trim_start().to_uppercase();
        line.starts_with("INSERT ") || line.starts_with("REPLACE ")
    });
    let tokens = tokens(text, is_dump && of_mysql(text))?;
    let mut reader = Reader { tokens, next: 0, created: BTreeMap::new() };
    let source = if is_dump { reader.dump()? } else { reader.cnf()? };
    if source.tables.is_empty() && source.variables.is_empty() {
        return Err("neither a proxysql.cnf nor a dump of ProxySQL's tables: no table and no variable of it was found".to_owned());
    }
    Ok(source)
}

/// Whether a dump was written by mysqldump, which escapes with backslashes; what sqlite3 writes takes them as they are.
fn of_mysql(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start();
        let dumped = ["-- MySQL dump", "-- MariaDB dump"].iter().any(|header| line.starts_with(header));
        let upper = line.get(..7).unwrap_or_default().to_uppercase();
        dumped
            || (["INSERT ", "REPLACE"].contains(&upper.as_str()) && line.split('(').next().is_some_and(|head| head.contains('`')))
    })
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

fn tokens(text: &str, escapes: bool) -> Result<Vec<(usize, Token)>, String> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let comment = rest.starts_with('#') || rest.starts_with("//") || rest.starts_with("--");
        let length = if c.is_whitespace() {
            c.len_utf8()
        } else if comment {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map(|i| i + 2).ok_or_else(|| format!("line {line}: a comment does not end"))?
        } else if matches!(c, '"' | '\'' | '`') {
            let (text, length) = quoted(rest, c, escapes).ok_or_else(|| format!("line {line}: a {c} does not end"))?;
            found.push((line, Token::Text(text)));
            length
        } else if c.is_alphanumeric() || matches!(c, '_' | '-' | '.') {
            let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
            let length = rest.find(|c| !word(c)).unwrap_or(rest.len());
            found.push((line, Token::Word(rest[..length].to_owned())));
            length
        } else {
            found.push((line, Token::Sign(c)));
            c.len_utf8()
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    Ok(found)
}

/// Text between quotes: doubled quotes and backslashes before quotes and backslashes escape; other backslashes belong to
/// regular expressions and stay. With `escapes`, backslashes mean what they mean in MySQL:
/// <https://dev.mysql.com/doc/refman/8.4/en/string-literals.html>
fn quoted(text: &str, quote: char, escapes: bool) -> Option<(String, usize)> {
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((i, c)) = chars.next() {
        let next = chars.peek().map(|(_, c)| *c);
        if c == quote && next == Some(quote) && quote == '\'' {
            out.push(quote);
            chars.next();
        } else if c == quote {
            return Some((out, i + c.len_utf8()));
        } else if c == '\\' && escapes && quote != '`' {
            match chars.next()?.1 {
                'n' => out.push('\n'),
                'r' => out.push('\r'),
                't' => out.push('\t'),
                'b' => out.push('\u{8}'),
                '0' => out.push('\0'),
                'Z' => out.push('\u{1a}'),
                kept @ ('%' | '_') => out.extend(['\\', kept]),
                other => out.push(other),
            }
        } else if c == '\\' && next.is_some_and(|n| n == quote || n == '\\') && quote == '"' {
            out.push(chars.next()?.1);
        } else {
            out.push(c);
        }
    }
    None
}

struct Reader {
    tokens: Vec<(usize, Token)>,
    next: usize,
    /// Columns by table, as the dump creates it: those of ProxySQL differ from version to version.
    created: BTreeMap<String, Vec<String>>,
}

impl Reader {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.next += 1;
        token
    }

    fn is(&mut self, sign: char) -> bool {
        let found = self.peek() == Some(&Token::Sign(sign));
        self.next += usize::from(found);
        found
    }

    fn word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(w)) if w.eq_ignore_ascii_case(word));
        self.next += usize::from(found);
        found
    }

    fn wrong<T>(&self, what: &str) -> Result<T, String> {
        let line = self.tokens.get(self.next.saturating_sub(1)).or(self.tokens.last()).map_or(1, |(line, _)| *line);
        Err(format!("line {line}: {what}"))
    }

    fn cnf(&mut self) -> Result<Source, String> {
        let mut source = Source::default();
        while let Some(token) = self.take() {
            if token == Token::Sign('@') && self.word("include") {
                let file = self.value()?;
                return self.wrong(&format!("@include is not followed: put the text of {file} in the place of this line"));
            }
            let Token::Word(name) = token else { return self.wrong("the name of a setting is missing") };
            if !self.is('=') && !self.is(':') {
                return self.wrong(&format!("`{name}` is not followed by = or :"));
            }
            if self.is('{') {
                let prefix = name.trim_end_matches("variables").trim_end_matches('_');
                for (key, value) in self.group()? {
                    source.variables.insert(format!("{prefix}-{key}"), value);
                }
            } else if self.is('(') {
                let rows = source.tables.entry(name).or_default();
                while !self.is(')') {
                    if self.is('{') {
                        rows.push(self.group()?);
                    } else if !self.is(',') {
                        return self.wrong("a { or ) is missing");
                    }
                }
            } else {
                // datadir, errorlog: of the program, not of its tables
                self.value()?;
            }
            let _ = self.is(';') || self.is(',');
        }
        Ok(source)
    }

    /// `key = value` up to the closing brace.
    fn group(&mut self) -> Result<Row, String> {
        let mut row = Row::new();
        while !self.is('}') {
            if self.is(',') || self.is(';') {
                continue;
            }
            let Some(Token::Word(key)) = self.take() else { return self.wrong("a key or } is missing") };
            if !self.is('=') && !self.is(':') {
                return self.wrong(&format!("`{key}` is not followed by = or :"));
            }
            let value = self.value()?;
            row.insert(key, value);
        }
        Ok(row)
    }

    fn value(&mut self) -> Result<String, String> {
        match self.take() {
            Some(Token::Word(word)) => Ok(word),
            Some(Token::Text(mut text)) => {
                // Strings beside each other are one, as in libconfig.
                while let Some(Token::Text(more)) = self.peek() {
                    text.push_str(more);
                    self.next += 1;
                }
                Ok(text)
            }
            _ => self.wrong("a value is missing"),
        }
    }

    fn dump(&mut self) -> Result<Source, String> {
        let mut source = Source::default();
        while self.peek().is_some() {
            if self.word("CREATE") && self.word("TABLE") {
                self.create()?;
            }
            if !self.word("INSERT") && !self.word("REPLACE") {
                // BEGIN, DELETE FROM, what is left of a CREATE TABLE and the like
                while self.peek().is_some() && !self.is(';') {
                    self.next += 1;
                }
                continue;
            }
            for word in ["OR", "REPLACE", "IGNORE", "INTO"] {
                self.word(word);
            }
            let table = self.table()?;
            let mut columns = Vec::new();
            if self.is('(') {
                while !self.is(')') {
                    columns.push(self.value()?);
                    self.is(',');
                }
            } else if let Some(created) = self.created.get(&table) {
                columns.clone_from(created);
            } else if let Some((_, known)) = COLUMNS.iter().find(|(name, _)| *name == table.trim_start_matches("runtime_")) {
                columns = known.split_whitespace().map(str::to_owned).collect();
            }
            if !self.word("VALUES") {
                return self.wrong("VALUES is missing");
            }
            while self.is('(') {
                let mut row = Row::new();
                let mut at = 0;
                while !self.is(')') {
                    let null = self.word("NULL");
                    let value = if null { String::new() } else { self.expression()? };
                    if let Some(column) = columns.get(at).filter(|_| !null) {
                        row.insert(column.clone(), value);
                    }
                    at += 1;
                    self.is(',');
                }
                if !columns.is_empty() && at != columns.len() {
                    return self.wrong(&format!(
                        "{table} has {} columns and this row {at} values: the dump has to have the CREATE TABLE or the columns' names of the ProxySQL it is from",
                        columns.len()
                    ));
                }
                self.row(&mut source, &table, row);
                self.is(',');
            }
            self.is(';');
        }
        Ok(source)
    }

    /// A table's name without the schema before it.
    fn table(&mut self) -> Result<String, String> {
        let table = self.value()?;
        Ok(table.rsplit_once('.').map_or(table.clone(), |(_, bare)| bare.to_owned()))
    }

    /// The columns of a CREATE TABLE: the first word of each part that is no key or check.
    fn create(&mut self) -> Result<(), String> {
        const OTHERS: &[&str] = &["PRIMARY", "KEY", "UNIQUE", "CONSTRAINT", "FOREIGN", "CHECK", "INDEX", "FULLTEXT"];
        for word in ["IF", "NOT", "EXISTS"] {
            self.word(word);
        }
        let table = self.table()?;
        if !self.is('(') {
            return Ok(());
        }
        let (mut depth, mut begins, mut columns) = (1, true, Vec::new());
        while depth > 0 {
            match self.take() {
                Some(Token::Sign('(')) => depth += 1,
                Some(Token::Sign(')')) => depth -= 1,
                Some(Token::Sign(',')) if depth == 1 => {
                    begins = true;
                    continue;
                }
                Some(Token::Word(word)) if begins && !OTHERS.iter().any(|other| other.eq_ignore_ascii_case(&word)) => {
                    columns.push(word);
                }
                Some(Token::Text(name)) if begins => columns.push(name),
                Some(_) => {}
                None => return self.wrong(&format!("the CREATE TABLE of {table} does not end")),
            }
            begins = false;
        }
        self.created.insert(table, columns);
        Ok(())
    }

    /// A value, or one of the calls that sqlite3 writes for text with line ends: `replace('a\nb','\n',char(10))`, `unistr('a\u000ab')`.
    fn expression(&mut self) -> Result<String, String> {
        let call = match (self.peek(), self.tokens.get(self.next + 1)) {
            (Some(Token::Word(name)), Some((_, Token::Sign('(')))) => name.to_lowercase(),
            _ => return self.value(),
        };
        self.next += 2;
        let mut arguments = Vec::new();
        while !self.is(')') {
            arguments.push(self.expression()?);
            self.is(',');
        }
        let letter = |code: &str, radix| u32::from_str_radix(code, radix).ok().and_then(char::from_u32);
        let value = match (call.as_str(), arguments.as_slice()) {
            ("replace", [text, what, with]) => Some(text.replace(what, with)),
            ("char", [code]) => letter(code, 10).map(String::from),
            ("unistr", [text]) => {
                let mut parts = text.split("\\u");
                let first = parts.next().unwrap_or_default().to_owned();
                let rest = parts.map(|part| Some(format!("{}{}", letter(part.get(..4)?, 16)?, part.get(4..)?)));
                rest.collect::<Option<String>>().map(|rest| (first + &rest).replace("\\\\", "\\"))
            }
            _ => None,
        };
        match value {
            Some(value) => Ok(value),
            None => self.wrong(&format!("{call}() of {} values is not understood", arguments.len())),
        }
    }

    fn row(&self, source: &mut Source, table: &str, row: Row) {
        if table == "global_variables" {
            if let (Some(name), Some(value)) = (row.get("variable_name"), row.get("variable_value")) {
                source.variables.insert(name.clone(), value.clone());
            }
        } else {
            source.tables.entry(table.to_owned()).or_default().push(row);
        }
    }
}
