//! SQL of the sources, and of the doors of custom ones.
//! In: records. Out: rows, and records again.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::clock::Timestamp;
use crate::config::Secret;
use crate::ids;
use crate::money::Currency;
use crate::settings::{Door, OldToken, Source, SourceKind, SourceMode};

pub(super) fn read(row: &AnyRow) -> Result<Source> {
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

pub(in crate::settings) async fn ensure_source(
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

pub(in crate::settings) async fn set_secrets(
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

pub(in crate::settings) async fn update_source(
    tx: &mut AnyConnection,
    source: &Source,
) -> Result<()> {
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

pub(in crate::settings) async fn set_api_key(
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
pub(in crate::settings) async fn release_from_environment(
    tx: &mut AnyConnection,
    key: &str,
) -> Result<()> {
    sqlx::query("update sources set from_environment = 0 where key = $1")
        .bind(key)
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn doors(connection: &mut AnyConnection) -> Result<Vec<Door>> {
    let rows = sqlx::query(
        "select id, token, old_token, old_token_until_ms, currency
           from sources
          where kind = 'custom' and token is not null
          order by created_at_ms, id",
    );
    let rows = rows.fetch_all(connection).await?;
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
pub(in crate::settings) async fn insert_custom_source(
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
pub(in crate::settings) async fn ensure_custom_source(
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
pub(in crate::settings) async fn rotate_token(
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

pub(in crate::settings) async fn update_door(
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
