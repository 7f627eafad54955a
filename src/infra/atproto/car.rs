//! What a commit of the firehose carries: blocks in a CAR v1 file, each one value of DAG-CBOR.
//!
//! Promises: a block is handed out only if its bytes hash to its CID; no input makes this panic, overflow the stack or
//! allocate more than a small multiple of its own size. Deliberately not here: the repository's tree and signatures.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
};

use data_encoding::BASE64_NOPAD;
use ipld_core::cid::{Cid, serde::BytesToCidVisitor};
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// How deep a record may nest. The protocol allows 32; twice that is read.
const MAX_DEPTH: u8 = 64;
/// Codec of records and tree nodes.
const DAG_CBOR: u64 = 0x71;
/// The one hash of the protocol.
const SHA2_256: u64 = 0x12;

/// The blocks that were asked for, as far as the file holds them.
pub(super) struct Found<'a> {
    /// Verified blocks by CID.
    pub(super) blocks: HashMap<Cid, &'a [u8]>,
    /// Whether the file could be read to its end; if not, a block that is absent here may have stood in the rest.
    pub(super) intact: bool,
}

/// Finds the blocks of `wanted` in a CAR v1 file, reading it once and keeping nothing else.
pub(super) fn find<'a>(car: &'a [u8], wanted: &HashSet<Cid>) -> Found<'a> {
    let mut blocks = HashMap::new();
    let intact = scan(car, |cid, block| {
        if wanted.contains(&cid) && is_hash_of(&cid, block) {
            blocks.insert(cid, block);
        }
    })
    .is_some();
    Found { blocks, intact }
}

/// Shows every block to `visit`; `None` as soon as the file stops making sense.
fn scan<'a>(car: &'a [u8], mut visit: impl FnMut(Cid, &'a [u8])) -> Option<()> {
    #[derive(Deserialize)]
    struct Header {
        version: u64,
    }
    let mut rest = car;
    let header: Header = serde_ipld_dagcbor::from_slice(section(&mut rest)?).ok()?;
    if header.version != 1 {
        return None;
    }
    while !rest.is_empty() {
        let mut block = section(&mut rest)?;
        let cid = Cid::read_bytes(&mut block).ok()?;
        visit(cid, block);
    }
    Some(())
}

/// Takes one length-prefixed section off the front.
fn section<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = varint(rest)?;
    let (section, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(section)
}

/// Takes one unsigned LEB128 number of at most nine bytes off the front.
fn varint(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0_u64;
    for shift in (0..63).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok();
        }
    }
    None
}

fn is_hash_of(cid: &Cid, block: &[u8]) -> bool {
    cid.codec() == DAG_CBOR && cid.hash().code() == SHA2_256 && cid.hash().digest() == &*Sha256::digest(block)
}

/// The JSON form of one DAG-CBOR value: links as `{"$link": …}`, bytes as `{"$bytes": …}`, keys in their own order.
///
/// Tolerates what the protocol forbids but JSON can say (floats, keys out of order). Fails for everything else: trailing
/// bytes, duplicate keys, numbers without a JSON form, nesting deeper than [`MAX_DEPTH`].
pub(super) fn to_json(block: &[u8]) -> anyhow::Result<Box<RawValue>> {
    let mut json = String::with_capacity(block.len().saturating_add(block.len() / 4));
    let mut cbor = serde_ipld_dagcbor::de::Deserializer::from_slice(block);
    Json { json: &mut json, depth: 0 }.deserialize(&mut cbor)?;
    cbor.end()?;
    Ok(RawValue::from_string(json)?)
}

/// Writes the value that it visits.
struct Json<'w> {
    json: &'w mut String,
    depth: u8,
}

impl Json<'_> {
    fn text<E: serde::de::Error>(&mut self, text: &str) -> Result<(), E> {
        self.json.push_str(&serde_json::to_string(text).map_err(E::custom)?);
        Ok(())
    }

    /// A writer for what lies one level deeper.
    fn inner<E: serde::de::Error>(&mut self) -> Result<Json<'_>, E> {
        let depth = self.depth + 1;
        if depth > MAX_DEPTH { Err(E::custom("nested too deeply")) } else { Ok(Json { json: self.json, depth }) }
    }
}

impl<'de> DeserializeSeed<'de> for Json<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Json<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of the data model")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        self.json.push_str("null");
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.json.push_str("null");
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.json.push_str(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.json.push_str(&value.to_string());
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.json.push_str(&value.to_string());
        Ok(())
    }

    fn visit_i128<E>(self, value: i128) -> Result<(), E> {
        self.json.push_str(&value.to_string());
        Ok(())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        if !value.is_finite() {
            return Err(E::custom("a number without a JSON form"));
        }
        self.json.push_str(&serde_json::to_string(&value).map_err(E::custom)?);
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(mut self, value: &str) -> Result<(), E> {
        self.text(value)
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<(), E> {
        self.json.push_str(r#"{"$bytes":""#);
        BASE64_NOPAD.encode_append(value, self.json);
        self.json.push_str(r#""}"#);
        Ok(())
    }

    /// The CBOR library shows links, and nothing else, as newtypes.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let cid: Cid = deserializer.deserialize_bytes(BytesToCidVisitor)?;
        self.json.push_str(r#"{"$link":""#);
        self.json.push_str(&cid.to_string());
        self.json.push_str(r#""}"#);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.json.push('[');
        let mut first = true;
        loop {
            let before = self.json.len();
            if !first {
                self.json.push(',');
            }
            if items.next_element_seed(self.inner::<A::Error>()?)?.is_none() {
                self.json.truncate(before);
                break;
            }
            first = false;
        }
        self.json.push(']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        let mut keys = BTreeSet::new();
        self.json.push('{');
        while let Some(key) = entries.next_key::<&'de str>()? {
            if !keys.is_empty() {
                self.json.push(',');
            }
            // JSON readers differ in which of two equal keys they believe
            if !keys.insert(key) {
                return Err(A::Error::custom("duplicate key"));
            }
            self.text::<A::Error>(key)?;
            self.json.push(':');
            entries.next_value_seed(self.inner::<A::Error>()?)?;
        }
        self.json.push('}');
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use ipld_core::{cid::multihash::Multihash, ipld, ipld::Ipld};
    use proptest::prelude::*;

    use super::*;

    /// The CID of a block, as a repository would compute it.
    pub(in super::super) fn cid(block: &[u8]) -> Cid {
        Cid::new_v1(DAG_CBOR, Multihash::wrap(SHA2_256, &Sha256::digest(block)).unwrap())
    }

    fn length(mut n: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let byte = u8::try_from(n & 0x7f).unwrap();
            n >>= 7;
            bytes.push(if n == 0 { byte } else { byte | 0x80 });
            if n == 0 {
                return bytes;
            }
        }
    }

    /// A CAR v1 file of these blocks.
    pub(in super::super) fn car(blocks: &[(Cid, Vec<u8>)]) -> Vec<u8> {
        let roots: Vec<Ipld> = blocks.iter().take(1).map(|(cid, _)| Ipld::Link(*cid)).collect();
        let header = serde_ipld_dagcbor::to_vec(&ipld!({ "version": 1, "roots": roots })).unwrap();
        let mut file = length(header.len());
        file.extend(header);
        for (cid, block) in blocks {
            let cid = cid.to_bytes();
            file.extend(length(cid.len() + block.len()));
            file.extend(cid);
            file.extend(block);
        }
        file
    }

    /// The oracle: JSON through the tree of values instead of straight from the bytes.
    fn expected(value: &Ipld) -> serde_json::Value {
        use serde_json::{Value, json};
        match value {
            Ipld::Null => Value::Null,
            Ipld::Bool(b) => json!(b),
            Ipld::Integer(i) => json!(i64::try_from(*i).unwrap()),
            Ipld::Float(f) => json!(f),
            Ipld::String(s) => json!(s),
            Ipld::Bytes(b) => json!({ "$bytes": BASE64_NOPAD.encode(b) }),
            Ipld::List(list) => list.iter().map(expected).collect(),
            Ipld::Map(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), expected(v))).collect()),
            Ipld::Link(cid) => json!({ "$link": cid.to_string() }),
        }
    }

    fn value() -> impl Strategy<Value = Ipld> {
        let leaf = prop_oneof![
            Just(Ipld::Null),
            any::<bool>().prop_map(Ipld::Bool),
            any::<i64>().prop_map(|i| Ipld::Integer(i.into())),
            // halves: exact in decimal, so that reading them back cannot round
            any::<i32>().prop_map(|n| Ipld::Float(f64::from(n) / 2.0)),
            any::<String>().prop_map(Ipld::String),
            any::<Vec<u8>>().prop_map(Ipld::Bytes),
            any::<[u8; 4]>().prop_map(|b| Ipld::Link(cid(&b))),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Ipld::List),
                prop::collection::btree_map(any::<String>(), inner, 0..6).prop_map(Ipld::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_value_has_the_json_form_of_the_data_model(value in value()) {
            let json = to_json(&serde_ipld_dagcbor::to_vec(&value).unwrap()).unwrap();
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(json.get()).unwrap(), expected(&value));
        }

        #[test]
        fn every_block_is_found_again(blocks in prop::collection::vec(any::<Vec<u8>>(), 0..8)) {
            let blocks: Vec<_> = blocks.into_iter().map(|block| (cid(&block), block)).collect();
            let file = car(&blocks);
            let found = find(&file, &blocks.iter().map(|(cid, _)| *cid).collect());
            prop_assert!(found.intact);
            for (cid, block) in &blocks {
                prop_assert_eq!(found.blocks.get(cid), Some(&block.as_slice()));
            }
        }

        #[test]
        fn garbage_is_refused_without_a_panic(bytes in any::<Vec<u8>>(), cut in 0_usize..80, flip in any::<u8>()) {
            let _ = to_json(&bytes);
            let block = serde_ipld_dagcbor::to_vec(&ipld!({ "name": "x" })).unwrap();
            let cid = cid(&block);
            let mut file = car(&[(cid, block.clone())]);
            if let Some(byte) = file.get_mut(cut) {
                *byte ^= flip;
            }
            file.extend(bytes);
            for file in [file.get(..cut).unwrap_or_default(), &file] {
                for (cid, block) in find(file, &HashSet::from([cid])).blocks {
                    prop_assert!(is_hash_of(&cid, block));
                }
            }
        }
    }

    #[test]
    fn keys_keep_the_order_of_the_block() {
        // {"zz": 1, "a": -1}: not the canonical order
        let json = to_json(&[0xa2, 0x62, b'z', b'z', 1, 0x61, b'a', 0x20]).unwrap();
        assert_eq!(json.get(), r#"{"zz":1,"a":-1}"#);
    }

    #[test]
    fn duplicate_keys_trailing_bytes_and_infinities_are_refused() {
        for block in [
            &[0xa2, 0x61, b'a', 1, 0x61, b'a', 2][..],
            &[0xf6, 0xf6],
            &[0xfb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0],
            &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[],
        ] {
            assert!(to_json(block).is_err(), "{block:x?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| {
            let mut block = vec![0x81; depth];
            block.push(0x80);
            block
        };
        assert!(to_json(&nested(32)).is_ok());
        assert!(to_json(&nested(64)).is_err());
        assert!(to_json(&nested(1_000_000)).is_err());
        let mut maps = [0xa1, 0x61, b'a'].repeat(1_000_000);
        maps.push(0xf6);
        assert!(to_json(&maps).is_err());
        assert!(to_json(&[0xd8, 0x2a].repeat(1_000_000)).is_err());
    }

    #[test]
    fn a_tampered_block_is_not_handed_out() {
        let block = serde_ipld_dagcbor::to_vec(&ipld!({ "name": "x" })).unwrap();
        let id = cid(&block);
        let mut other = block.clone();
        other[3] ^= 1;
        let file = car(&[(id, other)]);
        let found = find(&file, &HashSet::from([id]));
        assert!(found.intact && found.blocks.is_empty());
    }
}
