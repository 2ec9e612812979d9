//! On real sockets the kernel's filter, the predicate and `ss` mean the same.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use socket2::{Domain, Socket, Type};
use sockrec::filter::{Filter, Names, Narrowed, Told};
use sockrec::kernel::{DiagSocket, DumpEnd, LiveNames};
use sockrec::model::{Family, Protocol, States, TcpState};
use sockrec::wire::inet_diag::Message;

use crate::arbitrary::{filter_of, of_socket};
use crate::common::not_run;
use crate::common::wait::until_some;
use crate::namespace::{Surroundings, in_own_namespace};
use crate::parse;

const DUMPS: [(Family, Protocol); 6] = [
    (Family::Inet, Protocol::Tcp),
    (Family::Inet6, Protocol::Tcp),
    (Family::Inet, Protocol::Udp),
    (Family::Inet6, Protocol::Udp),
    (Family::Inet, Protocol::Raw),
    (Family::Inet, Protocol::Mptcp),
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
            // Not by closing them: a program that another test starts has them too for a moment.
            let (closed, mut left) = pair(TcpStream::connect(to).unwrap());
            closed.shutdown(Shutdown::Write).unwrap();
            assert_eq!(left.read(&mut [0]).unwrap(), 0);
            left.shutdown(Shutdown::Write).unwrap();
            let (half, other) = pair(TcpStream::connect(to).unwrap());
            half.shutdown(Shutdown::Write).unwrap();
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
        sockets.extend(half_open());
        sockets.extend(mptcp_listener());
        Self { _sockets: sockets }
    }
}

/// A connection whose listener waits for data: at its end there is a request only.
fn half_open() -> [Socket; 2] {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let place: SocketAddr = "127.0.0.2:22".parse().unwrap();
    set_option_of(&listener, (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT), &60u32.to_ne_bytes());
    listener.bind(&place.into()).unwrap();
    listener.listen(8).unwrap();
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    client.connect(&place.into()).unwrap();
    [listener, client]
}

/// `None` where the kernel has no MPTCP.
fn mptcp_listener() -> Option<Socket> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, Some(262.into())).ok()?;
    let place: SocketAddr = "127.0.0.2:80".parse().unwrap();
    listener.bind(&place.into()).unwrap();
    listener.listen(8).unwrap();
    Some(listener)
}

fn set_option(socket: &Socket, name: i32, value: &[u8]) {
    set_option_of(socket, (libc::SOL_SOCKET, name), value);
}

fn set_option_of(socket: &Socket, (level, name): (i32, i32), value: &[u8]) {
    let length = u32::try_from(value.len()).unwrap();
    // SAFETY: the descriptor is open, and the kernel reads just so many bytes.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), length) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// A socket by its dump and cookie.
type Key = (usize, u64);

fn dump(socket: &mut DiagSocket, states: States, narrowed: &Narrowed) -> BTreeMap<Key, Told> {
    let mut found = BTreeMap::new();
    for (n, &(family, protocol)) in DUMPS.iter().enumerate() {
        let end = socket.dump_narrowed(family, protocol, states, narrowed, &mut |payload, _| {
            let message = Message::parse(payload).unwrap();
            let told = Told::from(&message.observe(protocol));
            found.insert((n, message.cookie()), told);
        });
        let may_lack = matches!(protocol, Protocol::Raw | Protocol::Mptcp);
        let is_optional = may_lack && end == DumpEnd::Unsupported;
        assert!(is_optional || end == DumpEnd::Complete, "{family:?} {protocol:?}: {end:?}");
    }
    found
}

/// What the kernel and the residue leave.
fn by_kernel(socket: &mut DiagSocket, filter: &Filter) -> BTreeSet<Key> {
    let parted = filter.for_kernel();
    let shown = dump(socket, parted.states, &parted.narrowed);
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
        let all = until_some("the sockets to come to rest", || {
            let all = dump(&mut socket, States::ALL, &Narrowed::default());
            let moving = [TcpState::FIN_WAIT1, TcpState::CLOSING, TcpState::LAST_ACK];
            let is_moving = |told: &Told| told.state.is_some_and(|state| moving.contains(&state));
            (!all.values().any(is_moving)).then_some(all)
        });
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
            let now = dump(socket, States::ALL, &Narrowed::default());
            let found = by_kernel(socket, &filter);
            // A TIME-WAIT may have run out meanwhile.
            let still = dump(socket, States::ALL, &Narrowed::default());
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
        assert!((1..100).contains(&parted.narrowed.bytecode.len()));
        let found = by_kernel(socket, &filter);
        assert!(!found.is_empty() && found.len() < all.len());
        assert_eq!(found, by_predicate(all, &filter));
        // As long as it is asked for.
        let any = &any[..1_000];
        let filter = parse(&any.join(" or ")).unwrap();
        assert!(filter.for_kernel().residue.is_none());
        assert!(socket.takes(&filter.for_kernel().narrowed.bytecode).unwrap());
        assert_eq!(by_kernel(socket, &filter), by_predicate(all, &filter));
    });
}

/// Operations that no socket passes: what is shown all the same was looked up.
fn looked_up(socket: &mut DiagSocket, filter: &Filter) -> BTreeMap<Key, Told> {
    let nothing = parse("sport < :1 dport > :1").unwrap().for_kernel().narrowed.bytecode;
    let parted = filter.for_kernel();
    let narrowed = Narrowed { bytecode: nothing, ..parted.narrowed };
    assert!(narrowed.exact.is_some() && parted.residue.is_none(), "{filter}");
    dump(socket, parted.states, &narrowed)
}

#[test]
fn one_connection_is_looked_up_and_no_other_takes_its_place() {
    with_scene("a look-up of one connection", |socket, all| {
        let mut states = BTreeSet::new();
        let is_tcp = |(n, _): &Key| DUMPS[*n].1 == Protocol::Tcp;
        let ends = |told: &Told| {
            let end = |address: Option<IpAddr>, port: Option<u16>| {
                SocketAddr::new(address.unwrap().to_canonical(), port.unwrap())
            };
            let local = end(told.local_address, told.local_port);
            (local, end(told.remote_address, told.remote_port), told.interface.unwrap())
        };
        for (key, told) in
            all.iter().filter(|(key, told)| is_tcp(key) && told.remote_port != Some(0))
        {
            let (local, remote, interface) = ends(told);
            let text = format!("src {local} dst {remote} dev = {interface}");
            let found = looked_up(socket, &parse(&text).unwrap());
            assert_eq!(found.keys().collect::<Vec<_>>(), [key], "{text}");
            let name = told.state.and_then(TcpState::name).unwrap();
            states.insert(name);
            let others = parse(&format!("{text} exclude {name}")).unwrap();
            assert_eq!(looked_up(socket, &others), BTreeMap::new(), "{text} in {name}: {others}");
            // A device that is not told may be any: what is bound is found by a dump.
            let filter = parse(&format!("src {local} dst {remote}")).unwrap();
            assert_eq!(looked_up(socket, &filter).len(), usize::from(interface == 0), "{filter}");
            assert!(by_kernel(socket, &filter).contains(key), "{filter}");
        }
        assert!(states.len() >= 4, "{states:?}");
        // The listener on the port answers for what is not connected.
        let gone = parse("src 127.0.0.1:22 dst 127.0.0.1:9").unwrap();
        assert!(looked_up(socket, &gone).is_empty());
        assert!(by_kernel(socket, &gone).is_empty());
    });
}

#[test]
fn what_asks_for_less_or_more_than_one_connection_is_not_looked_up() {
    let exact = |text: &str| parse(text).unwrap().for_kernel().narrowed.exact.is_some();
    assert!(exact("src 10.0.0.1:22 and dst 10.0.0.2:9"));
    assert!(exact("state established src 10.0.0.1 sport 22 dst 10.0.0.2 dport 9"));
    assert!(exact("src [::1]:22 dst [::1]:9 dev = 3"));
    for text in [
        "src 10.0.0.1:22 dst 10.0.0.2",
        "src 10.0.0.1:22 dst 10.0.0.0/24:9",
        "src 10.0.0.1:22 dst 10.0.0.2:0",
        "src 10.0.0.1:22 and not dst 10.0.0.2:9",
        "src 10.0.0.1:22 dst 10.0.0.2:9 fwmark = 1",
        "src 10.0.0.1:22 dst 10.0.0.2:9 or dport = :80",
        "src 10.0.0.1:22 dst 10.0.0.2:9 not dport = :80",
        "src 10.0.0.1:22 dst [::1]:9",
        "sport = :22 dport = :9",
    ] {
        assert!(!exact(text), "{text}");
    }
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
        // `ss` wants the directory.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let mount = mount.and_then(|line| line.split(' ').nth(4)).expect("it was found there");
        let directory = format!("cgroup = {mount}{path}");
        if mount.starts_with("/sys/fs/cgroup") {
            let same = parse(&directory).unwrap().with_names(&LiveNames).unwrap();
            assert_eq!(same.to_string(), filter.to_string());
        }
        if Command::new("ss").arg("--version").output().is_ok() {
            let cookies: BTreeSet<_> = found.iter().map(|(_, cookie)| *cookie).collect();
            assert_eq!(by_ss(&directory), cookies);
        }
    });
}

/// The cookies that `ss` shows, of every protocol that is dumped.
fn by_ss(filter: &str) -> BTreeSet<u64> {
    let output = Command::new("ss").arg("-HtuwMaen").args(filter.split(' ')).output().unwrap();
    assert!(output.status.success(), "{filter}: {}", String::from_utf8_lossy(&output.stderr));
    let output = String::from_utf8(output.stdout).unwrap();
    let words = output.split_whitespace().filter_map(|word| word.strip_prefix("sk:"));
    words.filter_map(|cookie| u64::from_str_radix(cookie, 16).ok()).collect()
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
        "state syn-recv",
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
            let by_ss = by_ss(text);
            let filter = parse(text).unwrap().with_names(&LiveNames).unwrap();
            let ours: BTreeSet<_> =
                by_kernel(socket, &filter).into_iter().map(|(_, cookie)| cookie).collect();
            if text.ends_with("autobound") {
                // `ss` holds the port against the range of local ports too.
                assert!(ours.is_superset(&by_ss), "{text}");
            } else {
                assert_eq!(ours, by_ss, "{text}");
            }
            assert!(!ours.is_empty(), "{text} chose none");
            assert!(ours.len() < all.len() || text == "src *", "{text} chose all");
        }
    });
}
