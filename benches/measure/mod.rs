//! What the benches share: children and what they cost, medians, and how a figure stands to its target.

#![allow(dead_code, reason = "each bench uses a part of it")]

use std::error::Error;
use std::mem::MaybeUninit;
use std::process::{Child, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A child that does not outlive the measurement.
pub struct Running(pub Child);

impl Running {
    /// User and system time of all threads.
    pub fn cpu_ms(&self) -> Result<f64> {
        let mut total_ns = 0.0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
            total_ns += stat.split(' ').next().unwrap_or("0").parse::<f64>()?;
        }
        Ok(total_ns / 1e6)
    }

    /// A line of `/proc/PID/status` that counts kB.
    pub fn memory_mb(&self, name: &str) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kb = line.and_then(|line| line.split_whitespace().next()).unwrap_or("0");
        Ok(kb.parse::<f64>()? * 1024.0 / 1e6)
    }

    /// Waits for its end, and gives the CPU that it took in all, with threads that had ended before.
    pub fn finish(&mut self) -> Result<(f64, ExitStatus)> {
        let before_ms = waited_for_ms()?;
        let status = self.0.wait()?;
        Ok((waited_for_ms()? - before_ms, status))
    }

    pub fn stop(&mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Has ended already unless something failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// User and system time of all children that were waited for.
fn waited_for_ms() -> Result<f64> {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the kernel fills `usage`, or says that it did not.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        usage.assume_init()
    };
    let ms = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    Ok(ms(usage.ru_utime) + ms(usage.ru_stime))
}

/// What a figure is meant to be.
#[derive(Clone, Copy)]
pub enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    /// Itself, and whether this figure reaches it.
    pub fn beside(self, figure: f64) -> String {
        let (sign, limit, is_met) = match self {
            Self::AtMost(limit) => ('≤', limit, figure <= limit),
            Self::AtLeast(limit) => ('≥', limit, figure >= limit),
        };
        format!("{sign} {limit} {}", if is_met { "met" } else { "MISSED" })
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The quantile of sorted values, of which there is at least one.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}
