//! Files that cannot be imported at all.

use std::io;
use std::path::PathBuf;

/// Why there is nothing to import.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// The file cannot be opened.
    #[error("could not open `{}`", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("could not read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("`{}` is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It is compressed.
    #[error("`{}` is compressed ({format})", path.display())]
    Compressed {
        /// The file.
        path: PathBuf,
        /// How.
        format: &'static str,
    },
    /// It is something else.
    #[error("`{}` is neither raw netlink nor a pcap or pcapng file", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
    },
    /// It was given before.
    #[error("`{}` is given twice", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
    },
    /// Its packets are not netlink's.
    #[error("`{}` was not captured on an nlmon interface: it has {found}", path.display())]
    LinkType {
        /// The file.
        path: PathBuf,
        /// What it has.
        found: String,
    },
    /// The kernel that wrote it has the other byte order.
    #[error("`{}` is from a machine of the other byte order", path.display())]
    ByteOrder {
        /// The file.
        path: PathBuf,
    },
    /// It can be read, but there is neither a dump nor an event in it.
    #[error("no sockets were asked for in what is to be imported: no dump and no destroy event")]
    Nothing,
}

impl ForeignError {
    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Compressed { .. } => "unpack it first",
            Self::Unknown { .. } => {
                "`ss -D FILE` writes raw netlink; `tcpdump -i nlmon0 -w FILE` captures what others \
                 ask the kernel"
            }
            Self::LinkType { .. } => {
                "`ip link add nlmon0 type nlmon && ip link set nlmon0 up` makes an interface that \
                 shows netlink (link type 253)"
            }
            Self::ByteOrder { .. } => "import it on a machine with the byte order of that one",
            Self::Nothing => "a capture shows only what is asked while it runs, as by `ss -tan`",
            Self::Open { .. } | Self::Read { .. } | Self::Empty { .. } | Self::Twice { .. } => {
                return None;
            }
        })
    }
}
