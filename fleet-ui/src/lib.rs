//! The dashboard's built files. This crate holds bytes and says what they are; it must know no HTTP, no API and no page.

use rust_embed::RustEmbed;
use std::borrow::Cow;

#[derive(RustEmbed)]
#[folder = "dist"]
#[exclude = "index.html"]
#[exclude = ".vite/*"]
struct Files;

#[derive(RustEmbed)]
#[folder = "dist"]
#[include = "index.html"]
struct Page;

/// What stands in the page where each answer has a nonce of its own.
pub const NONCE: &str = "__CSP_NONCE__";

/// A file.
#[derive(Debug, Clone)]
pub struct Asset {
    /// Its bytes.
    pub bytes: Cow<'static, [u8]>,
    /// Its media type.
    pub media_type: &'static str,
    /// Whether the bytes are a gzip of the file.
    pub gzip: bool,
    /// Whether its name changes with its content, so that nobody ever has to ask for it again.
    pub immutable: bool,
}

/// The page that every address of the dashboard shows, with `nonce` on what it lets the browser style.
pub fn page(nonce: &str) -> String {
    let page = Page::get("index.html").map(|file| file.data).unwrap_or_default();
    String::from_utf8_lossy(&page).replace(NONCE, nonce)
}

/// The file at `path`, which has no leading slash; as a gzip where there is one and the reader takes it.
pub fn asset(path: &str, gzip: bool) -> Option<Asset> {
    let media_type = media_type(path)?;
    let packed = gzip.then(|| Files::get(&format!("{path}.gz"))).flatten();
    let (file, gzip) = match packed {
        Some(file) => (file, true),
        None => (Files::get(path)?, false),
    };
    Some(Asset { bytes: file.data, media_type, gzip, immutable: path.starts_with("assets/") })
}

/// Every file, by its path.
pub fn paths() -> impl Iterator<Item = Cow<'static, str>> {
    Files::iter().filter(|path| !path.ends_with(".gz"))
}

/// `None` for what the dashboard has none of.
fn media_type(path: &str) -> Option<&'static str> {
    Some(match path.rsplit_once('.')?.1 {
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "json" => "application/json",
        "woff2" => "font/woff2",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_nonce_and_nothing_that_runs_by_itself() {
        let page = page("n0nce");
        assert!(page.contains("<!doctype html>") && page.contains("n0nce") && !page.contains(NONCE));
        // A policy without inline scripts must fit it.
        for script in page.split("<script").skip(1) {
            assert!(script.split('>').next().unwrap().contains("src="), "{script}");
        }
    }

    #[test]
    fn every_file_is_served_as_what_it_is_and_a_gzip_of_it_is_shorter() {
        for path in paths() {
            let plain = asset(&path, false).unwrap_or_else(|| panic!("{path} has no media type"));
            let packed = asset(&path, true).unwrap();
            assert!(!plain.gzip && (!packed.gzip || packed.bytes.len() < plain.bytes.len()), "{path}");
        }
        for none in ["", "assets", "../Cargo.toml", "index.html", "assets/none.js", "assets/none.js.gz"] {
            assert!(asset(none, true).is_none(), "{none}");
        }
    }
}
