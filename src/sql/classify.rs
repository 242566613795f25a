//! What a statement is: its class with the reason, its tables, its effects on the session, whether its result may be kept.
//!
//! **Nothing is called a read unless that is proved**: every token is known to the lexer, every name before a parenthesis is a built-in without side
//! effects, no word stands in it that locks, assigns, writes or hands rows elsewhere, and all that under every way servers may read
//! its executable comments. The proof is done on the digest's text by our own scan of the tokens. sqlparser only adds the tables and is asked only
//! where it cannot be hurt (see [`tables`]); it never turns anything into a read.
//!
//! Limits of the proof, which no look at a text can pass: a view may call a stored function. A server that is not the master refuses that one (1792 in a
//! read-only transaction, 1290 when it is read-only); it is then run on the master, and remembered ([`Flag`]).

mod body;
mod cache;
mod calls;
mod conditions;
mod definitions;
mod effects;
mod found_rows;
mod insert_id;
mod judge;
mod own;
mod query;
mod show;
mod tables;
mod template;
mod verbs;
mod verdict;

pub use cache::{ClassifyCache, MAX_CACHED_BYTES};
pub use effects::{Access, Effects, Kill, TransactionEnd, TransactionStart};
pub use found_rows::{FoundRows, skipped};
pub use insert_id::names_id;
pub use template::Templates;
pub use verdict::{Class, ClassReason, TableName, Uncacheable};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::digest::{DigestBuf, digest};
use super::lexer::{Dialect, LexMode};

/// All that is known about a statement from its digest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Classified {
    /// What kind of statement.
    pub class: Class,
    /// Why.
    pub reason: ClassReason,
    /// Tables it names, as far as they were found; sorted, each once.
    pub tables: Vec<TableName>,
    /// Whether `tables` is certainly all of them. If not, a write may have touched any table.
    pub tables_complete: bool,
    /// It uses a table, or nobody can say that it uses none.
    pub may_use_table: bool,
    /// It writes, and perhaps calls a stored function, which may write anywhere.
    pub calls_unknown: bool,
    /// What it does to the session.
    pub effects: Effects,
    /// It has none of those effects, as most statements: told apart once, since every execution asks.
    pub plain: bool,
    /// Whether its result depends on nothing but the tables and the session's settings, or why not.
    pub cacheable: Result<(), Uncacheable>,
    /// The digest's text, for people. Bytes that are not UTF-8 are replaced.
    pub digest_text: String,
    /// The digest's hash.
    pub digest_hash: u64,
    /// Several statements in one text.
    pub multi: bool,
    /// Functions that are not known built-ins, as written, schema included.
    pub unknown_functions: Vec<String>,
    /// What `FOUND_ROWS()` says behind it.
    pub found_rows: FoundRows,
    /// MariaDB: before it the list of conditions is cleared; behind others those of the statement before are still there.
    pub clears_conditions: bool,
    /// The id in its OK is what `LAST_INSERT_ID()` tells afterwards, unless the statement [names it](names_id) itself.
    pub ok_tells_insert_id: bool,
    /// MariaDB: it asks for nothing but definitions. The server opens each view for that, and in a read-only transaction would say of one that
    /// writes that it cannot be opened.
    pub asks_definitions: bool,
    /// What running it has taught.
    pub writes_unseen: Flag,
    /// How useful it was to keep its results.
    pub worth: Tally,
}

impl Classified {
    /// Whether it asks for nothing but definitions (see [`Classified::asks_definitions`]) where `information_schema` is the current schema.
    pub fn asks_definitions_there(&self) -> bool {
        let named = |table: &TableName| table.schema.as_deref().is_none_or(|s| s.eq_ignore_ascii_case("information_schema"));
        self.reason == ClassReason::PlainSelect && self.tables_complete && !self.multi && self.tables.iter().all(named)
    }

    /// Whether all that it does ends with the connection it runs on: `SET` of the session's own, `USE`.
    pub fn acts_on_its_connection(&self) -> bool {
        self.class == Class::Session && !self.multi && !self.runs_unseen()
    }

    /// Whether code may run in it that its text does not show: a procedure, a stored function, a text prepared elsewhere.
    pub fn runs_unseen(&self) -> bool {
        self.effects.opaque || self.calls_unknown || !self.unknown_functions.is_empty()
    }

    /// Whether it changes what a connection takes from its login to its end: its account, and that one's privileges on everything.
    pub fn changes_global_rights(&self) -> bool {
        if !self.changes_accounts() {
            return false;
        }
        let text: String = self.digest_text.split_ascii_whitespace().collect::<String>().to_ascii_uppercase();
        // `REVOKE ALL PRIVILEGES, GRANT OPTION FROM u` names no level: it takes those of all.
        let all = ["REVOKEALLPRIVILEGES,GRANTOPTIONFROM", "REVOKEALL,GRANTOPTIONFROM", "FLUSHPRIVILEGES"];
        // A login begins with the account's default role, and with what its roles may do everywhere.
        let words = || self.digest_text.split_ascii_whitespace();
        let first = words().next().unwrap_or_default().to_ascii_uppercase();
        let of_role = matches!(&*first, "GRANT" | "REVOKE") && !words().any(|word| word.eq_ignore_ascii_case("ON"));
        // An open connection stays who it was; a login of the same name may be another account's now.
        let gone = ["DROPUSER", "RENAMEUSER"].iter().any(|beginning| text.starts_with(beginning));
        let default_role = text.starts_with("SETDEFAULTROLE") || text.starts_with("ALTERUSER") && text.contains("DEFAULTROLE");
        gone || of_role || default_role || text.contains("*.*") || all.iter().any(|beginning| text.starts_with(beginning))
    }

    /// Whether it may change who logs in with what: `ALTER USER`, `SET PASSWORD`, `GRANT ... IDENTIFIED BY`, `FLUSH PRIVILEGES` and
    /// the like. What a procedure does is not seen.
    pub fn changes_accounts(&self) -> bool {
        const BEGINNINGS: [&[&str]; 10] = [
            &["ALTER", "USER"],
            &["CREATE", "USER"],
            &["CREATE", "OR", "REPLACE", "USER"],
            &["DROP", "USER"],
            &["RENAME", "USER"],
            &["SET", "PASSWORD"],
            &["SET", "DEFAULT", "ROLE"],
            &["FLUSH", "PRIVILEGES"],
            &["GRANT"],
            &["REVOKE"],
        ];
        let begins = |text: &str| {
            BEGINNINGS.iter().any(|words| {
                let mut found = text.split_ascii_whitespace();
                words.iter().all(|word| found.next().is_some_and(|next| next.eq_ignore_ascii_case(word)))
            })
        };
        match self.class {
            Class::Read | Class::LockingRead | Class::Write | Class::Transaction if !self.multi => false,
            _ if self.multi => self.digest_text.split(';').any(begins),
            _ => begins(&self.digest_text),
        }
    }
}

impl Classified {
    /// Whether the first of several statements ends a transaction, and does no more.
    pub fn begins_by_ending(&self) -> bool {
        let first = self.digest_text.split(';').next().unwrap_or_default().trim();
        self.multi && ["COMMIT", "COMMIT WORK", "ROLLBACK", "ROLLBACK WORK"].iter().any(|text| first.eq_ignore_ascii_case(text))
    }
}

/// Whether a read-only server has refused a statement that was taken for a read: it writes, by a view that calls a stored
/// function. Copies share it; not a part of what the statement is, so that all are equal.
#[derive(Clone, Debug, Default)]
pub struct Flag(Arc<AtomicBool>);

impl Flag {
    /// A server has refused it.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether one has.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl PartialEq for Flag {
    fn eq(&self, _: &Flag) -> bool {
        true
    }
}

impl Eq for Flag {}

/// How many results of a digest were kept, and how often one of them was asked for again. Copies share it; not a part of what the
/// statement is, so that all are equal.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<[AtomicU32; 2]>);

impl Tally {
    /// At this many both are halved, so that what was long ago does not count for ever.
    const MANY: u32 = 1 << 16;

    fn count(&self, which: usize) {
        let [kept, again] = &*self.0;
        let many = [kept, again].get(which).is_some_and(|counter| counter.fetch_add(1, Ordering::Relaxed) >= Self::MANY);
        if many {
            // Two who halve at once halve twice: nobody depends on these being exact.
            for counter in [kept, again] {
                counter.store(counter.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
            }
        }
    }

    /// A result was kept.
    pub fn kept(&self) {
        self.count(0);
    }

    /// One was asked for again.
    pub fn again(&self) {
        self.count(1);
    }

    /// Kept, and asked for again.
    pub fn get(&self) -> (u32, u32) {
        let [kept, again] = &*self.0;
        (kept.load(Ordering::Relaxed), again.load(Ordering::Relaxed))
    }
}

impl PartialEq for Tally {
    fn eq(&self, _: &Tally) -> bool {
        true
    }
}

impl Eq for Tally {}

/// Judges one text. Costs microseconds; [`ClassifyCache`] remembers.
pub fn classify(sql: &[u8], mode: LexMode) -> Classified {
    let mut buf = DigestBuf::default();
    digest(sql, mode, &mut buf);
    classify_digest(&buf, mode)
}

/// Judges a digest.
pub fn classify_digest(buf: &DigestBuf, mode: LexMode) -> Classified {
    let mut verdict = judge::judge(&buf.text, mode, buf.truncated);
    let (tables, tables_complete) = match tables::tables(&buf.text, mode, &verdict) {
        Some(tables) => (tables, true),
        None => (verdict.tables.clone(), false),
    };
    let may_use_table = !tables.is_empty() || !tables_complete && (buf.truncated || has_table_word(&buf.text));
    let found_rows = FoundRows::behind(&buf.text, &verdict, mode.dialect);
    let clears_conditions = conditions::clears(&buf.text, &verdict, may_use_table, mode);
    let ok_tells_insert_id = verdict.class == Class::Write && insert_id::told_by_ok(&buf.text, mode, &verdict);
    // A hit sends the rows; what `FOUND_ROWS()` says behind it, only a server counts.
    let counted = if found_rows == FoundRows::Counted { Err(Uncacheable::CalcFoundRows) } else { Ok(()) };
    let cacheable = verdict.cacheable(tables_complete, &tables).and(counted);
    let asks_definitions =
        mode.dialect == Dialect::MariaDb && definitions::asks_only(&buf.text, &verdict, &tables, tables_complete);
    // What asks for them and reads something beside them gets the whole answer from the master only.
    let mixed = mode.dialect == Dialect::MariaDb && verdict.class == Class::Read && verdict.effects.system_schemas;
    verdict.effects.reads_server_state |= mixed && !asks_definitions && !(tables_complete && definitions::are_apart(&tables));
    Classified {
        class: verdict.class,
        reason: verdict.reason,
        tables,
        tables_complete,
        may_use_table,
        calls_unknown: verdict.class == Class::Write && calls::calls_unknown(&buf.text, mode),
        plain: verdict.effects == Effects::default(),
        effects: verdict.effects,
        cacheable,
        digest_text: String::from_utf8_lossy(&buf.text).into_owned(),
        digest_hash: buf.hash,
        multi: verdict.multi,
        unknown_functions: verdict.unknown_functions,
        found_rows,
        clears_conditions,
        ok_tells_insert_id,
        asks_definitions,
        writes_unseen: Flag::default(),
        worth: Tally::default(),
    }
}

/// Whether a word stands in the text behind which a query names its tables.
fn has_table_word(text: &[u8]) -> bool {
    let words = text.split(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | 0x80..)));
    words.into_iter().any(|word| word.eq_ignore_ascii_case(b"FROM") || word.eq_ignore_ascii_case(b"TABLE"))
}

#[cfg(test)]
mod tests;
