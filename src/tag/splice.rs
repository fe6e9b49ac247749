//! A script that is compressed once, and a tail of which a few bytes differ in every answer.
//! In: the fixed part at start, a tail for each page, the bytes that are an answer's own. Out: all as one body, gzip or plain, with its headers.
//! Promise: every answer is a valid gzip member of its own, at the cost of a copy and the checksum of the tail.
//!
//! The fixed part is deflated at level 9 and ended with a sync flush, so it stops on a byte boundary without a final block. The tail
//! follows in *stored* blocks, then the checksum continued over it and the whole length (RFC 1951 §3.2.4, RFC 1952).

use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::Bytes;
use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress};

/// Magic, deflate, no flags, no time, best compression, unknown system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];
/// Most that one stored block holds.
const MAX_BLOCK: usize = u16::MAX as usize;
/// Checksum and length.
const TRAILER: usize = 8;

/// The fixed part.
pub(super) struct Script {
    plain: Vec<u8>,
    deflated: Vec<u8>,
    checksum: Hasher,
}

/// The fixed part and a tail that is known but for a hole.
pub(super) struct Template {
    plain: Form,
    gzip: Form,
    /// Of all that stands before the hole.
    checksum: Hasher,
    /// The tail behind the hole.
    after: Vec<u8>,
    hole: usize,
}

/// A body, where the hole begins in it, and what its answers say of themselves.
struct Form {
    body: Vec<u8>,
    hole_at: usize,
    headers: HeaderMap,
}

impl Form {
    fn new(body: Vec<u8>, hole_at: usize, headers: &HeaderMap) -> Self {
        let mut headers = headers.clone();
        headers.insert(CONTENT_LENGTH, body.len().into());
        Self { body, hole_at, headers }
    }
}

impl Script {
    /// Compresses the fixed part.
    pub(super) fn new(text: &str) -> Self {
        let mut compress = Compress::new(Compression::best(), false);
        let mut deflated = Vec::with_capacity(text.len() + 64);
        compress
            .compress_vec(text.as_bytes(), &mut deflated, FlushCompress::Sync)
            .expect("the output has room for the whole input");
        let mut checksum = Hasher::new();
        checksum.update(text.as_bytes());
        Self { plain: text.as_bytes().to_vec(), deflated, checksum }
    }

    /// The script with a tail: `before`, as many bytes as the hole has, `after`. Hole and `before` fit into one block.
    pub(super) fn with_tail(&self, before: &str, hole: usize, after: &str) -> Template {
        let (plain_headers, gzip_headers) = (&super::HEADERS, &super::GZIP_HEADERS);
        let tail = [before.as_bytes(), &vec![b' '; hole], after.as_bytes()].concat();
        let hole_at = self.plain.len() + before.len();
        let plain = Form::new([&self.plain[..], &tail].concat(), hole_at, plain_headers);
        let mut body = [&GZIP_HEADER[..], &self.deflated].concat();
        let hole_at = body.len() + BLOCK_HEAD + before.len();
        let blocks = tail.len().div_ceil(MAX_BLOCK);
        for (at, block) in tail.chunks(MAX_BLOCK).enumerate() {
            body.extend(block_head(block.len(), at + 1 == blocks));
            body.extend_from_slice(block);
        }
        let whole = u32::try_from(plain.body.len()).unwrap_or(u32::MAX);
        body.extend([0; 4]);
        body.extend(whole.to_le_bytes());
        let mut checksum = self.checksum.clone();
        checksum.update(before.as_bytes());
        let after = after.as_bytes().to_vec();
        let gzip = Form::new(body, hole_at, gzip_headers);
        Template { plain, gzip, checksum, after, hole }
    }
}

/// Bytes before a stored block's own.
const BLOCK_HEAD: usize = 5;

/// Whether it is the final one, that it is stored, its length twice.
fn block_head(length: usize, is_final: bool) -> [u8; BLOCK_HEAD] {
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    let ([a, b], [c, d]) = (length.to_le_bytes(), (!length).to_le_bytes());
    [u8::from(is_final), a, b, c, d]
}

impl Template {
    /// The headers, and the body with the hole filled.
    ///
    /// # Panics
    /// When the bytes are more or fewer than the hole takes.
    pub(super) fn answer(&self, own: &[u8], gzip: bool) -> (HeaderMap, Bytes) {
        let form = if gzip { &self.gzip } else { &self.plain };
        let mut body = form.body.clone();
        body[form.hole_at..form.hole_at + self.hole].copy_from_slice(own);
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
    fn the_spliced_body_unpacks_to_all_parts() {
        let fixed = include_str!("../../static/tag.min.js");
        let script = Script::new(fixed);
        // The last two: a tail of one full block, and one that needs a second.
        for after in ["", ")", &"x".repeat(MAX_BLOCK - 5), &"x".repeat(MAX_BLOCK)] {
            let template = script.with_tail("({", 3, after);
            for own in ["abc", "\0{}"] {
                let mut text = String::new();
                flate2::read::GzDecoder::new(&template.answer(own.as_bytes(), true).1[..])
                    .read_to_string(&mut text)
                    .unwrap();
                assert_eq!(text, format!("{fixed}({{{own}{after}"));
                assert_eq!(template.answer(own.as_bytes(), false).1, text.as_bytes());
            }
        }
    }
}
