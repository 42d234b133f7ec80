//! The REST client: one place that adds the key, reads problem details and says what to do about them.

use crate::context::Context;
use crate::error::CliError;
use aidos_agent::identity::in_the_clear;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;

/// Longer than any answer of the API but a long poll, which sets its own.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Pages of one listing; past it the person should narrow the question.
const MAX_PAGES: usize = 1_000;

/// A control plane, as this command speaks to it.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    context: Context,
}

#[derive(serde::Deserialize, Default)]
struct Problem {
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    hint: Option<String>,
}

#[derive(serde::Deserialize)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    #[serde(default)]
    next_cursor: Option<String>,
}

impl Client {
    /// A client of `context`'s control plane.
    pub(crate) fn new(context: Context) -> Result<Self, CliError> {
        let url = reqwest::Url::parse(&context.url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(url) = url else {
            return Err(CliError::Usage(format!(
                "`{}` is not an address of a control plane: write it as https://host:7070",
                context.url
            )));
        };
        if in_the_clear(&url) && !context.insecure_http {
            return Err(CliError::Usage(format!(
                "{} is not encrypted, and the API key would be sent to it: use https, or add --insecure-http if the network \
                 between is trusted",
                context.url
            )));
        }
        let mut builder = reqwest::Client::builder().connect_timeout(Duration::from_secs(10)).user_agent("aidos");
        if let Some(pem) = &context.ca_pem {
            let ca = reqwest::Certificate::from_pem(pem.as_bytes()).map_err(|e| {
                CliError::failed(
                    format!("the CA certificate is not valid: {e}"),
                    "give the control plane's own with --ca, or log in again with --ca-file; it is at /api/v1/ca.pem",
                )
            })?;
            builder = builder.tls_certs_merge([ca]);
        }
        let http = builder.build().map_err(anyhow::Error::from)?;
        Ok(Self { http, context })
    }

    /// Base URL of the control plane.
    pub(crate) fn url(&self) -> &str {
        &self.context.url
    }

    /// A request to a path under `/api/v1`, with the key.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/api/v1/{path}", self.context.url);
        self.http.request(method, url).bearer_auth(&self.context.api_key).timeout(TIMEOUT)
    }

    /// Sends and turns whatever is not a success into an error.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    /// Sends and reads a JSON answer.
    pub(crate) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, CliError> {
        let response = self.send(request).await?;
        response.json().await.map_err(|e| {
            CliError::failed(
                format!("the control plane's answer was not understood: {e}"),
                "its version may be newer than this program's: update `aidos`",
            )
        })
    }

    /// `GET`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.json(self.request(Method::GET, path)).await
    }

    /// `POST` with a body.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CliError> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// `DELETE`.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), CliError> {
        self.send(self.request(Method::DELETE, path)).await.map(drop)
    }

    /// Every page of a listing.
    pub(crate) async fn list<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<Vec<T>, CliError> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut request = self.request(Method::GET, path).query(query).query(&[("limit", "200")]);
            if let Some(cursor) = &cursor {
                request = request.query(&[("cursor", cursor)]);
            }
            let page: Page<T> = self.json(request).await?;
            items.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(items);
            }
        }
        Err(CliError::failed("the list is longer than can be shown", "narrow it with a selector"))
    }

    fn unreachable(&self, error: &reqwest::Error) -> CliError {
        if error.is_timeout() {
            return CliError::Timeout(format!("{} does not answer", self.context.url));
        }
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        CliError::failed(
            format!("{} cannot be reached: {cause}", self.context.url),
            "is the control plane running? Start it with `aidos up`; `aidos predict` works without it",
        )
    }
}

/// Reads a problem document; any other body is shown as it is, shortened.
pub(crate) async fn refusal(response: Response) -> CliError {
    let status = response.status();
    let body = response.bytes().await.unwrap_or_default();
    let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
    let text = match (&problem.detail, problem.title.is_empty()) {
        (Some(detail), _) => detail.clone(),
        (None, false) => problem.title.clone(),
        (None, true) => String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned(),
    };
    // A text that names a command has its advice already.
    let hint = problem.hint.or_else(|| advice(status).filter(|_| !text.contains("`aidos ")).map(str::to_owned));
    let message = if text.is_empty() { status.to_string() } else { text };
    if status == StatusCode::GATEWAY_TIMEOUT {
        return CliError::Timeout(message);
    }
    CliError::Failed { message, hint }
}

fn advice(status: StatusCode) -> Option<&'static str> {
    Some(match status {
        StatusCode::UNAUTHORIZED => "log in with `aidos login <url>`, or check AIDOS_API_KEY",
        StatusCode::FORBIDDEN => "ask an owner for a key with a higher role (`aidos key create --role operator`)",
        StatusCode::PRECONDITION_FAILED => "somebody changed it in the meantime: look at it again, then repeat your change",
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => "try again in a moment",
        StatusCode::NOT_FOUND => "see what there is with `aidos model list`, `aidos device list` and so on",
        status if status.is_client_error() => "mend what was asked for; `--help` says what the command takes",
        status if status.is_server_error() => "the control plane failed: its log says more",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_nowhere_in_the_clear_unless_a_person_allows_it() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = |url: &str, insecure_http| {
            Client::new(Context { url: url.into(), api_key: "k".into(), ca_pem: None, insecure_http }).map(drop)
        };
        for url in ["http://127.0.0.1:7070", "http://[::1]:7070", "http://localhost:7070", "https://plane.example.org"] {
            assert!(client(url, false).is_ok(), "{url}");
        }
        for url in ["http://plane.example.org:7070", "http://10.0.0.2:7070", "http://localhost.example.org"] {
            assert!(client(url, false).unwrap_err().to_string().contains("--insecure-http"), "{url}");
            assert!(client(url, true).is_ok(), "{url}");
        }
        for url in ["plane.example.org", "ftp://plane.example.org", ""] {
            assert!(client(url, true).unwrap_err().to_string().contains("https://host:7070"), "{url}");
        }
    }
}
