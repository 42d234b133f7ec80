//! Experiments with the version beside the one that answers: a copy of some requests (shadow), or a part of them (split).
//!
//! Invariants: what a caller gets in a shadow comes from the old version, at the old version's pace (copies that find no room
//! or no spare seat are dropped and counted); in a split by key, one key always meets the same version.

use super::Models;
use super::drift::class;
use aidos_protocol::ModelName;
use aidos_protocol::golden::Golden;
use aidos_protocol::oip::{InferRequest, InferResponse, Parameter};
use aidos_protocol::rollout::Experiment;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Copies that wait: enough for a burst of small ones.
const QUEUE: usize = 8;
/// Bytes of a request that is copied: with [`QUEUE`], 8 MiB are held at most.
const MAX_COPY: usize = 1 << 20;
/// The most that two numbers may differ to count as the same answer, where it is no vector of scores.
const TOLERANCE: f64 = 1e-2;

/// What an experiment has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compared {
    /// Answers compared.
    pub compared: u64,
    /// Of these, the same.
    pub agreed: u64,
    /// Requests that were to be copied and were not, since there was no room.
    pub dropped: u64,
}

/// One experiment that runs.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) version: u64,
    pub(super) experiment: Experiment,
    compared: AtomicU64,
    agreed: AtomicU64,
    dropped: AtomicU64,
    copies: Option<mpsc::Sender<Copied>>,
    task: Option<AbortHandle>,
}

#[derive(Debug)]
struct Copied {
    request: InferRequest,
    answer: InferResponse,
}

impl Trial {
    /// Begins; a shadow has a task of its own, which ends with the trial.
    pub(super) fn begin(models: &Models, name: &ModelName, version: u64, experiment: Experiment) -> Arc<Self> {
        let shadow = matches!(experiment, Experiment::Shadow { .. });
        let (copies, arrived) = mpsc::channel(QUEUE);
        Arc::new_cyclic(|trial| {
            let task = shadow.then(|| {
                let (models, name, trial) = (models.clone(), name.clone(), trial.clone());
                tokio::spawn(follow(models, name, trial, arrived)).abort_handle()
            });
            let count = AtomicU64::default;
            Self {
                version,
                experiment,
                compared: count(),
                agreed: count(),
                dropped: count(),
                copies: shadow.then_some(copies),
                task,
            }
        })
    }

    /// Whether the version beside answers this request.
    pub(super) fn diverts(&self, name: &ModelName, request: &InferRequest) -> bool {
        match &self.experiment {
            Experiment::Split { percent, key: None } => chance(*percent),
            // Without the key the request takes no part.
            Experiment::Split { percent, key: Some(key) } => {
                request.parameters.get(key).is_some_and(|value| share_of(name, value) < u64::from(*percent))
            }
            Experiment::Shadow { .. } => false,
        }
    }

    /// A copy of the request, when it is to be shown to the version beside.
    pub(super) fn copy(&self, request: &InferRequest) -> Option<InferRequest> {
        match self.experiment {
            Experiment::Shadow { percent } if chance(percent) => Some(request.clone()),
            _ => None,
        }
    }

    /// Hands over a copy with what the old version answered. Never waits.
    pub(super) fn show(&self, request: InferRequest, answer: &InferResponse) {
        let bytes: usize = request.inputs.iter().map(|tensor| tensor.data().len()).sum();
        let copied = Copied { request, answer: answer.clone() };
        let taken = bytes <= MAX_COPY && self.copies.as_ref().is_some_and(|copies| copies.try_send(copied).is_ok());
        if !taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn counts(&self) -> Compared {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Compared { compared: read(&self.compared), agreed: read(&self.agreed), dropped: read(&self.dropped) }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn follow(models: Models, name: ModelName, trial: std::sync::Weak<Trial>, mut arrived: mpsc::Receiver<Copied>) {
    while let Some(Copied { request, answer }) = arrived.recv().await {
        let Some(trial) = trial.upgrade() else { return };
        if !models.has_spare_seat() {
            trial.dropped.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        // Its failures are counted where all of its requests are.
        let Ok(came) = models.infer_beside(&name, trial.version, request).await else { continue };
        trial.compared.fetch_add(1, Ordering::Relaxed);
        if agree(&answer, &came) {
            trial.agreed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether two answers say the same: the same class of each vector of scores, or numbers that hardly differ.
fn agree(answer: &InferResponse, came: &InferResponse) -> bool {
    let scores = |response: &InferResponse| -> Option<Vec<Option<usize>>> {
        response
            .outputs
            .iter()
            .map(|tensor| (tensor.elements() > 1).then(|| tensor.to_f64()).flatten().map(|all| class(&all)))
            .collect()
    };
    match (scores(answer), scores(came)) {
        (Some(answer), Some(came)) if answer.iter().all(Option::is_some) => answer == came,
        _ => Golden::difference(answer, came).is_ok_and(|difference| difference <= TOLERANCE),
    }
}

fn chance(percent: u8) -> bool {
    rand::random_range(0..100u8) < percent
}

/// 0 to 99, the same for the same key on every device and after every restart.
fn share_of(name: &ModelName, value: &Parameter) -> u64 {
    let text = match value {
        Parameter::Text(text) => text.clone(),
        Parameter::Int(number) => number.to_string(),
        Parameter::Bool(flag) => flag.to_string(),
        Parameter::Float(number) => number.to_string(),
    };
    let hash = Sha256::digest([name.as_str().as_bytes(), b"\0", text.as_bytes()].concat());
    hash.first_chunk::<8>().map_or(0, |head| u64::from_be_bytes(*head)) % 100
}

#[cfg(test)]
mod tests {
    use super::*;
    use aidos_protocol::oip::Tensor;

    fn response(values: &[f32]) -> InferResponse {
        InferResponse { outputs: vec![Tensor::fp32("y", vec![values.len()], values).unwrap()], ..InferResponse::default() }
    }

    #[test]
    fn answers_agree_by_class_where_they_are_scores_and_by_number_where_not() {
        assert!(agree(&response(&[0.1, 0.9]), &response(&[0.4, 0.6])));
        assert!(!agree(&response(&[0.1, 0.9]), &response(&[0.6, 0.4])));
        assert!(agree(&response(&[0.5]), &response(&[0.505])));
        assert!(!agree(&response(&[0.5]), &response(&[0.6])));
        assert!(!agree(&response(&[0.5]), &response(&[0.1, 0.9])));
    }

    #[test]
    fn a_keys_share_is_stable_and_the_shares_are_even() {
        let name: ModelName = "digits".parse().unwrap();
        let share = |n: i64| share_of(&name, &Parameter::Int(n));
        assert_eq!(share(7), share_of(&name, &Parameter::Text("7".into())));
        let below = (0..10_000).filter(|n| share(*n) < 20).count();
        assert!((1_800..2_200).contains(&below), "{below}");
    }
}
