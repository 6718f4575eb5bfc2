//! Any bytes as a request, cut at will: no panic, the same verdict for any cut, no byte of it in an answer's
//! head beyond what it may choose; and any bytes as an extension header and as a server's answer.
#![no_main]

use hauyna_websocket::handshake::{ClientRequest, Head, HeadReader, Refusal, check};
use hauyna_websocket::{Deflate, Takeover};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

fn read(input: &[u8], size: usize) -> Result<Option<Head>, Refusal> {
    let mut reader = HeadReader::new();
    for chunk in input.chunks(size.max(1)) {
        if let Some(head) = reader.push(chunk)? {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

fuzz_target!(|input: &[u8]| {
    let [first, input @ ..] = input else { return };
    let whole = read(input, usize::MAX);
    let cut = read(input, usize::from(*first));
    let deflate = Deflate::default();
    match (whole, cut) {
        (Ok(Some(whole)), Ok(Some(cut))) => {
            assert_eq!((whole.head_len, &whole.bytes[..]), (cut.head_len, input));
            assert!(input.starts_with(&cut.bytes));
            let parts = whole.request.into_parts().0;
            assert_eq!(parts.headers, *cut.request.headers());
            if let Ok(upgrade) = check(&parts) {
                let extensions = deflate.negotiate(&parts.headers).map(|negotiated| negotiated.response);
                let mut out = Vec::new();
                upgrade.write_response(upgrade.protocols().last(), extensions.as_deref(), &mut out);
                let text = std::str::from_utf8(&out).expect("an answer is ASCII");
                assert!(text.matches("\r\n").count() <= 7 && text.ends_with("\r\n\r\n"), "{text}");
            }
        }
        (Ok(None), Ok(None)) => {}
        (Err(whole), Err(cut)) => assert_eq!(whole, cut),
        (whole, cut) => panic!("{whole:?} and {cut:?}"),
    }
    if let Ok(line) = HeaderValue::from_bytes(input) {
        let mut headers = HeaderMap::new();
        headers.insert("sec-websocket-extensions", line);
        if let Some(negotiated) = deflate.negotiate(&headers) {
            let mut answer = HeaderMap::new();
            answer.insert("sec-websocket-extensions", negotiated.response.parse().expect("a header value"));
            // The client did not send our offer, so limits may not suit it; the grammar always does.
            let config =
                hauyna_websocket::DeflateConfig { takeover: Takeover::Allowed, ..Default::default() };
            assert!(Deflate::new(config).accept(&answer).is_ok());
        }
        let _ = deflate.accept(&headers);
    }
    let (_, mut answer) = ClientRequest::new("a", "/").deflate(&deflate).start().expect("a valid request");
    let _ = answer.push(input);
});
