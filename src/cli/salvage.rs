//! `sockrec salvage`

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Exit;
use super::args::SalvageArgs;
use super::extract::note_made;
use super::merge::counts;
use super::message::warn;
use super::output::counted;
use super::signals::{stop_at_signals, unless_stopped};
use crate::kernel::SystemClock;
use crate::render::human::{Zone, time};
use crate::store::{LostSpan, Salvaged, TableRead, is_being_recorded, salvage};

pub(super) fn run(args: &SalvageArgs) -> anyhow::Result<Exit> {
    let stop = stop_at_signals()?;
    unless_stopped(save(args, &stop), &stop, &args.output)
}

fn save(args: &SalvageArgs, stop: &Arc<AtomicBool>) -> anyhow::Result<Exit> {
    if is_being_recorded(&args.file) {
        anyhow::bail!("`{}` is being recorded to: it is not at rest", args.file.display());
    }
    let salvaged = salvage(&args.file, &args.output, SystemClock.now().utc_ns, stop)?;
    tell_losses(&salvaged, &args.file.display().to_string());
    let Some(saved) = salvaged.saved else {
        anyhow::bail!("nothing of `{}` can be saved: no snapshot is whole", args.file.display());
    };
    note_made(&args.output, &counts(&saved));
    Ok(if salvaged.has_losses() { Exit::Gaps } else { Exit::Fine })
}

fn tell_losses(salvaged: &Salvaged, file: &str) {
    for fault in &salvaged.faults {
        warn(&format!("`{file}`: {fault}"));
    }
    for (table, TableRead { rows, pages_lost, rows_lost }) in &salvaged.tables {
        if pages_lost + rows_lost > 0 {
            warn(&format!(
                "`{table}`: {} and {} could not be read, {} could",
                counted(*pages_lost, "page"),
                counted(*rows_lost, "further row"),
                counted(*rows, "row")
            ));
        }
    }
    for LostSpan { from_ns, to_ns, snapshots } in &salvaged.spans {
        let at = |ns: &Option<i64>| match ns {
            Some(ns) => time(*ns, Zone::Local).to_string(),
            None => "a time that is not known".to_owned(),
        };
        warn(&format!(
            "lost from {} to {}: {}",
            at(from_ns),
            at(to_ns),
            counted(*snapshots, "snapshot")
        ));
    }
    if salvaged.sockets_left_out > 0 {
        warn(&format!(
            "{} left out: what is left of them contradicts itself",
            match salvaged.sockets_left_out {
                1 => "1 socket was".to_owned(),
                n => format!("{n} sockets were"),
            }
        ));
    }
}
