//! Which names are views. To read a view may run a stored function, which may set a variable, make a temporary table or write a row; the statement's
//! text does not tell, and on MySQL neither does a reply whose rows end in an EOF (clients without `DEPRECATE_EOF`): the server has to be asked.
//! MariaDB's EOF has a flag for it.
//!
//! A MySQL master is asked from when the first such client has read a table: every ten seconds, and at once when a definition that may concern it went through this proxy in a text of its own or among
//! others (not within a procedure).
//! The views' texts are not told to the monitor's account, so any view counts.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::Reached;
use super::definitions::{connect, named, rows};
use crate::net::timer;
use crate::sql::classify::{Classified, TableName};
use crate::topology::Snapshot;

/// How often it is looked whether something is to be asked.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How often it is asked again.
const AGAIN_EVERY: Duration = Duration::from_secs(10);
/// After a failure.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long a reply waits for it.
const WAIT_MAX: Duration = Duration::from_millis(300);

/// A view: schema and name, in lower case.
type Name = (Vec<u8>, Vec<u8>);

/// What is known of them.
#[derive(Debug)]
pub struct Views {
    /// `None`: nobody could be asked yet, or our account may not know them (`SHOW VIEW`); any table may be one.
    known: ArcSwap<Option<HashSet<Name>>>,
    /// A client without `DEPRECATE_EOF` has been here.
    wanted: AtomicBool,
    /// Counts the definitions that may have changed it, from one on.
    changed: AtomicU64,
    /// Up to which of them it is known, for whoever waits.
    told: watch::Sender<u64>,
    /// The same, for a look that takes no lock.
    up_to: AtomicU64,
}

impl Default for Views {
    fn default() -> Views {
        let (told, _) = watch::channel(0);
        Views {
            known: ArcSwap::default(),
            wanted: AtomicBool::new(false),
            changed: AtomicU64::new(1),
            told,
            up_to: AtomicU64::new(0),
        }
    }
}

impl Views {
    /// A definition has passed that may concern it.
    pub fn may_have_changed(&self) {
        self.changed.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether it is known as it is now.
    pub fn is_known(&self) -> bool {
        self.up_to.load(Ordering::Acquire) >= self.changed.load(Ordering::Acquire)
    }

    fn is_told(&self, changed: u64) {
        self.up_to.store(changed, Ordering::Release);
        self.told.send_replace(changed);
    }

    /// Waits until it is, for a moment: without an answer what was known last counts.
    pub async fn be_known(&self) {
        self.wanted.store(true, Ordering::SeqCst);
        let changed = self.changed.load(Ordering::SeqCst);
        let mut told = self.told.subscribe();
        let _ = timer::timeout(WAIT_MAX, told.wait_for(|told| *told >= changed)).await;
    }

    /// Whether the statement may read a view, as far as these are known: where not all of its tables can be told from its text, any may be meant.
    pub fn may_be_read(&self, statement: &Classified, schema: Option<&[u8]>) -> bool {
        let known = self.known.load();
        let Some(known) = known.as_ref() else { return true };
        let is_view = |table: &TableName| name(table, schema).is_some_and(|name| known.contains(&name));
        !known.is_empty() && (!statement.tables_complete || statement.tables.iter().any(is_view))
    }
}

fn name(table: &TableName, schema: Option<&[u8]>) -> Option<Name> {
    let schema = table.schema.as_deref().map(str::as_bytes).or(schema)?;
    Some((lower(schema), lower(table.name.as_bytes())))
}

/// Names that differ by case alone count as one: to take a table for a view costs a question.
fn lower(name: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(name).to_lowercase().into_bytes()
}

/// Asks for as long as the process runs.
pub async fn ask(views: Arc<Views>, reached: Arc<ArcSwap<Reached>>, snapshot: Arc<ArcSwap<Snapshot>>) {
    let mut last: Option<Instant> = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let changed = views.changed.load(Ordering::SeqCst);
        let due = views.up_to.load(Ordering::SeqCst) < changed || last.is_none_or(|last| last.elapsed() >= AGAIN_EVERY);
        if !due || !views.wanted.load(Ordering::SeqCst) {
            continue;
        }
        let found = told(&reached, &snapshot).await;
        last = found.is_ok().then(Instant::now);
        match found {
            Ok(found) => views.known.store(Arc::new(found)),
            Err(why) => tracing::debug!(why, "the views are not known"),
        }
        // Nobody waits for a server that does not answer, either.
        views.is_told(changed);
        if last.is_none() {
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }
}

async fn told(reached: &ArcSwap<Reached>, snapshot: &ArcSwap<Snapshot>) -> Result<Option<HashSet<Name>>, String> {
    let master = snapshot.load().master.ok_or("there is no master to ask")?;
    let mut connection = connect(reached, master, ANSWER_LIMIT).await?;
    let may_know = "SELECT 1, 1 FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE = 'SHOW VIEW' LIMIT 1";
    if rows(&mut connection, may_know).await?.is_empty() {
        return Ok(None);
    }
    let views = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.VIEWS WHERE TABLE_SCHEMA <> 'sys'";
    let told = rows(&mut connection, views).await?;
    let named = told.iter().map(|row| named(row, 0, 1)).map(|(schema, name)| (lower(schema.as_bytes()), lower(name.as_bytes())));
    Ok(Some(named.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_found_by_its_name_in_its_schema_once_it_is_known() {
        let views = Views::default();
        assert!(!views.is_known(), "nobody was asked yet");
        let plain = crate::sql::classify::classify(b"SELECT * FROM items", crate::sql::lexer::LexMode::default());
        assert!(views.may_be_read(&plain, None), "any may be one");
        views.known.store(Arc::new(Some(HashSet::from([(b"shop".to_vec(), b"totals".to_vec())]))));
        views.is_told(1);
        assert!(views.is_known());
        for (sql, schema, is) in [
            ("SELECT * FROM Totals", Some(&b"shop"[..]), true),
            ("SELECT * FROM shop.totals FOR UPDATE", None, true),
            ("SELECT * FROM totals", Some(b"other"), false),
            ("SELECT * FROM totals", None, false),
            ("SELECT * FROM items", Some(b"shop"), false),
            ("SELECT /*!50000 * */ FROM items", Some(b"shop"), true),
        ] {
            let statement = crate::sql::classify::classify(sql.as_bytes(), crate::sql::lexer::LexMode::default());
            assert_eq!(views.may_be_read(&statement, schema), is, "{sql} in {schema:?}");
        }
        let nobody = Views::default();
        nobody.known.store(Arc::new(Some(HashSet::new())));
        let statement = crate::sql::classify::classify(b"SELECT /*!50000 * */ FROM t", crate::sql::lexer::LexMode::default());
        assert!(!nobody.may_be_read(&statement, None), "there is none");
        views.may_have_changed();
        assert!(!views.is_known());
    }
}
