//! What `aidos predict` takes: a PNG, a `.npy` array, or JSON, made into the tensors of a model.

mod image;
mod json;
mod npy;

use crate::CliError;
use aidos_protocol::manifest::Manifest;
use aidos_protocol::oip::Tensor;
use aidos_protocol::oip::views::ModelMetadata;
use std::path::Path;

/// A larger input does not fit the inference protocol's body limit either.
const MAX_INPUT_BYTES: u64 = 64 << 20;

/// Reads `--input` values: `FILE`, `NAME=FILE`, or `-` for JSON on standard input.
pub(crate) fn read(inputs: &[String], model: &ModelMetadata) -> Result<Vec<Tensor>, CliError> {
    let mut tensors = Vec::new();
    for input in inputs {
        let (name, file) = match input.split_once('=') {
            Some((name, file)) if model.inputs.iter().any(|i| i.name == name) => (Some(name), file),
            // A file's name may have a `=`, too.
            Some((name, _)) if !Path::new(input).exists() => {
                return Err(CliError::Usage(format!(
                    "model `{}` has no input `{name}`, and there is no file `{input}`; it takes {}",
                    model.name,
                    names(model)
                )));
            }
            _ => (None, input.as_str()),
        };
        tensors.extend(read_one(name, file, model)?);
    }
    Ok(tensors)
}

fn read_one(name: Option<&str>, file: &str, model: &ModelMetadata) -> Result<Vec<Tensor>, CliError> {
    let bytes = bytes(file)?;
    let of_file = |error| match error {
        CliError::Usage(text) => CliError::Usage(format!("{file}: {text}")),
        other => other,
    };
    let extension = Path::new(file).extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    if bytes.starts_with(b"\x89PNG") {
        let image = model.manifest.as_ref().and_then(|m: &Manifest| m.image.as_ref()).ok_or_else(|| {
            CliError::failed(
                format!("model `{}` does not declare an image input", model.name),
                "push it with a manifest that has an [image] section, or give it JSON or .npy",
            )
        })?;
        return Ok(vec![image::tensor(&bytes, image).map_err(of_file)?]);
    }
    if bytes.starts_with(b"\x93NUMPY") {
        let only = || match model.inputs.as_slice() {
            [one] => Ok(one.name.as_str()),
            many => Err(CliError::Usage(format!(
                "model `{}` has {} inputs: say which with --input NAME={file}; it takes {}",
                model.name,
                many.len(),
                names(model)
            ))),
        };
        return Ok(vec![npy::tensor(name.map_or_else(only, Ok)?, &bytes).map_err(of_file)?]);
    }
    if extension == "json" || file == "-" || bytes.first().is_some_and(|b| b"{[ \n\t".contains(b)) {
        return json::tensors(name, &bytes, model).map_err(of_file);
    }
    Err(CliError::Usage(format!("{file} is neither PNG, .npy nor JSON: give one of these (JPEG: convert it to PNG first)")))
}

fn names(model: &ModelMetadata) -> String {
    model.inputs.iter().map(|i| i.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn bytes(file: &str) -> Result<Vec<u8>, CliError> {
    use std::io::Read as _;
    let fail = |e: std::io::Error| {
        CliError::Usage(format!(
            "{file}: {e}; give --input a PNG, .npy or JSON file that you may read, or - for JSON on standard input"
        ))
    };
    let mut bytes = Vec::new();
    if file == "-" {
        std::io::stdin().lock().take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    } else {
        std::fs::File::open(file).map_err(fail)?.take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    }
    if bytes.len() as u64 > MAX_INPUT_BYTES {
        return Err(CliError::Usage(format!(
            "{file} has more than {MAX_INPUT_BYTES} bytes, which no inference request may have; give it in several requests"
        )));
    }
    Ok(bytes)
}
