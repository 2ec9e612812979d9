//! Arbitrary text as a filter: no panic, errors point into the text, and what is read can be written
//! and read again as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;

use sockrec::filter::{Filter, FilterError, Services, Vocabulary};
use sockrec::query::COLUMNS;

fuzz_target!(|text: &str| {
    match parse(text) {
        Err(e) => assert!(text.get(e.span.clone()).is_some(), "{e:?}"),
        Ok(filter) => {
            let written = filter.to_string();
            assert_eq!(parse(&written).map(|again| again.to_string()), Ok(written));
            assert_eq!(filter.for_kernel().narrowed.bytecode.len() % 4, 0);
        }
    }
});

fn parse(text: &str) -> Result<Filter, FilterError> {
    let services = Services::read("ssh 22/tcp\nhttp 80/tcp\n");
    let moment = |text: &str| Err(format!("`{text}` is no time"));
    Filter::parse(text, &Vocabulary { columns: COLUMNS, answer: &[], services: &services, moment: &moment })
}
