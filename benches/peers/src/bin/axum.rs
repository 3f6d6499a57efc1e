//! axum on a current-thread runtime.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

fn main() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let page = || async { ([(CONTENT_TYPE, peers::CONTENT_TYPE)], peers::PAGE) };
        let app = Router::new().route("/", get(page));
        axum::serve(tokio::net::TcpListener::from_std(peers::listen()?)?, app).await
    })
}
