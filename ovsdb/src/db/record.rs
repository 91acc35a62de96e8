//! One record of the database file, as bytes.
//!
//! ```text
//! OVSDB JSON <length> <sha1>\n      length and SHA-1 (hex) of the body, its newline included
//! <one JSON object>\n
//! ```
//!
//! Pure. The bytes of a file are outside input: lengths are checked against what is there before
//! anything is allocated or indexed.

use serde_json::Value;
use sha1::{Digest, Sha1};

const MAGIC: &str = "OVSDB JSON ";
/// Longest header line; `OVSDB JSON ` + 20 digits + 40 digits and two separators are 73.
const MAX_HEADER: usize = 128;
/// One record as it stands in the file.
pub(super) fn encode(record: &Value) -> Vec<u8> {
    let body = format!("{record}\n");
    let mut bytes = format!("{MAGIC}{} {}\n", body.len(), hex(&Sha1::digest(body.as_bytes()))).into_bytes();
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// What is readable of a file.
pub(super) struct Parsed {
    /// The intact records.
    pub records: Vec<Value>,
    /// Length of the good prefix.
    pub end: usize,
    /// Length of the first two records: the schema, and in a file that was rewritten all of its rows.
    pub base: usize,
    /// Why the file is not good beyond `end`.
    pub fault: Option<String>,
}

/// Reads records until the end of `bytes` or the first that is not intact.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let mut parsed = Parsed { records: Vec::new(), end: 0, base: 0, fault: None };
    while let Some(rest) = bytes.get(parsed.end..).filter(|rest| !rest.is_empty()) {
        match parse_record(rest) {
            Ok((record, length)) => {
                parsed.records.push(record);
                parsed.end += length;
                if parsed.records.len() <= 2 {
                    parsed.base = parsed.end;
                }
            }
            Err(why) => {
                parsed.fault = Some(why);
                break;
            }
        }
    }
    parsed
}

/// The record at the start of `bytes`, and its length including the header.
fn parse_record(bytes: &[u8]) -> Result<(Value, usize), String> {
    let head = bytes.get(..MAX_HEADER.min(bytes.len())).unwrap_or_default();
    let newline = head.iter().position(|&b| b == b'\n').ok_or("header line is incomplete")?;
    let header = std::str::from_utf8(head.get(..newline).unwrap_or_default()).unwrap_or_default();
    if header.starts_with("OVSDB CLUSTER ") {
        return Err("it is a clustered (RAFT) database; convert it with 'ovsdb-tool cluster-to-standalone'".into());
    }
    let (length, sha1) = header
        .strip_prefix(MAGIC)
        .and_then(|fields| fields.split_once(' '))
        .and_then(|(length, sha1)| Some((length.parse::<usize>().ok()?, sha1)))
        .ok_or_else(|| format!("bad header {header:?}"))?;
    let start = newline + 1;
    let body = start
        .checked_add(length)
        .and_then(|end| bytes.get(start..end))
        .ok_or_else(|| format!("{length} bytes announced, {} there", bytes.len().saturating_sub(start)))?;
    if !hex(&Sha1::digest(body)).eq_ignore_ascii_case(sha1) {
        return Err("checksum does not match".into());
    }
    let record: Value = serde_json::from_slice(body).map_err(|e| format!("not valid JSON: {e}"))?;
    Ok((record, start + length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_record_is_header_length_sha1_and_body() {
        // The checksum is sha1sum's of the second line.
        let expected = b"OVSDB JSON 8 8a3d961f7fe8ef7b41d461059884a9461be85059\n{\"a\":1}\n";
        assert_eq!(String::from_utf8_lossy(&encode(&json!({"a": 1}))), String::from_utf8_lossy(expected));
    }

    proptest! {
        #[test]
        fn a_mutated_file_never_panics_and_keeps_the_good_prefix(
            at in 0usize..400, byte: u8, cut_to in 0usize..500, insert: bool,
        ) {
            let records: Vec<Value> = (0..5).map(|n| json!({"n": n, "s": "x".repeat(n * 7)})).collect();
            let encoded: Vec<Vec<u8>> = records.iter().map(encode).collect();
            let original = encoded.concat();
            let mut bytes = original.clone();
            let at = at.min(bytes.len() - 1);
            if insert { bytes.insert(at, byte) } else { bytes[at] = byte }
            bytes.truncate(cut_to);
            let same = bytes.iter().zip(&original).take_while(|(a, b)| a == b).count();
            let intact = encoded.iter().scan(0, |end, e| { *end += e.len(); Some(*end) }).filter(|end| *end <= same);
            let (count, end) = intact.fold((0, 0), |(n, _), end| (n + 1, end));
            let parsed = parse(&bytes);
            prop_assert!(parsed.records.len() >= count);
            prop_assert_eq!(&parsed.records[..count], &records[..count]);
            prop_assert!(parsed.end >= end && parsed.end <= bytes.len());
            prop_assert_eq!(parsed.fault.is_some(), parsed.end < bytes.len());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
        }
    }
}
