//! Filters and sockets at random, of so few values that they often meet.

use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::select;
use sockrec::filter::Told;
use sockrec::model::TcpState;

pub(crate) const PORTS: [u16; 6] = [0, 22, 80, 514, 40_000, 65_535];

/// A filter of these conditions.
pub(crate) fn filter_of(condition: BoxedStrategy<String>) -> BoxedStrategy<String> {
    condition
        .prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                inner.clone().prop_map(|f| format!("not ( {f} )")),
                prop::collection::vec(inner.clone(), 1..4)
                    .prop_map(|all| format!("( {} )", all.join(" and "))),
                prop::collection::vec(inner.clone(), 2..4).prop_map(|all| all.join(" | ")),
                (inner.clone(), inner).prop_map(|(a, b)| format!("({a}) ({b})")),
            ]
        })
        .boxed()
}

pub(crate) fn condition() -> BoxedStrategy<String> {
    prop_oneof![of_socket(), of_column()].boxed()
}

/// What `ss` knows, but for what depends on the machine.
pub(crate) fn of_socket() -> BoxedStrategy<String> {
    let port = || select(&PORTS[..]);
    let sign = select(
        &["=", "==", "!=", "<", "<=", ">", ">=", "eq", "ne", "lt", "le", "gt", "ge", ""][..],
    );
    let side = || select(&["src", "dst"][..]);
    let prefix = select(
        &[
            "127.0.0.1",
            "10/8",
            "10.1.0.0/16",
            "0.0.0.0/0",
            "0.0.0.0",
            "[::1]",
            "::/0",
            "[fe80::]/10",
            "::ffff:0:0/96",
            "[::ffff:127.0.0.1]",
        ][..],
    );
    prop_oneof![
        (select(&["sport", "dport"][..]), sign, port())
            .prop_map(|(side, sign, port)| format!("{side} {sign} :{port}")),
        (side(), prefix.clone()).prop_map(|(side, prefix)| format!("{side} {prefix}")),
        (side(), prefix, port())
            .prop_map(|(side, prefix, port)| format!("{side} = {prefix}:{port}")),
        (side(), port()).prop_map(|(side, port)| format!("{side} *:{port}")),
        states(),
        Just("fwmark = 0x1/0x3".to_owned()),
        Just("fwmark != 0".to_owned()),
        Just("dev = 1".to_owned()),
        Just("dev != 1".to_owned()),
    ]
    .boxed()
}

fn states() -> BoxedStrategy<String> {
    let name = select(
        &[
            "established",
            "listening",
            "time-wait",
            "syn-recv",
            "close-wait",
            "connected",
            "synchronized",
            "bucket",
            "big",
            "fin-wait-2",
            "closed",
        ][..],
    );
    prop::collection::vec((select(&["state", "exclude"][..]), name), 1..3)
        .prop_map(|words| {
            let words: Vec<_> = words.iter().map(|(word, name)| format!("{word} {name}")).collect();
            words.join(" ")
        })
        .boxed()
}

fn of_column() -> BoxedStrategy<String> {
    let order = || select(&["=", "!=", "<", "<=", ">", ">="][..]);
    let equal = || select(&["=", "!="][..]);
    prop_oneof![
        (order(), select(&["0us", "1ms", "2ms", "1.5s"][..]))
            .prop_map(|(sign, value)| format!("rtt {sign} {value}")),
        (order(), select(&["1ns", "2ns", "3ns"][..]))
            .prop_map(|(sign, value)| format!("duration {sign} {value}")),
        (order(), select(&["@0.000000001", "@0.000000002", "now"][..]))
            .prop_map(|(sign, value)| format!("closed {sign} {value}")),
        (order(), select(&["0.25", "50%", "1"][..]))
            .prop_map(|(sign, value)| format!("busy_share {sign} {value}")),
        (equal(), select(&["nginx", "ng*", "?ginx", "'a*b'", "a*b", "[x]*", "\"\"", "a\\ b"][..]))
            .prop_map(|(sign, value)| format!("ulp {sign} {value}")),
        (equal(), select(&["/a", "/a/*", "/?"][..]))
            .prop_map(|(sign, value)| format!("cgroup {sign} {value}")),
        (equal(), select(&["0", "18446744073709551615"][..]))
            .prop_map(|(sign, value)| format!("cookie {sign} {value}")),
        Just("is_remains".to_owned()),
        Just("is_remains = false".to_owned()),
    ]
    .boxed()
}

/// What an answer tells of a socket.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) told: Told,
    pub(crate) rtt_us: Option<i64>,
    pub(crate) duration: (Option<i64>, Option<i64>),
    pub(crate) closed: (Option<i64>, Option<i64>),
    pub(crate) busy_share: Option<f64>,
    pub(crate) ulp: Option<String>,
    pub(crate) cgroup: Option<String>,
    pub(crate) cookie: Option<i64>,
    pub(crate) is_remains: Option<i64>,
}

pub(crate) fn row() -> impl Strategy<Value = Row> {
    let span = || {
        (prop::option::of(0..4i64), prop::option::of(0..3i64)).prop_map(|(least, more)| {
            (least, least.unwrap_or(0).checked_add(more.unwrap_or(0)).filter(|_| more.is_some()))
        })
    };
    let text =
        |values: &'static [&'static str]| prop::option::of(select(values).prop_map(str::to_owned));
    (
        told(),
        prop::option::of(select(&[0, 1_000, 1_500, 2_000, 1_500_000][..])),
        (span(), span()),
        prop::option::of(select(&[0.0, 0.25, 0.5, 1.0][..])),
        text(&["nginx", "nginy", "axb", "a*b", "[x]y", "", "a b"]),
        text(&["/a", "/a/b", "/b"]),
        prop::option::of(select(&[0, -1][..])),
        prop::option::of(0..2i64),
    )
        .prop_map(
            |(told, rtt_us, (duration, closed), busy_share, ulp, cgroup, cookie, is_remains)| Row {
                told,
                rtt_us,
                duration,
                closed,
                busy_share,
                ulp,
                cgroup,
                cookie,
                is_remains,
            },
        )
}

fn told() -> impl Strategy<Value = Told> {
    let address = || {
        let all: Vec<IpAddr> = [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "10.2.0.1",
            "::",
            "::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.0.9",
            "2001:db8::1",
        ]
        .iter()
        .map(|text| text.parse().expect("an address"))
        .collect();
        prop::option::weighted(0.9, select(all))
    };
    let port = || prop::option::weighted(0.9, select(&PORTS[..]));
    let state = (1..12u8).prop_map(TcpState);
    (
        (prop::option::weighted(0.9, state), address(), port(), address(), port()),
        0..3u32,
        prop::option::of(select(&[0, 1, 2, 5, 0xffff_ffff][..])),
    )
        .prop_map(
            |((state, local_address, local_port, remote_address, remote_port), interface, mark)| {
                Told {
                    state,
                    local_address,
                    local_port,
                    remote_address,
                    remote_port,
                    interface: Some(interface),
                    mark,
                    cgroup_id: None,
                }
            },
        )
}
