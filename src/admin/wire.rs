/// placeholder
pub const PACKET_BYTES_MAX: usize = 1 << 20;
