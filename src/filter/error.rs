//! Why a filter cannot be used, and where in its text.

use std::ops::Range;

/// Bytes of a filter's text.
pub type Span = Range<usize>;

/// Why a filter cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FilterError {
    /// The filter's text; empty where it is not known.
    pub text: String,
    /// Where in the text; empty and at its end where something is missing.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
    /// The name that nothing has, if that is what is wrong.
    pub unknown_name: Option<String>,
}

impl FilterError {
    /// An error at this place.
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Self { text: String::new(), span, message: message.into(), hint: None, unknown_name: None }
    }

    /// Adds the text that the place is in.
    #[must_use]
    pub fn within(mut self, text: &str) -> Self {
        text.clone_into(&mut self.text);
        self
    }

    /// Adds what would be right.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the name that was most likely meant, or else what to do.
    #[must_use]
    pub(super) fn did_you_mean(self, nearest: Option<&str>, otherwise: &str) -> Self {
        match nearest {
            Some(name) => self.hint(format!("did you mean `{name}`?")),
            None => self.hint(otherwise),
        }
    }
}
