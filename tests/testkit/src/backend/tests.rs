//! The service's own rules.
