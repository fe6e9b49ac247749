//! Redirect links: URLs that work without the tag, for emails, PDFs and posters. Takes forms; returns the list with the
//! numbers of each link, one link with its QR code, or saves a record. A link's URL never changes, because it may be
//! printed on paper; its target is checked before it is saved.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use qrcode::QrCode;
use qrcode::render::svg;
use serde::Deserialize;

use super::form::FormData;
use super::frame::{Frame, Tab, Viewer};
use super::page;
use super::period::{PeriodMenu, Span};
use super::views::numbers::{NONE, count, totals};
use super::views::{Chip, Field};
use crate::error::AppError;
use crate::ids;
use crate::report::{self, LinkNumbers};
use crate::settings::{self, Link, LinkDraft, MAX_LINKS};
use crate::state::AppState;

const MAX_NAME_CHARS: usize = 80;
const MAX_ALIAS_CHARS: usize = 64;

#[derive(Deserialize)]
pub(super) struct DoneQuery {
    saved: Option<String>,
}

#[derive(Default)]
struct LinkForm {
    action: String,
    name: Field,
    alias: Field,
    target: Field,
}

#[derive(Template)]
#[template(path = "links.html")]
struct LinksPage<'a> {
    frame: Frame,
    viewer: &'a Viewer,
    subtitle: String,
    period: PeriodMenu,
    done: Option<&'static str>,
    rows: Vec<(Link, LinkNumbers)>,
    form: LinkForm,
}

#[derive(Template)]
#[template(path = "link.html")]
struct LinkPage<'a> {
    frame: Frame,
    viewer: &'a Viewer,
    link: &'a Link,
    done: Option<&'static str>,
    brought: LinkNumbers,
    range: String,
    form: LinkForm,
}

/// `GET /links`.
pub(super) async fn list_links(
    State(state): State<AppState>,
    mut viewer: Viewer,
) -> Result<Response, AppError> {
    let span = Span::read(&mut viewer.asked, &viewer.times, viewer.now);
    let saved = viewer.asked.text("saved");
    viewer.asked.refuse_others();
    let done = (saved.as_deref() == Some("deleted"))
        .then_some("Link deleted. Its visits and payments are still counted.");
    page::show(&links_page(&state, &viewer, &span, done, LinkForm::default()).await?)
}

async fn links_page<'a>(
    state: &AppState,
    viewer: &'a Viewer,
    span: &Span,
    done: Option<&'static str>,
    form: LinkForm,
) -> Result<LinksPage<'a>, AppError> {
    let mut brought = report::links(&state.store, &viewer.scope(), span.period).await?;
    let snapshot = state.settings.current();
    let links = snapshot.links.iter().filter(|link| link.site_id == viewer.site.id);
    let rows = links.map(|link| (link.clone(), brought.remove(&link.alias).unwrap_or_default()));
    let here = span.on(&viewer.link("/links"));
    Ok(LinksPage {
        frame: viewer.frame(state, Tab::Links).await?,
        subtitle: format!("{}, {}", span.range(), viewer.times.named()),
        period: span.menu(&here),
        viewer,
        done,
        rows: rows.collect(),
        form: LinkForm { action: viewer.link("/links").to_string(), ..form },
    })
}

fn address(viewer: &Viewer, link: &Link) -> String {
    format!("{}/p/{}", viewer.client.base, link.alias)
}

fn chip(link: &Link) -> Chip {
    if link.is_paused { Chip::quiet("Paused") } else { Chip::ok("Active") }
}

/// A count; `–` if there is nothing.
fn some(number: i64) -> String {
    if number == 0 { NONE.to_owned() } else { count(number) }
}

fn net(viewer: &Viewer, brought: &LinkNumbers) -> String {
    let net = (!brought.net.is_empty()).then(|| totals(&brought.net, viewer.site.currency));
    net.unwrap_or_else(|| NONE.to_owned())
}

/// `POST /links`.
pub(super) async fn add_link(
    State(state): State<AppState>,
    viewer: Viewer,
    form: FormData,
) -> Result<Response, AppError> {
    let mut form = read(&viewer, &form);
    // A new link without an alias gets a random one.
    if form.alias.value.is_empty() {
        form.alias.value = ids::new_secret()[..6].to_owned();
    }
    form.alias.error = alias_fault(&form.alias.value);
    if state.settings.current().links.len() >= MAX_LINKS {
        form.alias.error = Some(format!(
            "You already have {MAX_LINKS} links, which is the maximum. Delete one first."
        ));
    }
    if is_right(&form) {
        let draft = LinkDraft {
            alias: form.alias.value.clone(),
            site_id: viewer.site.id.clone(),
            name: form.name.value.clone(),
            target: form.target.value.clone(),
        };
        if settings::add_link(&state.store, &state.settings, viewer.now, &draft).await? {
            let there = viewer.link(&format!("/links/{}", draft.alias)).with("saved", "added");
            return Ok(page::see_other(&there.to_string()));
        }
        form.alias.error = Some("Another link has this slug. Choose a different one.".to_owned());
    }
    let span = Span::default_of(&viewer.times, viewer.now);
    let page = links_page(&state, &viewer, &span, None, form).await?;
    page::refuse(&page)
}

fn read(viewer: &Viewer, form: &FormData) -> LinkForm {
    let field = |name: &str| Field::of(form.text(name));
    let (mut name, mut target) = (field("name"), field("target"));
    if name.value.is_empty() || name.value.chars().count() > MAX_NAME_CHARS {
        name.error = Some(format!("A link needs a name of at most {MAX_NAME_CHARS} characters."));
    }
    target.error = settings::check_target(&viewer.site, &target.value).err();
    let alias = Field::of(form.text("alias").to_lowercase());
    LinkForm { action: String::new(), name, alias, target }
}

fn is_right(form: &LinkForm) -> bool {
    [&form.name, &form.alias, &form.target].iter().all(|field| field.error.is_none())
}

fn alias_fault(alias: &str) -> Option<String> {
    let fits = (1..=MAX_ALIAS_CHARS).contains(&alias.len())
        && alias.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    (!fits).then(|| {
        format!("A slug has at most {MAX_ALIAS_CHARS} lowercase letters, digits and dashes.")
    })
}

/// `GET /links/{alias}`.
pub(super) async fn show_link(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(alias): Path<String>,
    Query(query): Query<DoneQuery>,
) -> Result<Response, AppError> {
    let (viewer, link) = at(&state, viewer, &alias)?;
    let done = match query.saved.as_deref() {
        Some("added") => Some("Link added. It works immediately."),
        Some("saved") => Some("Saved. The next click uses it."),
        Some("paused") => Some("Link paused. Visitors see a page that says it isn’t active."),
        Some("resumed") => Some("Link resumed."),
        _ => None,
    };
    let form = form_of(&link);
    page::show(&link_page(&state, &viewer, &link, done, form).await?)
}

fn form_of(link: &Link) -> LinkForm {
    LinkForm {
        action: String::new(),
        name: Field::of(link.name.as_str()),
        alias: Field::of(link.alias.as_str()),
        target: Field::of(link.target.as_str()),
    }
}

/// The link, and the viewer of its site.
fn at(state: &AppState, viewer: Viewer, alias: &str) -> Result<(Viewer, Link), AppError> {
    let snapshot = state.settings.current();
    let missing = || AppError::not_found("Link not found.");
    let link = snapshot.link_by_alias(alias).cloned().ok_or_else(missing)?;
    let site = snapshot.site(&link.site_id).cloned().ok_or_else(missing)?;
    Ok((viewer.looking_at(site), link))
}

async fn link_page<'a>(
    state: &AppState,
    viewer: &'a Viewer,
    link: &'a Link,
    done: Option<&'static str>,
    form: LinkForm,
) -> Result<LinkPage<'a>, AppError> {
    let span = Span::default_of(&viewer.times, viewer.now);
    let mut brought = report::links(&state.store, &viewer.scope(), span.period).await?;
    Ok(LinkPage {
        frame: viewer.frame(state, Tab::Links).await?,
        viewer,
        link,
        done,
        brought: brought.remove(&link.alias).unwrap_or_default(),
        range: span.range(),
        form: LinkForm { action: viewer.page("/links", &link.alias).to_string(), ..form },
    })
}

/// `POST /links/{alias}`.
pub(super) async fn save_link(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(alias): Path<String>,
    form: FormData,
) -> Result<Response, AppError> {
    let (viewer, link) = at(&state, viewer, &alias)?;
    let form = LinkForm { alias: Field::of(alias), ..read(&viewer, &form) };
    if !is_right(&form) {
        let page = link_page(&state, &viewer, &link, None, form).await?;
        return page::refuse(&page);
    }
    let changed = Link { name: form.name.value, target: form.target.value, ..link };
    save(&state, &viewer, &changed, "saved").await
}

/// `POST /links/{alias}/pause`.
pub(super) async fn pause_link(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(alias): Path<String>,
) -> Result<Response, AppError> {
    let (viewer, link) = at(&state, viewer, &alias)?;
    save(&state, &viewer, &Link { is_paused: true, ..link }, "paused").await
}

/// `POST /links/{alias}/resume`.
pub(super) async fn resume_link(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(alias): Path<String>,
) -> Result<Response, AppError> {
    let (viewer, link) = at(&state, viewer, &alias)?;
    save(&state, &viewer, &Link { is_paused: false, ..link }, "resumed").await
}

async fn save(
    state: &AppState,
    viewer: &Viewer,
    link: &Link,
    word: &str,
) -> Result<Response, AppError> {
    settings::save_link(&state.store, &state.settings, link).await?;
    let there = viewer.link(&format!("/links/{}", link.alias)).with("saved", word);
    Ok(page::see_other(&there.to_string()))
}

/// `POST /links/{alias}/delete`.
pub(super) async fn delete_link(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(alias): Path<String>,
) -> Result<Response, AppError> {
    let (viewer, link) = at(&state, viewer, &alias)?;
    settings::delete_link(&state.store, &state.settings, &link.id).await?;
    Ok(page::see_other(&viewer.link("/links").with("saved", "deleted").to_string()))
}

/// `GET /links/{alias}/qr.svg`: the URL as a QR code. Always black on white, because scanners need contrast.
pub(super) async fn draw_qr(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(alias): Path<String>,
) -> Result<Response, AppError> {
    let (viewer, link) = at(&state, viewer, &alias)?;
    let code = QrCode::new(address(&viewer, &link)).map_err(anyhow::Error::from)?;
    let picture = code
        .render::<svg::Color<'_>>()
        .min_dimensions(480, 480)
        .dark_color(svg::Color("#000"))
        .light_color(svg::Color("#fff"))
        .build();
    let file = format!("inline; filename=\"{}.svg\"", link.alias);
    let file = HeaderValue::from_str(&file).map_err(anyhow::Error::from)?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("image/svg+xml")),
        (header::CONTENT_DISPOSITION, file),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, picture).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_short_and_plain() {
        for wrong in ["", "a b", "ä", "a/b", "a.b", &"a".repeat(65)] {
            assert!(alias_fault(wrong).is_some(), "{wrong}");
        }
        assert_eq!(alias_fault("spring-mail-2"), None);
    }
}
