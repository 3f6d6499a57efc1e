//! What the server serves: the one trait an application implements.

use crate::http::{Request, Response};

/// Which workers a request goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lane {
    /// For answers that are ready at once.
    #[default]
    Quick,
    /// For answers that wait for something: a timer, another server, a slow disk.
    Slow,
}

/// Answers requests.
///
/// A function from request to response is a service whose requests are all [`Lane::Quick`].
pub trait Service: Send + Sync + 'static {
    /// Says which workers shall answer. This runs on the poll thread, so it must only look, never wait.
    fn lane(&self, request: &Request<'_>) -> Lane {
        let _ = request;
        Lane::Quick
    }

    /// Answers a request. This runs on a worker and may block; a request that does should be in [`Lane::Slow`], or
    /// it delays the others.
    ///
    /// # Panics
    ///
    /// A panic costs this request, which is answered 500, and its connection. The worker lives on.
    fn respond(&self, request: &Request<'_>) -> Response;
}

impl<F> Service for F
where
    F: Fn(&Request<'_>) -> Response + Send + Sync + 'static,
{
    fn respond(&self, request: &Request<'_>) -> Response {
        self(request)
    }
}
