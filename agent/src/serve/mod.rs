//! The Open Inference Protocol v2 over HTTP on localhost; imports `infer`, never the reverse.
