//! The query of a page. Takes a request's parameters; returns filters and words, and a sentence for each parameter that
//! is not understood. Guarantees that a page never leaves out a filter without saying so.

use crate::report::{Filter, Known, Rule};

use super::views::entered;

/// Fields of filters that pages take from the frame: its site and its mode.
const OF_THE_FRAME: [&str; 2] = ["site", "livemode"];

/// The most characters of a parameter that a sentence repeats.
const MAX_SHOWN: usize = 64;

/// The parameters of a page.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// Those with a value, by name.
    pairs: Vec<(String, String)>,
    /// The names that the page knows.
    known: Vec<&'static str>,
    notices: Vec<String>,
}

impl Asked {
    pub(super) fn of(query: &str) -> Self {
        let pairs = url::form_urlencoded::parse(query.as_bytes())
            .filter_map(|(name, value)| Some((name.into_owned(), entered(Some(&value))?)));
        Self { pairs: pairs.collect(), ..Self::default() }
    }

    /// A text. The first of a repeated parameter counts.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    /// A value; says so if there is none that follows the rule.
    pub(super) fn value<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, Rule>,
    ) -> Option<T> {
        let text = self.text(name)?;
        read(&text).map_err(|rule| self.refuse(name, &text, &rule)).ok()
    }

    /// One of these words.
    pub(super) fn word(&mut self, name: &'static str, words: &[&str]) -> Option<String> {
        let possible = || words.iter().filter(|word| !word.is_empty());
        let all = || Rule::OneOf(possible().map(|word| (*word).to_owned()).collect());
        self.value(name, |text| {
            possible().find(|word| **word == text).map(|word| (*word).to_owned()).ok_or_else(all)
        })
    }

    /// The fields of a filter, except those that the page has read already.
    pub(super) fn filter<F: Filter>(&mut self, known: &Known) -> F {
        let mut filter = F::default();
        for field in F::FIELDS {
            if !OF_THE_FRAME.contains(&field.name) && !self.known.contains(&field.name) {
                self.value(field.name, |text| (field.read)(&mut filter, text, known));
            }
        }
        filter
    }

    /// Says that a parameter is not understood.
    pub(super) fn refuse(&mut self, name: &str, value: &str, rule: &Rule) {
        let rule = match rule {
            Rule::OneOf(words) => format!("Possible values: {}.", words.join(", ")),
            Rule::Must(rule) => format!("It {rule}."),
        };
        self.notices.push(not_applied(name, value, &rule));
    }

    /// Says that all other parameters are not understood. Called by pages that have read all of theirs.
    pub(super) fn refuse_others(&mut self) {
        let is_ours = |name: &str| self.known.contains(&name);
        let mut known: Vec<&str> = self.known.clone();
        known.retain(|name| *name != "after");
        let rule = format!("Possible filters: {}.", known.join(", "));
        let others = self.pairs.iter().filter(|(name, _)| !is_ours(name));
        let notices: Vec<_> = others.map(|(name, value)| not_applied(name, value, &rule)).collect();
        self.notices.extend(notices);
    }

    /// The sentences about all that is not understood.
    pub(super) fn notices(&self) -> &[String] {
        &self.notices
    }
}

fn not_applied(name: &str, value: &str, rule: &str) -> String {
    let shown = format!("{name}={value}");
    let shown = shown.chars().filter(|char| !char.is_control()).take(MAX_SHOWN);
    let shown: String = shown.collect();
    format!("The filter {shown} is not understood, so it is not applied. {rule}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::DeliveryState;
    use crate::report::DeliveryFilter;
    use crate::settings::Snapshot;

    #[test]
    fn what_is_not_understood_is_said() {
        let mut asked =
            Asked::of("state=nonsense&site=main&destination=none&foo=%001&empty=&mode=x");
        assert_eq!(asked.text("site").as_deref(), Some("main"));
        assert_eq!(asked.word("mode", &["", "live", "test"]), None);
        let known = Known { settings: &Snapshot::default(), site_id: None };
        let filter: DeliveryFilter = asked.filter(&known);
        assert_eq!(filter.state, None);
        asked.refuse_others();
        let said = "is not understood, so it is not applied.";
        assert_eq!(
            asked.notices(),
            [
                format!("The filter mode=x {said} Possible values: live, test."),
                format!(
                    "The filter state=nonsense {said} Possible values: pending, delivered, given_up, held, skipped."
                ),
                format!("The filter destination=none {said} It must be the key of a destination."),
                format!(
                    "The filter foo=1 {said} Possible filters: site, mode, state, reason, destination."
                ),
            ]
        );
    }

    #[test]
    fn what_is_understood_is_applied_without_a_word() {
        let mut asked = Asked::of("state=+held&state=pending&search=a");
        let known = Known { settings: &Snapshot::default(), site_id: None };
        let filter: DeliveryFilter = asked.filter(&known);
        assert_eq!(filter.state, Some(DeliveryState::Held), "the first one counts");
        assert_eq!(asked.text("search").as_deref(), Some("a"));
        asked.refuse_others();
        assert!(asked.notices().is_empty(), "{:?}", asked.notices());
    }
}
