//! What is read, and how errors point at the place.

use insta::assert_snapshot;

use crate::parse;

fn read(text: &str) -> String {
    match parse(text) {
        Ok(filter) => filter.to_string(),
        Err(e) => panic!("{text}: {e} at {:?}", e.span),
    }
}

/// What is wrong, the place in brackets, and what would be right.
fn refused(text: &str) -> String {
    let e = parse(text).expect_err(text);
    assert_eq!(e.text, text);
    let place = &text[e.span.clone()];
    format!("{e} [{place}] {}", e.hint.as_deref().unwrap_or_default())
}

#[test]
fn conditions_are_written_in_one_way() {
    let cases = [
        ("sport 80", "sport = :80"),
        ("dport neq :http", "not dport = :80"),
        ("sport>=:0x50", "sport >= :80"),
        ("src 10/8", "src 10.0.0.0/8"),
        ("dst 10.1.2.3/8:ssh", "dst 10.0.0.0/8:22"),
        ("src [::1]:443", "src [::1]:443"),
        ("src fe80::1", "src [fe80::1]"),
        ("dst 2001:db8::/32:80", "dst [2001:db8::]/32:80"),
        ("src :http", "sport = :80"),
        ("src *:80", "sport = :80"),
        ("dst any", "dst *"),
        ("src inet:*", "src 0.0.0.0/0"),
        ("dst inet6:*:80", "dst [::]/0:80"),
        ("fwmark 0x01/0x03", "fwmark = 0x1/0x3"),
        ("dev eth0", "dev = eth0"),
        ("cgroup /a/*", "cgroup = /a/*"),
        ("cgroup = /sys/fs/cgroup/a.slice/b", "cgroup = /a.slice/b"),
        ("cgroup = /sys/fs/cgroup/unified/a", "cgroup = /a"),
        ("state established exclude listening", "state established"),
        ("excl time-wait excl listening", "exclude time-wait exclude listening"),
        ("state != LISTEN", "exclude listening"),
        ("not state established", "exclude established"),
        ("state bucket", "state syn-recv state time-wait"),
        ("rtt > 100ms", "rtt_us > 100000"),
        ("bytes_received >= 1MB", "bytes_received >= 1000000"),
        ("duration < 1s", "duration < 1000000000ns"),
        ("opened > now", "opened > @1700000000.000000000"),
        ("closed > now", "closed > @1700000000.000000000"),
        ("time_wait > 1m", "time_wait > 60000000000ns"),
        ("in_state > 1m", "in_state > 60000000000ns"),
        ("comm = 'a b*'", "comm = a\\ b\\*"),
        ("netns = 427c52e57bd3", "netns = 427c52e57bd3*"),
        ("netns = '427c52e57bd3'", "netns = \\427c52e57bd3"),
        ("container = 427c52e57bd3*", "container = 427c52e57bd3*"),
        ("container = 427c52e57bd", "container = 427c52e57bd"),
        ("comm = 427c52e57bd3", "comm = 427c52e57bd3"),
        ("! sport 80 || dport 80", "not sport = :80 or dport = :80"),
        ("sport 80 dport 81 | sport 82", "( sport = :80 and dport = :81 ) or sport = :82"),
        (
            "state established and sport 80 dport 81",
            "state established and sport = :80 and dport = :81",
        ),
        ("sport 80 | dport 80 | sport 81", "sport = :80 or dport = :80 or sport = :81"),
        ("is_remains", "is_remains = true"),
    ];
    for (text, expected) in cases {
        assert_eq!(read(text), expected, "{text}");
    }
}

#[test]
fn an_error_points_at_its_place() {
    let texts = [
        "spotr = :80",
        "rtt",
        "rtt > 5",
        "rtt > fast",
        "rtt > 1MB",
        "comm > nginx",
        "colour = red",
        "sport = :70000",
        "sport = :htpt",
        "sport = :010",
        "sport = :80-90",
        "sport = :80,443",
        "sport in 80",
        "sport = 10.0.0.1:80",
        "src 80",
        "src localhost",
        "src ::1:80",
        "src 10.0.0.0/33",
        "src inet:::1",
        "src",
        "dst [::1",
        "10/8",
        "state",
        "state estb",
        "sport = :daytime",
        "fwmark = 4/3",
        "fwmark x",
        "src < 10/8",
        "( sport 80",
        "sport 80 )",
        "sport 80 and",
        "and sport 80",
        "comm = 'a",
        "comm = a\\",
        "sport 80 or sport 81 and dport 82",
        "ending = rst",
        "is_remains = maybe",
        "opened < later",
        "ulp_info = 00",
        "cookie < 5",
        "",
    ];
    let all: Vec<_> = texts.iter().map(|text| format!("{text}\n    {}", refused(text))).collect();
    assert_snapshot!(all.join("\n"));
}

#[test]
fn what_is_never_true_is_refused() {
    for text in [
        "sport 80 and sport 81",
        "sport < :80 dport 5 sport >= :80",
        "src 10/8 and src 11/8",
        "src ::1 and src 127.0.0.1",
        "src 10.0.0.1:80 sport != :80",
        "state listening and state established",
        "exclude all",
        "sport > :65535",
        "sport > 1023 sport < 1024",
        "rtt > 4us rtt < 5us",
        "not src *",
        "dev 1 dev 2",
        "fwmark 1/1 fwmark 0/3",
        "comm = a and not comm = a",
        "ulp = tls and ulp = mp*",
        "rtt > 5ms and rtt < 5ms",
        "duration < 1s and duration >= 1s",
        "sport 80 and ( sport 81 or ( dport 5 and sport 82 ) )",
        "autobound and not autobound",
    ] {
        assert!(parse(text).is_err_and(|e| e.message.contains("never true")), "{text}");
    }
}

#[test]
fn what_can_be_true_is_not_refused() {
    for text in [
        "sport 80 or sport 81",
        "sport <= :80 sport >= :80",
        "src 10/8 and src 10.1/16",
        "src 127.0.0.1 and src ::ffff:127.0.0.1",
        "comm = a and comm = b", // two processes hold it
        "sport 80 and ( sport 81 or dport 5 )",
        "state established state listening",
        "fwmark 1/1 fwmark 2/2",
    ] {
        assert!(parse(text).is_ok(), "{text}: {:?}", parse(text));
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_crash() {
    for word in ["(", "not ", "!"] {
        assert!(refused(&word.repeat(100_000)).starts_with("this is nested"));
    }
    let long = vec!["sport 80"; 20_000].join(" or ");
    assert!(parse(&long).is_ok());
}
