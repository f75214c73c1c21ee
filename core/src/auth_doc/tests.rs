//! What can be read from documents, and that they stay as they are. [`Login`] makes them for other tests, too.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use base64::Engine as _;

/// A login to make a document of. All tokens are plainly fake.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) user: &'static str,
    pub(crate) workspace: &'static str,
    pub(crate) refresh_token: &'static str,
    pub(crate) issued_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) last_refresh: &'static str,
    pub(crate) plan: &'static str,
}

/// That user's login in a workspace of its own.
pub(crate) fn login(user: &'static str) -> Login {
    Login {
        user,
        workspace: user,
        refresh_token: "rt-1",
        issued_at: 1000,
        expires_at: 2000,
        last_refresh: "2026-11-22T12:16:58.981565306Z",
        plan: "plus",
    }
}

impl Login {
    pub(crate) fn issued(self, at: i64) -> Login {
        Login { issued_at: at, ..self }
    }

    pub(crate) fn refresh(self, refresh_token: &'static str) -> Login {
        Login { refresh_token, ..self }
    }

    fn claims(&self) -> Value {
        json!({"iss": "https://issuer.example", "iat": self.issued_at, "exp": self.expires_at,
            "https://api.openai.com/profile": {"email": format!("{}@example.com", self.user)},
            "https://api.openai.com/auth": {"chatgpt_user_id": self.user, "chatgpt_account_id": self.workspace,
                "chatgpt_plan_type": self.plan}})
    }

    /// The document as a tree, for tests that change it.
    pub(crate) fn tree(&self) -> Value {
        json!({"auth_mode": "chatgpt", "OPENAI_API_KEY": null,
            "tokens": {"id_token": jwt(&self.claims()), "access_token": jwt(&self.claims()),
                "refresh_token": format!("{}-{}-{}", self.refresh_token, self.user, self.workspace),
                "account_id": self.workspace},
            "last_refresh": self.last_refresh})
    }

    pub(crate) fn doc(&self) -> AuthDoc {
        parse(&self.tree()).expect("a good document")
    }
}

fn jwt(claims: &Value) -> String {
    format!("aGVhZA.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn parse(tree: &Value) -> Result<AuthDoc, DocError> {
    AuthDoc::parse(serde_json::to_vec_pretty(tree).expect("JSON"))
}

/// The document with one change.
fn changed(change: impl FnOnce(&mut Value)) -> Result<AuthDoc, DocError> {
    let mut tree = login("alice").tree();
    change(&mut tree);
    parse(&tree)
}

#[test]
fn a_document_says_whose_it_is_and_how_new() {
    let doc = login("alice").doc();
    assert_eq!(doc.identity(), Some(&Identity { user_id: "alice".into(), account_id: "alice".into() }));
    assert_eq!((doc.email(), doc.plan()), (Some("alice@example.com"), Some("plus")));
    assert_eq!(doc.issuer(), Some("https://issuer.example"));
    assert_eq!(
        (doc.issued_at(), doc.expires_at(), doc.last_refresh()),
        (Some(1000), Some(2000), Some(1_795_349_818))
    );
    assert_eq!(doc.refresh_token().map(Secret::expose), Some("rt-1-alice-alice"));
    assert_eq!(doc.kind(), AccountKind::Chatgpt);
}

#[test]
fn the_identity_is_user_and_workspace_and_nothing_else() {
    let id = |user, workspace| Login { workspace, ..login(user) }.doc().id().clone();
    assert_eq!(id("alice", "w"), id("alice", "w"));
    assert_ne!(id("alice", "w"), id("bob", "w"), "colleagues");
    assert_ne!(id("alice", "w"), id("alice", "v"), "two workspaces of one person");
    let renewed = Login {
        last_refresh: "2027-01-01T00:00:00Z",
        plan: "pro",
        ..login("alice").refresh("rt-2").issued(9)
    };
    assert_eq!(renewed.doc().id(), login("alice").doc().id());
    assert_eq!(login("alice").doc().id().as_str().len(), 10);
    assert!(AccountId::parse(login("alice").doc().id().as_str()).is_some());
}

#[test]
fn user_id_comes_from_older_claims_or_else_from_the_id_token() {
    let older = changed(|t| {
        let mut claims = login("alice").claims();
        let auth = claims["https://api.openai.com/auth"].as_object_mut().expect("claims");
        let user = auth.remove("chatgpt_user_id").expect("a user");
        auth.insert("user_id".into(), user);
        t["tokens"]["access_token"] = jwt(&claims).into();
        t["tokens"]["id_token"] = jwt(&claims).into();
    });
    assert_eq!(older.expect("understood").id(), login("alice").doc().id());
    let opaque = changed(|t| t["tokens"]["access_token"] = "opaque".into()).expect("understood");
    assert_eq!((opaque.id(), opaque.issued_at()), (login("alice").doc().id(), None));
}

#[test]
fn the_kind_is_decided_by_auth_mode_and_without_it_by_the_key() {
    let kind = |mode: Value, key: Value| {
        changed(|t| {
            t["auth_mode"] = mode;
            t["OPENAI_API_KEY"] = key;
        })
        .map(|d| d.kind())
    };
    assert_eq!(kind("chatgpt".into(), "sk-test".into()), Ok(AccountKind::Chatgpt));
    assert_eq!(kind("apikey".into(), "sk-test".into()), Ok(AccountKind::ApiKey));
    assert_eq!(kind(Value::Null, "sk-test".into()), Ok(AccountKind::ApiKey));
    assert_eq!(kind(Value::Null, Value::Null), Ok(AccountKind::Chatgpt));
    assert_eq!(kind("apikey".into(), Value::Null), Err(DocError::NoTokens));
    let keys = ["sk-test-1", "sk-test-2"].map(|k| AuthDoc::of_api_key(&Secret::new(k)).expect("a key"));
    assert_ne!(keys[0].id(), keys[1].id());
    assert_eq!(keys[0].access_token().map(Secret::expose), Some("sk-test-1"));
}

#[test]
fn what_cannot_be_managed_or_understood_is_told_apart() {
    let error = |text: &str| AuthDoc::parse(text.as_bytes().to_vec()).err();
    for text in ["", "{", "{\"tokens\": {\"access_token\": \"x", "\u{0}", "tru"] {
        assert_eq!(error(text), Some(DocError::NotJson), "{text}");
    }
    for text in ["[1]", "5", "\"x\"", "{\"tokens\": 5}", "{\"auth_mode\": {}}"] {
        assert_eq!(error(text), Some(DocError::NotAuth), "{text}");
    }
    for text in
        ["{}", "{\"tokens\": {}}", "{\"OPENAI_API_KEY\": \" \"}", "{\"tokens\": {\"access_token\": \"\"}}"]
    {
        assert_eq!(error(text), Some(DocError::NoTokens), "{text}");
    }
    assert_eq!(error("{\"tokens\": {\"access_token\": \"a.b.c\"}}"), Some(DocError::NoIdentity));
    for text in [
        "{\"agent_identity\": {}}",
        "{\"personal_access_token\": \"x\"}",
        "{\"auth_mode\": \"agentIdentity\"}",
        "{\"auth_mode\": \"of the future\", \"tokens\": {\"access_token\": \"x\"}}",
    ] {
        assert!(matches!(error(text), Some(DocError::Unmanaged(_))), "{text}");
    }
}

#[test]
fn the_newer_one_is_decided_by_iat_then_exp_then_last_refresh() {
    let base = login("alice");
    let newer = [
        Login { expires_at: 0, last_refresh: "2000-01-01T00:00:00Z", ..base.clone().issued(1001) },
        Login { expires_at: 2001, last_refresh: "2000-01-01T00:00:00Z", ..base.clone() },
        Login { last_refresh: "2026-11-22T12:16:58.981565307Z", ..base.clone() },
    ];
    for newer in newer {
        assert_eq!(newer.doc().compare_age(&base.doc()), Ordering::Greater);
        assert_eq!(base.doc().compare_age(&newer.doc()), Ordering::Less);
    }
    assert_eq!(base.clone().refresh("rt-2").doc().compare_age(&base.doc()), Ordering::Equal);
}

#[test]
fn the_same_credentials_may_be_written_differently() {
    let doc = login("alice").doc();
    let compact = AuthDoc::parse(login("alice").tree().to_string().into_bytes()).expect("a document");
    assert!(compact.same_credentials(&doc) && compact.hash() != doc.hash());
    assert!(!login("alice").refresh("rt-2").doc().same_credentials(&doc));
}

#[test]
fn mixed_document_is_put_right_and_nothing_else_is_touched() {
    let doc = login("alice").doc();
    assert_eq!(doc.clone().corrected().bytes(), doc.bytes());
    let wrong = changed(|t| {
        t["tokens"]["account_id"] = "somebody-elses".into();
        t["of the future"] = json!({"z": 1, "a": [null, 2.5]});
    });
    let right = wrong.expect("understood").corrected();
    let tree: Value = serde_json::from_slice(right.bytes()).expect("JSON");
    assert_eq!((&tree["tokens"]["account_id"], right.id()), (&json!("alice"), doc.id()));
    assert_eq!(tree["of the future"].to_string(), "{\"z\":1,\"a\":[null,2.5]}", "in its order");
}

#[test]
fn a_refresh_changes_the_tokens_that_came_and_last_refresh() {
    let secret = |login: &Login| Secret::new(jwt(&login.claims()));
    let doc = changed(|t| t["of the future"] = 1.into()).expect("a document");
    let newer = login("alice").issued(5000);
    let fresh = FreshTokens {
        access_token: Some(secret(&newer)),
        refresh_token: Some(Secret::new("rt-2")),
        id_token: None,
    };
    let renewed = doc.renewed(&fresh, 1_795_349_820).expect("hers");
    assert_eq!((renewed.issued_at(), renewed.last_refresh()), (Some(5000), Some(1_795_349_820)));
    let (before, after): (Value, Value) = (
        serde_json::from_slice(doc.bytes()).expect("JSON"),
        serde_json::from_slice(renewed.bytes()).expect("JSON"),
    );
    assert_eq!(after["tokens"]["id_token"], before["tokens"]["id_token"]);
    assert_eq!((&after["tokens"]["refresh_token"], &after["of the future"]), (&json!("rt-2"), &json!(1)));
    let kept = doc.renewed(&FreshTokens::default(), 1).expect("hers");
    assert!(kept.same_credentials(&doc));
    let foreign = FreshTokens { access_token: Some(secret(&login("bob"))), ..FreshTokens::default() };
    let kept = AuthDoc::parse(doc.renewed(&foreign, 1).unwrap_err()).unwrap();
    assert_ne!(kept.id(), doc.id(), "the answer is not lost");
}

#[test]
fn what_other_tools_export_becomes_a_standard_document() {
    let tokens = login("alice").tree()["tokens"].clone();
    for foreign in
        [tokens.clone(), json!({"auth": login("alice").tree()}), json!({"authJson": {"auth_json": tokens}})]
    {
        let doc = AuthDoc::parse_foreign(foreign.to_string().as_bytes()).expect("understood");
        assert!(doc.same_credentials(&login("alice").doc()), "{foreign}");
        AuthDoc::parse(doc.bytes().to_vec()).expect("a standard document");
    }
    let standard = login("alice").doc();
    assert_eq!(AuthDoc::parse_foreign(standard.bytes()).expect("understood").bytes(), standard.bytes());
    assert_eq!(AuthDoc::parse_foreign(b"{\"accounts\": []}").err(), Some(DocError::NoTokens));
}

#[test]
fn no_secret_is_ever_shown() {
    let doc = login("alice").refresh("rt-very-secret").doc();
    let key = AuthDoc::of_api_key(&Secret::new("sk-test-secret")).expect("a key");
    let fresh = FreshTokens { refresh_token: Some(Secret::new("rt-very-secret")), ..FreshTokens::default() };
    let shown = format!("{doc:?} {key:?} {fresh:?} {:#?}", doc.access_token());
    for secret in ["rt-very-secret", "sk-test-secret", "aGVhZA"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn cut_or_changed_anywhere_a_document_is_refused_or_kept_byte_for_byte() {
    let good = login("alice").doc();
    for end in 0..good.bytes().len() {
        AuthDoc::parse(good.bytes()[..end].to_vec()).expect_err("cut off");
    }
    for at in 0..good.bytes().len() {
        for byte in [0, b'"', b'{', b'}', b'0', 0xff] {
            let mut bytes = good.bytes().to_vec();
            bytes[at] = byte;
            if let Ok(doc) = AuthDoc::parse(bytes.clone()) {
                assert_eq!(doc.bytes(), bytes);
                assert!(doc.corrected().identity().is_some());
            }
        }
    }
}
