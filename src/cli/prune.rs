//! `sockrec prune`

use super::Exit;
use super::args::PruneArgs;
use super::extract::kib;
use super::message::{note, warn};
use super::output::counted;
use crate::kernel::SystemClock;
use crate::render::human::{Zone, time};
use crate::store::{Capacity, forecast, prune};

pub(super) fn run(args: &PruneArgs) -> anyhow::Result<Exit> {
    let capacity = Capacity { max_bytes: args.max_size, max_age_ns: args.max_age };
    let now = SystemClock.now();
    let pruned = if args.dry_run {
        forecast(&args.file, capacity, now)?
    } else {
        prune(&args.file, capacity, now)?
    };
    let file = args.file.display();
    let span = format!(
        "{} of {} to {}",
        counted(pruned.snapshots.cast_unsigned(), "snapshot"),
        time(pruned.from_ns, Zone::Local),
        time(pruned.to_ns, Zone::Local)
    );
    match (pruned.snapshots, args.dry_run) {
        (0, _) => note(&format!("nothing of `{file}` is beyond the limits that could go")),
        (_, true) => note(&format!("about {span} would go")),
        (_, false) => note(&format!("dropped {span}; `{file}` has {}", kib(&args.file))),
    }
    if pruned.is_beyond {
        warn(
            "it is still beyond the limits: the last group of snapshots, and what it needs, stays",
        );
        return Ok(Exit::Gaps);
    }
    Ok(Exit::Fine)
}
