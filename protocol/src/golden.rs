//! Golden cases: inputs and the outputs they must give, which travel with a model so that a device tests it before it answers.
//!
//! A JSON artifact; requests and responses are those of the Open Inference Protocol v2. Comparing is here, running is not.

use crate::oip::{InferRequest, InferResponse, OipError};
use serde::{Deserialize, Serialize};

/// The most cases of one model: a self-test is a matter of seconds.
pub const MAX_CASES: usize = 64;
/// Bytes of the file: a few pictures as numbers.
pub const MAX_GOLDEN_BYTES: usize = 4 << 20;
/// Used where the file names none: what two right engines differ by in single precision.
const TOLERANCE: f64 = 1e-3;

/// What a model must answer to what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// The most that an element may differ: absolutely, or relative to the expected value when that is larger than 1.
    #[serde(default = "tolerance")]
    pub tolerance: f64,
    /// The longest that one case may take, in milliseconds; absent: any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// At least one.
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// For people.
    #[serde(default)]
    pub name: String,
    /// The body of an infer request.
    pub request: serde_json::Value,
    /// The body of the response; only the outputs that it lists are compared.
    pub response: serde_json::Value,
}

fn tolerance() -> f64 {
    TOLERANCE
}

/// A golden file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// Over its limit.
    #[error("the golden file has {0} bytes, the limit is {MAX_GOLDEN_BYTES}: keep fewer or smaller cases")]
    Long(usize),
    /// Not JSON, or not this shape.
    #[error("the golden file cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// No or too many cases, or a tolerance that is none.
    #[error("the golden file is not valid: {0}")]
    Value(String),
    /// A case whose request or response is not the protocol's.
    #[error("golden case {index} (`{name}`) is not valid: {source}")]
    Case {
        /// From 0.
        index: usize,
        /// Its name.
        name: String,
        /// Why.
        source: OipError,
    },
}

/// A case, read.
#[derive(Debug)]
pub struct Exchange {
    /// What to ask.
    pub request: InferRequest,
    /// What must come.
    pub expected: InferResponse,
}

impl Golden {
    /// Reads and checks a golden file.
    pub fn from_json(bytes: &[u8]) -> Result<Self, GoldenError> {
        if bytes.len() > MAX_GOLDEN_BYTES {
            return Err(GoldenError::Long(bytes.len()));
        }
        let golden: Self = serde_json::from_slice(bytes)?;
        if golden.cases.is_empty() || golden.cases.len() > MAX_CASES {
            return Err(GoldenError::Value(format!("{} cases, 1 to {MAX_CASES} are possible", golden.cases.len())));
        }
        if !(golden.tolerance.is_finite() && golden.tolerance >= 0.0) {
            return Err(GoldenError::Value("tolerance must be a number of at least 0".into()));
        }
        for index in 0..golden.cases.len() {
            golden.exchange(index)?;
        }
        Ok(golden)
    }

    /// The case at `index`, which must be below the number of cases.
    pub fn exchange(&self, index: usize) -> Result<Exchange, GoldenError> {
        let case = &self.cases[index];
        let wrong = |source| GoldenError::Case { index, name: case.name.clone(), source };
        let request = InferRequest::decode(case.request.to_string().into(), None).map_err(wrong)?;
        let expected = InferResponse::decode(case.response.to_string().into(), None).map_err(wrong)?;
        Ok(Exchange { request, expected })
    }

    /// The largest difference between the expected outputs and those that came, or what is missing or of another shape.
    /// The difference is relative where the expected value is larger than 1, and infinite where a number is none.
    pub fn difference(expected: &InferResponse, came: &InferResponse) -> Result<f64, String> {
        let mut largest: f64 = 0.0;
        for want in &expected.outputs {
            let Some(is) = came.outputs.iter().find(|output| output.name() == want.name()) else {
                return Err(format!("output `{}` is missing", want.name()));
            };
            if (is.datatype(), is.shape()) != (want.datatype(), want.shape()) {
                let (datatype, shape) = (is.datatype(), is.shape());
                return Err(format!(
                    "output `{}` is {datatype:?} {shape:?}, expected {:?} {:?}",
                    want.name(),
                    want.datatype(),
                    want.shape()
                ));
            }
            match (want.to_f64(), is.to_f64()) {
                (Some(want), Some(is)) => {
                    largest = want.iter().zip(&is).map(|(want, is)| apart(*want, *is)).fold(largest, f64::max);
                }
                _ if want.data() == is.data() => {}
                _ => return Err(format!("output `{}` differs", want.name())),
            }
        }
        Ok(largest)
    }
}

fn apart(want: f64, is: f64) -> f64 {
    if want == is || (want.is_nan() && is.is_nan()) {
        return 0.0;
    }
    let apart = (want - is).abs() / want.abs().max(1.0);
    if apart.is_nan() { f64::INFINITY } else { apart }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn golden(outputs: serde_json::Value) -> Result<Golden, GoldenError> {
        let request = json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1], "data": [1.0] }] });
        let response = json!({ "model_name": "m", "outputs": outputs });
        let file = json!({ "tolerance": 0.01, "cases": [{ "name": "one", "request": request, "response": response }] });
        Golden::from_json(file.to_string().as_bytes())
    }

    fn output(values: &[f64]) -> serde_json::Value {
        json!([{ "name": "y", "datatype": "FP32", "shape": [values.len()], "data": values }])
    }

    fn difference(want: &[f64], is: &[f64]) -> Result<f64, String> {
        let (want, is) = (golden(output(want)).unwrap(), golden(output(is)).unwrap());
        Golden::difference(&want.exchange(0).unwrap().expected, &is.exchange(0).unwrap().expected)
    }

    #[test]
    fn the_difference_is_absolute_for_small_values_and_relative_for_large_ones() {
        assert_eq!(difference(&[0.5, 2.0], &[0.5, 2.0]), Ok(0.0));
        assert!((difference(&[0.25], &[0.5]).unwrap() - 0.25).abs() < 1e-6);
        assert!((difference(&[200.0], &[220.0]).unwrap() - 0.1).abs() < 1e-6);
    }

    #[test]
    fn another_shape_or_a_missing_output_is_told() {
        assert!(difference(&[1.0], &[1.0, 2.0]).unwrap_err().contains("expected"));
        let want = golden(output(&[1.0])).unwrap().exchange(0).unwrap().expected;
        let none = InferResponse { outputs: Vec::new(), ..golden(output(&[1.0])).unwrap().exchange(0).unwrap().expected };
        assert!(Golden::difference(&want, &none).unwrap_err().contains("missing"));
    }

    #[test]
    fn a_file_that_cannot_be_used_says_which_case() {
        let message = golden(json!([{ "name": "y", "datatype": "FP32", "shape": [3], "data": [1.0] }])).unwrap_err().to_string();
        assert!(message.contains("case 0 (`one`)"), "{message}");
        assert!(Golden::from_json(br#"{"cases":[]}"#).unwrap_err().to_string().contains("1 to 64"));
        assert!(matches!(Golden::from_json(&vec![b' '; MAX_GOLDEN_BYTES + 1]), Err(GoldenError::Long(_))));
    }
}
