//! Names of ports, as services(5) has them.

use std::collections::BTreeMap;

/// Names of services and their ports.
#[derive(Clone, Debug, Default)]
pub struct Services(BTreeMap<String, Vec<u16>>);

impl Services {
    /// Reads the text of `/etc/services`. Lines that are none are left out.
    pub fn read(text: &str) -> Self {
        let mut services: BTreeMap<String, Vec<u16>> = BTreeMap::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let (Some(name), Some(place)) = (words.next(), words.next()) else { continue };
            let Some((port, "tcp" | "udp")) = place.split_once('/') else { continue };
            let Ok(port) = port.parse() else { continue };
            for name in std::iter::once(name).chain(words) {
                let ports = services.entry(name.to_owned()).or_default();
                if !ports.contains(&port) {
                    ports.push(port);
                }
            }
        }
        Self(services)
    }

    /// The ports of this name: more than one where TCP and UDP differ.
    pub(super) fn ports(&self, name: &str) -> &[u16] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
