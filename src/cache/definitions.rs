//! What tables are, as the master has told: which are tables and which are views of which tables, and what else changes when one of
//! them is written (children by cascades; anything, where a trigger stands).
//!
//! A name that is not found here is not kept, and a write to it voids everything: it may have been made a moment ago.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use smallvec::SmallVec;

use super::epoch::{Cell, Epochs};
use super::touch::mentions;
use crate::sql::classify::{Class, ClassReason, Classified, TableName, Uncacheable, classify};
use crate::sql::lexer::LexMode;

/// Cells of one statement.
pub type Cells = SmallVec<[Arc<Cell>; 2]>;
/// A name as it is compared, see [`key`].
pub type NameKey = SmallVec<[u8; 96]>;

/// Tables that change with one; more are treated as any.
const TOUCHED_MAX: usize = 32;
/// Views in views.
const DEPTH_MAX: usize = 16;
/// Engines whose rows change with a commit and not before, and live on the server itself.
const ENGINES: [&str; 2] = ["InnoDB", "ROCKSDB"];

/// Schema and table as they are compared: in lower case, since some servers do not tell cases apart and for the others it does no harm.
/// `None` for names beyond ASCII, which servers fold by rules of their own.
pub fn key(schema: &[u8], table: &[u8]) -> Option<NameKey> {
    if !schema.is_ascii() || !table.is_ascii() {
        return None;
    }
    let mut key = NameKey::new();
    key.extend(schema.iter().map(u8::to_ascii_lowercase));
    key.push(0);
    key.extend(table.iter().map(u8::to_ascii_lowercase));
    Some(key)
}

/// A schema and a name in it.
pub type Named = (String, String);

/// What the master said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Name, type (`BASE TABLE`, `VIEW`, ...), engine.
    pub tables: Vec<(Named, String, String)>,
    /// Tables that have a trigger.
    pub triggers: Vec<Named>,
    /// Parent and child of foreign keys that change the child with the parent.
    pub cascades: Vec<(Named, Named)>,
    /// What a foreign key changes in a child may make the child's triggers fire: MySQL 9.7 and later can be set to do so
    /// (`enable_cascade_triggers`). Before that, and on MariaDB, they never do.
    pub cascades_fire: bool,
    /// Views with their text; empty when it is not told.
    pub views: Vec<(Named, String)>,
    /// The heartbeat's table, which Sluice writes itself several times a second, past the cache: nobody's result may depend on it, and
    /// its changes, which the binlog tells of, concern nobody.
    pub heartbeat: Option<Named>,
}

/// Why a table's rows are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unkept {
    /// Nothing is known of the tables yet, or after a change of definitions.
    NotTold,
    /// There is none of that name that we know.
    Unknown,
    /// An engine that changes rows before a commit, or that has them elsewhere.
    Engine,
    /// A sequence, a system-versioned table, a system view.
    Kind,
    /// A view whose text is not told, or whose result depends on more than tables.
    View,
}

impl Unkept {
    /// The word in `EXPLAIN ROUTE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Unkept::NotTold => "tables_not_told_yet",
            Unkept::Unknown => "table_unknown",
            Unkept::Engine => "table_engine",
            Unkept::Kind => "not_a_plain_table",
            Unkept::View => "view",
        }
    }
}

#[derive(Debug)]
struct Table {
    read: Result<Cells, Unkept>,
    /// `None`: anything may change.
    write: Option<Cells>,
}

/// See the file.
#[derive(Debug, Default)]
pub struct Definitions {
    tables: HashMap<NameKey, Table, foldhash::fast::RandomState>,
    /// Views that may write when they are read, by a function they call.
    writing: HashSet<NameKey>,
    /// What they were made of.
    told: Told,
}

impl Definitions {
    /// From what the master said.
    pub fn new(told: Told, epochs: &Epochs, mode: LexMode) -> Definitions {
        Maker::new(&told, epochs, mode).make(told.clone())
    }

    /// Whether the master said the same.
    pub fn says(&self, told: &Told) -> bool {
        self.told == *told
    }

    /// The tables behind the names of a read, views resolved.
    ///
    /// # Errors
    /// One of them is not kept.
    pub fn read(&self, names: &[TableName], schema: Option<&[u8]>) -> Result<Cells, Unkept> {
        let mut cells = Cells::new();
        for name in names {
            let key = name_key(name, schema).ok_or(Unkept::Unknown)?;
            let table = self.tables.get(&key).ok_or(Unkept::Unknown)?;
            add(&mut cells, table.read.as_ref().map_err(|why| *why)?);
        }
        Ok(cells)
    }

    /// Whether reading any view may write.
    pub fn any_read_writes(&self) -> bool {
        !self.writing.is_empty()
    }

    /// Whether reading these may write: a view among them calls a function that does more than compute, or its text is not told.
    pub fn read_writes(&self, names: &[TableName], schema: Option<&[u8]>) -> bool {
        !self.writing.is_empty() && names.iter().any(|name| name_key(name, schema).is_some_and(|key| self.writing.contains(&key)))
    }

    /// Whether what this statement reads may write: a table of it, or one that its text mentions. What only looks at a view runs nothing of it.
    pub fn writes_by_reading(&self, statement: &Classified, schema: Option<&[u8]>) -> bool {
        let looks = matches!(
            statement.reason,
            ClassReason::Show | ClassReason::ShowServerState | ClassReason::Explain | ClassReason::Describe | ClassReason::Help
        );
        let named = || match statement.tables_complete {
            true => self.read_writes(&statement.tables, schema),
            false => self.writing.iter().any(|key| mentions(&statement.digest_text, key)),
        };
        self.any_read_writes() && statement.may_use_table && !looks && named()
    }

    /// The tables that change when these are written. `None`: any may.
    pub fn write<'a>(&self, names: impl Iterator<Item = Option<&'a [u8]>>) -> Option<Cells> {
        let mut cells = Cells::new();
        for key in names {
            add(&mut cells, self.tables.get(key?)?.write.as_ref()?);
        }
        Some(cells)
    }

    /// How many tables and views are known.
    pub fn len(&self) -> usize {
        self.tables.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }
}

/// The key of a name in a statement of a session with this schema.
pub fn name_key(name: &TableName, schema: Option<&[u8]>) -> Option<NameKey> {
    key(name.schema.as_deref().map(str::as_bytes).or(schema)?, name.name.as_bytes())
}

fn add(cells: &mut Cells, more: &[Arc<Cell>]) {
    for cell in more {
        if !cells.iter().any(|known| Arc::ptr_eq(known, cell)) {
            cells.push(cell.clone());
        }
    }
}

/// Follows cascades and views.
struct Maker<'a> {
    epochs: &'a Epochs,
    mode: LexMode,
    kinds: HashMap<NameKey, (&'a Named, &'a str, &'a str)>,
    triggers: HashSet<NameKey>,
    cascades_fire: bool,
    children: HashMap<NameKey, Vec<NameKey>>,
    /// A cascade from it goes to a table whose name has no key.
    lost_child: HashSet<NameKey>,
    views: HashMap<NameKey, &'a str>,
    /// Two names that are one in lower case: neither is kept.
    doubled: HashSet<NameKey>,
    heartbeat: Option<NameKey>,
}

fn of(named: &Named) -> Option<NameKey> {
    key(named.0.as_bytes(), named.1.as_bytes())
}

impl<'a> Maker<'a> {
    fn new(told: &'a Told, epochs: &'a Epochs, mode: LexMode) -> Maker<'a> {
        let mut maker = Maker {
            epochs,
            mode,
            kinds: HashMap::new(),
            triggers: told.triggers.iter().filter_map(of).collect(),
            cascades_fire: told.cascades_fire,
            children: HashMap::new(),
            lost_child: HashSet::new(),
            views: told.views.iter().filter_map(|(named, text)| Some((of(named)?, text.as_str()))).collect(),
            doubled: HashSet::new(),
            heartbeat: told.heartbeat.as_ref().and_then(of),
        };
        for (named, kind, engine) in &told.tables {
            let Some(key) = of(named) else { continue };
            if maker.kinds.insert(key.clone(), (named, kind, engine)).is_some() {
                maker.doubled.insert(key);
            }
        }
        for (parent, child) in &told.cascades {
            match (of(parent), of(child)) {
                (Some(parent), Some(child)) => maker.children.entry(parent).or_default().push(child),
                // Nobody knows what changes behind it; it may be the parent of others.
                (Some(parent), None) => _ = maker.lost_child.insert(parent),
                // Its own writes change anything, since it has no key.
                (None, _) => {}
            }
        }
        maker
    }

    fn make(&self, told: Told) -> Definitions {
        let mut tables = HashMap::default();
        let mut writing = HashSet::new();
        for key in self.kinds.keys() {
            if self.calls(key, 0) {
                writing.insert(key.clone());
            }
            tables.insert(key.clone(), Table { read: self.read(key, 0), write: self.write(key, 0) });
        }
        Definitions { tables, writing, told }
    }

    fn cell(&self, key: &NameKey) -> Option<Arc<Cell>> {
        let (named, ..) = self.kinds.get(key)?;
        self.epochs.cell(key, &format!("{}.{}", named.0, named.1))
    }

    fn read(&self, key: &NameKey, depth: usize) -> Result<Cells, Unkept> {
        let (named, kind, engine) = self.kinds.get(key).ok_or(Unkept::Unknown)?;
        if self.doubled.contains(key) {
            return Err(Unkept::Unknown);
        }
        match *kind {
            _ if self.heartbeat.as_ref() == Some(key) => Err(Unkept::Kind),
            "BASE TABLE" if !ENGINES.iter().any(|known| known.eq_ignore_ascii_case(engine)) => Err(Unkept::Engine),
            "BASE TABLE" => Ok(Cells::from_iter([self.cell(key).ok_or(Unkept::Unknown)?])),
            "VIEW" if depth < DEPTH_MAX => {
                let text = self.views.get(key).filter(|text| !text.is_empty()).ok_or(Unkept::View)?;
                let judged = classify(text.as_bytes(), self.mode);
                // What a view's own query counts, FOUND_ROWS() behind a query of the view does not tell.
                let counts = judged.cacheable == Err(Uncacheable::CalcFoundRows) && !judged.effects.calc_found_rows;
                if judged.cacheable.is_err() && !counts {
                    return Err(Unkept::View);
                }
                let mut cells = Cells::new();
                for name in &judged.tables {
                    let base = name_key(name, Some(named.0.as_bytes())).ok_or(Unkept::View)?;
                    add(&mut cells, &self.read(&base, depth + 1)?);
                }
                Ok(cells)
            }
            "VIEW" => Err(Unkept::View),
            _ => Err(Unkept::Kind),
        }
    }

    /// Whether it is a view that calls a function, itself or by one of its views.
    fn calls(&self, key: &NameKey, depth: usize) -> bool {
        let Some((named, "VIEW", _)) = self.kinds.get(key) else { return false };
        let Some(text) = self.views.get(key).filter(|text| !text.is_empty() && depth < DEPTH_MAX) else { return true };
        let judged = classify(text.as_bytes(), self.mode);
        judged.class != Class::Read
            || !judged.tables_complete
            || judged.tables.iter().any(|name| {
                let base = name_key(name, Some(named.0.as_bytes()));
                base.is_none_or(|base| self.calls(&base, depth + 1))
            })
    }

    fn write(&self, key: &NameKey, depth: usize) -> Option<Cells> {
        let (named, kind, engine) = self.kinds.get(key)?;
        let mut cells = Cells::new();
        match *kind {
            "BASE TABLE" if !self.doubled.contains(key) => {
                let ours = ["InnoDB", "ROCKSDB", "MyISAM", "Aria", "MEMORY", "ARCHIVE", "CSV", "BLACKHOLE"];
                if !ours.iter().any(|known| known.eq_ignore_ascii_case(engine)) || self.triggers.contains(key) {
                    return None;
                }
                let mut todo = vec![key.clone()];
                let mut seen: HashSet<NameKey> = HashSet::new();
                while let Some(key) = todo.pop() {
                    if !seen.insert(key.clone()) {
                        continue;
                    }
                    add(&mut cells, &[self.cell(&key)?]);
                    let fires = self.cascades_fire && self.triggers.contains(&key);
                    if cells.len() > TOUCHED_MAX || fires || self.lost_child.contains(&key) {
                        return None;
                    }
                    todo.extend(self.children.get(&key).into_iter().flatten().cloned());
                }
            }
            "VIEW" if depth < DEPTH_MAX => {
                let text = self.views.get(key).filter(|text| !text.is_empty())?;
                let judged = classify(text.as_bytes(), self.mode);
                if !judged.tables_complete || !judged.unknown_functions.is_empty() {
                    return None;
                }
                for name in &judged.tables {
                    let base = name_key(name, Some(named.0.as_bytes()))?;
                    add(&mut cells, &self.write(&base, depth + 1)?);
                }
            }
            _ => return None,
        }
        Some(cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Named {
        let (schema, name) = text.split_once('.').unwrap();
        (schema.to_owned(), name.to_owned())
    }

    fn shop() -> (Epochs, Definitions) {
        let epochs = Epochs::default();
        let definitions = Definitions::new(told_of_shop(), &epochs, LexMode::default());
        (epochs, definitions)
    }

    fn told_of_shop() -> Told {
        let table = |name: &str, engine: &str| (named(name), "BASE TABLE".to_owned(), engine.to_owned());
        let view = |name: &str| (named(name), "VIEW".to_owned(), String::new());
        Told {
            tables: vec![
                table("shop.items", "InnoDB"),
                table("shop.orders", "InnoDB"),
                table("shop.lines", "InnoDB"),
                table("shop.notes", "InnoDB"),
                table("shop.audited", "InnoDB"),
                table("shop.old", "MyISAM"),
                table("shop.far", "FEDERATED"),
                table("shop.Twice", "InnoDB"),
                table("shop.twice", "InnoDB"),
                (named("shop.seq"), "SEQUENCE".to_owned(), "InnoDB".to_owned()),
                view("shop.cheap"),
                view("shop.cheaper"),
                view("shop.today"),
                view("shop.few"),
                view("shop.secret"),
                view("shop.sly"),
                view("shop.slyer"),
                table("sluice.heartbeat", "InnoDB"),
            ],
            heartbeat: Some(named("sluice.heartbeat")),
            triggers: vec![named("shop.audited")],
            cascades_fire: false,
            cascades: vec![
                (named("shop.orders"), named("shop.lines")),
                (named("shop.lines"), named("shop.notes")),
                (named("shop.notes"), named("shop.orders")),
            ],
            views: vec![
                (named("shop.cheap"), "select `shop`.`items`.`id` AS `id` from `shop`.`items` where `price` < 5".to_owned()),
                (named("shop.cheaper"), "select `c`.`id` AS `id` from (`shop`.`cheap` `c` join `shop`.`lines` `l`)".to_owned()),
                (named("shop.today"), "select `shop`.`orders`.`id` AS `id` from `shop`.`orders` where `d` > now()".to_owned()),
                (named("shop.few"), "select `id` from `shop`.`items` union select `id` from `shop`.`lines` limit 3".to_owned()),
                (named("shop.secret"), String::new()),
                (named("shop.sly"), "select `f`(`shop`.`items`.`id`) AS `x` from `shop`.`items`".to_owned()),
                (named("shop.slyer"), "select `shop`.`sly`.`x` AS `x` from `shop`.`sly`".to_owned()),
            ],
        }
    }

    fn said(cells: &Cells) -> String {
        let mut names: Vec<&str> = cells.iter().map(|cell| cell.name()).collect();
        names.sort_unstable();
        names.join(" ")
    }

    #[test]
    fn what_a_read_depends_on() {
        let (_epochs, definitions) = shop();
        for (names, expected) in [
            (&["items"][..], "shop.items"),
            (&["ITEMS", "items"], "shop.items"),
            (&["cheap"], "shop.items"),
            (&["cheaper", "orders"], "shop.items shop.lines shop.orders"),
            (&["few"], "shop.items shop.lines"),
            (&["today"], "view"),
            (&["secret"], "view"),
            (&["old"], "table_engine"),
            (&["seq"], "not_a_plain_table"),
            (&["twice"], "table_unknown"),
            (&["items", "nowhere"], "table_unknown"),
            (&["ñ"], "table_unknown"),
        ] {
            let tables: Vec<TableName> = names.iter().map(|n| TableName { schema: None, name: (*n).to_owned() }).collect();
            let found = definitions.read(&tables, Some(b"shop"));
            assert_eq!(found.map_or_else(|why| why.as_str().to_owned(), |cells| said(&cells)), expected, "{names:?}");
        }
        let heartbeat = [TableName { schema: Some("sluice".to_owned()), name: "heartbeat".to_owned() }];
        assert_eq!(definitions.read(&heartbeat, None).unwrap_err(), Unkept::Kind);
        let written = key(b"sluice", b"heartbeat");
        assert_eq!(said(&definitions.write([written.as_deref()].into_iter()).unwrap()), "sluice.heartbeat");
        let elsewhere = [TableName { schema: Some("Shop".to_owned()), name: "items".to_owned() }];
        assert_eq!(said(&definitions.read(&elsewhere, Some(b"other")).unwrap()), "shop.items");
        let nowhere = [TableName { schema: None, name: "items".to_owned() }];
        assert_eq!(definitions.read(&nowhere, None).unwrap_err(), Unkept::Unknown);
    }

    #[test]
    fn reads_that_may_write() {
        let (_epochs, definitions) = shop();
        for (name, writes) in
            [("items", false), ("cheaper", false), ("today", false), ("secret", true), ("sly", true), ("slyer", true)]
        {
            let tables = [TableName { schema: None, name: name.to_owned() }];
            assert_eq!(definitions.read_writes(&tables, Some(b"shop")), writes, "{name}");
        }
    }

    #[test]
    fn what_a_write_changes() {
        let (_epochs, definitions) = shop();
        for (name, expected) in [
            ("items", "shop.items"),
            ("orders", "shop.lines shop.notes shop.orders"),
            ("notes", "shop.lines shop.notes shop.orders"),
            ("cheaper", "shop.items shop.lines shop.notes shop.orders"),
            ("old", "shop.old"),
            ("audited", "any"),
            ("far", "any"),
            ("seq", "any"),
            ("secret", "any"),
            ("twice", "any"),
            ("nowhere", "any"),
        ] {
            let found = key(b"shop", name.as_bytes());
            let cells = definitions.write([found.as_deref()].into_iter());
            assert_eq!(cells.map_or_else(|| "any".to_owned(), |cells| said(&cells)), expected, "{name}");
        }
    }

    #[test]
    fn a_cascade_to_a_name_that_is_not_looked_up_may_change_anything() {
        let mut told = told_of_shop();
        told.cascades = vec![
            (named("shop.items"), named("shop.größen")),
            (named("shop.größen"), named("shop.notes")),
            (named("shop.orders"), named("shop.items")),
        ];
        told.tables.push((named("shop.größen"), "BASE TABLE".to_owned(), "InnoDB".to_owned()));
        let epochs = Epochs::default();
        let definitions = Definitions::new(told, &epochs, LexMode::default());
        for (name, expected) in [("items", None), ("orders", None), ("größen", None), ("notes", Some("shop.notes"))] {
            let found = key(b"shop", name.as_bytes());
            let cells = definitions.write([found.as_deref()].into_iter());
            assert_eq!(cells.map(|cells| said(&cells)).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_cascade_changes_what_the_triggers_of_a_child_write_where_they_fire() {
        for (fire, expected) in [(false, Some("shop.audited shop.items")), (true, None)] {
            let told = told_of_shop();
            let cascades = vec![(named("shop.items"), named("shop.audited"))];
            let told = Told { cascades, cascades_fire: fire, ..told };
            let epochs = Epochs::default();
            let definitions = Definitions::new(told, &epochs, LexMode::default());
            let written = key(b"shop", b"items");
            let cells = definitions.write([written.as_deref()].into_iter());
            assert_eq!(cells.map(|cells| said(&cells)).as_deref(), expected, "{fire}");
        }
    }
}
