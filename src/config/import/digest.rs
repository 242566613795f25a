//! `match_digest` as a pattern of ours. ProxySQL matches it against the statement with its literals replaced by `?`, without comments and with single
//! spaces; a `pattern` of Sluice sees the text as the client sent it.

/// What stands in the text where a digest has `?`: a string, a number, a parameter, NULL.
const LITERAL: &str = r#"(?:'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|[-+]?[0-9][0-9a-zA-Z.]*|\?|null)"#;

/// The pattern, and whether it differs.
///
/// # Errors
/// Why it cannot be translated.
pub(super) fn pattern(digest: &str) -> Result<(String, bool), String> {
    let mut out = String::with_capacity(digest.len());
    let mut class = false;
    let mut chars = digest.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('?') if class => {
                    return Err("it looks for a literal among other characters, which only the normalised text has".to_owned());
                }
                Some('?') => out.push_str(LITERAL),
                Some(next) => out.extend(['\\', next]),
                None => out.push('\\'),
            },
            '[' if !class => {
                if digest_class_is_question_mark(chars.clone()) {
                    chars.nth(1);
                    out.push_str(LITERAL);
                } else {
                    class = true;
                    out.push(c);
                    // `[]a]` and `[^]a]` hold a bracket.
                    if chars.peek() == Some(&'^') {
                        out.extend(chars.next());
                    }
                    if chars.peek() == Some(&']') {
                        out.push('\\');
                        out.extend(chars.next());
                    }
                }
            }
            ']' if class => {
                class = false;
                out.push(c);
            }
            '?' if class => {
                return Err("it looks for a literal among other characters, which only the normalised text has".to_owned());
            }
            ' ' if !class => {
                while chars.peek() == Some(&' ') {
                    chars.next();
                }
                // ` *` and ` ?` mean the space.
                out.push_str(if matches!(chars.peek(), Some('*' | '+' | '?' | '{')) { r"\s" } else { r"\s+" });
            }
            c => out.push(c),
        }
    }
    let differs = out != digest;
    Ok((out, differs))
}

/// `?]`: of `[?]`, which is how some write a question mark.
fn digest_class_is_question_mark(mut rest: impl Iterator<Item = char>) -> bool {
    rest.next() == Some('?') && rest.next() == Some(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_digest_matches_its_statement_matches() {
        for (digest, texts, not) in [
            (
                r"^SELECT c FROM t WHERE id=\?$",
                &["SELECT c FROM t WHERE id=5", "SELECT  c\nFROM t WHERE id=?", "SELECT c FROM t WHERE id='a''b'"][..],
                "SELECT c FROM t WHERE id=x",
            ),
            (r"FROM items WHERE id = [?]", &["select 1 FROM items WHERE id = -1.5e3"], "FROM items WHERE id = x"),
            (r"^SELECT \* FROM t LIMIT \?,\?$", &["SELECT * FROM t LIMIT 10,20"], "SELECT * FROM t LIMIT 10"),
            (r"FROM [a-z]+ WHERE", &["FROM items WHERE"], "FROM 1 WHERE"),
            (r"^SELECT.*audit", &["SELECT 1 FROM audit"], "x"),
        ] {
            let (pattern, _) = pattern(digest).unwrap();
            let regex = regex::Regex::new(&pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            for text in texts {
                assert!(regex.is_match(text), "{digest} as {pattern}: {text}");
            }
            assert!(!regex.is_match(not), "{digest} as {pattern}: {not}");
        }
        assert!(pattern(r"id=[\?5]").is_err());
        assert_eq!(pattern(r"^SELECT.*audit").unwrap(), (r"^SELECT.*audit".to_owned(), false));
    }
}
