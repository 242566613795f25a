//! What a server connection is told to track, at its beginning and after a reset.

use super::begins::QUESTION;
use super::{CommandError, Connection, put_query};
use crate::net::Buffer;
use crate::protocol::errno::{self, Errno};
use crate::protocol::frame::{HEADER_LEN, Header};
use crate::protocol::ok_err_eof::ErrPacket;
use crate::protocol::reply::Expect;
use crate::topology::Flavor;

/// What a server is told to track. MariaDB tells the GTID of a write as the variable `last_gtid`.
const MARIADB: [(&str, &str); 3] =
    [("session_track_system_variables", "'*'"), ("session_track_schema", "ON"), ("session_track_state_change", "ON")];
const MYSQL: [(&str, &str); 4] = [
    ("session_track_gtids", "OWN_GTID"),
    ("session_track_schema", "ON"),
    ("session_track_state_change", "ON"),
    ("session_track_system_variables", MYSQL_VARIABLES),
];
// '*' would add the statement's number to every OK packet.
const MYSQL_VARIABLES: &str = "'autocommit,character_set_client,character_set_connection,\
character_set_results,collation_connection,sql_mode,time_zone,transaction_isolation,transaction_read_only,\
foreign_key_checks,unique_checks,sql_safe_updates,sql_select_limit,max_join_size,lc_time_names,lc_messages,\
group_concat_max_len,max_execution_time,innodb_lock_wait_timeout,lock_wait_timeout,wait_timeout,\
interactive_timeout,net_read_timeout,net_write_timeout,optimizer_switch,sql_log_bin,sql_auto_is_null,sql_big_selects,\
sql_buffer_result,sql_notes,sql_quote_show_create,sql_warnings,default_storage_engine,default_tmp_storage_engine,\
default_week_format,div_precision_increment,explicit_defaults_for_timestamp,auto_increment_increment,\
auto_increment_offset,big_tables,cte_max_recursion_depth,completion_type,end_markers_in_json,eq_range_index_dive_limit,\
join_buffer_size,max_allowed_packet,max_error_count,max_heap_table_size,max_length_for_sort_data,max_sort_length,\
max_sp_recursion_depth,min_examined_row_limit,optimizer_prune_level,optimizer_search_depth,read_buffer_size,\
read_rnd_buffer_size,sort_buffer_size,tmp_table_size,timestamp,updatable_views_with_limit,windowing_use_high_precision,\
character_set_database,collation_database,character_set_filesystem,default_collation_for_utf8mb4,\
session_track_gtids,session_track_schema,session_track_state_change,information_schema_stats_expiry,profiling,\
long_query_time,range_optimizer_max_mem_size,set_operations_buffer_size,show_create_table_verbosity,\
sql_require_primary_key,sql_generate_invisible_primary_key,print_identified_with_as_hex,use_secondary_engine,resultset_metadata,\
select_into_buffer_size,query_alloc_block_size,query_prealloc_size,transaction_alloc_block_size,binlog_format,\
binlog_row_image,binlog_rows_query_log_events,innodb_strict_mode,innodb_table_locks,innodb_ft_enable_stopword'";

/// The statement that sets what is tracked, as far as it is `wanted`.
fn tracking(flavor: Flavor, wanted: impl Fn(&str) -> bool) -> String {
    let all: &[(&str, &str)] = match flavor {
        Flavor::MariaDb => &MARIADB,
        Flavor::MySql => &MYSQL,
    };
    let set: Vec<String> = all.iter().filter(|(name, _)| wanted(name)).map(|(name, value)| format!("{name} = {value}")).collect();
    format!("SET SESSION {}", set.join(", "))
}

impl Connection {
    /// Has the server track what sessions change and which GTIDs they write: one command, once per connection. Along with it
    /// goes the question what its session begins with.
    /// A server refuses it while the account's password is expired: the connection is good for a new password then, and for nobody else.
    ///
    /// # Errors
    /// When the server refuses it or the connection breaks.
    pub async fn track_session(&mut self) -> Result<(), CommandError> {
        let sql = tracking(self.flavor, |_| true);
        let mut buffer = Buffer::new();
        let mut out = Vec::new();
        put_query(&mut out, self.capabilities, sql.as_bytes());
        // A compressed connection is asked one thing at a time.
        let apart = self.stream.is_compressed();
        if !apart {
            put_query(&mut out, self.capabilities, QUESTION.as_bytes());
        }
        self.stream.send_command(&out).await?;
        let reply = self.read_reply(&mut buffer, Expect::Query).await?;
        let beginning = match apart {
            true => self.raw_reply(QUESTION.as_bytes()).await?,
            false => self.read_reply(&mut buffer, Expect::Query).await?,
        };
        let payload = Header::parse(&reply).and_then(|header| reply.get(HEADER_LEN..header.packet_len())).unwrap_or_default();
        match ErrPacket::parse(payload) {
            Some(error) if Errno(error.errno) == errno::ER_MUST_CHANGE_PASSWORD => {
                self.tainted = true;
                Ok(())
            }
            Some(_) => Err(CommandError::Refused(payload.to_vec())),
            None => self.learn_beginning(&beginning).await,
        }
    }

    /// A session has set one of the variables by which a server is told what to track, `names` of them, as drivers do when they begin.
    /// The connection tracks what it did before: whoever has it next lives by that, and the session hears what it asked for all the same
    /// (see [`crate::protocol::session_track::Hears`]).
    ///
    /// # Errors
    /// See [`Connection::command`]. After one the connection must be closed.
    pub async fn track_again(&mut self, names: &[&str]) -> Result<(), CommandError> {
        if !MARIADB.iter().chain(&MYSQL).any(|(name, _)| names.contains(name)) {
            return Ok(());
        }
        let sql = tracking(self.flavor, |name| names.contains(&name));
        self.statement(sql.as_bytes()).await.map(drop)
    }
}
