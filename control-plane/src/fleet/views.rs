//! Views of rows for the REST API.
