//! What each capability adds, and what is missing without: as docs/OPERATIONS.md says.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use insta::assert_snapshot;
use rustix::process::{Gid, Resource, Signal, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, configure_capability_in_ambient_set, set_capabilities,
    set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::harness::{Dir, Running, ask, is_root, limited_to, read_only};
use crate::not_run::not_here;

/// `nobody`
const NOBODY: u32 = 65_534;
const MARK: i64 = 0x5eed;

/// A directory of an ordinary user that can run the program; `None`, said aloud, where this process may
/// not change who it is.
pub(crate) fn of_ordinary_user() -> Option<Dir> {
    let dir = Dir::new();
    if !is_root() {
        not_here("rights", "the tests are not run by root");
        return None;
    }
    fs::set_permissions(dir.path("."), Permissions::from_mode(0o755)).unwrap();
    chown(dir.path("."), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = dir.command("--version");
    command.uid(NOBODY).gid(NOBODY);
    if command.output().is_ok_and(|output| output.status.success()) {
        return Some(dir);
    }
    not_here("rights", "an ordinary user cannot run the program where it was built");
    None
}

/// Has the program run by an ordinary user with these capabilities, as systemd's AmbientCapabilities do.
pub(crate) fn with(mut command: Command, capabilities: CapabilitySet) -> Command {
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    // SAFETY: these are system calls without allocation, which may be made between fork and exec.
    unsafe {
        command.pre_exec(move || {
            set_keep_capabilities(true)?;
            set_thread_groups(&[])?;
            set_thread_res_gid(gid, gid, gid)?;
            set_thread_res_uid(uid, uid, uid)?;
            set_capabilities(
                None,
                CapabilitySets {
                    effective: capabilities,
                    permitted: capabilities,
                    inheritable: capabilities,
                },
            )?;
            for capability in capabilities {
                configure_capability_in_ambient_set(capability, true)?;
            }
            Ok(())
        });
    }
    command
}

/// All that recording has a use for.
pub(crate) fn all() -> CapabilitySet {
    CapabilitySet::NET_ADMIN | CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH
}

/// Two listening sockets with a mark: one is held by this process of root, one by a process of an
/// ordinary user.
struct Scene {
    of_root: TcpListener,
    ordinary_port: u16,
    ordinary: Child,
}

impl Scene {
    fn new() -> Self {
        let [of_root, of_ordinary] = [(); 2].map(|()| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            set_mark(&listener);
            listener
        });
        let ordinary_port = of_ordinary.local_addr().unwrap().port();
        let ordinary = Command::new("sleep")
            .arg("600")
            .stdin(Stdio::from(OwnedFd::from(of_ordinary)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .uid(NOBODY)
            .gid(NOBODY)
            .spawn()
            .unwrap();
        Self { of_root, ordinary_port, ordinary }
    }

    fn ports(&self) -> [u16; 2] {
        [self.of_root.local_addr().unwrap().port(), self.ordinary_port]
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.ordinary.kill().unwrap();
        self.ordinary.wait().unwrap();
    }
}

fn set_mark(listener: &TcpListener) {
    use std::os::fd::AsRawFd;
    let mark = MARK as u32;
    // SAFETY: the option is an integer of this size, which is only read.
    let result = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MARK,
            (&raw const mark).cast(),
            4,
        )
    };
    assert_eq!(result, 0);
}

/// What a recorder with some rights learnt.
#[derive(Debug, PartialEq)]
struct Learnt {
    mark: bool,
    owner_of_others: bool,
    large_buffer: bool,
}

/// Records the scene until the owners are known that are expected to be: that of the ordinary user's socket
/// always is.
fn learnt(dir: &Dir, scene: &Scene, mut recorder: Running, expected: &Learnt) -> Learnt {
    let path = dir.path("rec.db");
    let [of_root, ordinary] = scene.ports();
    let owner = |port: u16| {
        format!(
            "SELECT count(*) FROM socket_owners JOIN sockets USING (socket_id)
             JOIN processes USING (process_id) WHERE protocol = 6 AND local_port = {port}"
        )
    };
    recorder.until_snapshots(&path, 1);
    recorder.until("an owner", || (ask(&path, &owner(ordinary)).ok()? > 0).then_some(()));
    if expected.owner_of_others {
        let of_root = owner(of_root);
        recorder.until("the other owner", || (ask(&path, &of_root).ok()? > 0).then_some(()));
    }
    // Whoever could see the others' processes would see them in the same round, or soon.
    let so_far = ask(&path, "SELECT count(*) FROM snapshots").unwrap();
    recorder.until_snapshots(&path, so_far + 40);
    recorder.signal(Signal::TERM);
    recorder.finish().recorded();
    let marked = format!(
        "SELECT count(*) FROM sockets WHERE mark = {MARK} AND local_port IN ({of_root}, {ordinary})"
    );
    let buffer = "SELECT json_extract(options, '$.event_buffer_bytes') FROM captures";
    let usual = fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
    Learnt {
        mark: ask(&path, &marked).unwrap() == 2,
        owner_of_others: ask(&path, &owner(of_root)).unwrap() > 0,
        large_buffer: ask(&path, buffer).unwrap() > 2 * usual.trim().parse::<i64>().unwrap(),
    }
}

#[test]
fn each_capability_adds_what_is_said_of_it() {
    let admin = CapabilitySet::NET_ADMIN;
    let trace = CapabilitySet::SYS_PTRACE;
    let search = CapabilitySet::DAC_READ_SEARCH;
    let cases = [
        (CapabilitySet::empty(), false, false),
        (admin, true, false),
        (trace, false, false),
        (search, false, false),
        (trace | search, false, true),
        (all(), true, true),
    ];
    for (capabilities, is_admin, owner_of_others) in cases {
        let Some(dir) = of_ordinary_user() else { return };
        let scene = Scene::new();
        let command = with(dir.command("record -q -i 50ms -o rec.db"), capabilities);
        let expected = Learnt { mark: is_admin, owner_of_others, large_buffer: is_admin };
        let learnt = learnt(&dir, &scene, Running::spawn(command), &expected);
        assert_eq!(learnt, expected, "{capabilities:?}");
        // The recording says of itself what it lacks.
        let of = |name: &str| {
            let sql = format!("SELECT json_extract(options, '$.{name}') FROM captures");
            ask(&dir.path("rec.db"), &sql).unwrap() == 1
        };
        assert_eq!(of("has_net_admin"), is_admin, "{capabilities:?}");
        assert_eq!(of("sees_every_process"), owner_of_others, "{capabilities:?}");
    }
}

/// The lines of `/proc/PID/status` of a process.
fn status_of(pid: u32, names: &[&str]) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let lines = text.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_recorder_of_root_goes_on_as_another_user_and_sees_no_less() {
    let Some(dir) = of_ordinary_user() else { return };
    let scene = Scene::new();
    let mut recorder = dir.start("record -q -i 50ms -o rec.db --user nobody");
    recorder.until_snapshots(&dir.path("rec.db"), 1);
    let names = [
        "Uid:",
        "Gid:",
        "Groups:",
        "CapEff:",
        "CapPrm:",
        "CapInh:",
        "CapAmb:",
        "CapBnd:",
        "NoNewPrivs:",
    ];
    assert_snapshot!(status_of(recorder.child.id(), &names).join("\n"), @"
    Uid: 65534 65534 65534 65534
    Gid: 65534 65534 65534 65534
    Groups: 65534
    CapInh: 0000000000000000
    CapPrm: 0000000000081004
    CapEff: 0000000000081004
    CapBnd: 0000000000081004
    CapAmb: 0000000000000000
    NoNewPrivs: 1
    ");
    // It holds for every thread, whenever it was started.
    for thread in fs::read_dir(format!("/proc/{}/task", recorder.child.id())).unwrap() {
        let Ok(text) = fs::read_to_string(thread.unwrap().path().join("status")) else { continue };
        assert!(text.contains("CapBnd:\t0000000000081004\n"), "{text}");
        assert!(text.contains("NoNewPrivs:\t1\n"), "{text}");
    }
    let file = dir.path("rec.db").metadata().unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (NOBODY, NOBODY, 0o600));
    let all = Learnt { mark: true, owner_of_others: true, large_buffer: true };
    assert_eq!(learnt(&dir, &scene, recorder, &all), all);
}

#[test]
fn a_command_that_is_recorded_by_another_user_has_no_capabilities_and_gets_none() {
    let Some(dir) = of_ordinary_user() else { return };
    let command = ["record", "-q", "-o", "rec.db", "--user", "nobody", "--"];
    let script = "id -u; grep -E 'CapEff|CapPrm|CapBnd|NoNewPrivs' /proc/self/status";
    let ran = crate::harness::run(dir.command_of(command.into_iter().chain(["sh", "-c", script])));
    assert_snapshot!(ran.recorded().stdout().replace('\t', " "), @"
    65534
    CapPrm: 0000000000000000
    CapEff: 0000000000000000
    CapBnd: 0000000000081004
    NoNewPrivs: 1
    ");
}

#[test]
fn a_user_that_is_not_there_or_may_not_be_become_is_told_of() {
    let dir = Dir::new();
    if is_root() {
        assert_snapshot!(dir.sockrec("record --user no-such-user").told(), @"
        exit 2
        error: there is no user `no-such-user`

        hint: `getent passwd` lists them
        ");
    }
    let Some(dir) = of_ordinary_user() else { return };
    let ran = crate::harness::run(with(dir.command("record --user root"), CapabilitySet::empty()));
    assert_snapshot!(ran.told(), @"
    exit 2
    error: could not go on as `root`: Operation not permitted (os error 1)

    hint: `--user` is for a recorder that root starts; any user may record without it
    ");
    assert_eq!(dir.names(), [""; 0]);
}

/// The directory of the recording is the user's, or the file cannot be made: root's rights are gone.
#[test]
fn the_recording_is_made_with_the_rights_of_the_user() {
    let Some(dir) = of_ordinary_user() else { return };
    fs::create_dir(dir.path("roots")).unwrap();
    fs::set_permissions(dir.path("roots"), Permissions::from_mode(0o755)).unwrap();
    let ran = dir.sockrec("record -q -c 1 --user nobody -o roots/rec.db");
    assert_eq!(ran.code(), Some(1), "{}", ran.told());
    assert!(ran.stderr.contains("Permission denied"), "{}", ran.stderr);
    assert!(read_only(Path::new(&dir.path("roots/rec.db"))).is_err());
}

/// A user of whom nothing else runs, so that the limit is this recorder's alone.
const NOBODY_ELSE: u32 = 54_321;

#[test]
fn a_recorder_that_may_have_too_few_threads_says_so() {
    let mut ended = [0, 0];
    for most in 1..=12 {
        let Some(dir) = of_ordinary_user() else { return };
        chown(dir.path("."), Some(NOBODY_ELSE), Some(NOBODY_ELSE)).unwrap();
        let mut command = dir.command("record -q -i 10ms -c 2 -o rec.db --metrics unix:metrics");
        command.env("NOTIFY_SOCKET", "/nowhere").env("WATCHDOG_USEC", "900000");
        command.uid(NOBODY_ELSE).gid(NOBODY_ELSE);
        let ran = crate::harness::run(limited_to(command, Resource::Nproc, most));
        let has_recorded = matches!(ran.code(), Some(0 | 3));
        ended[usize::from(has_recorded)] += 1;
        if !has_recorded {
            assert_eq!(ran.code(), Some(1), "{most}: {}", ran.told());
            assert!(ran.stderr.contains("error: could not "), "{most}: {}", ran.told());
            assert!(ran.stderr.contains("temporarily unavailable"), "{most}: {}", ran.told());
        }
    }
    assert!(ended[0] > 0 && ended[1] > 0, "{ended:?}");
}
