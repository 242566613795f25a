//! The admin's tables by name: what `SHOW x` and `SELECT ... FROM x` read, and what tools see of them.

use super::answer::{AdminError, Column, Kind, Table, Value};
use super::foreign;
use super::house::*;
use super::information_schema;
use super::nearest::nearest;
use super::system_schemas::{self, MYSQLS};
use super::variables;
use crate::protocol::errno;

/// The schema that `SHOW DATABASES` shows and whose tables these are.
pub const SCHEMA: &str = "sluice";
/// The schema in which tools look for tables and columns.
pub const INFORMATION: &str = "information_schema";

/// Whether a schema's name is that of [`INFORMATION`].
pub fn is_information_schema(schema: &str) -> bool {
    schema.eq_ignore_ascii_case(INFORMATION)
}

/// The schema, as it is called here, in which a table is that is looked for in `schema`: whoever named another, or none, means our own.
pub fn place(schema: Option<&str>) -> &'static str {
    let known = MYSQLS.iter().copied().chain([INFORMATION]);
    schema.and_then(|named| known.into_iter().find(|known| named.eq_ignore_ascii_case(known))).unwrap_or(SCHEMA)
}

/// Every table, with what it shows.
pub const TABLES: &[(&str, &str)] = &[
    ("servers", "servers with role, state, lag and load"),
    ("clients", "clients with what they do and why they are pinned"),
    ("pools", "connections to the servers by user"),
    ("statements", "statistics by digest"),
    ("cache", "the cache"),
    ("cache_entries", "entries of the cache"),
    ("events", "what happened"),
    ("rules", "routing rules"),
    ("users", "users with their limits"),
    ("config", "the running configuration"),
    ("config_diff", "what the file has and the process has not"),
    ("status", "counters"),
    ("variables", "settings in effect, and what drivers ask for"),
    ("metrics", "what /metrics shows"),
    ("processlist", "clients, as MySQL shows them"),
    ("version", "what runs here"),
    ("help", "the statements of this port"),
];

/// Every statement with what it does: `HELP`.
pub const HELP: &[(&str, &str)] = &[
    ("SHOW SERVERS", "servers with role, state, lag and load"),
    ("SHOW CLIENTS", "clients with what they do and why they are pinned"),
    ("SHOW POOLS", "connections to the servers by user"),
    ("SHOW STATEMENTS", "statistics by digest"),
    ("SHOW CACHE", "the cache in one line"),
    ("SHOW CACHE ENTRIES", "entries of the cache"),
    ("SHOW EVENTS", "what happened, oldest first"),
    ("SHOW RULES", "routing rules with their hits"),
    ("SHOW USERS", "users with their limits"),
    ("SHOW CONFIG [DIFF]", "the running configuration; DIFF: what the file has and the process has not"),
    ("SHOW STATUS [LIKE 'pattern']", "counters"),
    ("SHOW VARIABLES [LIKE 'pattern']", "settings in effect"),
    ("SHOW METRICS [LIKE 'pattern']", "what /metrics shows"),
    ("SHOW PROCESSLIST", "clients, as MySQL shows them"),
    ("SHOW VERSION", "what runs here"),
    (
        "SELECT columns FROM table [JOIN ...] [WHERE ...] [GROUP BY ...] [ORDER BY ...] [LIMIT n]",
        "any of these tables, joined if need be; SHOW TABLES lists them",
    ),
    ("EXPLAIN ROUTE [FOR USER name] [FROM address] statement", "where a statement would go, and why"),
    ("SWITCHOVER TO server [DRY RUN]", "make another server the master, losing nothing"),
    ("FAILOVER TO server [FORCE]", "make another server the master when the master is gone"),
    ("REJOIN SERVER server", "bring a former master back"),
    ("DRAIN SERVER server", "let it finish, give it nothing new"),
    ("ONLINE SERVER server", "back into rotation"),
    ("OFFLINE SERVER server", "out of rotation at once"),
    ("SET SERVER server WEIGHT n", "its share of the reads, until the next reload"),
    ("PAUSE", "hold new statements"),
    ("RESUME", "let them go"),
    ("FLUSH CACHE [TABLE schema.table]", "forget cached results"),
    ("FLUSH STATEMENTS", "forget the statistics"),
    ("KILL [QUERY] id", "end a client, or only its statement"),
    ("RELOAD CONFIG", "read the file again and apply it whole or not at all"),
    ("SAVE CONFIG", "write what commands changed into the file; its comments stay"),
    ("SHUTDOWN", "let transactions end, then exit"),
    ("HELP", "this list"),
];

/// Rows as a table.
pub fn of<R: Row>(rows: &[R]) -> Table {
    Table { columns: columns::<R>(), rows: rows.iter().map(Row::cells).collect() }
}

fn columns<R: Row>() -> Vec<Column> {
    R::COLUMNS.iter().map(|(name, kind)| Column::new(*name, *kind)).collect()
}

/// A single row as a table: `EXPLAIN ROUTE`.
pub fn of_row<R: Row>(row: &R) -> Table {
    of(std::slice::from_ref(row))
}

/// A table by schema and name, with its rows as they are now.
///
/// # Errors
/// 1146 with the nearest name, or what the house says (1235 for what it does not have).
pub fn table(schema: Option<&str>, name: &str, house: &dyn House) -> Result<Table, AdminError> {
    let lower = name.to_lowercase();
    if schema.is_some_and(is_information_schema) {
        return match lower.as_str() {
            "processlist" => Ok(processlist(&house.clients())),
            _ => information_schema::table(&lower),
        };
    }
    if let place @ ("mysql" | "performance_schema" | "sys") = place(schema) {
        return system_schemas::table(place, &lower, house);
    }
    Ok(match lower.as_str() {
        "servers" => of(&house.servers()),
        "clients" => of(&house.clients()),
        "pools" => of(&house.pools()),
        "statements" => of(&house.statements()),
        "cache" => of(&house.cache()?),
        "cache_entries" => of(&house.cache_entries()?),
        "events" => of(&house.events()),
        "rules" => of(&house.rules()),
        "users" => of(&house.users()),
        "config" => config(&house.config_text()),
        "config_diff" => of(&house.config_diff()?),
        "status" => names_and_values(house.status()),
        "variables" => {
            let mut all = house.variables();
            for name in variables::LISTED {
                if let Some(value) = variables::system(name) {
                    all.push(((*name).to_owned(), value.text().unwrap_or_default()));
                }
            }
            all.sort();
            all.dedup_by(|a, b| a.0 == b.0);
            names_and_values(all)
        }
        "metrics" => metrics(&house.metrics_text()),
        "processlist" => processlist(&house.clients()),
        "version" => Table::of_text(&["name", "version"], vec![vec!["sluice".to_owned(), env!("CARGO_PKG_VERSION").to_owned()]]),
        "help" => Table::of_text(
            &["statement", "meaning"],
            HELP.iter().map(|(statement, meaning)| vec![(*statement).to_owned(), (*meaning).to_owned()]).collect(),
        ),
        _ => {
            let advice = match foreign::instead_of_table(&lower).map(str::to_owned) {
                Some(instead) => instead,
                None => match nearest(&lower, TABLES.iter().map(|(name, _)| *name)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", TABLES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")),
                },
            };
            return Err(AdminError::new(errno::ER_NO_SUCH_TABLE, format_args!("no table is called `{name}`; {advice}")));
        }
    })
}

/// The columns of a table, for `SHOW COLUMNS` and field lists; never asks for its rows where that could fail.
pub fn columns_of(name: &str) -> Option<Vec<Column>> {
    let text = |names: &[&str]| names.iter().map(|n| Column::new(*n, Kind::Text)).collect();
    Some(match name.to_lowercase().as_str() {
        "servers" => columns::<ServerRow>(),
        "clients" => columns::<ClientRow>(),
        "pools" => columns::<PoolRow>(),
        "statements" => columns::<StatementRow>(),
        "cache" => columns::<CacheRow>(),
        "cache_entries" => columns::<CacheEntryRow>(),
        "events" => columns::<EventRow>(),
        "rules" => columns::<RuleRow>(),
        "users" => columns::<UserRow>(),
        "config_diff" => columns::<ConfigDiffRow>(),
        "config" => text(&["name", "value"]),
        "status" | "variables" => text(&["Variable_name", "Value"]),
        "metrics" => metrics("").columns,
        "processlist" => processlist(&[]).columns,
        "version" => text(&["name", "version"]),
        "help" => text(&["statement", "meaning"]),
        _ => return None,
    })
}

fn names_and_values(all: Vec<(String, String)>) -> Table {
    Table::of_text(&["Variable_name", "Value"], all.into_iter().map(|(name, value)| vec![name, value]).collect())
}

/// One row for each key: `proxy.listen`, `server.db1.address`, `rule[0].action`.
fn config(text: &str) -> Table {
    fn walk(path: &str, value: &toml::Value, rows: &mut Vec<Vec<String>>) {
        let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match value {
            toml::Value::Table(table) => table.iter().for_each(|(key, value)| walk(&join(key), value, rows)),
            toml::Value::Array(all) if all.iter().any(toml::Value::is_table) => {
                for (i, value) in all.iter().enumerate() {
                    let name = value.get("name").and_then(toml::Value::as_str);
                    walk(&name.map_or_else(|| format!("{path}[{i}]"), &join), value, rows);
                }
            }
            toml::Value::String(text) => rows.push(vec![path.to_owned(), text.clone()]),
            leaf => rows.push(vec![path.to_owned(), leaf.to_string()]),
        }
    }
    let mut rows = Vec::new();
    match text.parse::<toml::Table>() {
        Ok(table) => walk("", &toml::Value::Table(table), &mut rows),
        Err(_) => rows.extend(text.lines().enumerate().map(|(i, line)| vec![format!("line {}", i + 1), line.to_owned()])),
    }
    Table::of_text(&["name", "value"], rows)
}

/// One row for each sample of the text format.
fn metrics(text: &str) -> Table {
    let columns = vec![Column::new("name", Kind::Text), Column::new("labels", Kind::Text), Column::new("value", Kind::Float)];
    let rows = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = series.split_once('{').map_or((series, ""), |(name, rest)| (name, rest.trim_end_matches('}')));
            Some(vec![Value::from(name), Value::from(labels), Value::Float(value.parse().ok()?)])
        })
        .collect();
    Table { columns, rows }
}

/// <https://dev.mysql.com/doc/refman/8.4/en/show-processlist.html>
fn processlist(clients: &[ClientRow]) -> Table {
    let columns = [
        ("Id", Kind::UInt),
        ("User", Kind::Text),
        ("Host", Kind::Text),
        ("db", Kind::Text),
        ("Command", Kind::Text),
        ("Time", Kind::UInt),
        ("State", Kind::Text),
        ("Info", Kind::Text),
    ];
    let text = |v: &Option<String>| v.clone().map_or(Value::Null, Value::Text);
    let rows = clients
        .iter()
        .map(|c| {
            let running = matches!(c.state.as_str(), "active" | "waiting");
            let command = match c.state.as_str() {
                "login" => "Connect",
                _ if running => "Query",
                _ => "Sleep",
            };
            vec![
                Value::UInt(c.id),
                Value::Text(c.user.clone()),
                Value::Text(c.host.clone()),
                text(&c.schema),
                Value::from(command),
                Value::UInt(c.age_ms / 1000),
                Value::Text(c.pin_reason.clone().map_or_else(|| c.state.clone(), |pin| format!("{}, pinned: {pin}", c.state))),
                if running { text(&c.statement) } else { Value::Null },
            ]
        })
        .collect();
    Table { columns: columns.map(|(name, kind)| Column::new(name, kind)).to_vec(), rows }
}
