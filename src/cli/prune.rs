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
    let capacity =
        Capacity { max_bytes: args.max_size, max_age_ns: args.max_age, thin: args.thin.rules()? };
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
    let thinned = counted(pruned.thinned_samples.cast_unsigned(), "sample");
    match (pruned.thinned_samples, args.dry_run) {
        (0, _) => {}
        (_, true) => note(&format!("{thinned} would be thinned out")),
        (_, false) => note(&format!("thinned {thinned} out; `{file}` has {}", kib(&args.file))),
    }
    match (pruned.snapshots, args.dry_run) {
        (0, _) if pruned.thinned_samples > 0 => {}
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
