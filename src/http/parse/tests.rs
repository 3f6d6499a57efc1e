//! What is a request, what is not, and that cutting the bytes anywhere changes nothing.

use super::*;
use crate::http::Request;

fn parse_all(bytes: &[u8]) -> Result<Parsed, ParseError> {
    parse(bytes, &Limits::default())
}

/// Parses bytes as the network might cut them: every prefix first. Checks that no prefix says otherwise.
fn verdict(bytes: &[u8]) -> Result<Parsed, ParseError> {
    let whole = parse_all(bytes);
    let first = (0..=bytes.len()).map(|end| parse_all(&bytes[..end])).find(|result| *result != Ok(Parsed::Partial));
    let first = first.unwrap_or(Ok(Parsed::Partial));
    assert_eq!(first, whole, "the verdict depends on the cut: {}", bytes.escape_ascii());
    whole
}

#[track_caller]
fn accepted(bytes: &[u8]) -> (Head, usize, Framing, bool) {
    match verdict(bytes) {
        Ok(Parsed::Complete { head, length, framing, expects_continue }) => (head, length, framing, expects_continue),
        other => panic!("{} is {other:?}", bytes.escape_ascii()),
    }
}

#[track_caller]
fn refused(bytes: &[u8], error: ParseError) {
    assert_eq!(verdict(bytes), Err(error), "{}", bytes.escape_ascii());
}

/// A request for `/` with these further header lines.
fn with_fields(version: &str, lines: &str) -> Vec<u8> {
    format!("GET / HTTP/{version}\r\n{lines}\r\n").into_bytes()
}

#[test]
fn a_request_is_taken_apart_wherever_it_is_cut() {
    let bytes = b"GET /sleep?for=5 HTTP/1.1\r\nHost: a.example:8080\r\nX-Thing:  two  words\t\r\n\r\nrest";
    let (head, length, framing, expects_continue) = accepted(bytes);
    assert_eq!((length, framing, expects_continue), (bytes.len() - 4, Framing::None, false));
    let request = Request::new(&head, bytes);
    assert_eq!((request.method(), request.method_token()), (Method::Get, "GET"));
    assert_eq!((request.path(), request.query()), ("/sleep", Some("for=5")));
    assert_eq!((request.version(), request.persistence()), (Version::Http11, Persistence::KeepAlive));
    assert_eq!(request.field("x-thing"), Some(&b"two  words"[..]));
    assert_eq!(request.field("y-thing"), None);
    assert_eq!(request.fields().count(), 2);
}

#[test]
fn a_few_empty_lines_come_before_a_request_rfc9112_2_2() {
    let bytes = b"\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    let (head, length, ..) = accepted(bytes);
    assert_eq!(length, bytes.len());
    assert_eq!(Request::new(&head, bytes).path(), "/a");
    assert_eq!(Request::new(&head, bytes).field("host"), Some(&b"a"[..]));
    refused(&b"\r\n".repeat(BLANK_LINES_MAX + 1), ParseError::Malformed);
}

#[test]
fn lone_line_ends_are_refused_rfc9112_2_2() {
    for bytes in [
        &b"GET / HTTP/1.1\nHost: a\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\rHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
    ] {
        refused(bytes, ParseError::Malformed);
    }
}

#[test]
fn a_request_line_is_spelled_exactly_rfc9112_3() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / a HTTP/1.1",
        "GET /",
        "GET",
        "GET / http/1.1",
        "GET / HTTP/1",
        "GET / HTTP/1.1.1",
        "GET / HTTP/11.1",
        "GET / HTTP/1.a",
        "GET / HTTP/ 1.1",
        "G<T / HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET /%g0 HTTP/1.1",
        "GET /% HTTP/1.1",
        "GET a HTTP/1.1",
    ] {
        refused(format!("{line}\r\nHost: a\r\n\r\n").as_bytes(), ParseError::Malformed);
    }
}

#[test]
fn versions_of_the_first_major_are_understood_rfc9110_2_5() {
    for (digits, version) in [("1.0", Version::Http10), ("1.1", Version::Http11), ("1.2", Version::Http11)] {
        let bytes = with_fields(digits, "Host: a\r\n");
        let (head, length, ..) = accepted(&bytes);
        assert_eq!((Request::new(&head, &bytes).version(), length), (version, bytes.len()));
    }
    for digits in ["0.9", "2.0", "3.1", "9.9"] {
        refused(&with_fields(digits, "Host: a\r\n"), ParseError::UnknownVersion);
    }
}

#[test]
fn targets_come_in_four_forms_rfc9112_3_2() {
    for (line, path, query) in [
        ("GET /a/b?c?d HTTP/1.1", "/a/b", Some("c?d")),
        ("GET /? HTTP/1.1", "/", Some("")),
        ("GET http://a.example/b?c HTTP/1.1", "/b", Some("c")),
        ("GET HTTP://a.example:80 HTTP/1.1", "/", None),
        ("GET https://[::1]:443?q HTTP/1.1", "/", Some("q")),
        ("OPTIONS * HTTP/1.1", "*", None),
    ] {
        let bytes = format!("{line}\r\nHost: a\r\n\r\n");
        let (head, ..) = accepted(bytes.as_bytes());
        let request = Request::new(&head, bytes.as_bytes());
        assert_eq!((request.path(), request.query()), (path, query), "{line}");
    }
    refused(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a\r\n\r\n", ParseError::Tunnel);
    for line in [
        "GET * HTTP/1.1",
        "GET a.example:443 HTTP/1.1",
        "CONNECT a.example HTTP/1.1",
        "CONNECT a.example: HTTP/1.1",
        "GET http:///b HTTP/1.1",
        "GET http://:80/b HTTP/1.1",
        "GET http://u@a.example/ HTTP/1.1",
        "GET ftp://a.example/ HTTP/1.1",
    ] {
        refused(format!("{line}\r\nHost: a\r\n\r\n").as_bytes(), ParseError::Malformed);
    }
}

#[test]
fn there_is_exactly_one_valid_host_rfc9112_3_2() {
    for host in ["a", "a.example:80", "127.0.0.1", "[::1]:8080", "a%20b", "", "a:"] {
        accepted(&with_fields("1.1", &format!("Host: {host}\r\n")));
    }
    for host in ["a b", "a/b", "u@a", "a,b", "a, b", "a:8o", "[::1", "[::g]", "[::1]a", "a%2", "\u{e9}", "a:1:2"] {
        refused(&with_fields("1.1", &format!("Host: {host}\r\n")), ParseError::Malformed);
    }
    refused(&with_fields("1.1", ""), ParseError::Malformed);
    refused(&with_fields("1.1", "Host: a\r\nhost: a\r\n"), ParseError::Malformed);
    refused(&with_fields("1.0", "Host: a\r\nhost: a\r\n"), ParseError::Malformed);
    accepted(&with_fields("1.0", ""));
    refused(b"GET http://a/ HTTP/1.1\r\n\r\n", ParseError::Malformed);
}

#[test]
fn fields_are_spelled_exactly_rfc9112_5() {
    for line in [
        "Name : v",
        "Name\t: v",
        ": v",
        "Name",
        " Name: v",
        "Na(me: v",
        "N: a\0b",
        "N: a\u{1}b",
        "N: v\r\n folded",
        "N: v\r\n\tfolded",
    ] {
        refused(&with_fields("1.1", &format!("Host: a\r\n{line}\r\n")), ParseError::Malformed);
    }
    refused(b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", ParseError::Malformed);
    let bytes = b"GET / HTTP/1.1\r\nHost: \ta\t \r\nEmpty:\r\nHigh: \x80\xff\r\n\r\n";
    let (head, ..) = accepted(bytes);
    let request = Request::new(&head, bytes);
    assert_eq!(request.field("HOST"), Some(&b"a"[..]));
    assert_eq!((request.field("empty"), request.field("high")), (Some(&b""[..]), Some(&b"\x80\xff"[..])));
}

#[test]
fn content_length_is_digits_once_rfc9112_6_3() {
    let with = |value: &str| with_fields("1.1", &format!("Host: a\r\nContent-Length: {value}\r\n"));
    assert_eq!(accepted(&with("0")).2, Framing::None);
    assert_eq!(accepted(&with("0017")).2, Framing::Length(17));
    assert_eq!(accepted(&with("1048576")).2, Framing::Length(1_048_576));
    refused(&with("1048577"), ParseError::BodyTooLarge);
    refused(&with("18446744073709551615"), ParseError::BodyTooLarge);
    for value in
        ["", "+1", "-1", "1 1", "1_1", "0x1", "1,1", "1, 1", "1.0", "18446744073709551616", "9".repeat(99).as_str()]
    {
        refused(&with(value), ParseError::Malformed);
    }
    refused(&with("1\r\nContent-Length: 1"), ParseError::Malformed);
    refused(&with("1\r\nContent-Length: 2"), ParseError::Malformed);
}

#[test]
fn transfer_encoding_is_chunked_alone_rfc9112_6_1() {
    let with = |lines: &str| with_fields("1.1", &format!("Host: a\r\n{lines}\r\n"));
    for lines in ["Transfer-Encoding: chunked", "transfer-encoding: CHUNKED", "Transfer-Encoding: , chunked ,"] {
        assert_eq!(accepted(&with(lines)).2, Framing::Chunked);
    }
    for lines in [
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding:",
        "Transfer-Encoding: ,",
        "Transfer-Encoding: chunked\r\nContent-Length: 1",
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Content-Length: 1\r\nTransfer-Encoding: gzip",
    ] {
        refused(&with(lines), ParseError::Malformed);
    }
    for coding in ["gzip", "gzip, chunked", "identity", "xchunked", "chunked2", "gzip;q=1"] {
        refused(&with(&format!("Transfer-Encoding: {coding}")), ParseError::UnknownCoding);
    }
    refused(&with_fields("1.0", "Transfer-Encoding: chunked\r\n"), ParseError::Malformed);
    refused(&with_fields("1.0", "Transfer-Encoding: gzip\r\n"), ParseError::Malformed);
}

#[test]
fn connection_options_are_list_members_rfc9112_9_3() {
    use Persistence::{Close, KeepAlive, KeepAliveSaid};
    for (version, lines, persistence) in [
        ("1.1", "", KeepAlive),
        ("1.1", "Connection: keep-alive\r\n", KeepAlive),
        ("1.1", "Connection: closed\r\n", KeepAlive),
        ("1.1", "Connection: close\r\n", Close),
        ("1.1", "Connection: x, , CLOSE\r\n", Close),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", Close),
        ("1.0", "", Close),
        ("1.0", "Connection: Keep-Alive\r\n", KeepAliveSaid),
        ("1.0", "Connection: keep-alive, close\r\n", Close),
    ] {
        let bytes = with_fields(version, &format!("Host: a\r\n{lines}"));
        assert_eq!(accepted(&bytes).0.persistence, persistence, "{version} {lines}");
    }
}

#[test]
fn a_continue_is_expected_only_with_a_body_to_come_rfc9110_10_1_1() {
    let with = |version, lines: &str| accepted(&with_fields(version, &format!("Host: a\r\n{lines}"))).3;
    assert!(with("1.1", "Expect: 100-Continue\r\nContent-Length: 1\r\n"));
    assert!(with("1.1", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n"));
    assert!(!with("1.1", "Expect: 100-continue\r\n"));
    assert!(!with("1.1", "Content-Length: 1\r\n"));
    assert!(!with("1.0", "Expect: 100-continue\r\nContent-Length: 1\r\n"));
}

#[test]
fn each_limit_has_its_status_and_is_exact() {
    let limits = Limits { head_bytes_max: 120, target_bytes_max: 40, fields_max: 3, ..Limits::default() };
    let verdict = |bytes: &[u8]| {
        let whole = parse(bytes, &limits);
        let cut = (0..=bytes.len()).map(|end| parse(&bytes[..end], &limits)).find(|it| *it != Ok(Parsed::Partial));
        assert_eq!(cut.unwrap_or(Ok(Parsed::Partial)), whole, "{}", bytes.escape_ascii());
        whole
    };
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(length - 1));
    assert!(matches!(verdict(target(40).as_bytes()), Ok(Parsed::Complete { .. })));
    assert_eq!(verdict(target(41).as_bytes()), Err(ParseError::TargetTooLong));
    assert_eq!(verdict(target(400).as_bytes()), Err(ParseError::TargetTooLong));

    let head = |length: usize| format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(length - 26));
    assert_eq!(head(120).len(), 120);
    assert!(matches!(verdict(head(120).as_bytes()), Ok(Parsed::Complete { .. })));
    assert_eq!(verdict(head(121).as_bytes()), Err(ParseError::HeadTooLarge));
    assert_eq!(verdict("A".repeat(200).as_bytes()), Err(ParseError::HeadTooLarge));

    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "N: v\r\n".repeat(count - 1));
    assert!(matches!(verdict(fields(3).as_bytes()), Ok(Parsed::Complete { .. })));
    assert_eq!(verdict(fields(4).as_bytes()), Err(ParseError::HeadTooLarge));

    // A version that httparse refuses, and that ends exactly at the limit.
    for version in ["HTTP/1.2", "HTTP/2.0"] {
        let line = format!("{} / {version}", "A".repeat(120 - " / HTTP/1.2".len()));
        assert_eq!(verdict((line + "\r\nHost: a\r\n\r\n").as_bytes()), Err(ParseError::HeadTooLarge));
    }

    // A target limit beyond the head limit: what ran out was still the target.
    let limits = Limits { head_bytes_max: 50, target_bytes_max: 100, ..Limits::default() };
    assert_eq!(parse(target(60).as_bytes(), &limits), Err(ParseError::TargetTooLong));
}
