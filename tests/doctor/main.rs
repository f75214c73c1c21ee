//! The doctor: for each of its checks, something that provokes it, and what `--fix` makes of it. Looking
//! must change nothing, and one broken thing must not hide another.

mod accounts;
mod clinic;
mod environment;
mod main_home;
mod online;
mod pool;
mod programs;
mod whole;
