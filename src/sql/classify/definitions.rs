//! What asks for definitions rather than for rows: `SHOW`, `DESCRIBE`, `information_schema`.

use super::verdict::{Class, ClassReason, TableName, Verdict};

const SCHEMA: &str = "information_schema";

/// Whether a statement asks for definitions and reads no table or view beside.
pub(super) fn asks_only(text: &[u8], verdict: &Verdict, tables: &[TableName], complete: bool) -> bool {
    if verdict.class != Class::Read || verdict.multi {
        return false;
    }
    match verdict.reason {
        // SHOW .. WHERE takes a subquery.
        ClassReason::Show | ClassReason::Describe => !text.windows(6).any(|word| word.eq_ignore_ascii_case(b"SELECT")),
        ClassReason::PlainSelect => complete && !tables.is_empty() && tables.iter().all(|table| is_in(table, SCHEMA)),
        _ => false,
    }
}

/// Whether none of these is in `information_schema`, so that no definitions are asked for.
pub(super) fn are_apart(tables: &[TableName]) -> bool {
    !tables.iter().any(|table| is_in(table, SCHEMA))
}

fn is_in(table: &TableName, schema: &str) -> bool {
    table.schema.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(schema))
}
