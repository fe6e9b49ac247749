//! The world around Clickstamp, as far as a demo needs it: a shop, a checkout that pretends to be Stripe's, an AnyTrack.
//! In: a visitor's browser. Out: pages; for a payment, a signed webhook over HTTP to the real door.
//! Promise: every page says that it pretends, and nothing here writes to Clickstamp's database.

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

/// What the advertisement of the walk-through links to.
const AD: &str = "/lamp?utm_source=google&utm_medium=cpc&utm_campaign=daylight-search&utm_content=north-window&gclid=Cj0KCQjwDemo-3Fq7pTz2rYk8XbW1";
/// Where the pretend AnyTrack takes conversions.
const COLLECT: &str = "/anytrack/collect/northlight-k7Qe";
/// The literal text that a payment link carries when the tag did not run.
const PLACEHOLDER: &str = "--CLICK-ID--";
/// The lamp of the landing page, and two of them, by their names in addresses.
const ON_SALE: [(&str, usize); 2] = [("desk-lamp", 0), ("two-desk-lamps", 2)];

/// The world's handle.
#[derive(Clone)]
pub(super) struct World(Arc<Parts>);

struct Parts {
    /// Where the world's pages are: `http://127.0.0.1:…`.
    own_url: String,
    /// Where Clickstamp is.
    clickstamp: SocketAddr,
    secret: Secret,
    zone: TimeZone,
    anytrack: AnyTrack,
    /// Conversions that AnyTrack got as part of the history.
    told_before: OnceLock<usize>,
    /// Read to find the conversion of a payment; there once the history is.
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
            told_before: OnceLock::new(),
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

    /// What the redirect link leads to: the pretend checkout, so that nobody ends at the real Stripe.
    pub(super) fn payment_link(&self) -> String {
        format!("{}/pay/{}?client_reference_id={PLACEHOLDER}", self.0.own_url, ON_SALE[0].0)
    }

    pub(super) fn clickstamp_url(&self) -> String {
        format!("http://{}", self.0.clickstamp)
    }

    /// The history is over: what AnyTrack has got is old, and payments can be looked up.
    pub(super) fn open(&self, store: Store) {
        // Opened once; a second time changes nothing.
        let _ = self.0.told_before.set(self.0.anytrack.forget());
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

/// Answers requests until it is dropped; connections end with it.
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
            // How a single connection ended is its browser's business.
            Some(_) = connections.join_next() => {}
        }
    }
}

/// What every page of the world shows around itself.
struct Frame {
    clickstamp: String,
    ad: &'static str,
    /// Which step of the walk-through this is.
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

/// `GET /lamp`: where the advertisement leads. With `tag=off` the page is as a content blocker leaves it.
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
    /// As it arrived; empty when the link had none.
    reference: String,
    /// In words: what that is.
    verdict: &'static str,
    is_click_id: bool,
    placeholder: &'static str,
}

fn item(name: &str) -> Result<&'static Item, AppError> {
    let found = ON_SALE.iter().find(|(known, _)| *known == name);
    let (_, position) =
        found.ok_or_else(|| AppError::not_found("There is no such thing on sale."))?;
    Ok(&ITEMS[*position])
}

/// The parameter's first value, as Stripe reads it.
fn reference(query: Option<&str>) -> String {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let mut values = pairs.filter(|(name, _)| name == "client_reference_id");
    values.next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

/// `GET /pay/{item}`: the pretend checkout.
async fn show_checkout(
    State(world): State<World>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, AppError> {
    let item = item(&name)?;
    let reference = reference(query.as_deref());
    let is_click_id = ids::ClickId::parse(&reference).is_some();
    let verdict = if is_click_id {
        "This is the click ID that the tag wrote into the link. A real Stripe link takes it in the same way."
    } else if reference.is_empty() {
        "The link had no client_reference_id. The payment will come without credit."
    } else if reference == PLACEHOLDER {
        "The placeholder is unreplaced: the tag did not run. The payment works all the same."
    } else {
        "This is not a click ID of ours. The payment will come without credit."
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

/// `POST /pay/{item}`: signs what Stripe would send and sends it to the real webhook.
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
    let told = sale.with_references(reference, None);
    let body = checkout::event(&told, "checkout.session.completed", now).to_string();
    let signature = checkout::sign(&world.0.secret, now, body.as_bytes());
    send_webhook(world.0.clickstamp, body, &signature).await.map_err(|cause| {
        AppError::new(StatusCode::BAD_GATEWAY, "Clickstamp did not take the webhook.")
            .because(cause)
    })?;
    Ok(Redirect::to(&format!("/thank-you/{}?tagged={tagged}", sale.session)).into_response())
}

/// Posts a signed event to the real webhook, which must take it.
async fn send_webhook(clickstamp: SocketAddr, body: String, signature: &str) -> Result<()> {
    let stream = TcpStream::connect(clickstamp).await.context("could not connect")?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = hyper::Request::post("/webhooks/stripe/main")
        .header(header::HOST, clickstamp.to_string())
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
        .header(header::USER_AGENT, "Stripe/1.0 (a pretence of the Clickstamp demo)")
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
    /// Whether the payment carried a click ID.
    tagged: bool,
}

#[derive(Deserialize)]
struct Thanks {
    #[serde(default)]
    tagged: bool,
}

/// `GET /thank-you/{session}`: the shop's page after the payment.
async fn show_thanks(
    State(world): State<World>,
    Path(session): Path<String>,
    Query(thanks): Query<Thanks>,
) -> Result<Response, AppError> {
    render(&ThanksPage { frame: world.frame(3), session, tagged: thanks.tagged })
}

/// `GET /conversion/{session}`: leads to the dashboard's page about a payment.
async fn find_conversion(
    State(world): State<World>,
    Path(session): Path<String>,
) -> Result<Response, AppError> {
    let store = world.0.store.get();
    let store = store.ok_or_else(|| AppError::not_found("The history is still being written."))?;
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
    /// How many the history had sent.
    told_before: usize,
}

struct Message {
    time: String,
    body: String,
}

/// `GET /anytrack`: what the pretend AnyTrack got, newest first.
async fn show_anytrack(State(world): State<World>) -> Result<Response, AppError> {
    let message = |received: anytrack::Received| {
        let at = jiff::Timestamp::from_millisecond(received.at.as_ms()).unwrap_or_default();
        let time = world.0.zone.to_datetime(at).strftime("%H:%M:%S").to_string();
        Message { time, body: anytrack::indented(&received.body) }
    };
    let messages = world.0.anytrack.received().into_iter().map(message).collect();
    let told_before = world.0.told_before.get().copied().unwrap_or_default();
    render(&AnyTrackPage { frame: world.frame(4), messages, told_before })
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
