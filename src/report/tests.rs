//! Tests of every query of this module with the rows of `fixture`, on SQLite, or on PostgreSQL if
//! `CLICKSTAMP_TEST_POSTGRES` is set.

use jiff::tz::TimeZone;

use super::fixture::{Filled, MINUTE, NOON, filled};
use super::*;
use crate::domain::{
    AttemptOutcome, ConversionStatus, DeliveryState, EventState, MatchState, UnmatchedReason,
    Word as _,
};
use crate::money::Totals;
use crate::store::Engine;

fn period(from_ms: i64, to_ms: i64) -> Period {
    Period { from: Timestamp::from_ms(from_ms), to: Timestamp::from_ms(to_ms) }
}

fn today() -> Period {
    period(NOON - 86_400_000, NOON + MINUTE)
}

fn live(filled: &Filled) -> Scope {
    Scope { site_id: filled.site_id.clone(), livemode: true }
}

fn shown(totals: &Totals) -> Vec<String> {
    totals.iter().map(|sum| format!("{} {}", sum.currency, sum.decimal())).collect()
}

fn ids<'a>(rows: impl IntoIterator<Item = &'a ConversionRow>) -> Vec<&'a str> {
    rows.into_iter().map(|row| row.id.as_str()).collect()
}

#[tokio::test]
async fn the_overview_counts_paid_conversions_once() {
    let filled = &filled().await;
    let found = overview(&filled.store, &live(filled), today()).await.unwrap();
    assert_eq!((found.visits, found.conversions), (45, 4));
    assert_eq!((found.matched, found.unmatched, found.undelivered), (2, 2, 2));
    assert_eq!(shown(&found.gross), ["EUR 7.00", "USD 152.60"]);
    assert_eq!(shown(&found.refunded), ["EUR 0.00", "USD 10.00"]);
    assert_eq!(shown(&found.net), ["EUR 7.00", "USD 142.60"]);
    assert_eq!(shown(&found.disputed), ["EUR 7.00", "USD 0.00"]);
    assert_eq!(found.leaking, 2, "unmatched and undelivered at once is one leak");
    assert_eq!(shown(&found.at_risk), ["EUR 7.00", "USD 40.00"]);
    assert_eq!(shown(&found.unmatched_money), shown(&found.at_risk));
    assert_eq!(shown(&found.undelivered_money), shown(&found.at_risk));
    assert_eq!(found.lost_to_missing_tag, 1);
    assert_eq!(shown(&found.lost_to_missing_tag_money), ["USD 40.00"]);
    assert_eq!(found.match_rate, Share { part: 1, whole: 3 }, "a lead states no money");
    let delivered = delivered_rate(&filled.store, &live(filled), today()).await.unwrap();
    assert_eq!(delivered, Share { part: 1, whole: 4 });
    assert_eq!(leaking(&filled.store, &live(filled), today()).await.unwrap(), found.leaking);

    let test = Scope { livemode: false, ..live(filled) };
    let found = overview(&filled.store, &test, today()).await.unwrap();
    assert_eq!((found.conversions, shown(&found.gross)), (1, vec!["USD 99.99".to_owned()]));
    let delivered = delivered_rate(&filled.store, &test, today()).await.unwrap();
    assert_eq!(delivered, Share::default(), "a skipped delivery is not pending");

    let nowhere = Scope { site_id: "site_0".to_owned(), livemode: true };
    assert_eq!(overview(&filled.store, &nowhere, today()).await.unwrap(), Overview::default());
}

#[tokio::test]
async fn the_period_is_half_open() {
    let filled = &filled().await;
    let count = async |from, to| {
        overview(&filled.store, &live(filled), period(from, to)).await.unwrap().conversions
    };
    assert_eq!(count(NOON, NOON + 1).await, 1);
    assert_eq!(count(NOON - 1, NOON).await, 0);
    assert_eq!(count(NOON - MINUTE, NOON).await, 2);
}

#[tokio::test]
async fn the_days_add_up_to_the_overview() {
    let filled = &filled().await;
    let zone = TimeZone::get("America/New_York").unwrap();
    let days = days(&filled.store, &live(filled), today(), &zone).await.unwrap();
    let visits: Vec<_> =
        days.iter().map(|day| (day.date.to_string(), day.visits, day.conversions)).collect();
    assert_eq!(visits, [("2026-09-20".to_owned(), 30, 0), ("2026-09-21".to_owned(), 15, 4)]);
    assert_eq!(shown(&days[1].net), ["EUR 7.00", "USD 142.60"]);
}

#[tokio::test]
async fn each_dimension_is_ranked_by_the_last_touch() {
    let usd = Currency::parse("usd").unwrap();
    let rows = [
        (Dimension::Channel, "email", 12),
        (Dimension::Source, "newsletter", 12),
        (Dimension::Campaign, "", 15),
        (Dimension::LandingPage, "/", 15),
        (Dimension::Device, "phone", 42),
    ];
    let filled = &filled().await;
    for (dimension, best, visits) in rows {
        let found = ranking(&filled.store, &live(filled), today(), dimension, usd).await.unwrap();
        let first = &found.rows[0];
        assert_eq!(
            (first.name.as_str(), first.visits, first.conversions, shown(&first.net)),
            (best, visits, 1, vec!["USD 102.60".to_owned()]),
            "{dimension:?}"
        );
        assert_eq!(found.unmatched.conversions, 3, "{dimension:?}");
        assert_eq!(shown(&found.unmatched.net), ["EUR 7.00", "USD 40.00"], "{dimension:?}");
    }
}

#[tokio::test]
async fn leaks_have_reasons_and_amounts() {
    let filled = &filled().await;
    let found = leaks(&filled.store, &live(filled), today()).await.unwrap();
    let reasons: Vec<_> =
        found.unmatched.iter().map(|leak| (leak.reason.as_str(), shown(&leak.money))).collect();
    assert_eq!(
        reasons,
        [
            ("no_reference", vec!["EUR 7.00".to_owned()]),
            ("placeholder_not_replaced", vec!["USD 40.00".to_owned()])
        ]
    );
    let example = &found.unmatched[1].examples[0];
    assert_eq!(
        (found.unmatched[1].examples.len(), example.reference.as_deref()),
        (1, Some("--CLICK-ID--"))
    );
    let lines: Vec<_> = found
        .undelivered
        .iter()
        .map(|line| (line.state.as_str(), line.deliveries, shown(&line.money)))
        .collect();
    assert_eq!(
        lines,
        [
            ("given_up", 1, vec!["USD 40.00".to_owned()]),
            ("pending", 2, vec!["EUR 7.00".to_owned()])
        ]
    );
    assert_eq!(found.undelivered[0].last_error.as_deref(), Some("archived"));
    assert_eq!(found.undelivered[0].last_status, Some(422));
    assert_eq!(found.undelivered[1].oldest_at.as_ms(), NOON + 2);
}

#[tokio::test]
async fn conversions_are_paged_without_gap_or_repeat() {
    let filled = &filled().await;
    let all = conversions(&filled.store, &ConversionFilter::default(), None, 200).await.unwrap();
    let expected = ["cnv_5", "cnv_4", "cnv_1", "cnv_3", "cnv_2", "cnv_6", "cnv_7"];
    assert_eq!(ids(&all.rows), expected);
    assert!(all.next.is_none());
    for limit in 1..=8 {
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let filter = ConversionFilter {
                site_id: Some(filled.site_id.clone()),
                ..ConversionFilter::default()
            };
            let page = conversions(&filled.store, &filter, cursor.as_ref(), limit).await.unwrap();
            seen.extend(page.rows.into_iter().map(|row| row.id));
            assert!(seen.len() <= expected.len(), "by {limit}: {seen:?}");
            cursor = page.next.map(|next| Cursor::parse(&next.to_string()).unwrap());
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected, "by {limit}");
    }
}

#[tokio::test]
async fn a_listed_conversion_carries_its_touches_and_deliveries() {
    let filled = &filled().await;
    let page = conversions(&filled.store, &ConversionFilter::default(), None, 200).await.unwrap();
    let row = page.rows.iter().find(|row| row.id == "cnv_1").unwrap();
    let sources: Vec<_> = row.touches.iter().map(|touch| touch.source.as_deref()).collect();
    assert_eq!(sources, [Some("google"), Some("newsletter")]);
    assert_eq!(row.last_touch().unwrap().click_id, "ck_2b");
    let delivery = &row.deliveries[0];
    assert_eq!(
        (delivery.destination_key.as_str(), delivery.state.as_str(), delivery.last_status),
        ("anytrack", "delivered", Some(200))
    );
    assert_eq!(row.amount.unwrap().decimal(), "102.60");
    let unknown = page.rows.iter().find(|row| row.id == "cnv_6").unwrap();
    assert_eq!((unknown.amount, unknown.refunded), (None, None));
}

#[tokio::test]
async fn each_filter_of_conversions_works() {
    let some = |text: &str| Some(text.to_owned());
    let none = ConversionFilter::default;
    let rows = [
        (ConversionFilter { livemode: Some(false), ..none() }, vec!["cnv_4"]),
        (
            ConversionFilter { match_state: Some(MatchState::Unmatched), ..none() },
            vec!["cnv_3", "cnv_2", "cnv_7"],
        ),
        (ConversionFilter { reason: Some(UnmatchedReason::NoReference), ..none() }, vec!["cnv_3"]),
        (ConversionFilter { status: Some(ConversionStatus::Pending), ..none() }, vec!["cnv_5"]),
        (
            ConversionFilter { delivery_state: Some(DeliveryState::Pending), ..none() },
            vec!["cnv_3"],
        ),
        (ConversionFilter { search: some("jenny@"), ..none() }, vec!["cnv_1"]),
        (ConversionFilter { search: some("cnv_6"), ..none() }, vec!["cnv_6"]),
        (ConversionFilter { search: some("--CLICK"), ..none() }, vec!["cnv_2"]),
        (ConversionFilter { search: some("ck_2b"), ..none() }, vec!["cnv_4", "cnv_1"]),
        (ConversionFilter { search: some("%"), ..none() }, vec![]),
        (
            ConversionFilter {
                search: some("cs_of"),
                only_paid: true,
                livemode: Some(true),
                ..none()
            },
            vec!["cnv_1", "cnv_3", "cnv_2", "cnv_6", "cnv_7"],
        ),
        (
            ConversionFilter {
                from: Some(Timestamp::from_ms(NOON - MINUTE)),
                to: Some(Timestamp::from_ms(NOON)),
                ..none()
            },
            vec!["cnv_3", "cnv_2"],
        ),
        (ConversionFilter { site_id: some("site_0"), ..none() }, vec![]),
    ];
    let filled = &filled().await;
    for (filter, expected) in &rows {
        let page = conversions(&filled.store, filter, None, 50).await.unwrap();
        assert_eq!(&ids(&page.rows), expected, "{filter:?}");
    }
}

#[tokio::test]
async fn the_journey_contains_everything_stored_about_a_conversion() {
    let filled = &filled().await;
    let found = conversion(&filled.store, "cnv_1").await.unwrap().unwrap();
    let details: Vec<_> =
        found.way.iter().map(|step| step.visit.as_ref().unwrap().details.as_str()).collect();
    assert_eq!(details, ["{\"gclid\":\"G\"}", "no json"]);
    let tries: Vec<_> =
        found.deliveries[0].tries.iter().filter_map(|attempt| attempt.outcome).collect();
    assert_eq!(tries, [AttemptOutcome::Retry, AttemptOutcome::Accepted]);
    assert_eq!(found.deliveries[0].request, "{\"a\":1}");
    let events: Vec<_> = found.events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(events, ["sev_1", "sev_2"], "the charge is known by its object");
    assert_eq!(found.objects.len(), 3);
    assert_eq!(found.payment, r#"{"livemode":true}"#);
    assert!(conversion(&filled.store, "cnv_0").await.unwrap().is_none());
}

#[tokio::test]
async fn visits_are_found_by_either_click_id() {
    let filled = &filled().await;
    let found = visit(&filled.store, "ck_zalias").await.unwrap().unwrap();
    assert_eq!((found.click_id.as_str(), found.visits.len()), ("ck_2b", 1));
    assert_eq!(found.anytrack_click_ids, ["AT1"]);
    let led: Vec<_> = found.conversions.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(led, ["cnv_4", "cnv_1"]);
    assert_eq!(visit(&filled.store, "ck_1a").await.unwrap().unwrap().visits.len(), 2);
    assert!(visit(&filled.store, "ck_none").await.unwrap().is_none());
}

#[tokio::test]
async fn visits_are_paged_newest_first() {
    let filled = &filled().await;
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page =
            visits(&filled.store, &VisitFilter::default(), cursor.as_ref(), 1).await.unwrap();
        seen.extend(page.rows.into_iter().map(|row| (row.click_id, row.sent_at_ms)));
        assert!(seen.len() <= 3, "{seen:?}");
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let seen: Vec<_> = seen.iter().map(|(id, sent)| (id.as_str(), *sent)).collect();
    assert_eq!(seen, [("ck_2b", 1), ("ck_1a", 2), ("ck_1a", 1)]);
    let filter = VisitFilter {
        site_id: Some(filled.site_id.clone()),
        campaign: Some("spring".to_owned()),
        channel: Some("paid_search".to_owned()),
        with_bots: true,
        period: None,
    };
    assert_eq!(visits(&filled.store, &filter, None, 9).await.unwrap().rows.len(), 1);
    // Their click IDs were not minted by the server, so they are in no period.
    let filter = VisitFilter { period: Some(today()), ..VisitFilter::default() };
    assert!(visits(&filled.store, &filter, None, 9).await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn deliveries_are_listed_and_summed() {
    let some = |text: &str| Some(text.to_owned());
    let filled = &filled().await;
    let list = async |filter: DeliveryFilter| -> Vec<String> {
        let page = deliveries(&filled.store, &filter, None, 50).await.unwrap();
        page.rows.into_iter().map(|row| row.id).collect()
    };
    let none = DeliveryFilter::default;
    assert_eq!(list(none()).await, ["dlv_5", "dlv_4", "dlv_3", "dlv_2", "dlv_1"]);
    let pending = DeliveryFilter { state: Some(DeliveryState::Pending), ..none() };
    assert_eq!(list(pending).await, ["dlv_4", "dlv_3"]);
    let elsewhere = DeliveryFilter { destination_id: some("dst_0"), ..none() };
    assert!(list(elsewhere).await.is_empty());
    let of_mode = |livemode| DeliveryFilter { livemode: Some(livemode), ..none() };
    let (live, test) = (list(of_mode(true)).await, list(of_mode(false)).await);
    assert_eq!(live.len() + test.len(), 5, "each in one mode: {live:?} {test:?}");
    let here = DeliveryFilter {
        reason: None,
        site_id: Some(filled.site_id.clone()),
        destination_id: Some(filled.destination_id.clone()),
        state: Some(DeliveryState::GivenUp),
        livemode: Some(true),
    };
    assert_eq!(list(here).await, ["dlv_2"]);

    let first = deliveries(&filled.store, &none(), None, 2).await.unwrap();
    let second = deliveries(&filled.store, &none(), first.next.as_ref(), 2).await.unwrap();
    assert_eq!(second.rows[0].id, "dlv_3");

    let one = delivery(&filled.store, "dlv_1").await.unwrap().unwrap();
    assert_eq!((one.tries.len(), one.row.amount.unwrap().decimal()), (2, "102.60".to_owned()));
    assert!(delivery(&filled.store, "dlv_0").await.unwrap().is_none());

    let totals = destination_totals(&filled.store, &filled.site_id).await.unwrap();
    let [sum] = totals.as_slice() else { panic!("one destination") };
    assert_eq!((sum.accepted, sum.pending, sum.given_up, sum.held, sum.skipped), (1, 2, 1, 0, 1));
    assert_eq!(shown(&sum.pending_money), ["EUR 7.00"], "one conversion, two messages");
    assert_eq!(shown(&sum.given_up_money), ["USD 50.00"]);
    assert_eq!(sum.last_accepted_at.unwrap().as_ms(), NOON + 5000);
    assert_eq!(sum.oldest_pending_at.unwrap().as_ms(), NOON + 2);
}

#[tokio::test]
async fn stripe_events_are_listed_by_state_and_read_with_their_body() {
    let some = |text: &str| Some(text.to_owned());
    let filled = &filled().await;
    let list = async |filter: EventFilter| -> Vec<String> {
        let page = stripe_events(&filled.store, &filter, None, 50).await.unwrap();
        page.rows.into_iter().map(|row| row.id).collect()
    };
    let none = EventFilter::default;
    assert_eq!(list(none()).await, ["sev_5", "sev_4", "sev_3", "sev_2", "sev_1"]);
    assert_eq!(list(EventFilter { state: Some(EventState::Failed), ..none() }).await, ["sev_4"]);
    let refunds = EventFilter {
        kind: some("charge.refunded"),
        livemode: Some(false),
        site_id: Some(filled.site_id.clone()),
        ..none()
    };
    assert_eq!(list(refunds).await, ["sev_5"]);
    let first = stripe_events(&filled.store, &none(), None, 2).await.unwrap();
    let second = stripe_events(&filled.store, &none(), first.next.as_ref(), 2).await.unwrap();
    assert_eq!(second.rows[0].id, "sev_3");
    let one = stripe_event(&filled.store, "sev_4").await.unwrap().unwrap();
    assert_eq!((one.body.as_slice(), one.row.error.as_deref()), (&b"{}"[..], Some("no amount")));
    assert!(stripe_event(&filled.store, "sev_0").await.unwrap().is_none());

    let since = Timestamp::from_ms(NOON - 86_400_000);
    let refused = rejections(&filled.store, &filled.site_id, since).await.unwrap();
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].reason.as_str(), refused[0].rejected), ("mismatch", 12));
}

#[tokio::test]
async fn health_reads_the_newest_records() {
    let filled = &filled().await;
    let found = health(&filled.store, &live(filled)).await.unwrap();
    // The later visits are of bots, which do not count.
    assert_eq!(found.last_visit_at.unwrap().as_ms(), NOON - 10 * MINUTE);
    assert_eq!(found.last_event_at.unwrap().as_ms(), NOON + 3);
    assert_eq!((found.events_waiting, found.events_failed), (1, 1));
    assert_eq!((found.deliveries_pending, found.deliveries_given_up), (2, 1));
    assert_eq!(found.oldest_pending_at.unwrap().as_ms(), NOON + 2);
    let nowhere = Scope { site_id: "site_0".to_owned(), livemode: true };
    let found = health(&filled.store, &nowhere).await.unwrap();
    assert_eq!((found.last_visit_at, found.last_event_at), (None, None));
}

#[test]
fn a_share_is_10_000_only_if_the_part_is_the_whole() {
    let rows = [(0, 0, None), (0, 7, Some(0)), (7, 7, Some(10_000)), (2, 3, Some(6666))];
    for (part, whole, expected) in rows {
        assert_eq!(Share { part, whole }.per_ten_thousand(), expected, "{part} of {whole}");
    }
    assert_eq!(Share { part: 999_999, whole: 1_000_000 }.per_ten_thousand(), Some(9_999));
    assert_eq!(Share { part: 1, whole: 3 }.per_mille(), Some(333));
}

#[test]
fn a_period_of_days_follows_daylight_saving() {
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    let hours = |day: Date| {
        let period = Period::of_days(day, day, &berlin).unwrap();
        period.to.since(period.from).as_secs() / 3600
    };
    assert_eq!(hours(jiff::civil::date(2026, 3, 28)), 24);
    assert_eq!(hours(jiff::civil::date(2026, 3, 29)), 23);
    assert_eq!(hours(jiff::civil::date(2026, 10, 25)), 25);
}

#[test]
fn a_period_touches_every_quarter_hour_it_cuts() {
    let period =
        |from, to| Period { from: Timestamp::from_ms(from), to: Timestamp::from_ms(to) }.quarters();
    assert_eq!(period(0, QUARTER_MS), (0, 1));
    assert_eq!(period(1, QUARTER_MS + 1), (0, 2));
    assert_eq!(period(QUARTER_MS, 2 * QUARTER_MS), (1, 2));
}

/// A list reads its newest rows in the order of an index, whatever filters are used: sorting would
/// read all rows of a destination or a source.
#[tokio::test]
async fn lists_never_sort() {
    let filled = &filled().await;
    if filled.store.engine() != Engine::Sqlite {
        return;
    }
    let some = |text: &str| Some(text.to_owned());
    let of_destination = |state| DeliveryFilter {
        site_id: some("site_1"),
        destination_id: some("dst_1"),
        state,
        reason: None,
        livemode: Some(true),
    };
    let of_site =
        |state| EventFilter { site_id: some("site_1"), state, kind: None, livemode: Some(true) };
    let statements = [
        ("deliveries", deliveries::list(&DeliveryFilter::default(), None, 50)),
        ("of a destination", deliveries::list(&of_destination(None), None, 50)),
        ("failed ones", deliveries::list(&of_destination(Some(DeliveryState::GivenUp)), None, 50)),
        ("events", stripe_events::newest(&EventFilter::default(), None, 50)),
        ("of a site", stripe_events::newest(&of_site(None), None, 50)),
        ("failed events", stripe_events::newest(&of_site(Some(EventState::Failed)), None, 50)),
    ];
    for (name, statement) in statements {
        let rows = statement.explained().fetch_all(filled.store.pool()).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get("detail").unwrap()).collect();
        assert!(!plan.iter().any(|step| step.contains("ORDER BY")), "{name}: {plan:?}");
    }
}
