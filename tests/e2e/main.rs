//! Real processes and real sockets: a file per feature word, and a file per thing that goes wrong.
//!
//! Tests run one at a time, because they measure and share the machine. Figures are printed with
//! `figure:` before them.

mod admin;
mod catch_up;
mod connections;
mod demo;
mod failover;
mod fetch;
mod groups_cost;
mod input;
mod pause;
mod produce;
mod restart;
mod stop;
