//! The command byte: the first byte of what a client sends once it is logged in.
//!
//! Sources: MySQL manual, "Command Phase" and `enum_server_command`; MariaDB knowledge base, "2-Binary protocol".

use std::fmt;

use super::reply::Expect;

macro_rules! commands {
    ($($(#[$doc:meta])* $variant:ident = $byte:literal $name:literal $reply:expr;)*) => {
        /// A command of the protocol.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Com { $($(#[$doc])* $variant = $byte,)* }

        impl Com {
            /// Every command there is.
            pub const ALL: &[Com] = &[$(Com::$variant),*];

            /// The command with this byte, or `None` for bytes that neither family of servers gives a meaning.
            pub const fn from_byte(byte: u8) -> Option<Com> {
                match byte { $($byte => Some(Com::$variant),)* _ => None }
            }

            /// The name the manuals use, such as `COM_QUERY`.
            pub const fn name(self) -> &'static str {
                match self { $(Com::$variant => $name,)* }
            }

            /// What the reply looks like.
            pub const fn reply(self) -> Reply {
                match self { $(Com::$variant => $reply,)* }
            }
        }
    };
}

/// What a server sends back for a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Nothing: the client may send its next command at once.
    None,
    /// A reply that [`super::reply::ReplyTracker`] can follow.
    Tracked(Expect),
    /// A login exchange (COM_CHANGE_USER).
    Login,
    /// A replication stream without end.
    Stream,
    /// The connection closes, perhaps after a last packet.
    Close,
    /// An error: the command is internal to the server or was withdrawn.
    Refused,
}

const fn tracked(expect: Expect) -> Reply {
    Reply::Tracked(expect)
}

commands! {
    /// Internal to the server.
    Sleep = 0x00 "COM_SLEEP" Reply::Refused;
    /// Ends the connection.
    Quit = 0x01 "COM_QUIT" Reply::Close;
    /// Chooses the default schema.
    InitDb = 0x02 "COM_INIT_DB" tracked(Expect::Simple);
    /// Statements as text.
    Query = 0x03 "COM_QUERY" tracked(Expect::Query);
    /// Column definitions of a table; deprecated, still answered.
    FieldList = 0x04 "COM_FIELD_LIST" tracked(Expect::FieldList);
    /// Withdrawn.
    CreateDb = 0x05 "COM_CREATE_DB" tracked(Expect::Simple);
    /// Withdrawn.
    DropDb = 0x06 "COM_DROP_DB" tracked(Expect::Simple);
    /// FLUSH as a command; withdrawn from MySQL 8.4.
    Refresh = 0x07 "COM_REFRESH" tracked(Expect::Simple);
    /// Stops the server; withdrawn from MySQL.
    Shutdown = 0x08 "COM_SHUTDOWN" tracked(Expect::Simple);
    /// A line of figures.
    Statistics = 0x09 "COM_STATISTICS" tracked(Expect::Statistics);
    /// SHOW PROCESSLIST; withdrawn from MySQL 8.4, alive in MariaDB.
    ProcessInfo = 0x0a "COM_PROCESS_INFO" tracked(Expect::Query);
    /// Internal to the server.
    Connect = 0x0b "COM_CONNECT" Reply::Refused;
    /// KILL; withdrawn from MySQL 8.4, alive in MariaDB. The id is the server's own.
    ProcessKill = 0x0c "COM_PROCESS_KILL" tracked(Expect::Simple);
    /// Makes the server write debug information to its log.
    Debug = 0x0d "COM_DEBUG" tracked(Expect::Simple);
    /// Is the server there?
    Ping = 0x0e "COM_PING" tracked(Expect::Simple);
    /// Internal to the server.
    Time = 0x0f "COM_TIME" Reply::Refused;
    /// Internal to the server.
    DelayedInsert = 0x10 "COM_DELAYED_INSERT" Reply::Refused;
    /// A new login on the same connection.
    ChangeUser = 0x11 "COM_CHANGE_USER" Reply::Login;
    /// Replication by file and position.
    BinlogDump = 0x12 "COM_BINLOG_DUMP" Reply::Stream;
    /// Withdrawn.
    TableDump = 0x13 "COM_TABLE_DUMP" Reply::Refused;
    /// Internal to the server.
    ConnectOut = 0x14 "COM_CONNECT_OUT" Reply::Refused;
    /// A replica introduces itself.
    RegisterSlave = 0x15 "COM_REGISTER_SLAVE" tracked(Expect::Simple);
    /// Prepares a statement.
    StmtPrepare = 0x16 "COM_STMT_PREPARE" tracked(Expect::Prepare);
    /// Executes a prepared statement.
    StmtExecute = 0x17 "COM_STMT_EXECUTE" tracked(Expect::Execute);
    /// Part of a parameter's value; errors come with the next execute.
    StmtSendLongData = 0x18 "COM_STMT_SEND_LONG_DATA" Reply::None;
    /// Forgets a prepared statement.
    StmtClose = 0x19 "COM_STMT_CLOSE" Reply::None;
    /// Forgets long data, closes the cursor.
    StmtReset = 0x1a "COM_STMT_RESET" tracked(Expect::Simple);
    /// Multi-statements on or off.
    SetOption = 0x1b "COM_SET_OPTION" tracked(Expect::Simple);
    /// Rows of a cursor.
    StmtFetch = 0x1c "COM_STMT_FETCH" tracked(Expect::Fetch);
    /// Internal to the server.
    Daemon = 0x1d "COM_DAEMON" Reply::Refused;
    /// Replication by GTID (MySQL).
    BinlogDumpGtid = 0x1e "COM_BINLOG_DUMP_GTID" Reply::Stream;
    /// Gives the session its first state back, without a login.
    ResetConnection = 0x1f "COM_RESET_CONNECTION" tracked(Expect::Simple);
    /// The clone plugin's own protocol (MySQL).
    Clone = 0x20 "COM_CLONE" Reply::Stream;
    /// Group replication's own stream (MySQL).
    SubscribeGroupReplicationStream = 0x21 "COM_SUBSCRIBE_GROUP_REPLICATION_STREAM" Reply::Stream;
    /// A prepared statement with many rows of parameters (MariaDB).
    StmtBulkExecute = 0xfa "COM_STMT_BULK_EXECUTE" tracked(Expect::Execute);
    /// A name for a replication thread, never sent (MariaDB).
    SlaveWorker = 0xfb "COM_SLAVE_WORKER" Reply::Refused;
    /// A name for a replication thread, never sent (MariaDB).
    SlaveIo = 0xfc "COM_SLAVE_IO" Reply::Refused;
    /// A name for a replication thread, never sent (MariaDB).
    SlaveSql = 0xfd "COM_SLAVE_SQL" Reply::Refused;
    /// Several commands in one packet; withdrawn (MariaDB).
    Multi = 0xfe "COM_MULTI" Reply::Refused;
}

impl Com {
    /// The command byte.
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// What to tell a [`super::reply::ReplyTracker`]; `None` where there is no reply it can follow.
    pub const fn expect(self) -> Option<Expect> {
        match self.reply() {
            Reply::Tracked(expect) => Some(expect),
            _ => None,
        }
    }
}

impl fmt::Display for Com {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        for com in Com::ALL {
            assert_eq!(Com::from_byte(com.byte()), Some(*com));
        }
        let known = (0..=255u8).filter(|b| Com::from_byte(*b).is_some()).collect::<Vec<_>>();
        assert_eq!(known, (0..=0x21).chain(0xfa..=0xfe).collect::<Vec<u8>>());
    }

    #[test]
    fn who_answers() {
        for (com, has_reply, expect) in [
            (Com::Quit, false, None),
            (Com::StmtClose, false, None),
            (Com::StmtSendLongData, false, None),
            (Com::Query, true, Some(Expect::Query)),
            (Com::StmtBulkExecute, true, Some(Expect::Execute)),
            (Com::ChangeUser, true, None),
            (Com::BinlogDump, true, None),
        ] {
            assert_eq!((!matches!(com.reply(), Reply::None | Reply::Close), com.expect()), (has_reply, expect), "{com}");
        }
    }
}
