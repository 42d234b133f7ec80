//! Reconciles the models that intent asks for with those that are loaded.
