//! Which of ProxySQL's clusters is imported: Sluice stands before one, and a `mysql_replication_hostgroups` may name several.

use std::collections::BTreeSet;

use super::read::Row;
use super::{get, hostgroup};

/// The writers' and the readers' host group of each row.
fn pairs(rows: &[Row]) -> Vec<(String, String)> {
    let pair =
        |row: &Row| Some((get(row, "writer_hostgroup")?.to_owned(), get(row, "reader_hostgroup").unwrap_or_default().to_owned()));
    rows.iter().filter_map(pair).collect()
}

/// The host groups that are of other clusters than the wanted one, which may be named by either group of its pair.
///
/// # Errors
/// There are several and none is named, or there is none of that name: what to do.
pub(super) fn others(pairs_of: &[Row], servers: &[Row], wanted: Option<&str>) -> Result<BTreeSet<String>, String> {
    let pairs = pairs(pairs_of);
    let writers: BTreeSet<&str> = pairs.iter().map(|(writer, _)| writer.as_str()).collect();
    let Some(wanted) = wanted else {
        if writers.len() <= 1 {
            return Ok(BTreeSet::new());
        }
        let all: Vec<String> = pairs.iter().map(|(writer, reader)| format!("{writer} with {reader}")).collect();
        let each: Vec<String> = writers.iter().map(|writer| format!("--hostgroup {writer}")).collect();
        return Err(format!(
            "it has {} clusters (host groups {}), and Sluice stands before one: import each into a file of its own, {}",
            writers.len(),
            all.join(", "),
            each.join(", ")
        ));
    };
    let mine: Vec<&(String, String)> = pairs.iter().filter(|(writer, reader)| writer == wanted || reader == wanted).collect();
    if mine.is_empty() {
        let known: BTreeSet<&str> = servers.iter().map(hostgroup).chain(writers.iter().copied()).collect();
        let known: Vec<&str> = known.into_iter().collect();
        return match pairs.is_empty() && known.contains(&wanted) {
            // Without pairs nothing tells which groups belong together.
            true => Ok(known.into_iter().filter(|group| *group != wanted).map(str::to_owned).collect()),
            false => Err(format!("no cluster has the host group {wanted}; there are the host groups {}", known.join(", "))),
        };
    }
    let kept: BTreeSet<&String> = mine.iter().flat_map(|(writer, reader)| [writer, reader]).collect();
    Ok(pairs.iter().flat_map(|(writer, reader)| [writer, reader]).filter(|group| !kept.contains(group)).cloned().collect())
}
