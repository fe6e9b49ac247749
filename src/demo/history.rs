//! Runs the sample story through the real code. Takes an app with a manual clock and a story; fills
//! the app's database as weeks of use would. Guarantees that all data goes through the public
//! endpoints: visits through `POST /v`, payments through the signed webhook, deliveries over HTTP.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures_util::future::try_join_all;
use serde_json::json;
use tower::ServiceExt as _;

use super::anytrack::AnyTrack;
use super::checkout::{self, Sale};
use super::story::{LINK, Reference, Step, Story, What};
use crate::app::App;
use crate::client::Peer;
use crate::clock::Timestamp;
use crate::config::Secret;
use crate::ids::ClickId;

/// Visits within this time are sent together, because one commit costs as much as a hundred visits.
const GATHER: Duration = Duration::from_secs(6 * 3600);
/// The number of the first site, which is part of its click IDs.
const SITE_NUMBER: i64 = 1;
/// How far the clock moves between two attempts of a delivery: slightly more than the delays of the
/// retry schedule.
const PAUSES_SECONDS: [u64; 3] = [7, 40, 370];

/// Runs a story from its start to `ends`.
pub(super) async fn play(
    app: &App,
    story: &Story,
    ends: Timestamp,
    anytrack: &AnyTrack,
    secret: &Secret,
) -> Result<()> {
    let minted = vec![None; story.visits.len()];
    let mut player =
        Player { app, router: app.router(), story, anytrack, secret, minted, gathered: Vec::new() };
    let mut gathered_since = story.begins;
    for step in &story.steps {
        if player.gathered.is_empty() {
            gathered_since = step.at;
        } else if step.at.since(gathered_since) > GATHER {
            player.report_visits().await?;
            gathered_since = step.at;
        }
        player.take(step).await.with_context(|| format!("could not play {step:?}"))?;
    }
    player.report_visits().await?;
    player.move_to(ends);
    player.work().await?;
    app.flush_counts().await
}

struct Player<'a> {
    app: &'a App,
    router: Router,
    story: &'a Story,
    anytrack: &'a AnyTrack,
    secret: &'a Secret,
    minted: Vec<Option<ClickId>>,
    gathered: Vec<usize>,
}

impl Player<'_> {
    fn now(&self) -> Timestamp {
        self.app.state().clock.now()
    }

    fn move_to(&self, at: Timestamp) {
        self.app.state().clock.advance(at.since(self.now()));
    }

    async fn take(&mut self, step: &Step) -> Result<()> {
        match step.what {
            What::VisitArrives(position) if self.story.visits[position].is_by_link => {
                self.report_visits().await?;
                self.move_to(step.at);
                self.follow_link(position).await?;
            }
            What::VisitArrives(position) => {
                let visit = &self.story.visits[position];
                let is_late = visit.at != step.at;
                self.gathered.push(position);
                if visit.keeps_click_id || is_late {
                    // The visit's time is its time of arrival, so it must be sent now.
                    self.move_to(step.at);
                    self.report_visits().await?;
                }
                if is_late {
                    self.work().await?;
                }
            }
            What::Webhook(sale, kind) => {
                self.report_visits().await?;
                self.move_to(step.at);
                self.send_webhook(&self.story.sales[sale], kind).await?;
            }
            What::Quiet => {
                self.move_to(step.at);
                self.work().await?;
            }
        }
        Ok(())
    }

    /// Runs the workers once.
    async fn work(&self) -> Result<()> {
        self.app.process_events().await?;
        self.app.rejoin_late_visits().await?;
        self.app.deliver_due().await?;
        Ok(())
    }

    /// Clicks on the redirect link and stores the click ID of the redirect.
    async fn follow_link(&mut self, position: usize) -> Result<()> {
        let visit = &self.story.visits[position];
        let request = Request::get(LINK)
            .header("host", "go.northlight.example")
            .header("user-agent", visit.agent)
            .header("accept-language", visit.language)
            .extension(Peer(Some(visit.address.into())));
        let response = self.router.clone().oneshot(request.body(Body::empty())?).await?;
        let there = response.headers().get("location").context("the link redirects")?;
        let there = url::Url::parse(there.to_str()?)?;
        let id = there.query_pairs().find_map(|(_, value)| ClickId::parse(&value));
        self.minted[position] = Some(id.context("it carries a click ID")?);
        Ok(())
    }

    /// Sends the gathered visits in the order of their times. The server stores all of them in one
    /// commit.
    async fn report_visits(&mut self) -> Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        let Some(last) = gathered.last() else { return Ok(()) };
        self.move_to(self.story.visits[*last].at);
        let bodies: Vec<_> =
            gathered.iter().map(|position| self.visit_request(*position)).collect::<Result<_>>()?;
        try_join_all(
            bodies.into_iter().map(|request| self.expect(request, StatusCode::NO_CONTENT)),
        )
        .await?;
        for position in gathered {
            if let Some(note) = &self.story.visits[position].anytrack_click_id {
                let id = self.click_id(position);
                let body = json!({"s": "main", "i": id, "t": self.now().as_ms(), "a": note});
                let request = Request::post("/v").body(Body::from(body.to_string()))?;
                self.expect(request, StatusCode::NO_CONTENT).await?;
            }
        }
        Ok(())
    }

    fn visit_request(&mut self, position: usize) -> Result<Request<Body>> {
        let visit = &self.story.visits[position];
        let mut body = json!({
            "s": "main",
            "i": self.click_id(position),
            "t": visit.at.as_ms(),
            "u": visit.url,
            "f": i64::from(visit.is_automated) | i64::from(visit.wants_privacy) << 1,
        });
        if let Some(referrer) = visit.referrer {
            body["r"] = referrer.into();
        }
        if let Some(previous) = visit.previous {
            body["p"] = self.click_id(previous).as_str().into();
        }
        if let Some(cookies) = &visit.ad_cookies {
            body["k"] = cookies.as_str().into();
        }
        let request = Request::post("/v")
            .header("host", "go.northlight.example")
            .header("content-type", "text/plain;charset=UTF-8")
            .header("user-agent", visit.agent)
            .header("accept-language", visit.language)
            .header("sec-fetch-site", "same-site")
            .extension(Peer(Some(visit.address.into())));
        Ok(request.body(Body::from(body.to_string()))?)
    }

    /// The click ID of a visit, as the tag would have received it.
    fn click_id(&mut self, position: usize) -> ClickId {
        if let Some(id) = &self.minted[position] {
            return id.clone();
        }
        let visit = &self.story.visits[position];
        let id = match visit.previous {
            Some(previous) if visit.keeps_click_id => self.click_id(previous),
            _ => self.app.state().click_ids.mint(visit.at, SITE_NUMBER),
        };
        self.minted[position] = Some(id.clone());
        id
    }

    fn reference(&mut self, reference: &Reference) -> Option<String> {
        match reference {
            Reference::None => None,
            Reference::Placeholder => Some("--CLICK-ID--".to_owned()),
            Reference::Text(text) => Some(text.clone()),
            Reference::ClickIdOf(visit) => Some(self.click_id(*visit).as_str().to_owned()),
            Reference::ForgedFrom(visit) => {
                let mut text = self.click_id(*visit).as_str().to_owned();
                let last = text.pop();
                text.push(if last == Some('0') { '1' } else { '0' });
                Some(text)
            }
        }
    }

    async fn send_webhook(&mut self, sale: &Sale<Reference>, kind: &str) -> Result<()> {
        let metadata = sale.metadata_click_id.as_ref();
        let referenced = sale.with_references(
            self.reference(&sale.reference),
            metadata.and_then(|reference| self.reference(reference)),
        );
        let created =
            if kind == "checkout.session.completed" { sale.times.completed } else { self.now() };
        let body = checkout::event(&referenced, kind, created).to_string();
        let signature = checkout::sign(self.secret, self.now(), body.as_bytes());
        let request = Request::post("/webhooks/stripe/main")
            .header("content-type", "application/json")
            .header("stripe-signature", signature)
            .body(Body::from(body))?;
        self.anytrack.answer_next(sale.answers);
        self.expect(request, StatusCode::OK).await?;
        self.work().await?;
        for pause in PAUSES_SECONDS.iter().take(sale.answers.len()) {
            self.move_to(self.now().plus(Duration::from_secs(*pause)));
            self.work().await?;
        }
        Ok(())
    }

    async fn expect(&self, request: Request<Body>, status: StatusCode) -> Result<()> {
        let path = request.uri().path().to_owned();
        let response = self.router.clone().oneshot(request).await?;
        ensure!(response.status() == status, "{path} answered {}", response.status());
        Ok(())
    }
}
