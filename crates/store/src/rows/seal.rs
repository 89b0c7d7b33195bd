//! How a small value is framed: version, body, CRC32C over key, version and body.

use bytes::Bytes;

const CRC: usize = 4;

/// A value as it is written under `key`.
pub(crate) fn seal(key: &[u8], version: u8, body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 + body.len() + CRC);
    value.push(version);
    value.extend_from_slice(body);
    value.extend_from_slice(&crc(key, &value).to_le_bytes());
    value
}

/// The body of a sealed value, or what is wrong with it.
pub(crate) fn open<'a>(key: &[u8], version: u8, value: &'a [u8]) -> Result<&'a [u8], String> {
    let (framed, seal) = value
        .split_last_chunk::<CRC>()
        .filter(|(framed, _)| !framed.is_empty())
        .ok_or_else(|| format!("it has only {} bytes", value.len()))?;
    let (stored, computed) = (u32::from_le_bytes(*seal), crc(key, framed));
    if stored != computed {
        return Err(format!("its checksum is {computed:08x} and should be {stored:08x}"));
    }
    if framed[0] != version {
        return Err(format!("it has version {} and this program reads {version}", framed[0]));
    }
    Ok(&framed[1..])
}

/// As [`open`], without copying the body.
pub(crate) fn open_bytes(key: &[u8], version: u8, value: Bytes) -> Result<Bytes, String> {
    open(key, version, &value).map(<[u8]>::len).map(|len| value.slice(1..=len))
}

fn crc(key: &[u8], framed: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), framed)
}
