//! A fake Stripe API with the objects that a test adds; it pages lists, and fails as configured.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use url::form_urlencoded;

/// The key that it accepts.
pub(crate) const KEY: &str = "rk_live_hunter2";

/// The same account's key of test mode, which sees the same lists.
pub(crate) const TEST_KEY: &str = "rk_test_hunter2";

/// The key of another account, which sees lists of its own.
pub(crate) const OTHER_KEY: &str = "rk_live_othershopk7Qe";

/// Lists that are empty until a test puts something into them.
const EMPTY_LISTS: [&str; 7] = [
    "/v1/events", "/v1/invoices", "/v1/checkout/sessions", "/v1/refunds", "/v1/disputes",
    "/v1/payment_intents", "/v1/invoice_payments",
];

/// How a request fails.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// This status, with an empty error.
    Status(u16),
    /// 429 with `Retry-After`, in seconds.
    SlowDown(u64),
    /// Half of the answer, then the connection closes.
    Truncated,
    /// Half of the answer, as if it were whole.
    Cut,
    /// No response, ever.
    Hang,
}

#[derive(Default)]
struct Inside {
    lists: BTreeMap<String, Vec<Value>>,
    objects: BTreeMap<String, Value>,
    troubles: VecDeque<Option<Trouble>>,
    denied: Vec<String>,
    /// Bytes of a page, by path.
    raw: BTreeMap<String, Vec<u8>>,
    /// Lists that give their first page again and again.
    stuck: Vec<String>,
    expired: bool,
    page: usize,
    calls: Vec<String>,
}

struct Shop {
    inside: Mutex<Inside>,
    /// Notified when a request hangs.
    hung: Notify,
}

type Shared = Arc<Shop>;

/// A fake Stripe API on a port of its own.
pub(crate) struct FakeStripe {
    pub(crate) base: String,
    shared: Shared,
    server: JoinHandle<()>,
}

impl FakeStripe {
    /// Starts it.
    #[expect(clippy::disallowed_methods, reason = "the harness stops its own server on drop")]
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}", listener.local_addr().expect("bound"));
        let shared = Shared::new(Shop {
            inside: Mutex::new(Inside { page: 100, ..Inside::default() }),
            hung: Notify::new(),
        });
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let server =
            tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { base, shared, server }
    }

    /// The settings of an app that uses it.
    pub(crate) fn settings(&self) -> [(&str, &str); 2] {
        [("CLICKSTAMP_STRIPE_API_KEY", KEY), ("CLICKSTAMP_STRIPE_API_BASE", &self.base)]
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.shared.inside.lock().expect("nobody panics holding it")
    }

    /// Adds items to a list (`/v1/events`), behind [`OTHER_KEY`] to one of the other account; it
    /// answers them newest first, by `created`.
    pub(crate) fn has(&self, path: &str, items: impl IntoIterator<Item = Value>) {
        let mut inside = self.inside();
        let list = inside.lists.entry(path.to_owned()).or_default();
        list.extend(items);
        list.sort_by_key(|item| std::cmp::Reverse(item["created"].as_i64()));
    }

    /// Forgets a list.
    pub(crate) fn has_no(&self, path: &str) {
        self.inside().lists.remove(path);
    }

    /// Answers these bytes at a path, whatever is asked.
    pub(crate) fn answers(&self, path: &str, body: impl Into<Vec<u8>>) {
        self.inside().raw.insert(path.to_owned(), body.into());
    }

    /// From now on a list gives its first page again and again, and announces more.
    pub(crate) fn never_moves_on(&self, path: &str) {
        self.inside().stuck.push(path.to_owned());
    }

    /// Adds an object to be fetched by its path.
    pub(crate) fn object(&self, path: &str, object: Value) {
        self.inside().objects.insert(path.to_owned(), object);
    }

    /// Items of a page, fewer than Stripe's hundred.
    pub(crate) fn pages_of(&self, items: usize) {
        self.inside().page = items;
    }

    /// How the next calls go; `None` goes well. Afterwards all go well.
    pub(crate) fn troubles(&self, troubles: impl IntoIterator<Item = Option<Trouble>>) {
        self.inside().troubles.extend(troubles);
    }

    /// From now on all goes well.
    pub(crate) fn no_more_troubles(&self) {
        self.inside().troubles.clear();
    }

    /// Resolves when a call hangs.
    pub(crate) async fn hung(&self) {
        self.shared.hung.notified().await;
    }

    /// The key may not read this path.
    pub(crate) fn denies(&self, path: &str) {
        self.inside().denied.push(path.to_owned());
    }

    /// The key has expired.
    pub(crate) fn key_expires(&self) {
        self.inside().expired = true;
    }

    /// Paths and queries asked for so far; it forgets them.
    pub(crate) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.inside().calls)
    }
}

impl Drop for FakeStripe {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn failure(status: u16, code: &str, message: &str) -> Response {
    let body =
        json!({"error": {"type": "invalid_request_error", "code": code, "message": message}});
    (StatusCode::from_u16(status).expect("a status"), body.to_string()).into_response()
}

async fn answer(State(shared): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    match answer_unless_hung(&shared, &uri, &headers) {
        Some(response) => response,
        None => {
            shared.hung.notify_one();
            std::future::pending().await
        }
    }
}

fn answer_unless_hung(shared: &Shop, uri: &Uri, headers: &HeaderMap) -> Option<Response> {
    let mut inside = shared.inside.lock().expect("nobody panics holding it");
    let hangs = matches!(inside.troubles.front(), Some(Some(Trouble::Hang)));
    if hangs {
        inside.troubles.pop_front();
        return None;
    }
    Some(answer_now(&mut inside, uri, headers))
}

fn answer_now(inside: &mut Inside, uri: &Uri, headers: &HeaderMap) -> Response {
    inside.calls.push(uri.to_string());
    assert!(headers.contains_key("stripe-version"), "the version is pinned");
    let is_other = headers["authorization"] == format!("Bearer {OTHER_KEY}");
    let is_ours =
        [KEY, TEST_KEY].iter().any(|key| headers["authorization"] == format!("Bearer {key}"));
    if !(is_ours || is_other) || inside.expired {
        return failure(401, "api_key_expired", &format!("Expired API Key provided: {KEY}"));
    }
    if inside.denied.iter().any(|denied| uri.path().starts_with(denied.as_str())) {
        let text = format!(
            "The provided key '{KEY}' does not have the required permissions. Having the 'rak_event_read' permission would help."
        );
        return failure(403, "", &text);
    }
    let trouble = inside.troubles.pop_front().flatten();
    let whose = if is_other { OTHER_KEY } else { "" };
    let place = format!("{whose}{}", uri.path());
    if let Some(body) = inside.raw.get(&place) {
        return body.clone().into_response();
    }
    if inside.stuck.contains(&place) {
        let data = inside.lists.get(&place).cloned().unwrap_or_default();
        return json!({"object": "list", "data": data, "has_more": true})
            .to_string()
            .into_response();
    }
    let body = match (inside.objects.get(&place), inside.lists.get(&place)) {
        (Some(object), _) => object.to_string(),
        (None, Some(list)) => match page(list, inside.page, uri.query().unwrap_or_default()) {
            Ok(page) => page,
            Err(missing) => return failure(404, "resource_missing", &missing),
        },
        (None, None) if EMPTY_LISTS.contains(&uri.path()) => {
            json!({"object": "list", "data": [], "has_more": false}).to_string()
        }
        (None, None) => return failure(404, "resource_missing", "No such thing"),
    };
    match trouble {
        None => body.into_response(),
        Some(Trouble::Status(status)) => failure(status, "", "trouble"),
        Some(Trouble::SlowDown(seconds)) => {
            let mut response = failure(429, "rate_limit", "slow down");
            response.headers_mut().insert("retry-after", seconds.into());
            response
        }
        Some(Trouble::Truncated) => {
            let half = body.as_bytes()[..body.len() / 2].to_vec();
            let broken = [Ok(half), Err(std::io::Error::other("broken"))];
            Body::from_stream(futures_util::stream::iter(broken)).into_response()
        }
        Some(Trouble::Hang) => unreachable!("it gets no answer"),
        Some(Trouble::Cut) => body[..body.len() / 2].to_owned().into_response(),
    }
}

/// The items that the query asks for, as Stripe would page them.
fn page(list: &[Value], most: usize, query: &str) -> Result<String, String> {
    let asked: Vec<(String, String)> =
        form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let one = |name: &str| asked.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    let number = |name: &str| one(name).map(|text| text.parse::<i64>().expect("a number"));
    let kinds: Vec<&String> =
        asked.iter().filter(|(key, _)| key == "types[]").map(|(_, value)| value).collect();
    assert!(kinds.len() <= 20, "Stripe takes at most 20 types");
    let fits = |item: &&Value| {
        let created = item["created"].as_i64().unwrap_or_default();
        number("created[gte]").is_none_or(|from| created >= from)
            && number("created[lt]").is_none_or(|until| created < until)
            && (kinds.is_empty() || kinds.iter().any(|kind| item["type"] == kind.as_str()))
            && ["payment_intent", "subscription", "customer"]
                .iter()
                .all(|name| one(name).is_none_or(|id| item[name] == id.as_str()))
            && one("payment[payment_intent]")
                .is_none_or(|id| item["payment"]["payment_intent"] == id.as_str())
            && one("status").is_none_or(|status| item["status"] == status.as_str())
    };
    let mut rest: Vec<&Value> = list.iter().filter(fits).collect();
    if let Some(after) = one("starting_after") {
        let at = list.iter().position(|item| item["id"] == after.as_str());
        at.ok_or_else(|| format!("No such thing: {after}"))?;
        let known = rest.iter().position(|item| item["id"] == after.as_str());
        rest.drain(..known.map_or(0, |known| known + 1));
    }
    let limit = number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(10);
    let shown = rest.len().min(limit).min(most);
    let page = json!({"object": "list", "data": rest[..shown], "has_more": rest.len() > shown});
    Ok(page.to_string())
}
