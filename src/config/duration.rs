//! Durations as a user writes them: `"30s"`.

use std::time::Duration;

/// Reads a whole number with one of the units `ms`, `s`, `m`, `h` and `d`, nothing between or around them; `None` for
/// anything else and for more than ten years (clocks must not overflow when it is added to them).
pub fn parse(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = UNITS.iter().find(|u| u.name == unit)?;
    let milliseconds = number.parse::<u64>().ok()?.checked_mul(unit.milliseconds)?;
    (milliseconds <= LONGEST).then(|| Duration::from_millis(milliseconds))
}

/// Writes a duration in the form that [`parse`] reads; what is below a millisecond is dropped.
pub fn write(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    for unit in &UNITS {
        if milliseconds != 0 && milliseconds.is_multiple_of(u128::from(unit.milliseconds)) {
            return format!("{}{}", milliseconds / u128::from(unit.milliseconds), unit.name);
        }
    }
    "0s".to_owned()
}

struct Unit {
    name: &'static str,
    milliseconds: u64,
}

/// The longest first, so that the first that divides is the one to write.
const UNITS: [Unit; 5] = [
    Unit { name: "d", milliseconds: 86_400_000 },
    Unit { name: "h", milliseconds: 3_600_000 },
    Unit { name: "m", milliseconds: 60_000 },
    Unit { name: "s", milliseconds: 1_000 },
    Unit { name: "ms", milliseconds: 1 },
];

/// Ten years in milliseconds.
const LONGEST: u64 = 3_650 * 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit() {
        let expected =
            [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("1d", 86_400_000)];
        for (text, milliseconds) in expected {
            assert_eq!(parse(text), Some(Duration::from_millis(milliseconds)), "{text}");
            assert_eq!(write(Duration::from_millis(milliseconds)), text);
        }
    }

    #[test]
    fn refuses_what_is_not_one_number_with_one_unit() {
        for text in ["", "30", "s", "1h30m", "1.5h", "-1s", "+1s", " 1s", "1 s", "1S", "1w", "9999999d", "٣s"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("99999999999999999999999s"), None);
    }

    #[test]
    fn zero_can_be_read_and_written() {
        assert_eq!(parse("0s"), Some(Duration::ZERO));
        assert_eq!(write(Duration::ZERO), "0s");
    }
}
