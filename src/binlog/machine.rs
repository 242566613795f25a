//! Events in, changes out: what each transaction changed, told when its end was read, and where the reading stands.
//!
//! The position moves at a transaction's end only, so that who reads on from it misses none of one that was cut.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use super::event::{self, Event, EventError, Format, Gtid, Header};
use super::payload::{self, PayloadError};
use super::split::{Found, Impossible, Splitter};
use super::statement::{Said, Table, said};
use crate::topology::Flavor;
use crate::topology::gtid::{GtidSet, MariaDbPosition, MySqlSet};

/// The most tables of one change; beyond it everything has changed.
pub const TABLES_MAX: usize = 1000;
/// The most table ids of one transaction that are remembered.
const IDS_MAX: usize = 10_000;
/// The most prepared transactions (XA) that are remembered. A forgotten one's end changes everything.
const PREPARED_MAX: usize = 1000;

/// Why everything has to be taken as changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Why {
    /// A schema, view, trigger, routine or event was made, changed or dropped.
    Ddl,
    /// Accounts, roles or privileges changed.
    Grants,
    /// Something whose tables are not known, or too many of them.
    UnknownTables,
    /// The log has a gap, or an event that cannot be read.
    Missed,
}

/// What changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// These tables.
    Tables(BTreeSet<Table>),
    /// Perhaps all of them.
    Everything(Why),
}

impl What {
    /// Nothing yet.
    pub fn nothing() -> What {
        What::Tables(BTreeSet::new())
    }

    /// Whether nothing changed.
    pub fn is_nothing(&self) -> bool {
        matches!(self, What::Tables(tables) if tables.is_empty())
    }

    /// Adds a table; beyond [`TABLES_MAX`] it is everything.
    pub fn add(&mut self, table: Table) {
        if let What::Tables(tables) = self {
            tables.insert(table);
            if tables.len() > TABLES_MAX {
                *self = What::Everything(Why::UnknownTables);
            }
        }
    }

    /// Everything; the first reason stays.
    pub fn add_everything(&mut self, why: Why) {
        if matches!(self, What::Tables(_)) {
            *self = What::Everything(why);
        }
    }

    /// Adds what `other` says.
    pub fn merge(&mut self, other: What) {
        match other {
            What::Tables(tables) => tables.into_iter().for_each(|table| self.add(table)),
            What::Everything(why) => self.add_everything(why),
        }
    }
}

/// What one transaction changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Which tables.
    pub what: What,
    /// The transaction's name, if it has one.
    pub gtid: Option<GtidSet>,
    /// Some of it was logged as statements: what their triggers wrote, and which tables are behind a view, the log does not say.
    pub by_statement: bool,
    /// Definitions changed: what is known of foreign keys, triggers and views is to be asked for anew.
    pub definitions: bool,
    /// Where it ends: the file, and the place in it as far as four bytes tell.
    pub end: (String, u32),
}

/// What came of some bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A transaction was read to its end.
    Changed(Change),
    /// The server has nothing newer.
    CaughtUp,
    /// A file's format was read: the stream flows.
    Began,
}

/// Why reading cannot go on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Broken {
    /// Not events.
    #[error(transparent)]
    Impossible(#[from] Impossible),
    /// An event that cannot be read.
    #[error(transparent)]
    Event(#[from] EventError),
    /// A packet that ends in the middle of an event.
    #[error("an event ends before its length")]
    Cut,
}

/// How to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Whose log.
    pub flavor: Flavor,
    /// `lower_case_table_names` is not 0: names of tables are compared in lower case.
    pub lower: bool,
    /// The heartbeat's table, whose changes are nobody's business.
    pub ignored: Option<Table>,
}

/// See the module.
pub struct Machine {
    settings: Settings,
    splitter: Splitter,
    inner: Inner,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("position", &self.inner.position).finish_non_exhaustive()
    }
}

/// All but the splitter, which lends the events.
struct Inner {
    format: Format,
    position: GtidSet,
    /// Transactions without a name were read: the position does not tell where the reading stands.
    unnamed: bool,
    file: String,
    gtid: Option<Gtid>,
    /// Between a transaction's begin and its end.
    open: bool,
    what: What,
    by_statement: bool,
    definitions: bool,
    ids: HashMap<u64, Table>,
    prepared: HashMap<String, (What, bool)>,
    /// The highest time of an event, Unix seconds.
    newest: u32,
}

impl Machine {
    /// Begins behind `position`.
    pub fn new(settings: Settings, position: GtidSet) -> Machine {
        let inner = Inner {
            format: Format::default(),
            position,
            unnamed: false,
            file: String::new(),
            gtid: None,
            open: false,
            what: What::nothing(),
            by_statement: false,
            definitions: false,
            ids: HashMap::new(),
            prepared: HashMap::new(),
            newest: 0,
        };
        Machine { settings, splitter: Splitter::new(), inner }
    }

    /// Everything up to here was told.
    pub fn position(&self) -> &GtidSet {
        &self.inner.position
    }

    /// Whether transactions without a GTID were read, so that the position does not tell where to go on.
    pub fn saw_unnamed(&self) -> bool {
        self.inner.unnamed
    }

    /// The newest time of an event, Unix seconds; 0 for none yet. All transactions that ended before it was written have been told, and perhaps more.
    pub fn newest(&self) -> u32 {
        self.inner.newest
    }

    /// A new connection: what was cut is forgotten, it will come again.
    pub fn reconnected(&mut self, settings: Settings) {
        self.settings = settings;
        self.splitter = Splitter::new();
        let inner = &mut self.inner;
        inner.format = Format::default();
        inner.gtid = None;
        inner.start();
        inner.open = false;
        inner.newest = 0;
    }

    /// Begins anew behind another position, with what was prepared unknown.
    pub fn jump(&mut self, position: GtidSet) {
        self.inner.position = position;
        self.inner.unnamed = false;
        self.inner.prepared.clear();
    }

    /// Takes bytes of an event, cut anywhere.
    ///
    /// # Errors
    /// [`Broken`]; nothing behind it can be trusted, and what comes is to be read anew from [`Machine::position`].
    pub fn push(&mut self, bytes: &[u8], steps: &mut Vec<Step>) -> Result<(), Broken> {
        let Machine { settings, splitter, inner } = self;
        let mut result = Ok(());
        let split = splitter.push(bytes, |found| {
            if result.is_ok() {
                result = inner.event(&found, settings, steps, true);
            }
            Some(inner.format.checksum)
        });
        result.and(split.map_err(Broken::from))
    }

    /// The packet ends, and an event with it.
    ///
    /// # Errors
    /// [`Broken::Cut`] when it does not.
    pub fn end_of_packet(&self) -> Result<(), Broken> {
        if self.splitter.between_events() { Ok(()) } else { Err(Broken::Cut) }
    }
}

impl Inner {
    /// A new transaction's empty book.
    fn start(&mut self) {
        self.what = What::nothing();
        (self.by_statement, self.definitions) = (false, false);
        self.ids.clear();
    }

    fn event(&mut self, found: &Found<'_>, settings: &Settings, steps: &mut Vec<Step>, outer: bool) -> Result<(), Broken> {
        let header = &found.header;
        if !found.sound {
            return Err(EventError::Checksum(header.kind).into());
        }
        if header.kind == event::kind::ROTATE {
            self.rotate(found.body);
        }
        self.newest = self.newest.max(header.timestamp);
        match event::parse(header, found.body, found.whole, &self.format) {
            Ok(Event::Payload(body)) if outer => self.payload(body, header, settings, steps),
            Ok(event) => self.step(event, header, settings, steps),
            // A statement that cannot be unpacked changed something; the events behind it can be read.
            Err(EventError::Payload(..)) => self.statement(Said::Everything(Why::UnknownTables), header, settings, steps),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The name of the next file stands behind eight bytes. The first one of a stream has a checksum behind it although nothing has said so.
    fn rotate(&mut self, body: &[u8]) {
        let name = body.get(8..).unwrap_or_default();
        let named = |name: &[u8]| {
            let digits = name.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
            digits.len() >= 6 && digits.len() < name.len() && digits.iter().all(u8::is_ascii_digit)
        };
        let without = name.get(..name.len().saturating_sub(event::CHECKSUM_LEN)).unwrap_or_default();
        let name = if named(name) { name } else { without };
        self.file = String::from_utf8_lossy(name).into_owned();
    }

    fn payload(&mut self, body: &[u8], header: &Header, settings: &Settings, steps: &mut Vec<Step>) {
        let mut splitter = Splitter::new();
        let unpacked = payload::transaction(body, |piece| {
            let mut sound = true;
            let pushed = splitter.push(piece, |mut found| {
                // What lies inside says nothing of its place in the file.
                found.header.end = header.end;
                sound &= self.event(&found, settings, steps, false).is_ok();
                None
            });
            if pushed.is_ok() && sound { Ok(()) } else { Err(PayloadError::Broken) }
        });
        // Whatever is wrong inside, the transaction ends with its event.
        if unpacked.is_err() || !splitter.between_events() || self.open {
            self.what.add_everything(Why::UnknownTables);
            self.finish(header, settings, steps);
        }
    }

    fn step(&mut self, event: Event<'_>, header: &Header, settings: &Settings, steps: &mut Vec<Step>) {
        match event {
            Event::Format(format) => {
                self.format = format;
                steps.push(Step::Began);
            }
            Event::Heartbeat => steps.push(Step::CaughtUp),
            Event::Gtid(gtid) => {
                // The last one has an end, or the server was cut off while it wrote it.
                if self.open || !self.what.is_nothing() {
                    self.finish(header, settings, steps);
                }
                self.open = matches!(gtid, Gtid::MariaDb(_, standalone) if !standalone);
                self.gtid = Some(gtid);
                self.start();
            }
            Event::Query(query) => {
                let said = said(&query, settings.flavor, settings.lower);
                self.statement(said, header, settings, steps);
            }
            Event::TableMap { id, schema, table } => self.table_map(id, schema, table),
            Event::Rows(event::NO_TABLE) => {}
            Event::Rows(id) => match self.ids.get(&id).cloned() {
                Some((schema, _)) if schema == "mysql" => self.what.add_everything(Why::Grants),
                Some(table) => self.what.add(table),
                None => self.what.add_everything(Why::UnknownTables),
            },
            Event::Xid => self.finish(header, settings, steps),
            Event::XaPrepare { one_phase: true, .. } => self.finish(header, settings, steps),
            Event::XaPrepare { name, .. } => {
                let what = std::mem::replace(&mut self.what, What::nothing());
                if self.prepared.len() < PREPARED_MAX {
                    self.prepared.insert(name, (what, self.by_statement));
                }
                self.finish(header, settings, steps);
            }
            Event::Nothing => {}
            Event::Incident => {
                self.what.add_everything(Why::Missed);
                self.finish(header, settings, steps);
            }
            Event::Payload(_) | Event::Unknown(_) => {
                let long = matches!(
                    header.kind,
                    event::kind::QUERY
                        | event::kind::QUERY_COMPRESSED
                        | event::kind::EXECUTE_LOAD_QUERY
                        | event::kind::TRANSACTION_PAYLOAD
                );
                self.what.add_everything(if long { Why::UnknownTables } else { Why::Missed });
                // A statement or a packed transaction that is too long to be kept may have been all of its transaction.
                if !self.open {
                    self.finish(header, settings, steps);
                }
            }
        }
    }

    fn table_map(&mut self, id: u64, schema: &[u8], table: &[u8]) {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned);
        let (Ok(schema), Ok(table)) = (text(schema), text(table)) else {
            return self.what.add_everything(Why::UnknownTables);
        };
        if self.ids.len() >= IDS_MAX {
            // A table whose id is not remembered is everything, when its rows come.
            self.ids.remove(&id);
            return;
        }
        self.ids.insert(id, (schema, table));
    }

    fn statement(&mut self, said: Said, header: &Header, settings: &Settings, steps: &mut Vec<Step>) {
        let mut goes_on = self.open;
        match said {
            Said::Begin | Said::XaBegin => goes_on = true,
            Said::End => goes_on = false,
            Said::Nothing => {}
            Said::XaEnd(name) => {
                match self.prepared.remove(&name) {
                    Some((what, by_statement)) => {
                        self.what.merge(what);
                        self.by_statement |= by_statement;
                    }
                    None => self.what.add_everything(Why::UnknownTables),
                }
                goes_on = false;
            }
            Said::Rows(tables) => {
                self.by_statement = true;
                tables.into_iter().for_each(|table| self.table(table));
            }
            Said::Defined(tables, rows_follow) => {
                self.definitions = true;
                tables.into_iter().for_each(|table| self.table(table));
                goes_on |= rows_follow;
            }
            Said::Everything(why) => {
                self.definitions |= why != Why::Grants;
                self.what.add_everything(why);
            }
        }
        self.open = goes_on;
        if !goes_on {
            self.finish(header, settings, steps);
        }
    }

    /// A table that a statement names.
    fn table(&mut self, table: Table) {
        if table.0.eq_ignore_ascii_case("mysql") { self.what.add_everything(Why::Grants) } else { self.what.add(table) }
    }

    /// The transaction's end: it is told, and the position is behind it.
    fn finish(&mut self, header: &Header, settings: &Settings, steps: &mut Vec<Step>) {
        let gtid = match self.gtid.take() {
            Some(Gtid::MySql(origin, number)) => Some(GtidSet::MySql(MySqlSet::one(origin, number))),
            Some(Gtid::MariaDb(gtid, _)) => Some(GtidSet::MariaDb(MariaDbPosition::one(gtid))),
            Some(Gtid::Anonymous) | None => None,
        };
        match &gtid {
            Some(gtid) => self.position.merge(gtid),
            None => self.unnamed = true,
        }
        self.open = false;
        let mut what = std::mem::replace(&mut self.what, What::nothing());
        if let (What::Tables(tables), Some(ignored)) = (&mut what, &settings.ignored) {
            tables.remove(ignored);
        }
        let (by_statement, definitions) = (self.by_statement, self.definitions);
        self.start();
        steps.push(Step::Changed(Change { what, gtid, by_statement, definitions, end: (self.file.clone(), header.end) }));
    }
}
