//! The dashboard: pages for signed-in users. Takes requests of browsers with a session; returns HTML from `report`'s
//! numbers, and calls the public functions of other modules for its buttons. Every page works without JavaScript, every
//! filter is in the URL, and every action is a form: POST, then 303.

mod account;
mod alerts;
mod apart;
mod asked;
mod assets;
mod chart;
mod conversions;
mod deliveries;
mod delivery;
mod destinations;
mod device;
mod events;
mod form;
mod frame;
mod journey;
mod layers;
mod leaks;
mod limiter;
mod links;
mod list;
mod login;
mod overview;
mod page;
mod password;
mod period;
mod rows;
mod session;
mod settings;
mod setup;
mod table;
mod turns;
mod views;
mod visits;

use anyhow::{Result, ensure};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};

pub(crate) use limiter::LoginLimit;

use self::destinations as to;
use crate::client::Client;
use crate::clock::Timestamp;
use crate::config::Secret;
use crate::destination::Sender;
use crate::state::AppState;
use crate::store::Store;

/// The response to unknown paths: the error page for browsers, else one line of text.
pub(crate) async fn answer_unknown(client: Client, headers: HeaderMap) -> Response {
    layers::answer_unknown(client, headers).await
}

/// All pages with their layers. The layers need the public URL from the state.
pub(crate) fn routes(state: &AppState, limit: LoginLimit, sender: Sender) -> Router<AppState> {
    let routes = Router::new()
        .route("/static/{name}", get(assets::serve_static))
        .route("/login", get(login::show_login).post(login::sign_in))
        .route("/logout", post(login::sign_out))
        .route("/setup/account", get(account::show_new_account).post(account::make_first_account))
        .route("/", get(overview::show_overview))
        .route("/conversions", get(conversions::list_conversions))
        .route("/conversions/{id}", get(journey::show_journey))
        .route("/conversions/{id}/match", post(journey::match_conversion))
        .route("/conversions/{id}/unmatch", post(journey::take_back_match))
        .route("/conversions/{id}/count-once", post(journey::count_once))
        .route("/conversions/{id}/count-again", post(journey::count_again))
        .route("/leaks", get(leaks::show_leaks))
        .route("/visits", get(visits::list_visits))
        .route("/deliveries", get(deliveries::list_deliveries))
        .route("/deliveries/{id}", get(delivery::show_delivery))
        .route("/deliveries/{id}/rebuild", post(delivery::rebuild_delivery))
        .route("/deliveries/{id}/retry", post(deliveries::retry_delivery))
        .route("/events", get(events::list_events))
        .route("/events/{id}", get(events::show_event))
        .route("/events/{id}/rerun", post(events::rerun_event))
        .route("/events/pages", get(apart::list_apart))
        .route("/events/pages/delete", post(apart::delete_apart))
        .route("/events/pages/{id}/rerun", post(events::rerun_page_event))
        .route("/links", get(links::list_links).post(links::add_link))
        .route("/links/{alias}", get(links::show_link).post(links::save_link))
        .route("/links/{alias}/pause", post(links::pause_link))
        .route("/links/{alias}/resume", post(links::resume_link))
        .route("/links/{alias}/delete", post(links::delete_link))
        .route("/links/{alias}/qr.svg", get(links::draw_qr))
        .route("/setup", get(setup::show_setup))
        .route("/setup/consent", post(setup::choose_consent))
        .route("/setup/hosts", post(setup::accept_host))
        .route("/settings", get(settings::show_settings))
        .route("/settings/sites", post(settings::add_site))
        .route("/settings/sites/{key}", get(settings::show_site).post(settings::save_site))
        .route("/settings/sources", get(settings::list_sources).post(settings::add_source))
        .route("/settings/sources/{key}", get(settings::show_source).post(settings::save_source))
        .route("/settings/sources/{key}/accept", post(settings::accept_held))
        .route("/settings/sources/{key}/api-key", post(settings::save_api_key))
        .route("/settings/sources/{key}/secrets", post(settings::add_secret))
        .route("/settings/sources/{key}/secrets/remove", post(settings::remove_secret))
        .route("/settings/custom", get(settings::list_postbacks).post(settings::add_postback))
        .route(
            "/settings/custom/{key}",
            get(settings::show_postback).post(settings::change_postback),
        )
        .route("/settings/custom/{key}/rotate", post(settings::rotate_custom_token))
        .route("/settings/custom/{key}/test", post(settings::send_test_conversion))
        .route("/settings/custom/{key}/requests/{id}", get(settings::show_custom_request))
        .route("/settings/destinations", get(to::list_destinations).post(to::add_destination))
        .route("/settings/destinations/{key}", get(to::show_destination).post(to::save_destination))
        .route("/settings/destinations/{key}/preview", post(to::preview_message))
        .route("/settings/destinations/{key}/template", post(to::load_template))
        .route("/settings/destinations/{key}/test", post(to::send_test_conversion))
        .route("/settings/destinations/{key}/retry", post(to::retry_failed))
        .route("/settings/destinations/{key}/past", post(to::queue_past))
        .route("/settings/destinations/{key}/rotate", post(to::rotate_secret))
        .route("/settings/destinations/{key}/restore", post(to::restore_version))
        .route("/settings/destinations/{key}/enable", post(to::enable_destination))
        .route("/settings/destinations/{key}/disable", post(to::disable_destination))
        .route("/settings/destinations/{key}/delete", post(to::delete_destination))
        .route("/settings/alerts", get(alerts::show_alerts))
        .route("/settings/alerts/mail", post(alerts::save_mail))
        .route("/settings/alerts/rules", post(alerts::save_rules))
        .route("/settings/alerts/recipients", post(alerts::add_recipient))
        .route("/settings/alerts/recipients/{id}/test", post(alerts::send_test_alert))
        .route("/settings/alerts/recipients/{id}/enable", post(alerts::enable_recipient))
        .route("/settings/alerts/recipients/{id}/disable", post(alerts::disable_recipient))
        .route("/settings/alerts/recipients/{id}/delete", post(alerts::delete_recipient))
        .route("/settings/password", post(settings::change_password))
        .layer(Extension(limit))
        .layer(Extension(sender));
    layers::protect(routes, state)
}

/// The one-time URL for the first account below `base`, or `None` if any account exists. A restart returns the same URL.
///
/// # Errors
/// If the database cannot be read or written.
pub async fn setup_url(store: &Store, base: &str) -> Result<Option<String>> {
    account::setup_url(store, base).await
}

/// Creates the user that the environment names. An existing user keeps their password.
///
/// # Errors
/// If the database cannot be read or written.
pub async fn ensure_admin(
    store: &Store,
    now: Timestamp,
    email: &str,
    password: &Secret,
) -> Result<()> {
    if table::find_user(store, &email.to_lowercase()).await?.is_none() {
        let hash = password::hash(password, None).await?;
        table::add_user(store, now, &email.to_lowercase(), &hash).await?;
    }
    Ok(())
}

/// Adds a user, for `clickstamp user add`.
///
/// # Errors
/// If the email or the password is invalid, the user exists, or the database cannot be written.
pub async fn add_user(store: &Store, now: Timestamp, email: &str, password: &Secret) -> Result<()> {
    let email = email.trim().to_lowercase();
    let fault = account::email_fault(&email).or_else(|| password::fault(password.expose()));
    ensure!(fault.is_none(), "{}", fault.unwrap_or_default());
    let hash = password::hash(password, None).await?;
    let is_new = table::add_user(store, now, &email, &hash).await?;
    ensure!(
        is_new,
        "{email} already has an account; `clickstamp user passwd` changes its password"
    );
    Ok(())
}

/// Changes a user's password and signs them out everywhere, for `clickstamp user passwd`.
///
/// # Errors
/// If there is no such user, the password is too short, or the database cannot be written.
pub async fn set_password(store: &Store, email: &str, password: &Secret) -> Result<()> {
    let email = email.trim().to_lowercase();
    let fault = password::fault(password.expose());
    ensure!(fault.is_none(), "{}", fault.unwrap_or_default());
    let hash = password::hash(password, None).await?;
    let is_known = table::set_password(store, &email, &hash, "").await?;
    ensure!(is_known, "there is no user with the email {email}");
    Ok(())
}
