//! SQL of the destinations and their history.
//! In: records. Out: rows, and records again.

use anyhow::{Context as _, Result};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::clock::Timestamp;
use crate::config::Secret;
use crate::ids;
use crate::settings::{
    Destination, DestinationKind, DestinationOptions, NewDestination, Revision, SigningSecret,
};
use crate::store::Store;

pub(super) fn read(row: &AnyRow) -> Result<Destination> {
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

/// The environment no longer sets the AnyTrack URL: it stays, and the dashboard may change it.
pub(in crate::settings) async fn release_anytrack_from_environment(
    tx: &mut AnyConnection,
) -> Result<()> {
    sqlx::query("update destinations set from_environment = 0 where from_environment = 1")
        .execute(tx)
        .await?;
    Ok(())
}

/// Sets the address of a site's AnyTrack destination, or adds one. Returns the ID of the one whose address changed.
///
/// The destination is found by its kind, never by its name or key, and a deleted one stays deleted.
pub(in crate::settings) async fn set_anytrack(
    tx: &mut AnyConnection,
    now: Timestamp,
    site_id: &str,
    url: &Secret,
    from_environment: bool,
) -> Result<Option<String>> {
    let known = sqlx::query(
        "select id, url
           from destinations
          where site_id = $1 and kind = 'anytrack' and deleted_at_ms is null
          order by from_environment desc, created_at_ms, id
          limit 1",
    )
    .bind(site_id)
    .fetch_optional(&mut *tx)
    .await
    .context("could not look for the AnyTrack destination")?;
    let Some(known) = known else {
        return add_anytrack(tx, now, site_id, url, from_environment).await.map(|()| None);
    };
    let (id, before): (String, String) = (known.try_get("id")?, known.try_get("url")?);
    sqlx::query(
        "update destinations set from_environment = case when id = $1 then $2 else 0 end
          where id = $1 or from_environment = 1",
    )
    .bind(&id)
    .bind(i64::from(from_environment))
    .execute(&mut *tx)
    .await?;
    if before == url.expose() {
        return Ok(None);
    }
    sqlx::query("update destinations set url = $1 where id = $2")
        .bind(url.expose())
        .bind(&id)
        .execute(tx)
        .await
        .context("could not save the AnyTrack address")?;
    Ok(Some(id))
}

async fn add_anytrack(
    tx: &mut AnyConnection,
    now: Timestamp,
    site_id: &str,
    url: &Secret,
    from_environment: bool,
) -> Result<()> {
    let site: (i64, String) = sqlx::query("select number, key from sites where id = $1")
        .bind(site_id)
        .fetch_one(&mut *tx)
        .await
        .and_then(|row| Ok((row.try_get("number")?, row.try_get("key")?)))
        .context("could not read the site of the AnyTrack destination")?;
    let stem = match site {
        (1, _) => "anytrack".to_owned(),
        (_, key) => format!("anytrack-{key}"),
    };
    // Another destination, or a deleted one, may have the key.
    for count in 1.. {
        let key = if count == 1 { stem.clone() } else { format!("{stem}-{count}") };
        let added = sqlx::query(
            "insert into destinations (id, key, site_id, kind, name, url, enabled, accepts_test, options, revision,
                                       from_environment, created_at_ms)
             values ($1, $2, $3, 'anytrack', 'AnyTrack', $4, 1, 0, '{}', 1, $5, $6)
                 on conflict (key) do nothing",
        )
        .bind(ids::new_record_id("dst_", now))
        .bind(&key)
        .bind(site_id)
        .bind(url.expose())
        .bind(i64::from(from_environment))
        .bind(now.as_ms())
        .execute(&mut *tx)
        .await
        .context("could not add the AnyTrack destination")?;
        if added.rows_affected() == 1 {
            break;
        }
    }
    Ok(())
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

pub(in crate::settings) async fn set_signing_secrets(
    tx: &mut AnyConnection,
    id: &str,
    secrets: &[SigningSecret],
) -> Result<()> {
    let text = |found: &SigningSecret| match found.until {
        Some(until) => format!("{}@{}", found.secret.expose(), until.as_ms()),
        None => found.secret.expose().to_owned(),
    };
    sqlx::query("update destinations set secrets = $1 where id = $2 and deleted_at_ms is null")
        .bind(secrets.iter().map(text).collect::<Vec<_>>().join(","))
        .bind(id)
        .execute(tx)
        .await?;
    Ok(())
}

/// False when the key is taken.
pub(in crate::settings) async fn insert_destination(
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
pub(in crate::settings) async fn update_destination(
    tx: &mut AnyConnection,
    destination: &Destination,
) -> Result<i64> {
    let row = sqlx::query(
        "update destinations
            set name = $1, url = $2, accepts_test = $3, options = $4, revision = revision + 1
          where id = $5 and deleted_at_ms is null
         returning revision",
    )
    .bind(&destination.name)
    .bind(destination.url.expose())
    .bind(i64::from(destination.accepts_test))
    .bind(serde_json::to_string(&destination.options).context("options serialise")?)
    .bind(&destination.id)
    .fetch_optional(tx)
    .await
    .context("could not save a destination")?;
    Ok(row.context("this destination was deleted meanwhile")?.try_get(0)?)
}

/// True when it was deleted; its row stays.
pub(in crate::settings) async fn is_deleted(tx: &mut AnyConnection, id: &str) -> Result<bool> {
    let row = sqlx::query("select id from destinations where id = $1 and deleted_at_ms is null");
    let row = row.bind(id).fetch_optional(tx).await.context("could not find a destination")?;
    Ok(row.is_none())
}

/// The destinations that were deleted: `dst_…`.
pub(in crate::settings) async fn deleted(tx: &mut AnyConnection) -> Result<Vec<String>> {
    let rows = sqlx::query("select id from destinations where deleted_at_ms is not null");
    let rows = rows.fetch_all(tx).await.context("could not list the deleted destinations")?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

pub(in crate::settings) async fn insert_revision(
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

pub(in crate::settings) async fn revisions(
    store: &Store,
    destination_id: &str,
) -> Result<Vec<Revision>> {
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

pub(in crate::settings) async fn set_enabled(
    tx: &mut AnyConnection,
    id: &str,
    enabled: bool,
) -> Result<()> {
    sqlx::query("update destinations set enabled = $1 where id = $2 and deleted_at_ms is null")
        .bind(i64::from(enabled))
        .bind(id)
        .execute(tx)
        .await?;
    Ok(())
}

pub(in crate::settings) async fn delete_destination(
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
