//! Random worlds.

use sockrec::record::Budget;

use crate::harness::Random;
use crate::made_up::{Case, SECOND_NS, World};

/// Whatever happens, in the end it knows the truth.
#[test]
fn in_the_end_it_knows_the_truth() {
    for seed in 1..=60_u64 {
        let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut case = Case::new();
        case.budget = Budget { looks: 1 + random.below(300) as usize, cpu_ns: 200_000 };
        let mut next_inode = 1;
        let mut living = Vec::new();
        for _ in 0..150 {
            for _ in 0..random.below(6) {
                happen(&mut case.world, &mut random, &mut next_inode);
            }
            let now_living = sockets_of(&case.world);
            let gone: Vec<_> = living.iter().copied().filter(|i| !now_living.contains(i)).collect();
            let new: Vec<_> = now_living.iter().copied().filter(|i| !living.contains(i)).collect();
            case.tick(&new, &gone);
            living = now_living;
            case.pass();
            case.now_ns += i64::try_from(random.below(2)).unwrap() * SECOND_NS;
        }
        case.wait(300);
        for inode in living {
            let truth: Vec<_> = case
                .world
                .processes
                .iter()
                .filter(|(_, p)| p.sockets.contains(&inode))
                .map(|(pid, _)| *pid)
                .collect();
            assert_eq!(case.holders(inode), truth, "socket {inode}, seed {seed}");
        }
    }
}

fn sockets_of(world: &World) -> Vec<u32> {
    let mut sockets: Vec<_> =
        world.processes.values().flat_map(|p| p.sockets.iter().copied()).collect();
    sockets.sort_unstable();
    sockets.dedup();
    sockets
}

fn happen(world: &mut World, random: &mut Random, next_inode: &mut u32) {
    let pid = 1 + u32::try_from(random.below(12)).unwrap();
    let sockets = world.processes.get(&pid).map(|p| p.sockets.clone());
    let (Some(sockets), event) = (sockets, random.below(8)) else {
        world.start(pid, &[]);
        return;
    };
    match event {
        0 => drop(world.processes.remove(&pid)),
        1 => {
            let child = 1 + u32::try_from(random.below(12)).unwrap();
            world.start(child, &sockets);
        }
        2 => drop(world.at(pid).sockets.pop()),
        3 => {
            // Another in its place.
            world.at(pid).sockets.pop();
            world.at(pid).sockets.push(*next_inode);
            *next_inode += 1;
        }
        4 => world.evict(pid),
        5 => world.at(pid).files += 1,
        _ => {
            world.at(pid).sockets.push(*next_inode);
            *next_inode += 1;
        }
    }
}
