//! SQL of the sites.
//! Takes records; writes their rows, and reads them back.

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use crate::clock::Timestamp;
use crate::ids;
use crate::money::Currency;
use crate::settings::{Site, TagSettings};
use crate::store::{Row, sql};

pub(super) fn read(row: &Row) -> Result<Site> {
    let currency: String = row.get("currency")?;
    let lines = |column: &str| -> Result<Vec<String>> {
        let text: String = row.get(column)?;
        Ok(text.lines().map(str::to_owned).collect())
    };
    let is_set = |column: &str| -> Result<bool> { Ok(row.get::<bool>(column)?) };
    Ok(Site {
        id: row.get("id")?,
        number: row.get("number")?,
        key: row.get("key")?,
        name: row.get("name")?,
        timezone: row.get("timezone")?,
        currency: Currency::parse(&currency).context("a site's currency is not a code")?,
        domains: lines("domains")?,
        tag: TagSettings {
            consent: row.get("consent")?,
            is_consent_chosen: is_set("is_consent_chosen")?,
            auto_stamp: is_set("auto_stamp")?,
            payment_hosts: lines("payment_hosts")?,
            linked_domains: lines("linked_domains")?,
            capture_anytrack: is_set("capture_anytrack")?,
            yield_to_anytrack: is_set("yield_to_anytrack")?,
        },
    })
}

/// The ID of the first site, which is created if there is none.
pub(in crate::settings) async fn ensure_first_site(
    tx: &mut AnyConnection,
    now: Timestamp,
) -> Result<String> {
    sql("insert into sites (id, number, key, name, timezone, currency, domains, is_consent_chosen, created_at_ms)
         values (:id, 1, 'main', 'My site', 'UTC', 'USD', '', 0, :created_at_ms)
             on conflict do nothing")
    .set("id", ids::new_record_id("site_", now))
    .set("created_at_ms", now)
    .execute(&mut *tx)
    .await?;
    let row = sql("select id from sites where number = 1").fetch_one(tx).await?;
    Ok(row.get(0)?)
}

/// The ID of a new site with the next number; `None` if its key is taken.
pub(in crate::settings) async fn insert_site(
    tx: &mut AnyConnection,
    now: Timestamp,
    key: &str,
    name: &str,
    like: &Site,
) -> Result<Option<String>> {
    let id = ids::new_record_id("site_", now);
    let inserted = sql("insert into sites (id, number, key, name, timezone, currency, domains, is_consent_chosen, created_at_ms)
         select :id, (select max(number) + 1 from sites), :key, :name, :timezone, :currency, '', 0, :now
          where true
             on conflict do nothing")
    .set("id", &id)
    .set("key", key)
    .set("name", name)
    .set("timezone", &like.timezone)
    .set("currency", like.currency.code())
    .set("now", now)
    .execute(tx)
    .await?;
    Ok((inserted.rows_affected() == 1).then_some(id))
}

pub(in crate::settings) async fn update_site(tx: &mut AnyConnection, site: &Site) -> Result<()> {
    sql("update sites
            set name = :name, timezone = :timezone, currency = :currency, domains = :domains, consent = :consent, is_consent_chosen = :is_consent_chosen, auto_stamp = :auto_stamp,
                payment_hosts = :payment_hosts, linked_domains = :linked_domains, capture_anytrack = :capture_anytrack, yield_to_anytrack = :yield_to_anytrack
          where id = :id")
    .set("name", &site.name)
    .set("timezone", &site.timezone)
    .set("currency", site.currency.code())
    .set("domains", site.domains.join("\n"))
    .set("consent", site.tag.consent)
    .set("is_consent_chosen", site.tag.is_consent_chosen)
    .set("auto_stamp", site.tag.auto_stamp)
    .set("payment_hosts", site.tag.payment_hosts.join("\n"))
    .set("linked_domains", site.tag.linked_domains.join("\n"))
    .set("capture_anytrack", site.tag.capture_anytrack)
    .set("yield_to_anytrack", site.tag.yield_to_anytrack)
    .set("id", &site.id)
    .execute(tx)
    .await?;
    Ok(())
}
