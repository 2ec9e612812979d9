//! On real sockets the kernel's filter, the predicate and `ss` mean the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use socket2::{Domain, Socket, Type};
use sockrec::filter::{Filter, Names, Told};
use sockrec::kernel::{DiagSocket, DumpEnd, LiveNames};
use sockrec::model::{Family, Protocol, States};
use sockrec::wire::inet_diag::Message;

use crate::arbitrary::{filter_of, of_socket};
use crate::common::not_run;
use crate::namespace::{Surroundings, in_own_namespace};
use crate::parse;

const DUMPS: [(Family, Protocol); 5] = [
    (Family::Inet, Protocol::Tcp),
    (Family::Inet6, Protocol::Tcp),
    (Family::Inet, Protocol::Udp),
    (Family::Inet6, Protocol::Udp),
    (Family::Inet, Protocol::Raw),
];

/// Sockets of many kinds, on ports that the random filters ask for.
struct Scene {
    _sockets: Vec<Socket>,
}

impl Scene {
    fn open() -> Self {
        let mut sockets = Vec::new();
        for (address, port) in
            [("127.0.0.1", 22u32), ("127.0.0.1", 80), ("[::]", 514), ("[::1]", 40_000)]
        {
            let listener = TcpListener::bind(format!("{address}:{port}")).unwrap();
            let to = if address == "[::]" { "127.0.0.1" } else { address };
            let to: SocketAddr = format!("{to}:{port}").parse().unwrap();
            let pair = |client: TcpStream| (client, listener.accept().unwrap().0);
            // Established; closed by the client, whose TIME-WAIT stays; half closed.
            let (client, server) = pair(TcpStream::connect(to).unwrap());
            let (closed, left) = pair(TcpStream::connect(to).unwrap());
            drop((closed, left));
            let (half, other) = pair(TcpStream::connect(to).unwrap());
            half.shutdown(std::net::Shutdown::Write).unwrap();
            sockets.extend([client, server, half, other].map(Socket::from));
            // A port of its own choice, a mark and a device.
            let bound = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
            set_option(&bound, libc::SO_MARK, &(port % 4).to_ne_bytes());
            set_option(&bound, libc::SO_BINDTODEVICE, b"lo");
            let from: SocketAddr = if to.is_ipv4() {
                "127.0.0.1:65535".parse().unwrap()
            } else {
                "[::1]:65535".parse().unwrap()
            };
            bound.set_reuse_address(true).unwrap();
            bound.bind(&from.into()).unwrap();
            bound.connect(&to.into()).unwrap();
            let accepted = listener.accept().unwrap().0;
            sockets.extend([bound, accepted.into(), listener.into()]);
        }
        for (from, to) in [
            ("127.0.0.1:22", None),
            ("127.0.0.1:80", Some("127.0.0.1:22")),
            ("[::]:514", None),
            ("[::1]:40000", Some("[::1]:514")),
            ("0.0.0.0:0", Some("127.0.0.1:65535")),
        ] {
            let socket = UdpSocket::bind(from).unwrap();
            to.map_or(Ok(()), |to| socket.connect(to)).unwrap();
            let socket = Socket::from(socket);
            set_option(&socket, libc::SO_MARK, &1u32.to_ne_bytes());
            sockets.push(socket);
        }
        sockets
            .push(Socket::new(Domain::IPV4, Type::from(libc::SOCK_RAW), Some(1.into())).unwrap());
        Self { _sockets: sockets }
    }
}

fn set_option(socket: &Socket, name: i32, value: &[u8]) {
    let length = u32::try_from(value.len()).unwrap();
    // SAFETY: the descriptor is open, and the kernel reads just so many bytes.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, value.as_ptr().cast(), length)
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// A socket by its dump and cookie.
type Key = (usize, u64);

fn dump(socket: &mut DiagSocket, states: States, bytecode: &[u8]) -> BTreeMap<Key, Told> {
    let mut found = BTreeMap::new();
    for (n, &(family, protocol)) in DUMPS.iter().enumerate() {
        let end = socket.dump_filtered(family, protocol, states, bytecode, &mut |payload, _| {
            let message = Message::parse(payload).unwrap();
            let told = Told::from(&message.observe(protocol));
            found.insert((n, message.cookie()), told);
        });
        // A kernel may lack raw sockets.
        let is_optional = protocol == Protocol::Raw && end == DumpEnd::Unsupported;
        assert!(is_optional || end == DumpEnd::Complete, "{family:?} {protocol:?}: {end:?}");
    }
    found
}

/// What the kernel and the residue leave.
fn by_kernel(socket: &mut DiagSocket, filter: &Filter) -> BTreeSet<Key> {
    let parted = filter.for_kernel();
    let shown = dump(socket, parted.states, &parted.bytecode);
    let passes = |told: &Told| {
        parted.residue.as_ref().is_none_or(|residue| residue.holds_for(told) == Some(true))
    };
    shown.into_iter().filter(|(_, told)| passes(told)).map(|(key, _)| key).collect()
}

fn by_predicate(sockets: &BTreeMap<Key, Told>, filter: &Filter) -> BTreeSet<Key> {
    let holds = |told: &Told| filter.holds_for(told) == Some(true);
    sockets.iter().filter(|(_, told)| holds(told)).map(|(key, _)| *key).collect()
}

fn with_scene(what: &str, run: impl FnOnce(&mut DiagSocket, &BTreeMap<Key, Told>) + Send) {
    in_own_namespace(what, |surroundings| {
        if surroundings == Surroundings::Shared {
            not_run(what, "other sockets would change meanwhile");
            return;
        }
        let _scene = Scene::open();
        let mut socket = DiagSocket::open().unwrap();
        let all = dump(&mut socket, States::ALL, &[]);
        assert!(all.len() > 30, "{} sockets", all.len());
        run(&mut socket, &all);
    });
}

#[test]
fn the_kernel_and_the_predicate_mean_the_same() {
    with_scene("the kernel's filter", |socket, _| {
        let mut runner = TestRunner::deterministic();
        let texts = filter_of(of_socket());
        let (mut asked, mut some) = (0, 0);
        while asked < 2_000 {
            let text = texts.new_tree(&mut runner).unwrap().current();
            let Ok(filter) = parse(&text) else { continue };
            let now = dump(socket, States::ALL, &[]);
            let found = by_kernel(socket, &filter);
            // A TIME-WAIT may have run out meanwhile.
            let still = dump(socket, States::ALL, &[]);
            if still != now {
                continue;
            }
            asked += 1;
            some += u32::from(!found.is_empty() && found.len() < now.len());
            assert_eq!(found, by_predicate(&now, &filter), "{text}");
        }
        assert!(some > 500, "only {some} of {asked} filters chose some and not all");
    });
}

#[test]
fn a_filter_too_long_for_the_kernel_is_left_to_the_predicate() {
    with_scene("a long filter", |socket, all| {
        let ports: Vec<_> = (0..30_000).filter(|p| p % 514 == 0).chain(1..3_000).collect();
        let any: Vec<_> = ports.iter().map(|port| format!("sport = :{port}")).collect();
        let filter = parse(&format!("( {} ) and dst 127/8", any.join(" or "))).unwrap();
        let parted = filter.for_kernel();
        assert!(parted.residue.is_some());
        assert!(!parted.bytecode.is_empty() && parted.bytecode.len() < 100);
        let found = by_kernel(socket, &filter);
        assert!(!found.is_empty() && found.len() < all.len());
        assert_eq!(found, by_predicate(all, &filter));
        // As long as it is asked for.
        let any = &any[..1_000];
        let filter = parse(&any.join(" or ")).unwrap();
        assert!(filter.for_kernel().residue.is_none());
        assert!(socket.takes(&filter.for_kernel().bytecode).unwrap());
        assert_eq!(by_kernel(socket, &filter), by_predicate(all, &filter));
    });
}

#[test]
fn what_the_kernel_does_not_take_is_told() {
    let mut socket = DiagSocket::open().unwrap();
    assert!(!socket.takes(&[99, 4, 8, 0]).unwrap(), "an operation that no kernel has");
}

#[test]
fn the_cgroup_of_a_socket_is_found_by_its_path() {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned);
    let Some(path) = path.filter(|path| LiveNames.cgroup(path).is_some()) else {
        not_run("a filter by cgroup", "this process is in none of cgroup v2");
        return;
    };
    with_scene("a filter by cgroup", |socket, all| {
        let filter = parse(&format!("cgroup = {path}")).unwrap().with_names(&LiveNames).unwrap();
        let found = by_kernel(socket, &filter);
        assert_eq!(found, by_predicate(all, &filter));
        assert!(!found.is_empty() && found.len() < all.len(), "mini-sockets are in none");
        // The kernel takes mini-sockets to be in another one; of them nobody tells.
        let other = Filter::Not(Box::new(filter.clone()));
        assert!(by_predicate(all, &other).is_empty());
        assert!(by_kernel(socket, &other).is_disjoint(&found));
    });
}

#[test]
fn every_kind_of_condition_means_what_it_means_to_ss() {
    let texts = [
        "sport = :22",
        "sport 22",
        "dport eq 80",
        "sport != :22",
        "sport gt :80",
        "dport >= :514",
        "sport < :80",
        "dport le 22",
        "sport = :ssh",
        "src 127.0.0.1",
        "src 127/8",
        "dst 127.0.0.1:22",
        "src [::1]",
        "src [::1]:40000",
        "dst *:80",
        "src :514",
        "src ::/0",
        "dst 0.0.0.0",
        "src inet:127.0.0.1:80",
        "dev lo",
        "dev = 1",
        "dev != lo",
        "fwmark = 0x1/0x3",
        "fwmark 2",
        "fwmark != 0",
        "autobound",
        "not autobound",
        "state established",
        "state listening",
        "state time-wait dport = :80",
        "exclude listening",
        "state connected exclude established",
        "state fin-wait-2 state close-wait",
        "state bucket",
        "state big",
        "state synchronized",
        "( sport = :22 or dport = :22 )",
        "sport = :22 or dport = :22",
        "sport = :22 and src 127/8",
        "not sport = :22 dport = :80",
        "! ( sport = :22 | dport = :80 )",
        "sport = :22 && src 127/8",
        "sport = :22 and src 127/8 or dport = :80",
        "not ( not sport = :22 )",
        "src *",
    ];
    with_scene("`ss` with the same text", |socket, all| {
        if Command::new("ss").arg("--version").output().is_err() {
            not_run("`ss` with the same text", "there is no `ss`");
            return;
        }
        for text in texts {
            // `ss -tuwa` with extended details tells the cookie of each socket.
            let output = Command::new("ss").arg("-Htuwaen").args(text.split(' ')).output().unwrap();
            assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
            let output = String::from_utf8(output.stdout).unwrap();
            let by_ss: BTreeSet<_> = output
                .split_whitespace()
                .filter_map(|word| u64::from_str_radix(word.strip_prefix("sk:")?, 16).ok())
                .collect();
            let filter = parse(text).unwrap().with_names(&LiveNames).unwrap();
            let ours: BTreeSet<_> =
                by_kernel(socket, &filter).into_iter().map(|(_, cookie)| cookie).collect();
            if text.ends_with("autobound") {
                // `ss` holds the port against the range of local ports too.
                assert!(ours.is_superset(&by_ss), "{text}");
            } else {
                assert_eq!(ours, by_ss, "{text}");
            }
            assert!(!ours.is_empty() || text == "state bucket", "{text} chose none");
            assert!(ours.len() < all.len() || text == "src *", "{text} chose all");
        }
    });
}
