//! How much of a line of the file is shown with a mistake in it. That text goes to terminals, to the log, and by a refused reload
//! to `SHOW EVENTS` and the status page, which asks for no password.
//!
//! A line is shown whole where every key on it is one of Sluice's own, or like one, and holds no secret. Any other may be a misspelt
//! `password`, so its value is left out, and of a line that cannot be read all but its first word.

use super::keys;
use crate::admin::nearest::nearest;

/// Stands for what is left out.
const HIDDEN: &str = "...";

/// The line as it is shown; `before` is the file up to it.
pub(super) fn line(before: &str, line: &str) -> String {
    // Inside a text of several lines nobody can tell a key from a secret.
    if ["\"\"\"", "'''"].iter().any(|quotes| before.matches(quotes).count() % 2 == 1) {
        return HIDDEN.to_owned();
    }
    let trimmed = line.trim_start();
    if trimmed.is_empty() || trimmed.starts_with('#') || is_header(trimmed) {
        return line.to_owned();
    }
    let keys = keys_of(line);
    if keys.is_empty() {
        return without_key(before, line);
    }
    let secret = keys.iter().find(|(key, _)| !is_harmless(key)).map(|(_, value)| *value);
    let login = line.split_once("://").filter(|(_, rest)| !is_plain(rest)).map(|(left, _)| left.len() + "://".len());
    match [secret, login].into_iter().flatten().min() {
        Some(at) => format!("{}{}{HIDDEN}", &line[..at], if line[..at].ends_with('=') { " " } else { "" }),
        None => line.to_owned(),
    }
}

/// `[proxy]`, `[[server]]`.
fn is_header(line: &str) -> bool {
    line.starts_with('[') && !line.contains(['"', '\'', '='])
}

/// A line without a key belongs to the list that began before it, or is none of TOML.
fn without_key(before: &str, line: &str) -> String {
    let trimmed = line.trim_start();
    let goes_on = trimmed.starts_with(['"', '\'', ']', '}', ',', '{']) || trimmed.starts_with(|c: char| c.is_ascii_digit());
    let owner = before.lines().rev().map(keys_of).find_map(|keys| keys.last().map(|(key, _)| key.to_string()));
    if goes_on && owner.is_none_or(|key| is_harmless(&key)) && !line.contains("://") {
        return line.to_owned();
    }
    let word = trimmed.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))).next().unwrap_or_default();
    let is_all = trimmed.trim_end() == word;
    // A word alone may be a key without a value, or a value without a key.
    if is_all && keys::ALL.iter().any(|(_, keys)| keys.contains(&word)) {
        return line.to_owned();
    }
    let known = keys::ALL.iter().any(|(_, keys)| keys.contains(&word));
    format!("{}{HIDDEN}", if known { format!("{word} ") } else { String::new() })
}

/// Keys of Sluice's own whose values are no secrets, and words that are meant to be one of them.
fn is_harmless(key: &str) -> bool {
    let last = key.rsplit('.').next().unwrap_or(key);
    let all = || keys::ALL.iter().flat_map(|(_, keys)| keys.iter().copied());
    if all().any(|known| known == last) {
        return last != "password";
    }
    !last.to_lowercase().starts_with("pas") && nearest(last, all()).is_some_and(|near| near != "password")
}

/// Whether what stands behind `://` is a host, perhaps a port and a number, and nothing that logs in.
fn is_plain(url: &str) -> bool {
    let url = url.split(['"', '\'']).next().unwrap_or(url);
    let (host, number) = url.split_once('/').unwrap_or((url, ""));
    let (host, port) = host.split_once(':').unwrap_or((host, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    digits(port) && digits(number) && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
}

/// The keys on a line, each with the place behind its `=`.
fn keys_of(line: &str) -> Vec<(&str, usize)> {
    let mut quote = None;
    let mut escaped = false;
    let mut outside = Vec::new();
    for (at, c) in line.char_indices() {
        match quote {
            None if c == '=' => outside.push(at),
            None if c == '#' => break,
            None if matches!(c, '"' | '\'') => quote = Some(c),
            Some('"') if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            _ => {}
        }
    }
    if quote.is_some() {
        // A quote is missing: where texts begin and end on this line is a guess, so that every `=` counts.
        outside = line.match_indices('=').map(|(at, _)| at).collect();
    }
    let key = |at: usize| {
        let left = line[..at].trim_end().trim_end_matches(['"', '\'']);
        let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        let start = left.char_indices().rev().find(|(_, c)| !word(*c)).map_or(0, |(at, c)| at + c.len_utf8());
        (&left[start..], at + 1)
    };
    outside.into_iter().map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_nothing_to_hide_are_shown() {
        for text in [
            "",
            "# password = \"x\"",
            "[proxy]",
            "[[server]]",
            "listen = [\"0.0.0.0:3306\"] # here",
            "tls = { mode = \"preferred\", cert = \"a=b.pem\" }",
            "tls.ca = \"ca.pem\"",
            "password_file = \"/etc/sluice/x\"",
            "store = \"redis://10.0.0.1:6379\"",
            "pattern = '(?i)^select a = \"b\"'",
            "\"10.0.0.0/8\",",
            "listn = [\"0.0.0.0:3306\"]",
            "max_lagg = \"5s\"",
        ] {
            assert_eq!(line("hosts = [\n", text), text);
        }
    }

    #[test]
    fn what_may_be_a_secret_is_not() {
        for (before, text, wanted) in [
            ("", "password = 12345", "password = ..."),
            ("", "passwrod = \"secret\"", "passwrod = ..."),
            ("", "\tpass='secret'", "\tpass= ..."),
            ("", "\"password\" = \"secret\"", "\"password\" = ..."),
            ("", "a = { password_file = \"x\", password=\"secret\" }", "a = { password_file = \"x\", password= ..."),
            ("", "tls = { mode = \"x\", password=\"secret\" }", "tls = { mode = \"x\", password= ..."),
            ("", "store = \"redis://:secret@10.0.0.1\"", "store = \"redis://..."),
            ("", "store = \"redis://app:secret:6379\"", "store = \"redis://..."),
            ("", "store = \"redis://h/secret\"", "store = \"redis://..."),
            ("", "sesam = \"secret\"", "sesam = ..."),
            ("", "otlp_endpoint = \"http://a:secret@h/\"", "otlp_endpoint = \"http://..."),
            ("", "user = \"a, password = \"secret\"", "user = \"a, password = ..."),
            ("user = \"a\"\n", "password \"secret\"", "password ..."),
            ("user = \"a\"\n", "secret", "..."),
            ("user = \"a\"\n", "passwrod \"secret\"", "..."),
            ("password = [\n", "\"secret\"", "..."),
            ("password = \"\"\"\n", "secret = user", "..."),
        ] {
            let shown = line(before, text);
            assert!(!shown.contains("secret"), "{text}: {shown}");
            assert_eq!(shown, wanted, "{text}");
        }
    }
}
