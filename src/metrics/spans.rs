//! Spans of statements on their way to a collector: a bounded queue that no statement ever waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use prometheus::IntCounter;
use tokio::sync::mpsc;

use crate::sql::classify::Classified;
use crate::sql::traceparent::TraceParent;

/// Statements that wait to be sent; about 300 bytes each, and their texts.
pub const QUEUE_MAX: usize = 4096;

/// One statement, from which up to three spans are made.
#[derive(Clone, Debug)]
pub struct StatementSpan {
    /// The trace it belongs to.
    pub trace: [u8; 16],
    /// The span it was sent in; `None`: it begins the trace.
    pub parent: Option<[u8; 8]>,
    /// A number its spans' ids are made of.
    pub number: u64,
    /// What it is; its digest's text is shown.
    pub statement: Arc<Classified>,
    /// The word for where it went.
    pub target: &'static str,
    /// The server that ran it; empty: none.
    pub server: Arc<str>,
    /// The account.
    pub user: Arc<str>,
    /// The schema.
    pub schema: String,
    /// Rows that came back.
    pub rows: u64,
    /// The server's error, if it met one.
    pub errno: Option<u16>,
    /// When it was read.
    pub began: Instant,
    /// When it was sent to the server.
    pub sent: Option<Instant>,
    /// When the reply had ended.
    pub ended: Instant,
}

/// Takes spans in.
#[derive(Debug)]
pub struct Spans {
    on: AtomicBool,
    sample_every: AtomicU64,
    count: AtomicU64,
    seed: u64,
    queue: mpsc::Sender<StatementSpan>,
    dropped: IntCounter,
}

impl Spans {
    /// An open end of the queue, and the one to send from. `seed` is random.
    pub fn new(seed: u64, dropped: IntCounter) -> (Spans, mpsc::Receiver<StatementSpan>) {
        let (queue, out) = mpsc::channel(QUEUE_MAX);
        (Spans { on: AtomicBool::new(false), sample_every: AtomicU64::new(0), count: AtomicU64::new(0), seed, queue, dropped }, out)
    }

    /// Whether spans are made at all, and of which statements without a trace (one in this many; 0: none).
    pub fn configure(&self, on: bool, sample_every: u64) {
        self.on.store(on, Relaxed);
        self.sample_every.store(sample_every, Relaxed);
    }

    /// Whether spans are made at all: all that a statement is asked where they are not.
    pub fn on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// The trace, the parent and a number for a statement whose spans are to be sent.
    pub fn begin(&self, told: Option<TraceParent>) -> Option<([u8; 16], Option<[u8; 8]>, u64)> {
        let count = self.count.fetch_add(1, Relaxed);
        let number = mixed(self.seed.wrapping_add(count.wrapping_mul(4)));
        if let Some(told) = told {
            return told.sampled.then_some((told.trace, Some(told.span), number));
        }
        let every = self.sample_every.load(Relaxed);
        if every == 0 || !count.is_multiple_of(every) {
            return None;
        }
        let more = u128::from(mixed(number ^ self.seed.rotate_left(32)));
        let trace = (u128::from(mixed(number)) << 64 | more).max(1);
        Some((trace.to_be_bytes(), None, number))
    }

    /// Puts one into the queue, or counts it as dropped. Never waits.
    pub fn put(&self, span: StatementSpan) {
        if self.queue.try_send(span).is_err() {
            self.dropped.inc();
        }
    }
}

/// SplitMix64's output function: numbers that follow each other become numbers that do not look it. Sebastiano Vigna, public domain.
pub fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::classify::classify;
    use crate::sql::lexer::LexMode;

    #[test]
    fn who_is_recorded() {
        let (spans, _out) = Spans::new(7, IntCounter::new("a", "b").unwrap());
        let told = |sampled| Some(TraceParent { trace: [1; 16], span: [2; 8], sampled });
        assert_eq!(spans.begin(told(true)).map(|(trace, parent, _)| (trace, parent)), Some(([1; 16], Some([2; 8]))));
        assert_eq!(spans.begin(told(false)), None, "the application does not record this trace");
        assert_eq!(spans.begin(None), None);
        spans.configure(true, 10);
        let begun: Vec<_> = (0..100).filter_map(|_| spans.begin(None)).collect();
        assert_eq!(begun.len(), 10);
        let traces: std::collections::HashSet<_> = begun.iter().map(|(trace, _, _)| trace).collect();
        assert_eq!(traces.len(), 10);
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let dropped = IntCounter::new("a", "b").unwrap();
        let (spans, _out) = Spans::new(7, dropped.clone());
        let now = Instant::now();
        for number in 0..QUEUE_MAX as u64 + 5 {
            spans.put(StatementSpan {
                trace: [1; 16],
                parent: None,
                number,
                statement: Arc::new(classify(b"SELECT 1", LexMode::default())),
                target: "replica",
                server: "".into(),
                user: "".into(),
                schema: String::new(),
                rows: 0,
                errno: None,
                began: now,
                sent: None,
                ended: now,
            });
        }
        assert_eq!(dropped.get(), 5);
    }
}
