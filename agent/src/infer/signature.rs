//! What a model takes and gives, and the check of a request against it.

use super::InferError;
use aidos_protocol::oip::{DataType, InferRequest, Tensor, views::TensorMetadata};

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The name in the graph.
    pub name: String,
    /// The element type.
    pub datatype: DataType,
    /// Dimensions, `None` for any size; `None` as a whole where the file does not even tell how many there are.
    pub shape: Option<Vec<Option<usize>>>,
}

impl Port {
    /// Dimensions as the protocol writes them: -1 is any size. A shape that is not known at all is `[-1]`.
    pub fn dims(&self) -> Vec<i64> {
        let dim = |dim: &Option<usize>| dim.map_or(-1, |dim| i64::try_from(dim).unwrap_or(i64::MAX));
        self.shape.as_ref().map_or_else(|| vec![-1], |dims| dims.iter().map(dim).collect())
    }

    /// The shape, where every dimension is fixed.
    pub fn fixed(&self) -> Option<Vec<usize>> {
        self.shape.as_ref()?.iter().copied().collect()
    }

    fn admits(&self, shape: &[usize]) -> bool {
        let fits = |(dim, is): (&Option<usize>, &usize)| dim.is_none_or(|dim| dim == *is);
        self.shape.as_ref().is_none_or(|dims| dims.len() == shape.len() && dims.iter().zip(shape).all(fits))
    }
}

impl From<&Port> for TensorMetadata {
    fn from(port: &Port) -> Self {
        Self { name: port.name.clone(), datatype: port.datatype, shape: port.dims() }
    }
}

/// All inputs and outputs, in the graph's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signature {
    /// What must be sent.
    pub inputs: Vec<Port>,
    /// What comes back.
    pub outputs: Vec<Port>,
}

impl Signature {
    /// The request's inputs in the graph's order, if they are exactly those that the model takes.
    pub fn arrange(&self, request: &InferRequest) -> Result<Vec<Tensor>, InferError> {
        for tensor in &request.inputs {
            let name = tensor.name();
            let port = self.inputs.iter().find(|port| port.name == name);
            let port = port.ok_or_else(|| InferError::UnknownInput { name: name.into(), known: names(&self.inputs) })?;
            let name = || port.name.clone();
            if port.datatype != tensor.datatype() {
                return Err(InferError::WrongType { name: name(), expected: port.datatype, found: tensor.datatype() });
            }
            if !port.admits(tensor.shape()) {
                let (expected, found) = (format!("{:?}", port.dims()), tensor.shape().to_vec());
                return Err(InferError::WrongShape { name: name(), expected, found });
            }
        }
        let sent = |port: &Port| {
            let tensor = request.inputs.iter().find(|tensor| tensor.name() == port.name).cloned();
            tensor.ok_or_else(|| InferError::MissingInput { name: port.name.clone(), known: names(&self.inputs) })
        };
        self.inputs.iter().map(sent).collect()
    }

    /// The positions of the outputs that the request wants, in the order it wants them.
    pub fn select(&self, request: &InferRequest) -> Result<Vec<usize>, InferError> {
        if request.outputs.is_empty() {
            return Ok((0..self.outputs.len()).collect());
        }
        let position = |name: &str| {
            let position = self.outputs.iter().position(|port| port.name == name);
            position.ok_or_else(|| InferError::UnknownOutput { name: name.into(), known: names(&self.outputs) })
        };
        request.wanted().map(position).collect()
    }
}

fn names(ports: &[Port]) -> String {
    ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use aidos_protocol::oip::RequestedOutput;

    fn signature() -> Signature {
        let port = |name: &str, shape| Port { name: name.into(), datatype: DataType::Fp32, shape };
        Signature {
            inputs: vec![port("a", Some(vec![None, Some(2)])), port("b", None)],
            outputs: vec![port("y", None), port("z", None)],
        }
    }
    fn tensor(name: &str, shape: Vec<usize>) -> Tensor {
        let values = vec![0.0; shape.iter().product()];
        Tensor::fp32(name, shape, &values).unwrap()
    }
    fn said(inputs: Vec<Tensor>) -> String {
        signature().arrange(&InferRequest::of(inputs)).unwrap_err().to_string()
    }

    #[test]
    fn inputs_come_in_the_graphs_order() {
        let request = InferRequest::of(vec![tensor("b", vec![5]), tensor("a", vec![7, 2])]);
        let arranged = signature().arrange(&request).unwrap();
        assert_eq!(arranged.iter().map(Tensor::name).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_does_not_fit_is_named_with_what_would() {
        assert_eq!(said(vec![tensor("c", vec![1])]), "the model has no input `c`; its inputs are: a, b");
        assert_eq!(said(vec![tensor("a", vec![1, 2])]), "the input `b` is missing; the model's inputs are: a, b");
        assert_eq!(said(vec![tensor("a", vec![1, 3])]), "input `a` must have shape [-1, 2], but [1, 3] came (-1 is any size)");
        assert_eq!(said(vec![tensor("a", vec![2])]), "input `a` must have shape [-1, 2], but [2] came (-1 is any size)");
        let bytes = Tensor::bytes("a", vec![1, 2], &["x", "y"]).unwrap();
        assert_eq!(said(vec![bytes]), "input `a` must be FP32, but BYTES came");
    }

    #[test]
    fn outputs_come_in_the_order_asked_and_unknown_ones_are_named() {
        let ask = |names: &[&str]| InferRequest {
            outputs: names.iter().map(|name| RequestedOutput { name: (*name).into(), binary: None }).collect(),
            ..InferRequest::default()
        };
        assert_eq!(signature().select(&ask(&[])).unwrap(), [0, 1]);
        assert_eq!(signature().select(&ask(&["z", "y"])).unwrap(), [1, 0]);
        let error = signature().select(&ask(&["w"])).unwrap_err();
        assert_eq!(error.to_string(), "the model has no output `w`; its outputs are: y, z");
    }
}
