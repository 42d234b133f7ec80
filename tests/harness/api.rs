//! A REST client for tests: JSON in, JSON out, with the answer in the panic when it is not what was expected.

use reqwest::{Method, StatusCode};
use serde_json::Value;

/// A control plane's API with one key.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    url: String,
    key: String,
}

impl Api {
    /// A client of the API at `url`.
    pub fn new(url: &str, key: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { http: reqwest::Client::new(), url: url.to_owned(), key: key.to_owned() }
    }

    /// The same API with another key.
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// Base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A request to a path under `/api/v1`.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}/api/v1/{path}", self.url)).bearer_auth(&self.key)
    }

    /// Sends; the status and the JSON body, `null` for none.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> (StatusCode, Value) {
        let response = request.send().await.expect("the control plane answers");
        let status = response.status();
        let body = response.bytes().await.expect("the body arrives");
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// `GET` that must succeed.
    pub async fn get(&self, path: &str) -> Value {
        self.expect(self.request(Method::GET, path), path).await
    }

    /// `POST` that must succeed.
    pub async fn post(&self, path: &str, body: &Value) -> Value {
        self.expect(self.request(Method::POST, path).json(body), path).await
    }

    /// The status of a `GET`.
    pub async fn status(&self, path: &str) -> StatusCode {
        self.send(self.request(Method::GET, path)).await.0
    }

    async fn expect(&self, request: reqwest::RequestBuilder, path: &str) -> Value {
        let (status, body) = self.send(request).await;
        assert!(status.is_success(), "{path}: {status}: {body}");
        body
    }
}
