//! Records out of a stream of bytes: lines, or what a format such as `%k\t%v\n` describes.
//!
//! Letters: `%k` key, `%v` value, `%i` message id, `%d` timestamp in Unix milliseconds. Each field goes on to
//! the text that follows it, so two fields need text between them and the format must end in text. The
//! last record may lack that end.

use crate::encoding::escape;
use bytes::{Buf, Bytes, BytesMut};
use flotilla_client::Record;

/// A field of the input and the text that ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    letter: char,
    end: Vec<u8>,
}

/// A parsed input format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputFormat {
    fields: Vec<Field>,
}

impl Default for InputFormat {
    /// A line is a value.
    fn default() -> Self {
        Self { fields: vec![Field { letter: 'v', end: vec![b'\n'] }] }
    }
}

impl InputFormat {
    /// Reads a format.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("input format {text:?}: {why}");
        let mut fields: Vec<Field> = Vec::new();
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            if let Some(field) = rest.strip_prefix('%').filter(|after| !after.starts_with('%')) {
                let letter = field.chars().next().ok_or_else(|| wrong("ends with a single %"))?;
                if !"kvid".contains(letter) {
                    return Err(wrong(&format!("%{letter} cannot be read, only %k %v %i %d")));
                }
                if fields.last().is_some_and(|last| last.end.is_empty()) {
                    return Err(wrong("two fields need text between them"));
                }
                if fields.iter().any(|known| known.letter == letter) {
                    return Err(wrong(&format!("%{letter} comes twice")));
                }
                fields.push(Field { letter, end: Vec::new() });
                rest = &field[1..];
                continue;
            }
            let end = fields
                .last_mut()
                .map(|last| &mut last.end)
                .ok_or_else(|| wrong("must begin with a field"))?;
            if letter == '\\' {
                let (byte, after) = escape(rest).ok_or_else(|| wrong("no such escape"))?;
                end.push(byte);
                rest = after;
            } else {
                end.extend_from_slice(letter.to_string().as_bytes());
                rest = &rest[letter.len_utf8()..];
                rest = if letter == '%' { rest.strip_prefix('%').unwrap_or(rest) } else { rest };
            }
        }
        match fields.last() {
            Some(last) if !last.end.is_empty() => Ok(Self { fields }),
            Some(_) => Err(wrong("must end with text, such as \\n")),
            None => Err(wrong("names no field")),
        }
    }

    /// Takes the next record from the front of `buffer`; `None` if it is not all there. At the end of the
    /// input (`last`) the final text may be missing. Memory is shared with the buffer, not copied.
    pub fn next(&self, buffer: &mut BytesMut, last: bool) -> Result<Option<Record>, String> {
        let mut at = 0;
        let mut found = Vec::with_capacity(self.fields.len());
        for (place, field) in self.fields.iter().enumerate() {
            let final_field = place + 1 == self.fields.len();
            match find(&buffer[at..], &field.end) {
                Some(len) => {
                    found.push((field.letter, at, at + len));
                    at += len + field.end.len();
                }
                None if last && final_field && !(buffer.is_empty() || (place == 0 && at == buffer.len())) => {
                    found.push((field.letter, at, buffer.len()));
                    at = buffer.len();
                }
                None if last && !buffer.is_empty() => {
                    let shown = String::from_utf8_lossy(&buffer[..buffer.len().min(80)]).into_owned();
                    return Err(format!("the input ends inside a record: {shown:?}"));
                }
                None => return Ok(None),
            }
        }
        let whole: Bytes = buffer.split_to(at).freeze();
        let mut record = Record::default();
        for (letter, from, to) in found {
            let bytes = whole.slice(from..to);
            match letter {
                'k' => record.key = Some(bytes),
                'v' => record.value = Some(bytes),
                'i' => record.message_id = Some(utf8(&bytes)?),
                _ => record.timestamp = Some(number(&bytes)?),
            }
        }
        Ok(Some(record))
    }

    /// Whether a record is a line and nothing else.
    pub fn is_lines(&self) -> bool {
        *self == Self::default()
    }
}

/// Takes the next line without its end; the fast way for [`InputFormat::is_lines`].
pub fn next_line(buffer: &mut BytesMut, last: bool) -> Option<Bytes> {
    match find(buffer, b"\n") {
        Some(len) => {
            let line = buffer.split_to(len).freeze();
            buffer.advance(1);
            Some(line)
        }
        None if last && !buffer.is_empty() => Some(buffer.split().freeze()),
        None => None,
    }
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    match text {
        [one] => bytes.iter().position(|byte| byte == one),
        _ => bytes.windows(text.len()).position(|window| window == text),
    }
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| format!("message id {bytes:?} is not UTF-8"))
}

fn number(bytes: &[u8]) -> Result<i64, String> {
    let text = String::from_utf8_lossy(bytes);
    text.trim().parse().map_err(|_| format!("timestamp {text:?} is not Unix milliseconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: &str, input: &str) -> Result<Vec<Record>, String> {
        let format = InputFormat::parse(format)?;
        let mut buffer = BytesMut::from(input);
        let mut records = Vec::new();
        while let Some(record) = format.next(&mut buffer, true)? {
            records.push(record);
        }
        Ok(records)
    }

    #[test]
    fn lines_are_values_and_the_last_may_lack_its_end() {
        let mut buffer = BytesMut::from("a\n\nb");
        assert_eq!(next_line(&mut buffer, false).unwrap(), "a");
        assert_eq!(next_line(&mut buffer, false).unwrap(), "");
        assert_eq!(next_line(&mut buffer, false), None, "more may come");
        assert_eq!(next_line(&mut buffer, true).unwrap(), "b");
        assert_eq!(next_line(&mut buffer, true), None);
    }

    #[test]
    fn a_format_names_fields() {
        let records = read("%k\\t%v\\n", "k1\tv1\nk2\t\nk3\tv3").unwrap();
        let pairs: Vec<(&[u8], &[u8])> =
            records.iter().map(|r| (r.key.as_deref().unwrap(), r.value.as_deref().unwrap())).collect();
        assert_eq!(pairs, [(&b"k1"[..], &b"v1"[..]), (b"k2", b""), (b"k3", b"v3")]);
        let records = read("%d %i: %v;;", "17 a: x;y;;18 b: z;;").unwrap();
        assert_eq!((records[0].timestamp, records[0].message_id.as_deref()), (Some(17), Some("a")));
        assert_eq!(records[0].value.as_deref(), Some(&b"x;y"[..]));
        assert_eq!(records.len(), 2);
    }

    #[test]
    fn slips_are_named() {
        for (format, why) in [
            ("%k%v\\n", "text between"),
            ("%v", "end with text"),
            ("x%v\\n", "begin with a field"),
            ("%q\\n", "%q cannot be read"),
            ("", "no field"),
            ("%v,%v\\n", "twice"),
        ] {
            let error = InputFormat::parse(format).unwrap_err();
            assert!(error.contains(why), "{format}: {error}");
        }
        assert!(read("%k\\t%v\\n", "no tab here\n").unwrap_err().contains("inside a record"));
    }
}
