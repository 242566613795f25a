//! `SHOW STATUS LIKE '...'` where Sluice knows better: how many are connected, and what lies between a client and Sluice. A server tells of its own
//! connections, so a client without TLS would be told that it has it.
//!
//! Source: <https://dev.mysql.com/doc/refman/8.4/en/server-status-variables.html>.

use bytes::BytesMut;

use crate::backend::kill::aside;
use crate::frontend::client::{Client, Gone};
use crate::net::Stream;
use crate::protocol::compress::{Algorithm, ZLIB_LEVEL};
use crate::protocol::result_set::{Answer, MAX_DECODED_BYTES, decode};

/// Which variables are asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    /// `Threads_connected`
    Threads,
    /// Those of TLS or of compression.
    Between,
}

/// What a statement asks for that Sluice knows better. `None`: nothing, or others besides.
pub(super) fn asked(sql: &[u8]) -> Option<Asked> {
    let text = std::str::from_utf8(sql).ok()?;
    let mut words = text.trim().trim_end_matches(';').split_ascii_whitespace();
    let mut next = || words.next().unwrap_or_default().to_ascii_lowercase();
    let mut word = (next() == "show").then(&mut next)?;
    if matches!(word.as_str(), "global" | "session" | "local") {
        word = next();
    }
    if word != "status" || next() != "like" {
        return None;
    }
    let (pattern, end) = (next(), next());
    let quote = pattern.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let pattern = pattern.strip_prefix(quote)?.strip_suffix(quote).filter(|pattern| end.is_empty() && !pattern.contains(quote))?;
    match pattern {
        "threads_connected" => Some(Asked::Threads),
        _ if ["ssl", "compression"].iter().any(|begin| pattern.starts_with(begin)) => Some(Asked::Between),
        _ => None,
    }
}

/// What the variables of TLS and compression are on a client's own connection.
fn between(stream: &Stream) -> [(&'static str, String); 5] {
    let tls = stream.tls_session();
    let version = tls.and_then(|tls| tls.protocol_version()).and_then(|version| version.as_str());
    let cipher = tls.and_then(|tls| tls.negotiated_cipher_suite()).and_then(|suite| suite.suite().as_str());
    let (on, algorithm, level) = match stream.compression() {
        None => ("OFF", "", 0),
        Some(Algorithm::Zlib) => ("ON", "zlib", ZLIB_LEVEL),
        Some(Algorithm::Zstd { level }) => ("ON", "zstd", level),
    };
    [
        ("ssl_version", version.map(|name| name.replace('_', ".")).unwrap_or_default()),
        ("ssl_cipher", cipher.map(openssl_name).unwrap_or_default()),
        ("compression", on.to_owned()),
        ("compression_algorithm", algorithm.to_owned()),
        ("compression_level", level.to_string()),
    ]
}

/// How OpenSSL, and with it the servers, call a cipher suite that rustls speaks. Source: openssl-ciphers(1).
fn openssl_name(iana: &str) -> String {
    if let Some(name) = iana.strip_prefix("TLS13_") {
        return format!("TLS_{name}");
    }
    let name = iana.trim_start_matches("TLS_").replace("_WITH_", "-").replace("AES_", "AES").replace('_', "-");
    match name.strip_suffix("-SHA256") {
        Some(name) if name.ends_with("POLY1305") => name.to_owned(),
        _ => name,
    }
}

impl Client {
    /// The master's answer, with what Sluice knows better in its place. `None`: it is left to a server.
    pub(super) async fn show_own_status(&mut self, asked: &Asked, sql: &[u8]) -> Option<Result<(), Gone>> {
        if self.account.login_only {
            return None;
        }
        let shared = self.shared.clone();
        let pool = shared.pools.get(shared.snapshot.load().master?.index())?;
        let text = std::str::from_utf8(sql).ok()?;
        let answer = aside(pool, self.account.any_connection(), text).await.ok()?;
        let Ok((Answer::Rows(mut rows), _)) = decode(&answer.reply, answer.capabilities, MAX_DECODED_BYTES) else { return None };
        // Clients in the place of the connections of the master's pool: the count goes up and down with them and agrees with SHOW PROCESSLIST.
        let counts = pool.counts();
        let asked_on_one_more = !pool.owns(answer.thread_id);
        let ours = (counts.used + counts.idle + usize::from(asked_on_one_more)) as u64;
        let between = between(&self.stream);
        for row in &mut rows.rows {
            let [Some(name), Some(value)] = &mut row[..] else { return None };
            match asked {
                Asked::Threads => {
                    let there: u64 = std::str::from_utf8(value).ok()?.parse().ok()?;
                    *value = (there.saturating_sub(ours) + shared.registry.all().len() as u64).to_string().into_bytes();
                }
                Asked::Between => {
                    let known = between.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
                    known.inspect(|(_, known)| *value = known.clone().into_bytes());
                }
            }
        }
        let mut definitions = BytesMut::new();
        self.put_definitions(&answer.reply, rows.columns.len(), &mut definitions);
        Some(self.send_rows(definitions, &rows.rows).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        use Asked::{Between, Threads};
        for (sql, expected) in [
            ("SHOW STATUS LIKE 'Threads_connected'", Some(Threads)),
            ("show global status like \"threads_connected\";", Some(Threads)),
            ("SHOW STATUS LIKE 'Ssl_cipher'", Some(Between)),
            ("SHOW SESSION STATUS LIKE 'ssl_version%'", Some(Between)),
            ("show local status like \"Compression\" ;", Some(Between)),
            ("SHOW STATUS", None),
            ("SHOW STATUS LIKE 'Threads%'", None),
            ("SHOW STATUS LIKE 'threads_connected' OR 1", None),
            ("SHOW STATUS LIKE '%cipher'", None),
            ("SHOW STATUS LIKE 'Ssl_cipher' 'x'", None),
            ("SHOW STATUS LIKE 'Ssl_cipher''x'", None),
            ("SHOW STATUS LIKE Ssl_cipher", None),
            ("SHOW STATUS LIKE '", None),
            ("SHOW VARIABLES LIKE 'ssl%'", None),
            ("SELECT 'threads_connected'", None),
        ] {
            assert_eq!(asked(sql.as_bytes()), expected, "{sql}");
        }
    }

    #[test]
    fn cipher_suites_are_called_as_servers_call_them() {
        for (iana, openssl) in [
            ("TLS13_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
            ("TLS13_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
            ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
            ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
            ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"),
        ] {
            assert_eq!(openssl_name(iana), openssl);
        }
    }
}
