//! A request as a handler sees it: a view of the bytes that arrived.
//!
//! Parsing leaves behind a [`Head`]: a few numbers saying where in the bytes the parts are. Together with the bytes it
//! makes a [`Request`], which is cheap to build, owns nothing, and looks a header field up only when asked. That split
//! is what lets a request travel to a worker thread without an allocation: the job carries bytes and heads in buffers
//! it keeps from one trip to the next.

use std::ops::Range;

/// A request method (RFC 9110 section 9, and PATCH from RFC 5789).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Transfer a representation of the resource.
    Get,
    /// Like GET, without the content.
    Head,
    /// Let the resource process the content.
    Post,
    /// Replace the resource.
    Put,
    /// Remove the resource.
    Delete,
    /// Open a tunnel. No handler sees it: this is no proxy.
    Connect,
    /// Ask what is possible.
    Options,
    /// Echo the request.
    Trace,
    /// Change the resource in part.
    Patch,
    /// Any other token. Methods are case-sensitive, so `get` is one of these.
    Other,
}

impl Method {
    /// Names the method; `Other` for a token this server has no name for.
    #[must_use]
    pub fn from_token(token: &str) -> Self {
        match token {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "CONNECT" => Self::Connect,
            "OPTIONS" => Self::Options,
            "TRACE" => Self::Trace,
            "PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }
}

/// The version a client speaks. HTTP/1.2 and later minor versions count as 1.1 (RFC 9110 section 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: closes after one response unless it asked to stay.
    Http10,
    /// HTTP/1.1: stays open unless one side says close.
    Http11,
}

/// What becomes of the connection after a response (RFC 9112 section 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It stays open, as HTTP/1.1 does by default; no field says so.
    KeepAlive,
    /// It stays open because an HTTP/1.0 client asked, and the response says `Connection: keep-alive`.
    KeepAliveSaid,
    /// It closes, and the response says `Connection: close`.
    Close,
}

/// A piece of a head: byte offsets from the head's first byte. Heads are far shorter than 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Where a target's path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// Here in the head; also the `*` of OPTIONS.
    At(Span),
    /// Nowhere: an absolute-form target without a path means `/` (RFC 9110 section 4.2.3).
    Root,
}

/// The parsed head of a request, as offsets into its bytes.
///
/// Only [`parse`](super::parse::parse) makes one, so its spans always fit the bytes it was made from and its method,
/// path and query are always ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) persistence: Persistence,
    pub(crate) token: Span,
    pub(crate) path: Path,
    pub(crate) query: Option<Span>,
    pub(crate) fields: Span,
}

/// A request: a head and the bytes it describes.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    head: &'a Head,
    bytes: &'a [u8],
}

impl<'a> Request<'a> {
    /// Joins a head with the bytes it was parsed from; `bytes` begins where parsing began and may go on beyond the
    /// head.
    #[must_use]
    pub fn new(head: &'a Head, bytes: &'a [u8]) -> Self {
        Self { head, bytes }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> Method {
        self.head.method
    }

    /// The method as it was written, such as `PROPFIND` where [`Request::method`] says [`Method::Other`].
    #[must_use]
    pub fn method_token(&self) -> &'a str {
        self.text(self.head.token)
    }

    /// The path of the target, not decoded: `/sleep` in `/sleep?x=1` and in `http://host/sleep`. It is `*` for the
    /// `OPTIONS *` that asks about the whole server.
    #[must_use]
    pub fn path(&self) -> &'a str {
        match self.head.path {
            Path::At(span) => self.text(span),
            Path::Root => "/",
        }
    }

    /// The query of the target, not decoded and without its question mark.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
        self.head.query.map(|span| self.text(span))
    }

    /// The version the client speaks.
    #[must_use]
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// Whether the client wants the connection kept open.
    #[must_use]
    pub fn persistence(&self) -> Persistence {
        self.head.persistence
    }

    /// The header fields in order, as name and value. Values are bytes, stripped of the blanks around them.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        // The parser has accepted these lines: each is `name:value` and ends in CRLF.
        self.bytes[self.head.fields.range()].split(|&byte| byte == b'\n').filter_map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            let name = std::str::from_utf8(&line[..colon]).ok()?;
            Some((name, line[colon + 1..].trim_ascii()))
        })
    }

    /// The first header field of this name, compared without regard to case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.fields().find(|(candidate, _)| candidate.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn text(&self, span: Span) -> &'a str {
        std::str::from_utf8(&self.bytes[span.range()]).expect("the parser accepts only ASCII methods and targets")
    }
}
