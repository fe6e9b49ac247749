//! SQL of the settings: `settings`, `sites`, `sources`, `destinations`, `api_tokens`.
//! In: records. Out: rows, and records again. Private to this room.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use super::{
    Consent, Destination, DestinationKind, DestinationOptions, Door, Link, LinkDraft,
    NewDestination, OldToken, Revision, SigningSecret, Site, Snapshot, Source, SourceKind,
    SourceMode, TagSettings,
};
use crate::clock::Timestamp;
use crate::config::Secret;
use crate::ids;
use crate::money::Currency;
use crate::store::Store;

pub(super) async fn load(store: &Store) -> Result<Snapshot> {
    let sites = sqlx::query(
        "select id, number, key, name, timezone, currency, domains, consent, auto_stamp, payment_hosts, linked_domains,
                capture_anytrack, yield_to_anytrack
           from sites
          order by number",
    );
    let sources = sqlx::query(
        "select id, key, site_id, kind, secrets, metadata_key, from_environment, record_bare_payment_intents, account, mode,
                api_key, secrets_changed_at_ms, never_to
           from sources
          order by created_at_ms, id",
    );
    let destinations = sqlx::query(
        "select id, key, site_id, kind, name, url, enabled, accepts_test, options, revision, from_environment, secrets,
                created_at_ms
           from destinations
          where deleted_at_ms is null
          order by created_at_ms, id",
    );
    let links = sqlx::query(
        "select id, alias, site_id, name, target, is_paused
           from links
          order by created_at_ms desc, id desc",
    );
    let read = |rows: Vec<AnyRow>| rows.into_iter();
    Ok(Snapshot {
        sites: read(sites.fetch_all(store.pool()).await?)
            .map(|row| site(&row))
            .collect::<Result<_>>()?,
        sources: read(sources.fetch_all(store.pool()).await?)
            .map(|row| source(&row))
            .collect::<Result<_>>()?,
        destinations: read(destinations.fetch_all(store.pool()).await?)
            .map(|row| destination(&row).map(Arc::new))
            .collect::<Result<_>>()?,
        links: read(links.fetch_all(store.pool()).await?)
            .map(|row| link(&row))
            .collect::<Result<_>>()?,
        doors: doors(store).await?,
    })
}

fn link(row: &AnyRow) -> Result<Link> {
    Ok(Link {
        id: row.try_get("id")?,
        alias: row.try_get("alias")?,
        site_id: row.try_get("site_id")?,
        name: row.try_get("name")?,
        target: row.try_get("target")?,
        is_paused: row.try_get::<i64, _>("is_paused")? == 1,
    })
}

fn site(row: &AnyRow) -> Result<Site> {
    let currency: String = row.try_get("currency")?;
    let lines = |column: &str| -> Result<Vec<String>> {
        let text: String = row.try_get(column)?;
        Ok(text.lines().map(str::to_owned).collect())
    };
    let is_set = |column: &str| -> Result<bool> { Ok(row.try_get::<i64, _>(column)? == 1) };
    let consent: String = row.try_get("consent")?;
    Ok(Site {
        id: row.try_get("id")?,
        number: row.try_get("number")?,
        key: row.try_get("key")?,
        name: row.try_get("name")?,
        timezone: row.try_get("timezone")?,
        currency: Currency::parse(&currency).context("a site's currency is not a code")?,
        domains: lines("domains")?,
        tag: TagSettings {
            consent: Consent::parse(&consent).context("a site's way of asking for consent")?,
            auto_stamp: is_set("auto_stamp")?,
            payment_hosts: lines("payment_hosts")?,
            linked_domains: lines("linked_domains")?,
            capture_anytrack: is_set("capture_anytrack")?,
            yield_to_anytrack: is_set("yield_to_anytrack")?,
        },
    })
}

fn source(row: &AnyRow) -> Result<Source> {
    let kind: String = row.try_get("kind")?;
    let mode: String = row.try_get("mode")?;
    let secrets: String = row.try_get("secrets")?;
    let api_key: String = row.try_get("api_key")?;
    Ok(Source {
        id: row.try_get("id")?,
        key: row.try_get("key")?,
        site_id: row.try_get("site_id")?,
        kind: SourceKind::parse(&kind).context("a source's kind")?,
        secrets: secrets.split(',').filter(|text| !text.is_empty()).map(Secret::new).collect(),
        metadata_key: row.try_get("metadata_key")?,
        from_environment: row.try_get::<i64, _>("from_environment")? == 1,
        record_bare_payment_intents: row.try_get::<i64, _>("record_bare_payment_intents")? == 1,
        account: row.try_get("account")?,
        mode: SourceMode::parse(&mode).unwrap_or(SourceMode::Any),
        api_key: Some(api_key).filter(|text| !text.is_empty()).map(Secret::new),
        secrets_changed_at: Timestamp::from_ms(row.try_get("secrets_changed_at_ms")?),
        never_to: row
            .try_get::<String, _>("never_to")?
            .split(',')
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}

fn destination(row: &AnyRow) -> Result<Destination> {
    let (options, url): (String, String) = (row.try_get("options")?, row.try_get("url")?);
    let (kind, secrets): (String, String) = (row.try_get("kind")?, row.try_get("secrets")?);
    Ok(Destination {
        id: row.try_get("id")?,
        key: row.try_get("key")?,
        site_id: row.try_get("site_id")?,
        kind: DestinationKind::of(&kind).context("a destination's kind")?,
        secrets: signing_secrets(&secrets),
        name: row.try_get("name")?,
        url: Secret::new(url),
        enabled: row.try_get::<i64, _>("enabled")? == 1,
        accepts_test: row.try_get::<i64, _>("accepts_test")? == 1,
        options: serde_json::from_str::<DestinationOptions>(&options)
            .context("a destination's options")?,
        revision: row.try_get("revision")?,
        from_environment: row.try_get::<i64, _>("from_environment")? == 1,
        created_at: Timestamp::from_ms(row.try_get("created_at_ms")?),
    })
}

pub(super) async fn has_api_token(store: &Store, token_hash: &str) -> Result<bool> {
    let found = sqlx::query("select id from api_tokens where token_hash = $1")
        .bind(token_hash)
        .fetch_optional(store.pool())
        .await
        .context("could not look up an API token")?;
    Ok(found.is_some())
}

pub(super) async fn get_or_set(tx: &mut AnyConnection, name: &str, value: &str) -> Result<String> {
    sqlx::query("insert into settings (name, value) values ($1, $2) on conflict (name) do nothing")
        .bind(name)
        .bind(value)
        .execute(&mut *tx)
        .await?;
    let row =
        sqlx::query("select value from settings where name = $1").bind(name).fetch_one(tx).await?;
    Ok(row.try_get(0)?)
}

pub(super) async fn value(store: &Store, name: &str) -> Result<Option<String>> {
    let row = sqlx::query("select value from settings where name = $1")
        .bind(name)
        .fetch_optional(store.pool())
        .await
        .context("could not read a setting")?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Raises a number that only grows; false when it is there already, or somebody else was faster.
pub(super) async fn raise(store: &Store, name: &str, value: i64) -> Result<bool> {
    let known = self::value(store, name).await?.and_then(|text| text.parse::<i64>().ok());
    if known.is_some_and(|known| known >= value) {
        return Ok(false); // Asked often, so it must not cost a transaction.
    }
    let mut tx = store.begin().await?;
    let raised = sqlx::query(
        "insert into settings (name, value) values ($1, $2)
             on conflict (name) do update set value = excluded.value
          where cast(settings.value as bigint) < cast(excluded.value as bigint)",
    )
    .bind(name)
    .bind(value.to_string())
    .execute(&mut *tx)
    .await
    .context("could not claim what is done once a day")?;
    tx.commit().await?;
    Ok(raised.rows_affected() == 1)
}

/// The ID of the first site, created when there is none.
pub(super) async fn ensure_first_site(tx: &mut AnyConnection, now: Timestamp) -> Result<String> {
    sqlx::query(
        "insert into sites (id, number, key, name, timezone, currency, domains, created_at_ms)
         values ($1, 1, 'main', 'My site', 'UTC', 'USD', '', $2)
             on conflict do nothing",
    )
    .bind(ids::new_record_id("site_", now))
    .bind(now.as_ms())
    .execute(&mut *tx)
    .await?;
    let row = sqlx::query("select id from sites where number = 1").fetch_one(tx).await?;
    Ok(row.try_get(0)?)
}

pub(super) async fn ensure_source(
    tx: &mut AnyConnection,
    now: Timestamp,
    site_id: &str,
    key: &str,
    kind: SourceKind,
) -> Result<()> {
    sqlx::query(
        "insert into sources (id, key, site_id, kind, secrets, metadata_key, from_environment, created_at_ms)
         values ($1, $2, $3, $4, '', 'click_id', 0, $5)
             on conflict do nothing",
    )
    .bind(ids::new_record_id("src_", now))
    .bind(key)
    .bind(site_id)
    .bind(kind.word())
    .bind(now.as_ms())
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn set_secrets(
    tx: &mut AnyConnection,
    now: Timestamp,
    key: &str,
    secrets: &[Secret],
    from_environment: bool,
) -> Result<()> {
    let joined = secrets.iter().map(Secret::expose).collect::<Vec<_>>().join(",");
    sqlx::query(
        "update sources
            set secrets_changed_at_ms = case when secrets = $1 then secrets_changed_at_ms else $4 end,
                secrets = $1, from_environment = $2
          where key = $3",
    )
    .bind(joined)
    .bind(i64::from(from_environment))
    .bind(key)
    .bind(now.as_ms())
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn update_source(tx: &mut AnyConnection, source: &Source) -> Result<()> {
    sqlx::query(
        "update sources
            set site_id = $1, metadata_key = $2, mode = $3, account = $4, record_bare_payment_intents = $5
          where id = $6",
    )
    .bind(&source.site_id)
    .bind(&source.metadata_key)
    .bind(source.mode.word())
    .bind(&source.account)
    .bind(i64::from(source.record_bare_payment_intents))
    .bind(&source.id)
    .execute(tx)
    .await
    .context("could not save a source")?;
    Ok(())
}

pub(super) async fn set_api_key(
    tx: &mut AnyConnection,
    source_id: &str,
    key: Option<&Secret>,
) -> Result<()> {
    sqlx::query("update sources set api_key = $1 where id = $2")
        .bind(key.map_or("", Secret::expose))
        .bind(source_id)
        .execute(tx)
        .await
        .context("could not save an API key")?;
    Ok(())
}

/// The environment no longer sets this source's secrets: they stay, and the dashboard may change them.
pub(super) async fn release_from_environment(tx: &mut AnyConnection, key: &str) -> Result<()> {
    sqlx::query("update sources set from_environment = 0 where key = $1")
        .bind(key)
        .execute(tx)
        .await?;
    Ok(())
}

/// The environment no longer sets the AnyTrack URL: it stays, and the dashboard may change it.
pub(super) async fn release_anytrack_from_environment(tx: &mut AnyConnection) -> Result<()> {
    sqlx::query("update destinations set from_environment = 0 where from_environment = 1")
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn set_anytrack(
    tx: &mut AnyConnection,
    now: Timestamp,
    site_id: &str,
    url: &Secret,
    from_environment: bool,
) -> Result<()> {
    sqlx::query(
        "insert into destinations (id, key, site_id, kind, name, url, enabled, accepts_test, options, revision,
                                   from_environment, created_at_ms)
         select $1, case when s.number = 1 then 'anytrack' else 'anytrack-' || s.key end, s.id, 'anytrack', 'AnyTrack', $3,
                1, 0, '{}', 1, $4, $5
           from sites s
          where s.id = $2
             on conflict (key) do update
            set url = excluded.url, from_environment = excluded.from_environment, deleted_at_ms = null,
                enabled = case when destinations.deleted_at_ms is null then destinations.enabled else 1 end",
    )
    .bind(ids::new_record_id("dst_", now))
    .bind(site_id)
    .bind(url.expose())
    .bind(i64::from(from_environment))
    .bind(now.as_ms())
    .execute(tx)
    .await?;
    Ok(())
}

/// The ID of a new site with the next number; `None` when its key is taken.
pub(super) async fn insert_site(
    tx: &mut AnyConnection,
    now: Timestamp,
    key: &str,
    name: &str,
    like: &Site,
) -> Result<Option<String>> {
    let id = ids::new_record_id("site_", now);
    let inserted = sqlx::query(
        "insert into sites (id, number, key, name, timezone, currency, domains, created_at_ms)
         select $1, (select max(number) + 1 from sites), $2, $3, $4, $5, '', $6
          where true
             on conflict do nothing",
    )
    .bind(&id)
    .bind(key)
    .bind(name)
    .bind(&like.timezone)
    .bind(like.currency.code())
    .bind(now.as_ms())
    .execute(tx)
    .await?;
    Ok((inserted.rows_affected() == 1).then_some(id))
}

/// `whsec_…`, or `whsec_…@1790000000000` for one that signs until then.
fn signing_secrets(text: &str) -> Vec<SigningSecret> {
    let secrets = text.split(',').filter(|text| !text.is_empty());
    secrets
        .map(|text| match text.split_once('@') {
            Some((secret, until)) => SigningSecret {
                secret: Secret::new(secret),
                until: Some(Timestamp::from_ms(until.parse().unwrap_or(0))),
            },
            None => SigningSecret { secret: Secret::new(text), until: None },
        })
        .collect()
}

pub(super) async fn set_signing_secrets(
    tx: &mut AnyConnection,
    id: &str,
    secrets: &[SigningSecret],
) -> Result<()> {
    let text = |found: &SigningSecret| match found.until {
        Some(until) => format!("{}@{}", found.secret.expose(), until.as_ms()),
        None => found.secret.expose().to_owned(),
    };
    sqlx::query("update destinations set secrets = $1 where id = $2")
        .bind(secrets.iter().map(text).collect::<Vec<_>>().join(","))
        .bind(id)
        .execute(tx)
        .await?;
    Ok(())
}

/// False when the key is taken.
pub(super) async fn insert_destination(
    tx: &mut AnyConnection,
    now: Timestamp,
    id: &str,
    key: &str,
    new: &NewDestination<'_>,
) -> Result<bool> {
    let inserted = sqlx::query(
        "insert into destinations (id, key, site_id, kind, name, url, enabled, accepts_test, options, revision,
                                   from_environment, created_at_ms, secrets)
         values ($1, $2, $3, $4, $5, $6, 1, 0, $7, 1, 0, $8, $9)
             on conflict (key) do nothing",
    )
    .bind(id)
    .bind(key)
    .bind(new.site_id)
    .bind(new.kind.word())
    .bind(new.name)
    .bind(new.url.expose())
    .bind(serde_json::to_string(new.options).context("options serialise")?)
    .bind(now.as_ms())
    .bind(new.secret.map_or("", Secret::expose))
    .execute(tx)
    .await
    .context("could not add a destination")?;
    Ok(inserted.rows_affected() == 1)
}

/// Answers the new revision.
pub(super) async fn update_destination(
    tx: &mut AnyConnection,
    destination: &Destination,
) -> Result<i64> {
    let row = sqlx::query(
        "update destinations
            set name = $1, url = $2, accepts_test = $3, options = $4, revision = revision + 1
          where id = $5
         returning revision",
    )
    .bind(&destination.name)
    .bind(destination.url.expose())
    .bind(i64::from(destination.accepts_test))
    .bind(serde_json::to_string(&destination.options).context("options serialise")?)
    .bind(&destination.id)
    .fetch_one(tx)
    .await
    .context("could not save a destination")?;
    Ok(row.try_get(0)?)
}

pub(super) async fn insert_revision(
    tx: &mut AnyConnection,
    now: Timestamp,
    destination_id: &str,
    revision: i64,
    options: &DestinationOptions,
    by: &str,
) -> Result<()> {
    sqlx::query(
        "insert into destination_revisions (destination_id, revision, options, saved_at_ms, saved_by)
         values ($1, $2, $3, $4, $5)
             on conflict (destination_id, revision) do nothing",
    )
    .bind(destination_id)
    .bind(revision)
    .bind(serde_json::to_string(options).context("options serialise")?)
    .bind(now.as_ms())
    .bind(by)
    .execute(tx)
    .await
    .context("could not note a revision")?;
    Ok(())
}

pub(super) async fn revisions(store: &Store, destination_id: &str) -> Result<Vec<Revision>> {
    let rows = sqlx::query(
        "select revision, options, saved_at_ms, saved_by
           from destination_revisions
          where destination_id = $1
          order by revision desc
          limit 100",
    )
    .bind(destination_id)
    .fetch_all(store.pool())
    .await
    .context("could not list the revisions of a destination")?;
    rows.iter()
        .map(|row| {
            let options: String = row.try_get("options")?;
            Ok(Revision {
                number: row.try_get("revision")?,
                options: serde_json::from_str(&options).context("a revision's options")?,
                saved_at: Timestamp::from_ms(row.try_get("saved_at_ms")?),
                saved_by: row.try_get("saved_by")?,
            })
        })
        .collect()
}

pub(super) async fn set_enabled(tx: &mut AnyConnection, id: &str, enabled: bool) -> Result<()> {
    sqlx::query("update destinations set enabled = $1 where id = $2")
        .bind(i64::from(enabled))
        .bind(id)
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn delete_destination(
    tx: &mut AnyConnection,
    now: Timestamp,
    id: &str,
) -> Result<()> {
    // Its secrets go at once.
    sqlx::query("update destinations set deleted_at_ms = $1, enabled = 0, url = '', secrets = '' where id = $2")
        .bind(now.as_ms())
        .bind(id)
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn update_site(tx: &mut AnyConnection, site: &Site) -> Result<()> {
    sqlx::query(
        "update sites
            set name = $1, timezone = $2, currency = $3, domains = $4, consent = $5, auto_stamp = $6,
                payment_hosts = $7, linked_domains = $8, capture_anytrack = $9, yield_to_anytrack = $10
          where id = $11",
    )
    .bind(&site.name)
    .bind(&site.timezone)
    .bind(site.currency.code())
    .bind(site.domains.join("\n"))
    .bind(site.tag.consent.word())
    .bind(i64::from(site.tag.auto_stamp))
    .bind(site.tag.payment_hosts.join("\n"))
    .bind(site.tag.linked_domains.join("\n"))
    .bind(i64::from(site.tag.capture_anytrack))
    .bind(i64::from(site.tag.yield_to_anytrack))
    .bind(&site.id)
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn insert_link(
    tx: &mut AnyConnection,
    now: Timestamp,
    draft: &LinkDraft,
) -> Result<bool> {
    let done = sqlx::query(
        "insert into links (id, alias, site_id, name, target, is_paused, created_at_ms)
         values ($1, $2, $3, $4, $5, 0, $6)
             on conflict do nothing",
    )
    .bind(ids::new_record_id("lnk_", now))
    .bind(&draft.alias)
    .bind(&draft.site_id)
    .bind(&draft.name)
    .bind(&draft.target)
    .bind(now.as_ms())
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn update_link(tx: &mut AnyConnection, link: &Link) -> Result<()> {
    sqlx::query("update links set name = $1, target = $2, is_paused = $3 where id = $4")
        .bind(&link.name)
        .bind(&link.target)
        .bind(i64::from(link.is_paused))
        .bind(&link.id)
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn delete_link(tx: &mut AnyConnection, id: &str) -> Result<()> {
    sqlx::query("delete from links where id = $1").bind(id).execute(tx).await?;
    Ok(())
}

async fn doors(store: &Store) -> Result<Vec<Door>> {
    let rows = sqlx::query(
        "select id, token, old_token, old_token_until_ms, currency
           from sources
          where kind = 'custom' and token is not null
          order by created_at_ms, id",
    );
    let rows = rows.fetch_all(store.pool()).await?;
    rows.iter()
        .map(|row| {
            let old: Option<String> = row.try_get("old_token")?;
            let until: Option<i64> = row.try_get("old_token_until_ms")?;
            let currency: Option<String> = row.try_get("currency")?;
            Ok(Door {
                source_id: row.try_get("id")?,
                token: Secret::new(row.try_get::<String, _>("token")?),
                old: old.zip(until).map(|(token, until)| OldToken {
                    token: Secret::new(token),
                    until: Timestamp::from_ms(until),
                }),
                currency: currency.as_deref().and_then(Currency::parse),
            })
        })
        .collect()
}

/// Adds a custom source; false when another source has its key.
pub(super) async fn insert_custom_source(
    tx: &mut AnyConnection,
    now: Timestamp,
    site_id: &str,
    key: &str,
    token: &str,
) -> Result<bool> {
    let inserted = sqlx::query(
        "insert into sources (id, key, site_id, kind, secrets, metadata_key, token, from_environment, created_at_ms)
         values ($1, $2, $3, 'custom', '', 'click_id', $4, 0, $5)
             on conflict do nothing",
    )
    .bind(ids::new_record_id("src_", now))
    .bind(key)
    .bind(site_id)
    .bind(token)
    .bind(now.as_ms())
    .execute(tx)
    .await
    .context("could not add a custom source")?;
    Ok(inserted.rows_affected() == 1)
}

/// The custom source that is there from the first start; another key only where a site took `custom` before.
pub(super) async fn ensure_custom_source(
    tx: &mut AnyConnection,
    now: Timestamp,
    site_id: &str,
    token: &str,
) -> Result<()> {
    let known = sqlx::query("select id from sources where kind = 'custom' limit 1");
    if known.fetch_optional(&mut *tx).await?.is_some() {
        return Ok(());
    }
    // Lists are sorted by time, and the first source is Stripe's.
    let after = now.plus(Duration::from_millis(1));
    if !insert_custom_source(tx, after, site_id, "custom", token).await? {
        insert_custom_source(tx, after, site_id, "custom-conversions", token).await?;
    }
    Ok(())
}

/// The present token becomes the old one.
pub(super) async fn rotate_token(
    tx: &mut AnyConnection,
    source_id: &str,
    token: &str,
    old_until: Timestamp,
) -> Result<()> {
    sqlx::query(
        "update sources set old_token = token, old_token_until_ms = $1, token = $2 where id = $3 and kind = 'custom'",
    )
    .bind(old_until.as_ms())
    .bind(token)
    .bind(source_id)
    .execute(tx)
    .await
    .context("could not change a token")?;
    Ok(())
}

pub(super) async fn update_door(
    tx: &mut AnyConnection,
    source_id: &str,
    site_id: &str,
    currency: Option<Currency>,
    never_to: &[String],
) -> Result<()> {
    sqlx::query(
        "update sources set site_id = $1, currency = $2, never_to = $3 where id = $4 and kind = 'custom'",
    )
    .bind(site_id)
    .bind(currency.map(|currency| currency.code().to_owned()))
    .bind(never_to.join(","))
    .bind(source_id)
    .execute(tx)
    .await
    .context("could not save a custom source")?;
    Ok(())
}
