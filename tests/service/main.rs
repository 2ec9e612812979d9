//! The recorder as a service: what the service manager is told, with which rights it runs, what it
//! keeps to, and what others can see of how it goes.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../common/not_run.rs"]
mod not_run;

mod generated;
mod journal;
mod limits;
mod manager;
mod metrics_socket;
mod package;
mod rights;
mod status;
mod unit;
