//! Bytes to a request: the request line and header fields of HTTP/1.1 (RFC 9112 sections 2 to 6).
//!
//! The tokenizing is httparse's; what it lets through and we do not is decided here: bare line feeds, targets, `Host`,
//! and above all the *framing*, the fields that say where the message ends. Two parties that disagree about framing
//! can be made to see different requests in the same bytes, so a message that could be read in two ways is refused
//! (RFC 9112 section 11.2).
//!
//! Invariant: the verdict on some bytes does not depend on how many more have arrived. Every prefix of a request is
//! [`Parsed::Partial`] until the byte that decides, and the verdict stays the same from there on.

use std::mem::MaybeUninit;
use std::net::Ipv6Addr;

use super::body::Framing;
use super::request::{Head, Method, Path, Persistence, Span, Version};
use super::response::Status;
use crate::limits::Limits;

/// Maximum number of empty lines skipped before a request line (RFC 9112 section 2.2 asks to ignore at least one).
const BLANK_LINES_MAX: usize = 8;

/// What the bytes so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// They may be the beginning of a request; more are needed.
    Partial,
    /// They begin with a complete request head.
    Complete {
        /// The head, with offsets that count from the first byte given to [`parse`].
        head: Head,
        /// The number of bytes before the body.
        length: usize,
        /// How the body is framed.
        framing: Framing,
        /// Whether the client waits for a `100 Continue` before it sends the body.
        expects_continue: bool,
    },
}

/// Why bytes cannot become a request we accept, however they go on. After any of these the connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Not HTTP/1.1 as RFC 9112 spells it, or ambiguous: 400.
    Malformed,
    /// The target is longer than [`Limits::target_bytes_max`]: 414.
    TargetTooLong,
    /// The head is longer than [`Limits::head_bytes_max`] or has more than [`Limits::fields_max`] fields: 431.
    HeadTooLarge,
    /// The body is announced longer than [`Limits::body_bytes_max`]: 413.
    BodyTooLarge,
    /// The body has a transfer coding other than chunked: 501 (RFC 9112 section 6.1).
    UnknownCoding,
    /// A major version other than 1: 505.
    UnknownVersion,
    /// A tunnel is asked for, and this is no proxy: 501 (RFC 9110 section 9.3.6).
    Tunnel,
}

impl ParseError {
    /// The status that tells the client.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::Malformed => Status::BAD_REQUEST,
            Self::TargetTooLong => Status::URI_TOO_LONG,
            Self::HeadTooLarge => Status::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge => Status::CONTENT_TOO_LARGE,
            Self::UnknownCoding | Self::Tunnel => Status::NOT_IMPLEMENTED,
            Self::UnknownVersion => Status::HTTP_VERSION_NOT_SUPPORTED,
        }
    }
}

/// Parses one request head from the front of `bytes`.
///
/// Framing follows RFC 9112 section 6.3. Never panics, whatever the bytes.
///
/// # Errors
///
/// [`ParseError`] if no continuation of `bytes` can become a request we accept.
pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Parsed, ParseError> {
    let blank = blank_lines(bytes)?;
    let window = &bytes[blank..];
    // Bytes beyond the limit must not influence the verdict, or it would depend on how much arrived at once.
    let window = &window[..window.len().min(limits.head_bytes_max)];

    let mut table = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; Limits::FIELDS_CEILING];
    let table = &mut table[..limits.fields_max.min(Limits::FIELDS_CEILING)];
    let mut request = httparse::Request::new(&mut []);
    let outcome = request.parse_with_uninit_headers(window, table);

    if let Some(method) = request.method {
        let target = request.path.map_or_else(|| target_so_far(&window[method.len() + 1..]), str::len);
        if target > limits.target_bytes_max {
            return Err(ParseError::TargetTooLong);
        }
    }
    match outcome {
        Ok(httparse::Status::Complete(length)) => {
            let version = if request.version == Some(0) { Version::Http10 } else { Version::Http11 };
            complete(&request, version, &window[..length], blank, limits)
        }
        Ok(httparse::Status::Partial) if window.len() == limits.head_bytes_max => {
            let in_target = request.method.is_some() && request.path.is_none();
            Err(if in_target { ParseError::TargetTooLong } else { ParseError::HeadTooLarge })
        }
        Ok(httparse::Status::Partial) => Ok(Parsed::Partial),
        Err(httparse::Error::TooManyHeaders) => Err(ParseError::HeadTooLarge),
        Err(httparse::Error::Version) => match version_digits(window)? {
            // The byte that would decide lies beyond the limit.
            None if window.len() == limits.head_bytes_max => Err(ParseError::HeadTooLarge),
            None => Ok(Parsed::Partial),
            Some((b'1', at)) => parse_as_1_1(bytes, blank + at, limits),
            Some(_) => Err(ParseError::UnknownVersion),
        },
        Err(_) => Err(ParseError::Malformed),
    }
}

/// Counts the bytes of the empty lines in front of the request line.
fn blank_lines(bytes: &[u8]) -> Result<usize, ParseError> {
    let count = bytes.chunks_exact(2).take_while(|pair| *pair == b"\r\n").take(BLANK_LINES_MAX + 1).count();
    if count > BLANK_LINES_MAX { Err(ParseError::Malformed) } else { Ok(count * 2) }
}

/// Counts the bytes of a target whose end has not been seen, or that has a byte no target may have.
fn target_so_far(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| **byte > b' ' && **byte != 0x7f).count()
}

/// Reads the version that httparse refused: its major digit and the offset of its minor digit, or `None` if it is
/// still arriving.
fn version_digits(window: &[u8]) -> Result<Option<(u8, usize)>, ParseError> {
    let mut spaces = (0..window.len()).filter(|&at| window[at] == b' ');
    let start = spaces.nth(1).ok_or(ParseError::Malformed)? + 1;
    let version = &window[start..window.len().min(start + 9)];
    let fits = version.iter().zip(b"HTTP/0.0\r").all(|(&byte, &pattern)| match pattern {
        b'0' => byte.is_ascii_digit(),
        _ => byte == pattern,
    });
    match (fits, version.len()) {
        (false, _) => Err(ParseError::Malformed),
        (true, 9) => Ok(Some((version[5], start + 7))),
        (true, _) => Ok(None),
    }
}

/// Parses a request of HTTP/1.2 to HTTP/1.9 as the HTTP/1.1 it has to be compatible with (RFC 9110 section 2.5).
///
/// httparse refuses these versions, so it is shown a copy with another digit. The offsets are the same in both.
fn parse_as_1_1(bytes: &[u8], minor_digit_at: usize, limits: &Limits) -> Result<Parsed, ParseError> {
    let mut copy = bytes[..bytes.len().min(minor_digit_at + limits.head_bytes_max)].to_vec();
    copy[minor_digit_at] = b'1';
    parse(&copy, limits)
}

/// Judges a head that httparse has accepted: `head` is its text, which begins `offset` bytes into the input.
fn complete(
    request: &httparse::Request<'_, '_>,
    version: Version,
    head: &[u8],
    offset: usize,
    limits: &Limits,
) -> Result<Parsed, ParseError> {
    // httparse takes a lone line feed for a line end. Others do not, and refusing it is allowed (section 2.2).
    if bare_line_feed(head) {
        return Err(ParseError::Malformed);
    }
    let token = request.method.ok_or(ParseError::Malformed)?;
    let target = request.path.ok_or(ParseError::Malformed)?;
    let method = Method::from_token(token);

    let span =
        |start: usize, length: usize| Span { start: narrow(offset + start), end: narrow(offset + start + length) };
    let target_at = token.len() + 1;
    let target = Target::parse(method, target)?;
    if method == Method::Connect {
        return Err(ParseError::Tunnel);
    }
    let fields_at = head.iter().position(|&byte| byte == b'\n').map_or(head.len(), |at| at + 1);

    let fields = Fields::read(request.headers)?;
    fields.check_host(version)?;
    let framing = fields.framing(version, limits)?;
    let length = offset + head.len();
    let head = Head {
        method,
        version,
        persistence: fields.persistence(version),
        token: span(0, token.len()),
        path: match target.path {
            Some((start, length)) => Path::At(span(target_at + start, length)),
            None => Path::Root,
        },
        query: target.query.map(|(start, length)| span(target_at + start, length)),
        fields: span(fields_at, head.len() - fields_at),
    };
    let expects_continue = fields.expects_continue && version == Version::Http11 && framing != Framing::None;
    Ok(Parsed::Complete { head, length, framing, expects_continue })
}

/// Offsets are stored in 32 bits; a head, blank lines included, is at most a few kilobytes longer than its limit.
fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

/// Whether a line feed stands without its carriage return. Written without an early end, which lets the compiler look
/// at many bytes at once.
#[allow(clippy::needless_bitwise_bool)]
fn bare_line_feed(head: &[u8]) -> bool {
    let first = head.first() == Some(&b'\n');
    let pairs = head.iter().zip(head.get(1..).unwrap_or_default());
    pairs.fold(first, |found, (&before, &byte)| found | ((byte == b'\n') & (before != b'\r')))
}

/// A request target taken apart (RFC 9112 section 3.2): start and length of its pieces.
struct Target {
    /// `None` for an absolute-form target without a path.
    path: Option<(usize, usize)>,
    query: Option<(usize, usize)>,
}

impl Target {
    fn parse(method: Method, target: &str) -> Result<Self, ParseError> {
        check_target_bytes(target.as_bytes())?;
        if target.starts_with('/') {
            return Ok(Self::split(target, 0));
        }
        match method {
            Method::Options if target == "*" => Ok(Self { path: Some((0, 1)), query: None }),
            Method::Connect => {
                let (_, port) = target.rsplit_once(':').ok_or(ParseError::Malformed)?;
                if port.is_empty() {
                    return Err(ParseError::Malformed);
                }
                check_authority(target.as_bytes())?;
                Ok(Self { path: Some((0, target.len())), query: None })
            }
            _ => Self::parse_absolute(target),
        }
    }

    /// `http://authority/path?query`, as proxies are asked; every server must accept it (section 3.2.2).
    fn parse_absolute(target: &str) -> Result<Self, ParseError> {
        let (scheme, rest) = target.split_once("://").ok_or(ParseError::Malformed)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(ParseError::Malformed);
        }
        let authority = rest.find(['/', '?']).unwrap_or(rest.len());
        if authority == 0 || rest.starts_with(':') {
            return Err(ParseError::Malformed);
        }
        check_authority(&rest.as_bytes()[..authority])?;
        Ok(Self::split(target, scheme.len() + 3 + authority))
    }

    fn split(target: &str, start: usize) -> Self {
        let end = target.len();
        let question = target[start..].find('?').map(|at| start + at);
        let path_end = question.unwrap_or(end);
        Self {
            path: (path_end > start).then_some((start, path_end - start)),
            query: question.map(|at| (at + 1, end - at - 1)),
        }
    }
}

/// Refuses bytes outside ASCII, fragments and broken percent-escapes; httparse has refused controls and spaces.
fn check_target_bytes(target: &[u8]) -> Result<(), ParseError> {
    let mut rest = target;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match byte {
            b'%' => match tail {
                [high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => tail,
                _ => return Err(ParseError::Malformed),
            },
            b'#' | 0x80.. => return Err(ParseError::Malformed),
            _ => tail,
        };
    }
    Ok(())
}

/// Checks `uri-host [":" port]` (RFC 9110 section 7.2, RFC 3986 section 3.2.2), without userinfo and without the
/// commas that would make two values of one field look like one host.
fn check_authority(authority: &[u8]) -> Result<(), ParseError> {
    let host_end = match authority {
        [b'[', ..] => {
            let end = authority.iter().position(|&byte| byte == b']').ok_or(ParseError::Malformed)?;
            let literal = std::str::from_utf8(&authority[1..end]).map_err(|_| ParseError::Malformed)?;
            literal.parse::<Ipv6Addr>().map_err(|_| ParseError::Malformed)?;
            end + 1
        }
        _ => authority.iter().position(|&byte| byte == b':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(host_end);
    let host_fits = host.starts_with(b"[") || host.iter().all(|byte| is_host_byte(*byte));
    let port_fits = match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let escapes_fit = check_target_bytes(host).is_ok();
    if host_fits && port_fits && escapes_fit { Ok(()) } else { Err(ParseError::Malformed) }
}

/// Unreserved characters, sub-delimiters but the comma, and the percent sign (RFC 3986 section 3.2.2).
fn is_host_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$'
        | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=')
}

/// The few header fields the server itself obeys, read in one pass.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    content_length: Option<u64>,
    transfer_coding: Coding,
    expects_continue: bool,
    close: bool,
    keep_alive: bool,
}

/// What `Transfer-Encoding` says, over all its lines.
#[derive(Default, PartialEq)]
enum Coding {
    #[default]
    Absent,
    /// `chunked`, once and alone.
    Chunked,
    /// Some coding that this server cannot undo.
    Unknown,
}

impl<'a> Fields<'a> {
    fn read(headers: &[httparse::Header<'a>]) -> Result<Self, ParseError> {
        let mut fields = Self::default();
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            match header.name.len() {
                // Exactly one Host (RFC 9112 section 3.2).
                4 if is("host") => set_once(&mut fields.host, header.value)?,
                6 if is("expect") => {
                    fields.expects_continue |= members(header.value).any(|member| same(member, "100-continue"));
                }
                10 if is("connection") => {
                    fields.close |= members(header.value).any(|member| same(member, "close"));
                    fields.keep_alive |= members(header.value).any(|member| same(member, "keep-alive"));
                }
                // A repeated Content-Length is refused even if both agree: nobody needs it (section 6.3).
                14 if is("content-length") => set_once(&mut fields.content_length, decimal(header.value)?)?,
                17 if is("transfer-encoding") => fields.add_codings(header.value)?,
                _ => {}
            }
        }
        Ok(fields)
    }

    /// Accepts `chunked` as the only coding; a coding after it, or it twice, is malformed (RFC 9112 sections 6.1, 7).
    fn add_codings(&mut self, value: &[u8]) -> Result<(), ParseError> {
        let mut named = false;
        for coding in members(value) {
            named = true;
            let name = coding.split(|&byte| byte == b';').next().unwrap_or(coding).trim_ascii();
            self.transfer_coding = match (&self.transfer_coding, same(name, "chunked")) {
                (Coding::Absent, true) if coding == name => Coding::Chunked,
                (Coding::Absent, false) if !name.is_empty() => Coding::Unknown,
                (Coding::Unknown, _) => Coding::Unknown,
                _ => return Err(ParseError::Malformed),
            };
        }
        if named { Ok(()) } else { Err(ParseError::Malformed) }
    }

    fn check_host(&self, version: Version) -> Result<(), ParseError> {
        match (self.host, version) {
            (Some(host), _) => check_authority(host),
            (None, Version::Http10) => Ok(()),
            (None, Version::Http11) => Err(ParseError::Malformed),
        }
    }

    /// Where the body ends (RFC 9112 section 6.3), or the refusal of a message that says it in two ways.
    fn framing(&self, version: Version, limits: &Limits) -> Result<Framing, ParseError> {
        match (&self.transfer_coding, self.content_length) {
            (Coding::Chunked, None) if version == Version::Http11 => Ok(Framing::Chunked),
            (Coding::Unknown, None) if version == Version::Http11 => Err(ParseError::UnknownCoding),
            (Coding::Chunked | Coding::Unknown, _) => Err(ParseError::Malformed),
            (Coding::Absent, None | Some(0)) => Ok(Framing::None),
            (Coding::Absent, Some(length)) if length > limits.body_bytes_max => Err(ParseError::BodyTooLarge),
            (Coding::Absent, Some(length)) => Ok(Framing::Length(length)),
        }
    }

    /// Whether the connection stays (RFC 9112 section 9.3): close wins over everything.
    fn persistence(&self, version: Version) -> Persistence {
        match version {
            _ if self.close => Persistence::Close,
            Version::Http11 => Persistence::KeepAlive,
            Version::Http10 if self.keep_alive => Persistence::KeepAliveSaid,
            Version::Http10 => Persistence::Close,
        }
    }
}

/// Stores the value of a field that may appear once.
fn set_once<T>(place: &mut Option<T>, value: T) -> Result<(), ParseError> {
    if place.replace(value).is_none() { Ok(()) } else { Err(ParseError::Malformed) }
}

/// The members of a comma-separated list, without blanks and without the empty ones (RFC 9110 section 5.6.1).
fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

fn same(member: &[u8], name: &str) -> bool {
    member.eq_ignore_ascii_case(name.as_bytes())
}

/// Reads a Content-Length: digits only, no sign, no list, no overflow (RFC 9110 section 8.6).
fn decimal(value: &[u8]) -> Result<u64, ParseError> {
    if value.is_empty() {
        return Err(ParseError::Malformed);
    }
    value.iter().try_fold(0_u64, |total, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0')).ok_or(ParseError::Malformed)?;
        total.checked_mul(10).and_then(|total| total.checked_add(digit)).ok_or(ParseError::Malformed)
    })
}

#[cfg(test)]
mod tests;
