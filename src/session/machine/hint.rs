//! The optimizer hint `SET_VAR`, which sets a variable for one statement.

use crate::sql::classify::Classified;

/// MySQL: whether it has the optimizer hint `SET_VAR` (and sets no variable otherwise).
pub fn has_set_var(statement: &Classified, sql: &[u8]) -> bool {
    const WORD: &[u8] = b"SET_VAR";
    statement.effects.sets_system_variables.is_empty()
        && sql.windows(3).any(|begin| begin == b"/*+")
        && sql.windows(WORD.len()).any(|part| part.eq_ignore_ascii_case(WORD))
}

/// Whether a hint `SET_VAR` sets this variable: its name and `=` stand behind one somewhere.
pub(super) fn names_in_hint(sql: &[u8], variable: &[u8]) -> bool {
    let from = sql.windows(3).position(|begin| begin == b"/*+").unwrap_or(sql.len());
    let hint = sql.get(from..).unwrap_or_default();
    let named = |at: usize| {
        let (name, behind) = hint.get(at..)?.split_at_checked(variable.len())?;
        let whole = at.checked_sub(1).and_then(|before| hint.get(before)).is_none_or(|b| !b.is_ascii_alphanumeric() && *b != b'_');
        Some(whole && name.eq_ignore_ascii_case(variable) && behind.trim_ascii_start().first() == Some(&b'='))
    };
    (0..hint.len()).any(|at| named(at) == Some(true))
}
