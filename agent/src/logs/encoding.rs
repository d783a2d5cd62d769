//! Encodings other than UTF-8, told by the byte order mark that a file begins with. Lines become UTF-8 one by one, so that
//! places in the file stay places in the file.

use std::borrow::Cow;

use memchr::memchr;

const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    #[default]
    Utf8,
    Utf16Le,
    Utf16Be,
}

impl Encoding {
    /// By a file's first bytes.
    pub fn of(head: &[u8]) -> Encoding {
        match head {
            [0xff, 0xfe, ..] => Encoding::Utf16Le,
            [0xfe, 0xff, ..] => Encoding::Utf16Be,
            _ => Encoding::Utf8,
        }
    }

    /// Where a line ends and where the next begins.
    pub fn newline(self, bytes: &[u8]) -> Option<(usize, usize)> {
        let is_newline: fn(&[u8]) -> bool = match self {
            Encoding::Utf8 => return memchr(b'\n', bytes).map(|at| (at, at + 1)),
            Encoding::Utf16Le => |unit| unit == b"\n\0",
            Encoding::Utf16Be => |unit| unit == b"\0\n",
        };
        bytes.chunks_exact(2).position(is_newline).map(|unit| (2 * unit, 2 * unit + 2))
    }

    /// A line as UTF-8, as far as it is valid, without a mark.
    pub fn decode(self, line: &[u8]) -> Cow<'_, [u8]> {
        let unit = |pair: &[u8]| match self {
            Encoding::Utf16Be => u16::from_be_bytes([pair[0], pair[1]]),
            _ => u16::from_le_bytes([pair[0], pair[1]]),
        };
        if self == Encoding::Utf8 {
            return Cow::Borrowed(line.strip_prefix(UTF8_MARK).unwrap_or(line));
        }
        let units = line.chunks_exact(2).map(unit);
        let mut text = Vec::with_capacity(line.len());
        for decoded in char::decode_utf16(units) {
            match decoded {
                Ok('\u{feff}') => {}
                Ok(c) => text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                // A byte that is no UTF-8 either, so that the line is marked.
                Err(_) => text.push(0xff),
            }
        }
        if !line.len().is_multiple_of(2) {
            text.push(0xff);
        }
        Cow::Owned(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &[u8], expected: &[&str]) {
        let encoding = Encoding::of(file);
        let (mut rest, mut lines) = (file, Vec::new());
        while let Some((end, next)) = encoding.newline(rest) {
            lines.push(String::from_utf8_lossy(&encoding.decode(&rest[..end])).into_owned());
            rest = &rest[next..];
        }
        assert_eq!(lines, expected);
    }

    #[test]
    fn marks_tell_the_encoding() {
        let text = "héllo\n漢字 😀\n";
        let le: Vec<u8> = "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        let be: Vec<u8> = "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_be_bytes).collect();
        for file in [text.as_bytes().to_vec(), format!("\u{feff}{text}").into_bytes(), le, be] {
            check(&file, &["héllo", "漢字 😀"]);
        }
        // Half of a surrogate pair.
        check(&[0xff, 0xfe, 0x00, 0xd8, b'\n', 0], &["\u{fffd}"]);
    }
}
