//! ONNX in, facts out.
