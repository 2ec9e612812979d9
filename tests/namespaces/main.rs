//! Recording several network namespaces of the real kernel.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../common/not_run.rs"]
mod not_run;
mod scene;

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use harness::{Dir, Running, ask, assert_recording_is_whole, limited_to, run, until};
use rustix::process::{Resource, Signal};
use socket2::{Domain, Socket, Type};
use sockrec::kernel::{NamespaceHandles, NamespaceSockets, NamespaceWatch, Netns};

use scene::{CLIENT, Dweller, Named, alone, descriptors, may_make_namespaces};

/// Rows of an answer as CSV, without the header.
fn rows(dir: &Dir, line: &str) -> Vec<String> {
    let told = dir.sockrec(&format!("{line} --format csv")).stdout();
    told.lines().skip(1).map(str::to_owned).collect()
}

fn stop(recorder: Running) {
    recorder.signal(Signal::INT);
    recorder.finish().recorded();
}

#[test]
fn the_same_addresses_in_several_namespaces_are_never_mixed_up() {
    if !may_make_namespaces("namespaces by name, path and pid") {
        return;
    }
    let dir = Dir::new();
    let named: Vec<_> = (0..3).map(|_| Named::new()).collect();
    let dweller = Dweller::new();
    let connections: Vec<_> =
        named.iter().zip(1..).map(|(netns, n)| netns.connection(1_000 * n)).collect();
    let (one, two, three) = (&named[0].0, &named[1].0, named[2].path());
    // One is named twice, and recorded once.
    let mut recorder = dir.start(&format!(
        "record -q -t -4 -i 50ms -o rec.db --netns {one} --netns {two} --netns {} --netns {} \
         --netns /run/netns/{one}",
        three.display(),
        dweller.pid()
    ));
    let path = dir.path("rec.db");
    recorder.until_snapshots(&path, 5);
    drop(connections);
    recorder.until("the connections have ended", || {
        let sql = "SELECT count(*) >= 6 FROM socket_ends WHERE state <> 10";
        (ask(&path, sql).ok()? == 1).then_some(())
    });
    stop(recorder);
    assert_recording_is_whole(&path);

    let filter = format!("sport = :{} and dport = :7001", CLIENT.port());
    let found = rows(
        &dir,
        &format!("query connections -f rec.db --columns netns,bytes_sent --sort netns {filter}"),
    );
    let expected: Vec<_> =
        named.iter().zip(1..).map(|(netns, n)| format!("{},{}", netns.0, 1_000 * n)).collect();
    assert_eq!(found, expected);
    let strangers = "SELECT count(*) FROM sockets AS a JOIN sockets AS b
        ON b.socket_id = a.peer_socket_id WHERE a.netns_id <> b.netns_id";
    assert_eq!(ask(&path, strangers).unwrap(), 0);
    let pairs = "SELECT count(*) FROM sockets WHERE peer_socket_id IS NOT NULL";
    assert_eq!(ask(&path, pairs).unwrap(), 6);
    // That of the process has no socket and no name.
    let coverage = rows(&dir, "query coverage -f rec.db --columns kind,netns");
    for netns in named.iter().map(|netns| netns.0.clone()).chain([dweller.netns()]) {
        let recorded = format!("recorded,{netns}");
        assert_eq!(coverage.iter().filter(|row| **row == recorded).count(), 1, "{coverage:?}");
    }
    // A filter chooses by namespace, and a table names it where there are several.
    let table = dir.sockrec(&format!("query connections -f rec.db netns = {two}")).fine().stdout();
    assert!(table.starts_with("ID  NETNS"), "{table}");
    assert!(table.contains(two.as_str()) && !table.contains(one.as_str()), "{table}");
}

#[test]
fn namespaces_come_and_go_and_leave_nothing_behind() {
    if !may_make_namespaces("namespaces that come and go") {
        return;
    }
    let _alone = alone();
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let mut recorder = dir.start("record -q -t -4 -i 50ms --no-owners -o rec.db --netns all");
    recorder.until_snapshots(&path, 3);
    let named = |name: &str| format!("w.name = '{name}'");
    let is_recorded = |names: &[String], what: &str| {
        let names: Vec<_> = names.iter().map(|name| named(name)).collect();
        format!(
            "SELECT count(*) = {} FROM capture_scopes AS cs
             JOIN scopes AS sc ON sc.scope_id = cs.scope_id
             JOIN namespaces AS w ON w.netns_id = sc.netns_id
             WHERE cs.last_snapshot_id IS {what} AND ({})",
            names.len(),
            names.join(" OR ")
        )
    };
    let (mut before, mut ours) = (None, Vec::new());
    for round in 0..3 {
        let made: Vec<_> = (0..8).map(|_| Named::new()).collect();
        let names: Vec<_> = made.iter().map(|netns| netns.0.clone()).collect();
        let connections: Vec<_> = made.iter().map(|netns| netns.connection(100)).collect();
        recorder.until("the sockets of the namespaces are recorded", || {
            let names: Vec<_> = names.iter().map(|name| named(name)).collect();
            let sql = format!(
                "SELECT count(*) = 24 FROM sockets AS k
                 JOIN namespaces AS w ON w.netns_id = k.netns_id WHERE {}",
                names.join(" OR ")
            );
            (ask(&path, &sql).ok()? == 1).then_some(())
        });
        // Their names go first: it is the sockets that hold them then.
        drop(made);
        drop(connections);
        recorder.until("they are let go of", || {
            (ask(&path, &is_recorded(&names, "NOT NULL")).ok()? == 1).then_some(())
        });
        let pid = recorder.child.id();
        ours.extend(names.iter().map(|name| named(name)));
        // The first round has made what stays: threads, the memory of the writer.
        let known = *before.get_or_insert_with(|| descriptors(pid));
        if round > 0 {
            recorder.until("no descriptor is left", || (descriptors(pid) <= known).then_some(()));
        }
    }
    stop(recorder);
    assert_recording_is_whole(&path);
    // Other tests make some too.
    let ours = format!("({})", ours.join(" OR "));
    let open = format!(
        "SELECT count(*) FROM open_sockets AS o JOIN sockets AS k ON k.socket_id = o.socket_id
         JOIN namespaces AS w ON w.netns_id = k.netns_id WHERE {ours}
            AND w.netns_id IN (SELECT sc.netns_id FROM capture_scopes AS cs
                JOIN scopes AS sc ON sc.scope_id = cs.scope_id WHERE cs.last_snapshot_id NOT NULL)"
    );
    assert_eq!(ask(&path, &open).unwrap(), 0);
    // Each end was told of by its event, which is of its own namespace.
    let ended = format!(
        "SELECT count(*) FROM socket_ends AS e JOIN sockets AS k ON k.socket_id = e.socket_id
         JOIN namespaces AS w ON w.netns_id = k.netns_id
         WHERE {ours} AND e.destroyed_at_ns IS NOT NULL"
    );
    assert_eq!(ask(&path, &ended).unwrap(), 3 * 24);
}

#[test]
fn hundreds_of_namespaces_are_all_looked_at() {
    if !may_make_namespaces("hundreds of namespaces") {
        return;
    }
    let _alone = alone();
    const MANY: i64 = 200;
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let dwellers: Vec<_> = (0..MANY).map(|_| Dweller::new()).collect();
    let mut recorder = dir.start("record -q -i 200ms -o rec.db --netns all");
    recorder.until_snapshots(&path, 5);
    let most = descriptors(recorder.child.id());
    let netns: Vec<_> = dwellers.iter().map(|dweller| dweller.netns()).collect();
    drop(dwellers);
    let left = "SELECT count(DISTINCT sc.netns_id) FROM capture_scopes AS cs
        JOIN scopes AS sc ON sc.scope_id = cs.scope_id WHERE cs.last_snapshot_id IS NOT NULL";
    recorder.until("they are let go of", || (ask(&path, left).ok()? >= MANY).then_some(()));
    let pid = recorder.child.id();
    let of_many = usize::try_from(4 * MANY).unwrap();
    recorder.until("their descriptors are closed", || {
        (descriptors(pid) + of_many <= most + 8).then_some(())
    });
    stop(recorder);
    assert_recording_is_whole(&path);
    // Each dump walks the sockets of the whole machine; where there are none none is made, and all are
    // known in every snapshot.
    let inodes: Vec<_> = netns
        .iter()
        .map(|link| link.trim_start_matches("net:[").trim_end_matches(']').to_owned())
        .collect();
    let not_asked = format!(
        "SELECT count(*) FROM exceptions AS x JOIN scopes AS sc ON sc.scope_id = x.scope_id
         JOIN namespaces AS w ON w.netns_id = sc.netns_id WHERE w.inode IN ({})",
        inodes.join(",")
    );
    assert_eq!(ask(&path, &not_asked).unwrap(), 0);
    let looked_at = format!(
        "SELECT count(DISTINCT w.inode) FROM complete_dumps AS d
         JOIN scopes AS sc ON sc.scope_id = d.scope_id
         JOIN namespaces AS w ON w.netns_id = sc.netns_id WHERE w.inode IN ({})",
        inodes.join(",")
    );
    assert_eq!(ask(&path, &looked_at).unwrap(), MANY);
}

#[test]
fn a_namespace_is_empty_only_without_any_socket() {
    if !may_make_namespaces("what the kernel counts in a namespace") {
        return;
    }
    let netns = Named::new();
    netns.inside(|| {
        let mut sockets = NamespaceSockets::open(None).unwrap().count();
        // The kernel frees sockets of netlink a little after they were closed, also those of `ip`.
        let mut gone = |what: &str, is_empty: bool| {
            if is_empty {
                until(what, || sockets.are_the_only_ones().then_some(()));
            }
            assert_eq!(sockets.are_the_only_ones(), is_empty, "{what}");
        };
        gone("nothing at first", true);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        gone("a listener", false);
        drop(listener);
        gone("nothing", true);
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        gone("UDP over IPv6", false);
        drop(udp);
        gone("nothing again", true);
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound.bind(&CLIENT.into()).unwrap();
        gone("a socket that is bound and no more", false);
        drop(bound);
        let other = UnixDatagram::unbound().unwrap();
        gone("a socket of another kind: more is not known", false);
        drop(other);
        gone("nothing at last", true);
    });
    // What is left of a connection counts too.
    drop(netns.connection(10));
    netns.inside(|| {
        assert!(!NamespaceSockets::open(None).unwrap().count().are_the_only_ones());
    });
}

#[test]
fn one_that_cannot_be_entered_is_said_once_and_the_others_are_recorded() {
    if !may_make_namespaces("a namespace that cannot be entered") {
        return;
    }
    let without = |line: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-sys_admin", "--inh-caps=-all"]);
        command.arg(env!("CARGO_BIN_EXE_sockrec")).args(line.split(' '));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let dir = Dir::new();
    let netns = Named::new();
    let path = dir.path("rec.db");
    let file = path.display();
    let line = format!("record -i 20ms -c 80 -o {file} --netns self --netns {}", netns.0);
    let ran = run(without(&line)).recorded();
    assert_eq!(ran.code(), Some(3), "{}", ran.told());
    let told = ran.stderr;
    let refusal = format!("cannot record the network namespace `{}`", netns.0);
    assert_eq!(told.matches(&refusal).count(), 1, "{told}");
    assert_recording_is_whole(&path);
    assert_eq!(ask(&path, "SELECT count(DISTINCT netns_id) FROM scopes").unwrap(), 1);
    // The recording tells it, from when to when and why.
    let coverage =
        rows(&dir, "query coverage -f rec.db --columns kind,netns,snapshots,errno,message");
    let refused: Vec<_> = coverage.iter().filter(|row| row.starts_with("netns_refused")).collect();
    let why = "Operation not permitted (os error 1)";
    assert_eq!(refused, [&format!("netns_refused,{},80,1,{why}", netns.0)]);
    let json = dir.sockrec("query coverage -f rec.db --format json").stdout();
    assert!(json.contains(&format!("\"netns\":\"{}\"", netns.0)), "{json}");
    let table = dir.sockrec("query coverage -f rec.db").stdout();
    assert!(table.contains("netns_refused") && table.contains(&netns.0), "{table}");
    let rules = dir.sockrec("assert -f rec.db no-gaps no-resets");
    assert_eq!(rules.code(), Some(1), "{}", rules.told());
    let at = dir.sockrec("query at now -f rec.db");
    let refused =
        format!("warning: network namespaces could not be recorded then: `{}`: {why}\n", netns.0);
    assert!(at.code() == Some(3) && at.stderr.contains(&refused), "{}", at.told());

    let ran = run(without(&format!("record -c 1 -o {file}.other --netns {}", netns.0)));
    assert_eq!(ran.code(), Some(2), "{}", ran.told());
    assert!(ran.stderr.contains("CAP_SYS_ADMIN"), "{}", ran.told());
    assert_eq!(dir.names(), ["rec.db"]);
}

#[test]
fn those_that_there_are_too_few_descriptors_for_are_refused_and_the_others_recorded() {
    if !may_make_namespaces("more namespaces than descriptors") {
        return;
    }
    let _alone = alone();
    let named: Vec<_> = (0..20).map(|_| Named::new()).collect();
    let dir = Dir::new();
    let command = dir.command("record -t -i 20ms -c 3 -o rec.db --netns all");
    let ran = run(limited_to(command, Resource::Nofile, 64)).recorded();
    assert_eq!(ran.code(), Some(3), "{}", ran.told());
    assert!(ran.stderr.contains("Too many open files"), "{}", ran.told());
    let path = dir.path("rec.db");
    assert_recording_is_whole(&path);
    assert!(ask(&path, "SELECT count(DISTINCT netns_id) FROM scopes").unwrap() > 1);
    // They would take 100.
    let refused = "SELECT count(*) FROM refused_namespaces WHERE errno = 24";
    let refused = ask(&path, refused).unwrap();
    assert!(refused >= 12, "{refused} of {}", named.len());
}

#[test]
fn a_name_that_is_not_there_is_refused_with_those_that_are() {
    if !may_make_namespaces("a name that is not there") {
        return;
    }
    let dir = Dir::new();
    let netns = Named::new();
    let ran = dir.sockrec("record -c 1 --netns no-such-name");
    assert_eq!(ran.code(), Some(2), "{}", ran.told());
    assert!(ran.stderr.contains("`no-such-name`"), "{}", ran.told());
    assert!(ran.stderr.contains(&format!("`{}`", netns.0)), "{}", ran.told());
    let ran = dir.sockrec("record -c 1 --netns /etc/hostname");
    assert!(ran.stderr.contains("it is no network namespace"), "{}", ran.told());
    let ran = dir.sockrec("record -c 1 --netns 4194305");
    assert!(ran.stderr.contains("`/proc/4194305/ns/net`"), "{}", ran.told());
    let ran = dir.sockrec("record -c 1 --netns 99999999999");
    assert!(ran.stderr.contains("`/run/netns/99999999999`"), "{}", ran.told());
    assert!(dir.names().is_empty());
}

#[test]
fn the_sockets_of_a_namespace_go_on_in_the_next_capture() {
    if !may_make_namespaces("two captures of a namespace") {
        return;
    }
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let (one, two) = (Named::new(), Named::new());
    let (kept, lost) = (one.connection(100), two.connection(200));
    let line = format!(
        "record -q -t -4 -i 50ms -c 4 -o rec.db --netns self --netns {} --netns {}",
        one.0, two.0
    );
    dir.sockrec(&line).recorded();
    lost.end(&two);
    dir.sockrec(&line).recorded();
    assert_recording_is_whole(&path);
    let of = |netns: &Named, which: &str| {
        let sql = format!(
            "SELECT count(*) FROM sockets AS k JOIN namespaces AS w ON w.netns_id = k.netns_id
             LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
             WHERE w.name = '{}' AND {which}",
            netns.0
        );
        ask(&path, &sql).unwrap()
    };
    assert_eq!((of(&one, "1"), of(&one, "e.socket_id IS NOT NULL")), (3, 0));
    assert_eq!((of(&two, "1"), of(&two, "e.evidence IN ('absence', 'time_wait')")), (3, 3));
    drop(kept);
}

#[test]
fn what_lived_in_a_namespace_that_has_gone_closed_in_the_gap() {
    if !may_make_namespaces("a namespace that went between two captures") {
        return;
    }
    let _alone = alone();
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let (kept, lost) = (Named::new(), Named::new());
    let (stays, went) = (kept.connection(100), lost.connection(200));
    let (kept_name, lost_name) = (kept.0.clone(), lost.0.clone());
    let line = "record -q -t -4 -i 50ms -c 4 -o rec.db";
    dir.sockrec(&format!("{line} --netns {kept_name} --netns {lost_name}")).recorded();
    let sockets = |name: &str, which: &str| {
        let sql = format!(
            "SELECT count(*) FROM sockets AS k JOIN namespaces AS w ON w.netns_id = k.netns_id
             LEFT JOIN socket_ends AS e ON e.socket_id = k.socket_id
             LEFT JOIN capture_spans AS s ON s.first_snapshot_id = e.closed_before_snapshot_id
             WHERE w.name = '{name}' AND {which}"
        );
        ask(&path, &sql).unwrap()
    };
    // That nobody asks for it tells nothing of one that is there.
    dir.sockrec(line).recorded();
    assert_eq!(sockets(&lost_name, "e.socket_id IS NULL"), 3);
    let (cookie, inode) = lost.numbers();
    went.end(&lost);
    drop(lost);
    // The kernel takes a while to free the sockets, which hold it.
    if let Some(handles) = NamespaceHandles::new() {
        until("the namespace has gone", || handles.is_gone(cookie, inode).then_some(()));
    }
    let followed = dir.sockrec(&format!("{line} --netns all --follow=jsonl")).recorded().stdout();
    assert_recording_is_whole(&path);
    // A line for either end of the connection, none for the listener.
    let of_lost = format!("\"{lost_name}\"");
    let told: Vec<_> = followed.lines().filter(|line| line.contains(&of_lost)).collect();
    assert!(told.iter().all(|line| line.contains("\"netns_gone\"")), "{followed}");
    assert_eq!(told.len(), 2, "{followed}");
    let gone = "e.evidence = 'netns_gone' AND e.last_snapshot_id = 4 AND s.capture_id = 3";
    assert_eq!(sockets(&lost_name, gone), 3);
    assert_eq!(sockets(&kept_name, "e.socket_id IS NULL"), 3);
    let line = format!("query connections -f rec.db --columns closed_evidence netns = {lost_name}");
    assert_eq!(rows(&dir, &line), ["netns_gone", "netns_gone", "netns_gone"]);
    drop(stays);
}

/// Where the kernel cannot be asked for a namespace that nothing leads to.
#[test]
fn what_a_look_at_all_namespaces_does_not_find_has_gone() {
    if !may_make_namespaces("a look for one that has gone") {
        return;
    }
    let _alone = alone();
    let netns = Named::new();
    let (cookie, inode) = netns.numbers();
    let has_missed =
        |meant: Netns| NamespaceWatch::start(vec![meant], None).unwrap().has_missed(cookie, inode);
    assert!(!has_missed(Netns::All));
    assert!(!has_missed(Netns::Own));
    // Another one has its inode.
    let other = NamespaceWatch::start(vec![Netns::All], None).unwrap();
    assert!(other.has_missed(cookie + 1, inode));
    drop(other);
    drop(netns);
    assert!(!has_missed(Netns::Own));
    // One of another test may have its inode by now, which tells too. Where a process hides its own from
    // root nothing does.
    let sees_all = fs::read_link("/proc/1/ns/net").is_ok();
    assert!(has_missed(Netns::All) || !sees_all);
}

#[test]
fn the_owners_of_sockets_are_found_in_every_namespace() {
    if !may_make_namespaces("owners in namespaces") {
        return;
    }
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let netns = Named::new();
    let _connection = netns.connection(10);
    let mut recorder = dir.start(&format!("record -q -i 50ms -o rec.db --netns {}", netns.0));
    recorder.until_snapshots(&path, 1);
    recorder.until("the owner is known", || {
        let sql = format!(
            "SELECT count(*) = 3 FROM socket_owners AS o
             JOIN processes AS p ON p.process_id = o.process_id WHERE p.pid = {}",
            std::process::id()
        );
        (ask(&path, &sql).ok()? == 1).then_some(())
    });
    stop(recorder);
    assert_recording_is_whole(&path);
}

#[test]
fn a_name_may_be_given_before_there_is_a_namespace_and_again() {
    if !may_make_namespaces("a name that comes later, and again") {
        return;
    }
    let dir = Dir::new();
    let path = dir.path("rec.db");
    let netns = Named::new();
    let name = netns.0.clone();
    drop(netns);
    let mut recorder =
        dir.start(&format!("record -i 50ms -t -4 -o rec.db --netns self --netns {name}"));
    recorder.until_snapshots(&path, 1);
    for round in 1..=2 {
        let netns = Named::called(name.clone());
        recorder.until("a namespace of the name is recorded", || {
            let sql = format!("SELECT count(*) = {round} FROM namespaces WHERE name = '{name}'");
            (ask(&path, &sql).ok()? == 1).then_some(())
        });
        drop(netns);
    }
    recorder.signal(Signal::INT);
    let told = recorder.finish().recorded().stderr;
    assert_eq!(told.matches(&name).count(), 1, "that it was not there is said once: {told}");
    assert_recording_is_whole(&path);
    let spans =
        format!("SELECT count(last_snapshot_id) FROM refused_namespaces WHERE name = '{name}'");
    // Until it was there; whether it was missed before it was there again is a matter of chance.
    assert!(ask(&path, &spans).unwrap() >= 1);
    let cookies =
        format!("SELECT count(DISTINCT netns_cookie) FROM namespaces WHERE name = '{name}'");
    assert_eq!(ask(&path, &cookies).unwrap(), 2);
}

#[test]
fn a_device_has_its_number_in_each_namespace() {
    if !may_make_namespaces("a filter by device") {
        return;
    }
    let _alone = alone();
    let dir = Dir::new();
    let ran = dir.sockrec("record -c 1 --netns all dev = lo");
    assert_eq!(ran.code(), Some(2), "{}", ran.told());
    assert!(
        ran.stderr.contains("each network namespace has a device of its own"),
        "{}",
        ran.told()
    );
    assert!(dir.names().is_empty());
}
