//! The snapshot file. The input is what stands deflated in it, or a whole file if it begins like one.

use std::io::Write as _;

use container_registry_exporter::state::decode::{DecodeError, decode};
use container_registry_exporter::state::encode::encode;
use flate2::Compression;
use flate2::write::DeflateEncoder;

const IDENTITY: [u8; 32] = [b'i'; 32];
const MAGIC: &[u8] = b"CRE-SNAP";

/// What is read is written and read again as the same; a file that lost or changed a byte is refused.
pub fn run(data: &[u8]) {
    if data.starts_with(MAGIC) {
        check(data);
        return;
    }
    let file = wrapped(data);
    if let Some(written) = check(&file) {
        for at in [0, file.len() / 3, file.len() / 2, file.len() - 1] {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << (data.len() % 8);
            assert!(decode(&damaged, &IDENTITY).is_err(), "byte {at} changed");
            assert!(decode(&file[..at], &IDENTITY).is_err(), "{at} bytes left");
        }
        assert_eq!(decode(&written, &[0; 32]), Err(DecodeError::OtherConfiguration));
    }
}

/// A file that is whole, whatever its content says.
fn wrapped(content: &[u8]) -> Vec<u8> {
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::none());
    deflate.write_all(content).expect("memory takes everything");
    let content = deflate.finish().expect("memory takes everything");
    let length = (52 + content.len() + 4) as u64;
    let mut file = [MAGIC, &1_u32.to_le_bytes(), &length.to_le_bytes(), &IDENTITY, &content].concat();
    file.extend(crc32fast::hash(&file).to_le_bytes());
    file
}

/// The file as we would write it, if it can be read.
fn check(file: &[u8]) -> Option<Vec<u8>> {
    let outcome = decode(file, &IDENTITY);
    assert_eq!(decode(file, &IDENTITY), outcome);
    let memory = outcome.ok()?;
    let written = encode(&memory, &IDENTITY).expect("memory takes everything");
    assert_eq!(decode(&written, &IDENTITY), Ok(memory));
    Some(written)
}
