//! What the pages with a list have in common. Takes a query and a page of rows; returns the filter, the links that change
//! one field of it, and the parts of `list.html`. Guarantees that tabs, chips and pager keep all other filters.

use crate::domain::Word;
use crate::report::{Cursor, Filter, Known, Page, Rule};
use crate::settings::Snapshot;

use super::frame::Viewer;
use super::period::PeriodMenu;
use super::views::{Choice, Link, Pager, words};

/// Rows per page.
pub(super) const ROWS: i64 = 50;

/// The parts of `list.html`.
pub(super) struct List<R> {
    /// The heading of the page.
    pub(super) name: &'static str,
    pub(super) subtitle: String,
    pub(super) period: Option<PeriodMenu>,
    /// The heading of the list.
    pub(super) heading: String,
    pub(super) tabs: Vec<Choice>,
    /// The filters that no other control shows, each with a link that removes it.
    pub(super) chips: Vec<Choice>,
    pub(super) rows: Vec<R>,
    pub(super) pager: Pager,
}

/// What a query asks for.
pub(super) struct Listing<F> {
    /// Without site and mode, which belong to the frame.
    pub(super) filter: F,
    pub(super) after: Option<Cursor>,
    /// The first page of the list with the same filter.
    pub(super) here: Link,
}

impl<F: Filter> Listing<F> {
    /// Reads a query, and says what is not understood. `here` is the page without a filter.
    pub(super) fn read(viewer: &mut Viewer, settings: &Snapshot, here: &Link) -> Self {
        let known = Known { settings, site_id: Some(&viewer.site.id) };
        let filter: F = viewer.asked.filter(&known);
        let older = || Rule::Must("must be the end of a link to older rows".into());
        let after = viewer.asked.value("after", |text| Cursor::parse(text).ok_or_else(older));
        viewer.asked.refuse_others();
        let here = F::FIELDS.iter().fold(here.clone(), |link, field| {
            link.with(field.name, (field.write)(&filter).unwrap_or_default())
        });
        Self { filter, after, here }
    }

    /// The fields with a value, except those that a control of the page shows.
    pub(super) fn chips(
        &self,
        shown: &[&str],
        label: impl Fn(&str, &str) -> String,
    ) -> Vec<Choice> {
        let chip = |field: &crate::report::Field<F>| {
            let value = (field.write)(&self.filter)?;
            let link = self.here.with(field.name, "");
            (!shown.contains(&field.name))
                .then(|| Choice::new(&link, label(field.name, &value), true))
        };
        F::FIELDS.iter().filter_map(chip).collect()
    }

    /// The way to newer and older rows.
    pub(super) fn pager<R>(&self, found: &Page<R>) -> Pager {
        Pager::new(&self.here, found.rows.len(), self.after.is_none(), found.next.as_ref())
    }
}

/// One tab for each state, and one for all. A tab shows its number unless it is 0.
pub(super) fn state_tabs<W: Word>(
    here: &Link,
    current: Option<W>,
    states: &[(W, &'static str, i64)],
) -> Vec<Choice> {
    let all = Choice::new(&here.with("state", ""), "All", current.is_none());
    let tab = |(state, label, number): &(W, &'static str, i64)| {
        let link = here.with("state", state.as_str());
        let tab = Choice::new(&link, *label, current == Some(*state));
        if *number > 0 { tab.counting(*number) } else { tab }
    };
    std::iter::once(all).chain(states.iter().map(tab)).collect()
}

/// The label of a filter: `Kind: renewal`.
pub(super) fn chip_label(name: &str, value: &str) -> String {
    format!("{}: {value}", words::capital(name))
}
