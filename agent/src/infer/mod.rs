//! Runs models. Knows tensors and engines, never HTTP.
