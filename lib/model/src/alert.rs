//! An alert as rules send it and the router keeps it (Alertmanager API v2).

use serde::{Deserialize, Serialize};

use crate::Labels;

/// Identity of an alert: the hash of its labels, the same as Alertmanager's, so that receivers that keep alerts by it
/// know them again. 64-bit FNV-1a over name and value of each label, each followed by 0xFF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub u64);

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x100_0000_01b3;

impl Fingerprint {
    pub fn of(labels: &Labels) -> Fingerprint {
        let add = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        let texts = labels.iter().flat_map(|label| [&label.name, &label.value]);
        Fingerprint(texts.fold(FNV_OFFSET, |hash, text| add(text.bytes().fold(hash, add), 0xFF)))
    }

    pub fn parse(text: &str) -> Option<Fingerprint> {
        let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| u64::from_str_radix(text, 16).ok().map(Fingerprint)).flatten()
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub labels: Labels,
    pub annotations: Labels,
    pub starts_at_ms: i64,
    /// The alert is resolved once this has passed.
    pub ends_at_ms: i64,
    pub updated_at_ms: i64,
    pub generator_url: String,
    /// `ends_at_ms` was not sent but assumed (now + resolve_timeout).
    pub timeout: bool,
}

impl Alert {
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.labels)
    }

    pub fn name(&self) -> &str {
        self.labels.get("alertname").unwrap_or("")
    }

    pub fn is_resolved_at(&self, now_ms: i64) -> bool {
        self.ends_at_ms <= now_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_alertmanagers() {
        let check = |pairs: &[(&str, &str)], expected: &str| {
            let fingerprint = Fingerprint::of(&Labels::from_pairs(pairs.iter().copied()));
            assert_eq!(fingerprint.to_string(), expected);
            assert_eq!(Fingerprint::parse(expected), Some(fingerprint));
        };
        check(&[("alertname", "test")], "1f56cb8f931d1bd4");
        assert_eq!(Fingerprint::parse("xyz"), None);
    }
}
