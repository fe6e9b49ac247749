//! SQL of the sites.
//! In: records. Out: rows, and records again.

use anyhow::{Context as _, Result};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::clock::Timestamp;
use crate::ids;
use crate::money::Currency;
use crate::settings::{Consent, Site, TagSettings};

pub(super) fn read(row: &AnyRow) -> Result<Site> {
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

/// The ID of the first site, created when there is none.
pub(in crate::settings) async fn ensure_first_site(
    tx: &mut AnyConnection,
    now: Timestamp,
) -> Result<String> {
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

/// The ID of a new site with the next number; `None` when its key is taken.
pub(in crate::settings) async fn insert_site(
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

pub(in crate::settings) async fn update_site(tx: &mut AnyConnection, site: &Site) -> Result<()> {
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
