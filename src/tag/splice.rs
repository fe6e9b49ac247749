//! A script that is compressed once, and a tail that differs in every answer.
//! In: the fixed part at start, a tail per answer. Out: both as one body, gzip or plain.
//! Promise: every answer is a valid gzip member of its own, at the cost of a copy and the checksum of the tail.
//!
//! The fixed part is deflated at level 9 and ended with a sync flush, so it stops on a byte boundary without a final block. The tail
//! follows as one final *stored* block, then the checksum continued over it and the whole length (RFC 1951 §3.2.4, RFC 1952).

use bytes::{BufMut as _, Bytes, BytesMut};
use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress};

/// Magic, deflate, no flags, no time, best compression, unknown system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];

pub(super) struct Script {
    plain: Bytes,
    deflated: Bytes,
    checksum: Hasher,
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
        Self {
            plain: Bytes::copy_from_slice(text.as_bytes()),
            deflated: Bytes::from(deflated),
            checksum,
        }
    }

    /// The fixed part and a tail of at most 64 KiB.
    pub(super) fn answer(&self, tail: &str, gzip: bool) -> Bytes {
        let tail = tail.as_bytes();
        let Some(length) = u16::try_from(tail.len()).ok().filter(|_| gzip) else {
            let mut body = BytesMut::with_capacity(self.plain.len() + tail.len());
            body.put_slice(&self.plain);
            body.put_slice(tail);
            return body.freeze();
        };
        let mut checksum = self.checksum.clone();
        checksum.update(tail);
        let whole = u32::try_from(self.plain.len() + tail.len()).unwrap_or(u32::MAX);
        let mut body =
            BytesMut::with_capacity(GZIP_HEADER.len() + self.deflated.len() + 5 + tail.len() + 8);
        body.put_slice(&GZIP_HEADER);
        body.put_slice(&self.deflated);
        body.put_u8(1); // final, stored
        body.put_u16_le(length);
        body.put_u16_le(!length);
        body.put_slice(tail);
        body.put_u32_le(checksum.finalize());
        body.put_u32_le(whole);
        body.freeze()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_spliced_body_unpacks_to_both_parts() {
        let fixed = include_str!("../../static/tag.min.js");
        let script = Script::new(fixed);
        for tail in ["", "({})", &"x".repeat(65_535)] {
            let mut text = String::new();
            flate2::read::GzDecoder::new(&script.answer(tail, true)[..])
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!(text, format!("{fixed}{tail}"));
            assert_eq!(script.answer(tail, false), format!("{fixed}{tail}").as_bytes());
        }
    }

    #[test]
    fn a_tail_that_does_not_fit_a_block_is_sent_plain() {
        let script = Script::new("f");
        let tail = "x".repeat(65_536);
        assert_eq!(script.answer(&tail, true).len(), 1 + tail.len());
    }
}
