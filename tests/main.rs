//! The integration tests: one binary, so that it links once.
//!
//! `end_to_end` starts the real `binnacle` and talks to it as its users do. `tidy` reads the repository.

mod end_to_end;
mod tidy;
