//! What a server connection is told to track, at its beginning and after a reset.

use std::sync::Arc;

use super::{CommandError, Connection};
use crate::protocol::command::Com;
use crate::session::state::{Change, State};
use crate::topology::Flavor;

impl Connection {
    /// `COM_RESET_CONNECTION`, after which no user variable has ever had a value. `false`: this one cannot be reset, because the
    /// charset of its login would be lost with it (a collation that has no name on a server that resets it).
    ///
    /// # Errors
    /// See [`Connection::command`]. After one the connection must be closed.
    pub async fn reset(&mut self, fresh: &State) -> Result<bool, CommandError> {
        let mysql = self.flavor == Flavor::MySql;
        if mysql && fresh.system("character_set_client").is_none() {
            return Ok(false);
        }
        self.command(Com::ResetConnection, b"").await?;
        self.track_session().await?;
        self.prepared.clear();
        self.to_close.clear();
        self.dirty_users = false;
        self.last_insert_id = 0;
        // The schema stays. The charset is the login's again in MariaDB, the server's in MySQL.
        let mut changes = vec![Change::Schema(self.have.schema().map(Into::into))];
        if mysql {
            changes.push(Change::NoNames);
        }
        self.have = Arc::new(fresh.changed(&changes));
        Ok(true)
    }

    /// Has the server track what sessions change and which GTIDs they write: one command, once per connection.
    ///
    /// # Errors
    /// When the server refuses it or the connection breaks.
    pub async fn track_session(&mut self) -> Result<(), CommandError> {
        let sql: &[u8] = match self.flavor {
            Flavor::MariaDb => {
                b"SET SESSION session_track_system_variables='*', session_track_schema=ON, session_track_state_change=ON"
            }
            // '*' would add the statement's number to every OK packet.
            Flavor::MySql => {
                b"SET SESSION session_track_gtids=OWN_GTID, session_track_schema=ON, session_track_state_change=ON, \
                  session_track_system_variables='autocommit,character_set_client,character_set_connection,\
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
binlog_row_image,binlog_rows_query_log_events,innodb_strict_mode,innodb_table_locks,innodb_ft_enable_stopword'"
            }
        };
        self.command(Com::Query, sql).await
    }
}
