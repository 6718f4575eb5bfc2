//! Handshakes: tables of valid and malformed requests and answers, cut anywhere, and the texts of refusals.

use hauyna_websocket::handshake::{
    AnswerError, ClientRequest, Head, HeadReader, Refusal, Upgrade, check, check_extended_connect,
    wants_websocket,
};
use hauyna_websocket::{Deflate, OpCode, encode};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Version};

/// Returns the request of RFC 6455 §1.3.
const GOOD: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// Requests by name, for this table and for the fuzz corpus.
pub(crate) fn requests() -> Vec<(&'static str, String)> {
    let mut all = vec![("good", GOOD.to_owned())];
    all.extend(malformed().into_iter().map(|(name, request, _)| (name, request)));
    all.push((
        "deflate",
        GOOD.replace("Origin: http://example.com", "Sec-WebSocket-Extensions: permessage-deflate; a=\"\\b\""),
    ));
    all
}

fn malformed() -> Vec<(&'static str, String, Refusal)> {
    use Refusal as R;
    let with = |from: &str, to: &str| {
        assert!(GOOD.contains(from), "{from}");
        GOOD.replacen(from, to, 1)
    };
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    let host = "Host: server.example.com\r\n";
    vec![
        ("post", with("GET", "POST"), R::Method),
        ("connect", with("GET /chat", "CONNECT a:1"), R::Method),
        ("lower-case-get", with("GET", "get"), R::Method),
        ("http-1.0", with("HTTP/1.1", "HTTP/1.0"), R::HttpVersion),
        ("http-1.2", with("HTTP/1.1", "HTTP/1.2"), R::Malformed),
        ("http-2-in-the-line", with("HTTP/1.1", "HTTP/2.0"), R::Malformed),
        ("no-version", with(" HTTP/1.1", ""), R::Malformed),
        ("no-host", with(host, ""), R::Host),
        ("empty-host", with(host, "Host: \r\n"), R::Host),
        ("two-hosts", with(host, &host.repeat(2)), R::Host),
        ("content-length", with(host, &format!("{host}Content-Length: 5\r\n")), R::Body),
        ("content-length-0", with(host, &format!("{host}Content-Length: 0\r\n")), R::Body),
        ("chunked", with(host, &format!("{host}Transfer-Encoding: chunked\r\n")), R::Body),
        ("no-upgrade", with("Upgrade: websocket\r\n", ""), R::NotAnUpgrade),
        ("upgrade-to-h2c", with("websocket\r\n", "h2c\r\n"), R::NotAnUpgrade),
        ("upgrade-to-websockets", with("websocket\r\n", "websockets\r\n"), R::NotAnUpgrade),
        ("no-connection", with("Connection: Upgrade\r\n", ""), R::NotAnUpgrade),
        ("connection-close", with("Connection: Upgrade", "Connection: close"), R::NotAnUpgrade),
        (
            "connection-not-quite",
            with("Connection: Upgrade", "Connection: xUpgrade, Upgrade-x"),
            R::NotAnUpgrade,
        ),
        ("version-8", with("Version: 13", "Version: 8"), R::WebSocketVersion),
        ("version-13-and-8", with("Version: 13", "Version: 13, 8"), R::WebSocketVersion),
        ("version-013", with("Version: 13", "Version: 013"), R::WebSocketVersion),
        ("no-version-header", with(version, ""), R::WebSocketVersion),
        ("two-versions", with(version, &version.repeat(2)), R::RepeatedHeader),
        ("no-key", with(key, ""), R::Key),
        ("empty-key", with("dGhlIHNhbXBsZSBub25jZQ==", ""), R::Key),
        ("key-of-3-bytes", with("dGhlIHNhbXBsZSBub25jZQ==", "YWJj"), R::Key),
        ("key-of-15-bytes", with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j"), R::Key),
        ("key-of-17-bytes", with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZWU="), R::Key),
        ("key-of-18-bytes", with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZWVl"), R::Key),
        ("key-without-padding", with("25jZQ==", "25jZQ"), R::Key),
        ("key-not-base64", with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZ!=="), R::Key),
        ("two-keys", with(key, &key.repeat(2)), R::Key),
        (
            "two-origins",
            with("Origin: http://example.com", "Origin: http://a\r\nOrigin: http://b"),
            R::RepeatedHeader,
        ),
        ("protocol-with-space", with("chat, superchat", "chat room"), R::Protocols),
        ("protocol-twice", with("chat, superchat", "chat, chat"), R::Protocols),
        ("no-protocol", with("chat, superchat", ""), R::Protocols),
        ("empty-protocols", with("chat, superchat", ", ,"), R::Protocols),
        ("protocol-with-separator", with("chat, superchat", "ch@t"), R::Protocols),
        ("folded-header", with("Connection: Upgrade", "Connection:\r\n Upgrade"), R::Malformed),
        ("space-before-colon", with("Upgrade: websocket", "Upgrade : websocket"), R::Malformed),
        ("header-without-colon", with(host, "nonsense\r\n"), R::Malformed),
        ("nul-in-a-value", with("server.example.com", "server\0.example.com"), R::Malformed),
        ("lone-lf", with("\r\nUpgrade", "\nUpgrade"), R::Malformed),
        ("lone-lf-ends-the-head-early", with("\r\nUpgrade", "\r\n\nUpgrade"), R::Malformed),
        ("lone-cr-in-a-value", with("server.example.com", "server\rX-Evil: 1"), R::Malformed),
        ("space-in-the-path", with("/chat", "/ch at"), R::Malformed),
        ("not-http", "\x16\x03\x01\x02\x00\x01\r\n\r\n".to_owned(), R::Malformed),
        ("head-too-large", with("/chat", &format!("/{}", "x".repeat(17_000))), R::HeadTooLarge),
        ("101-headers", with(host, &format!("{host}{}", "a: b\r\n".repeat(100))), R::TooManyHeaders),
    ]
}

fn head(request: &str) -> Result<Head, Refusal> {
    HeadReader::new().push(request.as_bytes()).map(|head| head.expect("the request is complete"))
}

fn judge(request: &str) -> Result<Upgrade, Refusal> {
    check(&head(request)?.request.into_parts().0)
}

#[test]
fn the_handshake_of_the_rfc_is_answered_as_in_the_rfc() {
    let upgrade = judge(GOOD).unwrap();
    assert_eq!(upgrade.protocols().collect::<Vec<_>>(), ["chat", "superchat"]);
    let mut out = Vec::new();
    upgrade.write_response(Some("chat"), None, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: chat\r\n\r\n"
    );
}

#[test]
fn every_malformed_request_is_refused_for_its_own_reason() {
    for (name, request, refusal) in malformed() {
        assert_eq!(judge(&request).map(|_| ()), Err(refusal), "{name}");
    }
}

#[test]
fn unusual_but_valid_requests_are_accepted() {
    for (from, to) in [
        ("Connection: Upgrade", "Connection: keep-alive, upgrade"),
        ("Connection: Upgrade", "Connection: keep-alive\r\nConnection: ,Upgrade"),
        ("Upgrade: websocket", "UPGRADE: h2c, WebSocket"),
        ("GET /chat", "\r\n\r\nGET /chat"),
        ("/chat", "http://server.example.com/chat?a=b"),
        ("Connection: Upgrade", "Connection: , ,upgrade,"),
        ("Upgrade: websocket", "Upgrade: ,websocket, "),
        ("Sec-WebSocket-Protocol: chat, superchat\r\n", ""),
        ("chat, superchat", "chat, superchat, "),
        ("chat, superchat", ", chat,\t,superchat,,"),
        ("chat, superchat", "chat\r\nSec-WebSocket-Protocol:\r\nSec-WebSocket-Protocol: ,superchat"),
        ("Origin: http://example.com\r\n", ""),
    ] {
        let request = GOOD.replacen(from, to, 1);
        assert_ne!(request, GOOD);
        let upgrade = judge(&request).unwrap_or_else(|refusal| panic!("{to}: {refusal}"));
        if request.contains("superchat") {
            assert_eq!(upgrade.protocols().collect::<Vec<_>>(), ["chat", "superchat"], "{to}");
        }
    }
}

#[test]
fn requests_cut_at_any_point_give_the_same_head_and_keep_what_follows() {
    let frame = b"\x81\x80\0\0\0\0";
    let stream = [GOOD.as_bytes(), frame].concat();
    for split in 0..=stream.len() {
        let mut reader = HeadReader::new();
        let mut head = reader.push(&stream[..split]).unwrap();
        if split < GOOD.len() {
            assert!(head.is_none());
            head = reader.push(&stream[split..]).unwrap();
        }
        let mut head = head.unwrap();
        if split >= GOOD.len() {
            head.bytes.extend_from_slice(&stream[split..]);
        }
        assert_eq!(head.head_len, GOOD.len());
        assert_eq!(head.bytes, stream);
        assert!(check(&head.request.into_parts().0).is_ok());
    }
    let mut reader = HeadReader::new();
    let heads = GOOD.bytes().filter_map(|byte| reader.push(&[byte]).unwrap()).count();
    assert_eq!(heads, 1);
}

#[test]
fn cve_2023_43669_a_head_without_end_is_refused_at_16_kib() {
    let mut reader = HeadReader::new();
    reader.push(b"GET / HTTP/1.1\r\nx: ").unwrap();
    let mut pushed = 19;
    let refusal = loop {
        match reader.push(b"x") {
            Ok(None) => pushed += 1,
            Ok(Some(_)) => unreachable!("it has no end"),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal, Refusal::HeadTooLarge);
    assert_eq!(pushed, (16 << 10) - 1);
    // A head that ends beyond the limit is too large also when it arrives in one read with a megabyte behind
    // it.
    let late = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    assert_eq!(head(&late).map(|_| ()), Err(Refusal::HeadTooLarge));
    assert_eq!(head(&"\r\n".repeat(9000)).map(|_| ()), Err(Refusal::HeadTooLarge));
}

#[test]
fn cve_2024_37890_a_hundred_headers_pass_and_one_more_does_not() {
    let request = |headers: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(headers));
    assert_eq!(head(&request(100)).unwrap().request.headers().len(), 100);
    assert_eq!(head(&request(101)).map(|_| ()), Err(Refusal::TooManyHeaders));
}

#[test]
fn refusals_are_fixed_texts_that_close_the_connection() {
    for (name, request, refusal) in malformed() {
        let mut out = Vec::new();
        refusal.write_response(&mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {}", refusal.status().as_str())), "{name}");
        assert!(head.contains("x-content-type-options: nosniff") && head.contains("close"), "{name}: {head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{name}: {head}");
        assert!(body.starts_with("{\"error_type\":\"") && body.ends_with('}'), "{body}");
        assert!(body.contains("\",\"message\":\"") && body.matches('"').count() % 4 == 0, "{body}");
        assert!(!text.contains("example.com") && !text.contains("Evil"), "{name} reflects {request}");
        match refusal.status() {
            StatusCode::UPGRADE_REQUIRED => assert!(head.contains("sec-websocket-version: 13"), "{head}"),
            StatusCode::METHOD_NOT_ALLOWED => assert!(head.contains("allow: GET"), "{head}"),
            status => assert!(matches!(status.as_u16(), 400 | 431), "{name}"),
        }
        assert_eq!(*refusal.response().body(), body);
    }
}

#[test]
fn rustsec_2017_0002_answers_cannot_be_split_by_what_the_application_chooses() {
    let upgrade = judge(GOOD).unwrap();
    let mut out = Vec::new();
    upgrade.write_response(Some("chat\r\nX-Evil: 1"), Some("permessage-deflate\r\nX-Evil: 1"), &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(!text.contains("Evil") && !text.contains("sec-websocket-protocol"), "{text}");
    let response = upgrade.response(Some("never-offered"), Some("permessage-deflate"));
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert!(!response.headers().contains_key("sec-websocket-protocol"));
    assert_eq!(response.headers()["sec-websocket-extensions"], "permessage-deflate");
}

#[test]
fn plain_requests_are_told_apart_and_can_be_replayed() {
    let plain = "GET /index.html HTTP/1.1\r\nHost: a\r\n\r\nbody";
    let head = head(plain).unwrap();
    assert_eq!(head.bytes, plain.as_bytes());
    assert!(!wants_websocket(&head.request.into_parts().0));
    assert!(wants_websocket(&self::head(GOOD).unwrap().request.into_parts().0));
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let head = HeadReader::new().push(preface).unwrap().unwrap();
    assert_eq!((head.request.version(), head.head_len), (Version::HTTP_2, 18));
    assert_eq!(head.bytes, preface);
}

#[test]
fn extended_connect_needs_no_key_and_is_answered_with_200() {
    let request = |method, version, websocket: &'static str| {
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.version_mut() = version;
        request.headers_mut().insert("sec-websocket-version", HeaderValue::from_static(websocket));
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("chat"));
        request.into_parts().0
    };
    let good = request(Method::CONNECT, Version::HTTP_2, "13");
    let response = check_extended_connect(&good, "websocket").unwrap().response(Some("chat"), None);
    assert_eq!(response.status(), StatusCode::OK);
    assert!(
        !response.headers().contains_key("sec-websocket-accept")
            && !response.headers().contains_key("upgrade")
    );
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    let refusal = |parts, protocol| check_extended_connect(&parts, protocol).map(|_| ()).unwrap_err();
    assert_eq!(refusal(good, "connect-udp"), Refusal::NotAnUpgrade);
    assert_eq!(refusal(request(Method::GET, Version::HTTP_2, "13"), "websocket"), Refusal::Method);
    assert_eq!(refusal(request(Method::CONNECT, Version::HTTP_11, "13"), "websocket"), Refusal::HttpVersion);
    assert_eq!(
        refusal(request(Method::CONNECT, Version::HTTP_2, "8"), "websocket"),
        Refusal::WebSocketVersion
    );
}

fn client() -> ClientRequest {
    ClientRequest::new("example.com:8080", "/ws?room=1")
        .protocol("hauyna.v1")
        .protocol("chat")
        .header(HeaderName::from_static("authorization"), HeaderValue::from_static("Bearer token"))
        .deflate(&Deflate::default())
}

#[test]
fn a_client_and_a_server_agree_whatever_the_cuts() {
    let (request, _) = client().start().unwrap();
    let text = String::from_utf8(request.clone()).unwrap();
    assert!(
        text.starts_with("GET /ws?room=1 HTTP/1.1\r\n") && text.contains("host: example.com:8080\r\n"),
        "{text}"
    );
    assert!(text.contains("authorization: Bearer token\r\n"), "{text}");
    for size in [1, 7, 10_000] {
        let (request, mut answer) = client().start().unwrap();
        let mut reader = HeadReader::new();
        let head = request.chunks(size).filter_map(|chunk| reader.push(chunk).unwrap()).next().unwrap();
        let parts = head.request.into_parts().0;
        let upgrade = check(&parts).unwrap();
        let negotiated = Deflate::default().negotiate(&parts.headers).unwrap();
        let mut out = Vec::new();
        upgrade.write_response(Some("chat"), Some(&negotiated.response), &mut out);
        let frame = encode(OpCode::Text, b"welcome");
        out.extend_from_slice(&frame);
        let mut accepted = None;
        let mut rest = Vec::new();
        for chunk in out.chunks(size) {
            match &accepted {
                None => accepted = answer.push(chunk).unwrap(),
                Some(_) => rest.extend_from_slice(chunk),
            }
        }
        let mut accepted = accepted.unwrap();
        accepted.rest.extend(rest);
        assert_eq!(accepted.protocol.as_deref(), Some("chat"));
        assert!(accepted.deflate.is_some());
        assert_eq!(accepted.rest, frame);
    }
}

#[test]
fn two_requests_never_have_the_same_key() {
    let key = || client().start().unwrap().0;
    assert_ne!(key(), key());
}

#[test]
fn requests_that_would_inject_headers_are_not_made() {
    for request in [
        ClientRequest::new("a\r\nX-Evil: 1", "/"),
        ClientRequest::new("", "/"),
        ClientRequest::new("a b", "/"),
        ClientRequest::new("a", "/ HTTP/1.1\r\nX-Evil: 1"),
        ClientRequest::new("a", "relative"),
        ClientRequest::new("a", "/\u{e9}"),
        ClientRequest::new("a", "/").protocol("a\r\nX-Evil: 1"),
        ClientRequest::new("a", "/").protocol(""),
    ] {
        assert!(request.clone().start().is_err(), "{request:?}");
    }
}

#[test]
fn answers_that_open_no_connection_are_told_apart() {
    let good = |answer: &dyn Fn(String) -> String| {
        let (request, mut reader) = client().start().unwrap();
        let parts = HeadReader::new().push(&request).unwrap().unwrap().request.into_parts().0;
        let mut out = Vec::new();
        check(&parts).unwrap().write_response(Some("chat"), None, &mut out);
        reader.push(answer(String::from_utf8(out).unwrap()).as_bytes()).map(|accepted| accepted.is_some())
    };
    let replaced = |from: &'static str, to: &'static str| {
        good(&move |text| {
            assert!(text.contains(from), "{text}");
            text.replace(from, to)
        })
    };
    assert_eq!(good(&|text| text), Ok(true));
    assert_eq!(replaced("101 Switching Protocols", "200 OK"), Err(AnswerError::Status(StatusCode::OK)));
    assert_eq!(replaced("HTTP/1.1", "HTTP/1.0"), Err(AnswerError::Malformed));
    assert_eq!(replaced("HTTP/1.1", "ICY"), Err(AnswerError::Malformed));
    assert_eq!(replaced("sec-websocket-accept: ", "sec-websocket-accept: x"), Err(AnswerError::NotUpgraded));
    assert_eq!(replaced("sec-websocket-accept", "x-accept"), Err(AnswerError::NotUpgraded));
    assert_eq!(replaced("upgrade: websocket", "upgrade: h2c"), Err(AnswerError::NotUpgraded));
    assert_eq!(replaced("connection: upgrade", "connection: close"), Err(AnswerError::NotUpgraded));
    assert_eq!(replaced("protocol: chat", "protocol: other"), Err(AnswerError::Protocol));
    assert_eq!(
        replaced("protocol: chat", "protocol: chat\r\nsec-websocket-protocol: chat"),
        Err(AnswerError::Protocol)
    );
    assert_eq!(
        replaced("\r\n\r\n", "\r\nsec-websocket-extensions: foo\r\n\r\n"),
        Err(AnswerError::Extensions)
    );
    assert_eq!(replaced("\r\n\r\n", "\r\nsec-websocket-extensions: , ,\r\n\r\n"), Ok(true), "an empty list");
    assert_eq!(replaced("connection: upgrade", "connection: ,keep-alive,, Upgrade,"), Ok(true));
    assert_eq!(replaced("\r\nupgrade", "\nupgrade"), Err(AnswerError::Malformed));
    let large = good(&|text| text.replace("\r\n\r\n", &format!("\r\nx: {}\r\n\r\n", "y".repeat(17_000))));
    assert_eq!(large, Err(AnswerError::Malformed));
}
