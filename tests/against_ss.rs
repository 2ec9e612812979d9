//! Dumps of the running kernel, decoded, against what `ss` writes about the same sockets.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;

use common::dump::{Dump, Sighting};
use common::facts::now_ms;
use common::sockets::{self, Deferred, Held, Route, Traffic};
use common::ss::{self, Row};
use common::{Differences, not_run, note, tcp_info, wait};
use sockrec::model::{
    CongestionInfo, Family, Observation, Protocol, States, TcpInfo, TcpState, Timer,
};

/// The kernel counts in jiffies, of up to 10 ms, and both ends of a difference are cut.
const JIFFIES_MS: f64 = 20.0;

/// What `ss` says and is not compared: its own arithmetic, and names where we keep ids.
const NOT_COMPARED: [&str; 2] = ["send", "cgroup"];

/// Whether `ss` is there. On a build machine it must be.
fn ss_is_there(test: &str) -> bool {
    let is_there = ss::version().is_some();
    if !is_there {
        not_run(test, "`ss` is not installed");
    }
    is_there
}

#[test]
fn a_dump_says_what_ss_says_of_every_kind_of_socket() {
    if !ss_is_there("the comparison with ss") {
        return;
    }
    let mut held: Vec<Held> = Vec::new();
    for route in Route::available() {
        held.extend(sockets::every_state(route));
        held.extend(with_options(route));
    }
    let deferred: Vec<Deferred> = Route::available().into_iter().map(Deferred::open).collect();
    held.extend(deferred.iter().map(held_request));
    let mut not_known = BTreeSet::new();
    let mut without: Vec<&str> = Vec::new();
    let mut left: Vec<&Held> = held.iter().collect();
    wait::until_ok("all have stood still while ss looked at them", || {
        let before = Dumps::make();
        let asked_at_ms = now_ms();
        let rows = ss::run().expect("it was there before");
        let between_ms = (asked_at_ms, now_ms());
        let after = Dumps::make();
        let rows: HashMap<u64, Row> =
            rows.into_iter().filter_map(|row| Some((row.cookie()?, row))).collect();
        let mut reasons = Vec::new();
        left.retain(|held| {
            // Any of the three can miss a socket while others come and go.
            let (Some(before), Some(after)) = (before.find(held), after.find(held)) else {
                reasons.push(format!("{} is not in both dumps", held.what));
                return true;
            };
            let changes = changes(before.observe(), after.observe());
            if !changes.is_empty() {
                reasons.push(format!("{} changed: {changes:?}", held.what));
                return true;
            }
            let Some(row) = rows.get(&held.identity.cookie) else {
                if held.asked_by == TcpState::BOUND_INACTIVE {
                    without.push(&held.what);
                    return false;
                }
                reasons.push(format!("{} is not shown by ss", held.what));
                return true;
            };
            let mut row = row.clone();
            compare(held, before, after, &mut row, between_ms);
            not_known.extend(row.left());
            false
        });
        if left.is_empty() { Ok(()) } else { Err(reasons.join("\n")) }
    });
    if !without.is_empty() {
        note(&format!("this ss does not show: {}", without.join(", ")));
    }
    not_known.retain(|name| !NOT_COMPARED.contains(&name.as_str()));
    if !not_known.is_empty() {
        note(&format!("ss says what was not compared: {not_known:?}"));
    }
}

/// A connection with everything set that can be seen, and a listener bound to a device.
fn with_options(route: Route) -> Vec<Held> {
    use common::facts::Facts;
    let connection = sockets::Connection::open_with(
        route,
        |client| {
            rustix::net::sockopt::set_tcp_congestion(client, "reno").expect("TCP_CONGESTION");
            client.set_int_option(libc::IPPROTO_IP, libc::IP_TOS, 0x28).expect("IP_TOS");
            client.set_int_option(libc::SOL_SOCKET, libc::SO_PRIORITY, 5).expect("SO_PRIORITY");
            client.set_recv_buffer_size(20_000).expect("SO_RCVBUF");
        },
        |_| {},
    );
    Traffic { to_server: 100_000, server_left: 1, to_client: 9, client_left: 0 }.flow(&connection);
    let mut held: Vec<Held> = sockets::hold(route, connection).into();
    let keepalive = held[1].socket();
    keepalive.set_int_option(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 100).expect("TCP_KEEPIDLE");
    keepalive.set_int_option(libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1).expect("SO_KEEPALIVE");
    let listener = sockets::Listener::open_with(route, 9, |socket| {
        socket
            .set_int_option(libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, 1)
            .expect("SO_BINDTOIFINDEX");
    });
    held.push(sockets::held_listener(route, listener));
    held
}

fn held_request(deferred: &Deferred) -> Held {
    let family = deferred.listener.route.server_family();
    let seen = wait::until_some("a dump shows the request", || {
        Dump::make(family, Protocol::Tcp, States::ALL).find_tuple(&deferred.request()).cloned()
    });
    deferred.held_request(seen.cookie())
}

/// The four dumps that `ss -t -u` makes.
struct Dumps(Vec<((Family, Protocol), Dump)>);

impl Dumps {
    fn make() -> Self {
        let kinds = Family::ALL.into_iter().flat_map(|f| [(f, Protocol::Tcp), (f, Protocol::Udp)]);
        Self(
            kinds
                .map(|(family, protocol)| {
                    let dump = Dump::make(family, protocol, States::ALL);
                    assert!(dump.is_whole(), "{:?}", dump.end);
                    ((family, protocol), dump)
                })
                .collect(),
        )
    }

    fn find(&self, held: &Held) -> Option<&Sighting> {
        let kind = (held.identity.family, held.identity.protocol);
        self.0.iter().find(|(k, _)| *k == kind)?.1.find(held.identity.cookie)
    }
}

/// What changed between two dumps, but for what always does.
fn changes(mut before: Observation<'_>, mut after: Observation<'_>) -> Vec<&'static str> {
    let mut changes = tcp_info::changed(&before.tcp, &after.tcp);
    before.tcp = TcpInfo::default();
    after.tcp = TcpInfo::default();
    if before != after {
        changes.push("something outside tcp_info");
    }
    changes
}

#[track_caller]
fn compare(
    held: &Held,
    before: &Sighting,
    after: &Sighting,
    row: &mut Row,
    between_ms: (i64, i64),
) {
    let o = before.observe();
    let d = &mut Differences::of(format!("{} against {row:?}", held.what));
    d.equal("netid", held.identity.protocol.name(), row.netid.as_str());
    compare_socket(d, &o, row);
    compare_timer(d, &o, before, row, between_ms);
    compare_memory(d, &o, row);
    if o.state == TcpState::LISTEN {
        d.equal("cwnd", o.tcp.snd_cwnd, row.take_number("cwnd"));
        // ss shows the backlog under this name once more.
        d.equal("backlog", o.rqueue, Some(row.take_number("unacked").unwrap_or(0)));
    } else if o.tcp.rto_us.is_some() {
        compare_tcp_info(d, &o, row);
        compare_running(d, &o, &after.observe(), row);
        compare_times(d, before, row, between_ms);
    }
}

fn compare_socket(d: &mut Differences, o: &Observation<'_>, row: &mut Row) {
    d.equal("state", o.state.name(), Some(row.state.as_str()));
    d.equal("Recv-Q", o.rqueue.unwrap_or(0), row.recv_q);
    d.equal("Send-Q", o.wqueue.unwrap_or(0), row.send_q);
    for (name, ours, theirs) in
        [("local", o.tuple.local, &row.local), ("peer", o.tuple.remote, &row.peer)]
    {
        // An unspecified address is `*` in either family.
        let same = ours.address == theirs.address
            || (ours.address.is_unspecified() && theirs.address.is_unspecified());
        d.holds(&format!("{name}: {ours:?} is {theirs:?}"), same && ours.port == theirs.port);
    }
    if let Some(device) = &row.local.device {
        let index = fs::read_to_string(format!("/sys/class/net/{device}/ifindex"));
        let index = index.ok().and_then(|text| text.trim().parse().ok());
        d.equal("device", Some(o.tuple.interface), index);
    } else {
        d.equal("device", o.tuple.interface, 0);
    }
    d.equal("cookie", Some(o.cookie), row.cookie());
    row.take("sk");
    d.equal("uid", o.uid.unwrap_or(0), row.take_number("uid").unwrap_or(0));
    d.equal("inode", o.inode.unwrap_or(0), row.take_number("ino").unwrap_or(0));
    d.equal("mark", o.mark.unwrap_or(0), row.take_hexadecimal("fwmark").unwrap_or(0));
    d.equal("v6only", o.v6only, row.take_number::<u8>("v6only").map(|n| n != 0));
    d.equal("shutdown", o.shutdown, row.take_shutdown());
    d.equal("tos", o.tos.map(u32::from), row.take_hexadecimal("tos"));
    d.equal("tclass", o.tclass.map(u32::from), row.take_hexadecimal("tclass"));
    d.equal("class_id", o.class_id.unwrap_or(0), row.take_hexadecimal("class_id").unwrap_or(0));
    if let Some(name) = o.congestion_control {
        d.holds(&format!("congestion control {name}"), row.take_word(name));
    }
}

fn compare_timer(
    d: &mut Differences,
    o: &Observation<'_>,
    seen: &Sighting,
    row: &mut Row,
    between_ms: (i64, i64),
) {
    let theirs = row.take_timer();
    let name = Timer::NAMED.iter().find(|(timer, _)| *timer == o.timer).map(|(_, name)| *name);
    let running = name.filter(|_| o.timer != Timer::OFF);
    d.equal("timer", running, theirs.as_ref().map(|t| t.name.as_str()));
    let (Some(expires), Some(theirs)) = (seen.times.timer_expires_at_ms, theirs) else { return };
    d.equal("timer's retransmits", o.timer_retransmits, theirs.retransmits);
    within(
        d,
        "timer expires",
        expires,
        between_ms.0 as f64 + theirs.expires_ms,
        between_ms.1 as f64 + theirs.expires_ms + theirs.precision_ms,
        seen,
    );
}

fn compare_memory(d: &mut Differences, o: &Observation<'_>, row: &mut Row) {
    let m = &o.memory;
    let ours = [
        ("r", m.rmem_alloc_bytes),
        ("rb", m.rcvbuf_bytes),
        ("t", m.wmem_alloc_bytes),
        ("tb", m.sndbuf_bytes),
        ("f", m.fwd_alloc_bytes),
        ("w", m.wmem_queued_bytes),
        ("o", m.optmem_bytes),
        ("bl", m.backlog_bytes),
        ("d", m.drops),
    ];
    let ours: BTreeMap<String, u32> =
        ours.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    d.equal("skmem", ours, row.take_memory().unwrap_or_default());
}

fn compare_tcp_info(d: &mut Differences, o: &Observation<'_>, row: &mut Row) {
    let t = &o.tcp;
    let wide = |v: Option<u32>| v.map(u64::from);
    // ss leaves out what is zero.
    for (name, ours) in [
        ("mss", wide(t.snd_mss_bytes)),
        ("pmtu", wide(t.pmtu_bytes)),
        ("rcvmss", wide(t.rcv_mss_bytes)),
        ("advmss", wide(t.advmss_bytes)),
        ("cwnd", wide(t.snd_cwnd)),
        ("backoff", t.backoff.map(u64::from)),
        ("bytes_sent", t.bytes_sent),
        ("bytes_retrans", t.bytes_retrans),
        ("bytes_acked", t.bytes_acked),
        ("bytes_received", t.bytes_received),
        ("segs_out", wide(t.segs_out)),
        ("segs_in", wide(t.segs_in)),
        ("data_segs_out", wide(t.data_segs_out)),
        ("data_segs_in", wide(t.data_segs_in)),
        ("delivered", wide(t.delivered)),
        ("delivered_ce", wide(t.delivered_ce)),
        ("unacked", wide(t.unacked)),
        ("lost", wide(t.lost)),
        ("sacked", wide(t.sacked)),
        ("fackets", wide(t.fackets)),
        ("dsack_dups", wide(t.dsack_dups)),
        ("reord_seen", wide(t.reord_seen)),
        ("rcv_ooopack", wide(t.rcv_ooopack)),
        ("rcv_space", wide(t.rcv_space_bytes)),
        ("rcv_ssthresh", wide(t.rcv_ssthresh_bytes)),
        ("notsent", wide(t.notsent_bytes)),
        ("snd_wnd", wide(t.snd_wnd_bytes)),
    ] {
        d.equal(name, ours.unwrap_or(0), row.take_number(name).unwrap_or(0));
    }
    // What only later versions of ss show.
    for (name, ours) in [
        ("rcv_wnd", wide(t.rcv_wnd_bytes)),
        ("rehash", wide(t.rehash)),
        ("total_rto", t.total_rto.map(u64::from)),
        ("total_rto_recoveries", t.total_rto_recoveries.map(u64::from)),
    ] {
        if let Some(theirs) = row.take_number(name) {
            d.equal(name, ours, Some(theirs));
        }
    }
    d.equal("reordering", t.reordering, Some(row.take_number("reordering").unwrap_or(3)));
    match row.take_number::<u32>("ssthresh") {
        Some(theirs) => d.equal("ssthresh", t.snd_ssthresh, Some(theirs)),
        None => d.holds("ssthresh is large", t.snd_ssthresh.is_none_or(|v| v >= 0xffff)),
    }
    if let Some((snd, rcv)) = row.take_pair("wscale") {
        d.equal(
            "wscale",
            (t.snd_wscale.map(f64::from), t.rcv_wscale.map(f64::from)),
            (Some(snd), Some(rcv)),
        );
    } else {
        d.holds("window scaling was not agreed on", t.options.is_some_and(|b| b & 4 == 0));
    }
    let (retrans, total) = row.take_pair("retrans").unwrap_or((0.0, 0.0));
    d.equal("retrans", t.retrans.map(f64::from), Some(retrans));
    d.equal("total_retrans", t.total_retrans.map(f64::from), Some(total));
    // Milliseconds in six digits.
    let mut milliseconds = |name: &str, ours: Option<u32>, theirs: Option<f64>| {
        let (ours, theirs) = (f64::from(ours.unwrap_or(0)) / 1000.0, theirs.unwrap_or(0.0));
        d.near(name, ours, theirs, ours * 1e-5);
    };
    let (rtt, rttvar) = row.take_pair("rtt").unzip();
    milliseconds("rtt", t.rtt_us, rtt);
    milliseconds("rttvar", t.rttvar_us, rttvar);
    milliseconds("minrtt", t.min_rtt_us, row.take_number("minrtt"));
    milliseconds("rcv_rtt", t.rcv_rtt_us, row.take_number("rcv_rtt"));
    milliseconds("ato", t.ato_us, row.take_number("ato"));
    match row.take_number("rto") {
        Some(theirs) => milliseconds("rto", t.rto_us, Some(theirs)),
        None => d.equal("rto", t.rto_us, Some(3_000_000)),
    }
    // Bits per second, of up to 20 digits through a double.
    for (name, ours) in
        [("pacing_rate", t.pacing_rate_bytes_per_s), ("delivery_rate", t.delivery_rate_bytes_per_s)]
    {
        let ours = ours.unwrap_or(0) as f64 * 8.0;
        d.near(name, ours, row.take_rate(name).unwrap_or(0.0), ours * 1e-9 + 1.0);
    }
    let limited = row.take_word("app_limited");
    d.equal("app_limited", t.delivery_rate_app_limited, Some(limited));
    for (bit, word) in [(1, "ts"), (2, "sack"), (8, "ecn"), (16, "ecnseen"), (32, "fastopen")] {
        d.equal(word, t.options.map(|b| b & bit != 0), Some(row.take_word(word)));
    }
    if let Some(list) = row.take_list("bbr") {
        compare_bbr(d, o.congestion, &list);
    } else {
        d.holds("no BBR", !matches!(o.congestion, Some(CongestionInfo::Bbr(_))));
    }
}

fn compare_bbr(d: &mut Differences, ours: Option<CongestionInfo>, list: &BTreeMap<String, String>) {
    let Some(CongestionInfo::Bbr(bbr)) = ours else {
        return d.holds(&format!("{ours:?} is what ss says of BBR: {list:?}"), false);
    };
    let number = |name: &str| list.get(name).map_or(Ok(0.0), |v| v.parse()).expect("a number");
    let bandwidth = list.get("bw").map_or(Ok(0.0), |v| ss::parse_rate(v)).expect("a rate");
    let ours = bbr.bw_bytes_per_s as f64 * 8.0;
    d.near("bbr: bw", ours, bandwidth, ours * 1e-9 + 1.0);
    let min_rtt_ms = f64::from(bbr.min_rtt_us) / 1000.0;
    d.near("bbr: mrtt", min_rtt_ms, number("mrtt"), min_rtt_ms * 1e-5);
    for (name, gain) in [("pacing_gain", bbr.pacing_gain), ("cwnd_gain", bbr.cwnd_gain)] {
        d.near(&format!("bbr: {name}"), f64::from(gain) / 256.0, number(name), 1e-4);
    }
}

/// What runs while data are stuck: ss came between the two dumps.
fn compare_running(
    d: &mut Differences,
    before: &Observation<'_>,
    after: &Observation<'_>,
    row: &mut Row,
) {
    for (name, before, after) in [
        ("busy", before.tcp.busy_time_us, after.tcp.busy_time_us),
        ("rwnd_limited", before.tcp.rwnd_limited_us, after.tcp.rwnd_limited_us),
        ("sndbuf_limited", before.tcp.sndbuf_limited_us, after.tcp.sndbuf_limited_us),
    ] {
        let ms = |us: Option<u64>| us.unwrap_or(0) / 1000;
        let theirs = row.take_milliseconds(name).unwrap_or(0);
        d.holds(
            &format!("{name}: {before:?} <= {theirs} ms <= {after:?}"),
            (ms(before)..=ms(after)).contains(&theirs),
        );
    }
    // What only later versions of ss show.
    if let Some(theirs) = row.take_number::<u32>("total_rto_time") {
        let (before, after) = (before.tcp.total_rto_time_ms, after.tcp.total_rto_time_ms);
        d.holds(
            &format!("total_rto_time: {before:?} <= {theirs} ms <= {after:?}"),
            before <= Some(theirs) && Some(theirs) <= after,
        );
    }
}

fn compare_times(d: &mut Differences, seen: &Sighting, row: &mut Row, between_ms: (i64, i64)) {
    for (name, ours) in [
        ("lastsnd", seen.times.last_data_sent_at_ms),
        ("lastrcv", seen.times.last_data_recv_at_ms),
        ("lastack", seen.times.last_ack_recv_at_ms),
    ] {
        let ago: f64 = row.take_number(name).unwrap_or(0.0);
        // Where we say that there was nothing, ss gives the time since something else.
        let Some(ours) = ours else { continue };
        within(d, name, ours, between_ms.0 as f64 - ago, between_ms.1 as f64 - ago, seen);
    }
}

/// The moment is between the two, as exactly as two observers can agree on it.
fn within(d: &mut Differences, what: &str, at: i64, first: f64, last: f64, seen: &Sighting) {
    // The dump's stamp is of its receipt: later than the kernel's by at most its whole length.
    let read = (seen.between_ms.1 - seen.between_ms.0) as f64;
    let (first, last) = (first - JIFFIES_MS, last + JIFFIES_MS + read);
    d.holds(
        &format!("{what} at {at} is within {first}..={last}"),
        (first..=last).contains(&(at as f64)),
    );
}

// The parser, by rows of several versions.

#[test]
fn a_row_of_a_connection_is_taken_apart() {
    let mut row = Row::parse(
        "tcp FIN-WAIT-2 0      0               127.0.0.1:40366          127.0.0.1:49071 \
         timer:(keepalive,119min,0) uid:7 ino:21316 sk:37 cgroup:/ <-- \
         skmem:(r0,rb131072,t0,tb3939840,f0,w0,o0,bl0,d0) ts sack bbr wscale:10,7 rto:208 \
         rtt:5.05/10.056 mss:35328 bbr:(bw:18841598872bps,mrtt:0.015,pacing_gain:2.88672) \
         send 671581782bps lastsnd:228 pacing_rate 249517099808bps/1Mbps \
         delivery_rate 7.1Gbps busy:44ms rwnd_limited:12ms(3.4%) retrans:0/3 app_limited   ",
    )
    .unwrap();
    assert_eq!((row.netid.as_str(), row.state.as_str()), ("tcp", "FIN-WAIT-2"));
    assert_eq!((row.local.address.to_string().as_str(), row.local.port), ("127.0.0.1", 40366));
    assert_eq!(row.cookie(), Some(0x37));
    assert_eq!(row.take_number("uid"), Some(7));
    assert_eq!(row.take_shutdown(), Some(2));
    let timer = row.take_timer().unwrap();
    assert_eq!((timer.name.as_str(), timer.expires_ms), ("keepalive", 119.0 * 60_000.0));
    assert_eq!(timer.precision_ms, 60_000.0);
    assert_eq!(row.take_memory().unwrap()["rb"], 131_072);
    assert_eq!(row.take_pair("wscale"), Some((10.0, 7.0)));
    assert_eq!(row.take_pair("rtt"), Some((5.05, 10.056)));
    assert_eq!(row.take_pair("retrans"), Some((0.0, 3.0)));
    assert_eq!(row.take_list("bbr").unwrap()["mrtt"], "0.015");
    assert_eq!(row.take_rate("send"), Some(671_581_782.0));
    assert_eq!(row.take_rate("pacing_rate"), Some(249_517_099_808.0));
    assert_eq!(row.take_rate("delivery_rate"), Some(7.1e9));
    assert_eq!(row.take_milliseconds("busy"), Some(44));
    assert_eq!(row.take_milliseconds("rwnd_limited"), Some(12));
    assert!(row.take_word("app_limited") && row.take_word("bbr") && !row.take_word("cubic"));
    assert_eq!(row.left(), ["cgroup", "ino", "lastsnd", "mss", "rto", "sk", "ts", "sack"]);
}

#[test]
fn addresses_of_every_form_are_read() {
    for (text, address, device, port) in [
        ("127.0.0.1:80", "127.0.0.1", None, 80),
        ("0.0.0.0:*", "0.0.0.0", None, 0),
        ("*:443", "::", None, 443),
        ("[::ffff:127.0.0.1]:49071", "::ffff:127.0.0.1", None, 49071),
        ("127.0.0.1%lo:53", "127.0.0.1", Some("lo"), 53),
        ("[::]%lo:53", "::", Some("lo"), 53),
        ("[fe80::1%eth0]:546", "fe80::1", Some("eth0"), 546),
        ("*%lo:53", "::", Some("lo"), 53),
    ] {
        let row = Row::parse(&format!("udp UNCONN 0 0 {text} *:*")).unwrap();
        assert_eq!(row.local.address.to_string(), address);
        assert_eq!((row.local.device.as_deref(), row.local.port), (device, port));
    }
    for bad in ["", "tcp", "tcp ESTAB 0 x 1.2.3.4:1 1.2.3.4:2", "tcp ESTAB 0 0 1.2.3.4 *:*"] {
        assert!(Row::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn times_of_every_form_are_read() {
    for (text, ms, precision) in [
        ("876ms", 876.0, 1.0),
        ("5.120ms", 5_120.0, 1.0),
        ("5.020ms", 5_020.0, 1.0),
        ("3sec", 3_000.0, 1_000.0),
        ("59sec", 59_000.0, 1_000.0),
        ("1min", 60_000.0, 1_000.0),
        ("1min40sec", 100_000.0, 1_000.0),
        ("119min", 119.0 * 60_000.0, 60_000.0),
        ("", 0.0, 1_000.0),
    ] {
        let mut row =
            Row::parse(&format!("tcp ESTAB 0 0 1.2.3.4:1 1.2.3.4:2 timer:(on,{text},2)")).unwrap();
        let timer = row.take_timer().unwrap();
        assert_eq!((timer.expires_ms, timer.precision_ms, timer.retransmits), (ms, precision, 2));
    }
}

#[test]
fn users_with_spaces_and_brackets_in_their_names_are_one_item() {
    let row = Row::parse(
        "tcp LISTEN 0 5 *:1 *:* users:((\"a b) c\",pid=1,fd=3),(\"d\",pid=2,fd=4)) ino:7 sk:1",
    );
    let mut row = row.unwrap();
    assert_eq!(row.take("users").unwrap(), "((\"a b) c\",pid=1,fd=3),(\"d\",pid=2,fd=4))");
    assert_eq!(row.take_number("ino"), Some(7));
}
