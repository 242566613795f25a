//! Reading typed values out of a parsed TOML document while collecting every mistake instead of stopping at the first.
//!
//! serde stops at the first wrong value, so the file's types are filled by hand through [`Section`]; the spans of what was
//! read are kept in [`Report::marks`] so that later checks can point at it.

use std::collections::{HashMap, HashSet};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;

use ipnet::IpNet;
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::address::Address;
use super::mistake::Mistake;
use super::units::{Period, Size};
use crate::admin::nearest::nearest;

/// The text being read and what was found wrong with it.
pub struct Report<'t> {
    /// The file's name, for messages and for relative paths.
    pub name: &'t str,
    /// The file's text.
    pub text: &'t str,
    /// All mistakes so far.
    pub mistakes: Vec<Mistake>,
    /// Where each value stands, by its path: `proxy.listen[1]`, `server[0].name`. The path of a section is its header.
    pub marks: HashMap<String, Range<usize>>,
    /// The paths of values that are wrong: the defaults that stand in for them must not be judged.
    pub unsound: HashSet<String>,
}

impl Report<'_> {
    /// Notes an error at a span.
    pub fn wrong_at(&mut self, span: Range<usize>, message: impl Into<String>, advice: Option<String>) {
        self.mistakes.push(Mistake::at(self.name, self.text, span, message, advice));
    }

    /// Notes an error at the value (or section) that was read under `path`, or at the nearest thing that encloses it.
    pub fn wrong(&mut self, path: &str, message: impl Into<String>, advice: impl Into<String>) {
        let mistake = self.place(path, message.into(), Some(advice.into()));
        self.mistakes.push(mistake);
    }

    /// As [`Report::wrong`], but only a warning.
    pub fn doubtful(&mut self, path: &str, message: impl Into<String>, advice: impl Into<String>) {
        let mistake = self.place(path, message.into(), Some(advice.into())).warning();
        self.mistakes.push(mistake);
    }

    /// Whether the file has a value at `path`.
    pub fn has(&self, path: &str) -> bool {
        self.marks.contains_key(path)
    }

    /// Whether the file has a value at `path`, and it could be read.
    pub fn is_sound(&self, path: &str) -> bool {
        self.has(path) && !self.unsound.contains(path)
    }

    fn place(&self, path: &str, message: String, advice: Option<String>) -> Mistake {
        let mut path = path;
        loop {
            if let Some(span) = self.marks.get(path) {
                return Mistake::at(self.name, self.text, span.clone(), message, advice);
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => return Mistake::whole_file(self.name, message, advice),
            }
        }
    }
}

/// How a wrong type is called in messages.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A type that a value of the file can become.
pub trait Value: Sized {
    /// Reads it; a mistake is noted and `None` returned.
    fn read(value: &Spanned<DeValue<'_>>, path: &str, report: &mut Report<'_>) -> Option<Self>;
}

/// An enum written as a word.
pub trait Word: Copy + 'static {
    /// All words with their meanings.
    const ALL: &'static [(&'static str, Self)];
}

fn wrong_type(value: &Spanned<DeValue<'_>>, path: &str, report: &mut Report<'_>, wanted: &str) {
    let key = last(path);
    let got = kind(value.get_ref());
    report.wrong_at(value.span(), format!("`{key}` must be {wanted}, not {got}"), None);
}

/// The key's name in messages: the last part of the path, without an index.
fn last(path: &str) -> &str {
    let name = path.rsplit('.').next().unwrap_or(path);
    name.split('[').next().unwrap_or(name)
}

impl Value for String {
    fn read(value: &Spanned<DeValue<'_>>, path: &str, report: &mut Report<'_>) -> Option<String> {
        match value.get_ref() {
            DeValue::String(s) => Some(s.to_string()),
            _ => {
                wrong_type(value, path, report, "a string");
                None
            }
        }
    }
}

impl Value for bool {
    fn read(value: &Spanned<DeValue<'_>>, path: &str, report: &mut Report<'_>) -> Option<bool> {
        if value.get_ref().as_bool().is_none() {
            wrong_type(value, path, report, "true or false");
        }
        value.get_ref().as_bool()
    }
}

impl Value for u64 {
    fn read(value: &Spanned<DeValue<'_>>, path: &str, report: &mut Report<'_>) -> Option<u64> {
        let DeValue::Integer(number) = value.get_ref() else {
            wrong_type(value, path, report, "a whole number");
            return None;
        };
        let parsed = u64::from_str_radix(number.as_str(), number.radix());
        if parsed.is_err() {
            report.wrong_at(value.span(), format!("`{}` is out of range: {number}", last(path)), None);
        }
        parsed.ok()
    }
}

/// Strings with a meaning: parsed by `FromStr`, whose error continues the sentence "`key` "text" ...".
fn parsed<T: std::str::FromStr<Err = String>>(
    value: &Spanned<DeValue<'_>>,
    path: &str,
    report: &mut Report<'_>,
    wanted: &str,
) -> Option<T> {
    let DeValue::String(text) = value.get_ref() else {
        wrong_type(value, path, report, wanted);
        return None;
    };
    match text.parse() {
        Ok(value) => Some(value),
        Err(what) => {
            let (what, advice) = match what.split_once("; ") {
                Some((what, advice)) => (what.to_owned(), Some(advice.to_owned())),
                None => (what, None),
            };
            report.wrong_at(value.span(), format!("`{}` {what}", last(path)), advice);
            None
        }
    }
}

impl Value for Period {
    fn read(value: &Spanned<DeValue<'_>>, path: &str, report: &mut Report<'_>) -> Option<Period> {
        parsed(value, path, report, "a duration like \"250ms\", \"1s\" or \"5m\"")
    }
}

impl Value for Size {
    fn read(value: &Spanned<DeValue<'_>>, path: &str, report: &mut Report<'_>) -> Option<Size> {
        parsed(value, path, report, "a size like \"256MiB\"")
    }
}

impl Value for Address {
    fn read(value: &Spanned<DeValue<'_>>, path: &str, report: &mut Report<'_>) -> Option<Address> {
        parsed(value, path, report, "an address like \"10.0.0.11:3306\"")
    }
}

impl Value for PathBuf {
    fn read(value: &Spanned<DeValue<'_>>, path: &str, report: &mut Report<'_>) -> Option<PathBuf> {
        let text = String::read(value, path, report)?;
        if text.is_empty() {
            report.wrong_at(value.span(), format!("`{}` is empty", last(path)), Some("leave the key out instead".to_owned()));
            return None;
        }
        Some(PathBuf::from(text))
    }
}

impl Value for IpNet {
    fn read(value: &Spanned<DeValue<'_>>, path: &str, report: &mut Report<'_>) -> Option<IpNet> {
        let text = String::read(value, path, report)?;
        // A single address is a network of one.
        let net = text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
        if net.is_err() {
            let message = format!("`{}` is not a network: \"{text}\"", last(path));
            report.wrong_at(value.span(), message, Some("write it like \"10.0.0.0/8\" or \"10.1.2.3\"".to_owned()));
        }
        net.ok()
    }
}

impl<T: Word> Value for T {
    fn read(value: &Spanned<DeValue<'_>>, path: &str, report: &mut Report<'_>) -> Option<T> {
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            // `max_lost_transactions = 0` is as clear as `"0"`, `read_from_master = true` is not.
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
            _ => {
                wrong_type(value, path, report, &format!("one of {}", quoted(T::ALL.iter().map(|(w, _)| *w))));
                return None;
            }
        };
        if let Some((_, word)) = T::ALL.iter().find(|(word, _)| *word == text) {
            return Some(*word);
        }
        let near = nearest(&text.replace('-', "_"), T::ALL.iter().map(|(w, _)| *w));
        let advice = match near {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("it is one of {}", quoted(T::ALL.iter().map(|(w, _)| *w))),
        };
        report.wrong_at(value.span(), format!("`{}` cannot be \"{text}\"", last(path)), Some(advice));
        None
    }
}

impl<T: Value> Value for Vec<T> {
    /// One value may stand without its brackets.
    fn read(value: &Spanned<DeValue<'_>>, path: &str, report: &mut Report<'_>) -> Option<Vec<T>> {
        let DeValue::Array(array) = value.get_ref() else {
            return T::read(value, path, report).map(|one| vec![one]);
        };
        let mut all = Vec::new();
        for (i, element) in array.iter().enumerate() {
            let path = format!("{path}[{i}]");
            report.marks.insert(path.clone(), element.span());
            all.extend(T::read(element, &path, report));
        }
        Some(all)
    }
}

/// `"a", "b"`: the words a key takes.
pub fn quoted<'w>(words: impl Iterator<Item = &'w str>) -> String {
    words.map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(", ")
}

/// One table of the file and the keys it may have.
pub struct Section<'d, 'i> {
    table: Option<&'d DeTable<'i>>,
    path: String,
    keys: &'static [&'static str],
}

impl<'d, 'i> Section<'d, 'i> {
    /// The table under `path`, whose unknown keys are reported at once. `None` is an absent table: every key has its default.
    /// `header` is where the section begins.
    pub fn new(
        table: Option<&'d DeTable<'i>>,
        header: Option<Range<usize>>,
        path: &str,
        keys: &'static [&'static str],
        report: &mut Report<'_>,
    ) -> Section<'d, 'i> {
        if let Some(header) = header {
            report.marks.insert(path.to_owned(), header);
        }
        for (key, value) in table.into_iter().flatten() {
            let name: &str = key.get_ref();
            if keys.contains(&name) {
                report.marks.insert(format!("{path}.{name}"), value.span());
                continue;
            }
            let place = match path.split_once('[') {
                Some((list, _)) if path.ends_with(']') => format!("[[{list}]]"),
                _ if path.contains('.') => format!("`{}`", path.rsplit('.').next().unwrap_or(path)),
                _ => format!("[{path}]"),
            };
            let advice = match nearest(name, keys.iter().copied()) {
                Some(near) => Some(format!("did you mean `{near}`?")),
                None => match super::keys::ALL.iter().find(|(_, keys)| keys.contains(&name)) {
                    Some((home, _)) => Some(format!("`{name}` belongs in {}", super::keys::shown(home))),
                    None => Some(format!("{place} has the keys {}", keys.join(", "))),
                },
            };
            report.wrong_at(key.span(), format!("unknown key `{name}` in {place}"), advice);
        }
        Section { table, path: path.to_owned(), keys }
    }

    /// The path of one of this section's keys.
    pub fn path_of(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// The raw value of a key.
    pub fn raw(&self, key: &'static str) -> Option<&'d Spanned<DeValue<'i>>> {
        debug_assert!(self.keys.contains(&key), "{}.{key} is not listed in config::keys", self.path);
        self.table.and_then(|table| table.get(key))
    }

    /// The value of a key, if it is there and right.
    pub fn optional<T: Value>(&self, key: &'static str, report: &mut Report<'_>) -> Option<T> {
        let (value, path) = (self.raw(key)?, self.path_of(key));
        let read = T::read(value, &path, report);
        if read.is_none() {
            report.unsound.insert(path);
        }
        read
    }

    /// The value of a key, or its default.
    pub fn get<T: Value>(&self, key: &'static str, default: T, report: &mut Report<'_>) -> T {
        self.optional(key, report).unwrap_or(default)
    }

    /// A whole number between two bounds.
    pub fn number<N>(&self, key: &'static str, default: N, range: RangeInclusive<u64>, report: &mut Report<'_>) -> N
    where
        N: TryFrom<u64>,
    {
        let Some(number) = self.optional::<u64>(key, report) else { return default };
        if !range.contains(&number) {
            let advice = format!("it is a number from {} to {}", range.start(), range.end());
            report.wrong(&self.path_of(key), format!("`{key}` cannot be {number}"), advice);
            return default;
        }
        N::try_from(number).unwrap_or(default)
    }

    /// A duration between two bounds.
    pub fn period(&self, key: &'static str, default: Period, range: RangeInclusive<Period>, report: &mut Report<'_>) -> Period {
        let Some(period) = self.optional::<Period>(key, report) else { return default };
        if !range.contains(&period) {
            let advice = format!("it is a duration from \"{}\" to \"{}\"", range.start(), range.end());
            report.wrong(&self.path_of(key), format!("`{key}` cannot be \"{period}\""), advice);
            return default;
        }
        period
    }

    /// An address, or `None` for the empty string.
    pub fn address_or_off(&self, key: &'static str, default: Option<Address>, report: &mut Report<'_>) -> Option<Address> {
        match self.raw(key) {
            None => default,
            Some(value) if value.get_ref().as_str() == Some("") => None,
            Some(_) => self.optional(key, report).or(default),
        }
    }

    /// A table inside this one.
    pub fn table(&self, key: &'static str, keys: &'static [&'static str], report: &mut Report<'_>) -> Section<'d, 'i> {
        let path = self.path_of(key);
        let value = self.raw(key);
        let table = value.and_then(|value| match value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => {
                wrong_type(value, &path, report, &format!("a table like {{ {} = ... }}", keys.first().unwrap_or(&"")));
                None
            }
        });
        Section::new(table, None, &path, keys, report)
    }
}
