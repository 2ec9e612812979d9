//! `--anonymize`: the key.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Context;

use super::args::AnonymizeArgs;
use super::message::{note, usage};
use crate::query::{SortKey, column};
use crate::render::{Judgement, judgement};

/// What cannot be guessed.
const SHORTEST_KEY: usize = 16;
const LONGEST_KEY: u64 = 64 * 1_024;

/// The key that is asked for, `None` without anonymization.
pub(super) fn key(args: &AnonymizeArgs, sort: &[SortKey]) -> anyhow::Result<Option<Vec<u8>>> {
    if !args.anonymize && args.anonymize_key.is_none() {
        return Ok(None);
    }
    let is_hidden =
        |key: &&SortKey| column(&key.column).is_some_and(|c| judgement(c) != Judgement::Kept);
    if let Some(key) = sort.iter().find(is_hidden) {
        let text = format!("sorted by `{}` the rows would tell of what is hidden", key.column);
        return Err(usage(text, Some("sort what was written, by the names that stand there")));
    }
    let key = match &args.anonymize_key {
        Some(path) => key_of_file(path)?,
        None => {
            note(
                "the names are of a random key that is not kept: no other file will have the same; \
                 `--anonymize-key FILE` gives the same names again",
            );
            random_key()?
        }
    };
    Ok(Some(key))
}

fn key_of_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut key = Vec::new();
    let file = File::open(path).and_then(|file| file.take(LONGEST_KEY).read_to_end(&mut key));
    file.with_context(|| format!("could not read the key `{}`", path.display()))?;
    while key.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        key.pop();
    }
    if key.len() < SHORTEST_KEY {
        let path = path.display();
        return Err(usage(
            format!("the key `{path}` has {} bytes, and {SHORTEST_KEY} is the least", key.len()),
            Some(&format!("make one with `head -c 32 /dev/urandom > {path}`")),
        ));
    }
    Ok(key)
}

fn random_key() -> anyhow::Result<Vec<u8>> {
    let mut key = vec![0; 32];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut key))
        .context("could not make a random key")?;
    Ok(key)
}
