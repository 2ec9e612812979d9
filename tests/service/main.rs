//! The recorder as a service: what the service manager is told, with which rights it runs, what it
//! keeps to, and what others can see of how it goes.

#[path = "../harness/mod.rs"]
mod harness;

mod generated;
mod journal;
mod limits;
mod manager;
mod metrics_socket;
mod package;
mod rights;
mod status;
mod unit;
