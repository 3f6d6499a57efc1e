//! may_minihttp with one worker thread.

use may_minihttp::{HttpServer, HttpService, Request, Response};

#[derive(Clone)]
struct Page;

impl HttpService for Page {
    fn call(&mut self, _: Request, response: &mut Response) -> std::io::Result<()> {
        response.header("Content-Type: text/html; charset=utf-8");
        response.body(peers::PAGE);
        Ok(())
    }
}

fn main() -> std::io::Result<()> {
    may::config().set_workers(1);
    HttpServer(Page).start(peers::address())?.wait();
    Ok(())
}
