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

    /// With nothing known of triggers and views.
    pub fn without_indirect(mut self) -> Kin {
        self.indirect = None;
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
        // Of a statement's cascades nothing is logged, and MySQL 9.7 can be set to let the children's triggers fire in them.
        let known = |indirect: &HashSet<Table>| all.iter().all(|table| !indirect.contains(table));
        if change.by_statement && !self.indirect.as_ref().is_some_and(known) {
            return unknown;
        }
        What::Tables(all)
    }
}

/// `schema/table` as InnoDB names it. A slash may be part of a name: then all ways to read it are given.
pub fn innodb_names(text: &str) -> Vec<Table> {
    let part = |at: usize| Some((text.get(..at)?.to_owned(), text.get(at + 1..)?.to_owned()));
    text.match_indices('/').filter_map(|(at, _)| part(at)).collect()
}
