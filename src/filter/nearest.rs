//! What a misspelt name most likely meant.

/// The name that is most like this one, if any is much like it.
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Of one character nothing need be left to be another name.
    let longest = wanted.chars().count().checked_sub(1)?;
    names
        .map(|name| {
            let is_start = wanted.len() > 2 && name.starts_with(wanted);
            let distance = if is_start { 0 } else { strsim::osa_distance(wanted, name) };
            // The first letter is seldom the wrong one.
            (distance, name.chars().next() != wanted.chars().next(), name)
        })
        .min()
        .filter(|(distance, _, name)| *distance <= 2.max(name.len() / 3).min(longest))
        .map(|(_, _, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_its_neighbour() {
        let nearest = |wanted| nearest(wanted, ["rtt_us", "rttvar_us", "bytes_sent"].into_iter());
        assert_eq!(nearest("rtt"), Some("rtt_us"));
        assert_eq!(nearest("byte_sent"), Some("bytes_sent"));
        assert_eq!(super::nearest("rt", ["at", "rtt"].into_iter()), Some("rtt"));
        assert_eq!(nearest("colour"), None);
        assert_eq!(nearest("x"), None);
        assert_eq!(nearest(""), None);
    }
}
