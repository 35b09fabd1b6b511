//! Reads definitions.
