//! Arbitrary bytes as a file to import: no panic, the same rounds each time they are read, in the order
//! of time, and messages that are of the family that they are handed out for.

#![no_main]

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, memfd_create};

use sockrec::foreign::{Import, Round};
use sockrec::model::Family;

fuzz_target!(|bytes: &[u8]| {
    let mut file = std::fs::File::from(memfd_create("import", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(bytes).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let Ok(import) = Import::open(&[path], Some(1_795_262_400_000_000_000)) else { return };
    let Ok(contents) = import.survey() else { return };
    let mut rounds = import.rounds();
    let (mut dumps, mut events) = (0, 0);
    let mut ended_ns = contents.started.boottime_ns;
    while let Some(mut round) = rounds.next_round().unwrap() {
        assert!(round.started.boottime_ns <= round.ended.boottime_ns);
        assert!(ended_ns <= round.ended.boottime_ns);
        ended_ns = round.ended.boottime_ns;
        dumps += round.dumps.len() as u64;
        events += round.events.len() as u64;
        check_families(&mut round);
    }
    assert_eq!(ended_ns, contents.ended.boottime_ns);
    assert_eq!((dumps, events), (contents.dumps, contents.events));
    assert_eq!(rounds.left_out, contents.left_out);
});

fn check_families(round: &mut Round) {
    for dump in &mut round.dumps {
        for family in Family::ALL {
            dump.each(family, &mut |payload, _| {
                let of = payload.first().copied().and_then(Family::from_number);
                assert!(of.is_none_or(|of| of == family));
            });
        }
    }
}
