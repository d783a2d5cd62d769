//! Routers that share one topic (Kafka): who is there, and whose a group is.
//!
//! # The design
//! All routers read the whole topic in one order, so each has the same view; what one does others see. There is no
//! consensus beside that order:
//!
//! - **Who is there.** A router writes a beat every [`BEAT_INTERVAL`]. Whoever has written more than [`MISSED_BEATS`] of
//!   its own since another's last one writes that the other is gone, naming that last beat; had the other beaten since, it
//!   changes nothing. A router that stops in order says so itself. Silence is counted in one's own acknowledged beats: where
//!   the topic is away for everybody, nobody is gone.
//! - **Whose a group is.** Of those that are there, the one with the highest hash of itself and the group's key
//!   (rendezvous): when one goes only its groups move.
//! - **Who tells.** The owner writes the attempt, and waits until it has read it back. An attempt counts only if it says
//!   what the line was told last ([`crate::dedup::Told::accepts`]), and if no other router that is there has one under way:
//!   of two that meet the first on the topic wins, and the other learns it before it sends anything.
//! - **Taking over.** Once the owner is gone, a new one has read everything that it wrote before: the notification log to
//!   its end. What was under way is repeated under the same key, once; what was told is not. The old one's lease
//!   ([`LEASE`], counted from before its beat) has run out by then: without it nothing is sent.
//!
//! A router's name is kept beside its state: after a restart it goes on where it was. From `kill -9` to the new owner's
//! notification: five beats at most, a beat's phase, and [`RECHECK_MS`].

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

pub const BEAT_INTERVAL: Duration = Duration::from_secs(2);
/// Own beats without one of another's, before it is gone.
const MISSED_BEATS: u32 = 4;
/// How long after its last beat a router may tell: less than the others wait, whoever's clock is fast.
pub const LEASE: Duration = Duration::from_secs(7);
/// After which a router looks again at what another should have told.
pub const RECHECK_MS: i64 = 2_000;

/// A view of the topic, but for the counts of what was missed.
#[derive(Debug, Default)]
pub struct Members {
    /// The last beat of each.
    beats: BTreeMap<String, u64>,
    missed: HashMap<String, u32>,
}

impl Members {
    pub fn alive(&mut self, router: String, beat: u64) {
        self.missed.remove(&router);
        self.beats.insert(router, beat);
    }

    /// Changes nothing where the router has beaten since.
    pub fn gone(&mut self, router: &str, beat: u64) {
        if self.beats.get(router) == Some(&beat) {
            self.beats.remove(router);
            self.missed.remove(router);
        }
    }

    pub fn contains(&self, router: &str) -> bool {
        self.beats.contains_key(router)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.beats.iter().map(|(router, beat)| (router.as_str(), *beat))
    }

    /// Whose a group is.
    pub fn owner(&self, group_key: &str) -> Option<&str> {
        self.beats.keys().map(String::as_str).max_by_key(|router| weight(router, group_key))
    }

    /// After a beat of one's own: who has been silent for too long, and its last beat.
    pub fn silent(&mut self, own: &str) -> Vec<(String, u64)> {
        let mut silent = Vec::new();
        for (router, beat) in self.beats.iter().filter(|(router, _)| *router != own) {
            let missed = self.missed.entry(router.clone()).or_default();
            *missed += 1;
            if *missed > MISSED_BEATS {
                silent.push((router.clone(), *beat));
            }
        }
        silent
    }
}

/// FNV-1a of both, mixed (the finalizer of MurmurHash3) so that keys that differ in their end are spread.
fn weight(router: &str, group_key: &str) -> u64 {
    let bytes = group_key.bytes().chain([0xFF]).chain(router.bytes());
    let mut hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(routers: &[&str]) -> Members {
        let mut members = Members::default();
        routers.iter().for_each(|router| members.alive((*router).to_owned(), 1));
        members
    }

    /// How many of 1,000 groups each router owns.
    fn shares(members: &Members) -> BTreeMap<&str, Vec<usize>> {
        let mut shares: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for i in 0..1_000 {
            let owner = members.owner(&format!("{{}}:{{alertname=\"A{i}\"}}")).expect("somebody");
            shares.entry(owner).or_default().push(i);
        }
        shares
    }

    #[test]
    fn groups_are_shared_and_only_those_of_one_that_goes_move() {
        let three = members(&["a", "b", "c"]);
        let before = shares(&three);
        assert!(before.values().all(|groups| (250..420).contains(&groups.len())), "{before:?}");
        let mut two = members(&["a", "b", "c"]);
        two.gone("c", 1);
        let after = shares(&two);
        for router in ["a", "b"] {
            assert!(before[router].iter().all(|group| after[router].contains(group)), "{router} keeps its groups");
        }
        assert_eq!(after.values().map(Vec::len).sum::<usize>(), 1_000);
        assert_eq!(members(&[]).owner("x"), None);
    }

    /// Part of the protocol: routers of two versions must agree.
    #[test]
    fn the_hash_does_not_change() {
        assert_eq!(weight("a", r#"{}:{alertname="Down"}"#), 14_345_735_575_215_689_138);
    }

    #[test]
    fn silence_is_counted_in_ones_own_beats() {
        let mut members = members(&["a", "b"]);
        for _ in 0..MISSED_BEATS {
            assert_eq!(members.silent("a"), []);
        }
        members.alive("b".to_owned(), 2);
        for _ in 0..MISSED_BEATS {
            assert_eq!(members.silent("a"), []);
        }
        assert_eq!(members.silent("a"), [("b".to_owned(), 2)]);
        members.gone("b", 1);
        assert!(members.contains("b"), "it has beaten since");
        members.gone("b", 2);
        assert!(!members.contains("b"));
    }
}
