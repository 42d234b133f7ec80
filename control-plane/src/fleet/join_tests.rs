//! Tokens, enrolment and renewal on a real database: what lets a machine in, and what does not.

use super::devices::Denied;
use super::enrol::EnrolError;
use super::renew::RenewError;
use super::testing::{Fleet, csr};
use super::tokens::TokenError;
use crate::platform::db::{Db, StoreError};
use crate::platform::testing::{both_stores, clock};
use crate::tenants::Caller;
use aidos_protocol::TenantId;
use aidos_protocol::api::tokens::{CreateToken, TokenState};
use aidos_protocol::enrol::{EnrolRequest, JoinToken, RenewalRequest, renewal_message};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::collections::BTreeMap;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

both_stores!(
    the_last_use_of_a_token_is_given_once,
    a_token_that_does_not_let_in_says_why,
    tokens_are_listed_without_their_secrets_and_by_tenant,
    enrolment_is_all_or_nothing,
    an_expired_certificate_is_renewed_by_its_key_and_old_keys_stay_known,
    a_revoked_or_deleted_device_gets_nothing,
    a_start_finds_nobody_online,
    the_api_answers_with_problems_and_bounds_strangers,
);

fn request(token: &str, key: &rcgen::KeyPair) -> EnrolRequest {
    EnrolRequest { token: token.into(), csr_pem: csr(key), name: "press-7".into(), labels: BTreeMap::new() }
}

async fn the_last_use_of_a_token_is_given_once(db: Db) {
    let fleet = Fleet::on(db, clock()).await;
    let token = fleet.token(5).await;
    let joins = (0..12).map(|_| {
        let (enrolment, token) = (fleet.enrolment.clone(), token.clone());
        tokio::spawn(async move { enrolment.enrol(request(&token, &rcgen::KeyPair::generate().unwrap()), None).await })
    });
    let results = futures::future::join_all(joins).await;
    let joined = results.iter().filter(|result| matches!(result, Ok(Ok(_)))).count();
    let used_up =
        |result: &&Result<Result<_, EnrolError>, _>| matches!(result, Ok(Err(EnrolError::Token(TokenError::UsedUp { uses: 5 }))));
    assert_eq!((joined, results.iter().filter(used_up).count()), (5, 7));
    let listed = fleet.tokens.list(&fleet.caller, None, 10).await.unwrap();
    assert_eq!((listed[0].used, listed[0].state), (5, TokenState::UsedUp));
}

async fn a_token_that_does_not_let_in_says_why(db: Db) {
    let fleet = Fleet::on(db, clock()).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let text = fleet.token(1).await;
    let known: JoinToken = text.parse().unwrap();
    let refusal = async |token: &str| match fleet.enrolment.enrol(request(token, &key), None).await {
        Err(EnrolError::Token(error)) => error,
        other => panic!("{:?}", other.map(|joined| joined.device_id)),
    };
    assert!(matches!(refusal("hello").await, TokenError::Malformed(_)));
    let foreign = JoinToken { ca_pin: "0".repeat(64), ..known.clone() };
    assert!(matches!(refusal(&foreign.to_string()).await, TokenError::Foreign));
    let guessed = JoinToken { secret: "A".repeat(43), ..known.clone() };
    assert!(matches!(refusal(&guessed.to_string()).await, TokenError::Unknown));
    fleet.clock.advance(Duration::from_secs(3_600));
    let expired = refusal(&text).await;
    assert!(matches!(expired, TokenError::Expired) && expired.to_string().contains("aidos token create"), "{expired}");
    fleet.tokens.delete(&fleet.caller, known.id).await.unwrap();
    assert!(matches!(refusal(&text).await, TokenError::Unknown));
    for (bad, field) in [
        (CreateToken { uses: 0, ..Default::default() }, "uses"),
        (CreateToken { ttl_s: 5, ..Default::default() }, "ttl_s"),
        (CreateToken { labels: (0..33).map(|n| (n.to_string(), String::new())).collect(), ..Default::default() }, "labels"),
        (CreateToken { labels: [("no key!".into(), "lab".into())].into(), ..Default::default() }, "labels"),
    ] {
        let error = fleet.tokens.create(&fleet.caller, bad).await.unwrap_err();
        assert!(matches!(&error, TokenError::Invalid { field: is, .. } if *is == field), "{error}");
    }
}

async fn tokens_are_listed_without_their_secrets_and_by_tenant(db: Db) {
    let fleet = Fleet::on(db, clock()).await;
    let created = fleet.tokens.create(&fleet.caller, CreateToken::default()).await.unwrap();
    assert_eq!(created.command, format!("aidos-agent join https://plane:7070 --token {}", created.token));
    let secret = created.token.parse::<JoinToken>().unwrap().secret;
    let listed = fleet.tokens.list(&fleet.caller, None, 10).await.unwrap();
    assert_eq!(listed, [created.view]);
    assert!(!serde_json::to_string(&listed).unwrap().contains(&secret));
    let other = Caller::system(TenantId::new(9));
    assert!(fleet.tokens.list(&other, None, 10).await.unwrap().is_empty());
    let denied = fleet.tokens.delete(&other, listed[0].id).await;
    assert!(matches!(denied, Err(TokenError::Store(StoreError::NotFound))));
    assert!(fleet.tokens.list(&fleet.caller, Some(listed[0].id), 10).await.unwrap().is_empty());
}

async fn enrolment_is_all_or_nothing(db: Db) {
    let fleet = Fleet::on(db, clock()).await;
    let labels =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>();
    let new = CreateToken { uses: 1, labels: labels(&[("site", "lab")]), ..Default::default() };
    let token = fleet.tokens.create(&fleet.caller, new).await.unwrap().token;
    let key = rcgen::KeyPair::generate().unwrap();
    let bad_label = EnrolRequest { labels: labels(&[("bad key", "x")]), ..request(&token, &key) };
    assert!(matches!(fleet.enrolment.enrol(bad_label, None).await, Err(EnrolError::Twin(_))));
    let bad_csr = EnrolRequest { csr_pem: "x".into(), ..request(&token, &key) };
    assert!(matches!(fleet.enrolment.enrol(bad_csr, None).await, Err(EnrolError::Certificate(_))));
    let bad_name = EnrolRequest { name: "a\nb".into(), ..request(&token, &key) };
    assert!(matches!(fleet.enrolment.enrol(bad_name, None).await, Err(EnrolError::Name)));
    // None of these spent the token.
    let good = EnrolRequest { labels: labels(&[("site", "mine"), ("line", "4")]), ..request(&token, &key) };
    let joined = fleet.enrolment.enrol(good, None).await.unwrap();
    assert_eq!(joined.tenant_id, fleet.caller.tenant);
    assert_eq!(fleet.desk.labels.lock().unwrap()[&joined.device_id], labels(&[("site", "lab"), ("line", "4")]));
    let row = fleet.devices.get(joined.tenant_id, joined.device_id).await.unwrap();
    assert_eq!((row.name.as_str(), row.online, row.revoked), ("press-7", false, None));
    assert_eq!(fleet.devices.tenant_of(joined.device_id).await.unwrap(), Some(joined.tenant_id));
    let keys = fleet.devices.keys(joined.tenant_id, joined.device_id).await.unwrap();
    assert_eq!(keys.len(), 1);
    assert!(matches!(fleet.devices.get(TenantId::new(9), joined.device_id).await, Err(StoreError::NotFound)));
}

async fn an_expired_certificate_is_renewed_by_its_key_and_old_keys_stay_known(db: Db) {
    let fleet = Fleet::on(db, clock()).await;
    let device = fleet.device().await;
    let new_key = rcgen::KeyPair::generate().unwrap();
    let csr_pem = csr(&new_key);
    let csr_der = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes()).unwrap();
    use rustls_pki_types::pem::PemObject as _;
    let sign = |key: &rcgen::KeyPair| STANDARD.encode(rcgen::SigningKey::sign(key, &renewal_message(&csr_der)).unwrap());
    let renewal =
        |signature: String| RenewalRequest { certificate_pem: device.chain_pem.clone(), csr_pem: csr_pem.clone(), signature };
    fleet.clock.advance(DAY * 200);
    let stolen = fleet.renewal.renew(&renewal(sign(&new_key))).await;
    assert!(matches!(stolen, Err(RenewError::Signature)), "the certificate alone is not enough");
    let renewed = fleet.renewal.renew(&renewal(sign(&device.key))).await.unwrap();
    let again = fleet.renewal.renew(&renewal(sign(&device.key))).await.unwrap();
    assert!(renewed.chain_pem.starts_with("-----BEGIN CERTIFICATE") && again.chain_pem != renewed.chain_pem);
    let keys = fleet.devices.keys(fleet.caller.tenant, device.id).await.unwrap();
    assert_eq!(keys.len(), 2, "the same key twice is one key, and the old one stays");
    let row = fleet.devices.get(fleet.caller.tenant, device.id).await.unwrap();
    assert_eq!(row.certificate_end, fleet.clock.now().plus_seconds(30 * 86_400));
    fleet.clock.advance(DAY * 300);
    assert!(matches!(fleet.renewal.renew(&renewal(sign(&device.key))).await, Err(RenewError::Certificate(_))));
}

async fn a_revoked_or_deleted_device_gets_nothing(db: Db) {
    let fleet = Fleet::on(db, clock()).await;
    let (device, tenant) = (fleet.device().await, fleet.caller.tenant);
    let key_id = fleet.devices.keys(tenant, device.id).await.unwrap()[0].key_id.clone();
    let authenticate = async |tenant, key: &str| fleet.devices.authenticate(tenant, device.id, Some(key)).await;
    assert!(authenticate(tenant, &key_id).await.is_ok());
    assert!(matches!(authenticate(tenant, "00").await, Err(Denied::Unknown)), "a key that was never recorded");
    assert!(matches!(authenticate(TenantId::new(9), &key_id).await, Err(Denied::Unknown)), "another tenant");
    let stranger = Caller::system(TenantId::new(9));
    assert!(matches!(fleet.devices.revoke(&stranger, device.id).await, Err(StoreError::NotFound)));
    assert!(matches!(fleet.devices.delete(&stranger, device.id).await, Err(StoreError::NotFound)));
    for _ in 0..2 {
        assert!(fleet.devices.revoke(&fleet.caller, device.id).await.unwrap().revoked.is_some());
    }
    assert!(matches!(authenticate(tenant, &key_id).await, Err(Denied::Revoked)));
    fleet.devices.delete(&fleet.caller, device.id).await.unwrap();
    assert!(matches!(authenticate(tenant, &key_id).await, Err(Denied::Unknown)));
    assert!(fleet.devices.keys(tenant, device.id).await.unwrap().is_empty());
}

async fn a_start_finds_nobody_online(db: Db) {
    use super::ports::{Peer, Transport};
    let fleet = Fleet::on(db, clock()).await;
    let (device, tenant) = (fleet.device().await, fleet.caller.tenant);
    let (transport, address) = (Transport::Quic, "192.0.2.1:9".to_owned());
    let peer = Peer { tenant, device: device.id, transport, address, key_id: None };
    fleet.devices.mark_online(&peer, 1, "1.0.0").await.unwrap();
    fleet.devices.mark_online(&peer, 2, "1.0.0").await.unwrap();
    fleet.devices.mark_offline(&peer, 1).await.unwrap();
    assert!(fleet.devices.get(tenant, device.id).await.unwrap().online, "an old session's end is not the device's");
    fleet.devices.sweep_at_start().await.unwrap();
    let row = fleet.devices.get(tenant, device.id).await.unwrap();
    assert_eq!((row.online, row.transport.as_deref(), row.last_seen), (false, Some("quic"), Some(fleet.clock.now())));
}

async fn the_api_answers_with_problems_and_bounds_strangers(db: Db) {
    use axum::body::{Body, to_bytes};
    use axum::http::{Request, StatusCode};
    use tower::ServiceExt as _;
    let fleet = Fleet::on(db, clock()).await;
    let (tokens, enrolment, renewal) = (fleet.tokens.clone(), fleet.enrolment.clone(), fleet.renewal.clone());
    let (api, document) = super::join_router(fleet.tenants.clone(), tokens, enrolment, renewal).split_for_parts();
    assert_eq!(document.paths.paths.len(), 5);
    let call = async |method: &str, path: &str, key: &str, body: serde_json::Value| {
        let request = Request::builder().method(method).uri(format!("/api/v1{path}")).header("authorization", key);
        let request = request.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap();
        let response = api.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(serde_json::Value::Null))
    };
    let none = serde_json::Value::Null;
    for (method, path) in [("GET", "/tokens"), ("POST", "/tokens"), ("DELETE", "/tokens/tok_0")] {
        assert_eq!(call(method, path, "", none.clone()).await.0, StatusCode::UNAUTHORIZED, "{method} {path}");
    }
    let wish = serde_json::json!({ "uses": 2, "labels": { "site": "lab" } });
    let (status, created) = call("POST", "/tokens", &fleet.bearer, wish).await;
    assert_eq!((status, &created["uses"], &created["ttl_s"]), (StatusCode::CREATED, &2.into(), &none));
    let (status, problem) = call("POST", "/tokens", &fleet.bearer, serde_json::json!({ "uses": 0 })).await;
    assert_eq!((status, &problem["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &"uses".into()));

    let key = rcgen::KeyPair::generate().unwrap();
    let join = serde_json::to_value(request(created["token"].as_str().unwrap(), &key)).unwrap();
    let (status, joined) = call("POST", "/enrol", "", join).await;
    assert_eq!((status, &joined["tenant_id"]), (StatusCode::OK, &fleet.caller.tenant.to_string().into()));
    let (_, listed) = call("GET", "/tokens?limit=1", &fleet.bearer, none.clone()).await;
    assert_eq!((&listed["items"][0]["used"], &listed["next_cursor"]), (&1.into(), &none));
    let id = created["id"].as_str().unwrap();
    assert_eq!(call("DELETE", &format!("/tokens/{id}"), &fleet.bearer, none.clone()).await.0, StatusCode::NO_CONTENT);
    assert_eq!(call("DELETE", &format!("/tokens/{id}"), &fleet.bearer, none.clone()).await.0, StatusCode::NOT_FOUND);

    let renewal = serde_json::json!({ "certificate_pem": joined["chain_pem"], "csr_pem": csr(&key), "signature": "AAAA" });
    let (status, problem) = call("POST", "/enrol/renew", "", renewal).await;
    assert_eq!((status, &problem["code"]), (StatusCode::FORBIDDEN, &"signature".into()));
    let (status, problem) = call("POST", "/enrol", "", serde_json::to_value(request("hello", &key)).unwrap()).await;
    assert_eq!((status, &problem["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &"token".into()));
    let huge = serde_json::json!({ "token": "x".repeat(40_000) });
    assert_eq!(call("POST", "/enrol", "", huge).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}
