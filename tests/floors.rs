//! A module imports only from lower floors; SQLite and the terminal have one place each.
//!
//! Reads the paths that begin with `crate` or `super` in the sources. Comments, literals and what
//! stands under `#[cfg(test)]` do not count.

use std::fs;
use std::path::{Path, PathBuf};

const FLOORS: &[(&str, u8)] = &[
    ("model", 0),
    ("wire", 1),
    ("filter", 1),
    ("kernel", 2),
    ("foreign", 3),
    ("store", 3),
    ("record", 4),
    ("query", 4),
    ("render", 5),
    ("cli", 6),
];

/// Imports from a lower floor that are forbidden all the same.
const FORBIDDEN: &[(&str, &str)] = &[("render", "store")];

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

#[test]
fn no_module_imports_from_above() {
    let found: Vec<_> = sources()
        .iter()
        .flat_map(|path| {
            let source = fs::read_to_string(Path::new("src").join(path)).unwrap();
            violations(path.to_str().unwrap(), &source)
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_module_has_a_floor() {
    for path in sources() {
        let name = path.iter().next().unwrap().to_str().unwrap();
        let name = name.strip_suffix(".rs").unwrap_or(name);
        assert!(
            ["lib", "main"].contains(&name) || floor(name).is_some(),
            "`{name}` has no floor in tests/floors.rs"
        );
    }
}

#[test]
fn the_floors_are_those_of_the_document() {
    let document = fs::read_to_string("docs/ARCHITECTURE.md").unwrap();
    let mut modules = 0;
    for line in document.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let Some(Ok(number)) = cells.get(1).map(|cell| cell.parse::<u8>()) else { continue };
        assert_eq!(floor(cells[2].trim_matches('`')), Some(number), "{line}");
        modules += 1;
    }
    assert!(modules > 5, "the table of floors was not found");
}

#[test]
fn what_is_forbidden_is_found() {
    let cases = [
        ("model/time.rs", "use crate::store::Reader;", "model imports store"),
        ("wire/tcp.rs", "use crate::{model::Family, cli::{self}};", "wire imports cli"),
        ("wire/tcp.rs", "fn f() -> crate :: kernel::Clock {}", "wire imports kernel"),
        ("wire/mod.rs", "use crate::filter::Filter;", "wire imports filter"),
        ("query/mod.rs", "use super::record::run;", "query imports record"),
        ("store/file.rs", "super::super::query::f(\"crate::model\");", "store imports query"),
        ("store/a/b.rs", "use super::{super::super::render::x, c};", "store imports render"),
        ("render/csv.rs", "use crate::store::Reader;", "render imports store"),
        ("kernel/diag.rs", "use crate::*;", "kernel imports everything"),
        ("record/writer.rs", "let e: rusqlite::Error;", "rusqlite outside of store"),
        ("store/file.rs", "println!(\"{}\", 1);", "print outside of cli"),
        ("render/csv.rs", "eprint ! ()", "print outside of cli"),
        ("query/mod.rs", "std::process::exit(1)", "exit outside of cli"),
        ("query/mod.rs", "#[cfg(test)] mod t { } use crate::cli::x;", "query imports cli"),
    ];
    for (path, source, expected) in cases {
        assert_eq!(violations(path, source), [format!("src/{path}: {expected}")], "{source}");
    }
}

#[test]
fn what_is_allowed_is_not_found() {
    let cases = [
        ("cli/mod.rs", "use crate::{model, store::Writer}; println!(); std::process::exit(0)"),
        ("store/file.rs", "use super::migrate::{a, b}; use crate::store::cli; use rusqlite::X;"),
        ("store/mod.rs", "use self::file::x; use super::model::y;"),
        ("model/mod.rs", "// crate::cli\n/* /* println!() */ crate::cli */ /// super::super::cli"),
        ("model/a.rs", "let x = (\"crate::cli \\\" \", r#\"crate::cli\"#, b\"x\", '\"', '\\'');"),
        ("model/a.rs", "fn f<'a>(x: &'a str) { g('a', \"crate::cli\") }"),
        ("model/a.rs", "#[cfg(test)]\nmod tests { use crate::cli::x; fn f() { println!() } }"),
        ("model/a.rs", "#[cfg(test)]\n#[allow(x)]\nuse crate::cli::x; fn f() {}"),
        ("query/mod.rs", "fn print(process: u8) { a.print(exit) }"),
    ];
    for (path, source) in cases {
        assert_eq!(violations(path, source), [""; 0], "{source}");
    }
}

/// The source files, relative to `src`.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::from("src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path.strip_prefix("src").unwrap().to_owned());
            }
        }
    }
    assert!(found.len() > 20, "the sources were not found");
    found.sort();
    found
}

/// What a file does that it may not.
fn violations(path: &str, source: &str) -> Vec<String> {
    let mut module: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    if module.last() == Some(&"mod") {
        module.pop();
    }
    let own = module[0];
    let tokens = without_tests(tokens(source));
    let mut found: Vec<String> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let next = |n: usize| tokens.get(at + n).map_or("", String::as_str);
        let mut reached = Vec::new();
        match (next(0), next(1), next(2)) {
            ("crate" | "super", "::", _) => {
                let mut path = module.iter().map(|&m| m.to_owned()).collect();
                at = walk(&tokens, at, &mut path, &mut reached);
            }
            ("rusqlite", ..) if own != "store" => found.push("rusqlite outside of store".into()),
            ("print" | "println" | "eprint" | "eprintln", "!", _) if own != "cli" => {
                found.push("print outside of cli".into());
            }
            ("process", "::", "exit") if own != "cli" => found.push("exit outside of cli".into()),
            _ => {}
        }
        found.extend(reached.iter().filter_map(|to| forbidden(own, to)));
        at += 1;
    }
    found.iter().map(|what| format!("src/{path}: {what}")).collect()
}

/// Why a module may not import from this top-level one, `None` if it may.
fn forbidden(own: &str, to: &str) -> Option<String> {
    if to == "*" {
        return Some(format!("{own} imports everything"));
    }
    let (from_floor, to_floor) = (floor(own)?, floor(to)?);
    let is_above = to_floor >= from_floor && own != to;
    (is_above || FORBIDDEN.contains(&(own, to))).then(|| format!("{own} imports {to}"))
}

/// Follows a path or a tree of paths from the token at `at`. Adds the top-level modules that it
/// reaches; gives the place of its last token.
fn walk(
    tokens: &[String],
    mut at: usize,
    path: &mut Vec<String>,
    reached: &mut Vec<String>,
) -> usize {
    loop {
        match tokens[at].as_str() {
            "crate" => path.clear(),
            "super" => drop(path.pop()),
            "self" => {}
            name => path.push(name.to_owned()),
        }
        if tokens.get(at + 1).is_none_or(|t| t != "::") {
            reached.extend(path.first().cloned());
            return at;
        }
        at += 2;
        match tokens.get(at).map(String::as_str) {
            Some("{") => break,
            Some(name) if is_name(name) || name == "*" => {}
            _ => {
                reached.extend(path.first().cloned()); // generic arguments and the like
                return at - 1;
            }
        }
    }
    at += 1;
    while tokens.get(at).is_some_and(|t| t != "}") {
        if tokens[at] != "," {
            at = walk(tokens, at, &mut path.clone(), reached);
        }
        at += 1;
    }
    at
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Leaves out the items that stand under `#[cfg(test)]`.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].iter().zip(MARK).all(|(a, b)| a == b) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += MARK.len();
        let mut depth = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token.as_str() {
                "{" | "[" | "(" => depth += 1,
                "}" | "]" | ")" => depth -= 1,
                _ => {}
            }
            if depth == 0 && ["}", ";"].contains(&token.as_str()) {
                break;
            }
        }
    }
    kept
}

/// Names, `::` and single characters, without comments and literals.
fn tokens(source: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(len) = literal(rest) {
            len
        } else if is_name(rest) {
            let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(rest[..len].to_owned());
            len
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !c.is_whitespace() {
                tokens.push(c.to_string());
            }
            c.len_utf8()
        };
        rest = &rest[len..];
    }
    tokens
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text.as_bytes()[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text.as_bytes()[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// Length of the literal of text, bytes or a character that begins here.
fn literal(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""]
        .into_iter()
        .find(|p| text.strip_prefix(p).is_some_and(|t| t.starts_with(['"', '#', '\''])))?;
    let body = &text[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = body.bytes().take_while(|&b| b == b'#').count();
        let text = body[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let len = text.find(&end).unwrap_or(text.len());
        return Some((prefix.len() + hashes + 1 + len + end.len()).min(prefix.len() + body.len()));
    }
    let quote = body.chars().next().filter(|&c| c != '#')?;
    if quote == '\'' && !is_character(body) {
        return None; // a lifetime
    }
    let mut is_escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return Some(prefix.len() + at + 1),
            _ => {}
        }
    }
    Some(text.len())
}

/// Whether this is a literal of one character and not a lifetime.
fn is_character(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    match chars.next() {
        Some('\\') => true,
        Some(_) => chars.next() == Some('\''),
        None => false,
    }
}
