//! The server as clients see it.

use super::*;
use crate::platform::metrics::Metrics;
use axum::Router;
use axum::routing::{get, post};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

#[derive(serde::Deserialize)]
struct Wish {
    count: u8,
}

fn app() -> Router {
    Router::new()
        .route("/tagged", get(|| async { (ETag::revision(3), Json(1)) }))
        .route(
            "/panic",
            get(|| async {
                if true {
                    panic!("a defect")
                }
            }),
        )
        .route("/wish", post(|Json(wish): Json<Wish>| async move { Created(wish.count) }))
        .route(
            "/slow",
            get(|| async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                "done"
            }),
        )
}

async fn started() -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve(listener, layered(app(), Metrics::new()), None, stop.clone()));
    (address, stop, served)
}

async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

async fn get_path(address: SocketAddr, path: &str, more: &str) -> String {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n")).await
}

async fn post_json(address: SocketAddr, body: &str) -> String {
    let head = "POST /wish HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n";
    exchange(address, &format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await
}

#[tokio::test]
async fn every_error_is_a_problem_with_the_requests_id() {
    let (address, ..) = started().await;
    for (answer, status, code) in [
        (get_path(address, "/nowhere", "").await, "404 Not Found", "not_found"),
        (get_path(address, "/wish", "").await, "405 Method Not Allowed", "method_not_allowed"),
        (get_path(address, "/panic", "").await, "500 Internal Server Error", "internal"),
        (post_json(address, "{\"count\": 300}").await, "422 Unprocessable Entity", "invalid"),
        (post_json(address, "{").await, "400 Bad Request", "malformed"),
        (post_json(address, &format!("\"{}\"", "x".repeat(2 << 20))).await, "413 Payload Too Large", "too_large"),
    ] {
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
        let id = answer.split("x-request-id: ").nth(1).unwrap().split("\r\n").next().unwrap();
        assert!(answer.contains(&format!("\"request_id\":\"{id}\"")), "{answer}");
    }
    let misfit = post_json(address, "{\"count\": 300}").await;
    assert!(misfit.contains("\"field\":\"count\"") && !misfit.contains(" line "), "{misfit}");
    assert!(get_path(address, "/wish", "").await.contains("allow: POST"));
    assert!(!get_path(address, "/panic", "").await.contains("a defect"));
}

#[tokio::test]
async fn nobody_takes_an_old_answer_for_a_new_one() {
    let (address, ..) = started().await;
    let tagged = get_path(address, "/tagged", "").await;
    assert!(tagged.contains("etag: \"3\"") && tagged.contains("cache-control: no-store"), "{tagged}");
    // The tag is of what may be edited: what the answer shows beside that may have changed.
    assert!(get_path(address, "/tagged", "if-none-match: \"3\"\r\n").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn requests_under_way_finish_after_the_stop_and_new_connections_are_refused() {
    let (address, stop, served) = started().await;
    let slow = tokio::spawn(async move { get_path(address, "/slow", "").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.cancel();
    assert!(slow.await.unwrap().ends_with("done"));
    served.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
