//! `record --metrics unix:PATH`: whoever connects gets the numbers of that moment, as plain text or as the
//! answer to a request of HTTP.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{geteuid, umask};

use super::message::usage;

/// So many are heard at a time; others wait in the queue of the socket.
const MOST_CLIENTS: usize = 8;
/// So long a client may take to say what it wants; who says nothing gets plain text then.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two rounds: bounds the time that clients can have the recorder spend.
const ROUND_EVERY: Duration = Duration::from_millis(20);
/// A recorder holds the lock of a directory for less than a millisecond.
const LOCK_TRIES: usize = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(10);
const MOST_REQUEST_BYTES: usize = 8 * 1024;
/// As all may read the file of metrics: to connect to a socket takes the right to write.
const CLOSED_TO_NOBODY: Mode = Mode::from_raw_mode(0o111);
const ANOTHER: &str = "name another socket with `--metrics unix:`";

/// A name in the file system that clients connect to; it goes when this is let go.
pub(super) struct SocketName {
    path: PathBuf,
    /// Device and inode: what bears the name later may be another's.
    id: (u64, u64),
}

impl SocketName {
    /// Takes the name, also that of a socket that nobody listens to any longer. To be called before there
    /// are other threads, for the sake of the umask.
    pub(super) fn bind(path: &Path) -> anyhow::Result<(Self, UnixListener)> {
        let name = path.display();
        if SocketAddr::from_pathname(path).is_err() {
            let text = format!("the path of a socket cannot be as long as `{name}`");
            return Err(usage(text, Some("name one of at most 107 bytes, from here or from `/`")));
        }
        let _alone = Alone::at(path)?;
        clear_the_way(path)?;
        let before = umask(CLOSED_TO_NOBODY);
        let bound = UnixListener::bind(path);
        umask(before);
        let context = || could_not_make(path);
        let listener = bound.with_context(context)?;
        listener.set_nonblocking(true).with_context(context)?;
        let id = fs::symlink_metadata(path).map(id).with_context(context)?;
        Ok((Self { path: path.to_owned(), id }, listener))
    }
}

impl Drop for SocketName {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|there| id(there) == self.id) {
            // Where that fails it is in the way of nobody: the next recorder replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn could_not_make(path: &Path) -> String {
    format!("could not make the socket of metrics `{}`", path.display())
}

/// Keeps other recorders from looking what bears a name in this directory, and from taking its place, at the
/// same time: they would remove the socket of one that was faster.
struct Alone(File);

impl Alone {
    fn at(path: &Path) -> anyhow::Result<Self> {
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(directory);
        let directory = match opened {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                let text = format!("{}: there is no such directory", could_not_make(path));
                return Err(usage(text, Some("make the directory, or name another socket")));
            }
            opened => opened.with_context(|| could_not_make(path))?,
        };
        for _ in 0..LOCK_TRIES {
            match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(directory)),
                Err(Errno::WOULDBLOCK) => thread::sleep(LOCK_PAUSE),
                Err(e) => return Err(io::Error::from(e)).with_context(|| could_not_make(path)),
            }
        }
        let text = format!("{}: somebody holds its directory locked", could_not_make(path));
        Err(usage(text, Some(ANOTHER)))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // There is nothing that could be done about it; it goes with the descriptor.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

fn id(there: Metadata) -> (u64, u64) {
    (there.dev(), there.ino())
}

/// Removes the socket of a recorder that was killed. Of one that nobody has open any longer nobody knows
/// of which kind it was: what cannot have been a recorder of this user's stays.
fn clear_the_way(path: &Path) -> anyhow::Result<()> {
    let name = path.display();
    let Ok(there) = fs::symlink_metadata(path) else { return Ok(()) };
    if !there.file_type().is_socket() {
        let text =
            format!("`{name}` is no socket, and metrics are put in the place of nothing else");
        return Err(usage(
            text,
            Some("name a socket with `--metrics unix:`, or one still to be made"),
        ));
    }
    let context = || format!("could not tell whether `{name}` is in use");
    if !is_left_alone(path).with_context(context)? {
        return Err(usage(format!("somebody listens to `{name}` already"), Some(ANOTHER)));
    }
    let is_as_made = there.mode() & CLOSED_TO_NOBODY.as_raw_mode() == 0;
    if !is_as_made || there.uid() != geteuid().as_raw() {
        let text =
            format!("the socket `{name}` was not made by a recorder of this user, and stays");
        return Err(usage(text, Some(ANOTHER)));
    }
    fs::remove_file(path).with_context(|| format!("could not remove the old socket `{name}`"))
}

/// Whether nobody has a socket open. To a socket of datagrams a stream is of the wrong type, listened to
/// or not: it hears nothing of this.
fn is_left_alone(path: &Path) -> io::Result<bool> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => Ok(true),
        // Of the same type, of another, bound to a peer of its own.
        Ok(()) | Err(Errno::PROTOTYPE | Errno::PERM) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Answers clients in a thread of its own, which goes with the process.
///
/// # Errors
/// When there is no thread to be had.
pub(super) fn serve(
    listener: UnixListener,
    text: impl Fn() -> String + Send + 'static,
) -> io::Result<()> {
    let thread = thread::Builder::new().name("metrics".to_owned());
    thread.spawn(move || {
        let mut clients = Vec::new();
        loop {
            wait(&listener, &clients);
            thread::sleep(ROUND_EVERY);
            while clients.len() < MOST_CLIENTS
                && let Ok((stream, _)) = listener.accept()
            {
                clients.extend(Client::new(stream));
            }
            clients.retain_mut(|client| match client.wish() {
                Some(wish) => {
                    client.answer(wish, &text);
                    false
                }
                None => true,
            });
        }
    })?;
    Ok(())
}

/// Until there is something to do; where that cannot be told the next round is soon.
fn wait(listener: &UnixListener, clients: &[Client]) {
    let mut watched: Vec<_> =
        clients.iter().map(|client| PollFd::new(&client.stream, PollFlags::IN)).collect();
    if clients.len() < MOST_CLIENTS {
        watched.push(PollFd::new(listener, PollFlags::IN));
    }
    let left = clients.iter().map(|client| PATIENCE.saturating_sub(client.since.elapsed())).min();
    let timeout = left.and_then(|left| Timespec::try_from(left).ok());
    let _ = poll(&mut watched, timeout.as_ref());
}

struct Client {
    stream: UnixStream,
    since: Instant,
    request: Vec<u8>,
}

/// What a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// The text.
    Text,
    /// The text as an answer of HTTP.
    Get,
    /// What stands before it there.
    Head,
    /// An answer that this is not to be had.
    Other,
}

impl Client {
    fn new(stream: UnixStream) -> Option<Self> {
        stream.set_nonblocking(true).ok()?;
        Some(Self { stream, since: Instant::now(), request: Vec::new() })
    }

    /// Hears what there is to hear; `None` if it may still come to say what it wants.
    fn wish(&mut self) -> Option<Wish> {
        let room = MOST_REQUEST_BYTES - self.request.len();
        let mut bytes = [0; MOST_REQUEST_BYTES];
        let is_over = match self.stream.read(&mut bytes[..room]) {
            Ok(count) => {
                self.request.extend_from_slice(&bytes[..count]);
                count == 0
            }
            Err(e) => !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        wish_of(&self.request, is_over || self.since.elapsed() >= PATIENCE)
    }

    /// It all fits into what the kernel holds for a new connection: who cannot take it is let go.
    fn answer(&mut self, wish: Wish, text: impl Fn() -> String) {
        let _ = self.stream.write_all(response(wish, &text()).as_bytes());
    }
}

/// What was asked for so far, or after all that will come.
fn wish_of(request: &[u8], is_over: bool) -> Option<Wish> {
    let Some(end) = request.iter().position(|&byte| byte == b'\n') else {
        return is_over.then_some(Wish::Text);
    };
    let line = request[..end].trim_ascii_end();
    if !line.ends_with(b" HTTP/1.1") && !line.ends_with(b" HTTP/1.0") {
        return Some(Wish::Text);
    }
    let has_all = [&b"\n\r\n"[..], b"\n\n"]
        .iter()
        .any(|blank| request.windows(blank.len()).any(|part| part == *blank));
    (has_all || is_over).then(|| match line.split(|&byte| byte == b' ').next() {
        Some(b"GET") => Wish::Get,
        Some(b"HEAD") => Wish::Head,
        _ => Wish::Other,
    })
}

fn response(wish: Wish, text: &str) -> String {
    let (status, rest, body) = match wish {
        Wish::Text => return text.to_owned(),
        Wish::Get => ("200 OK", "", text),
        Wish::Head => ("200 OK", "", ""),
        Wish::Other => ("405 Method Not Allowed", "Allow: GET, HEAD\r\n", ""),
    };
    let length = if wish == Wish::Head { text.len() } else { body.len() };
    format!(
        "HTTP/1.1 {status}\r\n\
         Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n\
         Content-Length: {length}\r\n{rest}Connection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_http_is_told_from_a_client_that_only_listens() {
        let get = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        for end in 0..get.len() {
            assert_eq!(wish_of(&get[..end], false), None, "{end}");
        }
        assert_eq!(wish_of(get, false), Some(Wish::Get));
        assert_eq!(wish_of(b"HEAD / HTTP/1.0\n\n", false), Some(Wish::Head));
        assert_eq!(wish_of(b"DELETE / HTTP/1.1\r\n\r\n", false), Some(Wish::Other));
        assert_eq!(wish_of(b"GET / HTTP/1.1\r\nHost", true), Some(Wish::Get));
        assert_eq!(wish_of(b"", false), None);
        for text in [&b""[..], b"GET / HT", b"\n", b"hello\n", b"\xff\0"] {
            assert_eq!(wish_of(text, true), Some(Wish::Text), "{text:?}");
        }
        assert_eq!(wish_of(b"hello\n", false), Some(Wish::Text));
    }

    #[test]
    fn an_answer_says_how_long_it_is() {
        let get = response(Wish::Get, "abc");
        assert!(get.contains("\r\nContent-Length: 3\r\n") && get.ends_with("\r\n\r\nabc"), "{get}");
        let head = response(Wish::Head, "abc");
        assert_eq!(Some(&*head), get.strip_suffix("abc"));
        assert!(response(Wish::Other, "abc").ends_with("Connection: close\r\n\r\n"));
        assert_eq!(response(Wish::Text, "abc"), "abc");
    }
}
