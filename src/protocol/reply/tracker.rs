//! The machine behind [`ReplyTracker`]: headers in, what they mean out.

mod toward;

use super::{Event, Expect, MAX_COLUMNS, PacketKind, ReplyError, Walk};
use crate::protocol::Capabilities;
use crate::protocol::frame::{HEADER_LEN, Header, MAX_PAYLOAD};
use crate::protocol::ok_err_eof::{EOF_HEADER, ERR_HEADER, EofPacket, ErrPacket, MAX_EOF_LEN, OK_HEADER, OkPacket, Status};
use crate::protocol::prepared::PrepareOk;
use crate::protocol::primitives::Reader;

use toward::{Behind, Toward, opens_cursor};

/// An OK packet is at least this long, which tells it from an EOF where both begin with 0xFE.
const MIN_OK_LEN: usize = 7;

/// First byte of a server's request for the content of a local file.
const LOCAL_INFILE_HEADER: u8 = 0xFB;

/// Follows one reply. Small and copied at will; make a new one for every command.
#[derive(Clone, Copy, Debug)]
pub struct ReplyTracker {
    caps: Capabilities,
    expect: Expect,
    state: State,
    /// Payload bytes of the packet being passed that have not come yet.
    skip: u32,
    /// The packet being passed goes on in the next physical packet.
    continued: bool,
    /// The sequence number of the next packet; `None` before the first and after the client has sent a file.
    seq: Option<u8>,
    /// The number that the next packet gets instead, where they are numbered anew.
    own: Option<u8>,
    /// The server's own numbers mean nothing.
    unnumbered: bool,
    /// The number with which the server asked for a file.
    asked: Option<u8>,
    /// Whether the places of EOF packets are told that the server does not send.
    toward: Toward,
    /// Flags in the EOF behind the definitions of the result set being read.
    columns_status: Status,
    status: Status,
    rows: u64,
    started: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The packet that says what kind of reply, or of further result, this is.
    First,
    /// This many definitions of a result set, then rows.
    Columns { left: u32 },
    /// The EOF between definitions and rows.
    ColumnsEof,
    /// The place of an EOF that the server does not send.
    Due(Behind),
    /// Rows, until a packet that ends them.
    Rows,
    /// Definitions, until a packet that ends them.
    Fields,
    /// This many definitions of parameters; the second number counts the definitions of columns that follow those.
    Params { left: u16, columns: u16 },
    /// The EOF behind the definitions of parameters.
    ParamsEof {
        /// Columns of the statement.
        columns: u16,
        /// Whether definitions of them follow.
        defined: bool,
    },
    /// This many definitions of a prepared statement's columns.
    PreparedColumns { left: u16 },
    /// The EOF behind them.
    PreparedColumnsEof,
    /// Nothing more belongs to this reply.
    Done,
}

/// What to do with a packet of which header and first byte are known.
enum Class {
    /// Forward it without looking further.
    Pass,
    /// Wait until it is whole and look.
    Control,
}

impl State {
    fn wanted(self) -> &'static str {
        match self {
            State::First => "the beginning of a reply",
            State::Columns { .. } | State::Params { .. } | State::PreparedColumns { .. } => "a column definition",
            State::ColumnsEof | State::ParamsEof { .. } | State::PreparedColumnsEof => "an EOF",
            State::Rows | State::Due(_) => "a row",
            State::Fields => "a column definition or the end of them",
            State::Done => "nothing",
        }
    }
}

impl ReplyTracker {
    /// A tracker for the reply to a command, on a server connection that negotiated `caps`.
    pub fn new(expect: Expect, caps: Capabilities) -> ReplyTracker {
        let state = match expect {
            Expect::Fetch => State::Rows,
            Expect::FieldList => State::Fields,
            _ => State::First,
        };
        ReplyTracker {
            caps,
            expect,
            state,
            skip: 0,
            continued: false,
            seq: None,
            own: None,
            unnumbered: false,
            asked: None,
            toward: Toward::Same,
            columns_status: Status::NONE,
            status: Status::NONE,
            rows: 0,
            started: false,
        }
    }

    /// Whether the reply has ended and all of it was passed or surfaced.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done) && self.skip == 0 && !self.continued
    }

    /// Whether anything of the reply was passed or surfaced.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Rows seen, in all result sets.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Flags of the last OK or EOF; none before there was one.
    pub fn last_status(&self) -> Status {
        self.status
    }

    /// The sequence number of the packet that comes next, where it is known.
    pub fn next_seq(&self) -> Option<u8> {
        self.seq
    }

    /// Walks over `buf`, which begins where the last walk ended: behind what was passed and behind the packet that was surfaced.
    ///
    /// Numbers what it passes and surfaces where that is wanted, in place. Never consumes a byte beyond the end of the reply. After an error the
    /// tracker is of no further use.
    pub fn walk(&mut self, buf: &mut [u8]) -> Result<Walk, ReplyError> {
        let mut at = 0;
        loop {
            if self.skip > 0 {
                let now = buf.len().saturating_sub(at).min(self.skip as usize);
                at += now;
                self.skip -= now as u32;
            }
            if self.skip > 0 || self.is_done() {
                return Ok(Walk { pass: at, event: Event::NeedMore });
            }
            if !self.continued {
                at = match self.state {
                    State::Rows => self.pass_whole(buf, at, u32::MAX),
                    State::Columns { left } => self.pass_whole(buf, at, left),
                    _ => at,
                };
            }
            if !self.continued
                && let State::Due(behind) = self.state
            {
                match self.eof_due(behind, buf.get(at..).unwrap_or_default()) {
                    None => return Ok(Walk { pass: at, event: Event::NeedMore }),
                    Some(false) => {}
                    Some(true) => {
                        let seq = self.own.or(self.seq).unwrap_or(1);
                        self.own = Some(seq.wrapping_add(1));
                        return Ok(Walk { pass: at, event: Event::EofDue { seq, done: self.is_done() } });
                    }
                }
            }
            let rest = buf.get_mut(at..).unwrap_or_default();
            let Some(header) = Header::parse(rest) else { return Ok(Walk { pass: at, event: Event::NeedMore }) };
            if self.continued {
                self.take_seq(header, rest)?;
                self.begin_passing(header);
                at += HEADER_LEN;
                continue;
            }
            let first = if header.len == 0 { None } else { rest.get(HEADER_LEN).copied() };
            if header.len > 0 && first.is_none() {
                return Ok(Walk { pass: at, event: Event::NeedMore });
            }
            match self.classify(header, first)? {
                Class::Pass => {
                    self.take_seq(header, rest)?;
                    self.begin_passing(header);
                    self.passed_packet();
                    at += HEADER_LEN;
                }
                Class::Control => {
                    self.check_seq(header)?;
                    if header.continues() {
                        return Err(ReplyError::TooLong);
                    }
                    let len = header.packet_len();
                    if rest.len() < len {
                        return Ok(Walk { pass: at, event: Event::NeedMore });
                    }
                    self.take_seq(header, rest)?;
                    match self.control(rest.get(HEADER_LEN..len).unwrap_or_default())? {
                        Some(kind) => {
                            let done = self.is_done();
                            return Ok(Walk { pass: at, event: Event::Packet { kind, len, done } });
                        }
                        None => at += len,
                    }
                }
            }
        }
    }

    /// The tight loop: passes at most `most` rows or definitions that stand whole in `buf` and need no second look, and leaves
    /// every other packet to the caller.
    fn pass_whole(&mut self, buf: &mut [u8], mut at: usize, most: u32) -> usize {
        let Some(mut seq) = self.seq else { return at };
        // Both numbers count up together.
        let shift = self.own.map(|own| own.wrapping_sub(seq));
        let (all, before, mut passed) = (buf.len(), at, 0);
        while passed < most
            && let Some(begin) = buf.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<{ HEADER_LEN + 1 }>())
        {
            let [a, b, c, got, first] = *begin;
            let header = u32::from_le_bytes([a, b, c, got]);
            let len = (header & MAX_PAYLOAD as u32) as usize;
            let end = at + HEADER_LEN + len;
            let out_of_order = got != seq && !self.unnumbered;
            if first >= EOF_HEADER || out_of_order || len == 0 || len == MAX_PAYLOAD || end > all {
                break;
            }
            if let Some(shift) = shift {
                begin[HEADER_LEN - 1] = seq.wrapping_add(shift);
            }
            seq = seq.wrapping_add(1);
            passed += 1;
            at = end;
        }
        (self.seq, self.own) = (Some(seq), shift.map(|shift| seq.wrapping_add(shift)));
        self.started |= at > before;
        match self.state {
            State::Columns { left } if left == passed => self.state = self.behind_columns(),
            State::Columns { left } => self.state = State::Columns { left: left - passed },
            _ => self.rows += u64::from(passed),
        }
        at
    }

    fn check_seq(&self, header: Header) -> Result<(), ReplyError> {
        match self.seq {
            Some(expected) if expected != header.seq && !self.unnumbered => Err(ReplyError::Sequence { expected, got: header.seq }),
            _ => Ok(()),
        }
    }

    /// The packet at the front of `rest` has its turn.
    fn take_seq(&mut self, header: Header, rest: &mut [u8]) -> Result<(), ReplyError> {
        self.check_seq(header)?;
        self.seq = Some(header.seq.wrapping_add(1));
        if let (Some(own), Some(place)) = (&mut self.own, rest.get_mut(HEADER_LEN - 1)) {
            *place = *own;
            *own = own.wrapping_add(1);
        }
        self.started = true;
        Ok(())
    }

    fn begin_passing(&mut self, header: Header) {
        self.skip = header.len;
        self.continued = header.continues();
    }

    fn deprecate_eof(&self) -> bool {
        self.caps.has(Capabilities::DEPRECATE_EOF)
    }

    /// Tells from header and first byte whether a packet can be passed unseen. `first` is `None` when the packet is empty.
    fn classify(&self, header: Header, first: Option<u8>) -> Result<Class, ReplyError> {
        let wanted = self.state.wanted();
        let Some(first) = first else {
            let text = self.state == State::First && self.expect == Expect::Statistics;
            return if text { Ok(Class::Pass) } else { Err(ReplyError::Empty { wanted }) };
        };
        if first == ERR_HEADER {
            return Ok(Class::Control);
        }
        let len = header.len as usize;
        // A row can begin with 0xFE too, with a value of 16 MiB or more, so that its packet is never a short one.
        let ends_rows = first == EOF_HEADER && len < MAX_PAYLOAD && (self.deprecate_eof() || len <= MAX_EOF_LEN);
        match self.state {
            State::First if self.expect == Expect::Statistics => Ok(Class::Pass),
            State::First => Ok(Class::Control),
            State::Rows | State::Fields if ends_rows => Ok(Class::Control),
            State::Rows | State::Fields => Ok(Class::Pass),
            State::Columns { .. } | State::Params { .. } | State::PreparedColumns { .. } if first != EOF_HEADER => Ok(Class::Pass),
            State::ColumnsEof | State::ParamsEof { .. } | State::PreparedColumnsEof if ends_rows => Ok(Class::Control),
            _ => Err(ReplyError::Unexpected { wanted, first }),
        }
    }

    /// Moves on behind a packet that is passed.
    fn passed_packet(&mut self) {
        self.state = match self.state {
            State::Rows => {
                self.rows += 1;
                State::Rows
            }
            State::First => State::Done,
            State::Columns { left } if left > 1 => State::Columns { left: left - 1 },
            State::Columns { .. } => self.behind_columns(),
            State::Params { left, columns } if left > 1 => State::Params { left: left - 1, columns },
            State::Params { columns, .. } => self.behind_params(columns, true),
            State::PreparedColumns { left } if left > 1 => State::PreparedColumns { left: left - 1 },
            State::PreparedColumns { .. } => self.behind_prepared_columns(),
            other => other,
        };
    }

    fn behind_columns(&self) -> State {
        match self.toward {
            Toward::Old { .. } => State::Due(Behind::Columns),
            Toward::Same if self.deprecate_eof() => State::Rows,
            Toward::Same => State::ColumnsEof,
        }
    }

    fn behind_params(&self, columns: u16, defined: bool) -> State {
        match self.toward {
            Toward::Old { .. } => State::Due(Behind::Params { columns, defined }),
            Toward::Same if self.deprecate_eof() => self.prepared_columns(columns, defined),
            Toward::Same => State::ParamsEof { columns, defined },
        }
    }

    fn behind_prepared_columns(&self) -> State {
        match self.toward {
            Toward::Old { .. } => State::Due(Behind::PreparedColumns),
            Toward::Same if self.deprecate_eof() => State::Done,
            Toward::Same => State::PreparedColumnsEof,
        }
    }

    /// Reads a control packet and moves on; `None` when it is passed like the others.
    fn control(&mut self, payload: &[u8]) -> Result<Option<PacketKind>, ReplyError> {
        let first = payload.first().copied().unwrap_or_default();
        if first == ERR_HEADER {
            return self.error(payload).map(Some);
        }
        match self.state {
            State::First => self.first(first, payload),
            State::ColumnsEof => {
                let status = self.eof(payload)?;
                self.columns_status = status;
                if self.expect == Expect::Execute && opens_cursor(status) {
                    self.end_result(status);
                    return Ok(Some(PacketKind::Eof));
                }
                self.state = State::Rows;
                Ok(None)
            }
            State::ParamsEof { columns, defined } => {
                self.eof(payload)?;
                self.state = self.prepared_columns(columns, defined);
                Ok((self.state == State::Done).then_some(PacketKind::Eof))
            }
            State::PreparedColumnsEof => {
                self.eof(payload)?;
                self.state = State::Done;
                Ok(Some(PacketKind::Eof))
            }
            _ => self.end_of_rows(payload).map(Some),
        }
    }

    fn error(&mut self, payload: &[u8]) -> Result<PacketKind, ReplyError> {
        let err = ErrPacket::parse(payload).ok_or(ReplyError::Malformed { what: "ERR packet" })?;
        if err.is_progress() && self.caps.has(Capabilities::MARIADB_PROGRESS) {
            return Ok(PacketKind::Progress);
        }
        self.state = State::Done;
        Ok(PacketKind::Err)
    }

    fn eof(&mut self, payload: &[u8]) -> Result<Status, ReplyError> {
        let eof = EofPacket::parse(payload).ok_or(ReplyError::Malformed { what: "EOF packet" })?;
        self.status = eof.status;
        Ok(eof.status)
    }

    fn ok(&mut self, payload: &[u8]) -> Result<Status, ReplyError> {
        let ok = OkPacket::parse(payload, self.caps).ok_or(ReplyError::Malformed { what: "OK packet" })?;
        self.status = ok.status;
        Ok(ok.status)
    }

    /// An OK or EOF that begins with 0xFE.
    fn end_packet(&mut self, payload: &[u8]) -> Result<(PacketKind, Status), ReplyError> {
        if self.deprecate_eof() && payload.len() >= MIN_OK_LEN {
            Ok((PacketKind::Ok, self.ok(payload)?))
        } else {
            Ok((PacketKind::Eof, self.eof(payload)?))
        }
    }

    fn end_of_rows(&mut self, payload: &[u8]) -> Result<PacketKind, ReplyError> {
        let (kind, status) = self.end_packet(payload)?;
        match self.expect {
            Expect::Fetch | Expect::FieldList => self.state = State::Done,
            // MySQL sets MORE_RESULTS on OUT parameters only in the EOF before them, though an OK always follows.
            _ if kind == PacketKind::Eof && self.columns_status.has(Status::PS_OUT_PARAMS) => {
                self.end_result(status | (self.columns_status & Status::MORE_RESULTS));
            }
            _ => self.end_result(status),
        }
        Ok(kind)
    }

    fn end_result(&mut self, status: Status) {
        self.state = if status.has(Status::MORE_RESULTS) { State::First } else { State::Done };
    }

    /// The first packet of a reply, or of a further result.
    fn first(&mut self, first: u8, payload: &[u8]) -> Result<Option<PacketKind>, ReplyError> {
        let wanted = State::First.wanted();
        match (self.expect, first) {
            (Expect::Query | Expect::Execute, OK_HEADER) => {
                let status = self.ok(payload)?;
                self.end_result(status);
                Ok(Some(PacketKind::Ok))
            }
            (Expect::Query | Expect::Execute, LOCAL_INFILE_HEADER) => {
                self.asked = self.seq.take().map(|next| next.wrapping_sub(1));
                Ok(Some(PacketKind::LocalInfile))
            }
            (Expect::Query | Expect::Execute, _) => self.column_count(payload).map(|()| None),
            (Expect::Prepare, OK_HEADER) => self.prepare_ok(payload).map(Some),
            (Expect::Simple, OK_HEADER) => {
                self.ok(payload)?;
                self.state = State::Done;
                Ok(Some(PacketKind::Ok))
            }
            (Expect::Simple, EOF_HEADER) => {
                let (kind, _) = self.end_packet(payload)?;
                self.state = State::Done;
                Ok(Some(kind))
            }
            _ => Err(ReplyError::Unexpected { wanted, first }),
        }
    }

    /// `int<lenenc>` columns, then, where negotiated, a byte that tells whether definitions follow.
    fn column_count(&mut self, payload: &[u8]) -> Result<(), ReplyError> {
        let malformed = ReplyError::Malformed { what: "column count" };
        let mut r = Reader::new(payload);
        let count = r.lenenc_int().filter(|count| (1..=MAX_COLUMNS).contains(count)).ok_or(malformed)?;
        let tells = self.caps.has(Capabilities::OPTIONAL_RESULTSET_METADATA) || self.caps.has(Capabilities::MARIADB_CACHE_METADATA);
        let follow = !tells || r.u8().ok_or(malformed)? != 0;
        if !r.is_empty() {
            return Err(malformed);
        }
        self.columns_status = Status::NONE;
        self.state = if follow { State::Columns { left: count as u32 } } else { self.behind_columns() };
        Ok(())
    }

    /// The answer to a PREPARE: definitions of parameters, then of columns, each followed by an EOF unless that is deprecated.
    /// Where definitions are left out the EOFs are not.
    fn prepare_ok(&mut self, payload: &[u8]) -> Result<PacketKind, ReplyError> {
        let ok = PrepareOk::parse(payload).ok_or(ReplyError::Malformed { what: "answer to a PREPARE" })?;
        let defined = ok.metadata_follows || !self.caps.has(Capabilities::OPTIONAL_RESULTSET_METADATA);
        let columns = ok.num_columns;
        self.state = match ok.num_params {
            0 => self.prepared_columns(columns, defined),
            left if defined => State::Params { left, columns },
            _ => self.behind_params(columns, defined),
        };
        Ok(PacketKind::PrepareOk)
    }

    fn prepared_columns(&self, columns: u16, defined: bool) -> State {
        match columns {
            0 => State::Done,
            left if defined => State::PreparedColumns { left },
            _ => self.behind_prepared_columns(),
        }
    }
}
