//! The session against a model: any list of statements, on connections that remember everything they are left with. A pinned
//! session never changes its connection; one that leaves a connection leaves nothing behind on it but what `restore` undoes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::session::state::Value;
use crate::sql::classify::classify;

/// What a server keeps for one connection.
#[derive(Debug, Default)]
struct Connection {
    temporary: BTreeSet<u8>,
    locks: Vec<u8>,
    prepared: BTreeSet<u8>,
    handlers: BTreeSet<u8>,
    locked: bool,
    transaction: bool,
    next_transaction: bool,
    users: BTreeMap<u8, u8>,
}

impl Connection {
    /// What no other session may find here. User variables are undone by `restore`.
    fn leftovers(&self) -> Vec<&'static str> {
        [
            ("temporary tables", !self.temporary.is_empty()),
            ("named locks", !self.locks.is_empty()),
            ("prepared statements", !self.prepared.is_empty()),
            ("handlers", !self.handlers.is_empty()),
            ("table locks", self.locked),
            ("a transaction", self.transaction),
            ("the next transaction's level", self.next_transaction),
        ]
        .into_iter()
        .filter_map(|(what, there)| there.then_some(what))
        .collect()
    }

    fn commit(&mut self) {
        self.transaction = false;
        self.next_transaction = false;
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    CreateTemporary(u8),
    DropTemporary(u8),
    DropTable(u8),
    GetLock(u8),
    GetTwoLocks(u8, u8),
    ReleaseLock(u8),
    ReleaseAll,
    Prepare(u8),
    Deallocate(u8),
    HandlerOpen(u8),
    HandlerClose(u8),
    LockTables,
    UnlockTables,
    Begin,
    Commit,
    Rollback,
    SetTransaction,
    Insert,
    Refused,
    SelectOne,
    SetUser(u8, u8),
    AssignUser(u8, u8),
    CreateTable,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let name = || 0u8..3;
    let op = prop_oneof![
        name().prop_map(Op::CreateTemporary),
        name().prop_map(Op::DropTemporary),
        name().prop_map(Op::DropTable),
        name().prop_map(Op::GetLock),
        (name(), name()).prop_map(|(a, b)| Op::GetTwoLocks(a, b)),
        name().prop_map(Op::ReleaseLock),
        Just(Op::ReleaseAll),
        name().prop_map(Op::Prepare),
        name().prop_map(Op::Deallocate),
        name().prop_map(Op::HandlerOpen),
        name().prop_map(Op::HandlerClose),
        Just(Op::LockTables),
        Just(Op::UnlockTables),
        Just(Op::Begin),
        Just(Op::Commit),
        Just(Op::Rollback),
        Just(Op::SetTransaction),
        Just(Op::Insert),
        Just(Op::Refused),
        Just(Op::SelectOne),
        (name(), any::<u8>()).prop_map(|(n, v)| Op::SetUser(n, v)),
        (name(), any::<u8>()).prop_map(|(n, v)| Op::AssignUser(n, v)),
        Just(Op::CreateTable),
    ];
    prop::collection::vec(op, 1..40)
}

/// The text, and whether the server runs it; what it does to the connection is done.
fn run(op: Op, c: &mut Connection) -> (String, bool) {
    match op {
        Op::CreateTemporary(n) => (format!("CREATE TEMPORARY TABLE t{n} (a INT)"), c.temporary.insert(n)),
        Op::DropTemporary(n) => (format!("DROP TEMPORARY TABLE t{n}"), c.temporary.remove(&n)),
        Op::DropTable(n) => {
            c.commit();
            (format!("DROP TABLE t{n}"), c.temporary.remove(&n))
        }
        Op::GetLock(n) => {
            c.locks.push(n);
            (format!("SELECT GET_LOCK('l{n}', 0)"), true)
        }
        Op::GetTwoLocks(a, b) => {
            c.locks.extend([a, b]);
            (format!("SELECT GET_LOCK('l{a}', 0), GET_LOCK('l{b}', 0)"), true)
        }
        Op::ReleaseLock(n) => {
            if let Some(at) = c.locks.iter().position(|lock| *lock == n) {
                c.locks.remove(at);
            }
            (format!("DO RELEASE_LOCK('l{n}')"), true)
        }
        Op::ReleaseAll => {
            c.locks.clear();
            ("SELECT RELEASE_ALL_LOCKS()".into(), true)
        }
        Op::Prepare(n) => {
            c.prepared.insert(n);
            (format!("PREPARE s{n} FROM 'SELECT 1'"), true)
        }
        Op::Deallocate(n) => (format!("DEALLOCATE PREPARE s{n}"), c.prepared.remove(&n)),
        Op::HandlerOpen(n) => (format!("HANDLER t OPEN AS h{n}"), c.handlers.insert(n)),
        Op::HandlerClose(n) => (format!("HANDLER h{n} CLOSE"), c.handlers.remove(&n)),
        Op::LockTables => {
            c.commit();
            c.locked = true;
            ("LOCK TABLES t READ".into(), true)
        }
        Op::UnlockTables => {
            if c.locked {
                c.commit();
            }
            c.locked = false;
            ("UNLOCK TABLES".into(), true)
        }
        Op::Begin => {
            // The level that SET TRANSACTION named is this one's, and ends with it.
            c.locked = false;
            c.transaction = true;
            ("BEGIN".into(), true)
        }
        Op::Commit | Op::Rollback => {
            c.commit();
            (if matches!(op, Op::Commit) { "COMMIT" } else { "ROLLBACK" }.into(), true)
        }
        Op::SetTransaction => {
            let ok = !c.transaction;
            c.next_transaction |= ok;
            ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE".into(), ok)
        }
        Op::Insert => {
            if !c.transaction {
                c.commit();
            }
            ("INSERT INTO r VALUES (1)".into(), true)
        }
        Op::Refused => ("INSERT INTO r VALUES (1)".into(), false),
        Op::SelectOne => ("SELECT 1".into(), true),
        Op::SetUser(n, v) => {
            c.users.insert(n, v);
            (format!("SET @u{n} = {v}"), true)
        }
        Op::AssignUser(n, v) => {
            c.users.insert(n, v);
            (format!("SELECT @u{n} := {v}"), true)
        }
        Op::CreateTable => {
            c.commit();
            ("CREATE TABLE r2 (a INT)".into(), true)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pinned_session_stays_and_an_unpinned_one_leaves_nothing(ops in ops()) {
        let mut session = Session::new(Arc::new(State::at_login(None, Some(("utf8mb4", "utf8mb4_general_ci")))), LexMode::default());
        let mut connection = Connection::default();
        let mut expected: BTreeMap<u8, u8> = BTreeMap::new();
        for op in ops {
            let before = connection.users.clone();
            prop_assert_eq!(&before, &expected, "the variables came along");
            let (sql, ok) = run(op, &mut connection);
            expected.clone_from(&connection.users);
            let status = if connection.transaction { Status::AUTOCOMMIT | Status::IN_TRANS } else { Status::AUTOCOMMIT };
            let learned = Learned { ok, errno: if ok { 0 } else { 1105 }, status: ok.then_some(status), ..Learned::default() };
            session.learn(&classify(sql.as_bytes(), session.lex), sql.as_bytes(), &learned);
            if session.to_read_back().is_some() {
                let values = connection.users.iter();
                let values: Vec<Change> = values
                    .map(|(n, v)| Change::User(format!("u{n}").into(), Value::Literal(v.to_string().into_bytes().into())))
                    .collect();
                session.read_back(Some(&values));
            }
            if session.pins.any() {
                continue;
            }
            prop_assert_eq!(connection.leftovers(), Vec::<&str>::new(), "left behind by {}", sql);
            // It goes to another connection, which is brought to its state.
            let names = connection.users.keys().filter(|n| session.state.has_user(&format!("u{n}"))).count();
            prop_assert_eq!(names, connection.users.len(), "a variable stays behind after {}", sql);
            connection = Connection { users: connection.users, ..Connection::default() };
        }
    }
}
