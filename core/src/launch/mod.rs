//! A launch: from what the user typed to what is executed.

pub mod ledger;
