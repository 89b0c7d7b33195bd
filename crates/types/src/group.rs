//! Consumer groups and their members: what they are called, and which coordinator keeps a group.

use crate::id::{ShardId, number};
use crate::limits::MEMBER_ID_MAX_LEN;
use crate::name::{self, InvalidName};
use std::fmt;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// A name with a meaning, by the rule of all names.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a name that follows the rule.
            pub fn new(name: &str) -> Result<Self, InvalidName> {
                name::check_len(name, $max)?;
                Ok(Self(name.into()))
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(name: String) -> Result<Self, InvalidName> {
                Self::new(&name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

named! {
    /// A group's name, 1 to 249 characters of `A-Z a-z 0-9 . _ -`.
    GroupId, crate::limits::NAME_MAX_LEN
}
named! {
    /// A member's name, which its client makes up once: 1 to 128 characters of `A-Z a-z 0-9 . _ -`, commonly
    /// a UUID.
    MemberId, MEMBER_ID_MAX_LEN
}
named! {
    /// A static member's name, which stays over restarts of its process; the rule is that of groups.
    InstanceId, crate::limits::NAME_MAX_LEN
}

number! {
    /// Counts a group's changes, from 1; 0 = none yet. One clock for all of a group: its members and what is
    /// assigned to them are at one of its values. 64 bit, so it does not overflow.
    GroupEpoch(u64)
}

impl ShardId {
    /// The coordinator of a number, from 0. `None` where partitions begin.
    pub const fn coordinator(number: u32) -> Option<Self> {
        if number < Self::FIRST_PARTITION.get() - 1 { Some(Self(number + 1)) } else { None }
    }

    /// Whether this shard coordinates groups and transactions.
    pub const fn is_coordinator(self) -> bool {
        self.get() > Self::CONTROLLER.get() && self.get() < Self::FIRST_PARTITION.get()
    }
}

impl GroupId {
    /// The coordinator that keeps this group, where there are `coordinators` of them. Part of the format: a
    /// group's state is where this says. `None` where there are none, or more than there can be.
    pub fn coordinator(&self, coordinators: u32) -> Option<ShardId> {
        let hash = xxh3_64(self.as_str().as_bytes());
        ShardId::coordinator(hash.checked_rem(u64::from(coordinators))? as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stay_where_they_are() {
        let at = |name: &str, count| GroupId::new(name).unwrap().coordinator(count);
        // A change of these numbers would lose every group's state.
        let placed: Vec<_> =
            ["orders", "billing", "a", "mail-7"].iter().map(|n| at(n, 8).unwrap().get()).collect();
        assert_eq!(placed, [4, 3, 8, 3]);
        assert_eq!(at("orders", 1), Some(ShardId(1)));
        assert_eq!(at("orders", 0), None);
        assert!((0..500).all(|n| at(&format!("g{n}"), 8).unwrap().is_coordinator()));
    }

    #[test]
    fn coordinators_are_between_the_controller_and_partitions() {
        assert_eq!(ShardId::coordinator(0), Some(ShardId(1)));
        assert_eq!(ShardId::coordinator(1022), Some(ShardId(1023)));
        assert_eq!(ShardId::coordinator(1023), None);
        assert!(!ShardId::CONTROLLER.is_coordinator() && !ShardId::FIRST_PARTITION.is_coordinator());
        assert!(ShardId(1).is_coordinator() && ShardId(1023).is_coordinator());
    }

    #[test]
    fn ten_kilobytes_are_no_name() {
        let long = "x".repeat(10_000);
        assert_eq!(GroupId::new(&long), Err(InvalidName::TooLong { len: 10_000, max: 249 }));
        assert_eq!(MemberId::new(&long), Err(InvalidName::TooLong { len: 10_000, max: 128 }));
        assert!(MemberId::new("c0ffee00-0000-4000-8000-000000000001").is_ok());
        assert!(InstanceId::new("a b").is_err() && MemberId::new("").is_err());
    }
}
