//! Prepared statements: the answer to a PREPARE, and executing a client's statement under the server's id.
//!
//! The client's ids are Sluice's own; every server connection numbers its statements itself. A client sends the types of its parameters with the first
//! execution only, so what it sent is remembered and put in where another server connection has not seen it.
//!
//! Sources: MySQL manual, "COM_STMT_PREPARE Response", "COM_STMT_EXECUTE"; MariaDB knowledge base, "COM_STMT_EXECUTE", "COM_STMT_BULK_EXECUTE".

use std::ops::Range;

use bytes::BytesMut;
use thiserror::Error;

use super::Capabilities;
use super::command::Com;
use super::ok_err_eof::OK_HEADER;
use super::primitives::Reader;
use super::query::skip_binary_value;

/// Where the flags stand in a COM_STMT_EXECUTE: behind the command and the statement's number.
const FLAGS_AT: usize = 5;
/// Flag of COM_STMT_EXECUTE: the parameter count is sent even when the statement has none, since attributes may come on top.
pub const PARAMETER_COUNT_AVAILABLE: u8 = 0x08;
/// Flag of COM_STMT_EXECUTE: open a read-only cursor.
pub const CURSOR_TYPE_READ_ONLY: u8 = 0x01;

/// The most parameters a statement can have: the answer to a PREPARE counts them in 16 bits, and attributes come on top.
pub const MAX_PARAMS: u64 = 0xFFFF;

/// Where the statement id stands in every command that names one.
const ID_RANGE: Range<usize> = 1..5;

/// The answer to a PREPARE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrepareOk {
    /// The server's id of the statement, valid on this connection.
    pub statement_id: u32,
    /// Columns of its result set, 0 when it has none.
    pub num_columns: u16,
    /// Its parameters.
    pub num_params: u16,
    /// Warnings of the PREPARE.
    pub warnings: u16,
    /// Whether definitions follow; only sent with `OPTIONAL_RESULTSET_METADATA`, otherwise true.
    pub metadata_follows: bool,
}

impl PrepareOk {
    /// Reads the payload; `None` when it is something else or cut short.
    pub fn parse(payload: &[u8]) -> Option<PrepareOk> {
        let mut r = Reader::new(payload);
        if r.u8()? != OK_HEADER {
            return None;
        }
        let (statement_id, num_columns, num_params) = (r.u32()?, r.u16()?, r.u16()?);
        // A filler, then the warnings.
        r.u8()?;
        let warnings = r.u16()?;
        Some(PrepareOk { statement_id, num_columns, num_params, warnings, metadata_follows: r.u8().is_none_or(|flag| flag != 0) })
    }

    /// Appends the payload for a connection with `caps`.
    pub fn write(&self, out: &mut BytesMut, caps: Capabilities) {
        out.extend_from_slice(&[OK_HEADER]);
        out.extend_from_slice(&self.statement_id.to_le_bytes());
        out.extend_from_slice(&self.num_columns.to_le_bytes());
        out.extend_from_slice(&self.num_params.to_le_bytes());
        out.extend_from_slice(&[0]);
        out.extend_from_slice(&self.warnings.to_le_bytes());
        if caps.has(Capabilities::OPTIONAL_RESULTSET_METADATA) {
            out.extend_from_slice(&[u8::from(self.metadata_follows)]);
        }
    }
}

/// Why an execution cannot be read or rewritten.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ExecuteError {
    /// The packet ends too early or contradicts itself.
    #[error("malformed COM_STMT_EXECUTE")]
    Malformed,
    /// The client sent no types and none are remembered: it never executed this statement before.
    #[error("COM_STMT_EXECUTE without parameter types, and none were sent before")]
    TypesUnknown,
    /// The remembered types are those of another number of parameters.
    #[error("COM_STMT_EXECUTE with {now} parameters, but types of {remembered} were sent before")]
    TypesDiffer {
        /// Parameters of this execution.
        now: usize,
        /// Parameters when the types were sent.
        remembered: usize,
    },
}

/// What a COM_STMT_EXECUTE says before its values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExecuteHeader {
    /// The statement.
    pub statement_id: u32,
    /// [`CURSOR_TYPE_READ_ONLY`], [`PARAMETER_COUNT_AVAILABLE`], ...
    pub flags: u8,
    /// Always 1.
    pub iterations: u32,
    /// Parameters and attributes sent with this execution.
    pub num_params: usize,
    /// Where the NULL bitmap stands in the payload; empty without parameters.
    pub null_bitmap: Range<usize>,
    /// Where the byte stands that says whether types follow; `None` without parameters.
    pub new_params_bound_at: Option<usize>,
    /// Where the types stand (and names, with `QUERY_ATTRIBUTES`); empty when the client sent none.
    pub types: Range<usize>,
    /// Where the values begin; they go to the end of the payload.
    pub values_at: usize,
}

impl ExecuteHeader {
    /// Reads a COM_STMT_EXECUTE of a statement with `num_params` parameters, on a connection with `caps`.
    ///
    /// With `QUERY_ATTRIBUTES` types carry names, and the packet carries a parameter count of its own: always when the statement has
    /// parameters (MySQL 9.7 insists on it whatever the flag says), else when the flag says so.
    pub fn parse(payload: &[u8], num_params: u16, caps: Capabilities) -> Result<ExecuteHeader, ExecuteError> {
        ExecuteHeader::read(payload, num_params, caps).ok_or(ExecuteError::Malformed)
    }

    fn read(payload: &[u8], num_params: u16, caps: Capabilities) -> Option<ExecuteHeader> {
        let mut r = Reader::new(payload);
        let at = |r: &Reader<'_>| payload.len() - r.remaining();
        if r.u8()? != Com::StmtExecute.byte() {
            return None;
        }
        let (statement_id, flags, iterations) = (r.u32()?, r.u8()?, r.u32()?);
        let attributes = caps.has(Capabilities::QUERY_ATTRIBUTES);
        let counted = attributes && (num_params > 0 || flags & PARAMETER_COUNT_AVAILABLE != 0);
        let num_params: usize =
            if counted { r.lenenc_int().filter(|n| *n <= MAX_PARAMS)? as usize } else { usize::from(num_params) };
        let mut header = ExecuteHeader {
            statement_id,
            flags,
            iterations,
            num_params,
            null_bitmap: at(&r)..at(&r),
            new_params_bound_at: None,
            types: at(&r)..at(&r),
            values_at: at(&r),
        };
        if num_params == 0 {
            return Some(header);
        }
        r.bytes(num_params.div_ceil(8))?;
        header.null_bitmap.end = at(&r);
        header.new_params_bound_at = Some(at(&r));
        let bound = r.u8()?;
        header.types = at(&r)..at(&r);
        if bound != 0 {
            skip_types(&mut r, num_params, attributes)?;
            header.types.end = at(&r);
        }
        header.values_at = at(&r);
        Some(header)
    }

    /// Whether the client sent the types of its parameters.
    pub fn has_types(&self) -> bool {
        !self.types.is_empty()
    }

    /// Whether a cursor is asked for.
    pub fn wants_cursor(&self) -> bool {
        self.flags & !PARAMETER_COUNT_AVAILABLE != 0
    }

    /// The same of a COM_STMT_EXECUTE of which only the beginning is read.
    pub fn asks_for_cursor(payload: &[u8]) -> bool {
        payload.get(FLAGS_AT).is_some_and(|flags| flags & !PARAMETER_COUNT_AVAILABLE != 0)
    }
}

/// The value of a text attribute of an execution: what came on top of the statement's `own` parameters. `types`: those remembered, which
/// are looked at when the packet has none. Only with `QUERY_ATTRIBUTES`, and not behind a parameter sent by `COM_STMT_SEND_LONG_DATA`.
pub fn attribute<'a>(payload: &'a [u8], header: &ExecuteHeader, own: u16, types: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let types = if header.has_types() { payload.get(header.types.clone())? } else { types };
    let nulls = payload.get(header.null_bitmap.clone())?;
    let (mut types, mut values) = (Reader::new(types), Reader::new(payload.get(header.values_at..)?));
    let mut found = None;
    for n in 0..header.num_params {
        let [kind, _sign] = types.u16()?.to_le_bytes();
        let is = types.lenenc_bytes()?;
        let null = nulls.get(n / 8).is_some_and(|byte| byte & (1 << (n % 8)) != 0);
        let value = if null { None } else { skip_binary_value(&mut values, kind)? };
        if n >= usize::from(own) && is == name.as_bytes() {
            found = value;
        }
    }
    found
}

/// Two bytes a parameter, and with `QUERY_ATTRIBUTES` its name.
fn skip_types(r: &mut Reader<'_>, num_params: usize, names: bool) -> Option<()> {
    for _ in 0..num_params {
        r.u16()?;
        if names {
            r.lenenc_bytes()?;
        }
    }
    Some(())
}

/// The remembered types of `now` parameters. Types of more may be remembered: attributes that came on top of the parameters then.
fn remembered_for(types: &[u8], now: usize, names: bool) -> Result<&[u8], ExecuteError> {
    let remembered = types_len(types, names).ok_or(ExecuteError::Malformed)?;
    if remembered == 0 {
        return Err(ExecuteError::TypesUnknown);
    }
    if remembered < now {
        return Err(ExecuteError::TypesDiffer { now, remembered });
    }
    let mut r = Reader::new(types);
    skip_types(&mut r, now, names).ok_or(ExecuteError::Malformed)?;
    types.get(..types.len() - r.remaining()).ok_or(ExecuteError::Malformed)
}

/// How many parameters a remembered type block describes; `None` when it is damaged.
fn types_len(types: &[u8], names: bool) -> Option<usize> {
    let (mut r, mut n) = (Reader::new(types), 0);
    while !r.is_empty() {
        skip_types(&mut r, 1, names)?;
        n += 1;
    }
    Some(n)
}

/// The types an execution has to be remembered by: its bytes `payload[header.types]`.
pub fn types_of<'a>(payload: &'a [u8], header: &ExecuteHeader) -> Option<&'a [u8]> {
    payload.get(header.types.clone()).filter(|types| !types.is_empty())
}

/// The first parameter of an execution as a whole number, where it is one or a text of one. `types` of an earlier execution count
/// where this one has none. `None` for NULL, anything else, and damage.
pub fn first_whole_number(payload: &[u8], header: &ExecuteHeader, types: Option<&[u8]>) -> Option<u64> {
    const TINY: u8 = 1;
    const SHORT: u8 = 2;
    const LONG: u8 = 3;
    const LONGLONG: u8 = 8;
    const VARCHAR: u8 = 15;
    const BLOBS: std::ops::RangeInclusive<u8> = 249..=254;
    if payload.get(header.null_bitmap.start)? & 1 != 0 {
        return None;
    }
    let kind = *types_of(payload, header).or(types)?.first()?;
    let mut r = Reader::new(payload.get(header.values_at..)?);
    Some(match kind {
        TINY => u64::from(r.u8()?),
        SHORT => u64::from(r.u16()?),
        LONG => u64::from(u32::from_le_bytes(*r.bytes(4)?.first_chunk()?)),
        LONGLONG => u64::from_le_bytes(*r.bytes(8)?.first_chunk()?),
        _ if kind == VARCHAR || BLOBS.contains(&kind) => std::str::from_utf8(r.lenenc_bytes()?).ok()?.trim().parse().ok()?,
        _ => return None,
    })
}

/// Appends the execution `payload` to `out` with `new_id` in place of the client's statement id.
///
/// With `remembered_types` (of [`types_of`]) given and none in the payload they are put in, for a server connection that has not seen them. Give `None` when this very
/// server statement was executed with these types before. `num_params` and `caps` are those the payload was written for; the server connection
/// must agree with the client on `QUERY_ATTRIBUTES`, as the values' layout hangs on it. On an error `out` is left as it was.
pub fn rewrite_execute(
    payload: &[u8],
    new_id: u32,
    num_params: u16,
    caps: Capabilities,
    remembered_types: Option<&[u8]>,
    out: &mut BytesMut,
) -> Result<ExecuteHeader, ExecuteError> {
    let header = ExecuteHeader::parse(payload, num_params, caps)?;
    let start = out.len();
    match (header.new_params_bound_at, remembered_types) {
        (Some(flag_at), Some(types)) if !header.has_types() => {
            let types = remembered_for(types, header.num_params, caps.has(Capabilities::QUERY_ATTRIBUTES))?;
            out.reserve(payload.len() + types.len());
            out.extend_from_slice(payload.get(..flag_at).ok_or(ExecuteError::Malformed)?);
            out.extend_from_slice(&[1]);
            out.extend_from_slice(types);
            out.extend_from_slice(payload.get(header.values_at..).unwrap_or_default());
        }
        _ => out.extend_from_slice(payload),
    }
    if let Some(written) = out.get_mut(start..) {
        set_statement_id(written, new_id);
    }
    Ok(header)
}

/// Flag of COM_STMT_BULK_EXECUTE: types of the parameters are sent.
pub const BULK_SENDS_TYPES: u16 = 128;
/// Where the flags stand in a COM_STMT_BULK_EXECUTE; types or rows follow.
const BULK_FLAGS: Range<usize> = 5..7;

/// The types in a COM_STMT_BULK_EXECUTE (MariaDB), two bytes a parameter; `None` when it sends none.
pub fn bulk_types(payload: &[u8], num_params: u16) -> Result<Option<&[u8]>, ExecuteError> {
    let flags = payload.get(BULK_FLAGS).and_then(|f| f.first_chunk::<2>()).ok_or(ExecuteError::Malformed)?;
    if u16::from_le_bytes(*flags) & BULK_SENDS_TYPES == 0 {
        return Ok(None);
    }
    let types = payload.get(BULK_FLAGS.end..BULK_FLAGS.end + 2 * usize::from(num_params));
    types.map(Some).ok_or(ExecuteError::Malformed)
}

/// As [`rewrite_execute`], for a COM_STMT_BULK_EXECUTE. Its rows pass as they are.
pub fn rewrite_bulk(
    payload: &[u8],
    new_id: u32,
    num_params: u16,
    remembered_types: Option<&[u8]>,
    out: &mut BytesMut,
) -> Result<(), ExecuteError> {
    let start = out.len();
    let sent = bulk_types(payload, num_params)?;
    match remembered_types {
        Some(types) if sent.is_none() => {
            let types = remembered_for(types, usize::from(num_params), false)?;
            let [low, high] = payload.get(BULK_FLAGS).and_then(|f| f.first_chunk::<2>()).ok_or(ExecuteError::Malformed)?;
            out.reserve(payload.len() + types.len());
            out.extend_from_slice(payload.get(..BULK_FLAGS.start).ok_or(ExecuteError::Malformed)?);
            out.extend_from_slice(&[low | BULK_SENDS_TYPES as u8, *high]);
            out.extend_from_slice(types);
            out.extend_from_slice(payload.get(BULK_FLAGS.end..).unwrap_or_default());
        }
        _ => out.extend_from_slice(payload),
    }
    if let Some(written) = out.get_mut(start..) {
        set_statement_id(written, new_id);
    }
    Ok(())
}

/// The statement id in a COM_STMT_EXECUTE, BULK_EXECUTE, SEND_LONG_DATA, CLOSE, RESET or FETCH; `None` when the payload is too short.
pub fn statement_id(payload: &[u8]) -> Option<u32> {
    payload.get(ID_RANGE)?.first_chunk::<4>().map(|id| u32::from_le_bytes(*id))
}

/// Puts `id` into such a command, or into the answer to a PREPARE; `false` when the payload is too short.
pub fn set_statement_id(payload: &mut [u8], id: u32) -> bool {
    match payload.get_mut(ID_RANGE) {
        Some(place) => {
            place.copy_from_slice(&id.to_le_bytes());
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests;
