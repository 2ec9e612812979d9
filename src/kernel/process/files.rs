//! What the files of a process in `/proc` say: bytes of any kind, since a process can call itself anything.

/// What of `/proc/PID/stat` (proc_pid_stat(5)) is used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) comm: Vec<u8>,
    pub(super) parent: u32,
    pub(super) started_ticks: u64,
}

impl Stat {
    /// The name may hold anything, parentheses, blanks and newlines too: it ends at the last one.
    pub(super) fn parse(stat: &[u8]) -> Option<Self> {
        const PARENT: usize = 4;
        const STARTED: usize = 22;
        const BEHIND_COMM: usize = 3;
        let open = stat.iter().position(|&b| b == b'(')?;
        let close = stat.iter().rposition(|&b| b == b')')?;
        let comm = stat.get(open + 1..close)?.to_vec();
        let mut fields = stat[close + 1..].split(u8::is_ascii_whitespace).filter(|f| !f.is_empty());
        let parent = number(fields.nth(PARENT - BEHIND_COMM)?)?;
        let started_ticks = number(fields.nth(STARTED - PARENT - 1)?)?;
        Some(Self { comm, parent, started_ticks })
    }
}

/// The second number behind `Uid:` in `/proc/PID/status`.
pub(super) fn effective_uid(status: &[u8]) -> Option<u32> {
    let line = status.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    number(line.split(u8::is_ascii_whitespace).filter(|f| !f.is_empty()).nth(1)?)
}

/// The arguments, each of which ends with a zero byte, joined by blanks.
pub(super) fn command_line(arguments: &[u8]) -> Option<String> {
    let end = arguments.iter().rposition(|&b| b != 0)? + 1;
    let joined: Vec<u8> = arguments[..end].iter().map(|&b| if b == 0 { b' ' } else { b }).collect();
    text(&joined)
}

/// What a process says of itself is bytes of any kind; empty means that it says nothing.
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned())
}

pub(super) fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The inode in `socket:[123]`.
pub(super) fn socket_inode(target: &[u8]) -> Option<u32> {
    number(target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stat(comm: &[u8]) -> Vec<u8> {
        let behind = b") S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20 21 22\n";
        [b"42 (", comm, behind].concat()
    }

    #[test]
    fn a_name_may_hold_anything() {
        let names: [&[u8]; 7] = [b"", b"nginx", b"a b", b"a) R 1 2", b"((", b"x\ny", b"\xff\xfe"];
        for comm in names {
            let parsed = Stat::parse(&stat(comm));
            assert_eq!(
                parsed,
                Some(Stat { comm: comm.to_vec(), parent: 1, started_ticks: 987_654 })
            );
        }
    }

    #[test]
    fn what_is_no_stat_is_refused() {
        let cut: [&[u8]; 6] = [
            b"",
            b"42",
            b"42 (a",
            b"42 (a) S 1",
            b"a) (b",
            b"1 (a) S 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 x",
        ];
        for stat in cut {
            assert_eq!(Stat::parse(stat), None, "{stat:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_fail(bytes: Vec<u8>) {
            Stat::parse(&bytes);
            Stat::parse(&stat(&bytes));
            effective_uid(&bytes);
            socket_inode(&bytes);
            let line = command_line(&bytes);
            prop_assert!(line.is_none_or(|line| !line.is_empty() && !line.contains('\0')));
        }
    }

    #[test]
    fn a_command_line_is_its_arguments() {
        let of = |bytes: &[u8]| command_line(bytes);
        assert_eq!(of(b"sleep\x0060\0"), Some("sleep 60".to_owned()));
        assert_eq!(of(b"a\0\0b c\0\0\0"), Some("a  b c".to_owned()));
        assert_eq!(of(b"cut at the e"), Some("cut at the e".to_owned()));
        assert_eq!(of(b"\x1b[2J\n\xff\0"), Some("\u{1b}[2J\n\u{fffd}".to_owned()));
        assert_eq!(of(b""), None);
        assert_eq!(of(b"\0\0"), None);
    }

    #[test]
    fn the_effective_user_is_taken() {
        assert_eq!(effective_uid(b"Name:\tx\nUid:\t1000\t0\t1000\t1000\nGid:\t1\t2\n"), Some(0));
        assert_eq!(effective_uid(b"Name:\tUid:\t7\t7\n"), None);
        assert_eq!(effective_uid(b"Uid:\t4294967295"), None);
    }

    #[test]
    fn only_sockets_have_an_inode_here() {
        assert_eq!(socket_inode(b"socket:[123]"), Some(123));
        assert_eq!(socket_inode(b"socket:[4294967295]"), Some(u32::MAX));
        let others: [&[u8]; 5] =
            [b"pipe:[123]", b"socket:[4294967296]", b"socket:[]", b"socket:[1", b"/tmp/socket:[1]"];
        for other in others {
            assert_eq!(socket_inode(other), None, "{other:?}");
        }
    }
}
