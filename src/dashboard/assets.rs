//! The stylesheet, the script of the copy buttons, the icon and the types of the tag, compiled in.
//! In: a name with its checksum. Out: the bytes.
//! Promise: the name changes with the bytes, so browsers may keep them forever and never show an old look.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};

use crate::error::AppError;
use crate::ids;

/// One file, served under a name that holds its checksum.
struct Asset {
    name: String,
    media_type: &'static str,
    bytes: &'static [u8],
}

impl Asset {
    fn new(stem: &str, ending: &str, media_type: &'static str, bytes: &'static [u8]) -> Self {
        let checksum = &ids::sha256_hex(bytes)[..16];
        Self { name: format!("{stem}.{checksum}.{ending}"), media_type, bytes }
    }
}

static CSS: LazyLock<Asset> = LazyLock::new(|| {
    let bytes = include_bytes!("../../static/look.css");
    Asset::new("look", "css", "text/css; charset=utf-8", bytes)
});
static COPY: LazyLock<Asset> = LazyLock::new(|| {
    let bytes = include_bytes!("../../static/copy.js");
    Asset::new("copy", "js", "text/javascript; charset=utf-8", bytes)
});
static ICON: LazyLock<Asset> = LazyLock::new(|| {
    let bytes = include_bytes!("../../static/mark.svg");
    Asset::new("mark", "svg", "image/svg+xml", bytes)
});

static TYPES: LazyLock<Asset> = LazyLock::new(|| {
    let bytes = include_bytes!("../../static/tag.d.ts");
    Asset::new("tag", "d.ts", "text/plain; charset=utf-8", bytes)
});

/// The path of the tag's types, for programmers of pages.
pub(super) fn types() -> String {
    format!("/static/{}", TYPES.name)
}

/// The stylesheet's path.
pub(super) fn css() -> String {
    format!("/static/{}", CSS.name)
}

/// The path of the script that adds copy buttons.
pub(super) fn copy() -> String {
    format!("/static/{}", COPY.name)
}

/// The icon's path.
pub(super) fn icon() -> String {
    format!("/static/{}", ICON.name)
}

/// `GET /static/{name}`.
pub(super) async fn serve_static(Path(name): Path<String>) -> Result<Response, AppError> {
    let asset = [&CSS, &COPY, &ICON, &TYPES]
        .into_iter()
        .find(|asset| asset.name == name)
        .ok_or_else(|| AppError::not_found("There is no such file."))?;
    let headers = [
        (header::CONTENT_TYPE, asset.media_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    Ok((headers, asset.bytes).into_response())
}
