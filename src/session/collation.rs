//! Collations by the numbers that logins have for them.

/// Charset and collation names of a handshake's collation id, when every server of that flavour knows it by that name.
/// `None`: the id goes into the pool's key instead, so that the server itself makes of it what it will.
pub fn charset_of_collation(id: u16, mariadb: bool) -> Option<(String, String)> {
    use mysql_common::collations::{Collation, CollationId};
    // MySQL's 0900 collations are unknown to MariaDB 10.11, which then takes its own default.
    if id == 0 || (mariadb && (255..=323).contains(&id)) {
        return None;
    }
    if mariadb && id >= MARIADB_NOPAD {
        return mariadb_only(id);
    }
    let collation = Collation::resolve(CollationId::from(id));
    let (charset, name) = (collation.charset(), collation.collation());
    if charset.is_empty() || name.is_empty() || name.contains("UNKNOWN") || name.starts_with("unknown") {
        return None;
    }
    Some((charset.to_string(), name.to_string()))
}

/// Where MariaDB's collations without padding begin: each has the number of the one with padding, and this on top.
const MARIADB_NOPAD: u16 = 1024;
/// Where its UCA 14.0.0 collations begin: 256 numbers for each charset, of which the first eight are for no language.
const MARIADB_UCA1400: u16 = 2048;

/// Collations that only MariaDB has (knowledge base, "Supported Character Sets and Collations").
fn mariadb_only(id: u16) -> Option<(String, String)> {
    if let Some(n) = id.checked_sub(MARIADB_UCA1400) {
        let charset = *["utf8mb3", "utf8mb4", "ucs2", "utf16", "utf32"].get(usize::from(n / 256))?;
        let order = *["ai_ci", "ai_cs", "as_ci", "as_cs", "nopad_ai_ci", "nopad_ai_cs", "nopad_as_ci", "nopad_as_cs"]
            .get(usize::from(n % 256))?;
        return Some((charset.to_owned(), format!("{charset}_uca1400_{order}")));
    }
    let (charset, padded) = charset_of_collation(id.checked_sub(MARIADB_NOPAD).filter(|padded| *padded < 255)?, true)?;
    let (name, ending) = padded.rsplit_once('_')?;
    Some((charset, format!("{name}_nopad_{ending}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collations_by_their_numbers() {
        for (id, mariadb, name) in [
            (45, false, Some("utf8mb4_general_ci")),
            (255, false, Some("utf8mb4_0900_ai_ci")),
            (303, false, Some("utf8mb4_ja_0900_as_cs")),
            (255, true, None),
            (1057, true, Some("utf8mb3_general_nopad_ci")),
            (1070, true, Some("utf8mb4_nopad_bin")),
            (2304, true, Some("utf8mb4_uca1400_ai_ci")),
            (2311, true, Some("utf8mb4_uca1400_nopad_as_cs")),
            (2312, true, None),
            (60_000, true, None),
            (0, false, None),
        ] {
            let found = charset_of_collation(id, mariadb).map(|(_, collation)| collation);
            assert_eq!(found.as_deref(), name, "{id}");
        }
    }
}
