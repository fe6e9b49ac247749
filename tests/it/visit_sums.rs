//! The rollup of visits: in every order of events, the sums that reports read equal a count of all
//! visits.

use std::time::Duration;

use axum::http::StatusCode;
use clickstamp::command::prune::Prune;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::harness::{Session, TestApp};

const MINUTE: Duration = Duration::from_secs(60);
const BOT: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
const LANDING: &str = "https://shop.example/offer?utm_source=google&utm_campaign=bot&gclid=AbC";
const URLS: [&str; 5] = [
    LANDING,
    "https://shop.example/",
    "https://shop.example/p?utm_source=mail&utm_medium=email&utm_campaign=spring",
    "https://shop.example/offer?utm_source=google&utm_campaign=spring",
    "https://other.example/offer?utm_source=unknown",
];
// Time zones whose offset is not in whole hours, and whose clocks change within the tested periods.
const SITES: [[(&str, &str); 4]; 2] = [
    [
        ("name", "S"),
        ("timezone", "Asia/Kathmandu"),
        ("currency", "USD"),
        ("domains", "shop.example"),
    ],
    [
        ("name", "S"),
        ("timezone", "Europe/Berlin"),
        ("currency", "USD"),
        ("domains", "shop.example"),
    ],
];

/// Compares counters and sums with a count of all visits. Returns the rows that differ.
const DIFFERENCES: &str = "
    with ever as (select site_id, at_ms, channel, source, campaign, landing_path, device, flags from visits
                   union all
                  select site_id, at_ms, channel, source, campaign, landing_path, device, flags from pruned),
         counters as (select site_id, at_ms / 900000 as quarter, channel, coalesce(source, '') as source,
                             coalesce(campaign, '') as campaign, coalesce(landing_path, '') as landing_path, device, 1 as visits
                        from ever
                       where (flags & 1024) = 0
                       union all
                      select site_id, quarter, channel, source, campaign, landing_path, device, -visits from visit_counts),
         named as (select site_id, 0 as dimension, quarter, '' as name, visits from counters where device <> 'bot'
                    union all select site_id, 1, quarter, channel, visits from counters where device <> 'bot'
                    union all select site_id, 2, quarter, source, visits from counters where device <> 'bot'
                    union all select site_id, 3, quarter, campaign, visits from counters where device <> 'bot'
                    union all select site_id, 4, quarter, landing_path, visits from counters where device <> 'bot'
                    union all select site_id, 5, quarter, device, visits from counters),
         widths as (select 1 as width union all select 96 union all select 768 union all select 6144),
         all_of_them as (select s.number as site, dimension, width, quarter - quarter % width as quarter, n.name, visits
                           from named n join sites s on s.id = n.site_id cross join widths
                          union all
                         select site, dimension, width, quarter, name, -visits from visit_sums)
    select count(*)
      from (select site from all_of_them
             group by site, dimension, width, quarter, name
            having sum(visits) <> 0) as differing";

/// A step of a random sequence.
#[derive(Clone, Debug)]
enum Step {
    Visit {
        url: usize,
        is_bot: bool,
    },
    /// A page is opened, and its visit arrives much later.
    Open,
    Report,
    Advance(u64),
    Fold,
    AcceptHost,
    /// A landing whose visit never arrives, or only after a payment.
    Land,
    Pay,
    Prune,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..URLS.len(), any::<bool>()).prop_map(|(url, is_bot)| Step::Visit { url, is_bot }),
        2 => Just(Step::Open),
        2 => Just(Step::Report),
        4 => (1_u64..3_000).prop_map(Step::Advance),
        1 => Just(Step::Advance(60 * 24 * 20)),
        3 => Just(Step::Fold),
        1 => Just(Step::AcceptHost),
        2 => Just(Step::Land),
        2 => Just(Step::Pay),
        1 => Just(Step::Prune),
    ]
}

struct World {
    app: TestApp,
    site: [(&'static str, &'static str); 4],
    opened: Vec<String>,
    landed: Vec<String>,
    paid: usize,
}

impl World {
    async fn begin(site: [(&'static str, &'static str); 4]) -> Self {
        let app = TestApp::owned(&[("CLICKSTAMP_RETENTION_DAYS", "30")]).await;
        app.owner().await.save("/settings/sites/main", &site).await;
        app.database.change("create table pruned as select * from visits where 1 = 0").await;
        Self { app, site, opened: Vec::new(), landed: Vec::new(), paid: 0 }
    }

    async fn take(&mut self, step: &Step) {
        let app = &self.app;
        match step {
            Step::Visit { url, is_bot } => {
                let id = app.mint().await;
                self.post(&id, URLS[*url], if *is_bot { BOT } else { "Mozilla/5.0 (X11; Linux)" })
                    .await;
            }
            Step::Open => self.opened.push(app.mint().await),
            Step::Report => {
                let late = self.opened.pop().or_else(|| self.landed.first().cloned());
                if let Some(id) = late {
                    self.post(&id, URLS[3], "Mozilla/5.0 (X11; Linux)").await;
                }
            }
            Step::Advance(minutes) => app.advance(MINUTE * u32::try_from(*minutes).expect("few")),
            Step::Fold => self.fold().await,
            Step::AcceptHost => {
                app.owner().await.save("/setup/hosts", &[("host", "other.example")]).await;
                app.owner().await.save("/settings/sites/main", &self.site).await;
            }
            Step::Land => {
                self.landed.insert(0, app.load_tag("/t/main.js", &[("referer", LANDING)]).await);
                app.advance(MINUTE);
                app.keep_landings().await;
            }
            Step::Pay => {
                if let Some(id) = self.landed.first() {
                    self.paid += 1;
                    let session = format!("cs_live_{}", self.paid);
                    app.stripe_processed(&Session::paid(&session).reference(id).completed()).await;
                    app.rejoin().await;
                    app.deliver_due().await;
                }
            }
            Step::Prune => {
                app.database.change("insert into pruned select * from visits").await;
                app.app().prune(Prune::Delete).await.expect("it can be pruned");
                let here = "delete from pruned where exists
                    (select 1 from visits v where v.click_id = pruned.click_id and v.sent_at_ms = pruned.sent_at_ms)";
                app.database.change(here).await;
            }
        }
    }

    async fn post(&self, id: &str, url: &str, agent: &str) {
        let t = self.app.now().as_ms();
        let body = json!({"s": "main", "i": id, "t": t, "u": url}).to_string();
        let reply = self.app.send("POST", "/v", &[("user-agent", agent)], body).await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.text());
    }

    /// A rollup must not change what any page shows.
    async fn fold(&self) {
        let owner = self.app.owner().await;
        let paths = [
            "/",
            "/?period=7d&from_by=channel",
            "/?period=12m&from_by=source",
            "/?period=today",
            "/?from=2026-09-01&to=2026-10-30",
            "/visits?period=7d",
            "/links?period=12m",
        ];
        let mut before = Vec::new();
        for path in paths {
            before.push(owner.page(path).await);
        }
        self.app.app().fold_counts().await.expect("it can be folded");
        for (path, before) in paths.into_iter().zip(before) {
            let after = owner.page(path).await;
            let other = before.lines().zip(after.lines()).find(|(before, after)| before != after);
            assert_eq!(other, None, "{path}");
        }
        self.check().await;
    }

    async fn check(&self) {
        assert_eq!(self.app.database.number(DIFFERENCES).await, 0);
        let all = self.app.api("/api/v1/overview?from=2020-01-01T00:00:00Z").await;
        let expected = self
            .app
            .database
            .number(
                "select (select count(*) from visits where device <> 'bot' and (flags & 1024) = 0)
                  + (select count(*) from pruned where device <> 'bot' and (flags & 1024) = 0)",
            )
            .await;
        assert_eq!(all["visits"], expected);
    }
}

#[test]
fn in_any_order_of_steps_the_sums_equal_a_count() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("one");
    let mut runner = TestRunner::new(Config {
        cases: 12,
        max_shrink_iters: 40,
        failure_persistence: None,
        ..Config::default()
    });
    let histories = (0..SITES.len(), proptest::collection::vec(step(), 10..40));
    let run = |(site, steps): (usize, Vec<Step>)| {
        runtime.block_on(async {
            let mut world = World::begin(SITES[site]).await;
            for step in &steps {
                world.take(step).await;
            }
            world.check().await;
            world.app.advance(MINUTE * 45);
            world.fold().await;
            assert_eq!(world.app.database.number("select count(*) from visit_counts").await, 0);
            world.app.rejoin().await;
            world.app.deliver_due().await;
        });
        Ok(())
    };
    runner.run(&histories, run).expect("every history");
}

#[tokio::test]
async fn visits_that_arrive_during_a_rollup_are_counted_once() {
    let world = World::begin(SITES[0]).await;
    let app = &world.app;
    let mut ids = Vec::new();
    for _ in 0..120 {
        ids.push(app.mint().await);
    }
    app.advance(MINUTE * 60);
    let visits = async {
        for (at, id) in ids.iter().enumerate() {
            world.post(id, URLS[at % 4], "Mozilla/5.0 (X11; Linux)").await;
        }
    };
    let folds = async {
        let mut folded = 0;
        for _ in 0..12 {
            folded += app.app().fold_counts().await.expect("it can be folded");
            tokio::task::yield_now().await;
        }
        folded
    };
    let ((), folded) = tokio::join!(visits, folds);
    world.check().await;
    let rest = app.app().fold_counts().await.expect("it can be folded");
    assert!(folded + rest >= 4, "{folded} {rest}");
    world.check().await;
}
