//! The words of an admin command: names in any quotes, strings, numbers, signs. Comments are skipped.
//!
//! `SELECT` goes to the SQL parser instead; this is for commands that SQL does not have.

use std::borrow::Cow;

use super::answer::AdminError;

/// One word, string or sign, and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// The text, quotes and escapes taken out.
    pub text: String,
    /// The same in upper case; empty for quoted text, which is never a keyword.
    pub upper: String,
    /// Offset of its first byte.
    pub start: usize,
    /// Offset behind its last byte.
    pub end: usize,
}

/// Cuts a statement into words. A closing `;` is left out.
///
/// # Errors
/// 1064 for a quote or comment that does not end, or for text after a `;`.
pub fn tokens(sql: &str) -> Result<Vec<Token>, AdminError> {
    let bytes = sql.as_bytes();
    let mut all: Vec<Token> = Vec::new();
    let mut i = 0;
    while let Some(&c) = bytes.get(i) {
        let start = i;
        let rest = &sql[i..];
        if c.is_ascii_whitespace() || c == 0 {
            i += 1;
        } else if rest.starts_with("/*") {
            i += rest.find("*/").ok_or_else(|| AdminError::syntax("a comment that begins with /* does not end"))? + 2;
        } else if c == b'#' || rest.starts_with("-- ") || rest == "--" || rest.starts_with("--\n") {
            i += rest.find('\n').unwrap_or(rest.len());
        } else if matches!(c, b'\'' | b'"' | b'`') {
            let (text, length) = quoted(rest, char::from(c))
                .ok_or_else(|| AdminError::syntax(format_args!("the quote {} does not end", char::from(c))))?;
            i += length;
            all.push(Token { text, upper: String::new(), start, end: i });
        } else if c.is_ascii_alphanumeric() || matches!(c, b'_' | b'@' | b'$') || c >= 0x80 {
            let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '@' | '$' | '.' | '-' | ':') || !c.is_ascii();
            let length = rest.find(|c: char| !word(c)).unwrap_or(rest.len());
            i += length;
            let text = &rest[..length];
            all.push(Token { text: text.to_owned(), upper: text.to_uppercase(), start, end: i });
        } else {
            i += 1;
            let text = char::from(c).to_string();
            all.push(Token { upper: text.clone(), text, start, end: i });
        }
    }
    while all.last().is_some_and(|t| t.upper == ";") {
        all.pop();
    }
    if all.iter().any(|t| t.upper == ";") {
        return Err(AdminError::syntax("one statement at a time, please: there is text after a `;`"));
    }
    Ok(all)
}

/// The statement with its executable comments taken as what they hold, since we answer as MySQL 8 does:
/// `/*!40101 SET NAMES utf8mb4 */`. Text in quotes stays as it is.
pub fn executable(sql: &str) -> Cow<'_, str> {
    if !sql.contains("/*!") && !sql.contains("/*M!") {
        return Cow::Borrowed(sql);
    }
    let mut out = String::with_capacity(sql.len());
    let mut quote = None;
    let mut inside = 0u32;
    let mut i = 0;
    while let Some(c) = sql[i..].chars().next() {
        let rest = &sql[i..];
        let opening = ["/*M!", "/*!"].into_iter().find(|o| rest.starts_with(o));
        if quote.is_none()
            && let Some(opening) = opening
        {
            let digits = rest[opening.len()..].chars().take_while(char::is_ascii_digit).count();
            i += opening.len() + digits;
            inside += 1;
            continue;
        }
        if quote.is_none() && inside > 0 && rest.starts_with("*/") {
            inside -= 1;
            i += 2;
            continue;
        }
        match quote {
            None if matches!(c, '\'' | '"' | '`') => quote = Some(c),
            Some(q) if q == c => quote = None,
            _ => {}
        }
        out.push(c);
        i += c.len_utf8();
    }
    Cow::Owned(out)
}

/// The text between quotes and the length with them; doubled quotes and, except in backticks, backslashes escape.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((i, c)) = chars.next() {
        if c == quote {
            if chars.peek().is_some_and(|(_, next)| *next == quote) {
                chars.next();
                out.push(quote);
                continue;
            }
            return Some((out, i + c.len_utf8()));
        }
        if c == '\\' && quote != '`' {
            // In a LIKE pattern `\%` and `\_` keep their backslash, as in MySQL.
            match chars.next()?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                '0' => out.push('\0'),
                c @ ('%' | '_') => out.extend(['\\', c]),
                c => out.push(c),
            }
            continue;
        }
        out.push(c);
    }
    None
}

/// Does `text` match a LIKE pattern (`%` any, `_` one, `\` escapes), without regard to case?
pub fn like(text: &str, pattern: &str) -> bool {
    #[derive(PartialEq)]
    enum Part {
        Any,
        One,
        Letter(char),
    }
    let mut parts = Vec::new();
    let pattern = pattern.to_lowercase();
    let mut letters = pattern.chars();
    while let Some(c) = letters.next() {
        parts.push(match c {
            '%' => Part::Any,
            '_' => Part::One,
            '\\' => Part::Letter(letters.next().unwrap_or('\\')),
            c => Part::Letter(c),
        });
    }
    let text: Vec<char> = text.to_lowercase().chars().collect();
    // Greedy with one place to come back to: linear in practice, never exponential.
    let (mut t, mut p) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match parts.get(p) {
            Some(Part::Any) => {
                back = Some((p, t));
                p += 1;
            }
            Some(Part::One) => (t, p) = (t + 1, p + 1),
            Some(Part::Letter(c)) if *c == text[t] => (t, p) = (t + 1, p + 1),
            _ => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    (t, p) = (from + 1, star + 1);
                }
                None => return false,
            },
        }
    }
    parts[p..].iter().all(|part| *part == Part::Any)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(sql: &str) -> Vec<String> {
        tokens(sql).unwrap().into_iter().map(|t| t.text).collect()
    }

    #[test]
    fn words_quotes_and_comments() {
        assert_eq!(words(" /* Go */ DRAIN  SERVER `db``3` ; "), ["DRAIN", "SERVER", "db`3"]);
        assert_eq!(words("SHOW STATUS LIKE 'a\\%''b'"), ["SHOW", "STATUS", "LIKE", "a\\%'b"]);
        assert_eq!(words("set server db-3.x weight 5 -- now\n# and\n"), ["set", "server", "db-3.x", "weight", "5"]);
        assert_eq!(words("set autocommit=1"), ["set", "autocommit", "=", "1"]);
        for bad in ["SHOW 'x", "/* x", "SHOW SERVERS; SHOW POOLS"] {
            assert!(tokens(bad).is_err(), "{bad}");
        }
        assert_eq!(words("USE größe"), ["USE", "größe"]);
    }

    #[test]
    fn executable_comments_are_executed() {
        for (sql, meant) in [
            ("/*!40101 SET NAMES utf8 */", " SET NAMES utf8 "),
            ("SHOW /*!50002 GLOBAL */ STATUS", "SHOW  GLOBAL  STATUS"),
            ("SELECT '/*!1 x */', 1 /* y */", "SELECT '/*!1 x */', 1 /* y */"),
            ("/*M!100100 SELECT 1", " SELECT 1"),
        ] {
            assert_eq!(executable(sql), meant, "{sql}");
        }
    }

    #[test]
    fn like_patterns() {
        for (text, pattern, matches) in [
            ("max_clients", "max%", true),
            ("Max_Clients", "%CLIENT_", true),
            ("max_clients", "max", false),
            ("abc", "a%b%c", true),
            ("abd", "a%b%c", false),
            ("a%", "a\\%", true),
            ("ab", "a\\%", false),
            ("", "%", true),
            ("", "_", false),
        ] {
            assert_eq!(like(text, pattern), matches, "{text} {pattern}");
        }
        assert!(!like(&"a".repeat(10_000), &"a%".repeat(50).replace("a%", "%a%b")));
    }
}
