//! The settings: sites, sources, destinations.
//! Takes records of `settings`; returns JSON in which secrets are counted or masked.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Rate, site_key, time};
use crate::report::{DestinationTotals, Share};
use crate::settings::{self, Snapshot};

/// One site.
#[derive(Serialize, ToSchema)]
pub(crate) struct Site {
    /// Part of its tag's URL.
    key: String,
    /// The name that users see.
    name: String,
    /// IANA name.
    timezone: String,
    /// The currency that charts show first.
    currency: String,
    /// Host names of its pages; empty accepts all.
    domains: Vec<String>,
    /// Whether visitors must give consent first, and who asks them.
    consent: settings::Consent,
    /// True if payment links without a reference get one.
    auto_stamp: bool,
    /// Hosts of payment links in addition to Stripe's own.
    payment_hosts: Vec<String>,
    /// Other domains whose links get the click ID.
    linked_domains: Vec<String>,
}

impl Site {
    pub(crate) fn new(found: &settings::Site) -> Self {
        Self {
            key: found.key.clone(),
            name: found.name.clone(),
            timezone: found.timezone.clone(),
            currency: found.currency.code().to_owned(),
            domains: found.domains.clone(),
            consent: found.tag.consent,
            auto_stamp: found.tag.auto_stamp,
            payment_hosts: found.tag.payment_hosts.clone(),
            linked_domains: found.tag.linked_domains.clone(),
        }
    }
}

/// One redirect link.
#[derive(Serialize, ToSchema)]
pub(crate) struct Link {
    /// `lnk_…`.
    id: String,
    /// The last part of its URL: `/p/{alias}`.
    alias: String,
    /// The site's key.
    site: String,
    /// The name that users see.
    name: String,
    /// The payment link that it redirects to.
    target: String,
    /// True while it redirects nowhere.
    paused: bool,
}

impl Link {
    pub(crate) fn new(found: &settings::Link, settings: &Snapshot) -> Self {
        Self {
            id: found.id.clone(),
            alias: found.alias.clone(),
            site: site_key(settings, found.site_id.clone()),
            name: found.name.clone(),
            target: found.target.clone(),
            paused: found.is_paused,
        }
    }
}

/// One source.
#[derive(Serialize, ToSchema)]
pub(crate) struct Source {
    /// Its short name; part of the URL of a Stripe webhook.
    key: String,
    /// The site's key.
    site: String,
    /// Where payments come from.
    kind: settings::SourceKind,
    /// The key in Stripe's metadata that may contain a click ID.
    metadata_key: String,
    /// The number of its signing secrets, which are never shown.
    secrets: usize,
    /// True if it has its own API key, entered in the dashboard.
    has_api_key: bool,
    /// The mode that its endpoint was created for.
    mode: settings::SourceMode,
    /// Its own `acct_…`, if a user set it.
    account: Option<String>,
    /// True if payment intents without a checkout count too.
    record_bare_payment_intents: bool,
    /// For a postback source: part of its URL, `/webhooks/custom/{token}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// For a postback source: the currency of amounts without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<String>,
}

impl Source {
    pub(crate) fn new(found: &settings::Source, settings: &Snapshot) -> Self {
        let postback = settings.postback(&found.id);
        Self {
            key: found.key.clone(),
            site: site_key(settings, found.site_id.clone()),
            kind: found.kind,
            metadata_key: found.metadata_key.clone(),
            secrets: found.secrets.len(),
            has_api_key: found.api_key.is_some(),
            mode: found.mode,
            account: Some(found.account.clone()).filter(|account| !account.is_empty()),
            record_bare_payment_intents: found.record_bare_payment_intents,
            token: postback.map(|postback| postback.token.expose().to_owned()),
            currency: postback.map(|_| settings.currency_of(found).code().to_owned()),
        }
    }
}

/// One destination.
#[derive(Serialize, ToSchema)]
pub(crate) struct Destination {
    /// Its short name.
    key: String,
    /// The site's key.
    site: String,
    /// What builds its messages.
    kind: settings::DestinationKind,
    /// The name that users see.
    name: String,
    /// Where to send, masked.
    #[schema(example = "https://t1.anytrack.io/…k7Qe")]
    url: String,
    /// If false, its messages wait in the queue.
    enabled: bool,
    /// If true, test-mode conversions are sent too.
    accepts_test: bool,
    /// Keys of the sites whose conversions it receives.
    sites: Vec<String>,
    /// Events to send: purchase, renewal, trial, lead, custom, refund, dispute.
    kinds: Vec<&'static str>,
    #[serde(flatten)]
    limits: settings::Limits,
    #[serde(flatten)]
    sending: settings::Sending,
    /// Accepted deliveries of all that ended; null if none has.
    success_rate: Option<Rate>,
    /// Pending deliveries, without those paused by a disabled destination.
    pending: i64,
    /// When the oldest of them was queued; null if there are none.
    oldest_pending_at: Option<String>,
}

impl Destination {
    pub(crate) fn new(
        found: &settings::Destination,
        sums: &DestinationTotals,
        settings: &Snapshot,
    ) -> Self {
        let (ended, options) = (sums.accepted + sums.given_up, &found.options);
        Self {
            key: found.key.clone(),
            site: site_key(settings, found.site_id.clone()),
            kind: found.kind,
            name: found.name.clone(),
            url: settings::mask_url(&found.url),
            enabled: found.enabled,
            accepts_test: found.accepts_test,
            sites: match options.events.sites.is_empty() {
                true => vec![site_key(settings, found.site_id.clone())],
                false => options.events.sites.clone(),
            },
            kinds: options.events.kinds(),
            limits: options.limits.clone(),
            sending: options.sending.clone(),
            success_rate: Rate::of(Share { part: sums.accepted, whole: ended }),
            pending: sums.pending,
            oldest_pending_at: sums.oldest_pending_at.map(time),
        }
    }
}
