//! Asking a server for its log: what is set before, and the two commands.

use bytes::BufMut;

use crate::protocol::Com;
use crate::topology::Flavor;
use crate::topology::gtid::{GtidSet, MySqlSet};

/// Where a file's first event stands.
const FIRST_EVENT: u8 = 4;
/// MySQL: the set of transactions is behind the command.
const THROUGH_GTID: u16 = 4;

/// One request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dump {
    /// Whose log.
    pub flavor: Flavor,
    /// The `server_id` of who reads; no other reader of that server may have it.
    pub server: u32,
    /// What the server is to know the reader by (MySQL).
    pub uuid: String,
    /// A heartbeat is sent when nothing else was sent for so long, in nanoseconds.
    pub heartbeat_ns: u64,
    /// What has been read.
    pub position: GtidSet,
}

impl Dump {
    /// Statements that make the session one that may read the log. Checksums as the server keeps them; not a word of semi-synchronous replication, so that
    /// no commit waits for this reader.
    pub fn settings(&self) -> Vec<String> {
        let mut all = vec![format!("SET @master_heartbeat_period = {}", self.heartbeat_ns)];
        match self.flavor {
            Flavor::MySql => {
                all.push(format!("SET @source_heartbeat_period = {}", self.heartbeat_ns));
                all.push("SET @source_binlog_checksum = @@global.binlog_checksum".to_owned());
                all.push("SET @master_binlog_checksum = @@global.binlog_checksum".to_owned());
                all.push(format!("SET @replica_uuid = '{0}', @slave_uuid = '{0}'", self.uuid));
            }
            Flavor::MariaDb => {
                all.push("SET @master_binlog_checksum = @@global.binlog_checksum".to_owned());
                // 4: it understands GTIDs.
                all.push("SET @mariadb_slave_capability = 4".to_owned());
                all.push(format!("SET @slave_connect_state = '{}'", self.position));
                all.push("SET @slave_gtid_strict_mode = 0, @slave_gtid_ignore_duplicates = 0".to_owned());
            }
        }
        all
    }

    /// `COM_REGISTER_SLAVE`: `SHOW REPLICAS` shows the reader.
    pub fn register(&self) -> Vec<u8> {
        let mut out = vec![Com::RegisterSlave.byte()];
        out.put_u32_le(self.server);
        let host = b"sluice";
        out.push(host.len() as u8);
        out.put_slice(host);
        out.put_slice(&[0, 0]); // user and password
        out.put_u16_le(0); // port
        out.put_u32_le(0);
        out.put_u32_le(0);
        out
    }

    /// `COM_BINLOG_DUMP_GTID` for MySQL, `COM_BINLOG_DUMP` for MariaDB, which takes the position from the session.
    pub fn command(&self) -> Vec<u8> {
        match &self.position {
            GtidSet::MySql(set) => {
                let mut out = vec![Com::BinlogDumpGtid.byte()];
                out.put_u16_le(THROUGH_GTID);
                out.put_u32_le(self.server);
                out.put_u32_le(0); // no name of a file
                out.put_u64_le(u64::from(FIRST_EVENT));
                let data = encode(set);
                out.put_u32_le(u32::try_from(data.len()).unwrap_or(u32::MAX));
                out.put_slice(&data);
                out
            }
            GtidSet::MariaDb(_) => {
                let mut out = vec![Com::BinlogDump.byte()];
                out.put_u32_le(u32::from(FIRST_EVENT));
                out.put_u16_le(0);
                out.put_u32_le(self.server);
                out
            }
        }
    }
}

/// `COM_BINLOG_DUMP` from a place in a file on, to the end of what there is (`BINLOG_DUMP_NON_BLOCK`). `None` behind the first 4 GiB: the command has no more digits.
pub fn from_place(server: u32, file: &str, position: u64) -> Option<Vec<u8>> {
    const NON_BLOCK: u16 = 1;
    let mut out = vec![Com::BinlogDump.byte()];
    out.put_u32_le(u32::try_from(position).ok()?);
    out.put_u16_le(NON_BLOCK);
    out.put_u32_le(server);
    out.put_slice(file.as_bytes());
    Some(out)
}

/// A set as MySQL writes it in bytes: origins, each with its intervals, whose ends are not included. As soon as one origin has a tag, all have one, and
/// the first number is shifted and marked (MySQL 8.3 and later).
fn encode(set: &MySqlSet) -> Vec<u8> {
    let count = set.origins().count() as u64;
    let tagged = set.origins().any(|(origin, _)| !origin.tag.as_str().is_empty());
    let mut out = Vec::new();
    out.put_u64_le(if tagged { 1 << 56 | count << 8 | 1 } else { count });
    for (origin, intervals) in set.origins() {
        out.put_slice(&origin.uuid);
        if tagged {
            let tag = origin.tag.as_str();
            out.push((tag.len() as u8) << 1);
            out.put_slice(tag.as_bytes());
        }
        out.put_u64_le(intervals.len() as u64);
        for interval in intervals {
            out.put_u64_le(interval.first);
            out.put_u64_le(interval.last.saturating_add(1));
        }
    }
    out
}
