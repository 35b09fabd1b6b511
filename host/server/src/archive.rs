//! Finished runs in files: everything of a run that the store has, written down before retention erases it, and read without a host.
//!
//! A file is JSON Lines. Each line is an object with one field, whose name says what the line is ([`form::Line`]): `archive` first, `end`
//! last. Where a line shows what the API shows, it has the API's shape. Events stand with their data byte for byte, so that their hash chain
//! can be verified from the file alone; the end has a hash over all that stands before it, for what the chain does not cover.
//!
//! Invariant: under its name a file is whole. It is written aside, made durable, renamed, and the directories made durable, in this order;
//! whatever ends us in between leaves a file under `.partial`, which goes after a while.
//!
//! Deliberately absent: the files of steps. Their rows are here, with hashes; whoever wants the bytes copies the directory of artifacts.
//! Nor is anything here signed: whoever can write the directory can write another history.

pub mod form;
mod place;
pub mod read;
mod write;

pub use place::EXTENSION;
pub use write::ArchiveDir;
