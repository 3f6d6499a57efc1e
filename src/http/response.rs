//! A response, and the bytes it becomes (RFC 9112 section 4, RFC 9110 section 6).
//!
//! A handler says status, content and perhaps a field or two; the fields that every response needs are added here, so
//! that no handler can forget them or get them wrong. Heads are put together from prepared pieces: no formatting and,
//! for a static page, no allocation.

use std::borrow::Cow;

use super::request::{Method, Persistence};

/// A status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(u16);

/// Declares statuses with their numbers and reason phrases once.
macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $code:literal $reason:literal;)*) => {
        impl Status {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// The status line, from `HTTP/1.1` to its CRLF.
            fn line(self) -> &'static str {
                match self.0 {
                    $($code => concat!("HTTP/1.1 ", $code, " ", $reason, "\r\n"),)*
                    _ => unreachable!("a Status is one of the constants"),
                }
            }
        }
    };
}

statuses! {
    /// The request succeeded (RFC 9110 section 15.3.1).
    OK = 200 "OK";
    /// It succeeded and created something (section 15.3.2).
    CREATED = 201 "Created";
    /// It will be dealt with later (section 15.3.3).
    ACCEPTED = 202 "Accepted";
    /// It succeeded, and there is no content to send (section 15.3.5).
    NO_CONTENT = 204 "No Content";
    /// The resource has moved for good (section 15.4.2).
    MOVED_PERMANENTLY = 301 "Moved Permanently";
    /// The resource is elsewhere for now (section 15.4.3).
    FOUND = 302 "Found";
    /// The answer is to be fetched elsewhere, with GET (section 15.4.4).
    SEE_OTHER = 303 "See Other";
    /// The client's copy is still good (section 15.4.5).
    NOT_MODIFIED = 304 "Not Modified";
    /// The request is malformed (section 15.5.1).
    BAD_REQUEST = 400 "Bad Request";
    /// The request needs credentials (section 15.5.2).
    UNAUTHORIZED = 401 "Unauthorized";
    /// The client may not have this (section 15.5.4).
    FORBIDDEN = 403 "Forbidden";
    /// No such resource (section 15.5.5).
    NOT_FOUND = 404 "Not Found";
    /// The resource does not support this method (section 15.5.6).
    METHOD_NOT_ALLOWED = 405 "Method Not Allowed";
    /// The request took too long to arrive (section 15.5.9).
    REQUEST_TIMEOUT = 408 "Request Timeout";
    /// The request conflicts with the resource's state (section 15.5.10).
    CONFLICT = 409 "Conflict";
    /// The body is too long (section 15.5.14).
    CONTENT_TOO_LARGE = 413 "Content Too Large";
    /// The target is too long (section 15.5.15).
    URI_TOO_LONG = 414 "URI Too Long";
    /// The body has a type that is not understood (section 15.5.16).
    UNSUPPORTED_MEDIA_TYPE = 415 "Unsupported Media Type";
    /// The body is understood, and makes no sense (section 15.5.21).
    UNPROCESSABLE_CONTENT = 422 "Unprocessable Content";
    /// The client asks too often (RFC 6585 section 4).
    TOO_MANY_REQUESTS = 429 "Too Many Requests";
    /// The head is too long (RFC 6585 section 5).
    REQUEST_HEADER_FIELDS_TOO_LARGE = 431 "Request Header Fields Too Large";
    /// The server is at fault (RFC 9110 section 15.6.1).
    INTERNAL_SERVER_ERROR = 500 "Internal Server Error";
    /// The server does not support the method or the coding (section 15.6.2).
    NOT_IMPLEMENTED = 501 "Not Implemented";
    /// The server cannot answer at the moment (section 15.6.4).
    SERVICE_UNAVAILABLE = 503 "Service Unavailable";
    /// The server does not speak this major version (section 15.6.6).
    HTTP_VERSION_NOT_SUPPORTED = 505 "HTTP Version Not Supported";
}

impl Status {
    /// The number.
    #[must_use]
    pub fn code(self) -> u16 {
        self.0
    }

    /// The number and the reason phrase, such as `404 Not Found`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.line().trim_start_matches("HTTP/1.1 ").trim_end()
    }

    /// Whether responses of this status have content at all (RFC 9110 section 6.4.1).
    fn has_content(self) -> bool {
        !matches!(self, Self::NO_CONTENT | Self::NOT_MODIFIED)
    }
}

/// What a handler answers.
///
/// ```
/// use hello::http::{Response, Status};
///
/// let answer = Response::new(Status::NOT_FOUND, "text/plain; charset=utf-8", "no such page\n");
/// assert_eq!(answer.status().code(), 404);
/// ```
#[derive(Clone, Debug)]
pub struct Response {
    status: Status,
    content_type: &'static str,
    content: Cow<'static, [u8]>,
    fields: Vec<(&'static str, Cow<'static, str>)>,
    close: bool,
}

impl Response {
    /// A response with content of a type such as `text/html; charset=utf-8`.
    ///
    /// Static text or bytes, and a `String` or `Vec<u8>`, are taken without a copy.
    #[must_use]
    pub fn new(status: Status, content_type: &'static str, content: impl Into<Content>) -> Self {
        Self { status, content_type, content: content.into().0, fields: Vec::new(), close: false }
    }

    /// An HTML page in UTF-8.
    #[must_use]
    pub fn html(status: Status, content: impl Into<Content>) -> Self {
        Self::new(status, "text/html; charset=utf-8", content)
    }

    /// A response without content.
    #[must_use]
    pub fn empty(status: Status) -> Self {
        Self::new(status, "", "")
    }

    /// The small page that goes with a status when there is nothing more to say.
    #[must_use]
    pub fn error(status: Status) -> Self {
        let reason = status.as_str();
        Self::html(
            status,
            format!(
                "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{reason}</title>\n<h1>{reason}</h1>\n</html>\n"
            ),
        )
    }

    /// Adds a header field. The fields of framing and connection (`Content-Length`, `Connection`, `Date`) are not for
    /// handlers to add; the server writes them.
    ///
    /// # Panics
    ///
    /// If the name is not a token or the value has a control character: such a field would let whoever chose the
    /// value write the rest of the response. On a worker that costs this request a 500.
    #[must_use]
    pub fn with_field(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        let value = value.into();
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        assert!(!name.is_empty() && name.as_bytes().iter().all(is_token), "{name:?} is not a field name");
        assert!(!value.chars().any(char::is_control), "the value of {name} has a control character");
        self.fields.push((name, value));
        self
    }

    /// Closes the connection after this response.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Whether the handler wants the connection closed.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.close
    }

    /// Appends the response as it goes over the wire.
    ///
    /// `method` is the request's: after HEAD the content is left out and everything else stays (RFC 9110 section
    /// 9.3.2). The version is ours, HTTP/1.1, whatever the client speaks (section 2.5).
    pub fn write(&self, method: Method, persistence: Persistence, date: &str, out: &mut Vec<u8>) {
        let mut text = |piece: &str| out.extend_from_slice(piece.as_bytes());
        text(self.status.line());
        text("Date: ");
        text(date);
        text("\r\n");
        if self.status.has_content() {
            if !self.content_type.is_empty() {
                text("Content-Type: ");
                text(self.content_type);
                text("\r\n");
            }
            text("Content-Length: ");
            push_decimal(self.content.len(), &mut text);
            text("\r\n");
        }
        for (name, value) in &self.fields {
            text(name);
            text(": ");
            text(value);
            text("\r\n");
        }
        text(match persistence {
            Persistence::KeepAlive => "\r\n",
            Persistence::KeepAliveSaid => "Connection: keep-alive\r\n\r\n",
            Persistence::Close => "Connection: close\r\n\r\n",
        });
        if self.status.has_content() && method != Method::Head {
            out.extend_from_slice(&self.content);
        }
    }
}

/// The bytes of a response, from anything that has bytes to give.
#[derive(Clone, Debug)]
pub struct Content(Cow<'static, [u8]>);

impl From<&'static str> for Content {
    fn from(text: &'static str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }
}

impl From<&'static [u8]> for Content {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Cow::Borrowed(bytes))
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text.into_bytes()))
    }
}

impl From<Cow<'static, [u8]>> for Content {
    fn from(bytes: Cow<'static, [u8]>) -> Self {
        Self(bytes)
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Cow::Owned(bytes))
    }
}

/// Appends a number in decimal, without the formatting machinery: this runs for every response.
fn push_decimal(mut number: usize, text: &mut impl FnMut(&str)) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(number % 10).expect("a remainder of ten is one digit");
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text(std::str::from_utf8(&digits[start..]).expect("digits are ASCII"));
}

/// The interim response that lets the client send its body (RFC 9110 section 10.1.1). It has no fields.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn written(response: &Response, method: Method, persistence: Persistence) -> String {
        let mut out = Vec::new();
        response.write(method, persistence, DATE, &mut out);
        String::from_utf8(out).expect("these responses are text")
    }

    #[test]
    fn a_response_is_spelled_out_rfc9112_4() {
        let response = Response::new(Status::OK, "text/plain", "Hello!").with_field("X-Name", "value");
        assert_eq!(
            written(&response, Method::Get, Persistence::KeepAlive),
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\n\
             Content-Length: 6\r\nX-Name: value\r\n\r\nHello!"
        );
    }

    #[test]
    fn head_gets_the_same_fields_and_no_content_rfc9110_9_3_2() {
        for response in [Response::html(Status::OK, "Hello!"), Response::error(Status::NOT_FOUND)] {
            let get = written(&response, Method::Get, Persistence::Close);
            let head = written(&response, Method::Head, Persistence::Close);
            let (fields, content) = get.split_at(get.find("\r\n\r\n").expect("a head ends") + 4);
            assert_eq!(head, fields);
            assert!(!content.is_empty());
        }
    }

    #[test]
    fn the_connection_field_is_there_only_when_it_says_something_rfc9112_9_3() {
        let response = Response::empty(Status::OK);
        assert!(!written(&response, Method::Get, Persistence::KeepAlive).contains("Connection"));
        assert!(written(&response, Method::Get, Persistence::KeepAliveSaid).contains("\r\nConnection: keep-alive\r\n"));
        assert!(written(&response, Method::Get, Persistence::Close).contains("\r\nConnection: close\r\n"));
    }

    #[test]
    fn statuses_without_content_have_no_length_rfc9110_8_6() {
        for status in [Status::NO_CONTENT, Status::NOT_MODIFIED] {
            let text = written(&Response::html(status, "never sent"), Method::Get, Persistence::KeepAlive);
            assert!(!text.contains("Content-") && text.ends_with("\r\n\r\n"), "{text}");
        }
        assert!(
            written(&Response::empty(Status::OK), Method::Get, Persistence::KeepAlive).contains("Content-Length: 0")
        );
    }

    #[test]
    fn lengths_of_every_size_are_written_right() {
        for length in [0, 1, 9, 10, 99, 100, 12_345, 100_000] {
            let text = written(&Response::html(Status::OK, vec![b'x'; length]), Method::Head, Persistence::KeepAlive);
            assert!(text.contains(&format!("\r\nContent-Length: {length}\r\n")), "{text}");
        }
        let mut text = String::new();
        push_decimal(usize::MAX, &mut |digits| text.push_str(digits));
        assert_eq!(text, usize::MAX.to_string());
    }

    #[test]
    #[should_panic(expected = "control character")]
    fn a_field_value_cannot_write_the_rest_of_the_response() {
        let _ = Response::empty(Status::FOUND).with_field("Location", "/\r\nSet-Cookie: a=b");
    }
}
