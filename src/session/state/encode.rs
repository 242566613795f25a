//! A state as bytes, for whoever keeps it where other processes look.

use super::{State, Value};

/// A part with its length before it, so that no two rows of parts are the same bytes; what is not there is another thing than what is empty.
pub fn put(out: &mut Vec<u8>, part: Option<&[u8]>) {
    out.extend_from_slice(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
    out.extend_from_slice(part.unwrap_or_default());
}

impl State {
    /// As bytes that are the same in another process of this version, and those of no other state.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.schema.as_deref());
        put(out, self.results_collation.as_deref().map(str::as_bytes));
        put(out, self.role.as_deref().map(str::as_bytes));
        for variables in [&self.system, &self.user] {
            out.extend_from_slice(&(variables.len() as u64).to_le_bytes());
            for (name, value) in variables {
                let (form, bytes) = match value {
                    Value::Reported(bytes) => (b'r', bytes),
                    Value::Literal(bytes) => (b'l', bytes),
                };
                put(out, Some(name.as_bytes()));
                out.push(form);
                put(out, Some(bytes));
            }
        }
    }
}
