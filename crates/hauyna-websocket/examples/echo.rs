//! An echo server over blocking sockets, with one thread per connection. It shows what the crate leaves to
//! its caller, and accepts compression and answers with it, so that conformance suites can test it: `cargo
//! run --release -p hauyna-websocket --example echo -- 127.0.0.1:9002`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use hauyna_websocket::handshake::{HeadReader, Refusal, check};
use hauyna_websocket::{
    Decoder, Deflate, DeflateConfig, Event, Limits, OpCode, PeerWindow, Role, Takeover, close_frame,
    encode_into,
};

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9002".to_owned());
    let deflate = Deflate::new(DeflateConfig {
        threshold: 16,
        takeover: Takeover::Allowed,
        ..DeflateConfig::default()
    });
    for stream in TcpListener::bind(address)?.incoming() {
        let (stream, deflate) = (stream?, deflate.clone());
        // A connection that breaks is no error of the server.
        std::thread::spawn(move || serve(stream, &deflate).ok());
    }
    Ok(())
}

/// Answers one connection until it ends.
fn serve(mut stream: TcpStream, deflate: &Deflate) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = Vec::new();
    let upgraded = upgrade(&mut stream, deflate, &mut out)?;
    stream.write_all(&out)?;
    let Some((mut decoder, window, mut received)) = upgraded else { return Ok(()) };
    let mut scratch = vec![0; 64 << 10];
    while !decoder.is_finished() {
        out.clear();
        answer(&mut decoder, &mut received, &mut out, |payload| {
            window.filter(|window| window.fits(payload.len())).map(|_| deflate)
        });
        stream.write_all(&out)?;
        if !decoder.is_finished() {
            let read = stream.read(&mut scratch)?;
            if read == 0 {
                return Ok(());
            }
            received.clear();
            received.extend_from_slice(&scratch[..read]);
        }
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // Wait for the peer's end, so that a reset does not overtake the close frame.
    while stream.read(&mut scratch)? > 0 {}
    Ok(())
}

type Upgraded = (Decoder, Option<PeerWindow>, Vec<u8>);

/// Reads the request and writes the answer to `out`.
fn upgrade(stream: &mut TcpStream, deflate: &Deflate, out: &mut Vec<u8>) -> io::Result<Option<Upgraded>> {
    let mut reader = HeadReader::new();
    let mut chunk = [0; 4096];
    let head = loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match reader.push(&chunk[..read]) {
            Ok(Some(head)) => break head,
            Ok(None) => {}
            Err(refusal) => return Ok(refuse(refusal, out)),
        }
    };
    let parts = head.request.into_parts().0;
    let upgrade = match check(&parts) {
        Ok(upgrade) => upgrade,
        Err(refusal) => return Ok(refuse(refusal, out)),
    };
    let negotiated = deflate.negotiate(&parts.headers);
    let response = negotiated.as_ref().map(|negotiated| &negotiated.response[..]);
    upgrade.write_response(None, response, out);
    let limits = Limits { message: 64 << 20, frame: 64 << 20, ..Limits::default() };
    let mut decoder = Decoder::new(Role::Server, limits);
    let window = negotiated.as_ref().map(|negotiated| negotiated.window);
    if let Some(negotiated) = negotiated {
        decoder = decoder.with_inflate(negotiated.inflate);
    }
    Ok(Some((decoder, window, head.bytes[head.head_len..].to_vec())))
}

fn refuse(refusal: Refusal, out: &mut Vec<u8>) -> Option<Upgraded> {
    refusal.write_response(out);
    None
}

/// Echoes what was received. `deflate_for` returns the compression for a payload, if the peer accepts it.
fn answer<'d>(
    decoder: &mut Decoder,
    received: &mut [u8],
    out: &mut Vec<u8>,
    deflate_for: impl Fn(&[u8]) -> Option<&'d Deflate>,
) {
    let mut echo = |opcode, payload: &[u8]| match deflate_for(payload) {
        Some(deflate) => out.extend_from_slice(&deflate.frame(opcode, payload)),
        None => encode_into(out, opcode, payload, None),
    };
    let mut events = decoder.feed(received);
    let closing = loop {
        match events.next() {
            Ok(None) => return,
            Ok(Some(Event::Text(text))) => echo(OpCode::Text, text.as_bytes()),
            Ok(Some(Event::Binary(bytes))) => echo(OpCode::Binary, bytes),
            Ok(Some(Event::Ping(bytes))) => echo(OpCode::Pong, bytes),
            Ok(Some(Event::Pong(_))) => {}
            Ok(Some(Event::Close(None))) => break None,
            Ok(Some(Event::Close(Some((code, _))))) => break Some(code),
            Err(error) => break Some(error.close_code()),
        }
    };
    match closing {
        Some(code) => out.extend_from_slice(&close_frame(code, "")),
        None => encode_into(out, OpCode::Close, b"", None),
    }
}
