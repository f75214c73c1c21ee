//! How codex-pool reaches a machine and leaves it again: install.sh, the skill's script, the workflows' shell
//! steps, `update`, completions. Everything runs in a home of its own against a release server on loopback.

mod completions;
mod extras;
mod hostile;
mod hostile_removal;
mod install;
mod neighbour;
mod newest;
mod place;
mod refusals;
mod runner;
mod skill;
mod targets;
mod uninstall;
mod update;
mod ways;
mod whole;
mod workflows;
