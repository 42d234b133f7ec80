//! The Open Inference Protocol over HTTP, as its clients use it.

use crate::golden::{Golden, deploy, golden, name};
use aidos_agent::{
    infer::{Engine, Limits, LoadError, Models, Port, Program, Run, RunError, Settings, Signature},
    serve::{ServeContext, Traffic, router, run},
};
use aidos_protocol::{
    manifest::Manifest,
    oip::{DataType, HEADER_LENGTH, InferRequest, InferResponse, Parameters, Tensor},
    time::Micros,
};
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    http::{Request, Response, StatusCode, header},
};
use serde_json::{Value, json};
use std::{
    path::Path,
    sync::{Arc, Barrier},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

struct Served {
    router: Router,
    models: Models,
    golden: Golden,
}

impl Served {
    async fn new() -> Self {
        let (models, golden) = (Models::new(Settings::default()), golden("digits"));
        deploy(&models, &golden).await;
        let router = router(models.clone(), ServeContext::default());
        Self { router, models, golden }
    }
    async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }
    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.json(Request::get(path).body(Body::empty()).unwrap()).await
    }
    async fn post(&self, path: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        self.json(Request::post(path).body(body.into()).unwrap()).await
    }
    async fn json(&self, request: Request<Body>) -> (StatusCode, Value) {
        let response = self.send(request).await;
        let (status, body) = (response.status(), bytes(response).await);
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
    fn request(&self) -> InferRequest {
        InferRequest {
            parameters: Parameters::default(),
            id: Some("42".into()),
            ..InferRequest::of(self.golden.cases[0].inputs())
        }
    }
}

async fn bytes(response: Response<Body>) -> Bytes {
    to_bytes(response.into_body(), 1 << 20).await.unwrap()
}

fn infer_request(body: Bytes, header_length: Option<usize>) -> Request<Body> {
    let mut request = Request::post("/v2/models/digits/infer");
    if let Some(length) = header_length {
        request = request.header(HEADER_LENGTH, length);
    }
    request.body(body.into()).unwrap()
}

#[tokio::test]
async fn metadata_says_what_goes_in_and_what_comes_out() {
    let served = Served::new().await;
    let (status, metadata) = served.get("/v2/models/digits").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&metadata["name"], &metadata["versions"]), (&json!("digits"), &json!(["1"])));
    assert_eq!(metadata["inputs"], json!([{"name": "image", "datatype": "FP32", "shape": [-1, 1, 28, 28]}]));
    assert_eq!(metadata["manifest"]["labels"][7], "7");
    assert_eq!(metadata["manifest"]["image"]["width"], 28);
    assert_eq!(served.get("/v2/models/digits/versions/1").await.1, metadata);
    let (_, config) = served.get("/v2/models/digits/config").await;
    assert_eq!((&config["input"][0]["data_type"], &config["max_batch_size"]), (&json!("TYPE_FP32"), &json!(0)));
    assert_eq!(served.get("/v2").await.1["name"], "aidos");
    for path in [
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/digits/ready",
        "/v2/models/digits/versions/1/ready",
        "/healthz",
        "/readyz",
    ] {
        assert_eq!(served.get(path).await.0, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn json_and_binary_give_the_golden_answer_in_each_form() {
    let served = Served::new().await;
    let case = &served.golden.cases[0];
    for binary_in in [false, true] {
        for binary_out in [false, true] {
            let mut request = served.request();
            request.parameters.set("binary_data_output", aidos_protocol::oip::Parameter::Bool(binary_out));
            let encoded = request.encode(binary_in).unwrap();
            let response = served.send(infer_request(encoded.body, encoded.header_length)).await;
            assert_eq!(response.status(), StatusCode::OK);
            let length = response.headers().get(HEADER_LENGTH).map(|value| value.to_str().unwrap().parse().unwrap());
            assert_eq!(length.is_some(), binary_out);
            let answer = InferResponse::decode(bytes(response).await, length).unwrap();
            assert_eq!(
                (answer.model_name.as_str(), answer.id.as_deref(), answer.model_version.as_deref()),
                ("digits", Some("42"), Some("1"))
            );
            case.check(served.golden.tolerance, &answer);
        }
    }
}

#[tokio::test]
async fn a_wrong_request_is_a_400_that_says_what_would_be_right() {
    let served = Served::new().await;
    let good = json!({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 28, 28], "data": vec![0.0; 784]}]});
    let mut cases = vec![
        (json!("no object"), "invalid type"),
        (json!({"inputs": []}), "the request has no inputs"),
        (json!({"inputs": [], "outputs": 5}), "invalid type"),
    ];
    let changed = |field: &str, value: Value| {
        let mut request = good.clone();
        request["inputs"][0][field] = value;
        request
    };
    cases.push((changed("name", json!("picture")), "the model has no input `picture`; its inputs are: image"));
    cases.push((changed("datatype", json!("INT64")), "`image` is INT64, but its element 0 is 0"));
    cases.push((changed("shape", json!([1, 1, 28, 29])), "which is 812 elements, but 784 came"));
    cases.push((changed("shape", json!([784])), "must have shape [-1, 1, 28, 28], but [784] came"));
    cases.push((changed("shape", json!([1_u64 << 60, 1, 28, 28])), "more than the 67108864 bytes"));
    cases.push((changed("data", json!(vec!["a"; 784])), "element 0 is a string"));
    let mut ints = changed("datatype", json!("INT64"));
    ints["inputs"][0]["data"] = json!(vec![0; 784]);
    cases.push((ints, "input `image` must be FP32, but INT64 came"));
    let mut output = good.clone();
    output["outputs"] = json!([{"name": "logits"}]);
    cases.push((output, "the model has no output `logits`; its outputs are: probabilities"));
    for (request, words) in cases {
        let (status, answer) = served.post("/v2/models/digits/infer", request.to_string()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(words), "{answer} should say {words}");
    }
    assert_eq!(served.post("/v2/models/digits/infer", good.to_string()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_wrong_byte_count_is_a_400() {
    let served = Served::new().await;
    let encoded = served.request().encode(true).unwrap();
    let header = encoded.header_length.unwrap();
    for (body, header, words) in [
        (encoded.body.slice(..encoded.body.len() - 1), header, "only 3135 bytes are left"),
        ([&encoded.body[..], b"x"].concat().into(), header, "1 bytes follow the last tensor"),
        (encoded.body.clone(), 1 << 40, "but the body has"),
    ] {
        let (status, answer) = served.json(infer_request(body, Some(header))).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(answer["error"].as_str().unwrap().contains(words), "{answer}");
    }
    let request = Request::post("/v2/models/digits/infer").header(HEADER_LENGTH, "many").body(Body::empty()).unwrap();
    assert_eq!(served.json(request).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_body_over_the_limit_is_a_413_before_it_is_read() {
    let served = Served::new().await;
    let request = Request::post("/v2/models/digits/infer").header(header::CONTENT_LENGTH, 70 << 20).body(Body::empty()).unwrap();
    let (status, answer) = served.json(request).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer["error"].as_str().unwrap().contains("at most 67108864"));
}

#[tokio::test]
async fn what_is_not_there_is_a_404_with_what_is() {
    let served = Served::new().await;
    for (path, words) in [
        ("/v2/models/dogs", "model `dogs` is not loaded here; loaded are: digits"),
        ("/v2/models/digits/versions/9", "has no version 9 here; loaded are: 1"),
        ("/v2/models/digits/versions/x/ready", "has no version x here"),
        ("/v2/models/..%2F..", "is not a model name"),
        ("/v3", "begin at /v2"),
    ] {
        let (status, answer) = served.get(path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer["error"].as_str().unwrap().contains(words), "{answer}");
    }
    let (status, answer) = served.get("/v2/models/digits/infer").await;
    assert_eq!(
        (status, answer["error"].as_str().unwrap()),
        (StatusCode::METHOD_NOT_ALLOWED, "/v2/models/digits/infer does not take GET")
    );
}

#[tokio::test]
async fn the_repository_lists_versions_and_does_not_load() {
    let served = Served::new().await;
    let file = crate::golden::model_file(&served.golden);
    served.models.load(&name("digits"), 2, &file, Manifest::default()).await.unwrap();
    let (_, all) = served.post("/v2/repository/index", "").await;
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert_eq!((&all[0]["state"], &all[1]["state"]), (&json!("READY"), &json!("UNAVAILABLE")));
    let (_, ready) = served.post("/v2/repository/index", r#"{"ready": true}"#).await;
    assert_eq!(ready.as_array().unwrap().len(), 1);
    let (status, answer) = served.post("/v2/repository/models/digits/load", "{}").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(answer["error"].as_str().unwrap().contains("aidos deploy digits@VERSION"));
}

#[tokio::test]
async fn statistics_and_metrics_count_what_was_answered_and_what_was_not() {
    let served = Served::new().await;
    let encoded = served.request().encode(true).unwrap();
    for _ in 0..3 {
        assert_eq!(served.send(infer_request(encoded.body.clone(), encoded.header_length)).await.status(), StatusCode::OK);
    }
    let wrong = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}]}"#;
    assert_eq!(served.post("/v2/models/digits/infer", wrong).await.0, StatusCode::BAD_REQUEST);
    for path in ["/v2/models/stats", "/v2/models/digits/stats", "/v2/models/digits/versions/1/stats"] {
        let (_, stats) = served.get(path).await;
        let stats = &stats["model_stats"][0];
        assert_eq!((&stats["inference_count"], &stats["inference_stats"]["fail"]["count"]), (&json!(3), &json!(1)), "{path}");
        assert!(stats["inference_stats"]["compute_infer"]["ns"].as_u64().unwrap() > 0);
        assert!(stats["latency"]["p99_us"].as_u64().unwrap() >= stats["latency"]["p50_us"].as_u64().unwrap());
    }
    let context = ServeContext { metrics: Arc::new(|text| text.push_str("aidos_other 1\n")), ..ServeContext::default() };
    let response =
        router(served.models.clone(), context).oneshot(Request::get("/metrics").body(Body::empty()).unwrap()).await.unwrap();
    let text = String::from_utf8(bytes(response).await.to_vec()).unwrap();
    assert!(text.contains(r#"aidos_inference_requests_total{model="digits",version="1",result="success"} 3"#), "{text}");
    assert!(text.contains(r#"aidos_inference_requests_total{model="digits",version="1",result="failure"} 1"#), "{text}");
    assert!(text.ends_with("aidos_other 1\n"));
}

#[tokio::test]
async fn an_agent_that_is_not_ready_says_why() {
    let context = ServeContext { not_ready: Arc::new(|| Some("digits is loading".into())), ..ServeContext::default() };
    let router = router(Models::new(Settings::default()), context);
    let response = router.oneshot(Request::get("/v2/health/ready").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    assert_eq!(bytes(response).await, r#"{"error":"digits is loading"}"#);
}

/// Every run passes the gate twice: when it begins and when it may end.
struct Gated(Arc<Barrier>);

impl Engine for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }
    fn platform(&self) -> &'static str {
        "gated"
    }
    fn load(&self, _: &Path, _: &Manifest, _: &Limits) -> Result<Box<dyn Program>, LoadError> {
        let input = Port { name: "x".into(), datatype: DataType::Fp32, shape: None };
        Ok(Box::new(GatedProgram(Arc::clone(&self.0), Signature { inputs: vec![input], outputs: vec![] })))
    }
}

struct GatedProgram(Arc<Barrier>, Signature);

impl Program for GatedProgram {
    fn signature(&self) -> &Signature {
        &self.1
    }
    fn file_bytes(&self) -> u64 {
        0
    }
    fn run(&self, _: &[Tensor]) -> Result<Run, RunError> {
        self.0.wait();
        self.0.wait();
        Ok(Run { outputs: vec![], input: Duration::ZERO, compute: Duration::ZERO, output: Duration::ZERO })
    }
}

#[tokio::test]
async fn a_full_queue_is_a_503_that_says_when_to_try_again() {
    let gate = Arc::new(Barrier::new(2));
    let models = Models::with_engine(Arc::new(Gated(Arc::clone(&gate))), Settings { queue: 1, ..Settings::default() });
    models.load(&name("slow"), 1, Path::new(""), Manifest::default()).await.unwrap();
    models.activate(&name("slow"), 1).unwrap();
    let router = router(models, ServeContext::default());
    let ask = |router: Router| async move {
        let body = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}]}"#;
        router.oneshot(Request::post("/v2/models/slow/infer").body(Body::from(body)).unwrap()).await.unwrap()
    };
    let first = tokio::spawn(ask(router.clone()));
    let pass = || {
        let gate = Arc::clone(&gate);
        tokio::task::spawn_blocking(move || gate.wait())
    };
    pass().await.unwrap();
    let refused = ask(router.clone()).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
    assert_eq!(bytes(refused).await, r#"{"error":"model `slow` has 1 requests waiting; try again in 1 s"}"#);
    pass().await.unwrap();
    assert_eq!(first.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_drained_server_answers_what_it_has_begun_and_takes_nothing_new() {
    let gate = Arc::new(Barrier::new(2));
    let models = Models::with_engine(Arc::new(Gated(Arc::clone(&gate))), Settings::default());
    models.load(&name("slow"), 1, Path::new(""), Manifest::default()).await.unwrap();
    models.activate(&name("slow"), 1).unwrap();
    let traffic = Traffic::default();
    let router = router(models, ServeContext { traffic: traffic.clone(), ..ServeContext::default() });
    let send = |request: Request<Body>| router.clone().oneshot(request);
    let ask = || {
        let body = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}]}"#;
        send(Request::post("/v2/models/slow/infer").body(Body::from(body)).unwrap())
    };
    let get = |path: &str| send(Request::get(path).body(Body::empty()).unwrap());
    let pass = || {
        let gate = Arc::clone(&gate);
        tokio::task::spawn_blocking(move || gate.wait())
    };
    let first = tokio::spawn(ask());
    pass().await.unwrap();

    traffic.close(Micros(1));
    assert_eq!(traffic.settled(Duration::ZERO).await, 1);
    let refused = ask().await.unwrap();
    assert_eq!(
        (refused.status(), &refused.headers()[header::RETRY_AFTER]),
        (StatusCode::SERVICE_UNAVAILABLE, &"30".parse().unwrap())
    );
    let text = String::from_utf8(bytes(refused).await.to_vec()).unwrap();
    assert!(text.contains("drained") && text.contains("aidos device undrain"), "{text}");
    for (path, status) in [
        ("/v2/health/ready", StatusCode::SERVICE_UNAVAILABLE),
        ("/readyz", StatusCode::SERVICE_UNAVAILABLE),
        ("/v2/health/live", StatusCode::OK),
        ("/v2/models/slow", StatusCode::OK),
    ] {
        assert_eq!(get(path).await.unwrap().status(), status, "{path}");
    }

    pass().await.unwrap();
    assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
    assert_eq!(traffic.settled(Duration::from_secs(60)).await, 0);
    traffic.open();
    assert_eq!(get("/v2/health/ready").await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swapping_versions_under_load_loses_no_request() {
    let served = Served::new().await;
    let file = crate::golden::model_file(&served.golden);
    served.models.load(&name("digits"), 2, &file, Manifest::default()).await.unwrap();
    let encoded = served.request().encode(true).unwrap();
    let client = |router: Router, body: Bytes, header: Option<usize>| async move {
        for _ in 0..50 {
            let response = router.clone().oneshot(infer_request(body.clone(), header)).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        }
    };
    let clients: Vec<_> =
        (0..4).map(|_| tokio::spawn(client(served.router.clone(), encoded.body.clone(), encoded.header_length))).collect();
    let mut version = 2;
    while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
        served.models.activate(&name("digits"), version).unwrap();
        version = 3 - version;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for client in clients {
        client.await.unwrap();
    }
    let answered: u64 = served.models.statistics().iter().map(|entry| entry.inference_count).sum();
    assert_eq!(answered, 200);
    assert!(served.models.statistics().iter().all(|entry| entry.inference_count > 0), "both versions must have answered");
}

#[tokio::test]
async fn a_stop_lets_the_server_end_and_frees_the_port() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let router = router(Models::new(Settings::default()), ServeContext::default());
    let server = tokio::spawn(run(listener, router, shutdown.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    shutdown.cancel();
    server.await.unwrap().unwrap();
    TcpListener::bind(address).await.unwrap();
}

#[tokio::test]
async fn what_the_application_measured_of_a_version_is_taken_by_name_and_bounded() {
    let served = Served::new().await;
    let path = "/v2/models/digits/versions/1/metrics";
    let (status, _) = served.post(path, r#"{"yield": 0.5, "picks": 3}"#).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let measures = served.models.measures(&name("digits"), aidos_agent::infer::Place::Active).unwrap();
    assert_eq!(measures.custom["yield"], 0.5);
    let many: std::collections::BTreeMap<String, f64> = (0..40).map(|n| (format!("m{n}"), 1.0)).collect();
    for (body, word) in [
        (r#"{"Yield": 1}"#.to_owned(), "`Yield`"),
        (r#"{"shadow.agreement": 1}"#.to_owned(), "shadow."),
        (r#"["yield"]"#.to_owned(), "JSON map"),
        (serde_json::to_string(&many).unwrap(), "fewer names"),
    ] {
        let (status, answer) = served.post(path, body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(answer["error"].as_str().unwrap().contains(word), "{answer}");
    }
    assert_eq!(served.post("/v2/models/digits/versions/9/metrics", "{}").await.0, StatusCode::NOT_FOUND);
    assert_eq!(served.post(path, " ".repeat(5_000)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}
