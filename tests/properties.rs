//! The parser and the body decoder under random bytes, through the library's public face.

use hello::http::body::{BodyError, Decoded, Decoder, Framing};
use hello::http::parse::{ParseError, Parsed, parse};
use hello::limits::Limits;
use proptest::prelude::*;

/// Text that gets past the first checks more often than noise does.
fn almost_http() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..8),
        "(GET|POST|get|HEAD|OPTIONS|CONNECT|A{1,9}) ".prop_map(String::into_bytes),
        "(/|\\*|/a\\?b|http://a/|a:1|%2[0-9g]) HTTP/[0-2]\\.[0-9]\r\n".prop_map(String::into_bytes),
        "(Host|Content-Length|Transfer-Encoding|Connection): ?[a-z0-9, ;=\t]{0,9}\r?\n".prop_map(String::into_bytes),
        Just(b"Host: a\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
    ];
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

/// The chunked coding read whole, line by line, as RFC 9112 section 7.1 writes it down. Slow and obvious.
///
/// `None` where the bytes do not suffice to tell.
fn decode_slowly(mut bytes: &[u8]) -> Option<Result<(Vec<u8>, usize), ()>> {
    let whole = bytes.len();
    let mut data = Vec::new();
    loop {
        let (line, rest) = line(bytes)?;
        let Ok(line) = line else { return Some(Err(())) };
        bytes = rest;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, extension) = line.split_at(digits);
        let fits = (1..=16).contains(&digits) && (extension.is_empty() || extension[0] == b';');
        let printable = extension.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f));
        if !fits || !printable {
            return Some(Err(()));
        }
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        data.extend_from_slice(bytes.get(..size)?);
        if bytes.get(size..size + 2)? != b"\r\n" {
            return Some(Err(()));
        }
        bytes = &bytes[size + 2..];
    }
    loop {
        let (line, rest) = line(bytes)?;
        let Ok(line) = line else { return Some(Err(())) };
        bytes = rest;
        match line {
            [] => return Some(Ok((data, whole - bytes.len()))),
            [b'\t' | b' ', ..] => return Some(Err(())),
            line if line.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) => return Some(Err(())),
            [first, ..] if *first >= 0x80 => return Some(Err(())),
            _ => {}
        }
    }
}

/// A line and what is behind it; an error for a line end that is not CRLF.
#[allow(clippy::type_complexity)]
fn line(bytes: &[u8]) -> Option<(Result<&[u8], ()>, &[u8])> {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    if bytes[end] == b'\n' {
        return Some((Err(()), bytes));
    }
    match bytes.get(end + 1)? {
        b'\n' => Some((Ok(&bytes[..end]), &bytes[end + 2..])),
        _ => Some((Err(()), bytes)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the bytes, every prefix is partial until the verdict, and the verdict stays.
    #[test]
    fn the_verdict_on_a_head_does_not_depend_on_how_much_has_arrived(bytes in almost_http()) {
        let limits = Limits { head_bytes_max: 100, target_bytes_max: 20, fields_max: 4, ..Limits::default() };
        let whole = parse(&bytes, &limits);
        let mut verdicts = (0..=bytes.len()).map(|end| parse(&bytes[..end], &limits));
        let first = verdicts.find(|verdict| *verdict != Ok(Parsed::Partial)).unwrap_or(Ok(Parsed::Partial));
        prop_assert_eq!(&first, &whole);
        prop_assert!(verdicts.all(|verdict| verdict == whole));
    }

    /// An accepted head can be looked at from every side.
    #[test]
    fn every_accepted_head_makes_a_request_that_can_be_read(bytes in almost_http()) {
        if let Ok(Parsed::Complete { head, length, .. }) = parse(&bytes, &Limits::default()) {
            let request = hello::http::Request::new(&head, &bytes);
            prop_assert!(length <= bytes.len());
            prop_assert!(request.path() == "*" || request.path().starts_with('/') || request.method_token() == "CONNECT");
            prop_assert!(request.fields().all(|(name, _)| !name.is_empty()));
            prop_assert!(!request.query().unwrap_or_default().contains('#'));
        }
    }

    /// No limit, however small, makes the parser do anything but refuse.
    #[test]
    fn no_limit_causes_a_panic(bytes in almost_http(), head in 0..200_usize, target in 0..50_usize, fields in 0..9_usize) {
        let limits = Limits { head_bytes_max: head, target_bytes_max: target, fields_max: fields, ..Limits::default() };
        let verdict = parse(&bytes, &limits);
        let complete = matches!(verdict, Ok(Parsed::Complete { .. }));
        prop_assert!(head > 0 || !complete);
        prop_assert_ne!(verdict, Err(ParseError::BodyTooLarge));
    }

    /// The decoder agrees with the slow one, wherever the bytes are cut.
    #[test]
    fn chunks_are_decoded_as_the_rfc_writes_them_down(
        pieces in prop::collection::vec(prop_oneof![
            "[0-9a-fA-F]{1,2}\r\n".prop_map(String::into_bytes),
            "0{0,17}[0-9a-g]? ?(;[a-z=\" ]{0,5})?\r?\n".prop_map(String::into_bytes),
            "[a-z]{0,12}\r\n".prop_map(String::into_bytes),
            Just(b"5\r\nhello\r\n".to_vec()),
            Just(b"0\r\n\r\n".to_vec()),
            Just(b"0\r\nT: t\r\n\r\n".to_vec()),
            prop::collection::vec(any::<u8>(), 0..4),
        ], 0..8),
        cuts in prop::collection::vec(1..9_usize, 0..9),
    ) {
        let bytes = pieces.concat();
        let limits = Limits { body_bytes_max: u64::MAX, ..Limits::default() };
        let mut decoder = Decoder::new(Framing::Chunked, &limits).expect("there is a body");
        let mut data = Vec::new();
        let mut at = 0;
        let mut result = Ok(Decoded::Partial);
        let mut cuts = cuts.into_iter();
        while at < bytes.len() && result == Ok(Decoded::Partial) {
            let end = bytes.len().min(at + cuts.next().unwrap_or(usize::MAX - at));
            result = decoder.decode(&bytes[at..end], |piece| data.extend_from_slice(piece));
            if let Ok(Decoded::Complete(length)) = &mut result {
                *length += at;
            }
            at = end;
        }
        match decode_slowly(&bytes) {
            Some(Ok((expected, length))) => {
                prop_assert_eq!(result, Ok(Decoded::Complete(length)));
                prop_assert_eq!(data, expected);
            }
            Some(Err(())) => prop_assert_eq!(result, Err(BodyError::Malformed)),
            // The quick one may know earlier that nothing can come of it.
            None => prop_assert_ne!(result, Ok(Decoded::Complete(bytes.len()))),
        }
    }
}
