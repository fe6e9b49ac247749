//! The signing secrets and the API key of a webhook endpoint. Takes forms; saves the record and redirects, or shows the
//! page again with an error. Only the last four characters of a secret are shown, and the only secret can't be removed.

use axum::extract::{Path, State};
use axum::response::Response;

use super::super::forms::{FROM_ENVIRONMENT, read_secrets};
use super::{MAX_SECRETS, find, is_fixed, refuse, saved, source_page};
use crate::config::{self, Secret};
use crate::dashboard::form::FormData;
use crate::dashboard::frame::Viewer;
use crate::dashboard::page;
use crate::error::AppError;
use crate::report::{self, Heard};
use crate::settings::{self, Source};
use crate::state::AppState;
use crate::stripe;

/// How long a secret must be unused before the page suggests to remove it. Stripe signs with both for at most a day.
const UNUSED_SECONDS: u64 = 86_400;
/// A signing secret as it may be shown.
pub(super) struct SecretItem {
    pub(super) position: usize,
    pub(super) shown: String,
    pub(super) used: String,
    pub(super) can_go: bool,
}

/// The secrets, each with the time of its last use.
pub(super) async fn secrets(
    state: &AppState,
    viewer: &Viewer,
    source: &Source,
) -> Result<Vec<SecretItem>, AppError> {
    let since = source.secrets_changed_at;
    let mut items = Vec::new();
    let mut used = Vec::new();
    for position in 0..source.secrets.len() {
        let position = i64::try_from(position).unwrap_or(i64::MAX);
        used.push(report::last_heard(&state.store, &source.id, position, since).await?);
    }
    let is_recent = |heard: &Option<Heard>| {
        heard.as_ref().is_some_and(|heard| viewer.now.since(heard.at).as_secs() < UNUSED_SECONDS)
    };
    for (position, (secret, heard)) in source.secrets.iter().zip(&used).enumerate() {
        // Another secret is in use, and this one is unused for longer than Stripe signs with both.
        let others =
            used.iter().enumerate().any(|(other, heard)| other != position && is_recent(heard));
        let is_old = viewer.now.since(since).as_secs() >= UNUSED_SECONDS && !is_recent(heard);
        items.push(SecretItem {
            position,
            shown: mask(secret),
            used: match heard {
                Some(heard) => format!("last used {}", viewer.times.ago(heard.at, viewer.now)),
                None if since.as_ms() > 0 => {
                    format!(
                        "not used since the secrets changed, {}",
                        viewer.times.ago(since, viewer.now)
                    )
                }
                None => "not used yet".to_owned(),
            },
            can_go: others && is_old,
        });
    }
    Ok(items)
}

/// Shows the last four characters if the secret is long enough for that to be safe.
fn mask(secret: &Secret) -> String {
    let is_long = secret.expose().chars().count() >= 16;
    format!("whsec_…{}", if is_long { secret.tail() } else { "" })
}

/// `POST /settings/sources/{key}/secrets`: adds a secret.
pub(in crate::dashboard) async fn add_secret(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(key): Path<String>,
    form: FormData,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let source = find(&snapshot, &key)?;
    let secrets = if source.from_environment {
        Err(FROM_ENVIRONMENT.to_owned())
    } else {
        read_secrets(&form.text("value")).and_then(|new| with_new(&source.secrets, new))
    };
    match secrets {
        Ok(secrets) => {
            let (store, settings) = (&state.store, &state.settings);
            settings::save_webhook_secrets(store, settings, viewer.now, source, &secrets).await?;
            Ok(saved(&viewer, &key, "secret"))
        }
        Err(fault) => refuse(&state, &viewer, source, &FormData::default(), Some(fault)).await,
    }
}

fn with_new(known: &[Secret], new: Vec<Secret>) -> Result<Vec<Secret>, String> {
    let mut all = known.to_vec();
    for secret in new {
        if all.contains(&secret) {
            return Err("This secret is already set.".to_owned());
        }
        all.push(secret);
    }
    if all.len() > MAX_SECRETS {
        return Err(format!(
            "At most {MAX_SECRETS} signing secrets are allowed. Remove an old one first. Nothing was saved."
        ));
    }
    Ok(all)
}

/// `POST /settings/sources/{key}/secrets/remove`.
pub(in crate::dashboard) async fn remove_secret(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(key): Path<String>,
    form: FormData,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let source = find(&snapshot, &key)?;
    let position = form.text("position").parse().unwrap_or(usize::MAX);
    // Its last characters count too, because the list may have changed since the page was loaded.
    let is_it = source.secrets.get(position).is_some_and(|found| mask(found) == form.text("shown"));
    let fault = match (source.from_environment, is_it, source.secrets.len()) {
        (true, _, _) => Some(FROM_ENVIRONMENT.to_owned()),
        (false, false, _) => Some(
            "The secrets changed since this page was loaded. Check again, then remove it."
                .to_owned(),
        ),
        (false, true, 1) => Some(
            "This is the only secret. Without it, every webhook is rejected. Add the new one first."
                .to_owned(),
        ),
        (false, true, _) => None,
    };
    if let Some(fault) = fault {
        return refuse(&state, &viewer, source, &FormData::default(), Some(fault)).await;
    }
    let mut secrets = source.secrets.clone();
    secrets.remove(position);
    let (store, settings) = (&state.store, &state.settings);
    settings::save_webhook_secrets(store, settings, viewer.now, source, &secrets).await?;
    Ok(saved(&viewer, &key, "removed"))
}

/// `POST /settings/sources/{key}/api-key`: sets or removes its Stripe API key. A new key starts fetches that waited for it.
pub(in crate::dashboard) async fn save_api_key(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(key): Path<String>,
    form: FormData,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let source = find(&snapshot, &key)?;
    let new = match (is_fixed(&state, source), form.is_on("remove")) {
        (true, _) => Err(FROM_ENVIRONMENT.to_owned()),
        (false, true) => Ok(None),
        (false, false) => config::parse_api_key(&form.text("value"))
            .map(Some)
            .map_err(|fault| format!("Not saved: {fault}.")),
    };
    match new {
        Ok(new) => {
            settings::save_api_key(&state.store, &state.settings, source, new.as_ref()).await?;
            if new.is_some() {
                stripe::thin::put_back_all(&state.store, viewer.now).await?;
            }
            Ok(saved(&viewer, &key, if new.is_some() { "api-key" } else { "api-key-removed" }))
        }
        Err(fault) => {
            let mut page = source_page(&state, &viewer, source, &FormData::default(), None).await?;
            page.api_key_error = Some(fault);
            page::refuse(&page)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_secret_gives_nothing_away() {
        assert_eq!(mask(&Secret::new("whsec_0123456789abcdefk7Qe")), "whsec_…k7Qe");
        assert_eq!(mask(&Secret::new("whsec_short")), "whsec_…");
    }

    #[test]
    fn a_new_secret_stands_beside_the_old_ones() {
        let secret = |text: &str| Secret::new(text);
        let known = [secret("whsec_a")];
        assert_eq!(with_new(&known, vec![secret("whsec_b")]).unwrap().len(), 2);
        assert!(with_new(&known, vec![secret("whsec_a")]).is_err());
        let four = ["whsec_1", "whsec_2", "whsec_3", "whsec_4"].map(secret);
        assert!(with_new(&four, vec![secret("whsec_5")]).unwrap_err().contains("At most 4"));
    }
}
