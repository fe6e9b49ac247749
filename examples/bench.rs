//! The server with two routes more, to be measured against itself; `tests/bench/run` and `tests/bench/deliveries` drive it.
//! In: a directory, and further settings as NAME=VALUE. Out: a server on a free port of 127.0.0.1, named on the first line of standard output, and, at
//! `GET /bench/mint`, the file `click_ids` in the directory, with genuine fresh click IDs to post visits with.
//! Promise: nothing of the environment is read, and the further routes have the same around them as the real ones.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use clickstamp::app::App;
use clickstamp::clock::Clock;
use clickstamp::config::Config;
use clickstamp::server::Listener;
use clickstamp::state::AppState;
use tower::ServiceExt as _;

/// Click IDs of one run; one used twice is still a visit of its own, by its time.
const CLICK_IDS: u32 = 120_000;
/// How many of them seem to be of one millisecond, so that all are of the last five seconds: a page reports its visit soon.
const PER_MS: u32 = 24;
/// About the size of the tag's compressed script.
static ANSWER: [u8; 2048] = [b'/'; 2048];

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (directory, further) =
        arguments.split_first().context("usage: bench DIRECTORY [NAME=VALUE…]")?;
    let mut settings = vec![
        ("CLICKSTAMP_DATA_DIR", directory.as_str()),
        ("CLICKSTAMP_LISTEN", "127.0.0.1:0"),
        ("CLICKSTAMP_VISIT_RATE", "0"),
    ];
    settings.extend(further.iter().filter_map(|setting| setting.split_once('=')));
    let config = Config::with(&settings)?;
    let listener = Listener::bind(&config.listen).await?;
    let app = App::build(config, Clock::system()).await?;
    let (state, file) = (app.state().clone(), Path::new(directory).join("click_ids"));
    let mint = move || async move {
        match mint(&state).and_then(|ids| Ok(std::fs::write(&file, ids)?)) {
            Ok(()) => StatusCode::NO_CONTENT,
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    };
    let same = same_answer(app.router()).await?;
    println!("{}", listener.describe());
    let baselines = Router::new()
        .route("/bench/mint", get(mint))
        .route("/bench/parse", post(parse))
        .route("/bench/static", get(answer))
        .route("/bench/same", get(same));
    app.run_beside(baselines, listener, std::future::pending()).await
}

/// One a line, up to now.
fn mint(state: &AppState) -> Result<String> {
    let mut text = String::new();
    let settings = state.settings.current();
    let site = settings.site_by_key("main").context("a new database has a site")?;
    let start = state.clock.now().minus(Duration::from_millis(u64::from(CLICK_IDS / PER_MS)));
    for n in 0..CLICK_IDS {
        let at = start.plus(Duration::from_millis(u64::from(n / PER_MS)));
        writeln!(text, "{}", state.click_ids.mint(at, site.number))?;
    }
    Ok(text)
}

/// The baseline of a visit: read the body, parse it, answer, and keep nothing.
async fn parse(body: Bytes) -> StatusCode {
    match serde_json::from_slice::<serde_json::Value>(&body) {
        Ok(serde_json::Value::Object(_)) => StatusCode::NO_CONTENT,
        Ok(_) | Err(_) => StatusCode::BAD_REQUEST,
    }
}

/// One answer of the tag, to be repeated as it is: what the same bytes cost when nothing is made for anybody.
async fn same_answer(router: Router) -> Result<impl Fn() -> std::future::Ready<Response> + Clone> {
    let request = Request::get("/t/main.js").header(header::ACCEPT_ENCODING, "gzip");
    let answer = router.oneshot(request.body(Body::empty())?).await?;
    let (head, body) = answer.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await?;
    let mut headers = HeaderMap::new();
    for (name, value) in &head.headers {
        // As a constant of the program: nothing is cheaper to repeat.
        headers.insert(name, HeaderValue::from_static(value.to_str()?.to_owned().leak()));
    }
    Ok(move || {
        let mut response = Response::new(Body::from(body.clone()));
        *response.headers_mut() = headers.clone();
        std::future::ready(response)
    })
}

/// The other baseline of the script: 2 kB and one header.
async fn answer() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], Bytes::from_static(&ANSWER))
}
