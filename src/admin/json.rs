//! JSON of the status page: tables become lists of objects.

use super::answer::{Table, Value};

/// A string literal.
pub fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn value(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Int(v) => v.to_string(),
        Value::UInt(v) => v.to_string(),
        Value::Float(v) if v.is_finite() => v.to_string(),
        Value::Float(_) => "null".to_owned(),
        Value::Text(v) => string(v),
    }
}

/// `[{"name": "db1", ...}, ...]`
pub fn table(table: &Table) -> String {
    let rows: Vec<String> = table
        .rows
        .iter()
        .map(|row| {
            let cells: Vec<String> =
                table.columns.iter().zip(row).map(|(column, cell)| format!("{}:{}", string(&column.name), value(cell))).collect();
            format!("{{{}}}", cells.join(","))
        })
        .collect();
    format!("[{}]", rows.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(string("a\"b\\c\n\u{1}é</script>"), "\"a\\\"b\\\\c\\n\\u0001é</script>\"");
        let t = Table::of_text(&["a"], vec![vec!["x".into()], vec!["y".into()]]);
        assert_eq!(table(&t), "[{\"a\":\"x\"},{\"a\":\"y\"}]");
    }
}
