//! What pages are made of, ready to show: links, chips, menus, tabs, fields.
//! In: values. Out: small structs whose fields are text. Promise: templates decide and compute nothing.

pub(super) mod numbers;
pub(super) mod times;
pub(super) mod words;

use std::fmt;

use askama::Template;
use askama::filters::HtmlSafe;

/// An address on this server: the public prefix, a path, a query in a fixed order.
#[derive(Clone, Debug)]
pub(super) struct Link {
    path: String,
    pairs: Vec<(&'static str, String)>,
}

impl Link {
    /// The same address without the public prefix.
    pub(super) fn without_prefix(&self, prefix: &str) -> Self {
        let path = self.path.strip_prefix(prefix).unwrap_or(&self.path).to_owned();
        Self { path, pairs: self.pairs.clone() }
    }

    /// A path with its prefix already before it.
    pub(super) fn to(path: String) -> Self {
        Self { path, pairs: Vec::new() }
    }

    /// The same address with one parameter changed; an empty value leaves it out.
    pub(super) fn with(&self, name: &'static str, value: impl Into<String>) -> Self {
        let mut changed = self.clone();
        changed.pairs.retain(|(known, _)| *known != name);
        let value = value.into();
        if !value.is_empty() {
            changed.pairs.push((name, value));
        }
        changed
    }

    /// Its parameters except some, for the hidden fields of a form that asks for those.
    pub(super) fn pairs_without(&self, names: &[&str]) -> Vec<(&'static str, String)> {
        self.pairs.iter().filter(|(name, _)| !names.contains(name)).cloned().collect()
    }

    /// An address below this one, with the same parameters: the route of an action.
    pub(super) fn below(&self, end: &str) -> Self {
        Self { path: format!("{}{end}", self.path), pairs: self.pairs.clone() }
    }

    /// The address without its query, for the action of a form.
    pub(super) fn path(&self) -> String {
        self.path.clone()
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if self.pairs.is_empty() {
            return Ok(());
        }
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.pairs);
        write!(f, "?{}", query.finish())
    }
}

/// A state: a shape and a word.
#[derive(Clone, Debug, Template)]
#[template(path = "parts/chip.html")]
pub(super) struct Chip {
    pub(super) class: &'static str,
    pub(super) text: String,
}

impl HtmlSafe for Chip {}

impl Chip {
    /// Settled.
    pub(super) fn ok(text: impl Into<String>) -> Self {
        Self { class: "chip ok", text: text.into() }
    }

    /// Open; we are on it.
    pub(super) fn wait(text: impl Into<String>) -> Self {
        Self { class: "chip wait", text: text.into() }
    }

    /// Open: money without credit.
    pub(super) fn open(text: impl Into<String>) -> Self {
        Self { class: "chip open", text: text.into() }
    }

    /// Stopped until somebody acts.
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self { class: "chip bad", text: text.into() }
    }

    /// Never meant to happen, or not yet.
    pub(super) fn quiet(text: impl Into<String>) -> Self {
        Self { class: "chip", text: text.into() }
    }
}

/// One entry of a menu or one tab.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) href: String,
    pub(super) label: String,
    /// Beside the label; empty for none.
    pub(super) count: String,
    pub(super) is_current: bool,
}

impl Choice {
    pub(super) fn new(href: &Link, label: impl Into<String>, is_current: bool) -> Self {
        Self { href: href.to_string(), label: label.into(), count: String::new(), is_current }
    }

    /// With a number beside it.
    #[must_use]
    pub(super) fn counting(mut self, count: i64) -> Self {
        self.count = numbers::count(count);
        self
    }
}

/// The end of a list: how many rows, and the way to the next.
#[derive(Clone, Debug, Template)]
#[template(path = "parts/pager.html")]
pub(super) struct Pager {
    /// `Newest 50`, `50 older ones`.
    pub(super) text: String,
    pub(super) newest: Option<String>,
    pub(super) older: Option<String>,
}

impl HtmlSafe for Pager {}

impl Pager {
    pub(super) fn new(
        here: &Link,
        rows: usize,
        is_first: bool,
        next: Option<&crate::report::Cursor>,
    ) -> Self {
        let rows = numbers::count(i64::try_from(rows).unwrap_or(i64::MAX));
        Self {
            text: match (is_first, next.is_some()) {
                (true, true) => format!("Newest {rows}"),
                (true, false) => format!("All {rows}"),
                (false, _) => format!("{rows} older ones"),
            },
            newest: (!is_first).then(|| here.with("after", "").to_string()),
            older: next.map(|next| here.with("after", next.to_string()).to_string()),
        }
    }
}

/// A form's field: what was entered, and why it was not taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Field {
    pub(super) value: String,
    pub(super) error: Option<String>,
}

impl Field {
    pub(super) fn of(value: impl Into<String>) -> Self {
        Self { value: value.into(), error: None }
    }
}

/// Text from a form or query: trimmed, without the NUL that PostgreSQL cannot store; `None` when nothing is left.
pub(super) fn entered(text: Option<&str>) -> Option<String> {
    let text = text?.replace('\0', "");
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_keep_their_other_parameters() {
        let link = Link::to("/k/conversions".to_owned()).with("mode", "test").with("q", "a b&c");
        assert_eq!(link.to_string(), "/k/conversions?mode=test&q=a+b%26c");
        assert_eq!(link.with("q", "").to_string(), "/k/conversions?mode=test");
        assert_eq!(link.with("mode", "").with("q", "").to_string(), "/k/conversions");
        assert_eq!(link.pairs_without(&["q"]), [("mode", "test".to_owned())]);
    }

    #[test]
    fn a_chip_escapes_its_text() {
        let chip = Chip::bad("<script>: given up").to_string();
        assert_eq!(chip, "<span class=\"chip bad\">&#60;script&#62;: given up</span>");
    }

    #[test]
    fn entered_text_is_trimmed_and_has_no_nul() {
        assert_eq!(entered(Some(" a\0b ")).as_deref(), Some("ab"));
        assert_eq!(entered(Some(" \0 ")), None);
    }
}
