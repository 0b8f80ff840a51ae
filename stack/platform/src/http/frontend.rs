//! The static app, embedded. Assets bear their content in their names and are kept for ever; the page is short-lived, and a
//! cache may go on serving it while we are away.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::app::{App, absent};
use super::body::Path;
use super::error::ApiError;
use crate::token::hex;

const PAGE: &str = include_str!("../site/index.html");
const SOURCES: [(&str, &str, &str); 2] = [
    ("app.js", "text/javascript; charset=utf-8", include_str!("../site/app.js")),
    ("app.css", "text/css; charset=utf-8", include_str!("../site/app.css")),
];

const PAGE_CACHE: &str = "public, max-age=5, stale-while-revalidate=60, stale-if-error=600";
const ASSET_CACHE: &str = "public, max-age=31536000, immutable";
const CONFIG_CACHE: &str = "public, max-age=5";

/// One file, as it is served.
#[derive(Debug, Clone)]
struct Document {
    name: String,
    content_type: &'static str,
    cache: &'static str,
    etag: String,
    content: Bytes,
}

#[derive(Debug, Clone)]
pub struct Site {
    page: Document,
    assets: Vec<Document>,
}

impl Site {
    /// Names the assets by their content, and the page's links with them.
    #[must_use]
    pub fn new() -> Self {
        let mut page = PAGE.to_owned();
        let assets = SOURCES.map(|(name, content_type, content)| {
            let digest = digest(content);
            let (stem, end) = name.split_once('.').unwrap_or((name, ""));
            let hashed = format!("{stem}.{}.{end}", &digest[..12]);
            page = page.replace(&format!("{{{{{name}}}}}"), &format!("/assets/{hashed}"));
            Document {
                name: hashed,
                content_type,
                cache: ASSET_CACHE,
                etag: format!("\"{digest}\""),
                content: Bytes::from_static(content.as_bytes()),
            }
        });
        let page = Document {
            name: "index.html".into(),
            content_type: "text/html; charset=utf-8",
            cache: PAGE_CACHE,
            etag: format!("\"{}\"", digest(&page)),
            content: page.into(),
        };
        Self { page, assets: assets.into() }
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

fn digest(content: &str) -> String {
    hex(&Sha256::digest(content.as_bytes()))[..32].to_owned()
}

/// `GET /`
///
/// # Errors
/// None but a bug.
pub async fn page(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, ApiError> {
    Ok(serve(&site(&app)?.page, &headers))
}

/// `GET /assets/{name}`
///
/// # Errors
/// 404: also for the assets of another version, which a cache may still have.
pub async fn asset(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let asset = site(&app)?.assets.iter().find(|asset| asset.name == name);
    Ok(serve(asset.ok_or(ApiError::NotFound("asset"))?, &headers))
}

/// `GET /api/frontend/config`: what the app needs to know.
pub async fn config() -> Response {
    let body = json!({ "api": "/api/v1", "version": env!("CARGO_PKG_VERSION") });
    ([(CACHE_CONTROL, CONFIG_CACHE)], Json(body)).into_response()
}

fn site(app: &App) -> Result<&Site, ApiError> {
    app.site.as_ref().ok_or_else(|| absent("site"))
}

fn serve(document: &Document, headers: &HeaderMap) -> Response {
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let unchanged = known.is_some_and(|known| matches(known, &document.etag));
    let mut response = match unchanged {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => document.content.clone().into_response(),
    };
    let own = response.headers_mut();
    own.insert(CONTENT_TYPE, HeaderValue::from_static(document.content_type));
    own.insert(CACHE_CONTROL, HeaderValue::from_static(document.cache));
    if let Ok(etag) = HeaderValue::try_from(document.etag.as_str()) {
        own.insert(ETAG, etag);
    }
    response
}

/// `If-None-Match` compares weakly, and may list several.
fn matches(header: &str, etag: &str) -> bool {
    header.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_links_to_assets_that_are_there() {
        let site = Site::new();
        let page = String::from_utf8(site.page.content.to_vec()).unwrap();
        assert!(!page.contains("{{"), "{page}");
        for asset in &site.assets {
            assert!(page.contains(&format!("\"/assets/{}\"", asset.name)), "{}", asset.name);
        }
        assert_ne!(site.assets[0].etag, site.assets[1].etag);
    }

    #[test]
    fn what_a_cache_has_is_not_sent_again() {
        let site = Site::new();
        let fresh = serve(&site.page, &HeaderMap::new());
        assert_eq!(fresh.status(), 200);
        let etag = fresh.headers()[ETAG].clone();
        assert!(fresh.headers()[CACHE_CONTROL].to_str().unwrap().contains("stale-if-error=600"));
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::try_from(value).unwrap());
            serve(&site.page, &headers).status().as_u16()
        };
        let etag = etag.to_str().unwrap();
        assert_eq!(with(etag), 304);
        assert_eq!(with(&format!("\"x\", W/{etag}")), 304);
        assert_eq!(with("*"), 304);
        assert_eq!(with("\"x\""), 200);
        let asset = serve(&site.assets[0], &HeaderMap::new());
        assert_eq!(asset.headers()[CACHE_CONTROL], ASSET_CACHE);
    }
}
