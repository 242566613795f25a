//! Bodies of fuzz targets. Run by `integration/fuzz` with a coverage-guided engine and by a test over the corpus.

use super::lexer::{ByteCharset, Dialect, LexMode, Lexer, statements};
use super::{DigestBuf, classify, digest, set, transaction};

/// The mode the first byte of a fuzz input stands for.
fn mode_of(byte: u8) -> LexMode {
    let charset = match (byte >> 3) & 7 {
        1 => ByteCharset::Gbk,
        2 => ByteCharset::Sjis,
        3 => ByteCharset::Big5,
        4 => ByteCharset::Gb18030,
        _ => ByteCharset::SingleOrUtf8,
    };
    let dialect = match byte >> 6 {
        1 => Dialect::MySql,
        2 => Dialect::MariaDb,
        _ => Dialect::Either,
    };
    LexMode { ansi_quotes: byte & 1 != 0, no_backslash_escapes: byte & 2 != 0, ignore_space: byte & 4 != 0, charset, dialect }
}

/// Target `lexer`: the first byte chooses the mode, the rest is the statement. Panics when a promise of the room is broken:
/// tokens do not overlap and stay inside the text; a digest's digest is itself; nothing panics on any bytes.
#[doc(hidden)]
pub fn lexer(data: &[u8]) {
    let Some((&first, sql)) = data.split_first() else { return };
    let mode = mode_of(first);
    let mut last = 0;
    for token in Lexer::new(sql, mode) {
        assert!(token.start >= last && token.end > token.start && token.end <= sql.len(), "{token:?} after {last}");
        last = token.end;
    }
    let (mut once, mut twice) = (DigestBuf::default(), DigestBuf::default());
    digest(sql, mode, &mut once);
    if !once.truncated {
        digest(&once.text, mode, &mut twice);
        assert_eq!(
            String::from_utf8_lossy(&once.text),
            String::from_utf8_lossy(&twice.text),
            "a digest's digest differs for {:?}",
            String::from_utf8_lossy(sql)
        );
        assert_eq!(once.statements, twice.statements);
    }
    let judged = classify(sql, mode);
    assert_eq!(judged.digest_hash, once.hash);
    if !once.truncated {
        let again = classify(&once.text, mode);
        assert_eq!((judged.class, &judged.reason, &judged.effects), (again.class, &again.reason, &again.effects));
    }
    let _ = (statements(sql, mode), set::parse(sql, mode), transaction::parse(sql, mode));
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_holds() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/fuzz/corpus/lexer");
        let mut files = 0;
        for entry in std::fs::read_dir(folder).expect("the corpus is part of the source") {
            super::lexer(&std::fs::read(entry.expect("a readable folder").path()).expect("a readable file"));
            files += 1;
        }
        assert!(files > 10, "{files} files");
    }
}
