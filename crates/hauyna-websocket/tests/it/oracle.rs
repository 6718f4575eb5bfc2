//! The same bytes through our decoder and through tungstenite: they must agree, or differ in a listed way.
//! Also compiled into the fuzz target `frames`.

use std::io::{self, Read, Write};

use hauyna_websocket::{Decoder, Limits, ProtocolError as E, Role};
use tungstenite::protocol::{Role as TheirRole, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use crate::owned::{Owned, decode};

const LIMITS: Limits = Limits { message: 1500, frame: 1000, empty_fragments: 64 };

/// Compares both on one stream, which ours gets in chunks of `size` bytes. These differences are allowed:
///
/// | ours | tungstenite 0.30 | why |
/// |---|---|---|
/// | `LengthNotMinimal` | accepts | RFC 6455 §5.2: "the minimal number of bytes MUST be used" |
/// | `ControlTooLong` | accepts up to 125 bytes in an extended length | the same rule, and seen one byte earlier |
/// | `CloseCode` | a close with its code replaced | §7.4: such codes must not be sent; both end the connection with 1002 |
/// | `EmptyFragments` | accepts | a limit of ours against fragments that never end |
/// | an error before the frame is whole | an error when it is whole | we fail at the first wrong byte |
///
/// # Panics
///
/// Panics if they differ in a way that is not in the table.
pub(crate) fn compare(role: Role, size: usize, stream: &[u8]) {
    let mut decoder = Decoder::new(role, LIMITS);
    let (ours, error) = decode(&mut decoder, stream.chunks(size.max(1)));
    let (theirs, verdict) = tungstenite(role, stream);
    match (error, verdict) {
        (Some(E::LengthNotMinimal | E::ControlTooLong | E::EmptyFragments), _) => {
            assert!(theirs.starts_with(&ours), "{error:?}: {ours:?}, theirs {theirs:?}");
        }
        (None, Verdict::Open) | (Some(_), Verdict::Failed) => assert_eq!(ours, theirs, "{error:?}"),
        (None, Verdict::Closed) => {
            // The golden table compares the codes: tungstenite replaces some that IANA has registered since.
            assert!(matches!(ours.last(), Some(Owned::Close(_))), "{ours:?}, theirs {theirs:?}");
            assert_eq!(ours[..ours.len() - 1], theirs[..theirs.len() - 1]);
        }
        (Some(E::CloseCode), Verdict::Closed) => {
            assert_eq!(ours[..], theirs[..theirs.len() - 1]);
        }
        (Some(error), Verdict::Open) => {
            // Complete the unfinished frame: the fault must be one for tungstenite as well.
            let padded = [stream, &[1; 2000]].concat();
            let (theirs, verdict) = tungstenite(role, &padded);
            assert_eq!(verdict, Verdict::Failed, "only ours fails: {error:?}");
            assert_eq!(ours, theirs, "{error:?}");
        }
        (error, verdict) => panic!("ours: {error:?} after {ours:?}; theirs: {verdict:?} after {theirs:?}"),
    }
}

/// State of tungstenite when its input is consumed.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Open,
    Closed,
    Failed,
}

fn tungstenite(role: Role, stream: &[u8]) -> (Vec<Owned>, Verdict) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(LIMITS.message))
        .max_frame_size(Some(LIMITS.frame))
        .read_buffer_size(256);
    let role = match role {
        Role::Server => TheirRole::Server,
        Role::Client => TheirRole::Client,
    };
    let mut socket = WebSocket::from_raw_socket(Wire { input: stream }, role, Some(config));
    let mut seen = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => seen.push(Owned::Text(text.to_string())),
            Ok(Message::Binary(bytes)) => seen.push(Owned::Binary(bytes.to_vec())),
            Ok(Message::Ping(bytes)) => seen.push(Owned::Ping(bytes.to_vec())),
            Ok(Message::Pong(bytes)) => seen.push(Owned::Pong(bytes.to_vec())),
            Ok(Message::Close(reason)) => {
                seen.push(Owned::Close(reason.map(|reason| (reason.code.into(), reason.reason.to_string()))));
                return (seen, Verdict::Closed);
            }
            Ok(Message::Frame(_)) => unreachable!("never read"),
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (seen, Verdict::Open);
            }
            Err(_) => return (seen, Verdict::Failed),
        }
    }
}

/// A socket with a given input. It blocks at the end of the input and drops what is written.
struct Wire<'a> {
    input: &'a [u8],
}

impl Read for Wire<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.input.read(out) }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
