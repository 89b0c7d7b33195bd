//! What the process says: log lines as text or JSON on standard error, without control characters.

use crate::config::{Log, LogFormat};
use std::fmt::{self, Write as _};
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, MakeWriter};
use tracing_subscriber::util::SubscriberInitExt;

/// Reads a filter such as `info,flotilla_raft=debug`.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder()
        .parse(level)
        .map_err(|error| format!("a level, or targets with levels as in info,flotilla_raft=debug ({error})"))
}

/// Starts logging. Once per process; `Err` where the filter cannot be read.
pub fn start(log: &Log) -> Result<(), String> {
    let filter = filter(&log.level)?;
    // A second start, in tests that share a process, keeps the first.
    subscriber(filter, log.format, std::io::stderr).try_init().ok();
    Ok(())
}

fn subscriber<W>(filter: EnvFilter, format: LogFormat, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    match format {
        LogFormat::Text => Box::new(builder.fmt_fields(EscapedFields).finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
    }
}

/// `message key=value …` on one line: what clients send may stand in a value, so control characters and
/// the ones that turn text around are written as escapes.
#[derive(Debug)]
struct EscapedFields;

impl<'w> FormatFields<'w> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = Visitor { writer: Escaping(writer), first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct Visitor<'w> {
    writer: Escaping<'w>,
    first: bool,
    result: fmt::Result,
}

impl tracing::field::Visit for Visitor<'_> {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        if field.name() == "message" {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        if self.result.is_err() {
            return;
        }
        let gap = if self.first { "" } else { " " };
        self.first = false;
        self.result = match field.name() {
            "message" => write!(self.writer, "{gap}{value:?}"),
            name => write!(self.writer, "{gap}{name}={value:?}"),
        };
    }
}

struct Escaping<'w>(Writer<'w>);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| {
            if escaped(c) { write!(self.0, "{}", c.escape_unicode()) } else { self.0.write_char(c) }
        })
    }
}

fn escaped(c: char) -> bool {
    // Control characters, and the invisible ones that change the direction of text.
    c.is_control() || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What came from outside, for messages and logs: at most `limit` characters, control characters escaped.
pub fn escape(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for c in text.chars().take(limit) {
        if escaped(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = subscriber(filter("info").unwrap(), format, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            let evil = "x\n1970-01-01 INFO forged \u{1b}[31m\u{202e}";
            tracing::warn!(client = evil, shown = %evil, "refused {evil}");
            tracing::debug!("not at this level");
        });
        let bytes = kept.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_client_cannot_forge_log_lines() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged(format);
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(!text.trim_end().contains(|c: char| c.is_control()), "{text:?}");
            assert!(text.contains("forged"), "{text}");
        }
        assert!(!logged(LogFormat::Text).contains('\u{202e}'));
        let json: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json)).unwrap();
        assert_eq!(json["level"], "WARN");
    }

    #[test]
    fn escapes_are_bounded() {
        assert_eq!(escape("a\nb", 10), "a\\u{a}b");
        assert_eq!(escape(&"y".repeat(100), 3), "yyy");
    }
}
