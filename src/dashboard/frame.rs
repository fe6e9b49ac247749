//! The frame around every page: user, site, mode and tabs. Takes a request; returns a `Viewer` for handlers and a
//! `Frame` for templates. Every link keeps the site, the mode and the public prefix. Site and mode are query parameters
//! and not cookies, so that two windows can show different sites and a shared link shows the same page.

use std::convert::Infallible;

use anyhow::Result;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};

use super::assets;
use super::period::Span;
use super::session::User;
use super::views::times::Times;
use super::views::{Choice, Link, numbers};
use crate::client::Client;
use crate::clock::Timestamp;
use crate::error::AppError;
use crate::report::{self, Health, Scope};
use crate::settings::Site;
use crate::state::AppState;

/// The frame of pages for people who are not signed in.
pub(super) struct SignedOutFrame {
    pub(super) css: String,
    pub(super) icon: String,
    pub(super) home: String,
}

impl SignedOutFrame {
    pub(super) fn new(client: &Client) -> Self {
        let prefix = client.prefix();
        Self {
            css: format!("{prefix}{}", assets::css()),
            icon: format!("{prefix}{}", assets::icon()),
            home: format!("{prefix}/"),
        }
    }
}

/// A signed-in user and what they view: site, time zone and mode.
pub(super) struct Viewer {
    pub(super) user: User,
    pub(super) client: Client,
    pub(super) now: Timestamp,
    pub(super) site: Site,
    pub(super) times: Times,
    pub(super) is_test: bool,
}

impl FromRequestParts<AppState> for Viewer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Response> {
        let user = User::from_request_parts(parts, state).await?;
        let client: Result<Client, Infallible> = Client::from_request_parts(parts, state).await;
        let Ok(client) = client;
        let query = parts.uri.query().unwrap_or_default();
        let asked = |wanted: &str| {
            url::form_urlencoded::parse(query.as_bytes())
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value)
        };
        let is_test = asked("mode").is_some_and(|mode| mode == "test");
        let snapshot = state.settings.current();
        let site = asked("site").and_then(|key| snapshot.site_by_key(&key));
        let Some(site) = site.or(snapshot.sites.first()).cloned() else {
            let cause = anyhow::anyhow!("there is no site");
            return Err(AppError::from(cause).into_response());
        };
        let times = Times::of(&site.timezone);
        Ok(Self { user, client, now: state.clock.now(), site, times, is_test })
    }
}

impl Viewer {
    /// The same user viewing another site.
    pub(super) fn looking_at(self, site: Site) -> Self {
        Self { times: Times::of(&site.timezone), site, ..self }
    }

    /// A link that keeps the site and the mode.
    pub(super) fn link(&self, path: &str) -> Link {
        self.about(format!("{}{path}", self.client.prefix()))
    }

    /// The same without the public prefix, for the `back` field of forms.
    pub(super) fn back(&self, path: &str) -> Link {
        self.about(path.to_owned())
    }

    fn about(&self, path: String) -> Link {
        let link = Link::to(path);
        let link = if self.is_test { link.with("mode", "test") } else { link };
        if self.site.is_first() { link } else { link.with("site", self.site.key.as_str()) }
    }

    /// The site and mode that reports are limited to.
    pub(super) fn scope(&self) -> Scope {
        Scope { site_id: self.site.id.clone(), livemode: !self.is_test }
    }

    /// Builds the frame around a page.
    pub(super) async fn frame(&self, state: &AppState, current: Tab) -> Result<Frame> {
        let span = Span::default_of(&self.times, self.now);
        let health = report::health(&state.store, &self.scope()).await?;
        let leaks = report::leaking(&state.store, &self.scope(), span.period).await?;
        let SignedOutFrame { css, icon, .. } = SignedOutFrame::new(&self.client);
        let here = self.link(current.path());
        let snapshot = state.settings.current();
        let sites = snapshot.sites.iter().filter(|_| snapshot.sites.len() > 1).map(|site| {
            let key = if site.is_first() { "" } else { site.key.as_str() };
            Choice::new(&here.with("site", key), site.name.as_str(), site.id == self.site.id)
        });
        Ok(Frame {
            css,
            copy: format!("{}{}", self.client.prefix(), assets::copy()),
            icon,
            home: self.link("/").to_string(),
            site: self.site.name.clone(),
            sites: sites.collect(),
            add_site: format!("{}#sites", self.link("/settings")),
            user: self.user.email.split('@').next().unwrap_or_default().to_owned(),
            email: self.user.email.clone(),
            is_test: self.is_test,
            live: here.with("mode", "").to_string(),
            test: here.with("mode", "test").to_string(),
            account: format!("{}#password", self.link("/settings")),
            logout: self.link("/logout").with("mode", "").to_string(),
            tabs: ALL.iter().map(|tab| self.tab(*tab, current, &health, leaks)).collect(),
            health,
        })
    }

    fn tab(&self, tab: Tab, current: Tab, health: &Health, leaks: i64) -> TabLink {
        let count = match tab {
            Tab::Leaks => Count::open(leaks, "payments"),
            Tab::Deliveries => Count::open(health.deliveries_given_up, "failed"),
            Tab::Events => Count::open(health.events_failed, "failed"),
            Tab::Overview
            | Tab::Conversions
            | Tab::Visits
            | Tab::Links
            | Tab::Setup
            | Tab::Settings => None,
        };
        TabLink {
            href: self.link(tab.path()).to_string(),
            label: tab.label(),
            count,
            is_current: tab == current,
            is_last: tab == Tab::Setup,
        }
    }
}

/// The pages that have a tab.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tab {
    Overview,
    Conversions,
    Leaks,
    Visits,
    Deliveries,
    Events,
    Links,
    Setup,
    Settings,
}

const ALL: [Tab; 9] = [
    Tab::Overview,
    Tab::Conversions,
    Tab::Leaks,
    Tab::Visits,
    Tab::Deliveries,
    Tab::Events,
    Tab::Links,
    Tab::Setup,
    Tab::Settings,
];

impl Tab {
    fn path(self) -> &'static str {
        match self {
            Self::Overview => "/",
            Self::Conversions => "/conversions",
            Self::Leaks => "/leaks",
            Self::Visits => "/visits",
            Self::Deliveries => "/deliveries",
            Self::Events => "/events",
            Self::Links => "/links",
            Self::Setup => "/setup",
            Self::Settings => "/settings",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Conversions => "Conversions",
            Self::Leaks => "Leaks",
            Self::Visits => "Visits",
            Self::Deliveries => "Deliveries",
            Self::Events => "Stripe events",
            Self::Links => "Links",
            Self::Setup => "Setup",
            Self::Settings => "Settings",
        }
    }
}

/// What `framed.html` shows.
pub(super) struct Frame {
    pub(super) css: String,
    pub(super) copy: String,
    pub(super) icon: String,
    pub(super) home: String,
    pub(super) site: String,
    /// All sites; empty if there is only one.
    pub(super) sites: Vec<Choice>,
    /// Link to the form that adds a site.
    pub(super) add_site: String,
    /// The part of the email before the `@`, short enough for a phone.
    pub(super) user: String,
    pub(super) email: String,
    pub(super) is_test: bool,
    pub(super) live: String,
    pub(super) test: String,
    pub(super) account: String,
    pub(super) logout: String,
    pub(super) tabs: Vec<TabLink>,
    /// Loaded for the tabs; pages that show it do not load it again.
    pub(super) health: Health,
}

/// One tab.
pub(super) struct TabLink {
    pub(super) href: String,
    pub(super) label: &'static str,
    pub(super) count: Option<Count>,
    pub(super) is_current: bool,
    /// Whether it is the first of the tabs at the right end.
    pub(super) is_last: bool,
}

/// The number beside a tab's label.
pub(super) struct Count {
    pub(super) text: String,
    /// What the number counts, for screen readers.
    pub(super) of: &'static str,
}

impl Count {
    fn open(count: i64, of: &'static str) -> Option<Self> {
        (count > 0).then(|| Self { text: numbers::count(count), of })
    }
}
