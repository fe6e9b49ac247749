//! SQL of the sources, and of the tokens of postback sources.
//! Takes records; writes their rows, and reads them back.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use crate::clock::Timestamp;
use crate::config::Secret;
use crate::ids;
use crate::money::Currency;
use crate::settings::{OldToken, Postback, Source, SourceKind};
use crate::store::{Row, insert_into, sql};

pub(super) fn read(row: &Row) -> Result<Source> {
    let secrets: String = row.get("secrets")?;
    let api_key: String = row.get("api_key")?;
    Ok(Source {
        id: row.get("id")?,
        key: row.get("key")?,
        site_id: row.get("site_id")?,
        kind: row.get("kind")?,
        secrets: secrets.split(',').filter(|text| !text.is_empty()).map(Secret::new).collect(),
        metadata_key: row.get("metadata_key")?,
        from_environment: row.get::<bool>("from_environment")?,
        record_bare_payment_intents: row.get::<bool>("record_bare_payment_intents")?,
        account: row.get("account")?,
        mode: row.get("mode")?,
        api_key: Some(api_key).filter(|text| !text.is_empty()).map(Secret::new),
        secrets_changed_at: row.get("secrets_changed_at_ms")?,
        never_to: row
            .get::<String>("never_to")?
            .split(',')
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}

pub(in crate::settings) async fn ensure_source(
    tx: &mut AnyConnection,
    now: Timestamp,
    site_id: &str,
    key: &str,
    kind: SourceKind,
) -> Result<()> {
    insert_into("sources")
        .set("id", ids::new_record_id("src_", now))
        .set("key", key)
        .set("site_id", site_id)
        .set("kind", kind)
        .set("secrets", "")
        .set("metadata_key", "click_id")
        .set("from_environment", 0)
        .set("created_at_ms", now)
        .or_ignore()
        .execute(tx)
        .await?;
    Ok(())
}

pub(in crate::settings) async fn set_secrets(
    tx: &mut AnyConnection,
    now: Timestamp,
    key: &str,
    secrets: &[Secret],
    from_environment: bool,
) -> Result<()> {
    let joined = secrets.iter().map(Secret::expose).collect::<Vec<_>>().join(",");
    sql("update sources
            set secrets_changed_at_ms = case when secrets = :joined then secrets_changed_at_ms else :now end,
                secrets = :joined, from_environment = :from_environment
          where key = :key")
    .set("joined", joined)
    .set("from_environment", from_environment)
    .set("key", key)
    .set("now", now)
    .execute(tx)
    .await?;
    Ok(())
}

pub(in crate::settings) async fn update_source(
    tx: &mut AnyConnection,
    source: &Source,
) -> Result<()> {
    sql("update sources
            set site_id = :site_id, metadata_key = :metadata_key, mode = :mode, account = :account, record_bare_payment_intents = :record_bare_payment_intents
          where id = :id")
    .set("site_id", &source.site_id)
    .set("metadata_key", &source.metadata_key)
    .set("mode", source.mode)
    .set("account", &source.account)
    .set("record_bare_payment_intents", source.record_bare_payment_intents)
    .set("id", &source.id)
    .execute(tx)
    .await
    .context("could not save a source")?;
    Ok(())
}

pub(in crate::settings) async fn set_api_key(
    tx: &mut AnyConnection,
    source_id: &str,
    key: Option<&Secret>,
) -> Result<()> {
    sql("update sources set api_key = :api_key where id = :source_id")
        .set("api_key", key.map_or("", Secret::expose))
        .set("source_id", source_id)
        .execute(tx)
        .await
        .context("could not save an API key")?;
    Ok(())
}

/// Records that the environment no longer sets this source's secrets: they stay, and the dashboard
/// may change them.
pub(in crate::settings) async fn release_from_environment(
    tx: &mut AnyConnection,
    key: &str,
) -> Result<()> {
    sql("update sources set from_environment = 0 where key = :key")
        .set("key", key)
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn postbacks(connection: &mut AnyConnection) -> Result<Vec<Postback>> {
    let rows = sql("select id, token, old_token, old_token_until_ms, currency
           from sources
          where kind = 'custom' and token is not null
          order by created_at_ms, id");
    let rows = rows.fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let old: Option<String> = row.get("old_token")?;
            let until: Option<i64> = row.get("old_token_until_ms")?;
            let currency: Option<String> = row.get("currency")?;
            Ok(Postback {
                source_id: row.get("id")?,
                token: Secret::new(row.get::<String>("token")?),
                old: old.zip(until).map(|(token, until)| OldToken {
                    token: Secret::new(token),
                    until: Timestamp::from_ms(until),
                }),
                currency: currency.as_deref().and_then(Currency::parse),
            })
        })
        .collect()
}

/// Adds a postback source; returns false if another source has its key.
pub(in crate::settings) async fn insert_custom_source(
    tx: &mut AnyConnection,
    now: Timestamp,
    site_id: &str,
    key: &str,
    token: &str,
) -> Result<bool> {
    let inserted = insert_into("sources")
        .set("id", ids::new_record_id("src_", now))
        .set("key", key)
        .set("site_id", site_id)
        .set("kind", "custom")
        .set("secrets", "")
        .set("metadata_key", "click_id")
        .set("token", token)
        .set("from_environment", 0)
        .set("created_at_ms", now)
        .or_ignore()
        .execute(tx)
        .await
        .context("could not add a postback source")?;
    Ok(inserted.rows_affected() == 1)
}

/// Ensures the postback source of the first start; it has another key only if a site used `custom`
/// before.
pub(in crate::settings) async fn ensure_custom_source(
    tx: &mut AnyConnection,
    now: Timestamp,
    site_id: &str,
    token: &str,
) -> Result<()> {
    let known = sql("select id from sources where kind = 'custom' limit 1");
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

/// Makes the current token the old one, and sets a new one.
pub(in crate::settings) async fn rotate_token(
    tx: &mut AnyConnection,
    source_id: &str,
    token: &str,
    old_until: Timestamp,
) -> Result<()> {
    sql("update sources set old_token = token, old_token_until_ms = :old_until, token = :token where id = :source_id and kind = 'custom'")
    .set("old_until", old_until)
    .set("token", token)
    .set("source_id", source_id)
    .execute(tx)
    .await
    .context("could not change a token")?;
    Ok(())
}

pub(in crate::settings) async fn update_postback(
    tx: &mut AnyConnection,
    source_id: &str,
    site_id: &str,
    currency: Option<Currency>,
    never_to: &[String],
) -> Result<()> {
    sql("update sources set site_id = :site_id, currency = :currency, never_to = :never_to where id = :source_id and kind = 'custom'")
    .set("site_id", site_id)
    .set("currency", currency.map(|currency| currency.code().to_owned()))
    .set("never_to", never_to.join(","))
    .set("source_id", source_id)
    .execute(tx)
    .await
    .context("could not save a postback source")?;
    Ok(())
}
