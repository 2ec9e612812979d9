//! Rows without names: what is written does not tell whose machine, which peers, who ran what.
//!
//! Each column is judged by its name. What no judgement is known of is left out, so that a new column tells
//! nothing before somebody has thought about it.

use std::io;
use std::net::IpAddr;

use super::Exporter;
use crate::model::{Column, Kind, Pseudonyms, Value};

/// What becomes of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It tells of no machine, program or person.
    Kept,
    /// An address, with prefixes kept.
    Address,
    /// A name or number in place of it. Columns with the same word have the same names.
    Hashed(&'static str),
    /// A list of `comm[pid]`, with commas between.
    Holders,
    /// Nothing (NULL).
    LeftOut,
}

/// Columns of text, of bytes and of identifiers that are not left out, and numbers that are not kept.
const JUDGED: &[(&str, Judgement)] = &[
    ("local_address", Judgement::Address),
    ("remote_address", Judgement::Address),
    ("host_name", Judgement::Hashed("host")),
    ("netns", Judgement::Hashed("netns")),
    ("netns_cookie", Judgement::Hashed("netns_cookie")),
    ("boot", Judgement::Hashed("boot")),
    ("cookie", Judgement::Hashed("cookie")),
    ("inode", Judgement::Hashed("inode")),
    ("cgroup_id", Judgement::Hashed("cgroup_id")),
    ("uid", Judgement::Hashed("uid")),
    ("process_uid", Judgement::Hashed("uid")),
    ("user", Judgement::Hashed("user")),
    ("pid", Judgement::Hashed("pid")),
    ("comm", Judgement::Hashed("comm")),
    ("owners", Judgement::Holders),
    ("unit", Judgement::Hashed("unit")),
    ("container", Judgement::Hashed("container")),
    ("marker", Judgement::Hashed("marker")),
    ("mark", Judgement::Hashed("mark")),
    ("class_id", Judgement::Hashed("class_id")),
    ("mptcp_token", Judgement::LeftOut),
    ("protocol", Judgement::Kept),
    ("family", Judgement::Kept),
    ("state", Judgement::Kept),
    ("timer", Judgement::Kept),
    ("congestion_control", Judgement::Kept),
    ("ulp", Judgement::Kept),
    ("direction", Judgement::Kept),
    ("direction_evidence", Judgement::Kept),
    ("opened_evidence", Judgement::Kept),
    ("closed_evidence", Judgement::Kept),
    ("ending", Judgement::Kept),
    ("ending_evidence", Judgement::Kept),
    ("counters_evidence", Judgement::Kept),
    ("gaps", Judgement::Kept),
    ("exceptions", Judgement::Kept),
];

/// What becomes of a column.
pub fn judgement(column: &Column) -> Judgement {
    let judged = JUDGED.iter().find(|(name, _)| *name == column.name);
    judged.map(|(_, judgement)| *judgement).unwrap_or(match column.kind {
        Kind::Integer | Kind::Time | Kind::Duration | Kind::Real | Kind::Boolean => Judgement::Kept,
        Kind::Text | Kind::Bytes | Kind::Identifier => Judgement::LeftOut,
    })
}

/// An exporter that gets rows without names.
pub struct Anonymized<'e> {
    inner: Box<dyn Exporter + 'e>,
    names: Pseudonyms,
    judgements: Vec<Judgement>,
}

impl<'e> Anonymized<'e> {
    /// Rows go to `inner`, with names by this key.
    pub fn new(inner: Box<dyn Exporter + 'e>, key: &[u8]) -> Self {
        Self { inner, names: Pseudonyms::new(key), judgements: Vec::new() }
    }
}

impl Exporter for Anonymized<'_> {
    fn begin(&mut self, columns: &[Column]) -> io::Result<()> {
        self.judgements = columns.iter().map(judgement).collect();
        self.inner.begin(columns)
    }

    fn row(&mut self, values: &[Value<'_>]) -> io::Result<()> {
        super::check_length(self.judgements.len(), values.len())?;
        let names = &mut self.names;
        let hidden: Vec<_> =
            values.iter().zip(&self.judgements).map(|(v, j)| hidden(names, *v, *j)).collect();
        let row: Vec<_> = values
            .iter()
            .zip(&hidden)
            .map(|(value, hidden)| match hidden {
                Hidden::Same => *value,
                Hidden::Nothing => Value::Null,
                Hidden::Text(text) => Value::Text(text),
                Hidden::Number(number) => Value::Integer(*number),
            })
            .collect();
        self.inner.row(&row)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.inner.finish()
    }
}

enum Hidden {
    Same,
    Nothing,
    Text(String),
    Number(i64),
}

fn hidden(names: &mut Pseudonyms, value: Value<'_>, judgement: Judgement) -> Hidden {
    match (judgement, value) {
        (Judgement::Kept, _) => Hidden::Same,
        (Judgement::Address, Value::Text(text)) => match text.parse::<IpAddr>() {
            Ok(address) => Hidden::Text(names.address(address).to_string()),
            Err(_) => Hidden::Nothing,
        },
        (Judgement::Hashed(kind), Value::Text(text)) => Hidden::Text(names.text(kind, text)),
        (Judgement::Hashed(kind), Value::Integer(n)) => Hidden::Number(names.number(kind, n)),
        (Judgement::Holders, Value::Text(text)) => Hidden::Text(holders(names, text)),
        // A damaged recording may hold anything anywhere.
        _ => Hidden::Nothing,
    }
}

/// Names hold commas and brackets as they like: what is not told apart is one name.
fn holders(names: &Pseudonyms, text: &str) -> String {
    let holder = |text: &str| {
        let parts = text.strip_suffix(']').and_then(|text| text.rsplit_once('['));
        match parts.and_then(|(comm, pid)| Some((comm, pid.parse::<i64>().ok()?))) {
            Some((comm, pid)) => {
                format!("{}[{}]", names.text("comm", comm), names.number("pid", pid))
            }
            None => names.text("comm", text),
        }
    };
    text.split(',').map(holder).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{Format, Options, exporter};

    fn column(name: &'static str, kind: Kind) -> Column {
        Column { name, kind, about: "" }
    }

    fn written(columns: &[Column], rows: &[&[Value<'_>]]) -> String {
        let mut out = Vec::new();
        {
            let inner = exporter(Format::Csv, &Options::default(), Box::new(&mut out));
            let mut anonymized = Anonymized::new(inner, b"a key of this test");
            anonymized.begin(columns).unwrap();
            for row in rows {
                anonymized.row(row).unwrap();
            }
            anonymized.finish().unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_is_told_that_nobody_judged() {
        let columns = [
            column("new_name", Kind::Text),
            column("new_bytes", Kind::Bytes),
            column("new_id", Kind::Identifier),
            column("command_line", Kind::Text),
            column("rtt_us", Kind::Integer),
            column("local_address", Kind::Text),
        ];
        let row = [
            Value::Text("secret"),
            Value::Bytes(b"secret"),
            Value::Integer(7),
            Value::Text("secret"),
            Value::Integer(7),
            Value::Text("secret"),
        ];
        let text = written(&columns, &[&row]);
        assert_eq!(text.lines().nth(1), Some(",,,,7,"));
    }

    #[test]
    fn a_name_is_the_same_wherever_it_stands() {
        let columns = [
            column("comm", Kind::Text),
            column("pid", Kind::Integer),
            column("owners", Kind::Text),
            column("remote_address", Kind::Text),
            column("local_address", Kind::Text),
        ];
        let of = |comm, owners, address| [comm, Value::Integer(7), owners, address, address];
        let text = written(
            &columns,
            &[
                &of(Value::Text("web"), Value::Text("web[7],db[8]"), Value::Text("192.0.2.1")),
                &of(Value::Text("a,b[c"), Value::Text("a,b[c[7]"), Value::Null),
            ],
        );
        let rows: Vec<Vec<&str>> =
            text.lines().skip(1).map(|line| line.split(',').collect()).collect();
        let (comm, pid) = (rows[0][0], rows[0][1]);
        assert!(text.contains(&format!("{comm}[{pid}],")), "{text}");
        assert_eq!(rows[0][4], rows[0][5]);
        for told in ["web", "db", "192.0.2.1", "a,b", "b[c"] {
            assert!(!text.contains(told), "{told} in {text}");
        }
    }
}
