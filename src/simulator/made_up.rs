//! Made-up values that look real and are the same in every run.

use super::signature::hexadecimal;
use jiff::Timestamp;

/// A well-mixed number from a text (FNV-1a).
pub(super) fn hash(text: &str) -> u64 {
    let mixed = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(mixed)
}

/// The next number after `seed` in a well-mixed sequence (splitmix64).
pub(super) fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// An identifier of up to nine digits.
pub(super) fn short_number(seed: u64) -> i64 {
    (seed % 1_000_000_000).cast_signed()
}

/// `sha256:` and 64 digits.
pub(super) fn digest(seed: u64) -> String {
    let mut bytes = [0; 32];
    let mut number = seed;
    for piece in bytes.chunks_exact_mut(8) {
        number = mix(number);
        piece.copy_from_slice(&number.to_be_bytes());
    }
    format!("sha256:{}", hexadecimal(&bytes))
}

/// RFC 3339 in UTC with six fraction digits, as both Huawei services write times.
pub(super) fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
