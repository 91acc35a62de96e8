//! JSON-RPC 1.0 over a byte stream: framing and the three kinds of message (RFC 7047 §4).
//!
//! Messages follow each other without a separator, so [`Scanner`] finds the end of each by counting
//! brackets outside strings. It remembers where it stopped: every byte is looked at once, however
//! small the pieces in which a large message arrives. Only a complete message is parsed.
//!
//! No threads, no I/O. What a peer may try: a message without end (bounded by
//! [`Limits::message_bytes`]), brackets without end ([`Limits::depth`]), bytes that are no JSON. Each is
//! a [`ProtocolError`], after which the stream has no known message boundary and must be closed.

use serde::Serialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

/// What one message may cost the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest message in bytes.
    pub message_bytes: usize,
    /// Deepest nesting of objects and arrays.
    pub depth: usize,
}

/// Nesting that both sides accept. OVSDB itself needs about a dozen levels; serde_json stops at 128, and
/// our own limit lies below it so that the refusal is always the one that names the limit.
const DEPTH: usize = 100;

impl Limits {
    /// What the server accepts from a client. A transaction over 10,000 ports is some 3 MB of text; parsed
    /// it takes up to sixteen times its length, which bounds a hostile message to 256 MiB of memory.
    pub const SERVER: Limits = Limits { message_bytes: 16 << 20, depth: DEPTH };
    /// What a client accepts from its server: the first reply to a monitor holds the whole database.
    pub const CLIENT: Limits = Limits { message_bytes: 256 << 20, depth: DEPTH };
}

/// Why a byte stream is not JSON-RPC. Offsets count from the start of the stream.
#[derive(Debug, Error, PartialEq)]
pub enum ProtocolError {
    /// Something other than `{` where a message must start.
    #[error("byte {at}: a JSON-RPC message starts with '{{', found {}", show_byte(*.found))]
    NotAnObject {
        /// Offset of the offending byte.
        at: u64,
        /// The byte.
        found: u8,
    },
    /// A message longer than [`Limits::message_bytes`].
    #[error("byte {at}: message is longer than the limit of {limit} bytes")]
    TooLarge {
        /// Offset of the start of the message.
        at: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// Nesting beyond [`Limits::depth`].
    #[error("byte {at}: message is nested deeper than the limit of {limit} levels")]
    TooDeep {
        /// Offset of the bracket that is one too many.
        at: u64,
        /// The limit in levels.
        limit: usize,
    },
    /// A string with the character U+0000. Open vSwitch's JSON has none: no client of its could read a row, and
    /// `ovsdb-tool` no database, with such a string in it.
    #[error("byte {at}: a string holds \\u0000, which programs of Open vSwitch cannot read")]
    NullCharacter {
        /// Offset of the escape sequence.
        at: u64,
    },
    /// Balanced brackets around something that is not JSON.
    #[error("message at byte {at} is not valid JSON: {detail}")]
    Syntax {
        /// Offset of the start of the message.
        at: u64,
        /// The parser's words; its line and column count from the start of the message.
        detail: String,
    },
    /// Valid JSON, but neither request, notification nor reply.
    #[error("not a JSON-RPC message: {detail}")]
    BadMessage {
        /// The message's `id`, null if it has none.
        id: Value,
        /// What is missing or wrong.
        detail: String,
    },
}

impl ProtocolError {
    /// The reply that tells the peer what was wrong before the connection is closed.
    pub fn to_reply(&self) -> Message {
        let id = match self {
            ProtocolError::BadMessage { id, .. } => id.clone(),
            _ => Value::Null,
        };
        Message::error(id, "syntax error", &self.to_string())
    }
}

fn show_byte(b: u8) -> String {
    if b.is_ascii_graphic() { format!("'{}'", char::from(b)) } else { format!("0x{b:02x}") }
}

/// Finds messages in a stream that arrives in pieces.
#[derive(Debug)]
pub struct Scanner {
    limits: Limits,
    buf: Vec<u8>,
    /// Where the current message starts in `buf`; everything before it has been handed out.
    start: usize,
    /// The next byte of `buf` to look at.
    pos: usize,
    /// Open brackets; 0 between messages.
    depth: usize,
    in_string: bool,
    /// The last byte was a backslash inside a string.
    escaped: bool,
    /// Offset of `buf[0]` in the stream.
    base: u64,
}

/// Above this size an empty buffer is given back to the allocator.
const KEEP_BYTES: usize = 256 << 10;

impl Scanner {
    /// A scanner at the start of a stream.
    pub fn new(limits: Limits) -> Scanner {
        Scanner { limits, buf: Vec::new(), start: 0, pos: 0, depth: 0, in_string: false, escaped: false, base: 0 }
    }

    /// Adds the next piece of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.discard_handed_out();
        }
        self.buf.extend_from_slice(bytes);
    }

    /// The next complete message, or None until more bytes arrive. After an error the stream is lost:
    /// close it.
    pub fn next_message(&mut self) -> Result<Option<Message>, ProtocolError> {
        match self.next_value()? {
            Some(value) => Message::from_json(value).map(Some),
            None => Ok(None),
        }
    }

    /// True between messages: nothing of the next one has arrived.
    pub fn is_idle(&self) -> bool {
        self.depth == 0
    }

    fn next_value(&mut self) -> Result<Option<Value>, ProtocolError> {
        while let Some(&byte) = self.buf.get(self.pos) {
            if self.depth == 0 && byte.is_ascii_whitespace() {
                self.pos += 1;
                self.start = self.pos;
                continue;
            }
            let complete = self.step(byte)?;
            self.pos += 1;
            if self.pos - self.start > self.limits.message_bytes {
                return Err(ProtocolError::TooLarge { at: self.offset(self.start), limit: self.limits.message_bytes });
            }
            if complete {
                return self.take().map(Some);
            }
        }
        Ok(None)
    }

    /// Looks at one byte of a message; true if the message ends with it.
    fn step(&mut self, byte: u8) -> Result<bool, ProtocolError> {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Ok(false);
        }
        match byte {
            b'{' | b'[' if self.depth > 0 || byte == b'{' => {
                self.depth += 1;
                if self.depth > self.limits.depth {
                    return Err(ProtocolError::TooDeep { at: self.offset(self.pos), limit: self.limits.depth });
                }
            }
            _ if self.depth == 0 => {
                return Err(ProtocolError::NotAnObject { at: self.offset(self.pos), found: byte });
            }
            b'}' | b']' => {
                self.depth -= 1;
                return Ok(self.depth == 0);
            }
            b'"' => self.in_string = true,
            _ => {}
        }
        Ok(false)
    }

    fn take(&mut self) -> Result<Value, ProtocolError> {
        let text = self.buf.get(self.start..self.pos).unwrap_or_default();
        if let Some(at) = null_character(text) {
            return Err(ProtocolError::NullCharacter { at: self.offset(self.start + at) });
        }
        let value = serde_json::from_slice(text)
            .map_err(|e| ProtocolError::Syntax { at: self.offset(self.start), detail: e.to_string() });
        self.start = self.pos;
        value
    }

    fn offset(&self, index: usize) -> u64 {
        self.base + index as u64
    }

    fn discard_handed_out(&mut self) {
        self.base += self.start as u64;
        self.buf.drain(..self.start);
        self.pos -= self.start;
        self.start = 0;
        if self.buf.is_empty() && self.buf.capacity() > KEEP_BYTES {
            self.buf = Vec::new();
        }
    }
}

/// Where the text has an escaped U+0000.
fn null_character(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(next) = text.get(at..)?.iter().position(|&byte| byte == b'\\') {
        at += next;
        if text[at..].starts_with(br"\u0000") {
            return Some(at);
        }
        // What is escaped begins no other escape sequence.
        at += 2;
    }
    None
}

/// One JSON-RPC message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Wants a reply.
    Request {
        /// Any JSON but null; the reply carries it back.
        id: Value,
        /// Method name.
        method: String,
        /// Positional parameters.
        params: Vec<Value>,
    },
    /// A request with a null id, or none: wants no reply.
    Notification {
        /// Method name.
        method: String,
        /// Positional parameters.
        params: Vec<Value>,
    },
    /// The answer to a request.
    Reply {
        /// The request's id.
        id: Value,
        /// Result or error. A null result is not representable on the wire (clients take
        /// `result:null,error:null` for a malformed reply), so it is sent as `{}`.
        result: Result<Value, Value>,
    },
}

impl Message {
    /// A reply that refuses a request: `{"error": word, "details": text}`.
    pub fn error(id: Value, word: &str, details: &str) -> Message {
        Message::Reply { id, result: Err(json!({"error": word, "details": details})) }
    }

    /// Sorts a parsed message into its kind.
    pub fn from_json(value: Value) -> Result<Message, ProtocolError> {
        let Value::Object(mut members) = value else {
            return Err(bad(Value::Null, "message is not a JSON object"));
        };
        let id = members.remove("id").unwrap_or(Value::Null);
        match members.remove("method") {
            Some(Value::String(method)) => request(id, method, members),
            Some(other) => Err(bad(id, &format!("\"method\" must be a string, not {other}"))),
            None => reply(id, members),
        }
    }

    /// The message as bytes for the wire.
    pub fn encode(&self) -> Vec<u8> {
        let nothing = &Value::Null;
        let empty = &Value::Object(Map::new());
        let text = match self {
            Message::Request { id, method, params } => to_text(&Call { id, method, params }),
            Message::Notification { method, params } => to_text(&Call { id: nothing, method, params }),
            Message::Reply { id, result: Ok(Value::Null) } => to_text(&Answer { id, result: empty, error: nothing }),
            Message::Reply { id, result: Ok(result) } => to_text(&Answer { id, result, error: nothing }),
            Message::Reply { id, result: Err(error) } => to_text(&Answer { id, result: nothing, error }),
        };
        text.into_bytes()
    }
}

/// A request or notification as it is written; borrowed, since a message may hold a whole database.
#[derive(Serialize)]
struct Call<'a> {
    id: &'a Value,
    method: &'a str,
    params: &'a [Value],
}

/// A reply as it is written.
#[derive(Serialize)]
struct Answer<'a> {
    error: &'a Value,
    id: &'a Value,
    result: &'a Value,
}

fn to_text(message: &impl Serialize) -> String {
    // Strings, numbers and containers of them: there is nothing that JSON could not say.
    serde_json::to_string(message).unwrap_or_default()
}

fn bad(id: Value, detail: &str) -> ProtocolError {
    ProtocolError::BadMessage { id, detail: detail.to_owned() }
}

fn request(id: Value, method: String, mut members: Map<String, Value>) -> Result<Message, ProtocolError> {
    match members.remove("params") {
        Some(Value::Array(params)) if id.is_null() => Ok(Message::Notification { method, params }),
        Some(Value::Array(params)) => Ok(Message::Request { id, method, params }),
        Some(_) => Err(bad(id, &format!("\"params\" of \"{method}\" must be an array"))),
        None => Err(bad(id, &format!("\"{method}\" has no \"params\""))),
    }
}

fn reply(id: Value, mut members: Map<String, Value>) -> Result<Message, ProtocolError> {
    let result = members.remove("result");
    match (members.remove("error"), result) {
        (None | Some(Value::Null), Some(result)) => Ok(Message::Reply { id, result: Ok(result) }),
        (Some(error), None | Some(Value::Null)) if !error.is_null() => Ok(Message::Reply { id, result: Err(error) }),
        (Some(_), Some(_)) => Err(bad(id, "a reply has either a \"result\" or an \"error\"")),
        _ => Err(bad(id, "neither \"method\" nor \"result\" nor \"error\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(limits: Limits, pieces: &[&[u8]]) -> (Vec<Message>, Option<ProtocolError>) {
        let mut scanner = Scanner::new(limits);
        let mut messages = Vec::new();
        for piece in pieces {
            scanner.push(piece);
            loop {
                match scanner.next_message() {
                    Ok(Some(m)) => messages.push(m),
                    Ok(None) => break,
                    Err(e) => return (messages, Some(e)),
                }
            }
        }
        (messages, None)
    }

    fn error_of(text: &str) -> String {
        scan(Limits::SERVER, &[text.as_bytes()]).1.map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn messages_follow_each_other_without_separator() {
        let stream = br#"{"id":1,"method":"echo","params":[]} {"id":null,"method":"n","params":[1]}
            {"id":"x","result":[],"error":null}{"id":2,"error":"unknown method"}"#;
        let (messages, error) = scan(Limits::SERVER, &[stream]);
        assert_eq!(error, None);
        assert_eq!(
            messages,
            [
                Message::Request { id: json!(1), method: "echo".into(), params: vec![] },
                Message::Notification { method: "n".into(), params: vec![json!(1)] },
                Message::Reply { id: json!("x"), result: Ok(json!([])) },
                Message::Reply { id: json!(2), result: Err(json!("unknown method")) },
            ]
        );
    }

    #[test]
    fn brackets_and_quotes_inside_strings_do_not_count() {
        let stream = br#"{"id":1,"method":"a\"}{[\\","params":["]}",{"k":"\\"}]}"#;
        let (messages, error) = scan(Limits::SERVER, &[stream]);
        assert_eq!(error, None);
        assert_eq!(messages.len(), 1);
    }

    #[test]
    fn garbage_is_named_with_its_place() {
        assert_eq!(error_of("  hello"), "byte 2: a JSON-RPC message starts with '{', found 'h'");
        assert_eq!(error_of("[1]"), "byte 0: a JSON-RPC message starts with '{', found '['");
        assert_eq!(error_of("\u{1}"), "byte 0: a JSON-RPC message starts with '{', found 0x01");
        assert_eq!(error_of(r#"{"id":1,"result":0}}"#), "byte 19: a JSON-RPC message starts with '{', found '}'");
        assert!(error_of(r#"{"id":1,"result":0} {"a":}"#).starts_with("message at byte 20 is not valid JSON"));
        assert!(error_of(r#"{"a":[}"#).is_empty(), "still open");
        assert!(error_of(r#"{"a":[}]"#).contains("not valid JSON"), "closed, crosswise");
        assert!(error_of(r#"{"a":1]"#).contains("not valid JSON"));
        assert_eq!(error_of("{}"), "not a JSON-RPC message: neither \"method\" nor \"result\" nor \"error\"");
        assert!(error_of(r#"{"id":7,"method":"m"}"#).contains("\"m\" has no \"params\""));
        assert!(error_of(r#"{"id":7,"method":"m","params":{}}"#).contains("must be an array"));
        assert!(error_of(r#"{"id":7,"method":5,"params":[]}"#).contains("must be a string, not 5"));
        assert!(error_of(r#"{"id":7,"result":null,"error":null}"#).is_empty(), "a client may meet it");
        assert!(error_of(r#"{"id":7,"result":1,"error":"e"}"#).contains("either"));
    }

    /// Open vSwitch's JSON parser refuses it as well, in a message and in a database file.
    #[test]
    fn no_string_holds_a_null_character() {
        let error = r"byte 17: a string holds \u0000, which programs of Open vSwitch cannot read";
        assert_eq!(error_of(r#"{"id":1,"error":"\u0000"}"#), error);
        assert!(error_of(r#"{"id":1,"error":"\\\u0000"}"#).starts_with("byte 19: "));
        assert_eq!(error_of(r#"{"id":1,"error":"\\u0000 \u0001"}"#), "", "an escaped backslash, and another character");
    }

    #[test]
    fn a_protocol_error_is_answered_with_the_id_if_there_is_one() {
        let (_, error) = scan(Limits::SERVER, &[br#"{"id":7,"method":"m"}"#]);
        let reply = error.map(|e| e.to_reply().encode());
        let expected = r#"{"error":{"details":"not a JSON-RPC message: \"m\" has no \"params\"","error":"syntax error"},"id":7,"result":null}"#;
        assert_eq!(reply.as_deref(), Some(expected.as_bytes()));
    }

    #[test]
    fn limits_hold_at_their_exact_value() {
        let limits = Limits { message_bytes: 30, depth: 3 };
        let (messages, error) = scan(limits, &[br#"{"id":123456789,"result":[[]]}"#]);
        assert_eq!((messages.len(), error), (1, None));
        let (_, error) = scan(limits, &[br#" {"id":1234567890,"result":[[]]}"#]);
        assert_eq!(error, Some(ProtocolError::TooLarge { at: 1, limit: 30 }));
        let (_, error) = scan(limits, &[br#"{"id":1,"result":[[[]]]}"#]);
        assert_eq!(error, Some(ProtocolError::TooDeep { at: 19, limit: 3 }));
    }

    #[test]
    fn the_depth_limit_is_reached_before_serde_json_gives_up() {
        let nested =
            |levels: usize| format!(r#"{{"id":1,"result":{}{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert_eq!(error_of(&nested(DEPTH)), "");
        assert!(error_of(&nested(DEPTH + 1)).contains("deeper than the limit of 100 levels"));
        assert!(error_of(&"{\"a\":".repeat(1_000_000)).contains("deeper"));
    }

    #[test]
    fn a_null_result_is_never_sent() {
        let reply = Message::Reply { id: json!(1), result: Ok(Value::Null) };
        assert_eq!(reply.encode(), br#"{"error":null,"id":1,"result":{}}"#);
    }

    #[test]
    fn a_large_message_in_small_pieces_is_scanned_once() {
        // 4 MB in 8-byte pieces: hours if every piece started over, well under a second if not.
        let text = format!(r#"{{"id":1,"result":"{}"}}"#, "x".repeat(4 << 20));
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(8).collect();
        let (messages, error) = scan(Limits::SERVER, &pieces);
        assert_eq!((messages.len(), error), (1, None));
    }

    #[test]
    fn the_buffer_of_a_large_message_is_given_back() {
        let mut scanner = Scanner::new(Limits::SERVER);
        scanner.push(format!(r#"{{"id":1,"result":"{}"}}"#, "x".repeat(1 << 20)).as_bytes());
        assert!(matches!(scanner.next_message(), Ok(Some(_))));
        scanner.push(b"{");
        assert!(scanner.buf.capacity() <= KEEP_BYTES, "{}", scanner.buf.capacity());
    }

    /// Bytes that look enough like JSON-RPC to get deep into the scanner.
    fn jsonish() -> impl Strategy<Value = Vec<u8>> {
        let token = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            "\"",
            "\\",
            ",",
            ":",
            " \n",
            "null",
            "é",
            r#""id":1,"#,
            r#""method":"m","params":[]"#,
            r#"{"id":1,"method":"m","params":[{"a":"}"}]}"#,
            r#"{"id":1,"result":"é"}"#,
        ]);
        prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn scanner_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 1usize..50) {
            let pieces: Vec<&[u8]> = bytes.chunks(cut).collect();
            scan(Limits { message_bytes: 100, depth: 5 }, &pieces);
        }

        #[test]
        fn splitting_changes_nothing(bytes in jsonish(), cuts in prop::collection::vec(1usize..7, 1..20)) {
            let limits = Limits { message_bytes: 60, depth: 4 };
            let whole = scan(limits, &[&bytes]);
            let mut rest = &bytes[..];
            let mut pieces = Vec::new();
            for cut in cuts.iter().cycle().take(bytes.len() + 1) {
                let (piece, tail) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = tail;
            }
            prop_assert_eq!(scan(limits, &pieces), whole);
        }

        #[test]
        fn what_is_encoded_is_decoded(id in 1u32.., text in "[^\\x00]*", cut in 1usize..9) {
            let message = Message::Request { id: json!(id), method: text.clone(), params: vec![json!({text: id})] };
            let bytes = message.clone().encode();
            let pieces: Vec<&[u8]> = bytes.chunks(cut).collect();
            prop_assert_eq!(scan(Limits::SERVER, &pieces), (vec![message], None));
        }
    }
}
