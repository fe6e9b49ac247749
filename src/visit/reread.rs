//! Stored visits, read again after the rules changed by which sources and channels are named.
//! Takes visits as they are stored; returns those whose URL and referrer mean something else by the
//! current rules, and writes them with their counters.
//! Guarantees that a visit which another transaction changed meanwhile is not written.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Map, Value};

use super::landing::{self, Landing};
use super::renamed::{CounterKey, Names, Renamed, StoredLanding};
use super::{flags, table};
use crate::domain::{QUARTER_MS, Word as _};
use crate::store::{AnyConnection, Store};

/// A part of the stored visits, in the order of their key.
pub(crate) struct Part {
    /// How many were read.
    pub(crate) read: usize,
    /// The click ID and the browser's time of the last one.
    pub(crate) last: Option<(String, i64)>,
    pub(crate) renamed: Vec<Renamed>,
}

impl Part {
    /// The click IDs of the visits with other names.
    pub(crate) fn click_ids(&self) -> Vec<&str> {
        self.renamed.iter().map(|visit| visit.stored.click_id.as_str()).collect()
    }
}

/// Reads the visits after this click ID and browser's time by the current rules.
pub(crate) async fn read_again(store: &Store, after: (&str, i64), limit: i64) -> Result<Part> {
    let stored = table::stored_landings(store, after, limit).await?;
    let last = stored.last().map(|visit| (visit.click_id.clone(), visit.sent_at_ms));
    let read = stored.len();
    Ok(Part { read, last, renamed: stored.into_iter().filter_map(renamed).collect() })
}

fn renamed(stored: StoredLanding) -> Option<Renamed> {
    let landing = landing::read(stored.url.as_deref(), stored.referrer.as_deref());
    let details = details(&stored.details, &landing);
    let names = Names {
        channel: landing.channel.as_str().to_owned(),
        source: landing.source,
        medium: landing.medium,
        campaign: landing.campaign,
    };
    let is_known = names == stored.names && details.is_none();
    let details = details.unwrap_or_else(|| stored.details.clone());
    (!is_known).then_some(Renamed { stored, names, details })
}

/// The details with what the rules read; `None` if nothing differs.
fn details(stored: &str, landing: &Landing) -> Option<String> {
    let Ok(Value::Object(stored)) = serde_json::from_str(stored) else { return None };
    let pairs = |pairs: &[(String, String)]| {
        let object = pairs.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
        (!pairs.is_empty()).then(|| Value::Object(object.collect::<Map<_, _>>()))
    };
    let text =
        |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(Value::from);
    let mut details = stored.clone();
    for (name, value) in [
        ("ad_click_ids", pairs(&landing.ad_click_ids)),
        ("parameters", pairs(&landing.parameters)),
        ("term", text(&landing.term)),
        ("content", text(&landing.content)),
    ] {
        match value {
            Some(value) => details.insert(name.to_owned(), value),
            None => details.remove(name),
        };
    }
    (details != stored).then(|| Value::Object(details).to_string())
}

/// Writes the new names. Returns false if another transaction changed one of the visits since it was
/// read; the caller must not commit then.
pub(crate) async fn rename(tx: &mut AnyConnection, part: &Part) -> Result<bool> {
    for visit in &part.renamed {
        if !table::rename(tx, visit).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Moves the visits from the counters of their old names to those of the new ones.
pub(crate) async fn recount(tx: &mut AnyConnection, part: &Part) -> Result<()> {
    let mut counters = BTreeMap::new();
    for Renamed { stored, names, .. } in &part.renamed {
        if !stored.is_provisional && stored.flags & flags::UNKNOWN_HOST == 0 {
            *counters.entry(counter(stored, &stored.names)).or_default() -= 1;
            *counters.entry(counter(stored, names)).or_default() += 1;
        }
    }
    counters.retain(|_, visits: &mut i64| *visits != 0);
    table::add_to_counters(tx, &counters).await
}

fn counter(stored: &StoredLanding, names: &Names) -> CounterKey {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let quarter = stored.at_ms.div_euclid(QUARTER_MS);
    let names = [
        names.channel.clone(),
        text(&names.source),
        text(&names.medium),
        text(&names.campaign),
        text(&stored.landing_path),
        stored.device.clone(),
    ];
    (stored.site_id.clone(), quarter, names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(url: &str, names: [&str; 4], details: &str) -> StoredLanding {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        StoredLanding {
            click_id: "ck_1".to_owned(),
            sent_at_ms: 1,
            site_id: "site_1".to_owned(),
            at_ms: 900_000,
            url: Some(format!("https://shop.com/{url}")),
            referrer: None,
            names: Names {
                channel: names[0].to_owned(),
                source: text(names[1]),
                medium: text(names[2]),
                campaign: text(names[3]),
            },
            landing_path: Some("/".to_owned()),
            device: "phone".to_owned(),
            flags: 0,
            details: details.to_owned(),
            is_provisional: false,
        }
    }

    #[test]
    fn only_what_the_current_rules_read_differently_is_renamed() {
        let fb = "?utm_source=fb&utm_medium=paid";
        let now = ["paid social", "facebook", "paid", ""];
        assert!(renamed(stored(fb, now, r#"{"browser":"Firefox"}"#)).is_none());
        let found = renamed(stored(fb, ["paid", "fb", "paid", ""], r#"{"browser":"Firefox"}"#));
        let found = found.expect("it has another name now");
        assert_eq!(found.names, stored(fb, now, "").names);
        assert_eq!(found.details, r#"{"browser":"Firefox"}"#, "nothing else changed");
    }

    #[test]
    fn a_parameter_that_became_an_ad_click_id_is_in_the_details() {
        let visit = stored("?oppref=abc", ["direct", "", "", ""], r#"{"browser":"Safari"}"#);
        let found = renamed(visit).expect("it is an ad click now");
        assert_eq!(found.names.channel, "paid");
        let details: Value = serde_json::from_str(&found.details).unwrap();
        let expected = serde_json::json!({"browser": "Safari", "ad_click_ids": {"oppref": "abc"}});
        assert_eq!(details, expected);
        let broken = stored("?oppref=abc", ["direct", "", "", ""], "{");
        assert_eq!(renamed(broken).expect("its names").details, "{", "what is broken stays");
    }
}
