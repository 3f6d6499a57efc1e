//! HTTP/1.1 on the wire: bytes to requests, responses to bytes.
//!
//! Everything here is a value or a function of values. There is no socket, no thread and no clock in these modules,
//! which is why every rule of RFC 9110 and RFC 9112 that the server keeps can be tested with a byte string.
//!
//! In reading order: [`request`] is what a handler sees; [`date`] keeps the `Date` field ready; [`response`] is what a
//! handler returns, and how it is written; [`body`] finds where a request's body ends; [`parse`] makes a request of
//! bytes.
//!
//! What must always hold: the result of parsing depends on the bytes alone, never on how the network cut them; and
//! whatever is ambiguous about where a message ends is refused, never guessed.

pub mod request;

pub mod date;

pub mod response;

pub mod body;

pub mod parse;

pub use request::{Method, Persistence, Request, Version};
pub use response::{Response, Status};
