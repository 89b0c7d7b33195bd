//! How a record is printed: text with letters.
//!
//! | Letter | Prints | | Letter | Prints |
//! | --- | --- | --- | --- | --- |
//! | `%t` | topic | | `%T` | length of the topic's name |
//! | `%p` | partition | | `%K` | length of the key |
//! | `%o` | offset | | `%V` | length of the value |
//! | `%k` | key | | `%x` | producer id |
//! | `%v` | value | | `%y` | producer epoch |
//! | `%h` | headers, `k=v,k=v` | | `%e` | leader epoch |
//! | `%d` | timestamp, Unix milliseconds | | `%i`, `%{id}` | message id |
//!
//! `%%` is a percent sign; `\n \t \r \0 \\ \xNN` are bytes. Key, value and headers take `{hex}`, `{base64}`
//! or `{json}`: `%v{hex}`. A time takes `{rfc3339}`, `{s}`, `{ms}` or a strftime layout: `%d{%H:%M:%S}`. An
//! absent key, value, producer or id prints as nothing (`null` with `{json}`).

use crate::encoding::{base64, escape, hex};
use flotilla_client::{ConsumedRecord, Header};
use serde_json::{Value, json};
use std::io::Write;

/// A parsed format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Field(char, Style),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Style {
    Plain,
    Hex,
    Base64,
    Json,
    Layout(String),
}

impl Format {
    /// Reads a format.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = Vec::new();
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            if letter == '\\' {
                let (byte, after) =
                    escape(rest).ok_or_else(|| format!("format {text:?}: no such escape at {rest:?}"))?;
                plain.push(byte);
                rest = after;
                continue;
            }
            let after = &rest[letter.len_utf8()..];
            if letter != '%' {
                plain.extend_from_slice(letter.to_string().as_bytes());
                rest = after;
                continue;
            }
            if let Some(after) = after.strip_prefix('%') {
                plain.push(b'%');
                rest = after;
                continue;
            }
            let (piece, after) = field(after).map_err(|why| format!("format {text:?}: {why}"))?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(piece);
            rest = after;
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self { pieces })
    }

    /// Prints a record into `out`.
    pub fn print(&self, record: &ConsumedRecord, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Field(letter, style) => print_field(*letter, style, record, out),
            }
        }
    }
}

fn field(text: &str) -> Result<(Piece, &str), String> {
    if let Some(rest) = text.strip_prefix("{id}") {
        return Ok((Piece::Field('i', Style::Plain), rest));
    }
    let letter = text.chars().next().ok_or("ends with a single %")?;
    if !"tpokvhdexyiTKV".contains(letter) {
        return Err(format!("%{letter} is no letter of a format"));
    }
    let rest = &text[1..];
    let Some(inside) = rest.strip_prefix('{') else { return Ok((Piece::Field(letter, Style::Plain), rest)) };
    let (name, rest) = inside.split_once('}').ok_or_else(|| format!("%{letter}{{ is not closed"))?;
    let style = match (letter, name) {
        ('k' | 'v' | 'h' | 'i', "hex") => Style::Hex,
        ('k' | 'v' | 'h' | 'i', "base64") => Style::Base64,
        ('k' | 'v' | 'h' | 'i' | 't', "json") => Style::Json,
        ('d', layout) => Style::Layout(layout.to_owned()),
        _ => return Err(format!("%{letter} takes no {{{name}}}")),
    };
    Ok((Piece::Field(letter, style), rest))
}

fn print_field(letter: char, style: &Style, record: &ConsumedRecord, out: &mut Vec<u8>) {
    let number = |out: &mut Vec<u8>, number: Option<u64>| {
        if let Some(number) = number {
            let _ = write!(out, "{number}");
        }
    };
    let len = |bytes: &Option<bytes::Bytes>| Some(bytes.as_ref().map_or(0, bytes::Bytes::len) as u64);
    match letter {
        't' => print_bytes(Some(record.topic.as_str().as_bytes()), style, out),
        'k' => print_bytes(record.key.as_deref(), style, out),
        'v' => print_bytes(record.value.as_deref(), style, out),
        'i' => print_bytes(record.message_id.as_deref().map(str::as_bytes), style, out),
        'h' => print_headers(&record.headers, style, out),
        'd' => print_time(record.timestamp, style, out),
        'p' => number(out, Some(u64::from(record.partition.get()))),
        'o' => number(out, Some(record.offset.get())),
        'e' => number(out, Some(record.leader_epoch.get())),
        'x' => number(out, record.producer.map(|(id, _)| id.get())),
        'y' => number(out, record.producer.map(|(_, epoch)| epoch.get())),
        'T' => number(out, Some(record.topic.as_str().len() as u64)),
        'K' => number(out, len(&record.key)),
        _ => number(out, len(&record.value)),
    }
}

fn print_bytes(bytes: Option<&[u8]>, style: &Style, out: &mut Vec<u8>) {
    match (bytes, style) {
        (None, Style::Json) => out.extend_from_slice(b"null"),
        (None, _) => {}
        (Some(bytes), Style::Hex) => hex(bytes, out),
        (Some(bytes), Style::Base64) => base64(bytes, out),
        (Some(bytes), Style::Json) => {
            let _ = write!(out, "{}", Value::String(String::from_utf8_lossy(bytes).into_owned()));
        }
        (Some(bytes), Style::Plain | Style::Layout(_)) => out.extend_from_slice(bytes),
    }
}

fn print_headers(headers: &[Header], style: &Style, out: &mut Vec<u8>) {
    if *style == Style::Json {
        let _ = write!(out, "{}", headers.iter().map(header_json).collect::<Value>());
        return;
    }
    for (place, header) in headers.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend_from_slice(header.key.as_bytes());
        out.push(b'=');
        print_bytes(Some(&header.value), style, out);
    }
}

fn print_time(ms: i64, style: &Style, out: &mut Vec<u8>) {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    let _ = match style {
        Style::Layout(layout) if layout == "s" => write!(out, "{}", ms.div_euclid(1_000)),
        Style::Layout(layout) if layout == "rfc3339" => write!(out, "{time}"),
        Style::Layout(layout) if layout != "ms" => {
            write!(out, "{}", time.strftime(layout.as_str()))
        }
        _ => write!(out, "{ms}"),
    };
}

fn text(bytes: &[u8]) -> (Value, &'static str) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (json!(text), "utf-8"),
        Err(_) => {
            let mut encoded = Vec::new();
            base64(bytes, &mut encoded);
            (json!(String::from_utf8_lossy(&encoded)), "base64")
        }
    }
}

fn header_json(header: &Header) -> Value {
    let (value, encoding) = text(&header.value);
    json!({ "key": header.key, "value": value, "encoding": encoding })
}

/// A record as one JSON value. Bytes that are no UTF-8 are base64, and `*_encoding` says which.
pub fn to_json(record: &ConsumedRecord) -> Value {
    let key = record.key.as_deref().map(text);
    let value = record.value.as_deref().map(text);
    let mut json = json!({
        "topic": record.topic.as_str(),
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
        "leader_epoch": record.leader_epoch,
        "key": key.as_ref().map(|(key, _)| key),
        "value": value.as_ref().map(|(value, _)| value),
        "headers": record.headers.iter().map(header_json).collect::<Vec<_>>(),
        "message_id": record.message_id,
        "producer_id": record.producer.map(|(id, _)| id),
        "producer_epoch": record.producer.map(|(_, epoch)| epoch),
    });
    for (name, content) in [("key_encoding", key), ("value_encoding", value)] {
        if let Some((_, "base64")) = content {
            json[name] = json!("base64");
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::{Offset, PartitionId, ProducerEpoch, ProducerId, Term, TopicName};

    fn record() -> ConsumedRecord {
        ConsumedRecord {
            topic: TopicName::new("orders").unwrap(),
            partition: PartitionId(2),
            offset: Offset(41),
            leader_epoch: Term(7),
            timestamp: 1_793_527_200_123,
            key: Some("k\"1".into()),
            value: Some(vec![0xff, 0x00].into()),
            headers: vec![
                Header { key: "a".to_owned(), value: "1".into() },
                Header { key: "b".to_owned(), value: "2".into() },
            ],
            message_id: Some("m-1".to_owned()),
            producer: Some((ProducerId(9), ProducerEpoch(3))),
        }
    }

    fn printed(format: &str) -> String {
        let mut out = Vec::new();
        Format::parse(format).unwrap().print(&record(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_letter_prints_its_field() {
        assert_eq!(printed("%t/%p@%o e%e x%x y%y i%i"), "orders/2@41 e7 x9 y3 im-1");
        assert_eq!(printed("%T %K %V %%\\n"), "6 3 2 %\n");
        assert_eq!(printed("%k %v{hex} %v{base64}"), "k\"1 ff00 /wA=");
        assert_eq!(printed("%k{json} %h %h{hex}"), "\"k\\\"1\" a=1,b=2 a=31,b=32");
        assert_eq!(printed("%{id}\\x41"), "m-1A");
        assert_eq!(printed("%d %d{s}"), "1793527200123 1793527200");
        assert_eq!(printed("%d{rfc3339}"), "2026-11-01T10:00:00.123Z");
        assert_eq!(printed("%d{%H:%M}"), "10:00");
    }

    #[test]
    fn what_is_absent_prints_as_nothing() {
        let bare = ConsumedRecord { key: None, value: None, producer: None, message_id: None, ..record() };
        let mut out = Vec::new();
        Format::parse("[%k%v%x%y%i|%v{json}|%V]").unwrap().print(&bare, &mut out);
        assert_eq!(out, b"[|null|0]");
    }

    #[test]
    fn slips_are_named() {
        for (format, why) in [
            ("%q", "%q"),
            ("%", "single %"),
            ("%v{hex", "not closed"),
            ("%p{hex}", "%p takes no"),
            ("\\q", "escape"),
        ] {
            let error = Format::parse(format).unwrap_err();
            assert!(error.contains(why), "{format}: {error}");
        }
    }

    #[test]
    fn json_keeps_bytes_that_are_no_text() {
        let json = to_json(&record());
        assert_eq!((json["value"].as_str(), json["value_encoding"].as_str()), (Some("/wA="), Some("base64")));
        assert_eq!(json["offset"], 41);
        assert!(json.get("key_encoding").is_none());
    }
}
