//! Any bytes are a document or an error, and a document that is corrected stays that of its account.
#![no_main]

use codex_pool_core::auth_doc::AuthDoc;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = AuthDoc::parse_foreign(bytes);
    if let Ok(doc) = AuthDoc::parse(bytes.to_vec()) {
        assert_eq!(doc.bytes(), bytes);
        let id = doc.id().clone();
        let corrected = doc.corrected();
        assert_eq!(corrected.id(), &id);
        assert_eq!(corrected.clone().corrected().bytes(), corrected.bytes());
    }
});
