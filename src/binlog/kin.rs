//! What changes along with a table and is not in the log: rows that a foreign key deletes or sets, and, where statements are logged, what triggers
//! write and which tables are behind a view.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::machine::{Change, TABLES_MAX, What, Why};
use super::statement::Table;

/// The most foreign keys, and the most triggers and views, that are kept; beyond it they are not known.
pub const KIN_MAX: usize = 100_000;

/// What is known of a server's tables. Where something is not known, more is taken as changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kin {
    /// From the table that is referred to, to those whose rows follow it. `None`: not known.
    children: Option<HashMap<Table, Vec<Table>>>,
    /// Tables with triggers, and views. `None`: not known.
    indirect: Option<HashSet<Table>>,
}

impl Kin {
    /// Foreign keys with `CASCADE` or `SET NULL`: (child, parent).
    pub fn with_children(mut self, keys: impl IntoIterator<Item = (Table, Table)>) -> Kin {
        let mut children: HashMap<Table, Vec<Table>> = HashMap::new();
        for (n, (child, parent)) in keys.into_iter().enumerate() {
            if n >= KIN_MAX {
                self.children = None;
                return self;
            }
            children.entry(parent).or_default().push(child);
        }
        self.children = Some(children);
        self
    }

    /// Tables with triggers, and views.
    pub fn with_indirect(mut self, tables: impl IntoIterator<Item = Table>) -> Kin {
        let found: HashSet<Table> = tables.into_iter().take(KIN_MAX + 1).collect();
        self.indirect = (found.len() <= KIN_MAX).then_some(found);
        self
    }

    /// All that a transaction changed.
    pub fn widen(&self, change: &Change) -> What {
        let What::Tables(tables) = &change.what else { return change.what.clone() };
        if tables.is_empty() {
            return What::nothing();
        }
        let unknown = What::Everything(Why::UnknownTables);
        let Some(children) = &self.children else { return unknown };
        if change.by_statement {
            match &self.indirect {
                Some(indirect) if tables.iter().all(|table| !indirect.contains(table)) => {}
                _ => return unknown,
            }
        }
        let mut all: BTreeSet<Table> = tables.clone();
        let mut open: Vec<Table> = tables.iter().cloned().collect();
        while let Some(table) = open.pop() {
            for child in children.get(&table).into_iter().flatten() {
                if all.insert(child.clone()) {
                    open.push(child.clone());
                }
            }
            if all.len() > TABLES_MAX {
                return unknown;
            }
        }
        What::Tables(all)
    }
}

/// `schema/table` as InnoDB names it, in the character set of file names: a character that is no letter, digit or underscore of ASCII is `@` and four
/// hexadecimal digits. `None` for other codes, which stand for letters of some alphabets, and for what is no such name.
pub fn innodb_name(text: &str) -> Option<Table> {
    let (schema, table) = text.split_once('/')?;
    Some((decode(schema)?, decode(table)?))
}

fn decode(name: &str) -> Option<String> {
    let mut parts = name.split('@');
    let mut units: Vec<u16> = parts.next()?.encode_utf16().collect();
    for part in parts {
        let (code, rest) = part.split_at_checked(4)?;
        units.push(u16::from_str_radix(code, 16).ok()?);
        units.extend(rest.encode_utf16());
    }
    String::from_utf16(&units).ok()
}
