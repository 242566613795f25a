//! A connection to a server that is not the master runs its statements in read-only transactions.
//!
//! A text does not tell what is behind a name: a view may call a function that inserts, or take the next value of a sequence. A server that is
//! `read_only` refuses that, but not to an account that may write all the same (MariaDB: READ ONLY ADMIN). In a read-only transaction the server
//! refuses it whoever asks, with 1792, and the statement is run on the master instead.
//!
//! `transaction_read_only` is therefore 1 on such a connection, whatever its session has set; it is set when a connection is first used so, and
//! stands for all statements that follow there. The session's own value comes back when its server is master by then.
//!
//! Source: MySQL 8.4 Reference Manual, "SET TRANSACTION Statement", "Transaction Access Mode"; MariaDB "SET TRANSACTION".

use std::sync::Arc;

use super::{Connection, put_query};
use crate::protocol::Capabilities;
use crate::session::state::{READ_ONLY, State};
use crate::topology::Flavor;

/// Whether a connection may only read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Guard {
    /// It shall.
    pub wanted: bool,
    /// It does.
    stands: bool,
}

impl Guard {
    /// Nothing need be sent for it.
    pub fn is_right(self) -> bool {
        self.wanted == self.stands
    }

    /// Its server may write nothing for it at the moment.
    pub fn stands(self) -> bool {
        self.stands
    }

    /// The variable was assigned by a statement of the session, and is what that made it.
    pub fn was_assigned(&mut self) {
        self.stands = false;
    }

    /// Whether this is the variable.
    pub fn is_variable(name: &[u8]) -> bool {
        READ_ONLY.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
    }
}

/// The `SET` that must follow what brings `have` to `want`, if any.
fn assignment(guard: Guard, flavor: Flavor, have: &State, want: &State) -> Option<Vec<u8>> {
    let own = |state: &State| READ_ONLY.into_iter().find_map(|name| state.system_sql(name));
    let name = match flavor {
        Flavor::MariaDb => "tx_read_only",
        Flavor::MySql => "transaction_read_only",
    };
    let value = match (guard.wanted, guard.stands) {
        (true, true) if own(have) == own(want) => return None,
        (true, _) => b"1".to_vec(),
        (false, true) => own(want).unwrap_or_else(|| b"DEFAULT".to_vec()),
        (false, false) => return None,
    };
    Some([b"SET SESSION ", name.as_bytes(), b"=", &value].concat())
}

impl Connection {
    /// Commands that bring this connection to `want` and to its guard, appended to `out`; how many replies they will bring. The caller
    /// says that it [stands there](Connection::stands_at) once they have been answered.
    pub fn put_restore(&mut self, want: &Arc<State>, out: &mut Vec<u8>) -> usize {
        let mut count = 0;
        if !Arc::ptr_eq(&self.have, want) {
            let restore = self.have.restore_after(want, self.key.capabilities);
            if let Some(set) = &restore.role {
                put_query(out, self.capabilities, set);
                count += 1;
            }
            if let Some(set) = &restore.system {
                put_query(out, self.capabilities, set);
                count += 1;
            }
            if let Some(schema) = &restore.schema {
                super::put_command(out, super::Com::InitDb, schema);
                count += 1;
            }
            if let Some(set) = &restore.user {
                self.dirty_users = true;
                put_query(out, self.capabilities, set);
                count += 1;
            }
        } else if self.guard.is_right() {
            return 0;
        }
        count + put_guard(self.guard, self.flavor, self.capabilities, (&self.have, want), out)
    }

    /// What was sent to bring it to `state` has been answered.
    pub fn stands_at(&mut self, state: &Arc<State>) {
        self.have = state.clone();
        self.guard.stands = self.guard.wanted;
    }

    /// It was reset: nothing is set.
    pub(super) fn guard_is_gone(&mut self) {
        self.guard.stands = false;
    }
}

fn put_guard(guard: Guard, flavor: Flavor, capabilities: Capabilities, (have, want): (&State, &State), out: &mut Vec<u8>) -> usize {
    let Some(set) = assignment(guard, flavor, have, want) else { return 0 };
    put_query(out, capabilities, &set);
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::state::{Change, Value};

    fn state(value: Option<&str>) -> State {
        let value = value.map(|text| Value::Reported(text.as_bytes().into()));
        State::at_login(None, None).changed(&[Change::System("tx_read_only".into(), value)])
    }

    fn set(wanted: bool, stands: bool, have: Option<&str>, want: Option<&str>) -> Option<String> {
        let set = assignment(Guard { wanted, stands }, Flavor::MariaDb, &state(have), &state(want));
        set.map(|set| String::from_utf8(set).unwrap())
    }

    #[test]
    fn it_is_set_once_and_again_where_the_sessions_own_value_came_over_it() {
        let on = Some("SET SESSION tx_read_only=1".to_owned());
        assert_eq!(set(true, false, None, None), on);
        assert_eq!(set(true, true, None, None), None);
        assert_eq!(set(true, true, Some("OFF"), Some("OFF")), None);
        assert_eq!(set(true, true, None, Some("OFF")), on, "the session's value was restored before it");
        assert_eq!(set(true, true, Some("ON"), None), on);
        assert_eq!(set(false, false, None, Some("ON")), None, "restored with all others");
    }

    #[test]
    fn the_sessions_own_value_comes_back() {
        assert_eq!(set(false, true, None, None).unwrap(), "SET SESSION tx_read_only=DEFAULT");
        assert_eq!(set(false, true, Some("OFF"), Some("ON")).unwrap(), "SET SESSION tx_read_only='ON'");
        let set = assignment(Guard { wanted: true, stands: false }, Flavor::MySql, &state(None), &state(None));
        assert_eq!(set.unwrap(), b"SET SESSION transaction_read_only=1");
    }

    #[test]
    fn what_the_session_assigned_itself_must_be_guarded_anew() {
        let mut guard = Guard { wanted: true, stands: true };
        assert!(guard.is_right());
        guard.was_assigned();
        assert!(!guard.is_right());
        assert!(Guard::is_variable(b"Transaction_Read_Only") && !Guard::is_variable(b"read_only"));
    }
}
