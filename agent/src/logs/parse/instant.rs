//! RFC 3339 as containers' runtimes write it, at the speed of a few dozen instructions; what is written otherwise is left to
//! the full parser.

const SECONDS_PER_DAY: i64 = 86_400;

/// Nanoseconds since the epoch.
pub fn parse(text: &[u8]) -> Option<i64> {
    quick(text).or_else(|| model::parse_rfc3339_ns(std::str::from_utf8(text).ok()?))
}

/// `YYYY-MM-DDThh:mm:ss[.fraction](Z|±hh:mm)`.
fn quick(text: &[u8]) -> Option<i64> {
    let head: &[u8; 19] = text.first_chunk()?;
    let is_shaped = (head[4], head[7], head[10], head[13], head[16]) == (b'-', b'-', b'T', b':', b':');
    if !is_shaped {
        return None;
    }
    let (year, month, day) = (two(head, 0)? * 100 + two(head, 2)?, two(head, 5)?, two(head, 8)?);
    let (hour, minute, second) = (two(head, 11)?, two(head, 14)?, two(head, 17)?);
    // Leap seconds and days that do not exist are the other parser's to judge.
    if !(1971..2200).contains(&year) || !(1..=12).contains(&month) || !(1..=28).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, zone) = fraction(&text[19..])?;
    let offset_s = match zone {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let size = two(&[*h1, *h2], 0)? * 3600 + two(&[*m1, *m2], 0)? * 60;
            if *sign == b'+' { size } else { -size }
        }
        _ => return None,
    };
    let seconds = days(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - offset_s;
    Some(seconds * 1_000_000_000 + nanos)
}

fn two(text: &[u8], at: usize) -> Option<i64> {
    let (tens, ones) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
}

/// The fraction of a second in nanoseconds, and what follows it.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = text.strip_prefix(b".") else { return Some((0, text)) };
    let len = digits.iter().take_while(|c| c.is_ascii_digit()).count();
    if len == 0 || len > 9 {
        return None;
    }
    let value = digits[..len].iter().fold(0, |value, c| value * 10 + i64::from(c - b'0'));
    Some((value * 10i64.pow(9 - len as u32), &digits[len..]))
}

/// Days since the epoch in the Gregorian calendar, whose years are counted from March here.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 719_469
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, is_quick: bool) {
        assert_eq!(parse(text.as_bytes()), model::parse_rfc3339_ns(text), "{text}");
        assert_eq!(quick(text.as_bytes()).is_some(), is_quick, "{text}");
    }

    #[test]
    fn it_says_what_the_full_parser_says() {
        check("2026-11-20T06:25:00.123456789Z", true);
        check("2026-02-28T23:59:59.5+05:30", true);
        check("2024-01-01T00:00:00-01:00", true);
        check("2024-02-29T00:00:00Z", false);
        check("2026-11-31T00:00:00Z", false);
        check("2026-11-20T06:25:00", false);
        check("2026-11-20 06:25:00Z", false);
        check("", false);
    }

    proptest! {
        #[test]
        fn quick_is_right_wherever_it_answers(seconds in 0i64..7_000_000_000, nanos in 0i64..1_000_000_000) {
            let t_ns = seconds * 1_000_000_000 + nanos;
            let text = chrono::DateTime::from_timestamp_nanos(t_ns).to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
            prop_assert_eq!(parse(text.as_bytes()), Some(t_ns));
        }
    }
}
