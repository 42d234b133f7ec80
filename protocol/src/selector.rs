//! Label selectors as kubectl writes them.
