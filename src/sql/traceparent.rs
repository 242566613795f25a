//! `traceparent`: the trace and the span that a statement belongs to, as the application wrote it.
//! Source: <https://www.w3.org/TR/trace-context/>, <https://google.github.io/sqlcommenter/spec/>

/// Whose child a statement is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceParent {
    /// The trace.
    pub trace: [u8; 16],
    /// The span in it that sent the statement.
    pub span: [u8; 8],
    /// The trace is recorded.
    pub sampled: bool,
}

/// The word that comments and attributes use.
pub const NAME: &str = "traceparent";
/// `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const BYTES: usize = 55;

impl TraceParent {
    /// Reads a value such as `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`. Later versions may have more behind it.
    pub fn parse(value: &[u8]) -> Option<TraceParent> {
        let (head, more) = value.split_at_checked(BYTES)?;
        let dashes = [2, 35, 52].iter().all(|at| head.get(*at) == Some(&b'-'));
        let version = digits::<1>(head.get(..2)?)?[0];
        let ends = if version == 0 { more.is_empty() } else { more.first().is_none_or(|byte| *byte == b'-') };
        if !dashes || version == 0xff || !ends {
            return None;
        }
        let trace = digits::<16>(head.get(3..35)?)?;
        let span = digits::<8>(head.get(36..52)?)?;
        let flags = digits::<1>(head.get(53..)?)?[0];
        (trace != [0; 16] && span != [0; 8]).then_some(TraceParent { trace, span, sampled: flags & 1 == 1 })
    }

    /// The one in a comment of a statement: `/* traceparent='00-…' */`, beside other pairs or not, quoted or not. What stands in a
    /// literal is data.
    pub fn in_comment(sql: &[u8]) -> Option<TraceParent> {
        let mut rest = sql;
        loop {
            let at = rest.iter().position(|byte| matches!(byte, b'\'' | b'"' | b'`' | b'/'))?;
            let here = rest.get(at..)?;
            match here.first()? {
                b'/' if here.starts_with(b"/*") => {
                    let body = here.get(2..)?;
                    let end = body.windows(2).position(|pair| pair == b"*/")?;
                    if let Some(found) = in_pairs(body.get(..end)?) {
                        return Some(found);
                    }
                    rest = body.get(end + 2..)?;
                }
                b'/' => rest = here.get(1..)?,
                quote => rest = behind_literal(here.get(1..)?, *quote)?,
            }
        }
    }
}

fn behind_literal(mut rest: &[u8], quote: u8) -> Option<&[u8]> {
    loop {
        let at = rest.iter().position(|byte| *byte == quote || *byte == b'\\' && quote != b'`')?;
        let escaped = rest.get(at) != Some(&quote);
        rest = rest.get(at + 1 + usize::from(escaped)..)?;
        if !escaped {
            return Some(rest);
        }
    }
}

fn in_pairs(comment: &[u8]) -> Option<TraceParent> {
    let at = comment.windows(NAME.len()).position(|word| word.eq_ignore_ascii_case(NAME.as_bytes()))?;
    let value = comment.get(at + NAME.len()..)?.trim_ascii_start();
    let value = value.strip_prefix(b"=").or_else(|| value.strip_prefix(b":"))?.trim_ascii_start();
    let value = value.strip_prefix(b"'").or_else(|| value.strip_prefix(b"\"")).unwrap_or(value);
    let end = value.iter().position(|byte| !byte.is_ascii_hexdigit() && *byte != b'-').unwrap_or(value.len());
    TraceParent::parse(value.get(..end)?)
}

/// Lower-case hexadecimal digits, as the standard has it.
fn digits<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair.first()?)? << 4 | digit(pair.get(1)?)?;
    }
    (text.len() == 2 * N).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn values() {
        let found = TraceParent::parse(GOOD.as_bytes()).unwrap();
        assert_eq!((found.trace[0], found.trace[15], found.span[1], found.sampled), (0x4b, 0x36, 0xf0, true));
        assert!(!TraceParent::parse(GOOD.replace("-01", "-00").as_bytes()).unwrap().sampled);
        assert!(TraceParent::parse(format!("cc{}-more", &GOOD[2..]).as_bytes()).is_some(), "a later version");
        for wrong in [
            "",
            "00",
            &GOOD[1..],
            &GOOD.to_uppercase(),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &format!("ff{}", &GOOD[2..]),
            &format!("{GOOD}0"),
            &format!("{GOOD}-more"),
            &GOOD.replace('-', "_"),
        ] {
            assert_eq!(TraceParent::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn comments() {
        for with in [
            format!("SELECT 1 /* traceparent='{GOOD}' */"),
            format!("/*action='x',traceparent='{GOOD}',tracestate='a%3Db'*/ SELECT 'it''s /*' FROM t"),
            format!("SELECT 'a\\'b' /* one */ , 4/2 /*traceparent={GOOD}*/"),
            format!("/* TraceParent: \"{GOOD}\" */ SELECT 1"),
        ] {
            assert!(TraceParent::in_comment(with.as_bytes()).is_some(), "{with}");
        }
        for without in [
            format!("SELECT '/* traceparent={GOOD} */'"),
            format!("SELECT traceparent='{GOOD}'"),
            format!("SELECT \"a\\\"/* traceparent={GOOD} */\""),
            format!("SELECT 1 /* traceparent={GOOD}"),
            "SELECT 1".to_owned(),
            "/* traceparent */ SELECT 1".to_owned(),
        ] {
            assert_eq!(TraceParent::in_comment(without.as_bytes()), None, "{without}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_sent(sql in prop::collection::vec(prop::sample::select(b"/*'\"`\\traceparent=0-1fa ".to_vec()), 0..200)) {
            let _ = TraceParent::in_comment(&sql);
            let _ = TraceParent::parse(&sql);
        }
    }
}
