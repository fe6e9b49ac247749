//! SQL of the destinations and their history.
//! Takes records; writes their rows, and reads them back.

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use crate::clock::Timestamp;
use crate::config::Secret;
use crate::ids;
use crate::settings::{Destination, DestinationOptions, NewDestination, Revision, SigningSecret};
use crate::store::{Row, Store, insert_into, sql};

pub(super) fn read(row: &Row) -> Result<Destination> {
    let (options, url): (String, String) = (row.get("options")?, row.get("url")?);
    let secrets: String = row.get("secrets")?;
    Ok(Destination {
        id: row.get("id")?,
        key: row.get("key")?,
        site_id: row.get("site_id")?,
        kind: row.get("kind")?,
        secrets: signing_secrets(&secrets),
        name: row.get("name")?,
        url: Secret::new(url),
        enabled: row.get::<bool>("enabled")?,
        accepts_test: row.get::<bool>("accepts_test")?,
        options: serde_json::from_str::<DestinationOptions>(&options)
            .context("a destination's options")?,
        revision: row.get("revision")?,
        from_environment: row.get::<bool>("from_environment")?,
        created_at: row.get("created_at_ms")?,
    })
}

/// Records that the environment no longer sets the AnyTrack URL: it stays, and the dashboard may
/// change it.
pub(in crate::settings) async fn release_anytrack_from_environment(
    tx: &mut AnyConnection,
) -> Result<()> {
    sql("update destinations set from_environment = 0 where from_environment = 1")
        .execute(tx)
        .await?;
    Ok(())
}

/// Sets the URL of a site's AnyTrack destination, or adds one. Returns the ID of the one whose URL
/// changed.
///
/// The destination is found by its kind, never by its name or key, and a deleted one stays deleted.
pub(in crate::settings) async fn set_anytrack(
    tx: &mut AnyConnection,
    now: Timestamp,
    site_id: &str,
    url: &Secret,
    from_environment: bool,
) -> Result<Option<String>> {
    let known = sql("select id, url
           from destinations
          where site_id = :site_id and kind = 'anytrack' and deleted_at_ms is null
          order by from_environment desc, created_at_ms, id
          limit 1")
    .set("site_id", site_id)
    .fetch_optional(&mut *tx)
    .await
    .context("could not read the AnyTrack destination")?;
    let Some(known) = known else {
        return add_anytrack(tx, now, site_id, url, from_environment).await.map(|()| None);
    };
    let (id, before): (String, String) = (known.get("id")?, known.get("url")?);
    sql("update destinations set from_environment = case when id = :id then :from_environment else 0 end
          where id = :id or from_environment = 1")
    .set("id", &id)
    .set("from_environment", from_environment)
    .execute(&mut *tx)
    .await?;
    if before == url.expose() {
        return Ok(None);
    }
    sql("update destinations set url = :url where id = :id")
        .set("url", url.expose())
        .set("id", &id)
        .execute(tx)
        .await
        .context("could not save the AnyTrack URL")?;
    Ok(Some(id))
}

async fn add_anytrack(
    tx: &mut AnyConnection,
    now: Timestamp,
    site_id: &str,
    url: &Secret,
    from_environment: bool,
) -> Result<()> {
    let site: (i64, String) = sql("select number, key from sites where id = :site_id")
        .set("site_id", site_id)
        .fetch_one(&mut *tx)
        .await
        .and_then(|row| Ok((row.get("number")?, row.get("key")?)))
        .context("could not read the site of the AnyTrack destination")?;
    let stem = match site {
        (1, _) => "anytrack".to_owned(),
        (_, key) => format!("anytrack-{key}"),
    };
    // Another destination, or a deleted one, may have the key.
    for count in 1.. {
        let key = if count == 1 { stem.clone() } else { format!("{stem}-{count}") };
        let added = sql("insert into destinations (id, key, site_id, kind, name, url, enabled, accepts_test, options, revision,
                                       from_environment, created_at_ms)
             values (:id, :key, :site_id, 'anytrack', 'AnyTrack', :url, 1, 0, '{}', 1, :from_environment, :created_at_ms)
                 on conflict (key) do nothing")
        .set("id", ids::new_record_id("dst_", now))
        .set("key", &key)
        .set("site_id", site_id)
        .set("url", url.expose())
        .set("from_environment", from_environment)
        .set("created_at_ms", now)
        .execute(&mut *tx)
        .await
        .context("could not add the AnyTrack destination")?;
        if added.rows_affected() == 1 {
            break;
        }
    }
    Ok(())
}

/// Reads `whsec_…`, or `whsec_…@1790000000000` for a secret that is used until then.
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

pub(in crate::settings) async fn set_signing_secrets(
    tx: &mut AnyConnection,
    id: &str,
    secrets: &[SigningSecret],
) -> Result<()> {
    let text = |found: &SigningSecret| match found.until {
        Some(until) => format!("{}@{}", found.secret.expose(), until.as_ms()),
        None => found.secret.expose().to_owned(),
    };
    sql("update destinations set secrets = :secrets where id = :id and deleted_at_ms is null")
        .set("secrets", secrets.iter().map(text).collect::<Vec<_>>().join(","))
        .set("id", id)
        .execute(tx)
        .await?;
    Ok(())
}

/// Returns false if the key is taken.
pub(in crate::settings) async fn insert_destination(
    tx: &mut AnyConnection,
    now: Timestamp,
    id: &str,
    key: &str,
    new: &NewDestination<'_>,
) -> Result<bool> {
    let inserted = insert_into("destinations")
        .set("id", id)
        .set("key", key)
        .set("site_id", new.site_id)
        .set("kind", new.kind)
        .set("name", new.name)
        .set("url", new.url.expose())
        .set("enabled", 1)
        .set("accepts_test", 0)
        .set("options", serde_json::to_string(new.options).context("options serialise")?)
        .set("revision", 1)
        .set("from_environment", 0)
        .set("created_at_ms", now)
        .set("secrets", new.secret.map_or("", Secret::expose))
        .or_ignore()
        .execute(tx)
        .await
        .context("could not add a destination")?;
    Ok(inserted.rows_affected() == 1)
}

/// Returns the new revision.
pub(in crate::settings) async fn update_destination(
    tx: &mut AnyConnection,
    destination: &Destination,
) -> Result<i64> {
    let row = sql("update destinations
            set name = :name, url = :url, accepts_test = :accepts_test, options = :options, revision = revision + 1
          where id = :id and deleted_at_ms is null
         returning revision")
    .set("name", &destination.name)
    .set("url", destination.url.expose())
    .set("accepts_test", destination.accepts_test)
    .set("options", serde_json::to_string(&destination.options).context("options serialise")?)
    .set("id", &destination.id)
    .fetch_optional(tx)
    .await
    .context("could not save a destination")?;
    Ok(row.context("this destination was deleted meanwhile")?.get(0)?)
}

/// True if it was deleted; its row stays.
pub(in crate::settings) async fn is_deleted(tx: &mut AnyConnection, id: &str) -> Result<bool> {
    let row = sql("select id from destinations where id = :id and deleted_at_ms is null");
    let row = row.set("id", id).fetch_optional(tx).await.context("could not find a destination")?;
    Ok(row.is_none())
}

/// IDs of deleted destinations, `dst_…`.
pub(in crate::settings) async fn deleted(tx: &mut AnyConnection) -> Result<Vec<String>> {
    let rows = sql("select id from destinations where deleted_at_ms is not null");
    let rows = rows.fetch_all(tx).await.context("could not list the deleted destinations")?;
    rows.iter().map(|row| Ok(row.get(0)?)).collect()
}

pub(in crate::settings) async fn insert_revision(
    tx: &mut AnyConnection,
    now: Timestamp,
    destination_id: &str,
    revision: i64,
    options: &DestinationOptions,
    by: &str,
) -> Result<()> {
    insert_into("destination_revisions")
        .set("destination_id", destination_id)
        .set("revision", revision)
        .set("options", serde_json::to_string(options).context("options serialise")?)
        .set("saved_at_ms", now)
        .set("saved_by", by)
        .or_ignore()
        .execute(tx)
        .await
        .context("could not store a revision")?;
    Ok(())
}

pub(in crate::settings) async fn revisions(
    store: &Store,
    destination_id: &str,
) -> Result<Vec<Revision>> {
    let rows = sql("select revision, options, saved_at_ms, saved_by
           from destination_revisions
          where destination_id = :destination_id
          order by revision desc
          limit 100")
    .set("destination_id", destination_id)
    .fetch_all(store.pool())
    .await
    .context("could not list the revisions of a destination")?;
    rows.iter()
        .map(|row| {
            let options: String = row.get("options")?;
            Ok(Revision {
                number: row.get("revision")?,
                options: serde_json::from_str(&options).context("a revision's options")?,
                saved_at: row.get("saved_at_ms")?,
                saved_by: row.get("saved_by")?,
            })
        })
        .collect()
}

pub(in crate::settings) async fn set_enabled(
    tx: &mut AnyConnection,
    id: &str,
    enabled: bool,
) -> Result<()> {
    sql("update destinations set enabled = :enabled where id = :id and deleted_at_ms is null")
        .set("enabled", enabled)
        .set("id", id)
        .execute(tx)
        .await?;
    Ok(())
}

pub(in crate::settings) async fn delete_destination(
    tx: &mut AnyConnection,
    now: Timestamp,
    id: &str,
) -> Result<()> {
    // Its secrets are deleted at once.
    sql("update destinations set deleted_at_ms = :now, enabled = 0, url = '', secrets = '' where id = :id")
        .set("now", now)
        .set("id", id)
        .execute(tx)
        .await?;
    Ok(())
}
