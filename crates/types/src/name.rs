//! Names that people give: topics, and groups ([`crate::group`]) by the same rule.

use crate::limits;
use std::fmt;

/// A topic's name: `[A-Za-z0-9._-]{1,249}`, and neither `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(std::sync::Arc<str>);

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing was given.
    #[error("name is empty, expected 1 to {max} characters of A-Z a-z 0-9 . _ -", max = limits::NAME_MAX_LEN)]
    Empty,
    /// Longer than the limit.
    #[error("name has {len} bytes, limit {max}")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Most that are allowed.
        max: usize,
    },
    /// A character outside the set. The name is shown escaped.
    #[error("name {name:?} has {character:?} at byte {at}, allowed are A-Z a-z 0-9 . _ -")]
    Character {
        /// The name as given (at most 249 bytes).
        name: String,
        /// The first character that is not allowed.
        character: char,
        /// Where it is.
        at: usize,
    },
    /// `.` and `..` mean something to file systems and URLs.
    #[error("name {name:?} is reserved")]
    Reserved {
        /// The name as given.
        name: String,
    },
}

/// Checks any name that people give.
pub fn check(name: &str) -> Result<(), InvalidName> {
    check_len(name, limits::NAME_MAX_LEN)
}

/// The same for names with a limit of their own, in bytes.
pub(crate) fn check_len(name: &str, max: usize) -> Result<(), InvalidName> {
    if name.is_empty() {
        return Err(InvalidName::Empty);
    }
    if name.len() > max {
        return Err(InvalidName::TooLong { len: name.len(), max });
    }
    if let Some((at, character)) =
        name.char_indices().find(|(_, c)| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))
    {
        return Err(InvalidName::Character { name: name.to_owned(), character, at });
    }
    if name == "." || name == ".." {
        return Err(InvalidName::Reserved { name: name.to_owned() });
    }
    Ok(())
}

impl TopicName {
    /// Takes a name that follows the rule.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        check(name)?;
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TopicName {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        Self::new(&name)
    }
}

impl From<TopicName> for String {
    fn from(name: TopicName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["a", "orders.v1", "A_b-9", "...", &"x".repeat(249)] {
            assert_eq!(TopicName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "a\0b", "a b", "é", "%2f\n", "\u{202e}x", &"x".repeat(250)] {
            let error = TopicName::new(bad).unwrap_err().to_string();
            assert!(!error.contains('\n') && !error.contains('\0'), "escaped: {error}");
        }
    }
}
