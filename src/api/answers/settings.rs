//! What the owner configured: sites, sources, destinations.
//! In: records of `settings`. Out: JSON; secrets are counted or masked.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Rate, site_key, time};
use crate::report::{DestinationTotals, Share};
use crate::settings::{self, Snapshot};

/// One site.
#[derive(Serialize, ToSchema)]
pub(crate) struct Site {
    /// Stands in the URL of its tag.
    key: String,
    /// What people call it.
    name: String,
    /// IANA name.
    timezone: String,
    /// The currency that charts show first.
    currency: String,
    /// Host names of its pages; empty accepts all.
    domains: Vec<String>,
    /// off, required, google, tcf.
    consent: &'static str,
    /// Payment links without a reference get one.
    auto_stamp: bool,
    /// Hosts of payment links beside Stripe's own.
    payment_hosts: Vec<String>,
    /// Domains that the click ID is handed over to.
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
            consent: found.tag.consent.word(),
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
    /// The end of its address: `/p/{alias}`.
    alias: String,
    /// The site's key.
    site: String,
    /// What its owner calls it.
    name: String,
    /// The payment link it leads to.
    target: String,
    /// True while it leads nowhere.
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
    /// Its short name; stands in the URL of a Stripe webhook.
    key: String,
    /// The site's key.
    site: String,
    /// stripe, custom.
    kind: &'static str,
    /// Key of Stripe's metadata that may hold a click ID.
    metadata_key: String,
    /// How many signing secrets it has; the secrets themselves are never shown.
    secrets: usize,
    /// True when it has an API key of its own, entered in the dashboard.
    has_api_key: bool,
    /// What its endpoint was made for: live, test, any.
    mode: &'static str,
    /// Its own `acct_…`, where the owner told it.
    account: Option<String>,
    /// Payment intents without a checkout count too.
    record_bare_payment_intents: bool,
    /// Of a custom source: stands in its URL, `/webhooks/custom/{token}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// Of a custom source: what an amount without a currency is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<String>,
}

impl Source {
    pub(crate) fn new(found: &settings::Source, settings: &Snapshot) -> Self {
        let door = settings.door(&found.id);
        Self {
            key: found.key.clone(),
            site: site_key(settings, found.site_id.clone()),
            kind: found.kind.word(),
            metadata_key: found.metadata_key.clone(),
            secrets: found.secrets.len(),
            has_api_key: found.api_key.is_some(),
            mode: found.mode.word(),
            account: Some(found.account.clone()).filter(|account| !account.is_empty()),
            record_bare_payment_intents: found.record_bare_payment_intents,
            token: door.map(|door| door.token.expose().to_owned()),
            currency: door.map(|_| settings.currency_of(found).code().to_owned()),
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
    /// anytrack, webhook.
    kind: &'static str,
    /// What people call it.
    name: String,
    /// Where to send, masked.
    #[schema(example = "https://t1.anytrack.io/…k7Qe")]
    url: String,
    /// False holds everything owed to it.
    enabled: bool,
    /// True sends test-mode conversions too.
    accepts_test: bool,
    /// Conversions that are no news any more after so many days are not told by themselves; null tells all.
    max_age_days: Option<u32>,
    /// What was not accepted so many days after it was news is given up; null never is.
    expires_days: Option<u32>,
    /// Keys of the sites whose conversions it is told of.
    sites: Vec<String>,
    /// What it is told of: purchase, renewal, trial, lead, custom, refund, dispute.
    kinds: Vec<&'static str>,
    /// Payments of less are not told, in whatever currency they have; null tells all.
    minimum_value: Option<String>,
    /// True sends payments without a known visit too.
    sends_unmatched: bool,
    /// Of visitors whose browser asked for privacy: send, without_personal, skip.
    gpc: &'static str,
    /// Of visitors who are not known to have agreed: send, without_personal, skip.
    consent: &'static str,
    /// Accepted of all that ended; null when nothing has.
    success_rate: Option<Rate>,
    /// Deliveries that are still owed; those held by a disabled destination are not among them.
    owed: i64,
    /// Since when the oldest of them waits; null when none does.
    oldest_owed_at: Option<String>,
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
            kind: found.kind.word(),
            name: found.name.clone(),
            url: settings::mask_url(&found.url),
            enabled: found.enabled,
            accepts_test: found.accepts_test,
            max_age_days: options.max_age_days,
            expires_days: options.expires_days,
            sites: match options.sites.is_empty() {
                true => vec![site_key(settings, found.site_id.clone())],
                false => options.sites.clone(),
            },
            kinds: options.kinds(),
            minimum_value: options.minimum_value.clone(),
            sends_unmatched: options.sends_unmatched,
            gpc: options.gpc.word(),
            consent: options.consent.word(),
            success_rate: Rate::of(Share { part: sums.accepted, whole: ended }),
            owed: sums.owed,
            oldest_owed_at: sums.oldest_owed_at.map(time),
        }
    }
}
