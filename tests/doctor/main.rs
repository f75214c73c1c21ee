//! The doctor: for each check something that provokes it, and what `--fix` does about it. Without `--fix` it changes
//! nothing, and one fault does not hide another.

mod accounts;
mod clinic;
mod environment;
mod folders;
mod main_home;
mod online;
mod pool;
mod programs;
mod whole;
