//! MySQL, semi-synchronous: what waits for the acknowledgement of a dead replica is let go at once.
//!
//! A commit that waits has fixed the end of its wait when it began, and who takes part is counted anew only when the thread that reads the acknowledgements looks up,
//! once a second: to end the dead one's connection takes that long. But a replica that asks for the binary log from a place on counts as one that has all before
//! it. So Sluice asks for it, from its end, as often as acknowledgements are needed. Nothing is read of it.
//!
//! Sources: MySQL 8.4 Reference Manual, "Semisynchronous Replication" (`rpl_semi_sync_source_wait_for_replica_count`); MySQL Source Code Documentation,
//! "COM_BINLOG_DUMP".

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::reach::Reach;
use crate::backend::packets::{put_packet, read_packet};
use crate::backend::{AdminConnection, QueryError};
use crate::binlog::from_place;
use crate::protocol::handshake::ServerError;

/// Until it is done or not.
const LIMIT: Duration = Duration::from_secs(1);
/// More acknowledgements than this nobody asks for.
const COUNT_MAX: u64 = 8;
/// The longest answer that is read: an error, or the name of the file.
const ANSWER_LEN_MAX: usize = 4 << 10;

/// Such a session says that it is a semi-synchronous replica, by both of its names. The identity is one that nobody else has.
const SETTINGS: &str = "SET @rpl_semi_sync_replica = 1, @rpl_semi_sync_slave = 1, @source_binlog_checksum = @@global.binlog_checksum, \
     @master_binlog_checksum = @@global.binlog_checksum, @replica_uuid = UUID(); SET @slave_uuid = @replica_uuid";

/// Acknowledges all that stands in its binary log, `count` times. Gives the ids of the threads that count as replicas until they have ended.
///
/// # Errors
/// Why that cannot be done here: no `REPLICATION SLAVE`, for one.
pub(super) async fn everything(reach: &Reach, count: u64) -> Result<Vec<String>, String> {
    let all = async {
        let mut threads = Vec::new();
        for _ in 0..count.clamp(1, COUNT_MAX) {
            threads.push(once(reach).await?);
        }
        Ok(threads)
    };
    timeout(LIMIT, all).await.unwrap_or_else(|_| Err(format!("no end within {} s", LIMIT.as_secs())))
}

async fn once(reach: &Reach) -> Result<String, String> {
    let say = |error: QueryError| error.to_string();
    let mut connection = reach.connect(LIMIT).await.map_err(|refusal| refusal.to_string())?;
    let (file, position) = end_of_log(&mut connection).await?;
    connection.query(SETTINGS).await.map_err(say)?;
    let thread = connection.connection_id();
    let ask = from_place(u32::MAX - thread % (1 << 24), &file, position).ok_or("its binary log file is longer than 4 GiB")?;
    let mut out = Vec::new();
    put_packet(&mut out, &mut 0, &ask).map_err(|error| error.to_string())?;
    let mut stream = connection.into_stream();
    let answer = async {
        stream.write_all(&out).await.map_err(|error| error.to_string())?;
        stream.flush().await.map_err(|error| error.to_string())?;
        read_packet(&mut stream, &mut 1, ANSWER_LEN_MAX).await.map_err(|error| error.to_string())
    };
    let answer = answer.await?;
    if answer.first() == Some(&ServerError::HEADER) {
        return Err(ServerError::parse(&answer).map_or_else(|error| error.to_string(), |error| error.to_string()));
    }
    Ok(thread.to_string())
}

/// The file that is written to, and where it ends.
async fn end_of_log(connection: &mut AdminConnection) -> Result<(String, u64), String> {
    // Its name since 8.2, and the one before.
    let mut answer = connection.query("SHOW BINARY LOG STATUS").await;
    if answer.as_ref().is_err_and(|error| error.code() == Some(1064)) {
        answer = connection.query("SHOW MASTER STATUS").await;
    }
    let answer = answer.map_err(|error| error.to_string())?;
    let row = answer.first().ok_or("no answer")?;
    let place = row.get(0, "File").zip(row.get(0, "Position").and_then(|position| position.parse().ok()));
    place.map(|(file, position)| (file.to_owned(), position)).ok_or_else(|| "it has no binary log".to_owned())
}
