//! The test vectors in `vectors.json`, which `vectors.py` made from the words of docs/share.md alone.

use codex_pool_share::code::{Code, Keys};
use codex_pool_share::keys::{MemberKeys, PoolId, PoolKey};
use codex_pool_share::record::Kind;
use serde_json::Value;
use sha2::{Digest, Sha256};

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors.json")).expect("JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    let text = text(value);
    assert_eq!(text.len(), 2 * N);
    std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("a byte"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn keys(vectors: &Value) -> MemberKeys {
    let epoch = u32::try_from(vectors["epoch"].as_u64().expect("a number")).expect("an epoch");
    MemberKeys::new(PoolId(bytes(&vectors["pool"])), epoch, PoolKey(bytes(&vectors["pool_key"])))
}

#[test]
fn records_are_those_of_the_second_implementation() {
    let vectors = vectors();
    let keys = keys(&vectors);
    let revision = vectors["revision"].as_u64().expect("a number");
    let records = vectors["records"].as_array().expect("records");
    assert_eq!(records.len(), Kind::ALL.len());
    for expected in records {
        let kind = Kind::parse(text(&expected["kind"])).expect("a kind");
        let words = text(&vectors["text"]).as_bytes();
        let account = text(&vectors["account"]);
        let record = keys.write_with(bytes(&expected["nonce"]), kind, account, revision, words);
        assert_eq!(record.row.to_string(), text(&expected["row"]), "{kind:?}");
        assert_eq!(hex(&record.sealed[..64]), text(&expected["sealed_begins"]), "{kind:?}");
        assert_eq!(hex(&Sha256::digest(&record.sealed)), text(&expected["sealed_sha256"]), "{kind:?}");
        assert_eq!(hex(&record.signature), text(&expected["signature"]), "{kind:?}");
        assert_eq!(&**keys.read(&record, account).expect("readable"), words);
    }
}

#[test]
fn codes_are_those_of_the_second_implementation() {
    let vectors = vectors();
    let keys = keys(&vectors);
    for expected in vectors["codes"].as_array().expect("codes") {
        let keys = match text(&expected["role"]) {
            "member" => Keys::Member(Box::new(keys.clone())),
            _ => Keys::Runner(Box::new(keys.runner().clone())),
        };
        let (code, bundle) = Code::with([7; 16], [8; 32], [9; 24], text(&expected["url"]), &keys);
        assert_eq!(*code.to_text(), text(&expected["line"]));
        assert_eq!(hex(&bundle), text(&expected["bundle"]));
        let parsed = Code::parse(text(&expected["line"])).expect("a code");
        assert_eq!(parsed.open(&bundle).expect("its bundle").to_bytes(), keys.to_bytes());
    }
}
