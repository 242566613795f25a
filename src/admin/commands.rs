//! The statements of the admin port: which one is it, what does it ask of the house, and what would have been right.

use super::Session;
use super::answer::{AdminError, Answer};
use super::foreign::{self, Meant};
use super::house::{Command, House};
use super::nearest::nearest;
use super::select::select;
use super::show::{columns, show};
use super::tables;
use super::words::{Token, executable, tokens};
use crate::protocol::errno;

/// Answers one statement as a client that has just logged in would see it.
pub async fn execute(sql: &str, house: &dyn House) -> Answer {
    execute_in(sql, &mut Session::default(), house).await
}

/// Answers one statement of a session. A wrong one gets an error that says what would have been right.
pub async fn execute_in(sql: &str, session: &mut Session, house: &dyn House) -> Answer {
    match statement(sql, session, house).await {
        Ok(answer) => answer,
        Err(error) => Answer::Error(error),
    }
}

type Result<T> = std::result::Result<T, AdminError>;

async fn statement(sql: &str, session: &mut Session, house: &dyn House) -> Result<Answer> {
    // What is to be explained is judged as it was typed: its executable comments are a part of it, and its quotes are not ours to judge.
    if let Ok(head) = head(sql)
        && head.upper == "EXPLAIN"
        && let Some(answer) = explain_route(&sql[head.end..], session, house)?
    {
        return Ok(answer);
    }
    let sql = &*executable(sql);
    let sql = match foreign::meant(sql) {
        Some(Meant::Statement(ours)) => &*ours.clone(),
        Some(Meant::Instead(error)) => return Err(error),
        None => sql,
    };
    // A SELECT's quotes are not ours to judge; the first word is enough to know it.
    let head = head(sql)?;
    if matches!(head.upper.as_str(), "SELECT" | "WITH" | "(") {
        return select(sql.trim_end().trim_end_matches(';'), session, house).await.map(Answer::Table);
    }
    let words = tokens(sql)?;
    let mut words = Words { words: &words, next: 0, sql };
    let first = words.take().unwrap_or_default();
    let text = |info: String| Answer::Ok { affected: 0, info };
    let command = match first.as_str() {
        "SHOW" => return show(words, session, house).await.map(Answer::Table),
        "DESC" | "DESCRIBE" | "EXPLAIN" => {
            if matches!(
                words.peek(),
                "SELECT" | "WITH" | "TABLE" | "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "ANALYZE" | "FORMAT"
            ) {
                let text = "there are no plans here; EXPLAIN ROUTE SELECT ... says where a statement of a client would go";
                return Err(AdminError::syntax(text));
            }
            if !words.is_last() && nearest(words.peek(), ["ROUTE"]).is_some() {
                return Err(AdminError::syntax("did you mean EXPLAIN ROUTE [FOR USER name] [FROM address] statement?"));
            }
            let table = words.table()?;
            return columns(&table, false).map(Answer::Table);
        }
        "HELP" | "?" | "\\H" => return tables::table(None, "help", house).map(Answer::Table),
        "USE" => {
            session.schema = Some(words.name("the schema")?);
            words.end("USE schema")?;
            return Ok(Answer::done());
        }
        // Drivers open and close transactions around everything; there is nothing here to roll back.
        "BEGIN" | "COMMIT" | "ROLLBACK" | "START" => return Ok(Answer::done()),
        // Nobody else can change what a dump reads.
        "LOCK" | "UNLOCK" if matches!(words.peek(), "TABLE" | "TABLES") => return Ok(Answer::done()),
        "SAVEPOINT" | "RELEASE" => return Ok(Answer::done()),
        "PING" | "DO" => return Ok(Answer::done()),
        "SET" => match set(&mut words, session, house)? {
            Some(command) => command,
            None => return Ok(Answer::done()),
        },
        "DRAIN" => Command::DrainServer(words.server("DRAIN")?),
        "ONLINE" => Command::OnlineServer(words.server("ONLINE")?),
        "OFFLINE" => Command::OfflineServer(words.server("OFFLINE")?),
        "REJOIN" => Command::RejoinServer(words.server("REJOIN")?),
        "SWITCHOVER" => {
            let form = "SWITCHOVER TO db2 [DRY RUN]";
            words.expect("TO", form)?;
            let to = words.name("the new master")?;
            let dry_run = words.is("DRY");
            if dry_run {
                words.expect("RUN", form)?;
            }
            words.end(form)?;
            Command::Switchover { to, dry_run }
        }
        "FAILOVER" => {
            let form = "FAILOVER TO db2 [FORCE]";
            words.expect("TO", form)?;
            let to = words.name("the new master")?;
            let force = words.is("FORCE");
            words.end(form)?;
            Command::Failover { to, force }
        }
        "PAUSE" => words.end("PAUSE").map(|()| Command::Pause)?,
        "RESUME" => words.end("RESUME").map(|()| Command::Resume)?,
        "SHUTDOWN" => words.end("SHUTDOWN").map(|()| Command::Shutdown)?,
        "RELOAD" => {
            words.expect("CONFIG", "RELOAD CONFIG")?;
            words.end("RELOAD CONFIG")?;
            Command::ReloadConfig
        }
        "SAVE" => {
            words.expect("CONFIG", "SAVE CONFIG")?;
            words.end("SAVE CONFIG")?;
            Command::SaveConfig
        }
        "FLUSH" => match words.take().as_deref() {
            Some("STATEMENTS") => words.end("FLUSH STATEMENTS").map(|()| Command::FlushStatements)?,
            Some("CACHE") => {
                let form = "FLUSH CACHE [TABLE shop.items]";
                let table = if words.is("TABLE") { Some(words.whole_name()?) } else { None };
                words.end(form)?;
                Command::FlushCache(table)
            }
            _ => return Err(AdminError::syntax("FLUSH what? FLUSH CACHE [TABLE shop.items] or FLUSH STATEMENTS")),
        },
        "KILL" => {
            let query = words.is("QUERY");
            if !query {
                words.is("CONNECTION");
            }
            let id = words.number("KILL [QUERY] id; SHOW CLIENTS lists the ids")?;
            words.end("KILL [QUERY] id")?;
            Command::Kill { id, query }
        }
        "" => return Err(AdminError::new(errno::ER_EMPTY_QUERY, "the statement is empty; HELP lists what there is")),
        _ => return Err(unknown(sql)),
    };
    let replaces = matches!(command, Command::Switchover { .. } | Command::Failover { .. } | Command::RejoinServer(_));
    let done = if replaces {
        house.steps(command).await.map(|steps| Answer::Table(tables::of(&steps)))
    } else {
        house.command(command).await.map(text)
    };
    // Who did it stands beside what the house itself notes about the change.
    let outcome = match &done {
        Ok(Answer::Ok { info, .. }) => info.clone(),
        Ok(_) => "done".to_owned(),
        Err(error) => format!("refused: {}", error.message),
    };
    let said = words.sql.split_whitespace().collect::<Vec<_>>().join(" ");
    house.note(&format!("{}@{}", session.user, session.host), &format!("{}: {outcome}", said.trim_end_matches(';')));
    done
}

/// The first word behind comments. A SELECT in parentheses begins with `(`.
fn head(sql: &str) -> Result<Token> {
    let mut rest = sql;
    loop {
        rest = rest.trim_start();
        if rest.starts_with("/*") {
            let end = rest.find("*/").ok_or_else(|| AdminError::syntax("a comment that begins with /* does not end"))?;
            rest = &rest[end + 2..];
        } else if rest.starts_with('#') || rest.starts_with("-- ") {
            rest = rest.find('\n').map_or("", |i| &rest[i..]);
        } else {
            break;
        }
    }
    let start = sql.len() - rest.len();
    let letters = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let length = if letters == 0 { rest.chars().next().map_or(0, char::len_utf8) } else { letters };
    let text = rest[..length].to_owned();
    Ok(Token { upper: text.to_uppercase(), text, start, end: start + length })
}

/// `EXPLAIN ROUTE [FOR USER u] [FROM address] <statement>`, given what follows EXPLAIN; `None` when ROUTE does not follow.
fn explain_route(rest: &str, session: &Session, house: &dyn House) -> Result<Option<Answer>> {
    let route = head(rest)?;
    if route.upper != "ROUTE" {
        return Ok(None);
    }
    let mut statement = &rest[route.end..];
    let mut user = None;
    // A comment that does not end is for the statement's judge.
    let mark = |statement| head(statement).ok();
    if let Some(mark) = mark(statement).filter(|mark| mark.upper == "FOR") {
        let after = &statement[mark.end..];
        let word = head(after)?;
        if word.upper != "USER" {
            return Err(AdminError::syntax("EXPLAIN ROUTE FOR what? EXPLAIN ROUTE [FOR USER name] [FROM address] statement"));
        }
        let (name, behind) = named(&after[word.end..])?;
        user = Some(name.to_owned());
        statement = behind;
    }
    let mut client = None;
    // No statement begins with it.
    if let Some(mark) = mark(statement).filter(|mark| mark.upper == "FROM") {
        let (address, behind) = named(&statement[mark.end..])?;
        client =
            Some(address.parse().map_err(|_| {
                AdminError::syntax(format_args!("`{address}` is no address; EXPLAIN ROUTE FROM '10.1.2.3' statement"))
            })?);
        statement = behind;
    }
    let statement = statement.trim().trim_end_matches(';').trim_end();
    if statement.is_empty() {
        return Err(AdminError::syntax("EXPLAIN ROUTE needs a statement: EXPLAIN ROUTE [FOR USER name] [FROM address] SELECT 1"));
    }
    let schema = session.schema.as_deref().filter(|s| *s != tables::SCHEMA);
    let row = house.explain_route(user.as_deref(), client, schema, statement);
    Ok(Some(Answer::Table(tables::of_row(&row))))
}

/// A name or address at the beginning of a text, and what stands behind it. It may be quoted; the statement behind it is not for our tokenizer.
fn named(text: &str) -> Result<(&str, &str)> {
    let text = text.trim_start();
    match text.chars().next().filter(|c| matches!(c, '\'' | '"' | '`')) {
        Some(quote) => {
            text[1..].split_once(quote).ok_or_else(|| AdminError::syntax(format_args!("the quote {quote} does not end")))
        }
        None => Ok(text.split_once(char::is_whitespace).unwrap_or((text, ""))),
    }
}

/// `SET SERVER x WEIGHT n` is a command; what drivers set for themselves is taken and forgotten; anything that would be
/// expected to change the proxy is refused, never silently taken.
fn set(words: &mut Words<'_>, session: &mut Session, house: &dyn House) -> Result<Option<Command>> {
    let form = "SET SERVER db3 WEIGHT 5";
    if words.is("SERVER") {
        let server = words.name("the server")?;
        words.expect("WEIGHT", form)?;
        words.is("=");
        let weight = words.number(form)?;
        words.end(form)?;
        return match u32::try_from(weight) {
            Ok(weight @ 1..=1_000_000) => Ok(Some(Command::SetWeight { server, weight })),
            _ => Err(AdminError::syntax("a weight is a number from 1 to 1000000; OFFLINE SERVER takes a server out")),
        };
    }
    let next = words.peek();
    if matches!(next, "GLOBAL" | "PERSIST" | "PERSIST_ONLY") || next.starts_with("@@GLOBAL.") || next.starts_with("@@PERSIST") {
        return Err(AdminError::new(
            errno::ER_NOT_SUPPORTED_YET,
            "settings are changed in the configuration file, then RELOAD CONFIG",
        ));
    }
    let at = usize::from(matches!(next, "SESSION" | "LOCAL")) + words.next;
    if let Some(key) = words.words.get(at).and_then(|word| key(&word.text, house)) {
        let text = format!("{key} is changed in the configuration file, then RELOAD CONFIG");
        return Err(AdminError::new(errno::ER_NOT_SUPPORTED_YET, text));
    }
    let harmless = matches!(next, "NAMES" | "CHARACTER" | "CHARSET" | "SESSION" | "LOCAL" | "TRANSACTION")
        || next.starts_with('@')
        || words.words.iter().any(|t| t.upper == "=" || t.upper.ends_with(':'));
    if !harmless || next.is_empty() {
        return Err(AdminError::syntax(format_args!("SET what? {form}")));
    }
    select_limit(words.words, session)?;
    Ok(None)
}

/// The one variable that does something here: JDBC's `setMaxRows` sets it.
fn select_limit(words: &[Token], session: &mut Session) -> Result<()> {
    let is_limit = |word: &Token| {
        let name = word.upper.trim_end_matches(':').trim_start_matches("@@");
        ["SESSION.", "LOCAL."].iter().find_map(|scope| name.strip_prefix(scope)).unwrap_or(name) == "SQL_SELECT_LIMIT"
    };
    let Some(at) = words.iter().position(is_limit) else { return Ok(()) };
    let value = words.iter().skip(at + 1).find(|word| !matches!(word.upper.as_str(), "=" | ":"));
    session.select_limit = match value.map(|word| (word.upper.as_str(), word.text.parse::<u64>())) {
        Some(("DEFAULT", _)) => None,
        Some((_, Ok(rows))) => Some(rows),
        _ => return Err(AdminError::new(errno::ER_WRONG_TYPE_FOR_VAR, "SQL_SELECT_LIMIT is a number of rows or DEFAULT")),
    };
    Ok(())
}

/// The key of the configuration that is meant by `monitor.max_lag`, or by `max_lag` alone.
fn key(typed: &str, house: &dyn House) -> Option<String> {
    let keys = house.variables().into_iter().map(|(key, _)| key);
    let last = |key: &str| key.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case(typed));
    keys.filter(|key| key.contains('.')).find(|key| key.eq_ignore_ascii_case(typed) || last(key))
}

/// What to say to a statement that begins like nothing we know.
fn unknown(sql: &str) -> AdminError {
    const SHOWN_LETTERS_MAX: usize = 60;
    let mut shown: String = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    if shown.chars().count() > SHOWN_LETTERS_MAX {
        shown = shown.chars().take(SHOWN_LETTERS_MAX).chain(" ...".chars()).collect();
    }
    // Compare the first two words with those of every form, then the first alone.
    let words: Vec<&str> = shown.split(' ').collect();
    let forms = tables::HELP.iter().map(|(form, _)| *form);
    let begin = |form: &str, n: usize| form.split(' ').take(n).collect::<Vec<_>>().join(" ");
    let mut near = None;
    for n in [2, 1] {
        let typed = words.iter().take(n).copied().collect::<Vec<_>>().join(" ");
        let begins: Vec<(String, &str)> = forms.clone().map(|form| (begin(form, n), form)).collect();
        if let Some(found) = nearest(&typed, begins.iter().map(|(b, _)| b.as_str())) {
            near = begins.iter().find(|(b, _)| b == found).map(|(_, form)| *form);
            break;
        }
    }
    let sql_words = ["INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "REPLACE", "GRANT", "LOAD", "TRUNCATE"];
    let advice = match near {
        _ if words.first().is_some_and(|w| sql_words.contains(&w.to_uppercase().as_str())) => {
            "this is the proxy's admin port; statements for the servers go to the port of the clients".to_owned()
        }
        Some(form) => format!("did you mean {form}?"),
        None => "HELP lists what there is".to_owned(),
    };
    AdminError::syntax(format_args!("unknown statement `{shown}`; {advice}"))
}

/// The words of a command, taken one by one.
pub(super) struct Words<'w> {
    words: &'w [Token],
    next: usize,
    sql: &'w str,
}

impl Words<'_> {
    /// The next word in upper case, empty at the end and for quoted text.
    pub(super) fn peek(&self) -> &str {
        self.words.get(self.next).map_or("", |t| t.upper.as_str())
    }

    pub(super) fn take(&mut self) -> Option<String> {
        let word = self.words.get(self.next)?;
        self.next += 1;
        Some(word.upper.clone())
    }

    /// Takes the word if it is next.
    pub(super) fn is(&mut self, word: &str) -> bool {
        let found = self.peek() == word;
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, word: &str, form: &str) -> Result<()> {
        if self.is(word) { Ok(()) } else { Err(AdminError::syntax(format_args!("{word} is missing; write {form}"))) }
    }

    /// A name, bare or quoted.
    pub(super) fn name(&mut self, what: &str) -> Result<String> {
        match self.words.get(self.next) {
            Some(token) if !token.text.is_empty() => {
                self.next += 1;
                Ok(token.text.clone())
            }
            _ => Err(AdminError::syntax(format_args!("{what} is missing at the end of `{}`", self.sql.trim()))),
        }
    }

    /// A table's name; a schema before it is left out.
    pub(super) fn table(&mut self) -> Result<String> {
        let mut name = self.name("the table")?;
        while self.is(".") {
            name = self.name("the table")?;
        }
        Ok(name)
    }

    fn number(&mut self, form: &str) -> Result<u64> {
        let number = self.words.get(self.next).and_then(|t| t.text.parse().ok());
        self.next += 1;
        number.ok_or_else(|| AdminError::syntax(format_args!("a number is missing; write {form}")))
    }

    /// `SERVER name` and nothing behind it.
    fn server(&mut self, verb: &str) -> Result<String> {
        let is_there = self.is("SERVER");
        let typed = self.words.get(self.next).map_or("db3", |token| token.text.as_str());
        let form = format!("{verb} SERVER {typed}");
        if !is_there {
            return Err(AdminError::syntax(format_args!("SERVER is missing; write {form}")));
        }
        let name = self.name("the server")?;
        self.end(&form)?;
        Ok(name)
    }

    /// A table's name with its schema, however it is quoted: `shop.items`.
    fn whole_name(&mut self) -> Result<String> {
        let mut name = self.name("the table")?;
        while self.is(".") {
            name = format!("{name}.{}", self.name("the table")?);
        }
        Ok(name)
    }

    /// Whether at most one word follows.
    fn is_last(&self) -> bool {
        self.next + 1 >= self.words.len()
    }

    pub(super) fn end(&self, form: &str) -> Result<()> {
        match self.words.get(self.next) {
            None => Ok(()),
            Some(token) => Err(AdminError::syntax(format_args!("`{}` is too much; write {form}", token.text))),
        }
    }

    pub(super) fn from(&mut self) -> Result<()> {
        if self.is("FROM") || self.is("IN") {
            Ok(())
        } else {
            Err(AdminError::syntax("FROM is missing; write SHOW COLUMNS FROM servers"))
        }
    }

    /// All that follows, as it was written.
    pub(super) fn rest(&self) -> &str {
        self.words.get(self.next).map_or("", |t| &self.sql[t.start..])
    }
}
