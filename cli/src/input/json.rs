//! JSON into tensors: a whole request of the inference protocol, `{"input name": values, …}`, or bare nested arrays.

use super::names;
use crate::CliError;
use aidos_protocol::oip::views::{ModelMetadata, TensorMetadata};
use aidos_protocol::oip::{InferRequest, Tensor};
use serde_json::{Map, Value, json};

/// Nesting beyond this is no tensor.
const MAX_RANK: usize = 16;

/// Reads JSON for `model`; `name` says which input where the JSON does not.
pub(super) fn tensors(name: Option<&str>, text: &[u8], model: &ModelMetadata) -> Result<Vec<Tensor>, CliError> {
    let fail = |e: String| CliError::Usage(format!("the JSON input cannot be used: {e}"));
    let value: Value = serde_json::from_slice(text)
        .map_err(|e| fail(format!("{e}; write {{\"input\": values, …}}, the model takes {}", names(model))))?;
    let inputs = match (value, name) {
        (Value::Object(fields), None) if fields.get("inputs").is_some_and(Value::is_array) => {
            return decode(Value::Object(fields));
        }
        (Value::Object(fields), None) => fields,
        (value, Some(name)) => Map::from_iter([(name.to_owned(), value)]),
        (value, None) => match model.inputs.as_slice() {
            [one] => Map::from_iter([(one.name.clone(), value)]),
            _ => return Err(fail(format!("write {{\"input\": values, …}}; the model takes {}", names(model)))),
        },
    };
    let inputs = inputs.into_iter().map(|(name, values)| {
        let declared = model.inputs.iter().find(|i| i.name == name);
        let declared = declared.ok_or_else(|| fail(format!("there is no input `{name}`; the model takes {}", names(model))))?;
        tensor(declared, values).map_err(fail)
    });
    decode(json!({ "inputs": inputs.collect::<Result<Vec<_>, _>>()? }))
}

/// Values as an input of the inference protocol: the shape is the nesting's, or the declared one for a flat list that fills it.
fn tensor(declared: &TensorMetadata, values: Value) -> Result<Value, String> {
    let mut shape = Vec::new();
    let mut inner = &values;
    while let Value::Array(items) = inner {
        shape.push(items.len());
        if shape.len() > MAX_RANK {
            return Err(format!("`{}` is nested deeper than {MAX_RANK}", declared.name));
        }
        match items.first() {
            Some(first) => inner = first,
            None => break,
        }
    }
    if let [length] = shape[..] {
        let fixed: Option<Vec<usize>> = declared.shape.iter().map(|&n| usize::try_from(n).ok()).collect();
        let one_row: Vec<usize> = declared.shape.iter().map(|&n| usize::try_from(n).unwrap_or(1)).collect();
        if fixed.as_ref().unwrap_or(&one_row).iter().product::<usize>() == length {
            shape = one_row;
        }
    }
    let values = if values.is_array() { values } else { Value::Array(vec![values]) };
    Ok(json!({ "name": declared.name, "datatype": declared.datatype, "shape": shape, "data": values }))
}

fn decode(request: Value) -> Result<Vec<Tensor>, CliError> {
    let body = serde_json::to_vec(&request).map_err(anyhow::Error::from)?;
    let request = InferRequest::decode(body.into(), None);
    let request =
        request.map_err(|e| CliError::Usage(format!("{e}; `aidos model show NAME@VERSION` says what shapes the model takes")))?;
    Ok(request.inputs)
}
