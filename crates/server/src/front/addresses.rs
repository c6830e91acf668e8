//! What one address may do: connections, handshakes and requests a second, and bans.
//!
//! All of it is off by default. Behind one IPv4 address of a mobile carrier there are thousands of
//! people, who all come back in the same second after a network failure; no number tells them from
//! an attacker. An operator who knows where their users are can set one.
//!
//! An IPv6 address counts as its /64, which is what one customer is given; one that is an IPv4
//! address in disguise counts as that. `limits.exempt` names networks that nothing here applies to:
//! by default loopback, where a proxy in front would otherwise be everybody.

use super::Limit;
use crate::config::{Bans, Limits};
use crate::worker::Clock;
use clarion_store::Shrink;
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Addresses that are remembered without having a connection. At the bound, those are forgotten
/// that have nothing to their account any more; if none are, new addresses are not remembered:
/// their connections are counted, but neither rates nor bans apply to them.
const ENTRIES_MAX: usize = 65_536;
/// With a full table, how often it is looked through for such.
const SWEEP_US: u64 = 1_000_000;
/// What may come at once: as much as in a second.
const BURST_US: u64 = 1_000_000;
/// When to try again with as many connections as are allowed; nobody knows when one ends.
const RETRY_S: u32 = 10;

/// What is counted as one: an IPv4 address, or 64 bits of an IPv6 address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Net {
    V4(Ipv4Addr),
    V6(u64),
}

/// Addresses and what each has to its account; shared by front and workers, and locked for a moment
/// when somebody comes, goes, or is refused.
#[derive(Debug)]
pub(crate) struct Addresses {
    rules: Rules,
    clock: Clock,
    table: Mutex<Table>,
    /// When the last ban ends that was begun; before the first one, 0.
    banned_until_us: AtomicU64,
    bans: AtomicU64,
}

/// From the settings; 0 is no limit.
#[derive(Debug)]
struct Rules {
    connections: u32,
    handshakes_per_s: u32,
    handshakes_per_s_per_ip: u32,
    requests_per_s_per_ip: u32,
    bans: Bans,
    exempt: Vec<Network>,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Net, Entry>,
    /// Of all addresses.
    handshakes: Bucket,
    swept_us: u64,
}

/// What one address has to its account.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    connections: u32,
    handshakes: Bucket,
    requests: Bucket,
    strikes: u32,
    /// When the first of them was.
    struck_us: u64,
    banned_until_us: u64,
}

/// A rate with bursts, as the time at which everything taken so far is paid for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket(u64);

/// One connection of an address; counted until it is dropped, wherever that happens.
#[derive(Debug)]
pub(crate) struct Admission {
    addresses: Arc<Addresses>,
    net: Net,
}

/// A limit that was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Met {
    pub(crate) limit: Limit,
    pub(crate) value: u32,
    pub(crate) retry_after_s: u32,
}

/// Networks by prefix, as in `10.0.0.0/8` or `2001:db8::/32`; one address without a `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    /// IPv4 as `::ffff:0:0/96`.
    bits: u128,
    prefix: u32,
}

impl Addresses {
    /// `limits` and `bans` were checked.
    pub(crate) fn new(limits: &Limits, bans: Bans, clock: Clock) -> Self {
        let parse = |text: &String| text.parse().expect("the settings were checked");
        Self {
            rules: Rules {
                connections: limits.connections_per_ip,
                handshakes_per_s: limits.handshakes_per_s,
                handshakes_per_s_per_ip: limits.handshakes_per_s_per_ip,
                requests_per_s_per_ip: limits.requests_per_s_per_ip,
                bans,
                exempt: limits.exempt.iter().map(parse).collect(),
            },
            clock,
            table: Mutex::default(),
            banned_until_us: AtomicU64::new(0),
            bans: AtomicU64::new(0),
        }
    }

    /// What a peer counts as; `None` if nothing here applies to it.
    pub(crate) fn net(&self, peer: IpAddr) -> Option<Net> {
        let rules = &self.rules;
        let idle = rules.connections == 0
            && rules.handshakes_per_s_per_ip == 0
            && rules.requests_per_s_per_ip == 0
            && rules.bans.after == 0;
        if idle || rules.exempt.iter().any(|network| network.contains(peer)) {
            return None;
        }
        Some(match peer.to_canonical() {
            IpAddr::V4(address) => Net::V4(address),
            IpAddr::V6(address) => Net::V6((address.to_bits() >> 64) as u64),
        })
    }

    /// How long the address will be refused for, seconds; `None` if it is not banned.
    pub(crate) fn banned(&self, net: Net) -> Option<u32> {
        let now_us = self.clock.mono_us();
        if self.banned_until_us.load(Relaxed) <= now_us {
            return None;
        }
        let until_us = self.lock().entries.get(&net)?.banned_until_us;
        (until_us > now_us).then(|| seconds(until_us - now_us))
    }

    /// One more handshake, which is good so far; `net` is `None` for one that is exempt.
    ///
    /// # Errors
    /// The limit that it met.
    pub(crate) fn handshake(self: &Arc<Self>, net: Option<Net>) -> Result<Option<Admission>, Met> {
        let (now_us, rules) = (self.clock.mono_us(), &self.rules);
        if net.is_none() && rules.handshakes_per_s == 0 {
            return Ok(None);
        }
        let mut table = self.lock();
        let table = &mut *table;
        let entry = net.and_then(|net| table.entry(net, now_us, rules));
        let before = entry.as_ref().map(|entry| entry.handshakes);
        if let Some(entry) = entry {
            if rules.connections > 0 && entry.connections >= rules.connections {
                let (limit, value) = (Limit::ConnectionsPerIp, rules.connections);
                return Err(Met { limit, value, retry_after_s: RETRY_S });
            }
            let rate = rules.handshakes_per_s_per_ip;
            entry.handshakes.take(rate, now_us).map_err(|retry_after_s| Met {
                limit: Limit::HandshakesPerIp,
                value: rate,
                retry_after_s,
            })?;
        }
        let rate = rules.handshakes_per_s;
        let all = table.handshakes.take(rate, now_us);
        if let Err(retry_after_s) = all {
            // The address is not to pay for the others.
            if let (Some(net), Some(before)) = (net, before)
                && let Some(entry) = table.entries.get_mut(&net)
            {
                entry.handshakes = before;
            }
            return Err(Met { limit: Limit::Handshakes, value: rate, retry_after_s });
        }
        let Some(net) = net else { return Ok(None) };
        table.entries.entry(net).or_default().connections += 1;
        Ok(Some(Admission { addresses: self.clone(), net }))
    }

    /// One more HTTP request that is no handshake.
    ///
    /// # Errors
    /// The limit that it met.
    pub(crate) fn request(&self, net: Option<Net>) -> Result<(), Met> {
        let value = self.rules.requests_per_s_per_ip;
        let Some(net) = net.filter(|_| value > 0) else { return Ok(()) };
        let now_us = self.clock.mono_us();
        let mut table = self.lock();
        let Some(entry) = table.entry(net, now_us, &self.rules) else { return Ok(()) };
        let limit = Limit::RequestsPerIp;
        entry.requests.take(value, now_us).map_err(|retry_after_s| Met {
            limit,
            value,
            retry_after_s,
        })
    }

    /// The address broke a rule; after enough of that it is banned for a while.
    pub(crate) fn strike(&self, net: Option<Net>) {
        let bans = self.rules.bans;
        let Some(net) = net.filter(|_| bans.after > 0) else { return };
        let now_us = self.clock.mono_us();
        let mut table = self.lock();
        let Some(entry) = table.entry(net, now_us, &self.rules) else { return };
        let over = now_us - entry.struck_us.min(now_us) > bans.within_us();
        if entry.strikes == 0 || over {
            (entry.strikes, entry.struck_us) = (0, now_us);
        }
        entry.strikes += 1;
        if entry.strikes < bans.after || entry.banned_until_us > now_us {
            return;
        }
        (entry.strikes, entry.struck_us) = (0, now_us);
        entry.banned_until_us = now_us + bans.duration_us();
        let until_us = entry.banned_until_us;
        drop(table);
        self.banned_until_us.fetch_max(until_us, Relaxed);
        self.bans.fetch_add(1, Relaxed);
        tracing::warn!(address = %net, strikes = bans.after, duration = %bans.duration, "address banned");
    }

    /// Forgets addresses that have nothing to their account any more.
    pub(crate) fn sweep(&self) {
        let now_us = self.clock.mono_us();
        self.lock().sweep(now_us, &self.rules);
    }

    /// Bans since the start, addresses that are banned now, and all that are remembered.
    pub(crate) fn counts(&self) -> (u64, usize, usize) {
        let now_us = self.clock.mono_us();
        let table = self.lock();
        let banned = table.entries.values().filter(|entry| entry.banned_until_us > now_us).count();
        (self.bans.load(Relaxed), banned, table.entries.len())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn entry(&mut self, net: Net, now_us: u64, rules: &Rules) -> Option<&mut Entry> {
        if self.entries.len() >= ENTRIES_MAX && !self.entries.contains_key(&net) {
            if now_us - self.swept_us.min(now_us) >= SWEEP_US {
                self.sweep(now_us, rules);
            }
            if self.entries.len() >= ENTRIES_MAX {
                return None;
            }
        }
        Some(self.entries.entry(net).or_default())
    }

    fn sweep(&mut self, now_us: u64, rules: &Rules) {
        self.swept_us = now_us;
        let within_us = rules.bans.within_us();
        self.entries.retain(|_, entry| !entry.is_settled(now_us, within_us));
        self.entries.shrink();
    }
}

impl Entry {
    fn is_settled(&self, now_us: u64, within_us: u64) -> bool {
        self.connections == 0
            && self.handshakes.0 <= now_us
            && self.requests.0 <= now_us
            && self.banned_until_us <= now_us
            && (self.strikes == 0 || now_us - self.struck_us.min(now_us) > within_us)
    }
}

impl Bucket {
    /// Takes one, or says in how many seconds there will be one. A rate of 0 is no limit.
    pub(crate) fn take(&mut self, per_s: u32, now_us: u64) -> Result<(), u32> {
        if per_s == 0 {
            return Ok(());
        }
        let paid_us = self.0.max(now_us) + 1_000_000 / u64::from(per_s);
        let over_us = (paid_us - now_us).saturating_sub(BURST_US);
        if over_us > 0 {
            return Err(seconds(over_us));
        }
        self.0 = paid_us;
        Ok(())
    }
}

/// Whole seconds, rounded up, at least one.
fn seconds(us: u64) -> u32 {
    u32::try_from(us.div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1)
}

impl Admission {
    /// The connection ended by breaking a rule.
    pub(crate) fn strike(&self) {
        self.addresses.strike(Some(self.net));
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut table = self.addresses.lock();
        if let Some(entry) = table.entries.get_mut(&self.net) {
            entry.connections -= 1;
        }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6(bits) => {
                write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(*bits) << 64))
            }
        }
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Network {
    pub(crate) fn contains(self, address: IpAddr) -> bool {
        (bits(address) ^ self.bits).leading_zeros() >= self.prefix
    }
}

/// IPv4 as its IPv6 address.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule = || format!("`{text}` is no network: write 10.0.0.0/8 or 2001:db8::/32");
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| rule())?;
        let (width, before) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|p| *p <= width).ok_or_else(rule)?,
            None => width,
        };
        Ok(Self { bits: bits(address), prefix: before + prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Span;

    fn addresses(set: impl FnOnce(&mut Limits, &mut Bans)) -> Arc<Addresses> {
        let (mut limits, mut bans) = (Limits::default(), Bans::default());
        set(&mut limits, &mut bans);
        Arc::new(Addresses::new(&limits, bans, Clock::start()))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn without_limits_nobody_is_looked_at() {
        let addresses = addresses(|_, _| {});
        assert_eq!(addresses.net(ip("192.0.2.1")), None);
        assert!(addresses.handshake(None).unwrap().is_none());
        assert_eq!(addresses.counts(), (0, 0, 0));
    }

    #[test]
    fn an_ipv6_address_is_its_network_and_loopback_is_exempt() {
        let addresses = addresses(|limits, _| limits.connections_per_ip = 1);
        let net = |text| addresses.net(ip(text));
        assert_eq!(net("2001:db8:0:1::1"), net("2001:db8:0:1:ffff::2"));
        assert_ne!(net("2001:db8:0:1::1"), net("2001:db8:0:2::1"));
        assert_eq!(net("::ffff:192.0.2.1"), net("192.0.2.1"));
        assert_eq!((net("127.0.0.9"), net("::1"), net("::ffff:127.0.0.1")), (None, None, None));
        assert_eq!(net("2001:db8:0:1::1").unwrap().to_string(), "2001:db8:0:1::/64");
    }

    #[test]
    fn connections_are_counted_until_they_are_dropped() {
        let addresses = addresses(|limits, _| limits.connections_per_ip = 2);
        let net = addresses.net(ip("192.0.2.1"));
        let first = addresses.handshake(net).unwrap();
        let _second = addresses.handshake(net).unwrap();
        let met = addresses.handshake(net).unwrap_err();
        assert_eq!((met.limit, met.value), (Limit::ConnectionsPerIp, 2));
        assert!(addresses.handshake(addresses.net(ip("192.0.2.2"))).is_ok());
        drop(first);
        assert!(addresses.handshake(net).is_ok());
    }

    #[test]
    fn a_rate_allows_a_burst_of_one_second_and_says_when_to_come_back() {
        let mut bucket = Bucket::default();
        let start = 5_000_000;
        assert!((0..10).all(|_| bucket.take(10, start).is_ok()));
        assert_eq!(bucket.take(10, start), Err(1));
        assert!(bucket.take(10, start + 100_000).is_ok());
        assert!(bucket.take(10, start + 100_001).is_err());
        assert!((0..10).all(|_| bucket.take(10, start + 9_000_000).is_ok()));
        assert!((0..1_000).all(|_| Bucket::default().take(0, 0).is_ok()));
        let mut slow = Bucket::default();
        assert!(slow.take(1, start).is_ok());
        assert_eq!(slow.take(1, start), Err(1));
    }

    #[test]
    fn an_address_does_not_pay_for_what_all_others_use_up() {
        let addresses = addresses(|limits, _| {
            limits.handshakes_per_s = 3;
            limits.handshakes_per_s_per_ip = 2;
        });
        let (one, other) = (addresses.net(ip("192.0.2.1")), addresses.net(ip("192.0.2.2")));
        assert!(addresses.handshake(one).is_ok() && addresses.handshake(one).is_ok());
        assert_eq!(addresses.handshake(one).unwrap_err().limit, Limit::HandshakesPerIp);
        assert!(addresses.handshake(other).is_ok());
        assert_eq!(addresses.handshake(other).unwrap_err().limit, Limit::Handshakes);
        assert_eq!(addresses.handshake(None).unwrap_err().limit, Limit::Handshakes);
        let mine = addresses.lock().entries[&other.unwrap()].handshakes.0;
        assert!(mine < addresses.clock.mono_us() + 600_000, "one taken, not two");
    }

    #[test]
    fn enough_strikes_within_the_time_are_a_ban_that_ends() {
        let addresses = addresses(|_, bans| {
            *bans = Bans { after: 3, within: Span::from_ms(60_000), duration: Span::from_ms(50) };
        });
        let net = addresses.net(ip("192.0.2.1")).unwrap();
        (0..2).for_each(|_| addresses.strike(Some(net)));
        assert_eq!(addresses.banned(net), None);
        addresses.strike(Some(net));
        assert_eq!(addresses.banned(net), Some(1));
        assert_eq!(addresses.banned(addresses.net(ip("192.0.2.2")).unwrap()), None);
        assert_eq!(addresses.counts().0, 1);
        while addresses.banned(net).is_some() {
            std::thread::yield_now();
        }
        addresses.sweep();
        assert_eq!(addresses.counts(), (1, 0, 0), "forgotten, but for the number");
    }

    #[test]
    fn strikes_that_are_far_apart_are_no_ban() {
        let addresses = addresses(|_, bans| {
            *bans = Bans { after: 2, within: Span::from_ms(0), duration: Span::from_ms(60_000) };
        });
        let net = addresses.net(ip("192.0.2.1")).unwrap();
        for _ in 0..5 {
            addresses.strike(Some(net));
            let struck = addresses.clock.mono_us();
            while addresses.clock.mono_us() <= struck + 1 {}
        }
        assert_eq!(addresses.banned(net), None);
    }

    #[test]
    fn a_full_table_forgets_who_is_settled_and_else_takes_nobody_new_but_connections() {
        let addresses = addresses(|limits, bans| {
            limits.connections_per_ip = 1;
            bans.after = 100;
        });
        let net = |n: usize| Net::V6(n as u64);
        (0..ENTRIES_MAX + 10).for_each(|n| addresses.strike(Some(net(n))));
        assert_eq!(addresses.counts().2, ENTRIES_MAX);
        let stay = addresses.handshake(Some(net(ENTRIES_MAX + 5))).unwrap();
        assert_eq!(addresses.counts().2, ENTRIES_MAX + 1);
        assert!(addresses.handshake(Some(net(ENTRIES_MAX + 5))).is_err(), "it is counted");
        drop(stay);
        for entry in addresses.lock().entries.values_mut() {
            entry.strikes = 0;
        }
        addresses.sweep();
        assert_eq!(addresses.counts().2, 0);
    }

    #[test]
    fn networks_are_prefixes() {
        let network = |text: &str| text.parse::<Network>().unwrap();
        assert!(network("10.0.0.0/8").contains(ip("10.9.8.7")));
        assert!(network("10.0.0.0/8").contains(ip("::ffff:10.9.8.7")));
        assert!(!network("10.0.0.0/8").contains(ip("11.0.0.0")));
        assert!(network("0.0.0.0/0").contains(ip("203.0.113.9")));
        assert!(!network("0.0.0.0/0").contains(ip("2001:db8::1")));
        assert!(network("2001:db8::/32").contains(ip("2001:db8:ffff::1")));
        assert!(network("192.0.2.1").contains(ip("192.0.2.1")));
        assert!(!network("192.0.2.1").contains(ip("192.0.2.2")));
        for bad in ["", "10", "10.0.0.0/33", "::/129", "10.0.0.0/x", "a/8", "10.0.0.0/-1"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
