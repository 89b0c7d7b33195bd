//! Topics by pattern: compiled within a bound, matched in linear time, against whole names.
//!
//! A pattern comes from outside and is matched against every topic, so it may cost neither memory nor time
//! beyond a bound: the compiled program has a size limit, there is no backtracking, and Unicode classes (which
//! make large programs) are off, because topic names have none.

use flotilla_types::TopicName;
use regex::bytes::{Regex, RegexBuilder};

/// Longest pattern, in bytes.
pub(crate) const LENGTH_MAX: usize = 1024;
/// Nested groups at most.
const NEST_MAX: u32 = 32;
/// Bytes of the compiled program.
const PROGRAM_MAX: usize = 64 << 10;
/// Bytes of the cache that a match may use.
const CACHE_MAX: usize = 256 << 10;

/// A pattern that was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Regex);

impl Pattern {
    /// Compiles it, or says why not.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("expected a pattern".to_owned());
        }
        if text.len() > LENGTH_MAX {
            return Err(format!("has {} bytes, limit {LENGTH_MAX}", text.len()));
        }
        // On its own first, so that nothing in it can close the group that is put around it.
        build(text)?;
        build(&format!("^(?:{text})$")).map(Self)
    }

    /// Whether the whole name matches.
    pub fn matches(&self, topic: &TopicName) -> bool {
        self.0.is_match(topic.as_str().as_bytes())
    }
}

fn build(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .unicode(false)
        .nest_limit(NEST_MAX)
        .size_limit(PROGRAM_MAX)
        .dfa_size_limit(CACHE_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                format!("is too costly: it needs more than {PROGRAM_MAX} bytes compiled")
            }
            error => {
                // The library draws where it went wrong, over several lines; the last one says what.
                let text = error.to_string();
                format!("is no pattern: {}", text.lines().last().unwrap_or_default().trim())
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TopicName {
        TopicName::new(text).unwrap()
    }

    #[test]
    fn the_whole_name_must_match() {
        let pattern = Pattern::new(r"orders\.v[0-9]+|audit").unwrap();
        for yes in ["orders.v1", "orders.v22", "audit"] {
            assert!(pattern.matches(&name(yes)), "{yes}");
        }
        for no in ["orders.v", "xorders.v1", "orders.v1x", "audits", "my.audit"] {
            assert!(!pattern.matches(&name(no)), "{no}");
        }
    }

    #[test]
    fn what_costs_too_much_or_is_no_pattern_is_refused() {
        for (bad, why) in [
            ("", "expected a pattern"),
            ("(", "is no pattern"),
            ("a)|(b", "is no pattern"),
            (r"(\w{200}){200}", "is too costly"),
            (&"(".repeat(900), "is no pattern"),
            (&"a".repeat(2000), "limit 1024"),
            ("a(?=b)", "is no pattern"),
            (r"(a)\1", "is no pattern"),
        ] {
            let error = Pattern::new(bad).unwrap_err();
            assert!(error.contains(why) && !error.contains('\n'), "{bad}: {error}");
        }
    }

    #[test]
    fn what_makes_others_backtrack_takes_no_time_here() {
        let pattern = Pattern::new("(a*)*(a*)*(a*)*b").unwrap();
        for _ in 0..1000 {
            assert!(!pattern.matches(&name(&"a".repeat(249))));
        }
    }
}
