//! The sandbox's terminal. On a terminal the table stands still at the top and everything else scrolls below it (the terminal's
//! own scrolling region does that, so a typed line is never disturbed); elsewhere plain lines are printed, without colours.

use std::io::{IsTerminal, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;

const PROMPT: &str = "sluice> ";
/// Lines that must remain below the table for it to stand still.
const ROOM_BELOW: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Live {
    /// Lines of the table; 0 until it is shown.
    height: usize,
    rows: usize,
    columns: usize,
}

/// Where everything is printed.
#[derive(Debug)]
pub struct Screen {
    colour: bool,
    live: Mutex<Option<Live>>,
}

impl Screen {
    /// Looks whether standard output is a terminal. `NO_COLOR` is honoured.
    pub fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { colour: terminal && std::env::var_os("NO_COLOR").is_none(), live: Mutex::new(None) }
    }

    /// From now on a table of `height` lines stands at the top, when there is a terminal with room for it.
    pub fn enter(&self, height: usize) {
        let Some((rows, columns)) = size().filter(|(rows, _)| std::io::stdout().is_terminal() && *rows >= height + ROOM_BELOW)
        else {
            return;
        };
        *self.lock() = Some(Live { height, rows, columns });
        // what stood on the screen moves up into the terminal's history
        put(&format!("{}\x1b[2J\x1b[{};{rows}r\x1b[{};1H", "\n".repeat(rows), height + 1, height + 1));
    }

    /// Gives the whole terminal back.
    pub fn leave(&self) {
        if let Some(live) = self.lock().take() {
            put(&format!("\x1b[r\x1b[{};1H\r\x1b[K", live.rows));
        }
    }

    /// Whether the table stands still at the top.
    pub fn is_live(&self) -> bool {
        self.lock().is_some()
    }

    /// Prints lines below the table.
    pub fn say(&self, text: &str) {
        let live = self.lock();
        put(&if live.is_some() { format!("\r\x1b[K{text}\n") } else { format!("{text}\n") });
    }

    /// Prints the prompt on a terminal.
    pub fn prompt(&self) {
        if self.lock().is_some() {
            put(&format!("\r\x1b[K{PROMPT}"));
        }
    }

    /// Draws the table in its place, or prints it.
    pub fn draw(&self, lines: &[String]) {
        let mut live = self.lock();
        let Some(now) = live.as_mut() else { return put(&format!("{}\n", lines.join("\n"))) };
        let mut out = String::new();
        if let Some((rows, columns)) = size().filter(|size| *size != (now.rows, now.columns)) {
            (now.rows, now.columns) = (rows, columns);
            // setting the region moves the cursor, and nobody knows where it was: to the last line
            out.push_str(&format!("\x1b[{};{rows}r\x1b[{rows};1H\x1b[K{PROMPT}", now.height + 1));
        }
        out.push_str("\x1b7\x1b[?25l");
        for row in 0..now.height {
            let line = lines.get(row).map_or("", String::as_str);
            out.push_str(&format!("\x1b[{};1H{}\x1b[K", row + 1, fit(line, now.columns)));
        }
        out.push_str("\x1b8\x1b[?25h");
        put(&out);
    }

    /// Bold.
    pub fn strong(&self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Green.
    pub fn good(&self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Red.
    pub fn bad(&self, text: &str) -> String {
        self.paint("31", text)
    }

    /// Yellow.
    pub fn uneasy(&self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Grey.
    pub fn quiet(&self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Writes at once; a closed output is no reason to panic.
fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Rows and columns of the terminal: `stty` asks the one on standard input, which a shell gives it as ours.
fn size() -> Option<(usize, usize)> {
    let tty = std::fs::File::open("/dev/tty").ok()?;
    let output = Command::new("stty").arg("size").stdin(Stdio::from(tty)).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (rows, columns) = text.trim().split_once(' ')?;
    Some((rows.parse().ok()?, columns.parse().ok()?)).filter(|(rows, columns)| *rows > 0 && *columns > 0)
}

/// Cuts a line to `columns` visible characters; colours take no room, and are ended.
fn fit(line: &str, columns: usize) -> String {
    let (mut out, mut used, mut in_escape) = (String::new(), 0, false);
    for character in line.chars() {
        if in_escape {
            in_escape = character != 'm';
        } else if character == '\x1b' {
            in_escape = true;
        } else {
            used += 1;
            if used > columns {
                out.push_str("\x1b[0m");
                break;
            }
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_by_what_is_seen_of_it() {
        assert_eq!(fit("abcdef", 9), "abcdef");
        assert_eq!(fit("abcdef", 3), "abc\x1b[0m");
        assert_eq!(fit("\x1b[31mabc\x1b[0mdef", 4), "\x1b[31mabc\x1b[0md\x1b[0m");
    }
}
