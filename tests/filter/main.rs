//! The filter language: what it reads, and that the kernel, the predicate and SQL mean the same.

#[path = "../common/mod.rs"]
mod common;
#[path = "../harness/mod.rs"]
mod harness;
#[path = "../lifetimes/namespace.rs"]
mod namespace;

mod agreement;
mod arbitrary;
mod grammar;
mod kernel;
mod recording;

use sockrec::filter::{Filter, FilterError, Services, Vocabulary};
use sockrec::query::COLUMNS;

const SERVICES: &str = "ssh 22/tcp # Secure Shell\nhttp 80/tcp www\nhttp 80/udp\nshell 514/tcp\n\
                        syslog 514/udp\ndaytime 13/tcp\ndaytime 14/udp\n";

fn parse(text: &str) -> Result<Filter, FilterError> {
    let moment = |text: &str| match text {
        "now" => Ok(1_700_000_000_000_000_000),
        _ => Err(format!("`{text}` is no time")),
    };
    let services = Services::read(SERVICES);
    Filter::parse(
        text,
        &Vocabulary { columns: COLUMNS, answer: &[], services: &services, moment: &moment },
    )
}
