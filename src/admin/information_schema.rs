//! `information_schema` of the admin port: what tools ask to draw their trees and to complete names.
//!
//! Columns as in <https://dev.mysql.com/doc/refman/8.4/en/information-schema.html>. Tables whose things the proxy has not
//! (views, triggers, keys) are there and empty, so that a tool finds that there are none instead of an error.

use super::answer::{AdminError, Column, Kind, Table, Value};
use super::nearest::nearest;
use super::tables::{INFORMATION, SCHEMA, TABLES, columns_of};
use crate::protocol::errno;

/// Tables that have no rows here, with the columns that tools read.
const EMPTY: &[(&str, &str)] = &[
    (
        "views",
        "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME VIEW_DEFINITION CHECK_OPTION IS_UPDATABLE DEFINER SECURITY_TYPE \
         CHARACTER_SET_CLIENT COLLATION_CONNECTION",
    ),
    (
        "routines",
        "SPECIFIC_NAME ROUTINE_CATALOG ROUTINE_SCHEMA ROUTINE_NAME ROUTINE_TYPE DATA_TYPE DTD_IDENTIFIER ROUTINE_BODY \
         ROUTINE_DEFINITION IS_DETERMINISTIC SQL_DATA_ACCESS SECURITY_TYPE CREATED LAST_ALTERED SQL_MODE ROUTINE_COMMENT DEFINER",
    ),
    (
        "parameters",
        "SPECIFIC_CATALOG SPECIFIC_SCHEMA SPECIFIC_NAME ORDINAL_POSITION PARAMETER_MODE PARAMETER_NAME DATA_TYPE DTD_IDENTIFIER \
         CHARACTER_MAXIMUM_LENGTH CHARACTER_OCTET_LENGTH NUMERIC_PRECISION NUMERIC_SCALE DATETIME_PRECISION ROUTINE_TYPE",
    ),
    (
        "triggers",
        "TRIGGER_CATALOG TRIGGER_SCHEMA TRIGGER_NAME EVENT_MANIPULATION EVENT_OBJECT_SCHEMA EVENT_OBJECT_TABLE ACTION_ORDER \
         ACTION_STATEMENT ACTION_TIMING CREATED SQL_MODE DEFINER",
    ),
    (
        "events",
        "EVENT_CATALOG EVENT_SCHEMA EVENT_NAME DEFINER TIME_ZONE EVENT_BODY EVENT_DEFINITION EVENT_TYPE EXECUTE_AT INTERVAL_VALUE \
         INTERVAL_FIELD STARTS ENDS STATUS ON_COMPLETION CREATED LAST_ALTERED LAST_EXECUTED EVENT_COMMENT",
    ),
    (
        "statistics",
        "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME NON_UNIQUE INDEX_SCHEMA INDEX_NAME SEQ_IN_INDEX COLUMN_NAME COLLATION CARDINALITY \
         SUB_PART PACKED NULLABLE INDEX_TYPE COMMENT INDEX_COMMENT",
    ),
    (
        "key_column_usage",
        "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME ORDINAL_POSITION \
         POSITION_IN_UNIQUE_CONSTRAINT REFERENCED_TABLE_SCHEMA REFERENCED_TABLE_NAME REFERENCED_COLUMN_NAME",
    ),
    (
        "referential_constraints",
        "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME UNIQUE_CONSTRAINT_CATALOG UNIQUE_CONSTRAINT_SCHEMA \
         UNIQUE_CONSTRAINT_NAME MATCH_OPTION UPDATE_RULE DELETE_RULE TABLE_NAME REFERENCED_TABLE_NAME",
    ),
    ("table_constraints", "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_SCHEMA TABLE_NAME CONSTRAINT_TYPE ENFORCED"),
    ("check_constraints", "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_NAME CHECK_CLAUSE"),
    (
        "partitions",
        "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME PARTITION_NAME SUBPARTITION_NAME PARTITION_ORDINAL_POSITION \
         SUBPARTITION_ORDINAL_POSITION PARTITION_METHOD SUBPARTITION_METHOD PARTITION_EXPRESSION SUBPARTITION_EXPRESSION \
         PARTITION_DESCRIPTION TABLE_ROWS AVG_ROW_LENGTH DATA_LENGTH MAX_DATA_LENGTH INDEX_LENGTH DATA_FREE CREATE_TIME \
         UPDATE_TIME CHECK_TIME CHECKSUM PARTITION_COMMENT NODEGROUP TABLESPACE_NAME",
    ),
    ("user_privileges", "GRANTEE TABLE_CATALOG PRIVILEGE_TYPE IS_GRANTABLE"),
    ("schema_privileges", "GRANTEE TABLE_CATALOG TABLE_SCHEMA PRIVILEGE_TYPE IS_GRANTABLE"),
    ("table_privileges", "GRANTEE TABLE_CATALOG TABLE_SCHEMA TABLE_NAME PRIVILEGE_TYPE IS_GRANTABLE"),
    ("column_privileges", "GRANTEE TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME PRIVILEGE_TYPE IS_GRANTABLE"),
    ("plugins", "PLUGIN_NAME PLUGIN_VERSION PLUGIN_STATUS PLUGIN_TYPE PLUGIN_DESCRIPTION PLUGIN_LICENSE"),
    ("keywords", "WORD RESERVED"),
];
/// Those that have rows.
const FILLED: &[&str] = &["schemata", "tables", "columns", "engines", "character_sets", "collations"];

fn text(names: &str, rows: Vec<Vec<Value>>) -> Table {
    Table { columns: names.split_whitespace().map(|name| Column::new(name, Kind::Text)).collect(), rows }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<Value> {
    cells.map(Value::from).to_vec()
}

/// A table of the schema with its rows.
///
/// # Errors
/// 1109 with the nearest name.
pub fn table(name: &str) -> Result<Table, AdminError> {
    let mut table = match name {
        "schemata" => text(
            "CATALOG_NAME SCHEMA_NAME DEFAULT_CHARACTER_SET_NAME DEFAULT_COLLATION_NAME SQL_PATH DEFAULT_ENCRYPTION",
            [INFORMATION, SCHEMA]
                .map(|schema| {
                    [row(["def", schema, "utf8mb4", "utf8mb4_general_ci"]), vec![Value::Null, Value::from("NO")]].concat()
                })
                .to_vec(),
        ),
        "tables" => tables(),
        "columns" => columns(),
        "engines" => text("ENGINE SUPPORT COMMENT TRANSACTIONS XA SAVEPOINTS", vec![engine()]),
        "character_sets" => text("CHARACTER_SET_NAME DEFAULT_COLLATE_NAME DESCRIPTION MAXLEN", vec![character_set()]),
        "collations" => text("COLLATION_NAME CHARACTER_SET_NAME ID IS_DEFAULT IS_COMPILED SORTLEN", vec![collation()]),
        other => match EMPTY.iter().find(|(empty, _)| *empty == other) {
            Some((_, columns)) => text(columns, Vec::new()),
            None => {
                let known = FILLED.iter().copied().chain(EMPTY.iter().map(|(name, _)| *name));
                let advice = match nearest(other, known.clone()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", known.collect::<Vec<_>>().join(", ")),
                };
                return Err(AdminError::new(
                    errno::ER_UNKNOWN_TABLE,
                    format_args!("unknown table information_schema.{other}; {advice}"),
                ));
            }
        },
    };
    // Numbers are numbers: tools compare and sort by them.
    for (i, column) in table.columns.iter_mut().enumerate() {
        if table.rows.iter().any(|row| matches!(row.get(i), Some(Value::UInt(_)))) {
            column.kind = Kind::UInt;
        }
    }
    Ok(table)
}

/// `SLUICE DEFAULT ...`, for `SHOW ENGINES` too.
pub fn engine() -> Vec<Value> {
    row(["SLUICE", "DEFAULT", "Tables of the proxy itself", "NO", "NO", "NO"])
}

fn character_set() -> Vec<Value> {
    [row(["utf8mb4", "utf8mb4_general_ci", "UTF-8 Unicode"]), vec![Value::UInt(4)]].concat()
}

fn collation() -> Vec<Value> {
    [row(["utf8mb4_general_ci", "utf8mb4"]), vec![Value::UInt(45)], row(["Yes", "Yes"]), vec![Value::UInt(1)]].concat()
}

fn tables() -> Table {
    let line = |(name, comment): &(&str, &str)| {
        let mut cells = row(["def", SCHEMA, name, "BASE TABLE", "SLUICE"]);
        cells.extend([Value::UInt(10), Value::from("Dynamic")]);
        // Rows, lengths and times: they are what they are when they are read.
        cells.extend(std::iter::repeat_n(Value::Null, 10));
        cells.extend([Value::from("utf8mb4_general_ci"), Value::Null, Value::from(""), Value::from(*comment)]);
        cells
    };
    text(
        "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME TABLE_TYPE ENGINE VERSION ROW_FORMAT TABLE_ROWS AVG_ROW_LENGTH DATA_LENGTH \
         MAX_DATA_LENGTH INDEX_LENGTH DATA_FREE AUTO_INCREMENT CREATE_TIME UPDATE_TIME CHECK_TIME TABLE_COLLATION CHECKSUM \
         CREATE_OPTIONS TABLE_COMMENT",
        TABLES.iter().map(line).collect(),
    )
}

fn columns() -> Table {
    let mut rows = Vec::new();
    for (table, _) in TABLES {
        for (i, column) in columns_of(table).unwrap_or_default().iter().enumerate() {
            let full = column.kind.as_str();
            let data_type = full.split(['(', ' ']).next().unwrap_or_default();
            let mut cells = row(["def", SCHEMA, table, &column.name]);
            cells.extend([Value::UInt(i as u64 + 1), Value::Null, Value::from("YES"), Value::from(data_type)]);
            if column.kind == Kind::Text {
                cells.extend([Value::UInt(255), Value::UInt(1020), Value::Null, Value::Null, Value::Null]);
                cells.extend([Value::from("utf8mb4"), Value::from("utf8mb4_general_ci")]);
            } else if column.kind == Kind::Time {
                cells.extend([Value::Null, Value::Null, Value::Null, Value::Null, Value::UInt(3), Value::Null, Value::Null]);
            } else {
                let digits = if column.kind == Kind::Float { 22 } else { 20 };
                let scale = if column.kind == Kind::Float { Value::Null } else { Value::UInt(0) };
                cells.extend([Value::Null, Value::Null, Value::UInt(digits), scale, Value::Null, Value::Null, Value::Null]);
            }
            cells.extend(row([full, "", "", "select", "", ""]));
            rows.push(cells);
        }
    }
    text(
        "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME ORDINAL_POSITION COLUMN_DEFAULT IS_NULLABLE DATA_TYPE \
         CHARACTER_MAXIMUM_LENGTH CHARACTER_OCTET_LENGTH NUMERIC_PRECISION NUMERIC_SCALE DATETIME_PRECISION CHARACTER_SET_NAME \
         COLLATION_NAME COLUMN_TYPE COLUMN_KEY EXTRA PRIVILEGES COLUMN_COMMENT GENERATION_EXPRESSION",
        rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_cell_for_every_column() {
        for name in FILLED.iter().copied().chain(EMPTY.iter().map(|(name, _)| *name)) {
            let table = table(name).unwrap();
            assert!(table.columns.len() >= 2, "{name}");
            assert!(table.rows.iter().all(|row| row.len() == table.columns.len()), "{name}");
        }
        assert!(table("tabels").unwrap_err().message.ends_with("did you mean `tables`?"));
    }
}
