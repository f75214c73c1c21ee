//! What people do with accounts: init, add, reauth, import, export, use, run, rm, at a prompt and in scripts.

mod access;
mod add;
mod edit;
mod import;
mod init;
mod logins;
mod path;
mod real;
mod reauth;
mod run;
mod set;
mod switch;
