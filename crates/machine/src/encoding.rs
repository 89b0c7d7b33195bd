//! Plain bytes: fixed-width little-endian numbers, lengths before lists, and a reader that trusts no length.
//!
//! One value has one encoding, and only that one is read back: flags are 0 or 1, maps are in key order.
//! The hash chain relies on it, because it is taken over encoded commands.

use flotilla_types::{
    BatchHeader, ClusterId, LogId, LogIndex, NodeId, Offset, PartitionId, ProducerEpoch, ProducerId,
    Sequence, ShardId, StoreId, Term, TopicId, TopicName,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// Why bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad(pub &'static str);

/// What is left to read.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Bad> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Bad("cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Bad> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Bad("cut short"))?;
        self.0 = rest;
        Ok(*taken)
    }

    /// A list's length. Every element takes at least one byte, so a length beyond the rest is a lie.
    fn len(&mut self) -> Result<usize, Bad> {
        let len = u32::take(self)? as usize;
        if len <= self.0.len() { Ok(len) } else { Err(Bad("a length beyond the end")) }
    }

    pub fn end(self) -> Result<(), Bad> {
        if self.0.is_empty() { Ok(()) } else { Err(Bad("bytes after the end")) }
    }
}

/// A value that is written and read.
pub trait Field: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(reader: &mut Reader<'_>) -> Result<Self, Bad>;
}

/// Writes and reads a struct as its fields, in the order given here.
macro_rules! fields {
    ($name:ty { $($field:ident),* $(,)? }) => {
        impl $crate::encoding::Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $($crate::encoding::Field::put(&self.$field, out);)*
            }
            fn take(
                reader: &mut $crate::encoding::Reader<'_>,
            ) -> Result<Self, $crate::encoding::Bad> {
                Ok(Self { $($field: $crate::encoding::Field::take(reader)?),* })
            }
        }
    };
}
pub(crate) use fields;

macro_rules! plain {
    ($($number:ty),*) => {$(
        impl Field for $number {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(reader: &mut Reader<'_>) -> Result<Self, Bad> {
                Ok(Self::from_le_bytes(reader.array()?))
            }
        }
    )*};
}
plain!(u8, u32, u64, i64, u128);

macro_rules! wrapped {
    ($($name:path),*) => {$(
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }
            fn take(reader: &mut Reader<'_>) -> Result<Self, Bad> {
                Ok(Self(Field::take(reader)?))
            }
        }
    )*};
}
wrapped!(flotilla_types::GroupEpoch);
wrapped!(LogIndex, NodeId, Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, ShardId, Term, TopicId);
fields!(LogId { term, index });

macro_rules! uuids {
    ($($name:ident),*) => {$(
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                self.get().put(out);
            }
            fn take(reader: &mut Reader<'_>) -> Result<Self, Bad> {
                Field::take(reader).map(Self::from_number)
            }
        }
    )*};
}
uuids!(ClusterId, StoreId);

impl Field for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Bad> {
        match u8::take(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Bad("a flag that is neither 0 nor 1")),
        }
    }
}

/// By its bits, so that it comes back as it was.
impl Field for f64 {
    fn put(&self, out: &mut Vec<u8>) {
        self.to_bits().put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Bad> {
        u64::take(reader).map(Self::from_bits)
    }
}

impl Field for Duration {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_secs().put(out);
        self.subsec_nanos().put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Bad> {
        let (secs, nanos) = (u64::take(reader)?, u32::take(reader)?);
        if nanos < 1_000_000_000 { Ok(Self::new(secs, nanos)) } else { Err(Bad("a second of nanoseconds")) }
    }
}

impl Field for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_text(self, out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Bad> {
        take_text(reader).map(str::to_owned)
    }
}

impl Field for TopicName {
    fn put(&self, out: &mut Vec<u8>) {
        put_text(self.as_str(), out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Bad> {
        Self::new(take_text(reader)?).map_err(|_| Bad("a topic name against the rule"))
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    (text.len() as u32).put(out);
    out.extend_from_slice(text.as_bytes());
}

fn take_text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Bad> {
    let len = reader.len()?;
    std::str::from_utf8(reader.bytes(len)?).map_err(|_| Bad("a text that is not UTF-8"))
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Bad> {
        if bool::take(reader)? { T::take(reader).map(Some) } else { Ok(None) }
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        self.iter().for_each(|value| value.put(out));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Bad> {
        let len = reader.len()?;
        (0..len).map(|_| T::take(reader)).collect()
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok((A::take(reader)?, B::take(reader)?))
    }
}

impl<K: Field + Ord, V: Field> Field for BTreeMap<K, V> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        for (key, value) in self {
            key.put(out);
            value.put(out);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Bad> {
        let len = reader.len()?;
        let mut map = Self::new();
        for _ in 0..len {
            let (key, value) = (K::take(reader)?, V::take(reader)?);
            if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(Bad("a map that is not in key order"));
            }
            map.insert(key, value);
        }
        Ok(map)
    }
}

impl Field for BatchHeader {
    fn put(&self, out: &mut Vec<u8>) {
        self.encode(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Bad> {
        let bytes = reader.bytes(Self::ENCODED_LEN)?;
        let header = Self::decode(bytes).ok_or(Bad("a batch header this build cannot read"))?;
        // Absent fields must be zero: one value, one encoding.
        let mut again = Vec::with_capacity(Self::ENCODED_LEN);
        header.encode(&mut again);
        if again == bytes { Ok(header) } else { Err(Bad("a batch header with stray bytes")) }
    }
}

macro_rules! names {
    ($($name:path),*) => {$(
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                self.as_str().to_owned().put(out);
            }
            fn take(reader: &mut Reader<'_>) -> Result<Self, Bad> {
                Self::new(&String::take(reader)?).map_err(|_| Bad("a name that breaks the rule"))
            }
        }
    )*};
}
names!(flotilla_types::GroupId, flotilla_types::MemberId, flotilla_types::InstanceId);

impl<T: Field + Ord> Field for std::collections::BTreeSet<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        self.iter().for_each(|value| value.put(out));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Bad> {
        let len = reader.len()?;
        let mut set = Self::new();
        for _ in 0..len {
            let value = T::take(reader)?;
            if set.last().is_some_and(|last| *last >= value) {
                return Err(Bad("a set that is not in order"));
            }
            set.insert(value);
        }
        Ok(set)
    }
}
