//! What can go wrong, with the real program: bad input, others at the same file, signals, crashes,
//! full, slow and failing disks, too little memory, readers that go away. Each ends as it should, says so, and leaves a whole recording.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../common/not_run.rs"]
mod not_run;

mod arguments;
mod bad_input;
mod check;
mod crash;
mod disk;
mod disk_full;
mod elsewhere;
mod events;
mod followed;
mod hostile_file;
mod hostile_text;
mod markers;
mod memory;
mod moved;
mod output;
mod parts;
mod permissions;
mod planted;
mod retention;
mod salvage;
mod sharing;
mod signals;
mod thinning;
mod untested;
