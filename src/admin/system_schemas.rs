//! `mysql`, `performance_schema` and `sys`: schemas that every MySQL server has, and tools look into.
//!
//! Their tables are those that drivers and tools read for lists of privileges, routines and variables. Whose things the proxy
//! has not are empty, so that a tool finds that there are none instead of an error; the variables and counters have rows.

use super::answer::{AdminError, Column, Kind, Table};
use super::house::House;
use super::nearest::nearest;
use super::tables;
use crate::protocol::errno;

/// The schemas.
pub const MYSQLS: [&str; 3] = ["mysql", "performance_schema", "sys"];

/// Tables without rows by schema and name, with the columns of
/// <https://dev.mysql.com/doc/refman/8.4/en/system-schema.html> that tools read.
const EMPTY: &[(&str, &str, &str)] = &[
    ("mysql", "tables_priv", "Host Db User Table_name Grantor Timestamp Table_priv Column_priv"),
    ("mysql", "columns_priv", "Host Db User Table_name Column_name Timestamp Column_priv"),
    ("mysql", "procs_priv", "Host Db User Routine_name Routine_type Grantor Proc_priv Timestamp"),
    ("mysql", "db", "Host Db User Select_priv Insert_priv Update_priv Delete_priv Create_priv Drop_priv Grant_priv"),
    (
        "mysql",
        "proc",
        "db name type specific_name language sql_data_access is_deterministic security_type param_list returns body definer created \
         modified sql_mode comment",
    ),
    ("mysql", "func", "name ret dl type"),
    ("mysql", "plugin", "name dl"),
    ("mysql", "time_zone_name", "Name Time_zone_id"),
    ("performance_schema", "session_account_connect_attrs", "PROCESSLIST_ID ATTR_NAME ATTR_VALUE ORDINAL_POSITION"),
    ("performance_schema", "session_connect_attrs", "PROCESSLIST_ID ATTR_NAME ATTR_VALUE ORDINAL_POSITION"),
];
/// Tables of `performance_schema` with the table of ours that has their rows.
const FILLED: &[(&str, &str)] = &[
    ("global_variables", "variables"),
    ("session_variables", "variables"),
    ("global_status", "status"),
    ("session_status", "status"),
];

/// A table of one of the schemas.
///
/// # Errors
/// 1146 with the nearest name.
pub fn table(schema: &str, name: &str, house: &dyn House) -> Result<Table, AdminError> {
    if schema == "performance_schema"
        && let Some((_, ours)) = FILLED.iter().find(|(theirs, _)| *theirs == name)
    {
        let mut table = tables::table(None, ours, house)?;
        table.columns = columns("VARIABLE_NAME VARIABLE_VALUE");
        return Ok(table);
    }
    if let Some((.., names)) = EMPTY.iter().find(|(place, empty, _)| *place == schema && *empty == name) {
        return Ok(Table { columns: columns(names), rows: Vec::new() });
    }
    let advice = match nearest(name, tables::TABLES.iter().map(|(name, _)| *name)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("what there is to see is in {}; SHOW TABLES lists it", tables::SCHEMA),
    };
    Err(AdminError::new(errno::ER_NO_SUCH_TABLE, format_args!("no table is called `{schema}.{name}`; {advice}")))
}

fn columns(names: &str) -> Vec<Column> {
    names.split_whitespace().map(|name| Column::new(name, Kind::Text)).collect()
}
