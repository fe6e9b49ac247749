//! Compresses a page's text once and appends a tail of which a few bytes differ in every response.
//! Takes the script, a page's config, a tail and the bytes of each response; returns the body, gzip
//! or plain, with its headers. Guarantees that every compressed body is a valid gzip file. A response
//! costs one copy and the checksum of the tail.
//!
//! Script and config are deflated together at level 9 and ended with a sync flush, so they stop on a
//! byte boundary without a final block. The tail follows in *stored* blocks, then the checksum,
//! continued over the tail, and the total length (RFC 1951 §3.2.4, RFC 1952).

use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::Bytes;
use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress};

use super::headers::{GZIP_HEADERS, HEADERS};

/// The gzip header: magic number, deflate, no flags, no time, best compression, unknown system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];
/// Maximum size of a stored block.
const MAX_BLOCK: usize = u16::MAX as usize;
/// Size of the checksum and the length at the end.
const TRAILER: usize = 8;

/// The script: the part that is the same on all pages.
pub(super) struct Script(String);

/// Script and config, and a tail with a gap for the bytes that differ in every response.
pub(super) struct Template {
    plain: Form,
    gzip: Form,
    /// Checksum of everything before the gap.
    checksum: Hasher,
    /// The tail after the gap.
    after: Vec<u8>,
    /// Size of the gap.
    gap: usize,
}

/// A body, plain or compressed, the position of the gap in it, and its headers.
struct Form {
    body: Vec<u8>,
    gap_at: usize,
    headers: HeaderMap,
}

impl Form {
    fn new(body: Vec<u8>, gap_at: usize, headers: &HeaderMap) -> Self {
        let mut headers = headers.clone();
        headers.insert(CONTENT_LENGTH, body.len().into());
        Self { body, gap_at, headers }
    }
}

impl Script {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// Compresses the script with a page's `config`, and appends a tail: a gap of `gap` bytes, and
    /// `after`. The gap must fit into one stored block.
    pub(super) fn with_tail(&self, config: &str, gap: usize, after: &str) -> Template {
        let (plain_headers, gzip_headers) = (&HEADERS, &GZIP_HEADERS);
        let head = [self.0.as_bytes(), config.as_bytes()].concat();
        let mut checksum = Hasher::new();
        checksum.update(&head);
        let mut body = GZIP_HEADER.to_vec();
        body.extend(deflate(&head));
        let tail = [&vec![b' '; gap], after.as_bytes()].concat();
        let plain = Form::new([&head[..], &tail].concat(), head.len(), plain_headers);
        let gap_at = body.len() + BLOCK_HEAD;
        let blocks = tail.len().div_ceil(MAX_BLOCK);
        for (at, block) in tail.chunks(MAX_BLOCK).enumerate() {
            body.extend(block_head(block.len(), at + 1 == blocks));
            body.extend_from_slice(block);
        }
        let whole = u32::try_from(plain.body.len()).unwrap_or(u32::MAX);
        body.extend([0; 4]);
        body.extend(whole.to_le_bytes());
        let after = after.as_bytes().to_vec();
        let gzip = Form::new(body, gap_at, gzip_headers);
        Template { plain, gzip, checksum, after, gap }
    }
}

/// Deflates a text without a final block.
fn deflate(text: &[u8]) -> Vec<u8> {
    let mut deflated = Vec::with_capacity(text.len() + 64);
    Compress::new(Compression::best(), false)
        .compress_vec(text, &mut deflated, FlushCompress::Sync)
        .expect("the output has room for the whole input");
    deflated
}

/// Size of a stored block's header.
const BLOCK_HEAD: usize = 5;

/// A stored block's header: whether it is the last, its type, its length and the complement of the
/// length.
fn block_head(length: usize, is_final: bool) -> [u8; BLOCK_HEAD] {
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    let ([a, b], [c, d]) = (length.to_le_bytes(), (!length).to_le_bytes());
    [u8::from(is_final), a, b, c, d]
}

impl Template {
    /// The headers, and the body with `own` in the gap.
    ///
    /// # Panics
    /// If `own` has another length than the gap.
    pub(super) fn answer(&self, own: &[u8], gzip: bool) -> (HeaderMap, Bytes) {
        let form = if gzip { &self.gzip } else { &self.plain };
        let mut body = form.body.clone();
        body[form.gap_at..form.gap_at + self.gap].copy_from_slice(own);
        if gzip {
            let mut checksum = self.checksum.clone();
            checksum.update(own);
            checksum.update(&self.after);
            let trailer = body.len() - TRAILER;
            body[trailer..trailer + 4].copy_from_slice(&checksum.finalize().to_le_bytes());
        }
        (form.headers.clone(), Bytes::from(body))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_compressed_body_decompresses_to_all_parts() {
        let fixed = include_str!("../../static/tag.min.js");
        let script = Script::new(fixed.to_owned());
        // The last two: a tail of one full block, and one that needs a second.
        for after in ["", ")", &"x".repeat(MAX_BLOCK - 3), &"x".repeat(MAX_BLOCK)] {
            let template = script.with_tail("({i:", 3, after);
            for own in ["abc", "\0{}"] {
                let mut text = String::new();
                flate2::read::GzDecoder::new(&template.answer(own.as_bytes(), true).1[..])
                    .read_to_string(&mut text)
                    .unwrap();
                assert_eq!(text, format!("{fixed}({{i:{own}{after}"));
                assert_eq!(template.answer(own.as_bytes(), false).1, text.as_bytes());
            }
        }
    }
}
