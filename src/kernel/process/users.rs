//! The names of users.

use std::collections::HashMap;
use std::fs;
use std::time::SystemTime;

use super::files::{number, text};

/// The users of `/etc/passwd`. Other sources of names are left alone: they may ask the network.
#[derive(Debug, Default)]
pub(super) struct UserNames {
    read_at: Option<SystemTime>,
    names: HashMap<u32, String>,
}

impl UserNames {
    const PATH: &str = "/etc/passwd";

    /// The name of a user, as the file has it now.
    pub(super) fn name(&mut self, uid: u32) -> Option<String> {
        let changed_at = fs::metadata(Self::PATH).and_then(|m| m.modified()).ok();
        if changed_at != self.read_at {
            self.read_at = changed_at;
            self.names = user_names(&fs::read(Self::PATH).unwrap_or_default());
        }
        self.names.get(&uid).cloned()
    }
}

/// Of several names of a user the first counts, as for getpwuid(3).
fn user_names(passwd: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in passwd.split(|&b| b == b'\n') {
        let mut fields = line.split(|&b| b == b':');
        let name = fields.next().and_then(text);
        if let (Some(name), Some(uid)) = (name, fields.nth(1).and_then(number)) {
            names.entry(uid).or_insert(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_it_fail(bytes: Vec<u8>) {
            user_names(&bytes);
        }
    }

    #[test]
    fn the_first_name_of_a_user_counts() {
        let names = user_names(
            b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:\n\n#x\n:x:3:\n+\nn\xff:x:7:7\nend:x:9",
        );
        let named = |uid| names.get(&uid).map(String::as_str);
        assert_eq!(
            [named(0), named(3), named(7), named(9)],
            [Some("root"), None, Some("n\u{fffd}"), Some("end")]
        );
    }
}
