//! The sums of conversions that reports read: whatever happens to a conversion, and whenever, every page says what its rows say.

use std::time::Duration;

use clickstamp::stripe::replay::Wanted;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::harness::{Session, TestApp, fixture};

const HOUR: Duration = Duration::from_secs(3600);
const PAGES: [&str; 3] = [
    "https://shop.example/offer?utm_source=google&utm_campaign=spring&gclid=AbC",
    "https://shop.example/?utm_source=mail&utm_medium=email",
    "https://shop.example/p",
];
/// Clocks that change within the histories, and no whole hours ahead.
const ZONES: [&str; 3] = ["UTC", "Europe/Berlin", "Asia/Kathmandu"];
/// Of accounts that take turns: sales, what is given back, what is disputed, won and lost, and payments that turn out to be one.
const EVENTS: [&str; 16] = [
    "payment_intent.succeeded.metadata.dahlia",
    "charge.succeeded.dahlia",
    "checkout.session.completed.dahlia",
    "charge.refunded.partial.dahlia",
    "refund.created.dahlia",
    "refund.updated.dahlia",
    "refund.failed.dahlia",
    "charge.dispute.created.dahlia",
    "charge.dispute.funds_withdrawn.dahlia",
    "charge.dispute.closed.lost.dahlia",
    "charge.dispute.closed.won.dahlia",
    "checkout.session.completed.subscription.dahlia",
    "customer.subscription.created.basil",
    "invoice.paid.renewal.basil",
    "charge.refunded.renewal.basil",
    "checkout.session.completed.jpy.dahlia",
];

/// How far the sums are from the conversions of their days: rows that differ, and days that overlap.
const DIFFERENCES: &str = "
    with paid as (select d.site, d.livemode, d.from_ms, coalesce(c.currency, '') as currency,
                         case when c.match_state = 'matched' then '' else coalesce(c.match_reason, 'no_object') end as reason,
                         coalesce(c.amount_minor, 0) as gross, c.refunded_minor as refunded, c.disputed_minor as disputed,
                         c.lost_minor as lost, t.channel, t.source, t.campaign, t.landing_path, t.device
                    from conversion_days d
                    join sites s on s.number = d.site
                    join conversions c on c.site_id = s.id and c.livemode = d.livemode
                     and c.occurred_at_ms >= d.from_ms and c.occurred_at_ms < d.to_ms
                    left join touches t on t.conversion_id = c.id and t.is_last = 1
                   where c.paid_at_ms is not null),
         named as (select 0 as dimension, reason as name, p.* from paid p
                    union all select 1, channel, p.* from paid p where channel is not null
                    union all select 2, coalesce(source, ''), p.* from paid p where channel is not null
                    union all select 3, coalesce(campaign, ''), p.* from paid p where channel is not null
                    union all select 4, coalesce(landing_path, ''), p.* from paid p where channel is not null
                    union all select 5, device, p.* from paid p where channel is not null
                    union all select 6, '', p.* from paid p where channel is null),
         all_of_them as (select site, livemode, from_ms, dimension, name, currency, 1 as conversions, gross, refunded, disputed, lost
                           from named
                          union all
                         select s.site, s.livemode, s.from_ms, s.dimension, s.name, s.currency, -s.conversions, -s.gross_minor,
                                -s.refunded_minor, -s.disputed_minor, -s.lost_minor
                           from conversion_sums s
                           join conversion_days d on d.site = s.site and d.livemode = s.livemode and d.from_ms = s.from_ms)
    select (select count(*)
              from (select site from all_of_them
                     group by site, livemode, from_ms, dimension, name, currency
                    having sum(conversions) <> 0 or sum(gross) <> 0 or sum(refunded) <> 0 or sum(disputed) <> 0
                        or sum(lost) <> 0) as differing)
         + (select count(*)
              from conversion_days a
              join conversion_days b on b.site = a.site and b.livemode = a.livemode and b.from_ms > a.from_ms and b.from_ms < a.to_ms)";

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    /// An event of an account's, whose payment names a click ID that has a visit, or one whose visit comes late.
    Event {
        name: usize,
        account: usize,
        is_late: bool,
    },
    /// A sale so many hours ago.
    Sale {
        hours: i64,
        livemode: bool,
        page: Option<usize>,
    },
    /// The visit of a click ID that was paid with before.
    Late,
    ByHand,
    TakeBack,
    Replay,
    Zone(usize),
    Advance(u32),
    Sum,
}

fn step() -> impl Strategy<Value = Step> {
    let event = (0..EVENTS.len(), 0..2_usize, any::<bool>());
    let sale = (0..400_i64, prop::bool::weighted(0.8), proptest::option::of(0..PAGES.len()));
    prop_oneof![
        8 => event.prop_map(|(name, account, is_late)| Step::Event { name, account, is_late }),
        4 => sale.prop_map(|(hours, livemode, page)| Step::Sale { hours, livemode, page }),
        2 => Just(Step::Late),
        1 => Just(Step::ByHand),
        1 => Just(Step::TakeBack),
        1 => Just(Step::Replay),
        1 => (0..ZONES.len()).prop_map(Step::Zone),
        4 => (1_u32..80).prop_map(Step::Advance),
        6 => Just(Step::Sum),
    ]
}

struct World {
    app: TestApp,
    seen: String,
    late: Vec<String>,
    sales: usize,
}

impl World {
    async fn begin() -> Self {
        let mut app = TestApp::owned(&[]).await;
        app.leave_things_undone(); // What is undelivered is part of the numbers.
        let (seen, late) = (app.visit(PAGES[0]).await, app.mint().await);
        Self { app, seen, late: vec![late], sales: 0 }
    }

    async fn take(&mut self, step: &Step) {
        let app = &self.app;
        match step {
            Step::Event { name, account, is_late } => {
                let click_id = if *is_late { &self.late[self.late.len() - 1] } else { &self.seen };
                let mut event = fixture(EVENTS[*name], click_id);
                event["account"] = Value::from(format!("acct_{account}"));
                app.stripe_processed(&event).await;
            }
            Step::Sale { hours, livemode, page } => {
                self.sales += 1;
                let id = format!("cs_{}", self.sales);
                let sale = Session::paid(&id).at(app.now().as_seconds() - hours * 3600);
                let sale = sale.with(
                    json!({"livemode": livemode, "created": app.now().as_seconds() - hours * 3600}),
                );
                let sale = match page {
                    Some(page) => sale.reference(&app.visit(PAGES[*page]).await),
                    None => sale,
                };
                app.stripe_processed(&sale.completed()).await;
            }
            Step::Late => {
                let id = self.late[self.late.len() - 1].clone();
                app.visit_as(&id, PAGES[1], None).await;
                app.rejoin().await;
                self.late.push(app.mint().await);
            }
            Step::ByHand => self.by_hand("unmatched", "match").await,
            Step::TakeBack => self.by_hand("matched", "unmatch").await,
            Step::Replay => {
                app.database
                    .change("update conversions set amount_minor = 7 where amount_minor = 10260")
                    .await;
                app.database.change("delete from conversion_days").await;
                app.app().sum_days().await.expect("days can be summed");
                let wanted = Wanted { apply: true, ..Wanted::default() };
                app.app().replay(&wanted).await.expect("it can be rebuilt");
                app.process_events().await;
            }
            Step::Zone(zone) => {
                let site = [
                    ("name", "S"),
                    ("timezone", ZONES[*zone]),
                    ("currency", "USD"),
                    ("domains", ""),
                ];
                app.owner().await.save("/settings/sites/main", &site).await;
            }
            Step::Advance(hours) => {
                app.advance(HOUR * *hours);
                app.rejoin().await;
            }
            Step::Sum => {
                app.app().sum_days().await.expect("days can be summed");
                self.compare().await;
            }
        }
        assert_eq!(app.database.number(DIFFERENCES).await, 0, "{step:?}");
    }

    async fn by_hand(&self, state: &str, verb: &str) {
        let found = match state {
            "matched" => "select id from conversions where match_by = 'manual' order by id limit 1",
            _ => "select id from conversions where match_state = 'unmatched' order by id limit 1",
        };
        if let Some(id) = self.app.database.texts(found).await.first() {
            let path = format!("/conversions/{id}/{verb}");
            self.app.owner().await.post(&path, &[("click_id", &self.seen)]).await;
        }
    }

    /// Every page says the same with the sums as without.
    async fn compare(&self) {
        let with_sums = self.pages().await;
        self.app.database.change("update conversion_days set site = site + 1000").await;
        let without = self.pages().await;
        self.app.database.change("update conversion_days set site = site - 1000").await;
        for ((path, with_sums), (_, without)) in with_sums.iter().zip(&without) {
            let other = with_sums.lines().zip(without.lines()).find(|(a, b)| a != b);
            assert_eq!(other, None, "{path}");
        }
    }

    async fn pages(&self) -> Vec<(&'static str, String)> {
        let owner = self.app.owner().await;
        let mut pages = Vec::new();
        for path in [
            "/",
            "/?period=7d&from_by=channel",
            "/?period=12m&from_by=source&chart=conversions",
            "/?period=today&mode=test",
            "/?from=2026-09-10&to=2026-11-05&currency=JPY",
            "/?period=12m&mode=test",
        ] {
            pages.push((path, owner.page(path).await));
        }
        for path in [
            "/api/v1/overview",
            "/api/v1/overview?from=2026-09-20T11:22:33Z&to=2026-10-02T03:04:05Z",
        ] {
            pages.push((path, self.app.api(path).await.to_string()));
        }
        pages
    }
}

#[test]
fn whatever_becomes_of_a_conversion_the_sums_say_what_the_rows_say() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("one");
    let mut runner = TestRunner::new(Config {
        cases: 10,
        max_shrink_iters: 40,
        failure_persistence: None,
        ..Config::default()
    });
    let histories = proptest::collection::vec(step(), 10..45);
    let run = |steps: Vec<Step>| {
        runtime.block_on(async {
            let mut world = World::begin().await;
            for step in &steps {
                world.take(step).await;
            }
            world.app.advance(HOUR * 60);
            world.take(&Step::Sum).await;
        });
        Ok(())
    };
    runner.run(&histories, run).expect("every history");
}

#[tokio::test]
async fn a_refund_of_an_old_sale_shows_at_once_and_its_day_is_summed_again() {
    let mut world = World::begin().await;
    let sale = Step::Event { name: 2, account: 0, is_late: false };
    world.take(&sale).await;
    world.app.advance(HOUR * 24 * 9);
    world.take(&Step::Sum).await;
    let app = &world.app;
    let days = "select count(*) from conversion_days where livemode = 1";
    let refunded = "select cast(coalesce(sum(refunded_minor), 0) as bigint) from conversions";
    let summed = app.database.number(days).await;
    assert!(summed >= 2, "its day, and the empty ones behind it: {summed}");
    assert_eq!(app.app().sum_days().await.expect("days can be summed"), 0, "nothing is left to do");

    world.take(&Step::Event { name: 3, account: 0, is_late: false }).await;
    let app = &world.app;
    assert!(app.database.number(refunded).await > 0);
    assert_eq!(app.database.number(days).await, summed - 1, "its day is taken out");
    world.compare().await;
    world.take(&Step::Sum).await;
    assert_eq!(world.app.database.number(days).await, summed);
}

#[tokio::test]
async fn a_clock_that_was_wrong_harms_no_sum() {
    let mut world = World::begin().await;
    let sale = Step::Sale { hours: 0, livemode: true, page: Some(0) };
    world.take(&sale).await;
    world.app.advance(HOUR * 24 * 3);
    world.take(&Step::Sum).await;
    world.app.set_back(HOUR * 24 * 3);
    // The day is summed, and by this clock not even over.
    world.app.app().sum_days().await.expect("days can be summed");
    world.take(&sale).await;
    world.compare().await;
}

#[tokio::test]
async fn what_changes_while_days_are_summed_is_summed_as_it_is_in_the_end() {
    let world = World::begin().await;
    let app = &world.app;
    let replica = app.replica().await;
    let mut ids = Vec::new();
    for at in 0..30 {
        ids.push(app.mint().await);
        let created = app.now().as_seconds() - 7 * 3600 * at;
        let sale = Session::paid(&format!("cs_{at}")).reference(&ids[ids.len() - 1]).at(created);
        app.stripe_processed(&sale.with(json!({"created": created})).completed()).await;
    }
    app.advance(HOUR * 30);
    let changes = async {
        for id in &ids {
            app.visit_as(id, PAGES[1], None).await;
            app.rejoin().await;
        }
    };
    let sums = async {
        for _ in 0..20 {
            replica.as_ref().unwrap_or(app.app()).sum_days().await.expect("days can be summed");
            tokio::task::yield_now().await;
        }
    };
    let sums_here = async {
        for _ in 0..20 {
            app.app().sum_days().await.expect("days can be summed");
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(changes, sums, sums_here);
    assert_eq!(app.database.number(DIFFERENCES).await, 0);
    app.app().sum_days().await.expect("days can be summed");
    assert_eq!(app.database.number(DIFFERENCES).await, 0);
    world.compare().await;
    if let Some(replica) = replica {
        replica.close().await;
    }
}
