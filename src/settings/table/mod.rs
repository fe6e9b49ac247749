//! SQL of the settings: `settings`, `sites`, `sources`, `destinations`.
//! Takes records; writes their rows, and reads them back. Private to this module.

mod destination;
mod link;
mod site;
mod source;

use std::sync::Arc;

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use super::Snapshot;
use crate::store::{Row, Store, insert_into, sql};

pub(super) use destination::{
    delete_destination, deleted, insert_destination, insert_revision, is_deleted,
    release_anytrack_from_environment, revisions, set_anytrack, set_enabled, set_signing_secrets,
    update_destination,
};
pub(super) use link::{delete_link, insert_link, update_link};
pub(super) use site::{ensure_first_site, insert_site, update_site};
pub(super) use source::{
    ensure_custom_source, ensure_source, insert_custom_source, release_from_environment,
    rotate_token, set_api_key, set_secrets, update_postback, update_source,
};

/// The revision of the settings in the database.
pub(super) async fn revision(connection: &mut AnyConnection) -> Result<i64> {
    let row = sql("select revision from settings_revision where id = 1");
    let row = row.fetch_one(connection).await.context("could not read the settings' revision")?;
    Ok(row.get(0)?)
}

/// Marks the settings as changed by this transaction.
pub(super) async fn raise_revision(tx: &mut AnyConnection) -> Result<()> {
    let raised = sql("update settings_revision set revision = revision + 1 where id = 1");
    raised.execute(tx).await.context("could not raise the settings' revision")?;
    Ok(())
}

/// Reads all records. The connection must be in a transaction that sees them as of one moment.
pub(super) async fn load(connection: &mut AnyConnection) -> Result<Snapshot> {
    let revision = revision(connection).await?;
    let sites = sql("select id, number, key, name, timezone, currency, domains, consent, is_consent_chosen, auto_stamp, payment_hosts, linked_domains,
                capture_anytrack, yield_to_anytrack
           from sites
          order by number");
    let sources = sql("select id, key, site_id, kind, secrets, metadata_key, from_environment, record_bare_payment_intents, account, mode,
                api_key, secrets_changed_at_ms, never_to
           from sources
          order by created_at_ms, id");
    let destinations = sql("select id, key, site_id, kind, name, url, enabled, accepts_test, options, revision, from_environment, secrets,
                created_at_ms
           from destinations
          where deleted_at_ms is null
          order by created_at_ms, id");
    let links = sql("select id, alias, site_id, name, target, is_paused
           from links
          order by created_at_ms desc, id desc");
    let read = |rows: Vec<Row>| rows.into_iter();
    Ok(Snapshot {
        revision,
        sites: read(sites.fetch_all(&mut *connection).await?)
            .map(|row| site::read(&row))
            .collect::<Result<_>>()?,
        sources: read(sources.fetch_all(&mut *connection).await?)
            .map(|row| source::read(&row))
            .collect::<Result<_>>()?,
        destinations: read(destinations.fetch_all(&mut *connection).await?)
            .map(|row| destination::read(&row).map(Arc::new))
            .collect::<Result<_>>()?,
        links: read(links.fetch_all(&mut *connection).await?)
            .map(|row| link::read(&row))
            .collect::<Result<_>>()?,
        postbacks: source::postbacks(connection).await?,
    })
}

pub(super) async fn get_or_set(tx: &mut AnyConnection, name: &str, value: &str) -> Result<String> {
    insert_into("settings")
        .set("name", name)
        .set("value", value)
        .or_ignore()
        .execute(&mut *tx)
        .await?;
    let row = sql("select value from settings where name = :name")
        .set("name", name)
        .fetch_one(tx)
        .await?;
    Ok(row.get(0)?)
}

pub(super) async fn value(store: &Store, name: &str) -> Result<Option<String>> {
    let row = sql("select value from settings where name = :name")
        .set("name", name)
        .fetch_optional(store.pool())
        .await
        .context("could not read a setting")?;
    Ok(row.map(|row| row.get(0)).transpose()?)
}

/// Replaces a value; returns false if it is not `from`.
pub(super) async fn replace(
    tx: &mut AnyConnection,
    name: &str,
    from: Option<&str>,
    to: &str,
) -> Result<bool> {
    let replaced = match from {
        Some(from) => {
            sql("update settings set value = :to where name = :name and value = :from")
                .set("from", from)
                .set("to", to)
                .set("name", name)
                .execute(tx)
                .await
        }
        None => {
            let new = insert_into("settings").set("name", name).set("value", to);
            new.or_ignore().execute(tx).await
        }
    };
    Ok(replaced.context("could not store the progress of a job")?.rows_affected() == 1)
}

/// Raises a number that only increases; returns false if it has the value already, or another
/// process was faster.
pub(super) async fn raise(store: &Store, name: &str, value: i64) -> Result<bool> {
    let known = self::value(store, name).await?.and_then(|text| text.parse::<i64>().ok());
    if known.is_some_and(|known| known >= value) {
        return Ok(false); // This is called often, so check without a transaction first.
    }
    let mut tx = store.begin().await?;
    let raised = insert_into("settings")
        .set("name", name)
        .set("value", value.to_string())
        .then(
            "on conflict (name)
             do update set value = excluded.value
             where cast(settings.value as bigint) < cast(excluded.value as bigint)",
        )
        .execute(&mut *tx)
        .await
        .context("could not claim a daily task")?;
    tx.commit().await?;
    Ok(raised.rows_affected() == 1)
}
