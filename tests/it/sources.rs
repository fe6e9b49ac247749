//! Several sources: added in the dashboard, each with its secrets, accepted or rejected.

use std::time::Duration;

use axum::http::StatusCode;
use clickstamp::stripe::backfill;
use serde_json::{Value, json};

use crate::dashboard::{page, post, sign_in, with_admin};
use crate::harness::{FakeStripe, OTHER_KEY, Session, TestApp, sign};

const DAY: Duration = Duration::from_secs(86_400);

async fn text(app: &TestApp, cookie: &str, path: &str) -> String {
    let reply = page(app, cookie, path).await;
    assert_eq!(reply.status, StatusCode::OK, "{path}");
    reply.text().to_owned()
}

/// A webhook to a source, signed with a secret.
async fn send(app: &TestApp, source: &str, secret: &str, event: &Value) -> StatusCode {
    let body = event.to_string();
    let signature = sign(secret, app.now().as_seconds(), body.as_bytes());
    let path = format!("/webhooks/stripe/{source}");
    app.send("POST", &path, &[("stripe-signature", &signature)], body).await.status
}

#[tokio::test]
async fn a_second_account_is_added_and_its_first_event_is_shown() {
    let app = with_admin(&[]).await;
    let cookie = sign_in(&app).await;
    let reply = post(&app, "/settings/sources", &cookie, &[("key", "shop-test")]).await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.text());
    assert_eq!(reply.header("location"), "/settings/sources/shop-test?saved=added");
    let there = "/settings/sources/shop-test";
    let shown = text(&app, &cookie, there).await;
    for expected in [
        "Waiting for its signing secret",
        "http://go.shop.localhost/webhooks/stripe/shop-test",
        "The 22 events",
        "charge.dispute.funds_reinstated",
    ] {
        assert!(shown.contains(expected), "{expected} is missing");
    }
    assert_eq!(
        send(&app, "shop-test", "whsec_shop", &json!({"id": "evt_0"})).await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    let secret = [("value", "whsec_shop_0123456789abk7Qe")];
    assert_eq!(
        post(&app, &format!("{there}/secrets"), &cookie, &secret).await.status,
        StatusCode::SEE_OTHER
    );
    let waiting = page(&app, &cookie, &format!("{there}?watch=1")).await;
    assert_eq!(waiting.header("refresh"), "5", "it looks again without a script");
    assert!(waiting.text().contains("Waiting for the first event"));
    assert!(page(&app, &cookie, there).await.header("refresh").is_empty());
    // A wrong secret is refused, and the page says so.
    let event = Session::paid("cs_test_1").with(json!({"livemode": false})).completed();
    assert_eq!(send(&app, "shop-test", "whsec_other", &event).await, StatusCode::BAD_REQUEST);
    app.app().flush_counts().await.expect("it can be counted");
    let shown = text(&app, &cookie, there).await;
    assert!(
        shown.contains("its signature doesn’t match the signing secret")
            && shown.contains("no signing secret is set"),
        "{shown}"
    );
    assert_eq!(
        send(&app, "shop-test", "whsec_shop_0123456789abk7Qe", &event).await,
        StatusCode::OK
    );
    app.process_events().await;
    let heard = page(&app, &cookie, &format!("{there}?watch=1")).await;
    assert!(
        heard.text().contains("Received: checkout.session.completed")
            && heard.header("refresh").is_empty()
    );
    assert!(
        !text(&app, &cookie, "/settings/sources/main").await.contains("Received:"),
        "the other one received nothing"
    );
    let all = text(&app, &cookie, "/settings/sources").await;
    assert!(all.contains("shop-test") && all.contains("href=\"/settings/custom\""), "{all}");
    let shown = text(&app, &cookie, there).await;
    assert!(
        shown.contains("whsec_…k7Qe") && !shown.contains("0123456789"),
        "only its end is shown"
    );
}

#[tokio::test]
async fn a_roll_of_secrets_says_when_the_old_one_can_go() {
    let app = with_admin(&[("CLICKSTAMP_STRIPE_WEBHOOK_SECRET", "")]).await;
    let cookie = sign_in(&app).await;
    let secrets = "/settings/sources/main/secrets";
    let (old, new) = ("whsec_0123456789abcdef_old1", "whsec_0123456789abcdef_new2");
    for secret in [old, new] {
        let reply = post(&app, secrets, &cookie, &[("value", secret)]).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER);
    }
    let event = |n: i64| json!({"id": format!("evt_{n}"), "type": "price.created"});
    assert_eq!(send(&app, "main", old, &event(1)).await, StatusCode::OK);
    assert_eq!(send(&app, "main", new, &event(2)).await, StatusCode::OK);
    assert!(!text(&app, &cookie, "/settings/sources/main").await.contains("can go"));
    app.advance(DAY * 2);
    assert_eq!(send(&app, "main", new, &event(3)).await, StatusCode::OK);
    let shown = text(&app, &cookie, "/settings/sources/main").await;
    assert_eq!(shown.matches("you can remove this one").count(), 1, "{shown}");
    assert!(shown.contains("last used on 21 Sep at 14:13"), "{shown}");
    let remove = "/settings/sources/main/secrets/remove";
    let stale = post(&app, remove, &cookie, &[("position", "0"), ("shown", "whsec_…new2")]).await;
    assert_eq!(stale.status, StatusCode::UNPROCESSABLE_ENTITY);
    let gone = post(&app, remove, &cookie, &[("position", "0"), ("shown", "whsec_…old1")]).await;
    assert_eq!(gone.status, StatusCode::SEE_OTHER);
    assert_eq!(send(&app, "main", old, &event(4)).await, StatusCode::BAD_REQUEST);
    assert_eq!(send(&app, "main", new, &event(5)).await, StatusCode::OK);
    let last = post(&app, remove, &cookie, &[("position", "0"), ("shown", "whsec_…new2")]).await;
    assert!(last.text().contains("This is the only secret"), "{}", last.text());
    app.process_events().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_source_is_said_beside_the_field_and_nothing_is_kept() {
    let app = with_admin(&[("CLICKSTAMP_STRIPE_WEBHOOK_SECRET", "")]).await;
    let cookie = sign_in(&app).await;
    let main = "/settings/sources/main";
    let secrets = "/settings/sources/main/secrets";
    let right = [
        ("source_site", "main"),
        ("metadata_key", "ref"),
        ("source_mode", "live"),
        ("account", "acct_1"),
        ("record_bare_payment_intents", "1"),
        ("has_no_invoices", "1"),
    ];
    let with = |name: &'static str, value: &'static str| {
        let mut pairs = right;
        pairs.iter_mut().filter(|(known, _)| *known == name).for_each(|pair| pair.1 = value);
        pairs.to_vec()
    };
    type Row<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a str);
    let rows: Vec<Row<'_>> = vec![
        (
            "/settings/sources",
            vec![("key", "main")],
            "Another webhook or site already has this key",
        ),
        ("/settings/sources", vec![("key", "Not A Key")], "lowercase letters"),
        ("/settings/sources", vec![("key", "")], "lowercase letters"),
        (secrets, vec![("value", "sk_live_hunter2")], "That was an API key: it started with sk_."),
        (secrets, vec![("value", "rk_live_hunter2")], "it started with rk_."),
        (secrets, vec![("value", "pk_live_hunter2")], "it started with pk_."),
        (secrets, vec![("value", "we_hunter2")], "This isn’t a signing secret"),
        (secrets, vec![("value", "whsec_1,whsec_2,whsec_3,whsec_4,whsec_5")], "At most four"),
        (main, with("metadata_key", ""), "1 to 40 characters"),
        (main, with("account", "hunter"), "starts with acct_"),
        (main, with("source_site", "nowhere"), "Select a site"),
        (main, with("source_mode", "pretend"), "Select a mode"),
    ];
    for (path, pairs, expected) in rows {
        let reply = post(&app, path, &cookie, &pairs).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{path} {pairs:?}");
        assert!(
            reply.text().contains(expected) && !reply.text().contains("hunter2"),
            "{path} {pairs:?}"
        );
    }
    for path in [
        "/settings/sources/none",
        "/settings/sources/none/secrets",
        "/settings/sources/none/secrets/remove",
    ] {
        assert_eq!(post(&app, path, &cookie, &right).await.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(
            post(&app, path, "", &right).await.status,
            StatusCode::SEE_OTHER,
            "{path} is for who is signed in"
        );
    }
    assert_eq!(post(&app, main, &cookie, &right).await.status, StatusCode::SEE_OTHER);
    let sources = app.api("/api/v1/sources").await;
    let source = &sources["data"][0];
    assert_eq!(
        (&source["mode"], &source["account"], &source["metadata_key"]),
        (&json!("live"), &json!("acct_1"), &json!("ref"))
    );
    assert_eq!(
        (&source["record_bare_payment_intents"], &source["secrets"]),
        (&json!(true), &json!(0))
    );
    app.advance(Duration::from_secs(1));
    let other = [("key", "second"), ("source_site", "main")];
    assert_eq!(
        post(&app, "/settings/sources", &cookie, &other).await.status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(app.api("/api/v1/sources").await["data"][2]["key"], "second");
}

#[tokio::test]
async fn secrets_of_the_environment_are_read_only_here() {
    let app = with_admin(&[]).await;
    let cookie = sign_in(&app).await;
    for (path, pairs) in [
        ("/settings/sources/main/secrets", vec![("value", "whsec_mine")]),
        (
            "/settings/sources/main/secrets/remove",
            vec![("position", "0"), ("shown", "whsec_…cret")],
        ),
    ] {
        let reply = post(&app, path, &cookie, &pairs).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        assert!(reply.text().contains("An environment variable sets this value"), "{path}");
    }
}

#[tokio::test]
async fn an_account_reached_as_platform_and_as_own_endpoint_counts_once() {
    let app = with_admin(&[]).await;
    let cookie = sign_in(&app).await;
    let own = Session::paid("cs_live_1").completed();
    let mut by_platform = own.clone();
    by_platform["account"] = "acct_shop".into();
    let pairs = [
        ("source_site", "main"),
        ("metadata_key", "click_id"),
        ("source_mode", "any"),
        ("account", "acct_shop"),
    ];
    assert_eq!(
        post(&app, "/settings/sources/main", &cookie, &pairs).await.status,
        StatusCode::SEE_OTHER
    );
    for event in [&own, &by_platform, &own] {
        app.stripe_processed(event).await;
    }
    let mut another = by_platform.clone();
    another["account"] = "acct_other".into();
    app.stripe_processed(&another).await;
    app.deliver_due().await;
    assert_eq!(app.conversions().await.len(), 1, "the shop's; the other account's is held");
    let held = app.database.texts("select account from stripe_events where state = 'held'").await;
    assert_eq!(held, ["acct_other"]);
    assert_eq!(
        app.database.number("select max(repeats) from stripe_events where account = ''").await,
        2
    );
}

#[tokio::test]
async fn the_dashboard_shows_how_the_books_compare() {
    let stripe = FakeStripe::start().await;
    let app = with_admin(&stripe.settings()).await;
    let cookie = sign_in(&app).await;
    assert!(
        !text(&app, &cookie, "/").await.contains("Stripe’s records"),
        "nothing was compared yet"
    );
    app.app().reconcile_daily().await.expect("it can be kept");
    assert!(text(&app, &cookie, "/").await.contains("Matches Stripe’s records"));
    let object = json!({"id": "cs_live_1", "status": "complete", "payment_status": "paid", "created": app.now().as_seconds() + 3600, "amount_total": 10_260, "currency": "usd"});
    stripe.has("/v1/checkout/sessions", [object]);
    app.advance(DAY);
    app.app().reconcile_daily().await.expect("it can be kept");
    assert!(text(&app, &cookie, "/").await.contains("1 difference from Stripe’s records"));
    let shown = text(&app, &cookie, "/settings/sources").await;
    for expected in [
        "Stripe: 1 paid, 102.60 USD; here: 0, 0.00; gap 1",
        "cs_live_1",
        "clickstamp reconcile --repair",
        "Not compared: payments without a checkout or an invoice (the webhook “main” records only those with the metadata “click_id”).",
    ] {
        assert!(shown.contains(expected), "{expected} is missing in {shown}");
    }
    stripe.key_expires();
    app.advance(DAY);
    app.app().reconcile_daily().await.expect("it can be kept");
    assert!(text(&app, &cookie, "/").await.contains("Not compared with Stripe"));
    assert!(text(&app, &cookie, "/settings/sources").await.contains("it has expired"));
}

#[tokio::test]
async fn each_account_is_asked_with_its_own_key() {
    let stripe = FakeStripe::start().await;
    let app = with_admin(&stripe.settings()).await;
    let cookie = sign_in(&app).await;
    app.advance(DAY);
    post(&app, "/settings/sources", &cookie, &[("key", "eu"), ("source_site", "main")]).await;
    let secret = [("value", "whsec_eu_0123456789")];
    post(&app, "/settings/sources/eu/secrets", &cookie, &secret).await;
    let page = text(&app, &cookie, "/settings/sources/eu").await;
    assert!(page.contains("It uses the key of <code>main</code>"), "{page}");

    // Wrong ones are refused, in words, and main's belongs to the environment.
    for (value, said) in [
        ("whsec_0123456789abcdef", "that is a signing secret"),
        ("", "an API key starts with rk_live_"),
        ("rk_live_Ä", "letters, digits and _ only"),
    ] {
        let here = "/settings/sources/eu/api-key";
        let reply = post(&app, here, &cookie, &[("value", value)]).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{value}");
        assert!(reply.text().contains(said), "{value}: {}", reply.text());
    }
    let main = "/settings/sources/main/api-key";
    let reply = post(&app, main, &cookie, &[("value", OTHER_KEY)]).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    let nobody = "/settings/sources/nobody/api-key";
    assert_eq!(post(&app, nobody, &cookie, &[]).await.status, StatusCode::NOT_FOUND);

    let here = "/settings/sources/eu/api-key";
    let reply = post(&app, here, &cookie, &[("value", OTHER_KEY)]).await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER);
    let page = text(&app, &cookie, "/settings/sources/eu").await;
    assert!(page.contains("rk_live_…k7Qe") && !page.contains(OTHER_KEY), "{page}");

    // Each account has a sale that never arrived, and one that did.
    let listed = |id: &str| {
        let created = app.now().as_seconds() - 3600;
        let listed = json!({"status": "complete", "created": created});
        Session::paid(id).with(listed).at(created + 30).completed()
    };
    for (whose, shop) in [("", "main"), (OTHER_KEY, "eu")] {
        let sales = [listed(&format!("cs_live_{shop}1")), listed(&format!("cs_live_{shop}2"))];
        stripe.has(
            &format!("{whose}/v1/checkout/sessions"),
            sales.iter().map(|sale| sale["data"]["object"].clone()),
        );
        stripe.has(&format!("{whose}/v1/events"), sales);
    }
    app.stripe_processed(&listed("cs_live_main1")).await;
    assert_eq!(
        send(&app, "eu", "whsec_eu_0123456789", &listed("cs_live_eu1")).await,
        StatusCode::OK
    );
    app.process_events().await;
    assert!(app.app().reconcile_daily().await.expect("it can be kept"));
    for place in ["/", "/settings/sources"] {
        let shown = text(&app, &cookie, place).await;
        assert_eq!(shown.matches("1 difference from Stripe’s records").count(), 2, "{shown}");
        assert!(shown.contains("eu") && !shown.contains("2 differences from"), "{shown}");
    }
    let wanted = |source: &str| backfill::Wanted {
        days: 30,
        source: source.to_owned(),
        account: String::new(),
        undelivered: false,
    };
    for source in ["main", "eu"] {
        let done = app.app().backfill(&wanted(source)).await.expect("Stripe answers");
        assert_eq!((done.events, done.stored), (2, 1), "{source}");
    }
    let sources = app
        .database
        .texts(
            "select s.key from stripe_events e join sources s on s.id = e.source_id order by s.key",
        )
        .await;
    assert_eq!(sources, ["eu", "eu", "main", "main"]);
    app.advance(DAY);
    assert!(app.app().reconcile_daily().await.expect("it can be kept"));
    let shown = text(&app, &cookie, "/").await;
    assert!(shown.contains("eu: Matches Stripe’s records"), "{shown}");
    assert!(shown.contains("main: Matches Stripe’s records"), "{shown}");

    // Without it, main's serves again, and its page says so.
    let reply = post(&app, here, &cookie, &[("remove", "1")]).await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER);
    assert!(!text(&app, &cookie, "/").await.contains("eu: Stripe’s records"));
    app.deliver_due().await;
}

#[tokio::test]
async fn a_key_entered_later_fetches_what_waited_for_it() {
    let stripe = FakeStripe::start().await;
    let settings = [("CLICKSTAMP_STRIPE_API_BASE", stripe.base.as_str())];
    let app = with_admin(&settings).await;
    let cookie = sign_in(&app).await;
    let thin = json!({"id": "evt_thin", "object": "v2.core.event", "type": "v1.checkout.session.completed", "livemode": true,
        "created": app.now().to_rfc3339(), "related_object": {"id": "cs_live_1", "url": "/v1/checkout/sessions/cs_live_1"}});
    stripe.object(
        &format!("{OTHER_KEY}/v1/checkout/sessions/cs_live_1"),
        Session::paid("cs_live_1").completed()["data"]["object"].clone(),
    );
    app.stripe_processed(&thin).await;
    app.app().fetch_thin_events().await.expect("it can be ended");
    assert_eq!(app.database.texts("select state from stripe_events").await, ["failed"]);
    let here = "/settings/sources/main/api-key";
    assert_eq!(
        post(&app, here, &cookie, &[("value", OTHER_KEY)]).await.status,
        StatusCode::SEE_OTHER
    );
    app.process_events().await;
    app.app().fetch_thin_events().await.expect("Stripe answers");
    app.process_events().await;
    app.deliver_due().await;
    assert_eq!(app.conversion().await.transaction_id, "cs_live_1");
}

#[tokio::test]
async fn payment_intents_without_a_checkout_are_recorded_only_where_invoices_cannot_count_twice() {
    let app = with_admin(&[]).await;
    let cookie = sign_in(&app).await;
    let main = "/settings/sources/main";
    let wanted = [
        ("source_site", "main"),
        ("metadata_key", "click_id"),
        ("source_mode", "any"),
        ("record_bare_payment_intents", "1"),
    ];
    let event = |n: i64, kind: &str, version: &str| json!({"id": format!("evt_{n}"), "type": kind, "api_version": version});
    let refused = post(&app, main, &cookie, &wanted).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "no version is known yet");
    assert!(refused.text().contains("Select this event for the endpoint in Stripe"));
    app.stripe(&event(1, "price.created", "2025-02-24.acacia")).await;
    app.stripe(&event(2, "price.created", "2026-08-26.dahlia")).await;
    let refused = post(&app, main, &cookie, &wanted).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let sources = app.api("/api/v1/sources").await;
    assert_eq!(sources["data"][0]["record_bare_payment_intents"], json!(false), "{sources}");
    app.stripe(&event(3, "invoice_payment.paid", "2026-08-26.dahlia")).await;
    assert_eq!(post(&app, main, &cookie, &wanted).await.status, StatusCode::SEE_OTHER);
    assert!(!text(&app, &cookie, main).await.contains("may be counted twice"));
    app.process_events().await;
}

#[tokio::test]
async fn old_versions_name_an_invoices_payment_themselves_and_an_owner_may_say_that_there_are_none()
{
    let app = with_admin(&[]).await;
    let cookie = sign_in(&app).await;
    let main = "/settings/sources/main";
    let wanted = [
        ("source_site", "main"),
        ("metadata_key", "click_id"),
        ("source_mode", "any"),
        ("record_bare_payment_intents", "1"),
    ];
    let event = |n: i64, kind: &str, version: &str| json!({"id": format!("evt_{n}"), "type": kind, "api_version": version});
    app.stripe(&event(1, "price.created", "2025-02-24.acacia")).await;
    assert_eq!(post(&app, main, &cookie, &wanted).await.status, StatusCode::SEE_OTHER);
    app.stripe(&event(2, "invoice.paid", "2026-08-26.dahlia")).await;
    assert!(text(&app, &cookie, main).await.contains("may be counted twice"));
    assert_eq!(post(&app, main, &cookie, &wanted).await.status, StatusCode::SEE_OTHER, "it is on");
    assert_eq!(post(&app, main, &cookie, &wanted[..3]).await.status, StatusCode::SEE_OTHER);
    let sure: Vec<_> = wanted.into_iter().chain([("has_no_invoices", "1")]).collect();
    assert_eq!(post(&app, main, &cookie, &wanted).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(post(&app, main, &cookie, &sure).await.status, StatusCode::SEE_OTHER);
    app.process_events().await;
}
