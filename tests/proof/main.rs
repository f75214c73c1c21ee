//! Tries to break the promise that no login is ever lost: crashes at any instant, and system calls that fail.

#[cfg(target_os = "linux")]
mod attendant;
#[cfg(target_os = "linux")]
mod bench;
#[cfg(target_os = "linux")]
mod calls;
mod crash;
mod dependencies;
#[cfg(target_os = "linux")]
mod descriptors;
#[cfg(target_os = "linux")]
mod faults;
mod lab;
mod model;
#[cfg(target_os = "linux")]
mod moving;
mod races;
mod random;
mod real;
#[cfg(target_os = "linux")]
mod scenarios;
mod security;
#[cfg(target_os = "linux")]
mod thread;
