//! The helper of forms whose fields are checked. Takes the fields that a browser sent, and an error for each wrong one;
//! returns every field as it was entered, with its error. A form that is refused loses nothing that was typed.

use std::collections::HashMap;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse as _, Response};

use super::views::{Field, entered};

/// A form as entered, and its errors. The default is a form that nobody has filled in yet.
#[derive(Default)]
pub(super) struct FormData {
    sent: Option<HashMap<String, String>>,
    errors: Vec<(&'static str, String)>,
    /// Errors that belong to no field.
    pub(super) general: Vec<String>,
}

impl<S: Send + Sync> FromRequest<S> for FormData {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let body = Bytes::from_request(request, state).await;
        Ok(Self::read(&body.map_err(|rejected| rejected.into_response())?))
    }
}

impl FormData {
    /// Reads fields as browsers encode them, in a body or a query.
    pub(super) fn read(encoded: &[u8]) -> Self {
        let pairs = url::form_urlencoded::parse(encoded);
        let sent = pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        Self { sent: Some(sent), ..Self::default() }
    }

    /// The value as typed, with line breaks; `None` if the form has no such field.
    pub(super) fn typed(&self, name: &str) -> Option<&str> {
        self.sent.as_ref()?.get(name).map(String::as_str)
    }

    /// The value, trimmed and without NUL; empty if there is no such field.
    pub(super) fn text(&self, name: &str) -> String {
        entered(self.typed(name)).unwrap_or_default()
    }

    /// Whether a box is ticked.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.typed(name).is_some()
    }

    /// Refuses a field; the first error of a field is shown.
    pub(super) fn refuse(&mut self, name: &'static str, error: impl Into<String>) {
        self.errors.push((name, error.into()));
    }

    /// The value that was read, or its default after refusing the field.
    pub(super) fn take<T: Default>(
        &mut self,
        name: &'static str,
        read: Result<T, impl Into<String>>,
    ) -> T {
        read.unwrap_or_else(|error| {
            self.refuse(name, error);
            T::default()
        })
    }

    /// Whether nothing was refused.
    pub(super) fn is_right(&self) -> bool {
        self.errors.is_empty() && self.general.is_empty()
    }

    /// Whether an error is beside a field.
    pub(super) fn has_marked_fields(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Replaces what was typed.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        let sent = self.sent.get_or_insert_default();
        sent.insert(name.to_owned(), value.to_owned());
    }

    /// The first error of a field.
    pub(super) fn error(&self, name: &str) -> Option<String> {
        self.errors.iter().find(|(of, _)| *of == name).map(|(_, error)| error.clone())
    }

    /// A field: what was typed, or the stored value in a form that nobody has filled in.
    pub(super) fn field(&self, name: &str, stored: impl Into<String>) -> Field {
        let typed = self.typed(name).map(str::to_owned);
        Field { value: typed.unwrap_or_else(|| stored.into()), error: self.error(name) }
    }

    /// Whether a box is ticked, or was stored so in a form that nobody has filled in.
    pub(super) fn tick(&self, name: &str, stored: bool) -> bool {
        if self.sent.is_some() { self.is_on(name) } else { stored }
    }

    /// A field with choices: their words and labels.
    pub(super) fn select(
        &self,
        name: &str,
        stored: &str,
        choices: &[(&'static str, &'static str)],
    ) -> Select {
        let Field { value, error } = self.field(name, stored);
        let choices = choices.iter().map(|(word, label)| (*word, *label, *word == value));
        Select { choices: choices.collect(), error }
    }
}

/// A field with choices.
pub(super) struct Select {
    /// Word, label, whether it is selected.
    pub(super) choices: Vec<(&'static str, &'static str, bool)>,
    pub(super) error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_form_keeps_what_was_typed() {
        let mut form = FormData::read(b"name=+a%00b+&on=1&kind=two");
        assert_eq!((form.text("name").as_str(), form.text("other").as_str()), ("ab", ""));
        form.refuse("name", "wrong");
        form.refuse("name", "wrong again");
        let field = form.field("name", "stored");
        assert_eq!((field.value.as_str(), field.error.as_deref()), (" a\0b ", Some("wrong")));
        assert!(form.tick("on", false) && !form.tick("off", true) && !form.is_right());
        let kind = form.select("kind", "one", &[("one", "One"), ("two", "Two")]);
        assert_eq!(kind.choices, [("one", "One", false), ("two", "Two", true)]);
    }

    #[test]
    fn an_empty_form_shows_what_is_stored() {
        let form = FormData::default();
        assert_eq!(form.field("name", "stored").value, "stored");
        assert!(form.tick("off", true) && form.is_right());
    }
}
