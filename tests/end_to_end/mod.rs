//! The real binary, from outside.

mod alerting;
mod bad_input;
mod deploy;
mod differential;
mod expressions;
mod first_start;
mod harness;
mod kafka;
mod lose_nothing;
mod page;
mod push;
mod reload;
mod remote_write;
mod smtp;
