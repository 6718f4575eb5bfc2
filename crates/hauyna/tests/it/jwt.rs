//! JSON web tokens: accepted tokens, the answer to each forgery, and expiry on a live connection.

use crate::support::open_hub;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hauyna::auth::{Jwt, JwtAlgorithm, JwtKey, JwtKeys, Revocation};
use hauyna::{Context, Handler, Value, json};
use hauyna_test::TestServer;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PublicKeyData, RsaKeySize, SigningKey};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Returns valid claims with some changes.
fn claims(changes: Value) -> Value {
    let mut claims = json!({ "sub": "ada", "iss": "us", "aud": "chat", "exp": now() + 600, "plan": "gold" });
    if let Value::Object(changes) = changes {
        claims.as_object_mut().unwrap().extend(changes);
    }
    claims
}

fn pem(key: &KeyPair) -> String {
    let text = STANDARD.encode(key.subject_public_key_info());
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

fn base64(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Returns a token with any header and signature.
fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", base64(header), base64(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn hmac(claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn secret() -> JwtKey {
    JwtKey::secret(JwtAlgorithm::Hs256, SECRET).unwrap()
}

fn rsa() -> KeyPair {
    KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap()
}

fn serve(jwt: Jwt) -> TestServer {
    let handler =
        Handler::new().authenticate(jwt).on("claims", async |cx: Context, _: Value| cx.claims::<Value>());
    TestServer::start(open_hub().build(), handler)
}

/// Returns the user, or the error.
async fn verdict(server: &TestServer, token: &str) -> Result<Value, Value> {
    let client = server.client("/").json().header("authorization", &format!("Bearer {token}"));
    match client.try_connect().await {
        Ok(mut client) => Ok(client.expect("session").await["user"].clone()),
        Err(refused) => {
            assert_eq!(refused.status.as_u16(), 401, "{refused:?}");
            Err(refused.json())
        }
    }
}

#[tokio::test]
async fn every_algorithm_is_verified_with_its_configured_key() {
    let (p256, p384) = (&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384);
    let good = claims(json!({}));
    for (algorithm, theirs) in [
        (JwtAlgorithm::Hs256, Algorithm::HS256),
        (JwtAlgorithm::Hs384, Algorithm::HS384),
        (JwtAlgorithm::Hs512, Algorithm::HS512),
    ] {
        let server = serve(Jwt::new(JwtKey::secret(algorithm, SECRET).unwrap()).audience("chat"));
        let token =
            encode(&Header::new(theirs), &good, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
        assert_eq!(verdict(&server, &token).await.unwrap(), "ada", "{algorithm:?}");
    }
    for (algorithm, theirs, kind) in [
        (JwtAlgorithm::Es256, Algorithm::ES256, p256),
        (JwtAlgorithm::Es384, Algorithm::ES384, p384),
        (JwtAlgorithm::EdDsa, Algorithm::EdDSA, &rcgen::PKCS_ED25519),
    ] {
        let pair = KeyPair::generate_for(kind).unwrap();
        let server = serve(Jwt::new(JwtKey::pem(algorithm, pem(&pair)).unwrap()).audience("chat"));
        let der = pair.serialize_der();
        let key = match algorithm {
            JwtAlgorithm::EdDsa => EncodingKey::from_ed_der(&der),
            _ => EncodingKey::from_ec_der(&der),
        };
        let token = encode(&Header::new(theirs), &good, &key).unwrap();
        assert_eq!(verdict(&server, &token).await.unwrap(), "ada", "{algorithm:?}");
    }
    let der = rsa().serialize_der();
    for (name, ours, kind) in [
        ("RS256", JwtAlgorithm::Rs256, &rcgen::PKCS_RSA_SHA256),
        ("RS384", JwtAlgorithm::Rs384, &rcgen::PKCS_RSA_SHA384),
        ("RS512", JwtAlgorithm::Rs512, &rcgen::PKCS_RSA_SHA512),
    ] {
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der.as_slice().into(), kind).unwrap();
        let server = serve(Jwt::new(JwtKey::pem(ours, pem(&pair)).unwrap()).audience("chat"));
        let token = token(&json!({ "alg": name }), &good, |message| pair.sign(message).unwrap());
        assert_eq!(verdict(&server, &token).await.unwrap(), "ada", "{name}");
    }
}

#[tokio::test]
async fn row_31_all_forged_tokens_are_refused_with_one_answer() {
    let (ours, theirs) = (rsa(), rsa());
    let public = pem(&ours);
    let key = JwtKey::pem(JwtAlgorithm::Rs256, &public).unwrap().kid("one");
    let server = serve(Jwt::new(key).issuer("us").audience("chat"));
    let good = claims(json!({}));
    let sign = |pair: &KeyPair, header: &Value, claims: &Value| {
        token(header, claims, |message| pair.sign(message).unwrap())
    };
    let header = json!({ "alg": "RS256", "typ": "JWT", "kid": "one" });
    let real = sign(&ours, &header, &good);
    assert_eq!(verdict(&server, &real).await.unwrap(), "ada");
    let with_public = |algorithm| {
        encode(&Header::new(algorithm), &good, &EncodingKey::from_secret(public.as_bytes())).unwrap()
    };
    let der = ours.subject_public_key_info();
    let with_der = encode(&Header::new(Algorithm::HS256), &good, &EncodingKey::from_secret(&der)).unwrap();
    let jwk = json!({ "kty": "RSA", "alg": "RS256", "n": URL_SAFE_NO_PAD.encode(theirs.public_key_raw()), "e": "AQAB" });
    let parts: Vec<_> = real.split('.').collect();
    let forged = [
        ("none", token(&json!({ "alg": "none" }), &good, |_| Vec::new())),
        ("None", token(&json!({ "alg": "None", "kid": "one" }), &good, |_| Vec::new())),
        ("no algorithm", token(&json!({ "typ": "JWT" }), &good, |_| Vec::new())),
        ("HS256 with the public key", with_public(Algorithm::HS256)),
        ("HS384 with the public key", with_public(Algorithm::HS384)),
        ("HS512 with the public key", with_public(Algorithm::HS512)),
        ("HS256 with the public key in DER", with_der),
        ("another key", sign(&theirs, &header, &good)),
        ("another key that it names", sign(&theirs, &json!({ "alg": "RS256", "kid": "two" }), &good)),
        ("another key that it brings", sign(&theirs, &json!({ "alg": "RS256", "jwk": jwk }), &good)),
        (
            "another key that it has an address of",
            sign(
                &theirs,
                &json!({ "alg": "RS256", "jku": "http://127.0.0.1:1/keys", "x5u": "http://127.0.0.1:1" }),
                &good,
            ),
        ),
        ("RS384 with the key for RS256", sign(&ours, &json!({ "alg": "RS384", "kid": "one" }), &good)),
        ("PS256 with the key for RS256", sign(&ours, &json!({ "alg": "PS256", "kid": "one" }), &good)),
        ("an algorithm twice", {
            let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","alg":"RS256","kid":"one"}"#);
            format!("{header}.{}.{}", parts[1], parts[2])
        }),
        (
            "a critical header",
            sign(&ours, &json!({ "alg": "RS256", "kid": "one", "crit": ["b64"], "b64": false }), &good),
        ),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("a signature cut short", format!("{}.{}.{}", parts[0], parts[1], &parts[2][..40])),
        ("other claims", format!("{}.{}.{}", parts[0], base64(&claims(json!({ "sub": "root" }))), parts[2])),
        ("four parts", format!("{real}.x")),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("no token", "x".to_owned()),
        ("another issuer", sign(&ours, &header, &claims(json!({ "iss": "them" })))),
        ("an issuer that is no text", sign(&ours, &header, &claims(json!({ "iss": ["us"] })))),
        ("another audience", sign(&ours, &header, &claims(json!({ "aud": ["mail", "shop"] })))),
        ("no audience", sign(&ours, &header, &claims(json!({ "aud": null })))),
        ("no user", sign(&ours, &header, &claims(json!({ "sub": null })))),
        ("a user that is no text", sign(&ours, &header, &claims(json!({ "sub": 7 })))),
    ];
    let answer = json!({ "error_type": "unauthorized", "message": "the token is not valid" });
    for (name, token) in &forged {
        assert_eq!(verdict(&server, token).await, Err(answer.clone()), "{name}");
    }
    assert!(forged.len() >= 12);
    let either = sign(&ours, &header, &claims(json!({ "aud": ["mail", "chat"] })));
    assert_eq!(verdict(&server, &either).await.unwrap(), "ada");
}

#[tokio::test]
async fn row_32_invalid_timestamps_are_refused() {
    let server = serve(Jwt::new(secret()).audience("chat"));
    let bad = [
        json!({ "exp": "never" }),
        json!({ "exp": (now() + 600).to_string() }),
        json!({ "exp": 1e30 }),
        json!({ "exp": -1 }),
        json!({ "exp": null }),
        json!({ "exp": true }),
        json!({ "exp": [now() + 600] }),
        json!({ "nbf": "9999" }),
        json!({ "nbf": 1e30 }),
        json!({ "nbf": null }),
        json!({ "nbf": now() + 3600 }),
        json!({ "iat": "yesterday" }),
    ];
    for changes in bad {
        let error = verdict(&server, &hmac(&claims(changes.clone()))).await.unwrap_err();
        assert_eq!(error["error_type"], "unauthorized", "{changes}");
    }
    let mut missing = claims(json!({}));
    missing.as_object_mut().unwrap().remove("exp");
    assert_eq!(verdict(&server, &hmac(&missing)).await.unwrap_err()["error_type"], "unauthorized");
    let late = verdict(&server, &hmac(&claims(json!({ "exp": now() - 2 })))).await.unwrap_err();
    assert_eq!(late["error_type"], "token_expired");
    for accepted in [
        json!({ "nbf": now() - 1 }),
        json!({ "exp": now() as f64 + 60.5 }),
        json!({ "exp": 253_402_300_799_u64 }),
    ] {
        assert_eq!(verdict(&server, &hmac(&claims(accepted.clone()))).await.unwrap(), "ada", "{accepted}");
    }
    let lenient = serve(Jwt::new(secret()).audience("chat").leeway(Duration::from_secs(60)));
    for accepted in [json!({ "nbf": now() + 30 }), json!({ "exp": now() - 30 })] {
        assert_eq!(verdict(&lenient, &hmac(&claims(accepted.clone()))).await.unwrap(), "ada", "{accepted}");
    }
}

#[tokio::test]
async fn row_33_keys_belong_to_their_verifier_and_can_be_replaced() {
    let sign = |secret: &str, kid: &str| {
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::HS256) };
        encode(&header, &claims(json!({})), &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    };
    let key = |secret: &str, kid: &str| JwtKey::secret(JwtAlgorithm::Hs256, secret).unwrap().kid(kid);
    let (old, new) = ("o".repeat(32), "n".repeat(32));
    let keys = JwtKeys::new([key(&old, "one")]);
    let server = serve(Jwt::new(keys.clone()).audience("chat"));
    let other = serve(Jwt::new(key(&new, "one")).audience("chat"));
    assert!(verdict(&server, &sign(&old, "one")).await.is_ok());
    assert!(verdict(&other, &sign(&old, "one")).await.is_err(), "a key of another issuer with the same id");
    assert!(verdict(&server, &sign(&new, "two")).await.is_err());
    for number in 0..200 {
        assert!(verdict(&server, &sign(&old, &format!("unknown-{number}"))).await.is_err());
    }
    keys.replace([key(&old, "one"), key(&new, "two")]);
    assert!(verdict(&server, &sign(&old, "one")).await.is_ok());
    assert!(verdict(&server, &sign(&new, "two")).await.is_ok());
    assert!(verdict(&server, &sign(&new, "one")).await.is_err());
    keys.replace([key(&new, "two")]);
    assert!(verdict(&server, &sign(&old, "one")).await.is_err());
}

#[tokio::test]
async fn keys_of_a_json_web_key_set_name_their_algorithm() {
    let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let point = pair.public_key_raw();
    let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
    let ec = json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": "k", "alg": "ES256", "x": part(1..33), "y": part(33..65) });
    let mut unnamed = ec.clone();
    unnamed.as_object_mut().unwrap().remove("alg");
    let secret = json!({ "kty": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(SECRET) });
    let mut confused = ec.clone();
    confused["alg"] = "RS256".into();
    let mut encryption = ec.clone();
    encryption["use"] = "enc".into();
    for bad in [&unnamed, &secret, &confused, &json!({ "kty": "EC" }), &json!(7)] {
        assert!(JwtKey::jwk(bad).is_err(), "{bad}");
    }
    let set = json!({ "keys": [unnamed, secret, confused, encryption, ec] });
    let keys = JwtKeys::jwks(&set.to_string()).unwrap();
    assert_eq!(keys.len(), 1);
    assert!(JwtKeys::jwks(r#"{"keys":[]}"#).is_err() && JwtKeys::jwks("x").is_err());
    let server = serve(Jwt::new(keys).audience("chat"));
    let header = Header { kid: Some("k".to_owned()), ..Header::new(Algorithm::ES256) };
    let token =
        encode(&header, &claims(json!({})), &EncodingKey::from_ec_der(&pair.serialize_der())).unwrap();
    assert_eq!(verdict(&server, &token).await.unwrap(), "ada");
}

#[test]
fn keys_that_do_not_fit_their_algorithm_are_refused_at_creation() {
    let rsa = pem(&rsa());
    let ec = pem(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap());
    assert!(JwtKey::secret(JwtAlgorithm::Rs256, SECRET).is_err());
    assert!(JwtKey::secret(JwtAlgorithm::Hs256, "short").is_err());
    assert!(JwtKey::secret(JwtAlgorithm::Hs256, &rsa).is_err(), "a public key is not a secret");
    assert!(JwtKey::pem(JwtAlgorithm::Hs256, &rsa).is_err());
    assert!(JwtKey::pem(JwtAlgorithm::Es256, &rsa).is_err());
    assert!(JwtKey::pem(JwtAlgorithm::Rs256, &ec).is_err());
    assert!(JwtKey::pem(JwtAlgorithm::Es384, &ec).is_err());
    assert!(JwtKey::pem(JwtAlgorithm::Rs256, "no key").is_err());
    assert!(!format!("{:?}", secret()).contains("0123"));
}

#[tokio::test]
async fn row_34_json_web_token_is_revoked_by_its_jti() {
    let server = serve(Jwt::new(secret()).audience("chat"));
    let stolen = hmac(&claims(json!({ "jti": "t-7" })));
    let mut client =
        server.client("/").json().header("authorization", &format!("Bearer {stolen}")).connect().await;
    client.expect("session").await;
    assert_eq!(server.hub().revoke(Revocation::token("t-7")).await, 1);
    assert_eq!(client.expect_close().await.0, 3505);
    assert_eq!(verdict(&server, &stolen).await.unwrap_err()["error_type"], "unauthorized");
    assert_eq!(verdict(&server, &hmac(&claims(json!({ "jti": "t-8" })))).await.unwrap(), "ada");
    assert_eq!(verdict(&server, &hmac(&claims(json!({ "jti": 7 })))).await.unwrap(), "ada");
}

#[tokio::test]
async fn user_and_claims_come_from_the_token_and_its_refresh() {
    let server = serve(Jwt::new(secret()).audience("chat").user_claim("email").require("plan"));
    let of = |email: &str, plan: &str, exp: u64| {
        hmac(&claims(json!({ "email": email, "plan": plan, "exp": exp })))
    };
    let token = of("ada@x", "gold", now() + 2);
    let began = Instant::now();
    let mut client = server.client("/").json().protocol(&format!("hauyna.bearer.{token}")).connect().await;
    let session = client.expect("session").await;
    assert_eq!(session["user"], "ada@x");
    assert_eq!(client.request(json!({ "type": "claims" })).await.unwrap()["plan"], "gold");
    for (bad, kind) in [
        (of("eve@x", "gold", now() + 60), "unauthorized"),
        (of("ada@x", "gold", now() - 60), "token_expired"),
        ("forged".to_owned(), "unauthorized"),
    ] {
        let error = client.request(json!({ "type": "refresh", "token": bad })).await.unwrap_err();
        assert_eq!(error["error_type"], kind);
    }
    let end = now() + 4;
    let fresh = of("ada@x", "silver", end);
    let answer = client.request(json!({ "type": "refresh", "token": fresh })).await.unwrap();
    assert_eq!(answer["expires_at"], end * 1000);
    assert_eq!(client.request(json!({ "type": "claims" })).await.unwrap()["plan"], "silver");
    assert_eq!(client.expect_close().await, (3005, "expired".to_owned()));
    assert!(began.elapsed() > Duration::from_millis(2500), "the expiry of the first token no longer applies");
    let without_plan = hmac(&claims(json!({ "email": "ada@x", "plan": null })));
    assert!(verdict(&server, &without_plan).await.is_err());
}

#[tokio::test]
async fn leeway_below_a_second_counts() {
    let server = serve(Jwt::new(secret()).audience("chat").leeway(Duration::from_millis(1500)));
    let ahead = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() + 1.4;
    assert_eq!(verdict(&server, &hmac(&claims(json!({ "nbf": ahead })))).await.unwrap(), "ada");
    let (early, late) = (json!({ "nbf": now() + 60 }), json!({ "exp": now() - 2 }));
    assert_eq!(verdict(&server, &hmac(&claims(early))).await.unwrap_err()["error_type"], "unauthorized");
    assert_eq!(verdict(&server, &hmac(&claims(late))).await.unwrap_err()["error_type"], "token_expired");
}
