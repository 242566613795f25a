//! What a statement is, read from its text: tokens, digest, class, effects on the session, and the parts of SET and transaction statements that hang
//! on values. Pure: bytes in, values out.
//!
//! The way of a statement: [`digest::digest`] makes its digest in a reused buffer and finds hints; [`classify::ClassifyCache::get`] looks the judgement
//! up by the digest's text, and makes it on first sight; what depends on literals is read from the raw text by [`set::parse`] and [`transaction::parse`].

#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod charset;
pub mod classify;
pub(crate) mod cursor;
pub mod diagnostics;
pub mod digest;
pub mod functions;
#[doc(hidden)]
pub mod fuzz;
pub mod hint;
pub mod kill;
pub mod leftover;
pub mod lexer;
pub mod literal;
pub mod long;
pub mod numbers;
pub mod set;
pub mod traceparent;
pub mod transaction;

pub use classify::{Class, ClassReason, Classified, ClassifyCache, Effects, TableName, Uncacheable, classify};
pub use digest::{DigestBuf, digest};
pub use hint::{CacheHint, Hint, HintTarget};
pub use lexer::{ByteCharset, Dialect, LexMode};
