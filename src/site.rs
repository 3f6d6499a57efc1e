//! The hello site: the only file that knows URLs.
//!
//! `/` is the page that says "Hello!", `/sleep` is the same page after a pause, and everything else is the page that
//! says there is no such page. The same site is served by every engine.

use std::thread;
use std::time::Duration;

use crate::http::{Method, Request, Response, Status};
use crate::pages::{Page, Pages};
use crate::service::{Lane, Service};

/// The methods of the paths that exist, for `Allow` (RFC 9110 section 10.2.1).
const ALLOW: &str = "GET, HEAD, OPTIONS";

/// The Book's site.
#[derive(Clone, Debug)]
pub struct Site {
    /// Where the pages come from.
    pub pages: Pages,
    /// How long `/sleep` sleeps.
    pub sleep: Duration,
}

impl Default for Site {
    fn default() -> Self {
        Self { pages: Pages::Embedded, sleep: Duration::from_secs(5) }
    }
}

/// The paths there are.
enum Route {
    Hello,
    Sleep,
    /// The server itself, which only OPTIONS can ask for.
    Server,
    Unknown,
}

impl Route {
    fn of(request: &Request<'_>) -> Self {
        match request.path() {
            "/" => Self::Hello,
            "/sleep" => Self::Sleep,
            "*" => Self::Server,
            _ => Self::Unknown,
        }
    }
}

impl Service for Site {
    fn lane(&self, request: &Request<'_>) -> Lane {
        match (Route::of(request), request.method()) {
            (Route::Sleep, Method::Get | Method::Head) => Lane::Slow,
            _ => Lane::Quick,
        }
    }

    fn respond(&self, request: &Request<'_>) -> Response {
        match (Route::of(request), request.method()) {
            (_, Method::Other) => Response::error(Status::NOT_IMPLEMENTED),
            (Route::Unknown, _) => self.page(Page::NotFound, Status::NOT_FOUND),
            (_, Method::Options) => Response::empty(Status::NO_CONTENT).with_field("Allow", ALLOW),
            (Route::Hello, Method::Get | Method::Head) => self.page(Page::Hello, Status::OK),
            (Route::Sleep, Method::Get | Method::Head) => {
                thread::sleep(self.sleep);
                self.page(Page::Hello, Status::OK)
            }
            _ => Response::error(Status::METHOD_NOT_ALLOWED).with_field("Allow", ALLOW),
        }
    }
}

impl Site {
    fn page(&self, page: Page, status: Status) -> Response {
        match self.pages.read(page) {
            Ok(content) => Response::html(status, content),
            Err(error) => {
                log::error!("cannot read {error}; the answer is 500 until it is there again");
                Response::error(Status::INTERNAL_SERVER_ERROR)
            }
        }
    }
}
