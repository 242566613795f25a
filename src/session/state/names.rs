//! The charset variables as one group: they hang together, and `SET NAMES .. COLLATE ..` does what assigning each does not, it
//! also gives results their collation, which shows in the definitions of columns.
//!
//! Source: MySQL 8.4 Reference Manual, "Connection Character Sets and Collations", "SET NAMES Statement"; MariaDB "SET NAMES".

use super::{State, Value, assignment};

/// What `SET NAMES` sets.
pub const NAMES: [&str; 4] = ["character_set_client", "character_set_connection", "character_set_results", "collation_connection"];

fn is_name(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

/// Whether a collation is one of this charset, by their names.
pub(super) fn belongs(collation: &[u8], charset: &[u8]) -> bool {
    collation.strip_prefix(charset).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"_"))
}

/// Appends what brings the group from `have` to `want`.
pub(super) fn put(have: &State, want: &State, set: &mut Vec<u8>) {
    let same = NAMES.iter().all(|name| have.system.get(*name) == want.system.get(*name));
    if same && have.results_collation == want.results_collation {
        return;
    }
    let [client, connection, results, collation] = NAMES.map(|name| want.system.get(name));
    let name = |value: Option<&Value>| value.map(Value::bytes).filter(|bytes| is_name(bytes)).map(<[u8]>::to_vec);
    let by_collation = want.results_collation.as_deref().filter(|c| is_name(c.as_bytes()));
    // SET NAMES where it can say at least what results have.
    let charset = name(results).filter(|results| {
        let all = name(client).as_ref() == Some(results) && (connection.is_none() || name(connection).as_ref() == Some(results));
        all || by_collation.is_some()
    });
    if let Some(charset) = &charset {
        set.extend_from_slice(if set.is_empty() { b"SET NAMES " } else { b",NAMES " });
        set.extend_from_slice(charset);
        if let Some(collation) = by_collation {
            set.extend_from_slice(b" COLLATE ");
            set.extend_from_slice(collation.as_bytes());
        }
    }
    let mut assign = |variable: &str, value: Option<&Value>| match value {
        Some(value) => assignment(set, variable, &value.sql(variable)),
        None if have.system.contains_key(variable) || charset.is_some() => assignment(set, variable, b"DEFAULT"),
        None => {}
    };
    if charset.is_none() || name(client) != charset {
        assign("character_set_client", client);
    }
    if charset.is_none() {
        assign("character_set_results", results);
    }
    match (collation, connection) {
        (Some(collation), _) => {
            if charset.is_none() || by_collation.map(str::as_bytes) != Some(collation.bytes()) {
                assign("collation_connection", Some(collation));
            }
        }
        // Its charset's default, which is what SET NAMES without a COLLATE gives.
        (None, Some(charset_of_connection)) => {
            if charset.as_deref() != Some(charset_of_connection.bytes()) || by_collation.is_some() {
                assign("character_set_connection", Some(charset_of_connection));
            }
        }
        (None, None) => {
            let had = have.system.contains_key("collation_connection") || have.system.contains_key("character_set_connection");
            if had || charset.is_some() {
                assignment(set, "collation_connection", b"DEFAULT");
            }
        }
    }
}
