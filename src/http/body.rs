//! Where a request body ends: Content-Length and the chunked coding (RFC 9112 sections 6.2 and 7.1).
//!
//! A [`Decoder`] is fed whatever has arrived and says how much of it was body. It keeps a few numbers between calls and
//! no bytes, so a body of any length costs nothing but the time to look at it. Data is handed to a closure, which for
//! a body that nobody wants does nothing.
//!
//! Invariant: the result depends on the bytes alone, not on how they are split over calls. After an error the decoder
//! is not used again, and nothing behind the error is parsed.

use super::response::Status;
use crate::limits::Limits;

/// Maximum number of bytes of chunk extensions in one body, and as many of trailer fields. Both are skipped unread.
const DECORATION_BYTES_MAX: usize = 16 * 1024;

/// How the end of a body is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// This many bytes, at least one.
    Length(u64),
    /// Chunks, the last of them empty.
    Chunked,
}

/// Why a body cannot be what its head said. The connection closes, since where the next request begins is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Not the chunked coding as RFC 9112 section 7.1 spells it: 400.
    Malformed,
    /// More than [`Limits::body_bytes_max`]: 413.
    TooLarge,
}

impl BodyError {
    /// The status that tells the client.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::Malformed => Status::BAD_REQUEST,
            Self::TooLarge => Status::CONTENT_TOO_LARGE,
        }
    }
}

/// How far a decoder got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// The whole input was body, and there is more to come.
    Partial,
    /// The body ended after this many bytes of the input.
    Complete(usize),
}

/// Finds the end of one body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoder {
    state: State,
    /// Bytes of data that may still come before the body is too large; for Content-Length, those that will come.
    budget: u64,
    /// Bytes of extensions that may still come.
    extensions_left: usize,
    /// Bytes of trailers that may still come.
    trailers_left: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// In a body of known length.
    Length,
    /// In the digits of a chunk size.
    Size { size: u64, digits: u8 },
    /// In an extension, up to its CR.
    Extension { size: u64 },
    /// After the CR of a size line.
    SizeEnd { size: u64 },
    /// In the data of a chunk.
    Data { left: u64 },
    /// After the data, before its CR.
    DataCr,
    /// After that CR.
    DataLf,
    /// At the start of a trailer line, or of the empty line that ends the body.
    TrailerStart,
    /// In a trailer line, up to its CR.
    Trailer,
    /// After the CR of a trailer line.
    TrailerLf,
    /// After the CR of the empty line.
    EndLf,
}

impl Decoder {
    /// A decoder for a body framed this way, or `None` where there is no body.
    #[must_use]
    pub fn new(framing: Framing, limits: &Limits) -> Option<Self> {
        let (state, budget) = match framing {
            Framing::None => return None,
            Framing::Length(length) => (State::Length, length),
            Framing::Chunked => (State::Size { size: 0, digits: 0 }, limits.body_bytes_max),
        };
        Some(Self { state, budget, extensions_left: DECORATION_BYTES_MAX, trailers_left: DECORATION_BYTES_MAX })
    }

    /// Takes the next bytes of the connection and gives the data among them to `sink`, in order.
    ///
    /// # Errors
    ///
    /// [`BodyError`] if the bytes are not the chunked coding, or more than the limit.
    pub fn decode(&mut self, input: &[u8], mut sink: impl FnMut(&[u8])) -> Result<Decoded, BodyError> {
        let mut at = 0;
        while at < input.len() {
            match self.state {
                State::Length => {
                    let taken = take(&mut self.budget, &input[at..], &mut sink);
                    at += taken;
                    if self.budget == 0 {
                        return Ok(Decoded::Complete(at));
                    }
                }
                State::Data { mut left } => {
                    at += take(&mut left, &input[at..], &mut sink);
                    self.state = if left == 0 { State::DataCr } else { State::Data { left } };
                }
                _ => {
                    let byte = input[at];
                    at += 1;
                    match self.step(byte)? {
                        Some(state) => self.state = state,
                        None => return Ok(Decoded::Complete(at)),
                    }
                }
            }
        }
        Ok(Decoded::Partial)
    }

    /// Takes one byte of the chunked coding outside the data; `None` at the end of the body.
    fn step(&mut self, byte: u8) -> Result<Option<State>, BodyError> {
        let next = match (&self.state, byte) {
            (&State::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                // Sixteen digits fill 64 bits exactly, so counting them is the overflow check.
                if digits == 16 {
                    return Err(BodyError::Malformed);
                }
                State::Size { size: size << 4 | u64::from(hex_value(byte)), digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err(BodyError::Malformed),
            (&State::Size { size, .. }, b'\r') => State::SizeEnd { size },
            (&State::Size { size, .. }, b';') => State::Extension { size },
            (&State::Extension { size }, b'\r') => State::SizeEnd { size },
            (&State::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => {
                spend(&mut self.extensions_left)?;
                State::Extension { size }
            }
            (&State::SizeEnd { size: 0 }, b'\n') => State::TrailerStart,
            (&State::SizeEnd { size }, b'\n') => {
                self.budget = self.budget.checked_sub(size).ok_or(BodyError::TooLarge)?;
                State::Data { left: size }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerStart, b'!'..=b'~') | (State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => {
                spend(&mut self.trailers_left)?;
                State::Trailer
            }
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => return Ok(None),
            _ => return Err(BodyError::Malformed),
        };
        Ok(Some(next))
    }
}

/// Moves up to `left` bytes from the front of `input` to `sink`; says how many.
fn take(left: &mut u64, input: &[u8], sink: &mut impl FnMut(&[u8])) -> usize {
    let taken = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
    sink(&input[..taken]);
    *left -= taken as u64;
    taken
}

fn spend(budget: &mut usize) -> Result<(), BodyError> {
    *budget = budget.checked_sub(1).ok_or(BodyError::Malformed)?;
    Ok(())
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes in one go and cut in two at every byte, and checks that all agree.
    fn decode(framing: Framing, bytes: &[u8]) -> (Result<Decoded, BodyError>, Vec<u8>) {
        let limits = Limits { body_bytes_max: 100, ..Limits::default() };
        let decoder = Decoder::new(framing, &limits).expect("there is a body");
        let mut data = Vec::new();
        let whole = decoder.clone().decode(bytes, |piece| data.extend_from_slice(piece));
        for cut in 0..=bytes.len() {
            let mut decoder = decoder.clone();
            let mut pieces = Vec::new();
            let first = decoder.decode(&bytes[..cut], |piece| pieces.extend_from_slice(piece));
            let result = match first {
                Ok(Decoded::Partial) => match decoder.decode(&bytes[cut..], |piece| pieces.extend_from_slice(piece)) {
                    Ok(Decoded::Complete(length)) => Ok(Decoded::Complete(cut + length)),
                    other => other,
                },
                other => other,
            };
            assert_eq!(result, whole, "cut at {cut}: {}", bytes.escape_ascii());
            assert_eq!(pieces, data, "cut at {cut}: {}", bytes.escape_ascii());
        }
        (whole, data)
    }

    fn chunked(bytes: &[u8]) -> Result<Decoded, BodyError> {
        decode(Framing::Chunked, bytes).0
    }

    #[test]
    fn a_body_of_known_length_ends_there() {
        assert_eq!(decode(Framing::Length(5), b"helloGET"), (Ok(Decoded::Complete(5)), b"hello".to_vec()));
        assert_eq!(decode(Framing::Length(6), b"hello"), (Ok(Decoded::Partial), b"hello".to_vec()));
        assert_eq!(Decoder::new(Framing::None, &Limits::default()), None);
    }

    #[test]
    fn chunks_are_joined_and_decoration_is_skipped_rfc9112_7_1() {
        let bytes = b"5\r\nhello\r\n00A;name=\"va lue\";x\r\n, and more\r\n0\r\nTrailer: t\r\nOther:\r\n\r\nGET";
        let (result, data) = decode(Framing::Chunked, bytes);
        assert_eq!(result, Ok(Decoded::Complete(bytes.len() - 3)));
        assert_eq!(data, b"hello, and more");
        assert_eq!(chunked(b"0\r\n\r\n"), Ok(Decoded::Complete(5)));
        assert_eq!(chunked(b"0000000000000000\r\n\r\n"), Ok(Decoded::Complete(20)));
    }

    #[test]
    fn every_fault_of_the_coding_is_refused_rfc9112_7_1() {
        for bytes in [
            &b"\r\n"[..],
            b";x\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b" 1\r\n",
            b"1 \r\na\r\n",
            b"g\r\n",
            b"1\na\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n",
            b"1\r\na\r\r",
            b"1;\0\r\n",
            b"1;\n",
            b"00000000000000001\r\n",
            b"0\r\n\n",
            b"0\r\n Folded: t\r\n\r\n",
            b"0\r\nA: \0\r\n\r\n",
            b"0\r\nA: b\n\r\n",
        ] {
            assert_eq!(chunked(bytes), Err(BodyError::Malformed), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn the_sum_of_the_chunks_is_limited() {
        let ten = b"A\r\n0123456789\r\n".repeat(10);
        assert_eq!(chunked(&[&ten[..], b"0\r\n\r\n"].concat()), Ok(Decoded::Complete(ten.len() + 5)));
        assert_eq!(chunked(&[&ten[..], b"1\r\n"].concat()), Err(BodyError::TooLarge));
        assert_eq!(chunked(b"ffffffffffffffff\r\n"), Err(BodyError::TooLarge));
    }

    #[test]
    fn extensions_and_trailers_are_limited_rfc9112_7_1_1() {
        let decode = |bytes: &[u8]| {
            let mut decoder = Decoder::new(Framing::Chunked, &Limits::default()).expect("there is a body");
            decoder.decode(bytes, |_| {})
        };
        let extensions = |length: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(length));
        let trailers = |length: usize| format!("0\r\n{}\r\n\r\n", "x".repeat(length));
        for text in [extensions(DECORATION_BYTES_MAX), trailers(DECORATION_BYTES_MAX)] {
            assert_eq!(decode(text.as_bytes()), Ok(Decoded::Complete(text.len())));
        }
        for text in [extensions(DECORATION_BYTES_MAX + 1), trailers(DECORATION_BYTES_MAX + 1)] {
            assert_eq!(decode(text.as_bytes()), Err(BodyError::Malformed));
        }
        // In sum: a byte with each of many chunks is no way round the limit.
        let many = "1;x\r\na\r\n".repeat(DECORATION_BYTES_MAX + 1);
        assert_eq!(decode(many.as_bytes()), Err(BodyError::Malformed));
    }
}
