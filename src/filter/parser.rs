//! Text to tree.

use super::error::{FilterError, Span};
use super::fields::{self, Field, Operand, Vocabulary};
use super::host::{read_host, read_number, read_port};
use super::lexer::{Lexer, Symbol, Word};
use super::nearest::nearest;
use super::states::{self, states_named};
use super::tree::{Comparison, Condition, Device, Filter, Side};
use super::{Prefix, contradiction};
use crate::model::{Kind, States};

/// So deep parentheses and `not` may be nested: each takes some of the stack.
const DEEPEST: usize = 100;

/// Where systemd mounts cgroup v2: beside v1, and alone.
const CGROUP_MOUNTS: [&str; 2] = ["/sys/fs/cgroup/unified/", "/sys/fs/cgroup/"];

/// The words that begin a condition of `ss`.
const CONDITIONS: [&str; 9] =
    ["state", "exclude", "src", "dst", "sport", "dport", "dev", "fwmark", "cgroup"];

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// When it is none, or never true.
    pub fn parse(text: &str, vocabulary: &Vocabulary<'_>) -> Result<Self, FilterError> {
        Self::read(text, vocabulary).map_err(|error| error.within(text))
    }

    fn read(text: &str, vocabulary: &Vocabulary<'_>) -> Result<Self, FilterError> {
        let mut parser = Parser { text, lexer: Lexer::new(text), vocabulary, depth: 0 };
        let filter = parser.list()?;
        if !parser.lexer.is_at_end() {
            let span = parser.lexer.ahead();
            let message = format!("`{}` is one too many", &text[span.clone()]);
            return Err(FilterError::new(span, message).hint("no parenthesis is open here"));
        }
        contradiction::check(&filter, text)?;
        Ok(filter)
    }
}

struct Parser<'p> {
    text: &'p str,
    lexer: Lexer<'p>,
    vocabulary: &'p Vocabulary<'p>,
    depth: usize,
}

impl Parser<'_> {
    /// Conditions with `and`, `or` or nothing between them, read from left to right as `ss` does.
    fn list(&mut self) -> Result<Filter, FilterError> {
        let mut left = vec![self.unary()?];
        let mut is_or = false;
        loop {
            let joint = self.lexer.symbol_of(&[Symbol::And, Symbol::Or]);
            if joint.is_none() && self.is_at_end_of_list() {
                return Ok(if is_or { Filter::Or(left) } else { Filter::all(left) });
            }
            let next_is_or = matches!(joint, Some((Symbol::Or, _)));
            let place = joint.map_or_else(|| self.lexer.ahead(), |(_, span)| span);
            let right = self.unary()?;
            if is_or && !next_is_or {
                return Err(mixed(place));
            }
            if next_is_or && !is_or {
                left = vec![Filter::all(left)];
                is_or = true;
            }
            left.push(right);
        }
    }

    fn is_at_end_of_list(&mut self) -> bool {
        self.lexer.is_at_end() || self.lexer.clone().symbol_of(&[Symbol::Close]).is_some()
    }

    fn unary(&mut self) -> Result<Filter, FilterError> {
        let start = self.lexer.next_at();
        self.depth += 1;
        if self.depth > DEEPEST {
            let message = format!("this is nested more than {DEEPEST} deep");
            return Err(FilterError::new(start..self.text.len(), message));
        }
        let filter = match self.lexer.symbol_of(&[Symbol::Not, Symbol::Open]) {
            Some((Symbol::Not, _)) => match self.unary()? {
                Filter::Is(Condition::State(states), span) => {
                    of_states(States::ALL.without(states), span)?
                }
                filter => Filter::Not(Box::new(filter)),
            },
            Some((_, open)) => {
                let filter = self.list()?;
                if self.lexer.symbol_of(&[Symbol::Close]).is_none() {
                    return Err(FilterError::new(open, "this parenthesis is not closed"));
                }
                filter
            }
            None => self.condition()?,
        };
        self.depth -= 1;
        Ok(filter)
    }

    fn condition(&mut self) -> Result<Filter, FilterError> {
        if self.lexer.clone().symbol().is_some() {
            return Err(self.missing("a condition is missing"));
        }
        let name = self.lexer.name()?;
        let text = name.text();
        match text.as_str() {
            "" => Err(self.missing("a condition is missing")),
            "state" | "exclude" | "excl" => self.states(&text, &name.span),
            "src" => self.host(Side::Local, &name.span),
            "dst" => self.host(Side::Remote, &name.span),
            "sport" | "local_port" => self.port(Side::Local, &name),
            "dport" | "remote_port" => self.port(Side::Remote, &name),
            "local_address" => self.host(Side::Local, &name.span),
            "remote_address" => self.host(Side::Remote, &name.span),
            "dev" => self.equal(&name, "a device: `dev = eth0`", device),
            "fwmark" => self.equal(&name, "a mark: `fwmark = 0x1/0xff`", mark),
            "cgroup" => {
                self.equal(&name, "a path: `cgroup = /system.slice/nginx.service`", |word| {
                    // `ss` takes the path of the directory too.
                    let text = word.text();
                    let mount = CGROUP_MOUNTS.iter().find(|mount| text.starts_with(**mount));
                    let above = mount.map_or(0, |mount| mount.len() - 1);
                    Ok(Condition::Cgroup { path: word.pattern_from(above), id: None })
                })
            }
            "autobound" => Ok(Filter::Is(Condition::Autobound, name.span)),
            _ => self.field(&name, &text),
        }
    }

    /// `state` and `exclude` words that follow each other are one condition: the first says whether
    /// to begin with none or all, each one adds or takes away.
    fn states(&mut self, word: &str, start: &Span) -> Result<Filter, FilterError> {
        let mut states = if word == "state" { States::NONE } else { States::ALL };
        let mut word = word.to_owned();
        let mut is_first = true;
        loop {
            let sign = self.lexer.symbol_of(&[Symbol::Equal, Symbol::NotEqual]);
            let is_not = matches!(sign, Some((Symbol::NotEqual, _)));
            let (named, end) = self.states_of(&word)?;
            if (word == "state") == is_not {
                states = if is_first { States::ALL } else { states }.without(named);
            } else {
                states = states.union(named);
            }
            is_first = false;
            let mut ahead = self.lexer.clone();
            match ahead.name().map(|next| next.text()) {
                Ok(next) if matches!(next.as_str(), "state" | "exclude" | "excl") => {
                    (word, self.lexer) = (next, ahead);
                }
                _ => return of_states(states, start.start..end),
            }
        }
    }

    fn states_of(&mut self, word: &str) -> Result<(States, usize), FilterError> {
        let name = self.value(&format!("`{word}` wants a state: `{word} established`"))?;
        let text = name.text();
        let end = name.span.end;
        match states_named(&text) {
            Some(states) => Ok((states, end)),
            None => Err(FilterError::new(name.span, format!("there is no state `{text}`"))
                .did_you_mean(
                    nearest(&text.to_ascii_lowercase(), states::names()),
                    "states are those that `ss` takes: established, listening, time-wait …",
                )),
        }
    }

    fn host(&mut self, side: Side, start: &Span) -> Result<Filter, FilterError> {
        let is_not = self.equality("is or is not")?;
        let word = self.value("an address or a port is missing: `src 10.0.0.0/8:443`")?;
        let span = start.start..word.span.end;
        let (prefix, port) = read_host(&word.text(), &word.span, self.vocabulary.services)?;
        let condition = match (prefix, port) {
            (None, Some(port)) => Condition::Port { side, comparison: Comparison::Equal, port },
            (prefix, port) => Condition::Host { side, prefix, port },
        };
        Ok(negated(Filter::Is(condition, span), is_not))
    }

    fn port(&mut self, side: Side, name: &Word) -> Result<Filter, FilterError> {
        let (comparison, is_not) = self.comparison().unwrap_or((Comparison::Equal, false));
        let word = self.value("a port is missing: `sport = :443`")?;
        let text = word.text();
        let port = text.strip_prefix(':').unwrap_or(&text);
        if port == "*" {
            let any = Condition::Host { side, prefix: None, port: None };
            return Ok(negated(Filter::Is(any, name.span.start..word.span.end), is_not));
        }
        if let Some((_, port)) = port.rsplit_once(':') {
            let host = if side == Side::Local { "src" } else { "dst" };
            let message = format!("`{}` takes a port alone", name.text());
            return Err(FilterError::new(word.span.clone(), message)
                .hint(format!("write `:{port}`, or `{host} {text}` for an address and a port")));
        }
        let port = read_port(port, &word.span, self.vocabulary.services)?;
        let span = name.span.start..word.span.end;
        Ok(negated(Filter::Is(Condition::Port { side, comparison, port }, span), is_not))
    }

    /// A condition that is so or not, with a value that `read` reads.
    fn equal(
        &mut self,
        name: &Word,
        wanted: &str,
        read: impl Fn(&Word) -> Result<Condition, FilterError>,
    ) -> Result<Filter, FilterError> {
        let is_not = self.equality("is equal or not")?;
        let word = self.value(&format!("`{}` wants {wanted}", name.text()))?;
        let span = name.span.start..word.span.end;
        Ok(negated(Filter::Is(read(&word)?, span), is_not))
    }

    fn field(&mut self, name: &Word, text: &str) -> Result<Filter, FilterError> {
        let Some((field, needs_unit)) = Field::find(text, self.vocabulary) else {
            return Err(self.unknown(name, text));
        };
        let Some((comparison, is_not)) = self.comparison() else {
            if field.kind() == Kind::Boolean {
                return Ok(is(field, Comparison::Equal, Operand::Integer(1), name.span.clone()));
            }
            let sign = if field.is_ordered() { ">" } else { "=" };
            let place = self.lexer.ahead();
            return Err(FilterError::new(place, format!("`{text}` wants a comparison"))
                .hint(format!("write `{text} {sign} …`")));
        };
        let word = self.value(&format!("`{text}` is compared with nothing"))?;
        let operand = field.operand(&word, comparison, needs_unit, self.vocabulary)?;
        let span = name.span.start..word.span.end;
        Ok(negated(is(field, comparison, operand, span), is_not))
    }

    fn unknown(&mut self, name: &Word, text: &str) -> FilterError {
        let mut error =
            FilterError::new(name.span.clone(), format!("there is no condition `{text}`"));
        error.unknown_name = Some(text.to_owned());
        let looks_like_host = text.contains([':', '/']) || text.parse::<Prefix>().is_ok();
        if looks_like_host {
            return error.hint(format!("an address or a port wants `src` or `dst`: `dst {text}`"));
        }
        let conditions = CONDITIONS.into_iter().chain(["autobound"]);
        let of_answer = conditions.clone().chain(fields::names(self.vocabulary.answer));
        let all = conditions.chain(fields::names(self.vocabulary.columns));
        error.did_you_mean(
            nearest(text, of_answer).or_else(|| nearest(text, all)),
            "conditions are those of `ss`, and the columns that `--columns help` lists",
        )
    }

    /// `=` or `!=`, or nothing; whether it is `!=`.
    fn equality(&mut self, what: &str) -> Result<bool, FilterError> {
        match self.comparison_sign() {
            None | Some((Symbol::Equal, _)) => Ok(false),
            Some((Symbol::NotEqual, _)) => Ok(true),
            Some((_, span)) => {
                Err(FilterError::new(span, format!("this {what}, without an order"))
                    .hint("write `=` or `!=`"))
            }
        }
    }

    /// A comparison, and whether it is the opposite that is meant.
    fn comparison(&mut self) -> Option<(Comparison, bool)> {
        Some(match self.comparison_sign()?.0 {
            Symbol::NotEqual => (Comparison::Equal, true),
            Symbol::Less => (Comparison::Less, false),
            Symbol::LessOrEqual => (Comparison::LessOrEqual, false),
            Symbol::Greater => (Comparison::Greater, false),
            Symbol::GreaterOrEqual => (Comparison::GreaterOrEqual, false),
            _ => (Comparison::Equal, false),
        })
    }

    fn comparison_sign(&mut self) -> Option<(Symbol, Span)> {
        self.lexer.symbol_of(&[
            Symbol::Equal,
            Symbol::NotEqual,
            Symbol::Less,
            Symbol::LessOrEqual,
            Symbol::Greater,
            Symbol::GreaterOrEqual,
        ])
    }

    fn value(&mut self, missing: &str) -> Result<Word, FilterError> {
        match self.lexer.value()? {
            Some(word) => Ok(word),
            None => Err(self.missing(missing)),
        }
    }

    fn missing(&mut self, message: &str) -> FilterError {
        let span = self.lexer.ahead();
        if span.is_empty() {
            return FilterError::new(span, format!("the filter ends here, and {message}"));
        }
        FilterError::new(span.clone(), format!("{message}, `{}` came", &self.text[span]))
    }
}

fn negated(filter: Filter, is_not: bool) -> Filter {
    if is_not { Filter::Not(Box::new(filter)) } else { filter }
}

fn is(field: Field, comparison: Comparison, operand: Operand, span: Span) -> Filter {
    Filter::Is(Condition::Field { field, comparison, operand }, span)
}

fn of_states(states: States, span: Span) -> Result<Filter, FilterError> {
    if states == States::NONE {
        let message = "this is never true: no state is left";
        return Err(FilterError::new(span, message));
    }
    Ok(Filter::Is(Condition::State(states), span))
}

fn mixed(place: Span) -> FilterError {
    FilterError::new(
        place,
        "`and` after `or`: `ss` reads from left to right, its manual says that `and` comes first",
    )
    .hint("say which is meant: `( a or b ) and c`, or `a or ( b and c )`")
}

fn device(word: &Word) -> Result<Condition, FilterError> {
    let name = word.text();
    if name.is_empty() {
        return Err(FilterError::new(word.span.clone(), "a device has a name or a number"));
    }
    let index = name.parse().ok();
    Ok(Condition::Device(index.map_or(Device::Name(name), Device::Index)))
}

fn mark(word: &Word) -> Result<Condition, FilterError> {
    let text = word.text();
    let error = |message: String| {
        FilterError::new(word.span.clone(), message).hint("write `0x1`, or `0x1/0xff` with a mask")
    };
    let number = |text: &str| read_number(text).and_then(|n| u32::try_from(n).ok());
    let (mark, mask) = match text.split_once('/') {
        Some((mark, mask)) => (number(mark), number(mask)),
        None => (number(&text), Some(u32::MAX)),
    };
    let (Some(mark), Some(mask)) = (mark, mask) else {
        return Err(error(format!("`{text}` is no mark")));
    };
    if mark & !mask != 0 {
        return Err(error(format!(
            "never true: {mark:#x} has bits that the mask {mask:#x} clears"
        )));
    }
    Ok(Condition::Mark { mark, mask })
}
