//! The table of `query at`, in the layout of `ss`.

use sockrec::model::{Column, Value};
use sockrec::query::column;
use sockrec::render::{Details, Exporter, Named, Options, SocketTable};

const SECOND: i64 = 1_000_000_000;

/// Rows as `name=value` pairs; what is not named is not known.
fn table(info: bool, rows: &[&[(&str, Value<'_>)]]) -> String {
    detailed(Details { info, ..Details::default() }, rows)
}

fn detailed(details: Details, rows: &[&[(&str, Value<'_>)]]) -> String {
    let mut columns: Vec<Column> = Vec::new();
    for (name, _) in rows.iter().copied().flatten() {
        if !columns.iter().any(|c| c.name == *name) {
            columns.push(*column(name).unwrap_or_else(|| panic!("there is no column {name}")));
        }
    }
    let mut out = Vec::new();
    let host = columns.iter().any(|column| column.name == "host_name");
    let named = Named { host, netns: false };
    let mut table = SocketTable::new(Box::new(&mut out), &Options::default(), details, named);
    table.begin(&columns).unwrap();
    for row in rows {
        let find = |c: &Column| row.iter().find(|(name, _)| *name == c.name).map(|(_, v)| *v);
        let values: Vec<_> = columns.iter().map(|c| find(c).unwrap_or(Value::Null)).collect();
        table.row(&values).unwrap();
    }
    table.finish().unwrap();
    drop(table);
    String::from_utf8(out).unwrap()
}

fn ends<'v>(
    protocol: &'v str,
    state: &'v str,
    local: (&'v str, i64),
    remote: (&'v str, i64),
) -> Vec<(&'static str, Value<'v>)> {
    vec![
        ("protocol", Value::Text(protocol)),
        ("state", Value::Text(state)),
        ("local_address", Value::Text(local.0)),
        ("local_port", Value::Integer(local.1)),
        ("remote_address", Value::Text(remote.0)),
        ("remote_port", Value::Integer(remote.1)),
    ]
}

#[test]
fn sockets_are_laid_out_as_ss_does() {
    let int = Value::Integer;
    let mut listener = ends("tcp", "LISTEN", ("0.0.0.0", 8_081), ("0.0.0.0", 0));
    listener.extend([("backlog", int(3)), ("backlog_limit", int(4_096))]);
    let mut dual = ends("tcp", "LISTEN", ("::", 443), ("::", 0));
    dual.extend([("backlog", int(0)), ("backlog_limit", int(511)), ("v6only", int(0))]);
    let mut v6only = ends("udp", "UNCONN", ("::", 53), ("::", 0));
    v6only.extend([("rqueue_bytes", int(0)), ("wqueue_bytes", int(0)), ("v6only", int(1))]);
    let mut established = ends("tcp", "ESTAB", ("::1", 45_000), ("::1", 443));
    established.extend([("rqueue_bytes", int(12)), ("wqueue_bytes", int(0))]);
    let waiting = ends("tcp", "TIME-WAIT", ("127.0.0.1", 1), ("127.0.0.1", 65_535));
    let rows = [&listener[..], &dual, &v6only, &established, &waiting];
    assert_eq!(
        table(false, &rows),
        "\
Netid  State      Recv-Q  Send-Q  Local Address:Port  Peer Address:Port
tcp    LISTEN          3    4096  0.0.0.0:8081        0.0.0.0:*
tcp    LISTEN          0     511  *:443               *:*
udp    UNCONN          0       0  [::]:53             [::]:*
tcp    ESTAB          12       0  [::1]:45000         [::1]:443
tcp    TIME-WAIT       -       -  127.0.0.1:1         127.0.0.1:65535
"
    );
}

#[test]
fn processes_stand_behind_each_socket() {
    let mut held = ends("tcp", "ESTAB", ("10.0.0.1", 45_000), ("10.0.0.2", 443));
    held.push(("owners", Value::Text("nginx[7],\x1b[8]")));
    let unknown = ends("tcp", "TIME-WAIT", ("127.0.0.1", 1), ("127.0.0.1", 65_535));
    assert_eq!(
        detailed(Details { processes: true, ..Details::default() }, &[&held, &unknown]),
        "\
Netid  State      Recv-Q  Send-Q  Local Address:Port  Peer Address:Port  Process
tcp    ESTAB           -       -  10.0.0.1:45000      10.0.0.2:443       nginx[7],\\x1b[8]
tcp    TIME-WAIT       -       -  127.0.0.1:1         127.0.0.1:65535
"
    );
}

#[test]
fn details_stand_below_each_socket_in_the_words_of_ss() {
    let int = Value::Integer;
    let mut socket = ends("tcp", "ESTAB", ("10.0.0.1", 45_000), ("10.0.0.2", 443));
    socket.extend([
        ("rqueue_bytes", int(0)),
        ("wqueue_bytes", int(0)),
        ("at", int(100 * SECOND)),
        ("timer", Value::Text("keepalive")),
        ("timer_expires_at", int(165 * SECOND)),
        ("timer_retransmits", int(0)),
        ("uid", int(33)),
        ("inode", int(4_711)),
        ("cookie", int(-1)),
        ("congestion_control", Value::Text("cubic\x1b[2J")),
        ("snd_wscale", int(7)),
        ("rcv_wscale", int(10)),
        ("rto_us", int(204_000)),
        ("rtt_us", int(10_250)),
        ("rttvar_us", int(5_000)),
        ("snd_cwnd", int(10)),
        ("bytes_sent", int(1_000)),
        ("pacing_rate_bytes_per_s", int(1_250)),
        ("delivery_rate_app_limited", int(1)),
        ("busy_time_us", int(12_000)),
        ("retrans", int(0)),
        ("total_retrans", int(2)),
        ("min_rtt_us", int(9_000)),
    ]);
    let text = table(true, &[&socket]);
    let details = text.lines().nth(2).unwrap();
    assert_eq!(
        details.trim_start(),
        "timer:(keepalive,1min5sec,0) uid:33 ino:4711 cookie:18446744073709551615 cubic\\x1b[2J \
         wscale:7,10 rto:204 rtt:10.25/5 cwnd:10 bytes_sent:1000 pacing_rate 10000bps app_limited \
         busy:12ms retrans:0/2 minrtt:9"
    );
}

#[test]
fn nothing_that_a_recording_holds_acts_on_the_terminal() {
    let hostile = ends("tcp\n", "\x1b[31mESTAB", ("\x07", 1), ("\u{202e}", 2));
    let text = table(true, &[&hostile]);
    assert_eq!(text.lines().count(), 2);
    assert!(text.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')), "{text:?}");
}
