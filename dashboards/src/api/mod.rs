//! Serves the embedded page at `/` and its files under `/assets`.

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "$OUT_DIR/ui"]
struct Page;

pub fn router() -> Router {
    Router::new()
        .route("/", get(|| async { serve("index.html") }))
        .route("/assets/{*path}", get(|Path(path): Path<String>| async move { serve(&format!("assets/{path}")) }))
}

/// Names under `assets/` carry a hash of their content, so a browser may keep them for ever; the page itself never.
fn serve(path: &str) -> Response {
    let Some(file) = Page::get(path) else { return StatusCode::NOT_FOUND.into_response() };
    let keep = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers = [(header::CONTENT_TYPE, file.metadata.mimetype()), (header::CACHE_CONTROL, keep)];
    (headers, file.data.into_owned()).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn check(path: &str, expected: StatusCode) {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = router().oneshot(request).await.expect("an answer");
        assert_eq!(response.status(), expected, "{path}");
    }

    #[tokio::test]
    async fn the_page_is_there_and_nothing_else_is() {
        check("/", StatusCode::OK).await;
        check("/assets/nothing.js", StatusCode::NOT_FOUND).await;
        check("/assets/../index.html", StatusCode::NOT_FOUND).await;
    }
}
