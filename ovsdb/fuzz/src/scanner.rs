//! The stream of a connection: the messages in it do not depend on the pieces in which it arrives, and are those that
//! serde_json, which knows nothing of pieces, finds in it.

use ovsdb::jsonrpc::{Limits, Message, ProtocolError, Scanner};
use serde_json::{Deserializer, Value};

/// The server's limits, and such as a short input runs into.
const LIMITS: [Limits; 2] = [Limits::SERVER, Limits { message_bytes: 64, depth: 4 }];

/// A stream, from its first byte.
pub fn check(input: &[u8]) {
    for limits in LIMITS {
        let whole = scan(limits, [input]);
        assert_eq!(whole, scan(limits, input.chunks(1)), "byte by byte");
        assert_eq!(whole, scan(limits, pieces(input)), "in pieces");
        let (messages, error) = whole;
        for message in &messages {
            let bytes = message.clone().encode();
            assert_eq!(scan(Limits::SERVER, [&bytes[..]]), (vec![sent(message)], None), "sent on");
        }
        let limited = matches!(error, Some(ProtocolError::TooLarge { .. } | ProtocolError::TooDeep { .. }));
        if !limited {
            assert_all_found(input, &messages, error);
        }
    }
}

fn scan<'a>(limits: Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Message>, Option<ProtocolError>) {
    let mut scanner = Scanner::new(limits);
    let mut messages = Vec::new();
    for piece in pieces {
        scanner.push(piece);
        loop {
            match scanner.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

/// The input cut up: the first byte of each piece says how long the piece is.
fn pieces(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = input;
    std::iter::from_fn(move || {
        let length = usize::from(rest.first()? % 16) + 1;
        let (piece, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        Some(piece)
    })
}

/// How a message arrives: a null result is sent as `{}`.
fn sent(message: &Message) -> Message {
    match message {
        Message::Reply { id, result: Ok(Value::Null) } => {
            Message::Reply { id: id.clone(), result: Ok(Value::Object(serde_json::Map::new())) }
        }
        other => other.clone(),
    }
}

/// The objects at the start of the stream are the messages, up to one that is JSON but no message, or none that Open
/// vSwitch could read.
fn assert_all_found(input: &[u8], messages: &[Message], error: Option<ProtocolError>) {
    let values = Deserializer::from_slice(input).into_iter::<Value>().map_while(Result::ok);
    let mut found = messages.iter();
    let unreadable = matches!(error, Some(ProtocolError::NullCharacter { .. }));
    assert!(!unreadable || input.windows(6).any(|six| six == br"\u0000"), "no null character");
    for value in values.take_while(Value::is_object) {
        if unreadable && found.len() == 0 {
            return;
        }
        match Message::from_json(value) {
            Ok(message) => assert_eq!(found.next(), Some(&message), "overlooked"),
            Err(bad) => return assert_eq!(error, Some(bad), "accepted"),
        }
    }
}
