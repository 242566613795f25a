//! [`Changes`] as the cache takes it: what a reader of the binlog tells.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::definitions::{NameKey, key};
use super::epoch::Need;
use super::shared::Term;
use super::{Cache, Changes, VoidReason};
use crate::topology::{Flavor, GtidSet};

/// A transaction's name in either family's language: MySQL's has a colon.
fn parsed(gtid: Option<&str>) -> Option<GtidSet> {
    let text = gtid?;
    let flavor = if text.contains(':') { Flavor::MySql } else { Flavor::MariaDb };
    GtidSet::parse(flavor, text).ok().filter(|set| !set.is_empty())
}

impl Changes for Cache {
    fn tables_changed(&self, tables: &[(&str, &str)], gtid: Option<&str>) {
        let keys: Vec<Option<NameKey>> = tables.iter().map(|(schema, table)| key(schema.as_bytes(), table.as_bytes())).collect();
        let definitions = self.definitions();
        let cells = definitions.as_ref().and_then(|known| known.write(keys.iter().map(Option::as_deref)));
        let gtid = parsed(gtid);
        match cells {
            Some(cells) => _ = self.epochs.changed(&cells, gtid.as_ref()),
            None => _ = self.epochs.anything_changed(gtid.as_ref()),
        }
    }

    fn everything_changed(&self, reason: VoidReason, gtid: Option<&str>) {
        if matches!(reason, VoidReason::UnknownTables) {
            self.epochs.anything_changed(parsed(gtid).as_ref());
            return;
        }
        self.everything(reason, &parsed(gtid).map_or(Need::Master, Need::Gtid));
    }

    // What was read on the master between the two calls has the rows from before.
    fn tables_seen(&self, tables: &[(&str, &str)], gtid: Option<&str>) {
        self.tables_changed(tables, gtid);
    }

    // Definitions that were asked for between the two calls are the old ones.
    fn everything_seen(&self, reason: VoidReason, gtid: Option<&str>) {
        self.everything_changed(reason, gtid);
    }

    fn definitions_changed(&self) {
        self.forget_definitions();
    }

    fn lost(&self, reason: &str) {
        reason.clone_into(&mut self.why_lost.lock());
        self.following.store(false, SeqCst);
        self.term.store(None);
    }

    fn following(&self, missed: bool) {
        if missed {
            self.everything(VoidReason::Missed, &Need::Master);
        }
        self.following.store(true, SeqCst);
    }

    fn begins(&self, term: Term) {
        if self.shares {
            self.term.store(Some(Arc::new(term)));
        }
    }

    fn stands(&self, position: &GtidSet) {
        self.is_read(position);
        if let Some(term) = &*self.term.load() {
            term.stands(position);
        }
    }
}

/// What the reader is given.
pub fn as_changes(cache: &Arc<Cache>) -> Arc<dyn Changes> {
    cache.clone()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::cache::definitions::Told;
    use crate::cache::policy::Settings;
    use crate::sql::classify::classify;
    use crate::sql::lexer::LexMode;

    fn cache() -> Arc<Cache> {
        let cache = Arc::new(Cache::new(
            Settings { ttl: Duration::from_secs(60), all: true, refresh_ahead: Duration::ZERO },
            1 << 20,
            true,
        ));
        let table = |name: &str| (("s".to_owned(), name.to_owned()), "BASE TABLE".to_owned(), "InnoDB".to_owned());
        let told = Told { tables: vec![table("a"), table("b")], ..Told::default() };
        cache.told(cache.asking(), told, LexMode::default());
        cache
    }

    #[test]
    fn a_reader_tells() {
        let (cache, now) = (cache(), Instant::now());
        let changes = as_changes(&cache);
        let ticket = |name: &str| {
            let statement = classify(format!("SELECT x FROM {name}").as_bytes(), LexMode::default());
            cache.may_keep(&statement, Some(b"s"), now).unwrap().ticket
        };
        let (a, b) = (ticket("a"), ticket("b"));
        changes.tables_changed(&[("s", "a")], Some("0-1-5"));
        assert!(!a.is_current() && b.is_current());
        let a = ticket("a");
        changes.tables_seen(&[("s", "a")], Some("0-1-5"));
        assert!(!a.is_current(), "it was logged before and can be seen only now");
        // Our own write: what is read behind its OK has it, whatever the log says later.
        let statement = classify(b"UPDATE a SET x = 1", LexMode::default());
        let definitions = cache.definitions().unwrap();
        let own = cache.epochs.write(definitions.write([key(b"s", b"a")].iter().map(Option::as_deref)), now);
        own.end(&Need::Gtid(parsed(Some("0-1-6")).unwrap()));
        assert_eq!(statement.tables.len(), 1);
        let a = ticket("a");
        changes.tables_changed(&[("s", "a")], Some("0-1-6"));
        changes.tables_seen(&[("s", "a")], Some("0-1-6"));
        assert!(a.is_current(), "it is known already");
        changes.tables_changed(&[("s", "new")], Some("0-1-7"));
        assert!(!a.is_current() && !b.is_current(), "a table nobody has told of");
        let b = ticket("b");
        changes.everything_changed(VoidReason::Ddl, Some("0-1-7"));
        assert!(!b.is_current() && cache.wants_definitions().is_some());
    }

    #[test]
    fn what_another_one_defines_is_asked_for() {
        let cache = cache();
        assert!(cache.wants_definitions().is_none());
        as_changes(&cache).definitions_changed();
        assert!(cache.wants_definitions().is_some());
    }

    #[test]
    fn after_a_failover_what_another_one_writes_is_not_taken_for_our_own() {
        let (cache, now) = (cache(), Instant::now());
        cache.master_is(Some(crate::topology::ServerId(0)));
        let definitions = cache.definitions().unwrap();
        let cells = || definitions.write([key(b"s", b"a")].iter().map(Option::as_deref));
        cache.epochs.write(cells(), now).end(&Need::Gtid(parsed(Some("0-1-1000")).unwrap()));
        // The new master has never seen the last ten, and somebody writes under one of their numbers.
        cache.master_is(Some(crate::topology::ServerId(1)));
        let ticket = cache.epochs.ticket(&cells().unwrap(), now).unwrap().ticket;
        cache.epochs.changed(&cells().unwrap(), parsed(Some("0-2-991")).as_ref());
        assert!(!ticket.is_current());
    }

    #[test]
    fn nothing_is_served_while_the_reader_does_not_follow() {
        let cache = cache();
        assert!(!cache.is_told() && cache.state().starts_with("bypassed: no reader"));
        cache.following(true);
        assert!(cache.is_told());
        assert!(cache.wants_definitions().is_some(), "what was missed may be a change of definitions");
        cache.told(cache.asking(), Told::default(), LexMode::default());
        assert_eq!(cache.state(), "on");
        cache.lost("the master closed the connection");
        assert_eq!(cache.state(), "bypassed: the master closed the connection");
        cache.following(false);
        assert!(cache.is_told() && cache.wants_definitions().is_none());
    }

    #[test]
    fn definitions_that_were_asked_for_before_a_change_do_not_count() {
        let cache = cache();
        let asked = cache.asking();
        cache.forget_definitions();
        cache.told(asked, Told::default(), LexMode::default());
        assert!(cache.wants_definitions().is_some());
        // Changed by somebody else: seen when it is asked again.
        let table = (("s".to_owned(), "c".to_owned()), "BASE TABLE".to_owned(), "InnoDB".to_owned());
        cache.told(cache.asking(), Told::default(), LexMode::default());
        cache.told(cache.asking(), Told { tables: vec![table], ..Told::default() }, LexMode::default());
        assert!(cache.wants_definitions().is_some());
    }

    #[test]
    fn what_a_procedure_may_have_defined_is_in_doubt_until_the_log_was_read() {
        let (cache, now) = (cache(), Instant::now());
        cache.following(true);
        let table = |name: &str| (("s".to_owned(), name.to_owned()), "BASE TABLE".to_owned(), "InnoDB".to_owned());
        let tell = || cache.told(cache.asking(), Told { tables: vec![table("a")], ..Told::default() }, LexMode::default());
        tell();
        let statement = classify(b"SELECT x FROM a", LexMode::default());
        let keeps = || cache.may_keep(&statement, Some(b"s"), now).is_ok();
        let gtid = |text: &str| parsed(Some(text)).unwrap();
        let called = |text: &str| {
            let version = cache.version();
            cache.may_have_defined(&Need::Gtid(gtid(text)));
            assert!(cache.version() != version, "a write under way voids everything");
        };
        called("0-1-5");
        called("0-1-4");
        assert!(!keeps() && cache.definitions().is_none() && cache.wants_definitions().is_none());
        cache.stands(&gtid("0-1-4"));
        assert!(!keeps());
        cache.stands(&gtid("0-1-5"));
        assert!(keeps() && cache.definitions().is_some(), "it has defined nothing");
        // The log tells of a definition, and they are asked for.
        called("0-1-6");
        cache.definitions_changed();
        assert!(!keeps() && cache.wants_definitions().is_some());
        tell();
        assert!(keeps());
        // No name, or no log that tells.
        cache.may_have_defined(&Need::Master);
        assert!(cache.wants_definitions().is_some());
        tell();
        cache.lost("the master closed the connection");
        cache.may_have_defined(&Need::Gtid(gtid("0-1-7")));
        assert!(cache.wants_definitions().is_some());
    }

    #[test]
    fn another_master_voids_everything() {
        let (cache, now) = (cache(), Instant::now());
        let statement = classify(b"SELECT x FROM a", LexMode::default());
        let ticket = || cache.may_keep(&statement, Some(b"s"), now).unwrap().ticket;
        cache.master_is(Some(crate::topology::ServerId(0)));
        let kept = ticket();
        cache.master_is(None);
        cache.master_is(Some(crate::topology::ServerId(0)));
        assert!(kept.is_current());
        cache.master_is(Some(crate::topology::ServerId(1)));
        assert!(!kept.is_current());
    }
}
