//! Names in place of what must not be told: the same key gives the same name for the same thing, and
//! without the key nothing leads back.
//!
//! Addresses keep their prefixes: two that share n leading bits share n leading bits afterwards, and no
//! more. The tree of all addresses of a family is walked from the root; at each branching a keyed hash of
//! the bits so far decides whether the branches are swapped (the principle of Xu, Fan, Ammar and Moon,
//! "Prefix-Preserving IP Address Anonymization", 2002). That is one to one, whatever the hash.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Names in place of others, by one key.
pub struct Pseudonyms {
    keyed: Hmac<Sha256>,
    /// Addresses come again and again.
    addresses: HashMap<IpAddr, IpAddr>,
}

/// Addresses are forgotten beyond so many, so that memory stays bounded.
const REMEMBERED: usize = 65_536;

/// A range of addresses with a meaning of its own. No branch above it is swapped: its addresses stay in it,
/// and no other gets in.
struct Special {
    /// The bits of its prefix, from the highest on.
    prefix: u128,
    len: u32,
    /// Its addresses stay what they are, as they tell of no machine.
    stays: bool,
}

const fn special_v4(address: [u8; 4], len: u32, stays: bool) -> Special {
    Special { prefix: (u32::from_be_bytes(address) as u128) << 96, len, stays }
}

const fn special_v6(first: u16, last: u16, len: u32, stays: bool) -> Special {
    Special { prefix: ((first as u128) << 112) | last as u128, len, stays }
}

/// Unspecified, loopback; multicast stays multicast.
const SPECIAL_V4: &[Special] = &[
    special_v4([0, 0, 0, 0], 32, true),
    special_v4([127, 0, 0, 0], 8, true),
    special_v4([224, 0, 0, 0], 4, false),
];

/// Unspecified, loopback, IPv4 in IPv6 (never hashed as IPv6); what is of one link or multicast stays so.
const SPECIAL_V6: &[Special] = &[
    special_v6(0, 0, 128, true),
    special_v6(0, 1, 128, true),
    Special { prefix: 0xffff << 32, len: 96, stays: true },
    special_v6(0xfe80, 0, 10, false),
    special_v6(0xff00, 0, 8, false),
];

/// The first `len` bits.
const fn leading(bits: u128, len: u32) -> u128 {
    if len == 0 { 0 } else { bits & (u128::MAX << (128 - len)) }
}

impl Pseudonyms {
    /// Those of this key, of any length.
    pub fn new(key: &[u8]) -> Self {
        let derived = Sha256::new_with_prefix(b"sockrec pseudonyms").chain_update(key).finalize();
        // As long as a block of the hash, which HMAC fills up with zeros.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&derived);
        Self { keyed: Hmac::new(&block.into()), addresses: HashMap::new() }
    }

    fn hash(&self, kind: &str, value: &[u8]) -> [u8; 32] {
        let mut mac = self.keyed.clone();
        mac.update(kind.as_bytes());
        mac.update(&[0]);
        mac.update(value);
        mac.finalize().into_bytes().into()
    }

    /// Another address of the same family, with prefixes kept; one of IPv4 in IPv6 (`::ffff:192.0.2.1`) is
    /// that of the IPv4 address.
    pub fn address(&mut self, address: IpAddr) -> IpAddr {
        if let Some(known) = self.addresses.get(&address) {
            return *known;
        }
        let hidden = match address {
            IpAddr::V4(v4) => self.v4(v4).into(),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => self.v4(v4).to_ipv6_mapped().into(),
                None => {
                    Ipv6Addr::from_bits(self.bits("inet6", v6.to_bits(), 128, SPECIAL_V6)).into()
                }
            },
        };
        if self.addresses.len() >= REMEMBERED {
            self.addresses.clear();
        }
        self.addresses.insert(address, hidden);
        hidden
    }

    fn v4(&self, address: Ipv4Addr) -> Ipv4Addr {
        let bits = u128::from(address.to_bits()) << 96;
        let [a, b, c, d, ..] = self.bits("inet", bits, 32, SPECIAL_V4).to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    }

    /// Walks down `width` branchings. One hash has a bit for each of the 255 within a byte.
    fn bits(&self, family: &str, bits: u128, width: u32, special: &[Special]) -> u128 {
        let mut swaps = 0;
        for byte in 0..width / 8 {
            let above = leading(bits, byte * 8).to_be_bytes();
            let hash = self.hash(family, &above[..byte as usize]);
            let own = bits.to_be_bytes()[byte as usize];
            for at in 0..8 {
                let depth = byte * 8 + at;
                let is_kept = special.iter().any(|s| {
                    let shared = depth.min(s.len);
                    leading(bits, shared) == leading(s.prefix, shared) && (depth < s.len || s.stays)
                });
                // The branchings of a byte are numbered as in a heap: 1, 2 and 3, 4 to 7 …
                let branching = (1 << at) | (usize::from(own) >> (8 - at));
                let is_swapped = hash[branching / 8] >> (branching % 8) & 1 == 1;
                if is_swapped && !is_kept {
                    swaps |= 1 << (127 - depth);
                }
            }
        }
        bits ^ swaps
    }

    /// A name for a name: 16 hexadecimal digits.
    pub fn text(&self, kind: &str, text: &str) -> String {
        self.hash(kind, text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// A number for a number, of 53 bits: what reads JSON keeps it.
    pub fn number(&self, kind: &str, number: i64) -> i64 {
        let [a, b, c, d, e, f, g, ..] = self.hash(kind, &number.to_be_bytes());
        i64::from_be_bytes([0, a & 0x1f, b, c, d, e, f, g])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> Pseudonyms {
        Pseudonyms::new(&[n; 32])
    }

    /// How many leading bits two addresses of a family share.
    fn shared(a: IpAddr, b: IpAddr) -> u32 {
        match (a, b) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            _ => panic!("the family changed"),
        }
    }

    /// Two addresses that share some bits, neither IPv4 in IPv6.
    fn pair() -> impl Strategy<Value = (IpAddr, IpAddr)> {
        let v4 = (any::<u32>(), any::<u32>(), 0..32u32).prop_map(|(a, b, n)| {
            let b = a ^ (b >> n);
            (Ipv4Addr::from_bits(a).into(), Ipv4Addr::from_bits(b).into())
        });
        let v6 = (any::<u128>(), any::<u128>(), 0..128u32).prop_map(|(a, b, n)| {
            let b = a ^ (b >> n);
            (Ipv6Addr::from_bits(a).into(), Ipv6Addr::from_bits(b).into())
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn addresses_share_as_many_leading_bits_as_before((a, b) in pair(), n in 0..4u8) {
            let mut names = key(n);
            let (x, y) = (names.address(a), names.address(b));
            prop_assert_eq!(shared(a, b), shared(x, y));
        }

        #[test]
        fn the_same_key_gives_the_same_and_another_key_another(bits: u128, n in 0..4u8) {
            // The root of global addresses is 3 bits, and the rest of them is not guessed right.
            let address = IpAddr::from(Ipv6Addr::from_bits(bits >> 3 | 1 << 125));
            prop_assert_eq!(key(n).address(address), key(n).address(address));
            prop_assert_ne!(key(n).address(address), key(n + 1).address(address));
        }

        #[test]
        fn an_ipv4_address_is_the_same_in_ipv6(bits: u32, n in 0..4u8) {
            let v4 = Ipv4Addr::from_bits(bits);
            let IpAddr::V4(hidden) = key(n).address(v4.into()) else { panic!() };
            prop_assert_eq!(key(n).address(v4.to_ipv6_mapped().into()), IpAddr::from(hidden.to_ipv6_mapped()));
        }

        #[test]
        fn what_is_special_stays_so_and_nothing_else_becomes_so((a, _) in pair(), n in 0..4u8) {
            let kind = |address: IpAddr| {
                let is_link_local = matches!(address, IpAddr::V6(a) if a.is_unicast_link_local());
                let is_mapped = matches!(address, IpAddr::V6(a) if a.to_ipv4_mapped().is_some());
                (address.is_unspecified(), address.is_loopback(), address.is_multicast(), is_link_local, is_mapped)
            };
            prop_assert_eq!(kind(a), kind(key(n).address(a)));
        }
    }

    #[test]
    fn special_addresses_are_those_that_tell_of_no_machine() {
        let mut names = key(1);
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "127.0.0.53",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:0.0.0.0",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(names.address(address), address);
        }
        for text in [
            "10.1.2.3",
            "192.168.1.1",
            "8.8.8.8",
            "224.0.0.251",
            "fe80::1",
            "ff02::fb",
            "2001:db8::1",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_ne!(names.address(address), address, "{text}");
        }
    }

    #[test]
    fn every_address_of_a_network_becomes_another_one_of_one_network() {
        let mut names = key(7);
        let hidden: HashSet<_> =
            (0..=255).map(|last| names.address(Ipv4Addr::new(192, 0, 2, last).into())).collect();
        assert_eq!(hidden.len(), 256);
        let networks: HashSet<_> = hidden
            .iter()
            .map(|address| match address {
                IpAddr::V4(address) => address.to_bits() >> 8,
                IpAddr::V6(_) => panic!("the family changed"),
            })
            .collect();
        assert_eq!(networks.len(), 1);
    }

    /// Whoever keeps a key counts on it: this must not change.
    #[test]
    fn pseudonyms_stay_what_they_are_from_version_to_version() {
        let mut names = Pseudonyms::new(b"a key of this test");
        let address =
            |names: &mut Pseudonyms, text: &str| names.address(text.parse().unwrap()).to_string();
        let found = [
            address(&mut names, "192.0.2.1"),
            address(&mut names, "2001:db8::1"),
            names.text("comm", "nginx"),
            names.number("pid", 4_711).to_string(),
        ];
        insta::assert_snapshot!(found.join("\n"), @"
        196.39.86.0
        2971:7278:4c16:fb3c:45aa:e0b9:1c14:7c75
        bfeb8ab8cc8ee4a9
        3817536169067479
        ");
    }

    #[test]
    fn names_and_numbers_of_different_kinds_cannot_be_held_against_each_other() {
        let names = key(1);
        assert_ne!(names.text("user", "nginx"), names.text("comm", "nginx"));
        assert_ne!(names.number("pid", 1), names.number("uid", 1));
        assert!((0..1_000).all(|n| (0..1 << 53).contains(&names.number("pid", n))));
    }
}
