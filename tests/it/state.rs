//! The snapshot: what is written is read again, and nothing else is believed.

mod files;
mod kill;
mod memories;

use container_registry_exporter::state::decode::{DecodeError, decode};
use container_registry_exporter::state::encode::encode;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use proptest::prelude::*;
use std::io::Write as _;

use memories::{any_memory, sample};

const IDENTITY: [u8; 32] = [7; 32];

/// A file of `content` that proves to be whole.
fn sealed(content: &[u8]) -> Vec<u8> {
    let mut bytes = b"CRE-SNAP\x02\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend(IDENTITY);
    let mut deflate = DeflateEncoder::new(bytes, Compression::fast());
    deflate.write_all(content).unwrap();
    seal(deflate.finish().unwrap())
}

/// Gives a file without checksum its length and checksum.
fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = bytes.len() as u64 + 4;
    bytes[12..20].copy_from_slice(&length.to_le_bytes());
    let checksum = crc32fast::hash(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

fn refusal(bytes: &[u8]) -> DecodeError {
    decode(bytes, &IDENTITY).expect_err("must be refused")
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(memory in any_memory()) {
        let bytes = encode(&memory, &IDENTITY).unwrap();
        prop_assert_eq!(decode(&bytes, &IDENTITY), Ok(memory));
    }

    #[test]
    fn any_content_is_decoded_or_refused(content in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&sealed(&content), &IDENTITY);
        prop_assert!(decode(&content, &IDENTITY).is_err());
    }

    /// Content that is nearly right comes further than noise does.
    #[test]
    fn damaged_content_that_is_sealed_again_is_decoded_or_refused(
        memory in any_memory(),
        place in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let bytes = encode(&memory, &IDENTITY).unwrap();
        let mut content = Vec::new();
        let mut inflate = flate2::write::DeflateDecoder::new(&mut content);
        inflate.write_all(&bytes[52..bytes.len() - 4]).unwrap();
        inflate.finish().unwrap();
        let place = place.index(content.len());
        content[place] = byte;
        let _ = decode(&sealed(&content), &IDENTITY);
    }
}

#[test]
fn is_refused_when_cut_off_anywhere() {
    let bytes = encode(&sample(40, 5), &IDENTITY).unwrap();
    for part in 0..64 {
        let cut = &bytes[..bytes.len() * part / 64];
        let error = refusal(cut);
        assert!(matches!(error, DecodeError::Foreign | DecodeError::Damaged), "{part}: {error}");
    }
    assert_eq!(refusal(&bytes[..bytes.len() - 1]), DecodeError::Damaged);
}

#[test]
fn is_refused_when_a_bit_is_flipped_anywhere() {
    let bytes = encode(&sample(40, 5), &IDENTITY).unwrap();
    for part in 0..64 {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[bytes.len() * part / 64] ^= 1 << bit;
            refusal(&flipped);
        }
    }
    // And in all of the header, where each part is judged by itself.
    for place in 0..60 {
        let mut flipped = bytes.clone();
        flipped[place] ^= 1;
        refusal(&flipped);
    }
}

#[test]
fn is_refused_with_something_behind_it() {
    let bytes = encode(&sample(1, 1), &IDENTITY).unwrap();
    assert_eq!(refusal(&[bytes.clone(), vec![0]].concat()), DecodeError::Damaged);
    assert_eq!(refusal(&[bytes.clone(), bytes].concat()), DecodeError::Damaged);
}

#[test]
fn foreign_files_other_versions_and_other_configurations_are_told_apart() {
    let bytes = encode(&sample(1, 1), &IDENTITY).unwrap();
    for foreign in [&b""[..], b"CRE", b"\x7fELF\x02\x01\x01\0", b"{\"a\": 1}"] {
        assert_eq!(refusal(foreign), DecodeError::Foreign);
    }
    for version in [0_u32, 1, 3, u32::MAX] {
        let mut other = bytes[..bytes.len() - 4].to_vec();
        other[8..12].copy_from_slice(&version.to_le_bytes());
        assert_eq!(refusal(&seal(other)), DecodeError::Version(version));
    }
    assert_eq!(decode(&bytes, &[8; 32]), Err(DecodeError::OtherConfiguration));
}

#[test]
fn lengths_that_promise_more_than_there_is_take_no_memory() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]; // u64::MAX
    let one = 1_i64.to_le_bytes();
    let list_of_rows = [&one[..], &[1], &one, &[0], &[1], &[0], &one, &[0], &huge].concat();
    let list_of_lists = [&one[..], &[1], &one, &[0], &huge].concat();
    let text = [&one[..], &[1], &one, &[0], &[1], &huge].concat();
    let text_within_the_budget = [&one[..], &[1], &one, &[0], &[1], &[0xff, 0xff, 0xff, 0x7f]].concat();
    let successes = [&one[..], &[0], &[0], &huge].concat();
    for content in [list_of_rows, list_of_lists, text, text_within_the_budget, successes] {
        let error = refusal(&sealed(&content));
        assert!(matches!(error, DecodeError::Senseless(_)), "{error}");
    }
    // A number of more than 64 bits.
    let number = [&one[..], &[1], &one, &[0xff; 9], &[0x02]].concat();
    assert_eq!(refusal(&sealed(&number)), DecodeError::Senseless("a number is too long"));
}

#[test]
fn a_small_file_that_unpacks_to_much_is_given_up() {
    // Tags of one repository of which nothing is given, each one of the smallest things there are.
    let one = 1_i64.to_le_bytes();
    let row = [&[0; 14][..], &[1, 0, 0]].concat();
    let list = [&[0][..], &one, &[0], &[1], &row, &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
    let mut content = [&one[..], &[1], &one, &[0], &[1], &list].concat();
    content.resize(content.len() + (8 << 20), 0);
    assert_eq!(refusal(&sealed(&content)), DecodeError::Senseless("it is too large"));
}

#[test]
fn what_would_show_a_series_twice_is_refused() {
    let order = DecodeError::Senseless("something is out of order or there twice");
    let mut memory = sample(2, 2);
    memory.repositories.as_mut().unwrap().listings[0].rows.reverse();
    assert_eq!(refusal(&encode(&memory, &IDENTITY).unwrap()), order);
    let mut memory = sample(2, 2);
    let rows = &mut memory.repositories.as_mut().unwrap().listings[0].rows;
    rows[1] = rows[0].clone();
    assert_eq!(refusal(&encode(&memory, &IDENTITY).unwrap()), order);
    let mut memory = sample(1, 1);
    let lists = &mut memory.repositories.as_mut().unwrap().listings;
    lists.push(lists[0].clone());
    assert_eq!(refusal(&encode(&memory, &IDENTITY).unwrap()), order);
}

#[test]
fn a_tag_costs_a_dozen_bytes() {
    let bytes = encode(&sample(1000, 10), &IDENTITY).unwrap();
    assert!(bytes.len() < 300_000, "{}", bytes.len());
}
