//! Records and batches for this crate's tests.

/// A record with a value and perhaps a message id.
pub(crate) fn record(value: &[u8], message_id: Option<&str>) -> Vec<u8> {
    let mut record = vec![0x10, 5];
    field(&mut record, 0x22, value);
    if let Some(id) = message_id {
        field(&mut record, 0x32, id.as_bytes());
    }
    record
}

/// A serialised `Records`.
pub(crate) fn body(records: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    records.iter().for_each(|record| field(&mut body, 0x0a, record));
    body
}

fn field(out: &mut Vec<u8>, key: u8, bytes: &[u8]) {
    out.push(key);
    let mut len = bytes.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(bytes);
}
