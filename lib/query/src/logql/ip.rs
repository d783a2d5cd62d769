//! `ip("…")`: addresses within a text that are one, in a network, or in a range.

use std::net::IpAddr;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct IpMatcher {
    /// As it was written.
    pub pattern: String,
    first: IpAddr,
    last: IpAddr,
}

impl IpMatcher {
    /// An address, a network (`10.0.0.0/8`), or a range (`10.0.0.1-10.0.0.9`).
    pub fn parse(pattern: &str) -> Result<IpMatcher, String> {
        let bounds = if let Ok(one) = pattern.parse::<IpAddr>() {
            Some((one, one))
        } else if let Some((address, bits)) = pattern.split_once('/') {
            network(address, bits)
        } else if let Some((first, last)) = pattern.split_once('-') {
            range(first, last)
        } else {
            None
        };
        let (first, last) = bounds.ok_or_else(|| format!("ip: invalid pattern: {pattern:?}"))?;
        Ok(IpMatcher { pattern: pattern.to_owned(), first, last })
    }

    fn holds(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.first <= address && address <= self.last
    }

    /// Whether a text holds an address that matches.
    pub fn is_in(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let len = if starts_v4(rest) {
                span(rest, |byte| byte.is_ascii_digit() || byte == b'.')
            } else if starts_v6(rest) {
                span(rest, |byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
            } else {
                at += 1;
                continue;
            };
            if text[at..at + len].parse().is_ok_and(|address| self.holds(address)) {
                return true;
            }
            at += len + 1;
        }
        false
    }
}

fn network(address: &str, bits: &str) -> Option<(IpAddr, IpAddr)> {
    let bits: u32 = bits.parse().ok()?;
    match address.parse().ok()? {
        IpAddr::V4(v4) => {
            let host = u32::MAX.checked_shr(bits).unwrap_or(0);
            let first = v4.to_bits() & !host;
            (bits <= 32).then_some((IpAddr::V4(first.into()), IpAddr::V4((first | host).into())))
        }
        IpAddr::V6(v6) => {
            let host = u128::MAX.checked_shr(bits).unwrap_or(0);
            let first = v6.to_bits() & !host;
            (bits <= 128).then_some((IpAddr::V6(first.into()), IpAddr::V6((first | host).into())))
        }
    }
}

fn range(first: &str, last: &str) -> Option<(IpAddr, IpAddr)> {
    let (first, last): (IpAddr, IpAddr) = (first.parse().ok()?, last.parse().ok()?);
    (first.is_ipv4() == last.is_ipv4() && first <= last).then_some((first, last))
}

fn span(bytes: &[u8], accepts: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| !accepts(*byte)).unwrap_or(bytes.len())
}

/// A digit with a dot within the next three bytes.
fn starts_v4(bytes: &[u8]) -> bool {
    bytes.len() > 3 && bytes[0].is_ascii_digit() && bytes[1..4].contains(&b'.')
}

/// Up to four hexadecimal digits and a colon, or two colons and a digit.
fn starts_v6(bytes: &[u8]) -> bool {
    if bytes.len() < 5 {
        return false;
    }
    let digits = span(&bytes[..5], |byte| byte.is_ascii_hexdigit());
    let is_group = (1..=4).contains(&digits) && bytes[digits] == b':';
    is_group || (bytes[..2] == *b"::" && bytes[2].is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(IpMatcher::parse(pattern).expect("a pattern").is_in(text), expected, "{pattern} in {text}");
    }

    #[test]
    fn addresses_within_texts() {
        check("192.168.0.1", "from 192.168.0.1:80 to x", true);
        check("192.168.0.1", "from 192.168.0.11", false);
        check("192.168.0.0/16", "192.168.255.1", true);
        check("0.0.0.0/0", "v 1.2.3.4", true);
        check("10.0.0.1-10.0.0.9", "10.0.0.9", true);
        check("10.0.0.1-10.0.0.9", "10.0.0.10", false);
        check("2001:db8::/32", "peer 2001:db8::1 up", true);
        check("::1", "at ::1 now", true);
        check("10.0.0.0/8", "1.2 é 10.1.1.1", true);
        check("10.0.0.0/8", "", false);
        for bad in ["", "x", "1.2.3.4/33", "1.2.3.9-1.2.3.1", "1.2.3.4-::1"] {
            assert!(IpMatcher::parse(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_searched(text in "([0-9a-f.: ]|é){0,40}") {
            IpMatcher::parse("::/0").expect("a pattern").is_in(&text);
        }
    }
}
