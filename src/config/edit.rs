//! Changing single values of a configuration file and nothing else: comments, order and blanks stay.

use toml_edit::{DocumentMut, Item, Table, Value, value};

/// One value to be written: a key of the `[[server]]` of that name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The server's name.
    pub server: String,
    /// The key.
    pub key: &'static str,
    /// Its new value.
    pub value: i64,
}

/// The file's text with the changes made.
///
/// # Errors
/// What is not as it must be: no TOML, or a server that is not there.
pub fn servers(text: &str, changes: &[Change]) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|e| format!("the file is no TOML: {e}"))?;
    for change in changes {
        let missing = || format!("the file has no [[server]] called `{}`", change.server);
        match document.get_mut("server") {
            Some(Item::ArrayOfTables(tables)) => {
                let table = tables.iter_mut().find(|table| is_called(table, &change.server)).ok_or_else(missing)?;
                set(table, change);
            }
            // server = [{ name = "db1", ... }]
            Some(Item::Value(Value::Array(all))) => {
                let tables = all.iter_mut().filter_map(Value::as_inline_table_mut);
                let mut named = tables.filter(|t| t.get("name").and_then(Value::as_str) == Some(change.server.as_str()));
                named.next().ok_or_else(missing)?.insert(change.key, change.value.into());
            }
            _ => return Err(missing()),
        }
    }
    Ok(document.to_string())
}

fn is_called(table: &Table, name: &str) -> bool {
    table.get("name").and_then(Item::as_str) == Some(name)
}

fn set(table: &mut Table, change: &Change) {
    match table.get_mut(change.key) {
        // What stands around the old value, such as a comment behind it, stays.
        Some(Item::Value(old)) => {
            let decor = old.decor().clone();
            *old = change.value.into();
            *old.decor_mut() = decor;
        }
        _ => {
            table.insert(change.key, value(change.value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(server: &str, value: i64) -> Change {
        Change { server: server.into(), key: "weight", value }
    }

    #[test]
    fn only_the_value_changes() {
        let text = "# mine\n[[server]] # first\nname = \"db1\"\nweight =  1   # light\n\n[[server]]\nname = \"db2\"\n# the end\n";
        assert_eq!(
            servers(text, &[weight("db1", 5), weight("db2", 7)]).unwrap(),
            "# mine\n[[server]] # first\nname = \"db1\"\nweight =  5   # light\n\n[[server]]\nname = \"db2\"\nweight = 7\n# the end\n"
        );
        let inline = "server = [{ name = \"db1\" }, # x\n { name = \"db2\", weight = 2 }]\n";
        assert_eq!(
            servers(inline, &[weight("db2", 3)]).unwrap(),
            "server = [{ name = \"db1\" }, # x\n { name = \"db2\", weight = 3 }]\n"
        );
        assert_eq!(servers(text, &[]).unwrap(), text);
        assert!(servers(text, &[weight("db9", 1)]).unwrap_err().contains("db9"));
        assert!(servers("[[", &[]).is_err());
    }
}
