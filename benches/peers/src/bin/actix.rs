//! actix-web with one worker.

use actix_web::{App, HttpResponse, HttpServer, web};

async fn page() -> HttpResponse {
    HttpResponse::Ok().content_type(peers::CONTENT_TYPE).body(peers::PAGE)
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let server = HttpServer::new(|| App::new().route("/", web::get().to(page)));
    server.workers(1).listen(peers::listen()?)?.run().await
}
