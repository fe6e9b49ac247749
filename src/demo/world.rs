//! The services around Clickstamp for the demo: a shop, a simulated Stripe checkout and a simulated
//! AnyTrack. Takes requests of a visitor's browser; returns pages, and sends a signed webhook over
//! HTTP for each payment. Guarantees that every page says that it is simulated, and that nothing
//! here writes to Clickstamp's database.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, ensure};
use askama::Template;
use axum::Router;
use axum::extract::{Form, Path, Query, RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use jiff::tz::TimeZone;
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::anytrack::{self, AnyTrack};
use super::checkout::{self, Buyer, Item, Sale, Times};
use super::story::ITEMS;
use crate::clock::Clock;
use crate::config::Secret;
use crate::error::AppError;
use crate::ids;
use crate::money::{Currency, Money};
use crate::report::{self, ConversionFilter};
use crate::store::Store;

/// The link of the demo's ad.
const AD: &str = "/lamp?utm_source=google&utm_medium=cpc&utm_campaign=daylight-search&utm_content=north-window&gclid=Cj0KCQjwDemo-3Fq7pTz2rYk8XbW1";
/// The path at which the simulated AnyTrack receives conversions.
const COLLECT: &str = "/anytrack/collect/northlight-k7Qe";
/// The placeholder, which a payment link still contains if the tag did not run.
const PLACEHOLDER: &str = "--CLICK-ID--";
/// The products of the landing page: their names in URLs and their indexes in [`ITEMS`].
const ON_SALE: [(&str, usize); 2] = [("desk-lamp", 0), ("two-desk-lamps", 2)];

/// The shop and the simulated services. Clones share their state.
#[derive(Clone)]
pub(super) struct World(Arc<Parts>);

struct Parts {
    /// The URL of these pages: `http://127.0.0.1:…`.
    own_url: String,
    /// The address of Clickstamp.
    clickstamp: SocketAddr,
    secret: Secret,
    zone: TimeZone,
    anytrack: AnyTrack,
    /// Number of conversions that AnyTrack accepted while the sample data was written.
    accepted_before: OnceLock<usize>,
    /// Used to find the conversion of a payment. Set when the sample data is complete.
    store: OnceLock<Store>,
}

impl World {
    pub(super) fn new(
        own: SocketAddr,
        clickstamp: SocketAddr,
        secret: Secret,
        zone: TimeZone,
    ) -> Self {
        Self(Arc::new(Parts {
            own_url: format!("http://{own}"),
            clickstamp,
            secret,
            zone,
            anytrack: AnyTrack::new(),
            accepted_before: OnceLock::new(),
            store: OnceLock::new(),
        }))
    }

    pub(super) fn anytrack(&self) -> &AnyTrack {
        &self.0.anytrack
    }

    pub(super) fn collect_url(&self) -> Secret {
        Secret::new(format!("{}{COLLECT}", self.0.own_url))
    }

    pub(super) fn ad_url(&self) -> String {
        format!("{}{AD}", self.0.own_url)
    }

    pub(super) fn anytrack_url(&self) -> String {
        format!("{}/anytrack", self.0.own_url)
    }

    /// The target of the redirect link: the simulated checkout, so that nobody is sent to the real
    /// Stripe.
    pub(super) fn payment_link(&self) -> String {
        format!("{}/pay/{}?client_reference_id={PLACEHOLDER}", self.0.own_url, ON_SALE[0].0)
    }

    pub(super) fn clickstamp_url(&self) -> String {
        format!("http://{}", self.0.clickstamp)
    }

    /// Called when the sample data is complete: clears AnyTrack's messages, and lets the pages find
    /// payments in `store`.
    pub(super) fn open(&self, store: Store) {
        // Called once; `set` fails only if it was called before.
        let _ = self.0.accepted_before.set(self.0.anytrack.forget());
        let _ = self.0.store.set(store);
    }

    pub(super) fn router(&self) -> Router {
        let collect = Router::new()
            .route("/anytrack/collect/{slug}", post(anytrack::take_conversion))
            .with_state(self.0.anytrack.clone());
        Router::new()
            .route("/", get(|| async { Redirect::to(AD) }))
            .route("/lamp", get(show_landing))
            .route("/pay/{item}", get(show_checkout).post(take_payment))
            .route("/thank-you/{session}", get(show_thanks))
            .route("/conversion/{session}", get(find_conversion))
            .route("/anytrack", get(show_anytrack))
            .route("/look.css", get(|| async { style(include_str!("../../static/look.css")) }))
            .route(
                "/world.css",
                get(|| async { style(include_str!("../../templates/demo/world.css")) }),
            )
            .route("/mark.svg", get(serve_mark))
            .with_state(self.clone())
            .merge(collect)
    }

    fn frame(&self, step: u8) -> Frame {
        Frame { clickstamp: self.clickstamp_url(), ad: AD, step }
    }
}

/// Serves requests until it is dropped, which also closes the connections.
pub(super) async fn serve(listener: &TcpListener, router: &Router) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.context("the demo's pages cannot be served any more")?;
                let service = hyper_util::service::TowerToHyperService::new(router.clone());
                let served = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                connections.spawn(served);
            }
            // Errors of a single connection do not matter here.
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The parts that all these pages share.
struct Frame {
    clickstamp: String,
    ad: &'static str,
    /// The page's step of the walk-through.
    step: u8,
}

#[derive(Template)]
#[template(path = "demo/landing.html")]
struct LandingPage {
    frame: Frame,
    has_tag: bool,
}

#[derive(Deserialize)]
struct Landing {
    tag: Option<String>,
}

/// Serves `GET /lamp`, the landing page of the ad. With `tag=off` it has no tag, as with a content
/// blocker.
async fn show_landing(
    State(world): State<World>,
    Query(landing): Query<Landing>,
) -> Result<Response, AppError> {
    let has_tag = landing.tag.as_deref() != Some("off");
    render(&LandingPage { frame: world.frame(1), has_tag })
}

#[derive(Template)]
#[template(path = "demo/checkout.html")]
struct CheckoutPage {
    frame: Frame,
    item: &'static str,
    amount: String,
    /// As received; empty if the link had none.
    reference: String,
    /// An explanation of the reference.
    verdict: &'static str,
    is_click_id: bool,
    placeholder: &'static str,
}

fn item(name: &str) -> Result<&'static Item, AppError> {
    let found = ON_SALE.iter().find(|(known, _)| *known == name);
    let (_, position) = found.ok_or_else(|| AppError::not_found("This product does not exist."))?;
    Ok(&ITEMS[*position])
}

/// The first value of `client_reference_id`, which is the one that Stripe reads.
fn reference(query: Option<&str>) -> String {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let mut values = pairs.filter(|(name, _)| name == "client_reference_id");
    values.next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

/// Serves `GET /pay/{item}`, the simulated checkout.
async fn show_checkout(
    State(world): State<World>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, AppError> {
    let item = item(&name)?;
    let reference = reference(query.as_deref());
    let is_click_id = ids::ClickId::parse(&reference).is_some();
    let verdict = if is_click_id {
        "This is the click ID that the tag put into the link. A real Stripe payment link works the same way."
    } else if reference.is_empty() {
        "The link had no client_reference_id. The payment will be unmatched."
    } else if reference == PLACEHOLDER {
        "The placeholder was not replaced, because the tag did not run. The payment still works."
    } else {
        "This is not a click ID. The payment will be unmatched."
    };
    let amount = shown(item.usd_minor);
    let placeholder = PLACEHOLDER;
    let frame = world.frame(2);
    render(&CheckoutPage {
        frame,
        item: item.name,
        amount,
        reference,
        verdict,
        is_click_id,
        placeholder,
    })
}

fn shown(minor: i64) -> String {
    let dollars = Currency::parse("usd").map(|currency| Money { minor, currency }.decimal());
    format!("${}", dollars.unwrap_or_default())
}

#[derive(Deserialize)]
struct Paid {
    reference: String,
    name: String,
    email: String,
}

/// Serves `POST /pay/{item}`: sends the event that Stripe would send, signed, to the real webhook
/// endpoint.
async fn take_payment(
    State(world): State<World>,
    Path(name): Path<String>,
    Form(paid): Form<Paid>,
) -> Result<Response, AppError> {
    let item = item(&name)?;
    let now = Clock::system().now();
    let sale = Sale {
        session: format!("cs_live_demo{}", ids::new_secret()),
        reference: (),
        metadata_click_id: None,
        customer: None,
        item,
        currency: "usd",
        minor: item.usd_minor,
        buyer: Buyer { name: paid.name, email: paid.email, city: "Portland", country: "US" },
        livemode: true,
        method: "card",
        is_paid: true,
        times: Times { created: now, completed: now },
        answers: &[],
    };
    let tagged = ids::ClickId::parse(&paid.reference).is_some();
    let reference = Some(paid.reference).filter(|text| !text.is_empty());
    let referenced = sale.with_references(reference, None);
    let body = checkout::event(&referenced, "checkout.session.completed", now).to_string();
    let signature = checkout::sign(&world.0.secret, now, body.as_bytes());
    send_webhook(world.0.clickstamp, body, &signature).await.map_err(|cause| {
        AppError::new(StatusCode::BAD_GATEWAY, "Clickstamp did not accept the webhook.")
            .because(cause)
    })?;
    Ok(Redirect::to(&format!("/thank-you/{}?tagged={tagged}", sale.session)).into_response())
}

/// Posts a signed event to the real webhook endpoint. Fails unless it is accepted.
async fn send_webhook(clickstamp: SocketAddr, body: String, signature: &str) -> Result<()> {
    let stream = TcpStream::connect(clickstamp).await.context("could not connect")?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = hyper::Request::post("/webhooks/stripe/main")
        .header(header::HOST, clickstamp.to_string())
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
        .header(header::USER_AGENT, "Stripe/1.0 (simulated by the Clickstamp demo)")
        .header("stripe-signature", signature)
        .body(Full::new(bytes::Bytes::from(body)))?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        response.into_body().collect().await?;
        Ok::<_, hyper::Error>(status) // The sender goes out of scope, which ends the connection.
    };
    let (status, connection) = tokio::join!(exchange, connection);
    let status = status?;
    connection?;
    ensure!(status.is_success(), "the webhook answered {status}");
    Ok(())
}

#[derive(Template)]
#[template(path = "demo/thanks.html")]
struct ThanksPage {
    frame: Frame,
    session: String,
    /// Whether the payment had a click ID.
    tagged: bool,
}

#[derive(Deserialize)]
struct Thanks {
    #[serde(default)]
    tagged: bool,
}

/// Serves `GET /thank-you/{session}`, the shop's page after the payment.
async fn show_thanks(
    State(world): State<World>,
    Path(session): Path<String>,
    Query(thanks): Query<Thanks>,
) -> Result<Response, AppError> {
    render(&ThanksPage { frame: world.frame(3), session, tagged: thanks.tagged })
}

/// Serves `GET /conversion/{session}`: redirects to the payment's page in the dashboard.
async fn find_conversion(
    State(world): State<World>,
    Path(session): Path<String>,
) -> Result<Response, AppError> {
    let store = world.0.store.get();
    let store =
        store.ok_or_else(|| AppError::not_found("The sample data is still being written."))?;
    let filter = ConversionFilter { search: Some(session), ..ConversionFilter::default() };
    let found = report::conversions(store, &filter, None, 1).await?;
    let place = found.rows.first().map_or_else(String::new, |row| format!("/{}", row.id));
    Ok(Redirect::to(&format!("{}/conversions{place}", world.clickstamp_url())).into_response())
}

#[derive(Template)]
#[template(path = "demo/anytrack.html")]
struct AnyTrackPage {
    frame: Frame,
    messages: Vec<Message>,
    /// Number of conversions in the sample data.
    accepted_before: usize,
}

struct Message {
    time: String,
    body: String,
}

/// Serves `GET /anytrack`: the messages that the simulated AnyTrack received, newest first.
async fn show_anytrack(State(world): State<World>) -> Result<Response, AppError> {
    let message = |received: anytrack::Received| {
        let time = received.at.in_zone(&world.0.zone).strftime("%H:%M:%S").to_string();
        Message { time, body: anytrack::indented(&received.body) }
    };
    let messages = world.0.anytrack.received().into_iter().map(message).collect();
    let accepted_before = world.0.accepted_before.get().copied().unwrap_or_default();
    render(&AnyTrackPage { frame: world.frame(4), messages, accepted_before })
}

fn render(page: &impl Template) -> Result<Response, AppError> {
    let html = page.render().context("could not render a page of the demo")?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Html(html)).into_response())
}

fn style(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8"))], text)
        .into_response()
}

async fn serve_mark() -> Response {
    let text = include_str!("../../static/mark.svg");
    ([(header::CONTENT_TYPE, HeaderValue::from_static("image/svg+xml"))], text).into_response()
}
