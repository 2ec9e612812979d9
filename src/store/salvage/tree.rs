//! Which page is of which table, also where the pages above it are lost.

use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::types::Value;

use super::cells::{Kind, Node, full, read_node};
use super::pages::Pages;

/// What was read of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableRead {
    /// Rows that were read.
    pub rows: u64,
    /// Pages of it that could not be read.
    pub pages_lost: u64,
    /// Rows on pages that could be read which could not.
    pub rows_lost: u64,
}

/// The root page of each table by the file's own schema.
pub(super) fn roots(pages: &Pages) -> BTreeMap<String, u32> {
    let mut roots = BTreeMap::new();
    let mut read = TableRead::default();
    each_row(
        pages,
        &pages_of(pages, &[1]).remove(&1).unwrap_or_default(),
        &mut read,
        &mut |_, row| {
            if let [Value::Text(kind), Value::Text(name), _, Value::Integer(root), ..] =
                row.as_slice()
                && kind == "table"
                && let Ok(root) = u32::try_from(*root)
            {
                roots.insert(name.clone(), root);
            }
        },
    );
    roots
}

/// The pages below each of these roots: those that the trees name, and those that the pointer map gives
/// to them, which name no page of their own that would lead there any longer.
pub(super) fn pages_of(pages: &Pages, roots: &[u32]) -> HashMap<u32, Vec<u32>> {
    let mut owners: HashMap<u32, u32> = HashMap::new();
    let mut found: HashMap<u32, Vec<u32>> = HashMap::new();
    for &root in roots {
        let mut open = vec![root];
        while let Some(number) = open.pop() {
            if number == 0 || number > pages.count || owners.contains_key(&number) {
                continue;
            }
            owners.insert(number, root);
            found.entry(root).or_default().push(number);
            open.extend(read_node(pages, number).map(|node| node.children).unwrap_or_default());
        }
    }
    let parents = parents(pages);
    for &number in parents.keys() {
        if owners.contains_key(&number) {
            continue;
        }
        let (mut at, mut seen) = (number, HashSet::new());
        while let Some(&parent) = parents.get(&at).filter(|_| seen.insert(at)) {
            at = parent;
            if let Some(&root) = owners.get(&at) {
                found.entry(root).or_default().push(number);
                break;
            }
        }
    }
    found
}

/// By the pointer map of a file with `auto_vacuum`: the page above each page of a tree that is no root.
fn parents(pages: &Pages) -> HashMap<u32, u32> {
    const TREE: u8 = 5;
    let entries = u32::try_from(pages.usable / 5).unwrap_or(0);
    let mut parents = HashMap::new();
    let mut map = 2;
    while map <= pages.count && entries > 0 {
        if let Some(page) = pages.page(map) {
            for entry in 0..entries {
                let at = entry as usize * 5;
                // The map still has pages that were given back: those beyond the end that the file tells.
                if map + 1 + entry <= pages.told
                    && page[at] == TREE
                    && let Some(parent) = full(&page, at + 1)
                {
                    parents.insert(map + 1 + entry, parent);
                }
            }
        }
        map += entries + 1;
    }
    parents
}

/// Hands over every row of a table's pages.
pub(super) fn each_row(
    pages: &Pages,
    numbers: &[u32],
    read: &mut TableRead,
    each: &mut impl FnMut(i64, Vec<Value>),
) {
    let kind_of = |kind| matches!(kind, Kind::TableLeaf | Kind::TableInterior);
    let mut is_table = None;
    for &number in numbers {
        match read_node(pages, number) {
            // All pages of a tree are of the same sort.
            Some(Node { kind, rows, unreadable, .. })
                if *is_table.get_or_insert(kind_of(kind)) == kind_of(kind) =>
            {
                read.rows += rows.len() as u64;
                read.rows_lost += unreadable;
                rows.into_iter().for_each(|(rowid, row)| each(rowid, row));
            }
            _ => read.pages_lost += 1,
        }
    }
}
