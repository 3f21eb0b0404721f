//! A small gzip member that unpacks to 1 GiB.

use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress};

const PIECE_BYTES: usize = 1 << 20;
const PIECES: u32 = 1 << 10;

/// One piece of spaces is compressed and closed by a full flush, so it may be repeated; the checksum is right.
pub(super) fn gzip_bomb() -> Vec<u8> {
    let spaces = vec![b' '; PIECE_BYTES];
    let mut piece = Vec::with_capacity(16 * 1024); // a thousandth of the input, and room to spare
    Compress::new(Compression::best(), false)
        .compress_vec(&spaces, &mut piece, FlushCompress::Full)
        .expect("compressing without a dictionary cannot fail");
    let mut one = Hasher::new();
    one.update(&spaces);
    let mut checksum = Hasher::new();
    let mut bomb = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    for _ in 0..PIECES {
        bomb.extend_from_slice(&piece);
        checksum.combine(&one);
    }
    bomb.extend_from_slice(&[3, 0]); // the empty last block
    bomb.extend_from_slice(&checksum.finalize().to_le_bytes());
    bomb.extend_from_slice(&(PIECES << 20).to_le_bytes());
    bomb
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn the_bomb_is_small_and_unpacks() {
        let bomb = gzip_bomb();
        assert!(bomb.len() < 2 << 20, "{}", bomb.len());
        let mut start = vec![0; 3 << 20];
        flate2::read::GzDecoder::new(bomb.as_slice()).read_exact(&mut start).unwrap();
        assert!(start.iter().all(|byte| *byte == b' '));
    }
}
