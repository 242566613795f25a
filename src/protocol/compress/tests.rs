//! What is packed comes out again, however the stream is cut; what lies about itself does not.

use proptest::prelude::*;

use super::*;

const ALGORITHMS: [Algorithm; 3] = [Algorithm::Zlib, Algorithm::Zstd { level: 3 }, Algorithm::Zstd { level: 9 }];

fn packed(algorithm: Algorithm, plain: &[u8]) -> Vec<u8> {
    let (packer, mut out, mut at, mut seq) = (Packer::new(algorithm), Vec::new(), 0, 0u8);
    while at < plain.len() {
        at += packer.pack(&plain[at..], seq, &mut out);
        seq = seq.wrapping_add(1);
    }
    out
}

/// Unpacks `wire`, given in pieces of `cut` bytes to a buffer of `room` bytes.
fn unpacked(algorithm: Algorithm, wire: &[u8], cut: usize, room: usize) -> Result<Vec<u8>, CompressError> {
    let mut unpacker = Unpacker::new(algorithm, true);
    let (mut out, mut plain) = (vec![0; room], Vec::new());
    for mut piece in wire.chunks(cut) {
        loop {
            let step = unpacker.unpack(piece, &mut out)?;
            piece = &piece[step.taken..];
            plain.extend_from_slice(&out[..step.given]);
            if step == Step::default() {
                break;
            }
        }
        assert!(piece.is_empty(), "all of it is used");
    }
    Ok(plain)
}

fn piece(packed: &[u8], seq: u8, plain_len: usize) -> Vec<u8> {
    let ([a, b, c, _], [d, e, f, _]) = ((packed.len() as u32).to_le_bytes(), (plain_len as u32).to_le_bytes());
    [&[a, b, c, seq, d, e, f], packed].concat()
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    packed(Algorithm::Zlib, plain)[PIECE_HEADER_LEN..].to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_cut_of_the_stream_gives_the_same_bytes(
        plain in prop::collection::vec(prop_oneof![Just(0u8), Just(b'a'), any::<u8>()], 0..150_000),
        cut in 1usize..70_000,
        room in 1usize..70_000,
    ) {
        for algorithm in ALGORITHMS {
            let wire = packed(algorithm, &plain);
            prop_assert_eq!(&unpacked(algorithm, &wire, cut, room).unwrap(), &plain);
        }
    }

    #[test]
    fn damaged_streams_end_in_an_error_or_in_bytes(
        plain in prop::collection::vec(any::<u8>(), 60..5_000),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
        cut in any::<u8>(),
    ) {
        for algorithm in ALGORITHMS {
            let mut wire = packed(algorithm, &plain);
            let at = at.index(wire.len());
            wire[at] ^= flip;
            let choice = u8::from(algorithm != Algorithm::Zlib);
            compress_fuzz(&[&[choice, cut], &wire[..]].concat());
        }
    }

    #[test]
    fn any_bytes_at_all(data in prop::collection::vec(any::<u8>(), 0..4_000)) {
        compress_fuzz(&data);
    }
}

#[test]
fn short_pieces_and_noise_are_not_packed() {
    for algorithm in ALGORITHMS {
        assert_eq!(packed(algorithm, b"select 1"), piece(b"select 1", 0, 0));
        let noise: Vec<u8> = (0..100u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        assert_eq!(packed(algorithm, &noise), piece(&noise, 0, 0));
        let long = vec![b'x'; 3 * PIECE_MAX];
        assert!(packed(algorithm, &long).len() < 1000, "three pieces, numbered 0 to 2");
    }
}

#[test]
fn a_lying_length_is_an_error() {
    let plain = vec![b'x'; 1000];
    let body = zlib(&plain);
    for (what, wire, error) in [
        ("one byte less than there is", piece(&body, 0, 999), CompressError::Length),
        ("one byte more than there is", piece(&body, 0, 1001), CompressError::Length),
        ("much more", piece(&body, 0, 0xFF_FFFF), CompressError::Length),
        ("much less", piece(&body, 0, 1), CompressError::Length),
        ("bytes behind the packed ones", piece(&[&body[..], b"more"].concat(), 0, 1000), CompressError::Length),
        ("cut off packed bytes", piece(&body[..body.len() - 1], 0, 1000), CompressError::Length),
        ("no packed bytes", piece(b"not zlib at all", 0, 1000), CompressError::Damaged),
        ("nothing", piece(b"", 0, 0), CompressError::Empty),
        ("a number out of turn", piece(&body, 7, 1000), CompressError::Sequence { expected: 0, got: 7 }),
    ] {
        for (cut, room) in [(1, 1), (3, 500), (10_000, 10_000)] {
            assert_eq!(unpacked(Algorithm::Zlib, &wire, cut, room), Err(error), "{what}, cut {cut}");
        }
    }
}

#[test]
fn a_bomb_comes_out_in_the_callers_buffer_and_ends_where_its_header_says() {
    let mut compress = flate2::Compress::new(flate2::Compression::best(), true);
    let mut bomb = Vec::with_capacity(1 << 20);
    compress.compress_vec(&vec![0; 64 << 20], &mut bomb, flate2::FlushCompress::Finish).unwrap();
    assert!(bomb.len() < 100_000, "64 MiB in {} bytes", bomb.len());
    let mut unpacker = Unpacker::new(Algorithm::Zlib, true);
    let wire = piece(&bomb, 0, 0xFF_FFFF);
    let (mut at, mut given, mut out) = (0, 0, vec![0; 16 * 1024]);
    let error = loop {
        match unpacker.unpack(&wire[at..], &mut out) {
            Ok(step) => {
                at += step.taken;
                given += step.given;
            }
            Err(error) => break error,
        }
    };
    assert_eq!(error, CompressError::Length);
    assert!((0xFF_0000..=0xFF_FFFF).contains(&given), "{given}");
}

#[test]
fn what_is_agreed() {
    let (zlib, zstd) = (Capabilities::COMPRESS, Capabilities::ZSTD_COMPRESSION);
    for (capabilities, level, agreed) in [
        (Capabilities::NONE, Some(3), None),
        (zlib, None, Some(Algorithm::Zlib)),
        (zstd, Some(7), Some(Algorithm::Zstd { level: 7 })),
        (zstd, None, Some(Algorithm::Zstd { level: 3 })),
        (zstd, Some(200), Some(Algorithm::Zstd { level: 3 })),
        (zlib | zstd, Some(7), Some(Algorithm::Zlib)),
    ] {
        assert_eq!(Algorithm::agreed(capabilities, level), agreed);
    }
}
