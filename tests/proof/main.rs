//! Tries to break the promise that no login is ever lost: crashes at any instant, and system calls that fail.

mod crash;
mod dependencies;
mod descriptors;
mod faults;
mod lab;
mod model;
mod races;
mod random;
mod real;
mod scenarios;
mod security;
