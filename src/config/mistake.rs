//! One thing that is wrong with a configuration file, told so that it can be put right: place, caret, advice.

use std::fmt;
use std::ops::Range;

use super::shown;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken; the operator should know.
    Warning,
}

/// A wrong or doubtful setting. Its `Display` is what `sluice check` prints:
///
/// ```text
/// error: unknown key `listn` in [proxy]
///   --> config/sluice.toml:2:1
///    |
///  2 | listn = ["0.0.0.0:3306"]
///    | ^^^^^
///    = did you mean `listen`?
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong, without place.
    pub message: String,
    /// What to do about it.
    pub advice: Option<String>,
    /// The file's name as it was given.
    pub file: String,
    /// Line, from 1; 0 when the mistake has no place in the file (a file that cannot be read).
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The text of that line; of one whose value may be a secret (see [`shown`]), only what stands before the value.
    pub source_line: String,
    /// How many characters the carets underline, at least 1.
    pub width: usize,
}

impl Mistake {
    /// A mistake of the whole file, with no line to show.
    pub fn whole_file(file: &str, message: impl Into<String>, advice: Option<String>) -> Mistake {
        Mistake {
            severity: Severity::Error,
            message: message.into(),
            advice,
            file: file.to_owned(),
            line: 0,
            column: 0,
            source_line: String::new(),
            width: 0,
        }
    }

    /// A mistake at bytes `span` of `text`.
    pub fn at(file: &str, text: &str, span: Range<usize>, message: impl Into<String>, advice: Option<String>) -> Mistake {
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let rest = &text[line_start..];
        let line_text = rest.split(['\n', '\r']).next().unwrap_or("");
        let line_end = line_start + line_text.len();
        let mut end = span.end.clamp(start, line_end.max(start));
        while !text.is_char_boundary(end) {
            end += 1;
        }
        let width = text[start..end].chars().count().max(1);
        Mistake {
            severity: Severity::Error,
            message: message.into(),
            advice,
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            source_line: shown::line(&text[..line_start], line_text),
            width,
        }
    }

    /// The same, as a warning.
    pub fn warning(mut self) -> Mistake {
        self.severity = Severity::Warning;
        self
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{word}: {}", self.message)?;
        if self.line == 0 {
            write!(f, "  --> {}", self.file)?;
            if let Some(advice) = &self.advice {
                write!(f, "\n   = {advice}")?;
            }
            return Ok(());
        }
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        writeln!(f, " {gutter}--> {}:{}:{}", self.file, self.line, self.column)?;
        writeln!(f, " {gutter} |")?;
        writeln!(f, " {number} | {}", self.source_line)?;
        // Tabs stay tabs so that the carets stand under what they mean.
        let pad: String = self.source_line.chars().take(self.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let pad = format!("{pad}{}", " ".repeat((self.column - 1).saturating_sub(pad.chars().count())));
        write!(f, " {gutter} | {pad}{}", "^".repeat(self.width))?;
        if let Some(advice) = &self.advice {
            write!(f, "\n {gutter} = {advice}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carets_stand_under_the_word() {
        let text = "[proxy]\n\tlistn = \"ä\" # é\n";
        let at = text.find("listn").unwrap();
        let shown = Mistake::at("f.toml", text, at..at + 5, "no", Some("yes".into())).to_string();
        assert_eq!(shown, "error: no\n  --> f.toml:2:2\n   |\n 2 | \tlistn = \"ä\" # é\n   | \t^^^^^\n   = yes");
    }

    #[test]
    fn spans_outside_the_text_do_not_panic() {
        for span in [0..0, 5..99, 99..100, 2..3] {
            let _ = Mistake::at("f", "aä\nb", span, "", None).to_string();
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let text = "password = 12345\n";
        let shown = Mistake::at("f", text, 11..16, "no", None).to_string();
        assert!(!shown.contains("12345"), "{shown}");
        // The caret stands where the value would.
        assert!(shown.ends_with("1 | password = ...\n   |            ^^^^^"), "{shown}");
    }
}
