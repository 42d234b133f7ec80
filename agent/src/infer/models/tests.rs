//! The handle with an engine that tests steer: what swaps, queues and failures do, without any real model.

use super::*;
use crate::infer::{Limits, Port, Run, RunError};
use aidos_protocol::oip::{DataType, Parameter};
use std::sync::{
    atomic::AtomicBool,
    mpsc::{Receiver, Sender, channel},
};

/// Answers its version number (the file's name); waits for the gate first, if one is set.
struct Steered {
    gate: Arc<Mutex<Option<Receiver<()>>>>,
    panics: Arc<AtomicBool>,
}
struct SteeredProgram {
    signature: Signature,
    version: f32,
    gate: Arc<Mutex<Option<Receiver<()>>>>,
    panics: Arc<AtomicBool>,
}

impl Engine for Steered {
    fn name(&self) -> &'static str {
        "steered"
    }
    fn platform(&self) -> &'static str {
        "steered"
    }
    fn load(&self, file: &Path, _: &Manifest, _: &Limits) -> Result<Box<dyn Program>, LoadError> {
        let text = file.to_string_lossy();
        let version = text.parse().map_err(|_| LoadError::Engine { engine: "steered", reason: text.into_owned() })?;
        let port = |name: &str| Port { name: name.into(), datatype: DataType::Fp32, shape: None };
        let signature = Signature { inputs: vec![port("x")], outputs: vec![port("y")] };
        Ok(Box::new(SteeredProgram { signature, version, gate: self.gate.clone(), panics: self.panics.clone() }))
    }
}

impl Program for SteeredProgram {
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn file_bytes(&self) -> u64 {
        0
    }
    fn run(&self, _: &[Tensor]) -> Result<Run, RunError> {
        assert!(!self.panics.load(Ordering::Acquire), "told to panic");
        if let Some(gate) = &*self.gate.lock().unwrap_or_else(PoisonError::into_inner) {
            _ = gate.recv();
        }
        let outputs = vec![Tensor::fp32("y", vec![1], &[self.version]).unwrap()];
        Ok(Run { outputs, input: Duration::ZERO, compute: Duration::from_secs(3), output: Duration::ZERO })
    }
}

struct Bench {
    models: Models,
    gate: Arc<Mutex<Option<Receiver<()>>>>,
    panics: Arc<AtomicBool>,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let (gate, panics) = (Arc::default(), Arc::default());
        let engine = Arc::new(Steered { gate: Arc::clone(&gate), panics: Arc::clone(&panics) });
        Self { models: Models::with_engine(engine, settings), gate, panics }
    }
    /// Runs wait until the sender sends or goes.
    fn close(&self) -> Sender<()> {
        let (sender, receiver) = channel();
        *self.gate.lock().unwrap() = Some(receiver);
        sender
    }
    async fn deploy(&self, version: u64) {
        self.models.load(&name(), version, Path::new(&version.to_string()), Manifest::default()).await.unwrap();
        self.models.activate(&name(), version).unwrap();
    }
    fn ask(&self, version: Option<u64>) -> tokio::task::JoinHandle<Result<f64, InferError>> {
        let models = self.models.clone();
        tokio::spawn(async move {
            let request = InferRequest::of(vec![Tensor::fp32("x", vec![1], &[0.0]).unwrap()]);
            let answer = models.infer(&name(), version, request).await?;
            Ok(answer.outputs[0].to_f64().unwrap()[0])
        })
    }
}

fn name() -> ModelName {
    "m".parse().unwrap()
}

#[tokio::test]
async fn a_swap_loses_no_request_and_what_runs_ends_on_the_version_it_began_with() {
    let bench = Bench::new(Settings { parallel: 1, ..Settings::default() });
    bench.deploy(1).await;
    let gate = bench.close();
    let before: Vec<_> = (0..8).map(|_| bench.ask(None)).collect();
    while bench.models.find(&name(), None).unwrap().1.queue.available_permits() > Settings::default().queue - 8 {
        tokio::task::yield_now().await;
    }
    bench.deploy(2).await;
    bench.deploy(3).await;
    let after = bench.ask(None);
    drop(gate);
    for request in before {
        assert_eq!(request.await.unwrap().unwrap(), 1.0);
    }
    assert_eq!(after.await.unwrap().unwrap(), 3.0);
    assert_eq!(bench.ask(Some(2)).await.unwrap().unwrap(), 2.0);
    let gone = bench.ask(Some(1)).await.unwrap().unwrap_err();
    assert_eq!(gone.to_string(), "model `m` has no version 1 here; loaded are: 2, 3");
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let bench = Bench::new(Settings { parallel: 1, queue: 2, ..Settings::default() });
    bench.deploy(1).await;
    bench.ask(None).await.unwrap().unwrap();
    let gate = bench.close();
    let waiting = [bench.ask(None), bench.ask(None)];
    while bench.models.find(&name(), None).unwrap().1.queue.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    let refused = bench.ask(None).await.unwrap().unwrap_err();
    // One run took 3 s, two are waiting.
    assert_eq!(refused.to_string(), "model `m` has 2 requests waiting; try again in 6 s");
    drop(gate);
    for request in waiting {
        request.await.unwrap().unwrap();
    }
    let stats = bench.models.statistics_of(&name(), None).unwrap();
    assert_eq!((stats.inference_stats.success.count, stats.inference_stats.fail.count), (3, 1));
}

#[tokio::test]
async fn a_run_over_its_time_is_given_up_and_its_model_waits_for_it() {
    let bench = Bench::new(Settings { run_limit: Duration::from_millis(50), ..Settings::default() });
    bench.deploy(1).await;
    let gate = bench.close();
    assert!(matches!(bench.ask(None).await.unwrap(), Err(InferError::TimedOut { .. })));
    assert!(matches!(bench.ask(None).await.unwrap(), Err(InferError::Stuck { .. })));
    drop(gate);
    while bench.models.find(&name(), None).unwrap().1.overruns.load(Ordering::Acquire) > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.ask(None).await.unwrap().unwrap(), 1.0);
}

#[tokio::test]
async fn a_panic_in_the_engine_ends_one_request_only() {
    let bench = Bench::new(Settings::default());
    bench.deploy(1).await;
    bench.panics.store(true, Ordering::Release);
    let error = bench.ask(None).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the engine failed on this request: told to panic");
    bench.panics.store(false, Ordering::Release);
    assert_eq!(bench.ask(None).await.unwrap().unwrap(), 1.0);
}

#[tokio::test]
async fn a_load_that_fails_changes_nothing() {
    let bench = Bench::new(Settings::default());
    bench.deploy(1).await;
    let failed = bench.models.load(&name(), 2, Path::new("bad"), Manifest::default()).await;
    assert_eq!(failed.unwrap_err().to_string(), "steered cannot run this model: bad");
    assert_eq!(bench.models.list().len(), 1);
    assert_eq!(bench.ask(None).await.unwrap().unwrap(), 1.0);
}

#[tokio::test]
async fn a_model_that_is_not_there_or_not_active_is_told_so() {
    let bench = Bench::new(Settings::default());
    assert_eq!(bench.ask(None).await.unwrap().unwrap_err().to_string(), "model `m` is not loaded here; loaded are: none");
    bench.models.load(&name(), 1, Path::new("1"), Manifest::default()).await.unwrap();
    let error = bench.ask(None).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "model `m` is loaded but not active yet; try again shortly");
    assert_eq!(bench.ask(Some(1)).await.unwrap().unwrap(), 1.0);
    assert!(bench.models.unload(&name(), None) && !bench.models.unload(&name(), None));
    assert!(bench.models.list().is_empty());
}

#[tokio::test]
async fn a_split_by_key_sends_a_key_to_the_same_version_each_time_and_the_rest_to_the_old_one() {
    let bench = Bench::new(Settings::default());
    bench.deploy(1).await;
    bench.models.load(&name(), 2, Path::new("2"), Manifest::default()).await.unwrap();
    let split = Experiment::Split { percent: 30, key: Some("user".into()) };
    bench.models.experiment(&name(), Some((2, split)));
    let ask = async |user: Option<i64>| {
        let mut request = InferRequest::of(vec![Tensor::fp32("x", vec![1], &[0.0]).unwrap()]);
        if let Some(user) = user {
            request.parameters.set("user", Parameter::Int(user));
        }
        bench.models.infer(&name(), None, request).await.unwrap().outputs[0].to_f64().unwrap()[0]
    };
    let mut to_new = 0;
    for user in 0..200 {
        let (first, second) = (ask(Some(user)).await, ask(Some(user)).await);
        assert_eq!(first, second, "user {user} met two versions");
        to_new += i32::from(first == 2.0);
    }
    assert!((40..80).contains(&to_new), "{to_new} of 200 keys");
    assert_eq!(ask(None).await, 1.0, "without the key there is no experiment");
    assert_eq!(bench.models.measures(&name(), Place::Beside).unwrap().requests, 2 * to_new as u64);
    bench.models.experiment(&name(), None);
    for user in 0..20 {
        assert_eq!(ask(Some(user)).await, 1.0);
    }
}

#[tokio::test]
async fn a_shadow_answers_from_the_old_version_counts_agreement_and_is_dropped_where_there_is_no_room() {
    let bench = Bench::new(Settings::default());
    bench.deploy(1).await;
    bench.models.load(&name(), 2, Path::new("2"), Manifest::default()).await.unwrap();
    bench.models.experiment(&name(), Some((2, Experiment::Shadow { percent: 100 })));
    let seen = || {
        let (_, counts) = bench.models.compared(&name()).unwrap();
        counts.compared + counts.dropped
    };
    for asked in 1..=5 {
        assert_eq!(bench.ask(None).await.unwrap().unwrap(), 1.0);
        while seen() < asked {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let (version, counts) = bench.models.compared(&name()).unwrap();
    assert_eq!((version, counts.agreed), (2, 0), "1 and 2 are not the same answer");
    assert!(counts.compared > 0);
    let measures = bench.models.measures(&name(), Place::Beside).unwrap();
    assert_eq!(measures.custom["shadow.compared"], counts.compared as f64);
    assert_eq!(measures.custom["shadow.agreement"], 0.0);
    // What is too large to be kept is dropped, and still answered.
    let large = InferRequest::of(vec![Tensor::fp32("x", vec![300_000], &vec![0.0; 300_000]).unwrap()]);
    bench.models.infer(&name(), None, large).await.unwrap();
    assert_eq!(bench.models.compared(&name()).unwrap().1.dropped, counts.dropped + 1);
}

#[tokio::test]
async fn only_the_models_own_faults_are_errors_and_measures_begin_at_the_mark() {
    let bench = Bench::new(Settings::default());
    bench.deploy(1).await;
    bench.ask(None).await.unwrap().unwrap();
    bench.models.mark(&name(), Place::Active);
    let wrong = InferRequest::of(vec![Tensor::fp32("nothing", vec![1], &[0.0]).unwrap()]);
    bench.models.infer(&name(), None, wrong).await.unwrap_err();
    bench.panics.store(true, Ordering::Release);
    bench.ask(None).await.unwrap().unwrap_err();
    bench.panics.store(false, Ordering::Release);
    bench.ask(None).await.unwrap().unwrap();
    let measures = bench.models.measures(&name(), Place::Active).unwrap();
    assert_eq!((measures.requests, measures.errors), (2, 1));
}

#[tokio::test]
async fn the_same_number_again_is_asked_beside_and_takes_over_when_it_is_activated() {
    let bench = Bench::new(Settings::default());
    bench.deploy(1).await;
    bench.panics.store(false, Ordering::Release);
    bench.models.load(&name(), 1, Path::new("7"), Manifest::default()).await.unwrap();
    assert_eq!(bench.ask(Some(1)).await.unwrap().unwrap(), 1.0);
    let request = InferRequest::of(vec![Tensor::fp32("x", vec![1], &[0.0]).unwrap()]);
    let beside = bench.models.infer_beside(&name(), 1, request).await.unwrap();
    assert_eq!(beside.outputs[0].to_f64().unwrap(), [7.0]);
    bench.models.activate(&name(), 1).unwrap();
    assert_eq!(bench.ask(None).await.unwrap().unwrap(), 7.0);
}
