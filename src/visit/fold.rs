//! The rollup of visits: moves recent counters into the sums that reports read. Takes counters per
//! quarter hour and combination of channel, source, campaign, landing path and device; adds them to
//! sums per single dimension for the quarter hour, its day, eight days and sixty-four days.
//! Guarantees that no visit is lost or counted twice, also if it arrives late: each transaction
//! deletes a few counters and adds exactly them to the sums.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use super::counter::{Counter, SumKey};
use super::table;
use crate::clock::Timestamp;
use crate::domain::{QUARTER_MS, WIDER};
use crate::store::Store;

/// Maximum number of counters per transaction. It bounds how long the writer of visits waits.
const COUNTERS_AT_A_TIME: i64 = 250;
/// Pause between two transactions, so that other writers get their turn.
const PAUSE: Duration = Duration::from_millis(10);

/// Rolls up a site's counters of all quarter hours but the last two. Returns their number.
pub(crate) async fn fold(store: &Store, site: (&str, i64), now: Timestamp) -> Result<usize> {
    let (site_id, site_number) = site;
    let until = now.as_ms().div_euclid(QUARTER_MS) - 1;
    let mut folded = 0;
    // Each step starts where the last one ended, because PostgreSQL would otherwise read the index
    // entries of all deleted rows again until it vacuums them. When nothing is left there, one more
    // pass from the beginning finds counters that arrived late.
    let mut from = i64::MIN;
    loop {
        if !table::has_counters(store, site_id, (from, until)).await? {
            if from == i64::MIN {
                return Ok(folded);
            }
            from = i64::MIN;
            continue;
        }
        let mut tx = store.begin().await?;
        let range = (from, until);
        let counters = table::take_counters(&mut tx, site_id, range, COUNTERS_AT_A_TIME).await?;
        table::add_sums(&mut tx, site_number, &sums(&counters)).await?;
        tx.commit().await?;
        folded += counters.len();
        from = counters.iter().map(|counter| counter.quarter).max().unwrap_or(from);
        tokio::time::sleep(PAUSE).await;
    }
}

fn sums(counters: &[Counter]) -> BTreeMap<SumKey, i64> {
    let mut sums = BTreeMap::<SumKey, i64>::new();
    for counter in counters {
        let names: [(i64, &str); 6] = [
            (5, &counter.device),
            (0, ""),
            (1, &counter.channel),
            (2, &counter.source),
            (3, &counter.campaign),
            (4, &counter.landing_path),
        ];
        let shown = if counter.device == "bot" { &names[..1] } else { &names[..] };
        for (dimension, name) in shown {
            for width in [1].into_iter().chain(WIDER) {
                let first = counter.quarter.div_euclid(width) * width;
                *sums.entry((*dimension, width, first, (*name).to_owned())).or_default() +=
                    counter.visits;
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_added_to_all_its_sums_and_a_bot_only_to_devices() {
        let counter = |device: &str, quarter| Counter {
            quarter,
            channel: "email".to_owned(),
            source: String::new(),
            campaign: "spring".to_owned(),
            landing_path: "/".to_owned(),
            device: device.to_owned(),
            visits: 2,
        };
        let sums = sums(&[counter("phone", 6145), counter("phone", 6239), counter("bot", 6145)]);
        let of = |dimension, width, quarter, name: &str| {
            sums.get(&(dimension, width, quarter, name.to_owned())).copied()
        };
        assert_eq!([of(0, 1, 6145, ""), of(0, 1, 6239, "")], [Some(2), Some(2)]);
        assert_eq!([of(0, 96, 6144, ""), of(3, 768, 6144, "spring")], [Some(4), Some(4)]);
        assert_eq!([of(4, 6144, 6144, "/"), of(5, 96, 6144, "phone")], [Some(4), Some(4)]);
        assert_eq!(of(5, 96, 6144, "bot"), Some(2));
        assert_eq!(sums.values().sum::<i64>(), 2 * (6 + 6 + 1) * 4);
    }
}
