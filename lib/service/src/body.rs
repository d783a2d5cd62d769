//! Request bodies as they were before their sender compressed them, within [`MAX_BODY_BYTES`].

use std::io::Read;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};

use crate::http::{ApiError, MAX_BODY_BYTES, decompress_snappy};

/// Undoes the request's `Content-Encoding`: gzip, deflate (raw or zlib), zstd or snappy (block format).
pub fn decompress(headers: &HeaderMap, body: Bytes) -> Result<Bytes, ApiError> {
    let encoding = headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or("");
    decompress_as(encoding, body)
}

/// Undoes one named encoding; an empty name is none.
pub fn decompress_as(encoding: &str, body: Bytes) -> Result<Bytes, ApiError> {
    match encoding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(body),
        "gzip" | "x-gzip" => bounded("gzip", flate2::read::MultiGzDecoder::new(body.as_ref())),
        // The standard means zlib's frame, and some senders send none.
        "deflate" if is_zlib(&body) => bounded("deflate", flate2::read::ZlibDecoder::new(body.as_ref())),
        "deflate" => bounded("deflate", flate2::read::DeflateDecoder::new(body.as_ref())),
        "zstd" => match zstd::stream::read::Decoder::new(body.as_ref()) {
            Ok(decoder) => bounded("zstd", decoder),
            Err(error) => Err(ApiError::bad_data(format!("zstd: {error}"))),
        },
        "snappy" => decompress_snappy(&body).map(Bytes::from),
        other => {
            let message = format!("Content-Encoding {other:?} is not supported");
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_data", message))
        }
    }
}

/// Method 8 in the first byte, and a header that is a multiple of 31.
fn is_zlib(body: &[u8]) -> bool {
    let [method, flags, ..] = body else { return false };
    method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)) % 31 == 0
}

fn bounded(name: &str, reader: impl Read) -> Result<Bytes, ApiError> {
    let mut out = Vec::new();
    match reader.take(MAX_BODY_BYTES as u64 + 1).read_to_end(&mut out) {
        Ok(bytes) if bytes > MAX_BODY_BYTES => {
            let limit = format!("a body of more than {MAX_BODY_BYTES} bytes");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "bad_data", limit))
        }
        Ok(_) => Ok(out.into()),
        Err(error) => Err(ApiError::bad_data(format!("{name}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn check(encoding: &str, body: Vec<u8>, expected: Result<&[u8], StatusCode>) {
        let read = decompress_as(encoding, body.into()).map_err(|error| error.status);
        assert_eq!(read.as_deref(), expected.as_ref().map(|bytes| *bytes), "{encoding}");
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("compresses")
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("compresses")
    }

    fn deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("compresses")
    }

    #[test]
    fn every_encoding_and_none() {
        let text = b"cpu value=1".as_slice();
        let snappy = snap::raw::Encoder::new().compress_vec(text).expect("compresses");
        let zstd = zstd::encode_all(text, 1).expect("compresses");
        for (encoding, body) in [
            ("", text.to_vec()),
            ("identity", text.to_vec()),
            ("gzip", gzip(text)),
            ("GZIP", gzip(text)),
            ("deflate", zlib(text)),
            ("deflate", deflate(text)),
            ("zstd", zstd),
            ("snappy", snappy),
        ] {
            check(encoding, body, Ok(text));
        }
        check("br", text.to_vec(), Err(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        for encoding in ["gzip", "deflate", "zstd", "snappy"] {
            check(encoding, b"\xff\xfe no such thing".to_vec(), Err(StatusCode::BAD_REQUEST));
        }
        check("gzip", gzip(&vec![0; MAX_BODY_BYTES + 1]), Err(StatusCode::PAYLOAD_TOO_LARGE));
    }
}
