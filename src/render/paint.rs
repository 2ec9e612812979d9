//! A little colour, for whoever has a terminal: always beside words that say the same.

use anstyle::{AnsiColor, Style};

/// Titles of columns.
pub(super) const TITLE: Style = Style::new().bold();

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const DOUBTFUL: Style = AnsiColor::Yellow.on_default();

/// How a cell of a table is set off, by the name of its column and what stands in it.
pub(super) fn of_cell(column: &str, text: &str) -> Style {
    let is_none = matches!(text, "-" | "0" | "0%" | "none");
    match (column, text) {
        _ if is_none => Style::new(),
        ("end" | "ending", "reset" | "timed_out") | ("verdict", "broken") | ("change", "gone") => {
            BAD
        }
        ("full" | "at_limit_share" | "drops" | "drops_delta", _) => BAD,
        ("end" | "ending", "not_established") | ("verdict", "not_known") => DOUBTFUL,
        ("change", "changed") | ("gaps", _) => DOUBTFUL,
        ("change", "new") => GOOD,
        _ => Style::new(),
    }
}
