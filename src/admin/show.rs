//! `SHOW` and `DESCRIBE`: the admin's tables, and what tools ask about a MySQL server.
//!
//! Whatever SHOW shows takes `LIKE` (on its first column), `WHERE`, `ORDER BY` and `LIMIT`.

use super::Session;
use super::answer::{AdminError, Column, Kind, Table, Value};
use super::commands::Words;
use super::foreign;
use super::house::House;
use super::information_schema;
use super::nearest::nearest;
use super::select::{filter, select};
use super::system_schemas::MYSQLS;
use super::tables::{self, INFORMATION, SCHEMA, TABLES};
use super::words::like;
use crate::protocol::errno::{self, Errno};

type Result<T> = std::result::Result<T, AdminError>;

/// The number of the warning that some clients are another process's.
const ELSEWHERE: Errno = errno::ER_UNKNOWN_ERROR;
const SHOWS: &[&str] = &[
    "SERVERS",
    "CLIENTS",
    "POOLS",
    "STATEMENTS",
    "CACHE",
    "EVENTS",
    "RULES",
    "USERS",
    "CONFIG",
    "STATUS",
    "VARIABLES",
    "METRICS",
    "PROCESSLIST",
    "VERSION",
    "TABLES",
    "DATABASES",
    "COLUMNS",
    "WARNINGS",
];

/// Answers what follows SHOW.
pub async fn show(mut words: Words<'_>, session: &Session, house: &dyn House) -> Result<Table> {
    let full = words.is("FULL") || (words.is("EXTENDED") && words.is("FULL"));
    for scope in ["GLOBAL", "SESSION", "LOCAL"] {
        words.is(scope);
    }
    let what = words.take().unwrap_or_default();
    let table = match what.as_str() {
        "SERVERS" | "CLIENTS" | "POOLS" | "STATEMENTS" | "EVENTS" | "RULES" | "USERS" | "STATUS" | "VARIABLES" | "METRICS"
        | "PROCESSLIST" | "VERSION" | "HELP" => tables::table(None, &what, house)?,
        "CACHE" if words.is("ENTRIES") => tables::table(None, "cache_entries", house)?,
        "CONFIG" if words.is("DIFF") => tables::table(None, "config_diff", house)?,
        "CACHE" | "CONFIG" => tables::table(None, &what, house)?,
        "DATABASES" | "SCHEMAS" => Table::of_text(&["Database"], vec![vec![INFORMATION.to_owned()], vec![SCHEMA.to_owned()]]),
        "TABLES" => list(&mut words, full, session)?,
        "TABLE" if words.is("STATUS") => {
            if words.from().is_ok() {
                known_schema(&words.name("the schema")?)?;
            }
            let sql = "SELECT table_name AS Name, Engine, Version, Row_format, table_rows AS `Rows`, Avg_row_length, Data_length, \
                Max_data_length, Index_length, Data_free, Auto_increment, Create_time, Update_time, Check_time, \
                table_collation AS Collation, Checksum, Create_options, table_comment AS Comment FROM information_schema.tables";
            select(sql, session, house).await?
        }
        "COLUMNS" | "FIELDS" => {
            words.from()?;
            let table = words.table()?;
            if words.from().is_ok() {
                words.name("the schema")?;
            }
            columns(&table, full)?
        }
        "CREATE" => create(&mut words)?,
        "GRANTS" => {
            // There is one account, whoever is asked about.
            if words.is("FOR") {
                while !words.rest().is_empty() {
                    words.take();
                }
            }
            let user = format!("Grants for {}@%", session.user);
            Table::of_text(&[&user], vec![vec![format!("GRANT ALL PRIVILEGES ON `{SCHEMA}`.* TO `{}`@`%`", session.user)]])
        }
        "WARNINGS" | "ERRORS" => {
            let mut table = Table::of_text(&["Level", "Code", "Message"], Vec::new());
            table.columns[1].kind = Kind::UInt;
            if what == "WARNINGS"
                && let Some(text) = house.elsewhere()
            {
                table.rows.push(vec![
                    Value::from("Warning"),
                    Value::UInt(u64::from(ELSEWHERE.0)),
                    Value::from(&*format!("sluice: {text}")),
                ]);
            }
            table
        }
        "COLLATION" => {
            let sql = "SELECT collation_name AS `Collation`, character_set_name AS `Charset`, id AS `Id`, is_default AS `Default`, \
                is_compiled AS `Compiled`, sortlen AS `Sortlen` FROM information_schema.collations";
            select(sql, session, house).await?
        }
        "CHARSET" | "CHARACTER" => {
            words.is("SET");
            let sql = "SELECT character_set_name AS `Charset`, description AS `Description`, \
                default_collate_name AS `Default collation`, maxlen AS `Maxlen` FROM information_schema.character_sets";
            select(sql, session, house).await?
        }
        "ENGINES" | "STORAGE" => {
            words.is("ENGINES");
            let mut table = Table::of_text(&["Engine", "Support", "Comment", "Transactions", "XA", "Savepoints"], Vec::new());
            table.rows.push(information_schema::engine());
            table
        }
        // Asked by tools that draw a tree; there are none of them here.
        "PLUGINS" => Table::of_text(&["Name", "Status", "Type", "Library", "License"], Vec::new()),
        "PRIVILEGES" => Table::of_text(&["Privilege", "Context", "Comment"], Vec::new()),
        "OPEN" if words.is("TABLES") => {
            names_behind_from(&mut words)?;
            Table::of_text(&["Database", "Table", "In_use", "Name_locked"], Vec::new())
        }
        "TRIGGERS" => {
            names_behind_from(&mut words)?;
            Table::of_text(&["Trigger", "Event", "Table", "Statement", "Timing"], Vec::new())
        }
        "PROCEDURE" | "FUNCTION" => {
            words.is("STATUS");
            Table::of_text(&["Db", "Name", "Type", "Definer", "Modified", "Created", "Comment"], Vec::new())
        }
        "INDEX" | "INDEXES" | "KEYS" => {
            names_behind_from(&mut words)?;
            Table::of_text(&["Table", "Non_unique", "Key_name", "Seq_in_index", "Column_name"], Vec::new())
        }
        "" => return Err(AdminError::syntax("SHOW what? SHOW SERVERS, for example; HELP lists what there is")),
        other => {
            let advice = match nearest(other, SHOWS.iter().copied()) {
                Some(near) => format!("did you mean SHOW {near}?"),
                None => "HELP lists what there is".to_owned(),
            };
            return Err(AdminError::syntax(format_args!("unknown statement `SHOW {other}`; {advice}")));
        }
    };
    narrow(table, &mut words, &what, session).await
}

/// `[LIKE 'pattern'] [WHERE ...] [ORDER BY ...] [LIMIT ...]`
async fn narrow(mut table: Table, words: &mut Words<'_>, what: &str, session: &Session) -> Result<Table> {
    if words.is("LIKE") {
        let pattern = words.name("the pattern")?;
        table.rows.retain(|row| row.first().and_then(Value::text).is_some_and(|text| like(&text, &pattern)));
    }
    match words.peek() {
        "" if words.rest().is_empty() => Ok(table),
        "WHERE" | "ORDER" | "LIMIT" => {
            let rest = words.rest().trim_end_matches([';', ' ', '\n']);
            filter(table, rest, session).await
        }
        _ => {
            let word = words.rest().split_whitespace().next().unwrap_or_default();
            Err(AdminError::syntax(format_args!(
                "`{word}` cannot follow SHOW {what}; LIKE 'pattern', WHERE, ORDER BY and LIMIT can"
            )))
        }
    }
}

/// `FROM table [FROM schema]` where nothing depends on the names.
fn names_behind_from(words: &mut Words<'_>) -> Result<()> {
    while words.from().is_ok() {
        words.table()?;
    }
    Ok(())
}

/// Schemas that every MySQL server has, and tools look into; no table of theirs is listed.
fn is_mysqls(schema: &str) -> bool {
    MYSQLS.iter().any(|known| schema.eq_ignore_ascii_case(known))
}

/// ER_BAD_DB_ERROR (1049) for a schema that is not here.
pub(super) fn known_schema(name: &str) -> Result<()> {
    let known = [SCHEMA, INFORMATION].iter().any(|known| name.eq_ignore_ascii_case(known));
    if known || is_mysqls(name) || foreign::is_schema(name) {
        return Ok(());
    }
    let text = format!("no schema is called `{name}` on the admin port; there are {SCHEMA} and {INFORMATION}");
    Err(AdminError::new(errno::ER_BAD_DB_ERROR, text))
}

fn list(words: &mut Words<'_>, full: bool, session: &Session) -> Result<Table> {
    let mut schema = session.schema.clone();
    if words.from().is_ok() {
        let named = words.name("the schema")?;
        known_schema(&named)?;
        schema = Some(named);
    }
    let schema = schema.unwrap_or_else(|| SCHEMA.to_owned());
    let mut names = vec![format!("Tables_in_{schema}")];
    if full {
        names.push("Table_type".to_owned());
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let listed = TABLES.iter().filter(|_| !tables::is_information_schema(&schema) && !is_mysqls(&schema));
    let rows = listed
        .map(|(name, _)| {
            let mut row = vec![(*name).to_owned()];
            if full {
                row.push("BASE TABLE".to_owned());
            }
            row
        })
        .collect();
    Ok(Table::of_text(&names, rows))
}

/// `SHOW CREATE TABLE servers`, `SHOW CREATE DATABASE sluice`: what a tool can show, not what made it.
fn create(words: &mut Words<'_>) -> Result<Table> {
    let kind = words.take().unwrap_or_default();
    let name = words.table()?;
    match kind.as_str() {
        "DATABASE" | "SCHEMA" => {
            let text = format!("CREATE DATABASE `{name}` /*!40100 DEFAULT CHARACTER SET utf8mb4 */");
            Ok(Table::of_text(&["Database", "Create Database"], vec![vec![name, text]]))
        }
        "TABLE" => {
            let bare = name.rsplit('.').next().unwrap_or(&name).to_owned();
            let lines: Vec<String> = found_columns(&bare)?.iter().map(|c| format!("  `{}` {}", c.name, c.kind.as_str())).collect();
            let text = format!("CREATE TABLE `{bare}` (\n{}\n) ENGINE=SLUICE DEFAULT CHARSET=utf8mb4", lines.join(",\n"));
            Ok(Table::of_text(&["Table", "Create Table"], vec![vec![bare, text]]))
        }
        _ => Err(AdminError::syntax("SHOW CREATE what? SHOW CREATE TABLE servers")),
    }
}

fn found_columns(bare: &str) -> Result<Vec<Column>> {
    tables::columns_of(bare).ok_or_else(|| {
        let advice = match nearest(bare, TABLES.iter().map(|(name, _)| *name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "SHOW TABLES lists them".to_owned(),
        };
        AdminError::new(errno::ER_NO_SUCH_TABLE, format_args!("no table is called `{bare}`; {advice}"))
    })
}

/// <https://dev.mysql.com/doc/refman/8.4/en/show-columns.html>
pub fn columns(table: &str, full: bool) -> Result<Table> {
    let all = found_columns(table.rsplit('.').next().unwrap_or(table))?;
    let mut names = vec!["Field", "Type", "Null", "Key", "Default", "Extra"];
    if full {
        names.splice(2..2, ["Collation"]);
        names.extend(["Privileges", "Comment"]);
    }
    let rows = all
        .iter()
        .map(|column| {
            let mut row = vec![
                Value::from(column.name.as_str()),
                Value::from(column.kind.as_str()),
                Value::from("YES"),
                Value::from(""),
                Value::Null,
                Value::from(""),
            ];
            if full {
                row.insert(2, if column.kind == Kind::Text { Value::from("utf8mb4_general_ci") } else { Value::Null });
                row.extend([Value::from("select"), Value::from("")]);
            }
            row
        })
        .collect();
    Ok(Table { columns: names.into_iter().map(|name| Column::new(name, Kind::Text)).collect(), rows })
}
