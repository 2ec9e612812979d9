//! `record FILTER` on real sockets, and what it makes of them.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::harness::{Dir, ask, assert_recording_is_whole, read_only};
use crate::namespace::{Surroundings, in_own_namespace};

/// Values of a query's only column.
fn values(path: &Path, sql: &str) -> Vec<String> {
    let connection = read_only(path).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

fn connect(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn alone(what: &str, run: impl FnOnce() + Send) {
    in_own_namespace(what, |surroundings| {
        if surroundings == Surroundings::Own {
            run();
        }
    });
}

const ENDS: &str =
    "SELECT local_port || ' ' || remote_port || ' ' || coalesce(closed_evidence, '-')
    FROM (SELECT k.local_port, k.remote_port, e.evidence AS closed_evidence, k.socket_id
        FROM sockets AS k LEFT JOIN socket_ends AS e USING (socket_id)) ORDER BY socket_id";

#[test]
fn only_the_chosen_are_recorded_and_their_ends_are_known() {
    alone("`record FILTER`", || {
        let (chosen, other) = (listener(), listener());
        let (port, of_other) = (port(&chosen), port(&other));
        let (kept, _kept) = connect(&chosen);
        let (left, _left) = connect(&chosen);
        let _others = [connect(&other), connect(&other)];
        let dir = Dir::new();
        let path = dir.path("r.db");
        let mut running = dir.start(&format!("record -o r.db -i 20ms dport = :{port}"));
        running.until_snapshots(&path, 2);
        let left_port = left.local_addr().unwrap().port();
        // Neither was there in any snapshot.
        drop(connect(&chosen));
        drop(connect(&other));
        abort(left);
        running.until("the end of the one that was left", || {
            let ended = "SELECT count(*) FROM socket_ends JOIN sockets USING (socket_id)
                WHERE local_port = ";
            (ask(&path, &format!("{ended}{left_port}")) == Ok(1)).then_some(())
        });
        running.signal(Signal::INT);
        running.finish().recorded();
        assert_recording_is_whole(&path);
        let ends = values(&path, ENDS);
        let of_port = |line: &&String| line.contains(&format!(" {port} "));
        assert!(ends.iter().all(|line| of_port(&line)), "{ends:?}");
        assert!(!ends.iter().any(|line| line.contains(&of_other.to_string())), "{ends:?}");
        let kept = format!("{} {port} -", kept.local_addr().unwrap().port());
        assert!(ends.contains(&kept), "{ends:?}");
        assert!(ends.len() >= 3, "the one that was not seen is told of by its event: {ends:?}");
    });
}

#[test]
fn one_connection_is_recorded_until_it_is_gone_and_the_listener_does_not_take_its_place() {
    alone("one connection", || {
        let listener = listener();
        let (mut client, _server) = connect(&listener);
        let _more = [connect(&listener), connect(&listener)];
        let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let dir = Dir::new();
        let path = dir.path("r.db");
        let line = format!("record -o r.db -i 20ms --no-events src {local} dst {remote}");
        let mut running = dir.start(&line);
        running.until_snapshots(&path, 2);
        client.write_all(&[0; 1_000]).unwrap();
        running.until("its bytes", || {
            let sent = "SELECT max(bytes_sent) FROM samples";
            (ask(&path, sent) == Ok(1_000)).then_some(())
        });
        abort(client);
        running.until("its end", || {
            (ask(&path, "SELECT count(*) FROM socket_ends") == Ok(1)).then_some(())
        });
        running.signal(Signal::INT);
        running.finish().recorded();
        assert_recording_is_whole(&path);
        let expected = format!("{} {} absence", local.port(), remote.port());
        assert_eq!(values(&path, ENDS), [expected]);
    });
}

#[test]
fn a_command_stands_behind_the_filter() {
    alone("FILTER and COMMAND", || {
        let dir = Dir::new();
        dir.sockrec("record -o r.db -i 20ms dport = :9 and state established -- true").recorded();
        let filters = values(&dir.path("r.db"), "SELECT DISTINCT filter FROM scopes");
        assert_eq!(filters, ["dport = :9 and state established"]);
        // Of the states that the filter leaves only these were asked for.
        let states = ask(&dir.path("r.db"), "SELECT max(states) FROM scopes").unwrap();
        assert_eq!(states, 1 << 1);
    });
}

#[test]
fn the_living_kernel_is_asked_for_one_connection_and_for_all_listeners_of_a_port() {
    alone("`--live` with FILTER", || {
        let dir = Dir::new();
        let first = reusable("127.0.0.1:0".parse().unwrap());
        let port = first.local_addr().unwrap().as_socket().unwrap().port();
        let second = reusable(format!("127.0.0.1:{port}").parse().unwrap());
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let rows = |filter: &str| {
            let line = format!("query at --live --format csv --columns state {filter}");
            dir.sockrec(&line)
                .fine()
                .stdout()
                .lines()
                .skip(1)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(rows(&format!("-l sport = :{port}")), ["LISTEN", "LISTEN"]);
        assert_eq!(rows(&format!("state listening sport = :{port}")), ["LISTEN", "LISTEN"]);
        assert_eq!(rows(&format!("src {local} dst {remote}")), ["ESTAB"]);
        assert_eq!(rows(&format!("src {local} dst {remote} 'rtt < 1min'")), ["ESTAB"]);
        assert!(rows(&format!("src {local} dst 127.0.0.1:9")).is_empty());
        let unknown = dir.sockrec("query at --live comm = nginx").told();
        assert!(unknown.contains("neither processes nor cgroups were looked for"), "{unknown}");
        drop((first, second));
    });
}

fn reusable(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    rustix::net::sockopt::set_socket_reuseport(&socket, true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(8).unwrap();
    socket
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().unwrap().port()
}

/// Leaves no TIME-WAIT.
fn abort(stream: TcpStream) {
    Socket::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}
