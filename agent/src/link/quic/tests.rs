use super::*;
use crate::identity::testing::TestCa;
use crate::link::testing::{Device, Plane};
use crate::link::{channel, run};
use aidos_protocol::artifact::Digest;
use aidos_protocol::enrol::EndpointsView;
use aidos_protocol::frame;
use quinn::crypto::rustls::QuicServerConfig;
use tokio_util::sync::CancellationToken;

fn server(ca: &TestCa, address: &str) -> quinn::Endpoint {
    let tls = QuicServerConfig::try_from(ca.server_tls(true, ALPN)).unwrap();
    quinn::Endpoint::server(quinn::ServerConfig::with_crypto(Arc::new(tls)), address.parse().unwrap()).unwrap()
}

/// Speaks for `plane` on every connection until dropped.
async fn serve(server: quinn::Endpoint, plane: Arc<Plane>) {
    while let Some(incoming) = server.accept().await {
        let connection = incoming.await.unwrap();
        let (send, receive) = connection.accept_bi().await.unwrap();
        let (mut send, mut receive) = (FramedWrite::new(send, codec()), FramedRead::new(receive, codec()));
        while let Some(Ok(frame)) = receive.next().await {
            for body in plane.answer(frame::decode(frame.freeze()).unwrap().1) {
                send.send(frame::encode(frame::VERSION, body).unwrap()).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_session_over_real_quic_outlives_a_restart_of_the_control_plane() {
    let (ca, dir, plane, device) = (TestCa::new(), tempfile::tempdir().unwrap(), Arc::new(Plane::default()), Device::new());
    let first = server(&ca, "127.0.0.1:0");
    let address = first.local_addr().unwrap().to_string();
    let serving = tokio::spawn(serve(first.clone(), Arc::clone(&plane)));
    let transport = quic(&ca, dir.path(), &address);
    let (identity, (link, control), shutdown) = (transport.identity.clone(), channel(), CancellationToken::new());
    let task = tokio::spawn(run(vec![Box::new(transport)], device.ports(), identity, control, shutdown.clone()));
    let mut state = link.state();
    state.wait_for(|s| s.transport == Some("quic")).await.unwrap();
    assert!(link.request_artifact(Digest::of(b"m")).await.is_ok());
    let traffic = link.traffic().unwrap();
    assert!(traffic.round_trip.unwrap() > Duration::ZERO && traffic.sent > 0 && traffic.received > 0, "{traffic:?}");

    serving.abort();
    first.close(VarInt::from_u32(0), b"restart");
    first.wait_idle().await;
    drop(first);
    state.wait_for(|s| s.transport.is_none()).await.unwrap();
    assert_eq!(link.traffic(), None);
    device.sample(1);
    while std::net::UdpSocket::bind(&address).is_err() {
        tokio::task::yield_now().await;
    }
    let serving = tokio::spawn(serve(server(&ca, &address), Arc::clone(&plane)));
    state.wait_for(|s| s.transport == Some("quic") && s.sessions == 2).await.unwrap();
    while plane.saw(|b| matches!(b, frame::Body::Telemetry(_))) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let since = link.traffic().unwrap();
    assert!(since.sent > traffic.sent && since.received > traffic.received, "{since:?} after {traffic:?}");
    shutdown.cancel();
    task.await.unwrap();
    assert_eq!(plane.saw(|b| matches!(b, frame::Body::Goodbye(_))), 1);
    serving.abort();
}

fn quic(ca: &TestCa, dir: &std::path::Path, address: &str) -> Quic {
    let endpoints = EndpointsView { quic: address.to_owned(), ..EndpointsView::default() };
    Quic::new(ca.joined(dir, endpoints), true)
}

#[tokio::test]
async fn frames_go_both_ways_and_the_last_one_is_delivered_before_the_close() {
    let (ca, dir) = (TestCa::new(), tempfile::tempdir().unwrap());
    let server = server(&ca, "127.0.0.1:0");
    let port = server.local_addr().unwrap().port();
    let echo = tokio::spawn(async move {
        let connection = server.accept().await.unwrap().await.unwrap();
        let identity = connection.peer_identity().unwrap().downcast::<Vec<rustls_pki_types::CertificateDer<'_>>>().unwrap();
        assert!(!identity.is_empty(), "the device shows its certificate");
        let (send, receive) = connection.accept_bi().await.unwrap();
        let (mut send, mut receive) = (FramedWrite::new(send, codec()), FramedRead::new(receive, codec()));
        let mut last = Bytes::new();
        while let Some(Ok(frame)) = receive.next().await {
            last = frame.freeze();
            send.send(last.clone()).await.unwrap();
        }
        last
    });
    // By name: the IPv6 address of localhost is silent, and the race gets past it.
    let Connection { mut sink, mut stream, .. } = quic(&ca, dir.path(), &format!("localhost:{port}")).connect().await.unwrap();
    let big = Bytes::from(vec![7; MAX_FRAME_BYTES]);
    let (sent, received) = tokio::join!(sink.send(big.clone()), stream.next());
    assert_eq!((sent, received), (Ok(()), Ok(Some(big))));
    sink.send(Bytes::from_static(b"goodbye")).await.unwrap();
    sink.close("done").await;
    assert_eq!(echo.await.unwrap(), "goodbye");
}

#[tokio::test]
async fn a_server_of_another_ca_is_refused() {
    let (ours, theirs, dir) = (TestCa::new(), TestCa::new(), tempfile::tempdir().unwrap());
    let server = server(&theirs, "127.0.0.1:0");
    let address = server.local_addr().unwrap().to_string();
    let accept = tokio::spawn(async move { server.accept().await.unwrap().await.is_err() });
    let refused = quic(&ours, dir.path(), &address).connect().await;
    assert!(matches!(refused, Err(ConnectError::Failed(_))));
    assert!(accept.await.unwrap());
}

#[tokio::test]
async fn where_nobody_answers_the_attempt_ends_as_silent() {
    let (ca, dir) = (TestCa::new(), tempfile::tempdir().unwrap());
    let deaf = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let outcome = quic(&ca, dir.path(), &deaf.local_addr().unwrap().to_string()).connect().await;
    assert!(matches!(outcome, Err(ConnectError::Silent)));
}

#[tokio::test]
async fn a_frame_over_the_limit_ends_the_connection_before_it_is_read() {
    let (ca, dir) = (TestCa::new(), tempfile::tempdir().unwrap());
    let server = server(&ca, "127.0.0.1:0");
    let address = server.local_addr().unwrap().to_string();
    let serve = tokio::spawn(async move {
        let connection = server.accept().await.unwrap().await.unwrap();
        let (mut send, mut receive) = connection.accept_bi().await.unwrap();
        let length = u32::try_from(MAX_FRAME_BYTES + 1).unwrap();
        send.write_all(&length.to_be_bytes()).await.unwrap();
        let _ = receive.read_to_end(64).await;
    });
    let Connection { mut sink, mut stream, .. } = quic(&ca, dir.path(), &address).connect().await.unwrap();
    sink.send(Bytes::from_static(b"x")).await.unwrap();
    assert!(stream.next().await.is_err());
    sink.close("").await;
    serve.await.unwrap();
}
