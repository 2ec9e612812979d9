//! One row by column name, for layouts that put several columns into one cell.

use std::net::{IpAddr, Ipv6Addr};

use super::human::visible;
use crate::model::Value;

#[derive(Clone, Copy)]
pub(super) struct Row<'r> {
    pub(super) names: &'r [&'static str],
    pub(super) values: &'r [Value<'r>],
}

impl<'r> Row<'r> {
    pub(super) fn value(&self, name: &str) -> Value<'r> {
        let index = self.names.iter().position(|n| *n == name);
        index.and_then(|i| self.values.get(i)).copied().unwrap_or(Value::Null)
    }

    pub(super) fn integer(&self, name: &str) -> Option<i64> {
        match self.value(name) {
            Value::Integer(v) => Some(v),
            _ => None,
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&'r str> {
        match self.value(name) {
            Value::Text(v) => Some(v),
            _ => None,
        }
    }

    /// An address with its port, as `ss -n` writes it but for the brackets of IPv6.
    pub(super) fn endpoint(&self, address: &str, port: &str) -> String {
        let port = match self.integer(port) {
            Some(0) => "*".to_owned(),
            Some(port) => port.to_string(),
            None => "-".to_owned(),
        };
        let address = self.text(address).unwrap_or("-");
        match address.parse() {
            Ok(IpAddr::V6(v6)) if v6 == Ipv6Addr::UNSPECIFIED && self.is_dual_stack() => {
                format!("*:{port}")
            }
            Ok(IpAddr::V6(v6)) => format!("[{v6}]:{port}"),
            Ok(IpAddr::V4(v4)) => format!("{v4}:{port}"),
            Err(_) => format!("{}:{port}", visible(address)),
        }
    }

    /// `nginx[1234]`, and how many more held it.
    pub(super) fn process(&self) -> Option<String> {
        let pid = self.integer("pid")?;
        let name = self.text("comm").unwrap_or("?");
        Some(match self.integer("owner_count") {
            Some(count) if count > 1 => format!("{name}[{pid}]+{}", count - 1),
            _ => format!("{name}[{pid}]"),
        })
    }

    /// An IPv6 socket that takes IPv4 too: `ss` writes its wildcard as a star.
    fn is_dual_stack(&self) -> bool {
        self.integer("v6only") == Some(0)
    }
}
