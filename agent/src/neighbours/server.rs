//! The end that gives: a listener that takes device certificates of this tenant, and the few things that can be asked of it.
//!
//! It must never give content that was not verified, nor say more than the table in [`super`].

use super::client::ALPN;
use super::counts::Counts;
use super::{HAS, RANGE, SITE, Shared, lock};
use crate::identity::Identity;
use aidos_protocol::DeviceId;
use aidos_protocol::artifact::Digest;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Router, middleware};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// Connections at a time: every neighbour that may be known with one, and some that are being turned away.
const CONNECTIONS: usize = 96;
/// How long a handshake, and the head of a request, may take: the other end is in the same building.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection lasts at most: after it, the certificate is judged anew.
const AGE: Duration = Duration::from_secs(600);
/// The pause after the system refused a connection, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Bytes between two looks at the bandwidth's bound.
const FRAME: usize = 64 << 10;

pub(super) async fn run(shared: Arc<Shared>, listener: TcpListener, stop: CancellationToken) {
    let content = get(content);
    let app = Router::new()
        .route("/v1/site", get(|| async { StatusCode::OK }))
        .route("/v1/artifacts/{hex}", content.clone())
        .route("/v1/chunks/{hex}", content)
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), same_site))
        .with_state(Arc::clone(&shared));
    let (connections, seats) = (TaskTracker::new(), Arc::new(Semaphore::new(CONNECTIONS)));
    let mut acceptor: Option<(u64, TlsAcceptor)> = None;
    while let Some(seat) = stop.run_until_cancelled(Arc::clone(&seats).acquire_owned()).await {
        let stream = match stop.run_until_cancelled(listener.accept()).await {
            None => break,
            Some(Ok((stream, _))) => stream,
            Some(Err(error)) => {
                tracing::warn!(%error, "a neighbour's connection was not accepted; `ulimit -n` may be too low");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let generation = shared.identity.generation();
        if acceptor.as_ref().is_none_or(|(made, _)| *made != generation) {
            match shared.identity.member_tls(Arc::clone(&shared.refused), ALPN) {
                Ok(tls) => acceptor = Some((generation, Arc::new(tls.server).into())),
                Err(error) => {
                    tracing::warn!(%error, "neighbours cannot be served with this certificate");
                    continue;
                }
            }
        }
        let Some((_, tls)) = acceptor.clone() else { continue };
        let (app, stop) = (app.clone(), stop.clone());
        connections.spawn(async move {
            let _seat = seat;
            stop.run_until_cancelled(tokio::time::timeout(AGE, converse(stream, tls, app))).await;
        });
    }
    connections.close();
    connections.wait().await;
}

async fn converse(stream: TcpStream, tls: TlsAcceptor, app: Router) {
    // Questions are small and waited for.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HEAD, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a neighbour's handshake failed"),
        Err(_) => return,
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let Some(device) = certificate.and_then(|leaf| Identity::member(leaf).ok()) else { return };
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(device);
        app.clone().oneshot(request.map(Body::new))
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD.max(super::client::IDLE)).max_buf_size(FRAME);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a neighbour's connection broke");
    }
}

/// Turns away whoever is at another site, everybody while this device is at none, and whoever was revoked since its handshake.
async fn same_site(State(shared): State<Arc<Shared>>, request: axum::extract::Request, next: middleware::Next) -> Response {
    let device = request.extensions().get::<DeviceId>();
    if device.is_none_or(|device| (shared.refused)(*device)) {
        return (StatusCode::FORBIDDEN, "this device is revoked").into_response();
    }
    let theirs = request.headers().get(SITE).and_then(|site| site.to_str().ok());
    match (shared.site)() {
        Some(ours) if theirs == Some(ours.as_str()) => next.run(request).await,
        _ => (StatusCode::FORBIDDEN, "another site").into_response(),
    }
}

async fn content(
    State(shared): State<Arc<Shared>>,
    Extension(device): Extension<DeviceId>,
    Path(hex): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let Ok(digest) = format!("sha256:{hex}").parse::<Digest>() else { return StatusCode::NOT_FOUND.into_response() };
    let pieces = Arc::clone(&shared.pieces);
    let Ok(length) = tokio::task::spawn_blocking(move || pieces.has(&digest)).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let Some(length) = length else {
        let wanted = lock(&shared.wanted).get(&digest).copied();
        return match wanted {
            None => StatusCode::NOT_FOUND.into_response(),
            Some(wanted) => match wanted.afar {
                None => StatusCode::ACCEPTED.into_response(),
                Some(bytes) => (StatusCode::ACCEPTED, [(HAS, bytes.to_string())]).into_response(),
            },
        };
    };
    let Some(range) = part(&headers, length) else {
        return (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, format!("bytes */{length}"))]).into_response();
    };
    let about = [
        (header::CONTENT_RANGE, format!("bytes {}-{}/{length}", range.start, range.end - 1)),
        (header::CONTENT_LENGTH, (range.end - range.start).to_string()),
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
    ];
    if method == Method::HEAD {
        return (StatusCode::PARTIAL_CONTENT, about).into_response();
    }
    let Some(seat) = Seat::take(&shared, device) else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let pieces = Arc::clone(&shared.pieces);
    match tokio::task::spawn_blocking(move || pieces.read(&digest, range)).await {
        Ok(Ok(bytes)) => (StatusCode::PARTIAL_CONTENT, about, Body::from_stream(frames(shared, seat, bytes))).into_response(),
        // Collected between the two looks, most likely.
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The bytes in frames, each when the bandwidth's bound lets it pass. The seat is held until the last or until nobody reads.
fn frames(shared: Arc<Shared>, seat: Seat, bytes: Bytes) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> {
    futures::stream::unfold((shared, seat, bytes), |(shared, seat, mut rest)| async move {
        if rest.is_empty() {
            return None;
        }
        let frame = rest.split_to(rest.len().min(FRAME));
        shared.throttle.pass(frame.len() as u64).await;
        Counts::add(&shared.counts.given, frame.len() as u64);
        Some((Ok(frame), (shared, seat, rest)))
    })
}

/// The part that is asked for, at most [`RANGE`] of it; without a range, the beginning. `None`: it lies outside, or is no range
/// of this protocol.
fn part(headers: &HeaderMap, length: u64) -> Option<Range<u64>> {
    let (start, end) = match headers.get(header::RANGE) {
        None => (0, length),
        Some(range) => {
            let (start, last) = range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
            let start: u64 = start.parse().ok()?;
            let end = if last.is_empty() { length } else { last.parse::<u64>().ok()?.checked_add(1)?.min(length) };
            (start, end)
        }
    };
    (start < end).then(|| start..end.min(start + RANGE))
}

/// A seat while one request is served.
struct Seat {
    shared: Arc<Shared>,
    device: DeviceId,
}

impl Seat {
    fn take(shared: &Arc<Shared>, device: DeviceId) -> Option<Self> {
        let taken = lock(&shared.seats).take(device, shared.now());
        taken.then(|| Self { shared: Arc::clone(shared), device })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.shared.seats).leave(self.device, self.shared.now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_bounded_and_nonsense_is_outside() {
        let ask = |text: &str, length| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, text.parse().unwrap());
            part(&headers, length)
        };
        assert_eq!(ask("bytes=0-", 10), Some(0..10));
        assert_eq!(ask("bytes=3-5", 10), Some(3..6));
        assert_eq!(ask("bytes=3-500", 10), Some(3..10));
        assert_eq!(ask("bytes=1-", 1 << 40), Some(1..1 + RANGE));
        for bad in
            ["bytes=10-", "bytes=5-4", "bytes=-5", "bytes=1-18446744073709551615", "lines=1-2", "bytes=a-b", "bytes=0-1,3-4"]
        {
            assert_eq!(ask(bad, 10), None, "{bad}");
        }
        assert_eq!(part(&HeaderMap::new(), 10), Some(0..10));
    }
}
