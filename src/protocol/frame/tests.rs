use super::*;

fn packet(seq: u8, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    put_packet(&mut out, seq, payload);
    out
}

#[test]
fn a_header_both_ways() {
    let header = Header { len: 0x01_0203, seq: 7 };
    assert_eq!(header.to_bytes(), [3, 2, 1, 7]);
    assert_eq!(Header::parse(&[3, 2, 1, 7, 9]), Some(header));
    assert_eq!(Header::parse(&[3, 2, 1]), None);
}

#[test]
fn payloads_are_split_at_16_mib_less_one() {
    // payload length, physical packets' lengths
    let table: &[(usize, &[usize])] = &[
        (0, &[0]),
        (1, &[1]),
        (MAX_PAYLOAD - 1, &[MAX_PAYLOAD - 1]),
        (MAX_PAYLOAD, &[MAX_PAYLOAD, 0]),
        (MAX_PAYLOAD + 1, &[MAX_PAYLOAD, 1]),
        (2 * MAX_PAYLOAD, &[MAX_PAYLOAD, MAX_PAYLOAD, 0]),
    ];
    for (len, physical) in table {
        let payload = vec![0x5A; *len];
        let mut out = BytesMut::new();
        let next = put_packet(&mut out, 254, &payload);
        assert_eq!(next, 254u8.wrapping_add(physical.len() as u8));
        let mut same = BytesMut::new();
        assert_eq!(put_packet_with(&mut same, 254, |out| out.extend_from_slice(&payload)), next);
        assert!(same == out);
        let mut at = 0;
        for (n, len) in physical.iter().enumerate() {
            let header = Header::parse(&out[at..]).unwrap();
            assert_eq!((header.len as usize, header.seq), (*len, 254u8.wrapping_add(n as u8)));
            at += header.packet_len();
        }
        assert_eq!(at, out.len());
        let found = next_packet(&out, usize::MAX).unwrap().unwrap();
        assert_eq!((found.seq, found.next_seq, found.wire_len), (254, next, out.len()));
        assert!(found.payload == payload);
        assert_eq!(next_packet(&out[..out.len() - 1], usize::MAX), Ok(None));
    }
}

#[test]
fn what_is_refused() {
    let long = packet(0, &vec![0; MAX_PAYLOAD + 10]);
    assert_eq!(next_packet(&long, MAX_PAYLOAD + 10).map(|p| p.is_some()), Ok(true));
    assert_eq!(next_packet(&long, MAX_PAYLOAD + 9), Err(FrameError::TooLarge { len: MAX_PAYLOAD + 10, limit: MAX_PAYLOAD + 9 }));
    assert_eq!(next_packet(&[17, 0, 0, 0], 16), Err(FrameError::TooLarge { len: 17, limit: 16 }), "before the payload has come");
    let mut wrong = long.clone();
    wrong[HEADER_LEN + MAX_PAYLOAD + 3] = 5;
    assert_eq!(next_packet(&wrong, usize::MAX), Err(FrameError::Sequence { expected: 1, got: 5 }));
}

#[test]
fn every_file_of_the_fuzz_corpus() {
    crate::protocol::fuzz::run_corpus("frame", crate::protocol::fuzz::frame);
}
