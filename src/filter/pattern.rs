//! Text with wildcards.

use std::fmt;

use super::lexer::must_be_escaped;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Character(char),
    /// `?`
    One,
    /// `*`
    Any,
}

/// Text in which `*` stands for any characters and `?` for one, unless they were quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Piece>);

impl Pattern {
    pub(super) fn new(pieces: impl IntoIterator<Item = Piece>) -> Self {
        let mut pieces: Vec<_> = pieces.into_iter().collect();
        pieces.dedup_by(|a, b| *a == Piece::Any && *b == Piece::Any);
        Self(pieces)
    }

    /// Exactly this text.
    pub fn exactly(text: &str) -> Self {
        Self(text.chars().map(Piece::Character).collect())
    }

    /// This, and what begins so.
    pub(super) fn with_any_end(mut self) -> Self {
        self.0.push(Piece::Any);
        self
    }

    /// The text, if there is no wildcard in it.
    pub fn text(&self) -> Option<String> {
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Character(c) => Some(*c),
                Piece::One | Piece::Any => None,
            })
            .collect()
    }

    /// The same for SQLite's `GLOB`, in which brackets mean something too.
    pub(super) fn glob(&self) -> String {
        let mut glob = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Character(c @ ('*' | '?' | '[')) => {
                    glob.extend(['[', *c, ']']);
                }
                Piece::Character(c) => glob.push(*c),
                Piece::One => glob.push('?'),
                Piece::Any => glob.push('*'),
            }
        }
        glob
    }

    /// Whether the whole text is like this.
    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut at, mut piece) = (0, 0);
        let mut last_any = None; // where the last `*` stood, and where in the text what follows began
        while at < text.len() {
            match self.0.get(piece) {
                Some(Piece::Any) => {
                    last_any = Some((piece, at));
                    piece += 1;
                }
                Some(Piece::One) => (at, piece) = (at + 1, piece + 1),
                Some(Piece::Character(c)) if *c == text[at] => (at, piece) = (at + 1, piece + 1),
                _ => {
                    let Some((any, began)) = last_any else { return false };
                    last_any = Some((any, began + 1));
                    (at, piece) = (began + 1, any + 1);
                }
            }
        }
        self.0[piece..].iter().all(|piece| *piece == Piece::Any)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("\"\"");
        }
        for piece in &self.0 {
            match piece {
                Piece::Character(c) if must_be_escaped(*c) => write!(f, "\\{c}")?,
                Piece::Character(c) => write!(f, "{c}")?,
                Piece::One => f.write_str("?")?,
                Piece::Any => f.write_str("*")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Piece::{Any, Character, One};
    use super::*;

    #[test]
    fn wildcards_stand_for_what_they_stand_for() {
        let pattern = Pattern::new([Any, Character('a'), One, Any, Character('b')]);
        for (text, expected) in
            [("acb", true), ("xaxyzb", true), ("aaab", true), ("ab", false), ("acbx", false)]
        {
            assert_eq!(pattern.matches(text), expected, "{text}");
        }
        assert!(Pattern::new([Any]).matches(""));
        assert!(!Pattern::exactly("").matches("a"));
    }
}
