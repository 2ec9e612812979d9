//! Words, operators and parentheses of a filter.

use super::error::{FilterError, Span};
use super::pattern::{Pattern, Piece};

/// A word as it was written, with what was quoted told apart.
#[derive(Clone, Debug)]
pub(super) struct Word {
    /// Each character, and whether a quote or a backslash takes its meaning away.
    characters: Vec<(char, bool)>,
    pub(super) span: Span,
}

impl Word {
    pub(super) fn text(&self) -> String {
        self.characters.iter().map(|(c, _)| *c).collect()
    }

    /// The text, if nothing of it was quoted.
    pub(super) fn plain_text(&self) -> Option<String> {
        self.characters.iter().map(|&(c, is_quoted)| (!is_quoted).then_some(c)).collect()
    }

    pub(super) fn pattern(&self) -> Pattern {
        self.pattern_from(0)
    }

    /// The same without what comes before the character of this number.
    pub(super) fn pattern_from(&self, first: usize) -> Pattern {
        Pattern::new(self.characters.iter().skip(first).map(|&(c, is_quoted)| match c {
            '*' if !is_quoted => Piece::Any,
            '?' if !is_quoted => Piece::One,
            c => Piece::Character(c),
        }))
    }
}

/// What stands between conditions, or between a name and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symbol {
    Open,
    Close,
    And,
    Or,
    Not,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The longer ones first.
const SYMBOLS: &[(&str, Symbol)] = &[
    ("&&", Symbol::And),
    ("||", Symbol::Or),
    ("==", Symbol::Equal),
    ("!=", Symbol::NotEqual),
    ("<=", Symbol::LessOrEqual),
    (">=", Symbol::GreaterOrEqual),
    ("(", Symbol::Open),
    (")", Symbol::Close),
    ("&", Symbol::And),
    ("|", Symbol::Or),
    ("!", Symbol::Not),
    ("=", Symbol::Equal),
    ("<", Symbol::Less),
    (">", Symbol::Greater),
];

const WORDS: &[(&str, Symbol)] = &[
    ("and", Symbol::And),
    ("or", Symbol::Or),
    ("not", Symbol::Not),
    ("eq", Symbol::Equal),
    ("ne", Symbol::NotEqual),
    ("neq", Symbol::NotEqual),
    ("lt", Symbol::Less),
    ("le", Symbol::LessOrEqual),
    ("leq", Symbol::LessOrEqual),
    ("gt", Symbol::Greater),
    ("ge", Symbol::GreaterOrEqual),
    ("geq", Symbol::GreaterOrEqual),
];

/// Ends a name: here an operator may follow without a blank.
fn ends_name(c: char) -> bool {
    c.is_whitespace() || "()&|!=<>".contains(c)
}

/// Ends a value: paths may have `=` in them.
fn ends_value(c: char) -> bool {
    c.is_whitespace() || "()&|".contains(c)
}

/// Whether a character in a value means something else unless a backslash stands before it.
pub(super) fn must_be_escaped(c: char) -> bool {
    ends_name(c) || "*?\\\"'".contains(c)
}

/// Reads on from a place in the text.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// Where the next thing begins; the end of the text if nothing follows.
    pub(super) fn next_at(&mut self) -> usize {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        self.at
    }

    /// Whether nothing but blanks follows.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.next_at() == self.text.len()
    }

    /// What follows, to be shown in an error: a symbol or a word.
    pub(super) fn ahead(&mut self) -> Span {
        let start = self.next_at();
        let mut ahead = self.clone();
        if ahead.symbol().is_none() && ahead.read_word(ends_name).is_err() {
            return start..self.text.len();
        }
        start..ahead.at
    }

    /// Takes a symbol, if one follows.
    pub(super) fn symbol(&mut self) -> Option<(Symbol, Span)> {
        let start = self.next_at();
        let rest = self.rest();
        let sign = SYMBOLS.iter().find(|(sign, _)| rest.starts_with(sign));
        let (sign, symbol) = sign.or_else(|| {
            let word = rest.split(ends_name).next()?;
            WORDS.iter().find(|(known, _)| *known == word)
        })?;
        self.at += sign.len();
        Some((*symbol, start..self.at))
    }

    /// Takes a symbol if it is one of these.
    pub(super) fn symbol_of(&mut self, wanted: &[Symbol]) -> Option<(Symbol, Span)> {
        let mut ahead = self.clone();
        let found = ahead.symbol().filter(|(symbol, _)| wanted.contains(symbol))?;
        *self = ahead;
        Some(found)
    }

    /// Takes the name of a condition.
    pub(super) fn name(&mut self) -> Result<Word, FilterError> {
        self.next_at();
        self.read_word(ends_name)
    }

    /// Takes a value; `None` if none follows.
    pub(super) fn value(&mut self) -> Result<Option<Word>, FilterError> {
        self.next_at();
        let word = self.read_word(ends_value)?;
        Ok(Some(word).filter(|word| !word.span.is_empty()))
    }

    fn read_word(&mut self, ends: fn(char) -> bool) -> Result<Word, FilterError> {
        let start = self.at;
        let mut characters = Vec::new();
        let mut quote = None;
        let mut rest = self.rest().char_indices();
        let mut end = self.text.len();
        while let Some((offset, c)) = rest.next() {
            match (c, quote) {
                ('\\', None | Some((_, '"'))) => {
                    let Some((_, c)) = rest.next() else {
                        let place = start + offset..self.text.len();
                        return Err(FilterError::new(place, "nothing follows the backslash"));
                    };
                    characters.push((c, true));
                }
                (c, Some((_, open))) if c == open => quote = None,
                (c, Some(_)) => characters.push((c, true)),
                ('"' | '\'', None) => quote = Some((start + offset, c)),
                (c, None) if ends(c) => {
                    end = start + offset;
                    break;
                }
                (c, None) => characters.push((c, false)),
            }
        }
        if let Some((open, sign)) = quote {
            let error = FilterError::new(open..self.text.len(), "the quote is not closed");
            return Err(error.hint(format!("end it with `{sign}`, or write `\\{sign}`")));
        }
        self.at = end;
        Ok(Word { characters, span: start..end })
    }
}
