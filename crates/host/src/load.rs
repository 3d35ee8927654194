//! How busy this machine is, as load balancing sees it.
//!
//! Always true: a figure that cannot be read is 0, never an error: placement goes on with what there is.

use std::path::Path;

/// Load of this machine, in thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Time that the processors were busy since the last sample, of all they had.
    pub cpu_permille: u32,
    /// Memory that is not available, of all there is.
    pub memory_permille: u32,
}

/// Takes samples; processor load is what happened between two of them.
#[derive(Debug, Default)]
pub struct LoadMeter {
    last: Option<Ticks>,
}

/// Processor time since the machine started, in the kernel's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    all: u64,
}

impl LoadMeter {
    /// A meter whose first sample tells the load since the machine started.
    pub fn new() -> Self {
        Self::default()
    }

    /// The load now.
    pub fn sample(&mut self) -> Load {
        let ticks = std::fs::read_to_string("/proc/stat")
            .ok()
            .and_then(|text| ticks(&text));
        let last = self
            .last
            .replace(ticks.unwrap_or(Ticks { busy: 0, all: 0 }));
        let cpu_permille = match (ticks, last.unwrap_or(Ticks { busy: 0, all: 0 })) {
            (Some(now), then) => permille(
                now.busy.saturating_sub(then.busy),
                now.all.saturating_sub(then.all),
            ),
            (None, _) => 0,
        };
        let memory = std::fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| memory_permille(&text));
        Load {
            cpu_permille,
            memory_permille: memory.unwrap_or(0),
        }
    }
}

/// Free bytes for ordinary users on the file system of `path`; 0 when that cannot be found out.
pub fn disk_free(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn permille(part: u64, whole: u64) -> u32 {
    let value = part.saturating_mul(1000).checked_div(whole).unwrap_or(0);
    u32::try_from(value.min(1000)).unwrap_or(1000)
}

/// Reads the first line of `/proc/stat` (proc(5)): user, nice, system, idle, iowait, irq, softirq, steal; guest times are in user.
fn ticks(text: &str) -> Option<Ticks> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .take(8)
        .map_while(|field| field.parse().ok())
        .collect();
    let all = fields
        .iter()
        .fold(0u64, |sum, field| sum.saturating_add(*field));
    let idle = fields.get(3)?.saturating_add(*fields.get(4).unwrap_or(&0));
    Some(Ticks {
        busy: all.saturating_sub(idle),
        all,
    })
}

/// Reads `/proc/meminfo` (proc(5)).
fn memory_permille(text: &str) -> Option<u32> {
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':')
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    };
    let (all, free) = (field("MemTotal")?, field("MemAvailable")?);
    Some(permille(all.saturating_sub(free), all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read() {
        let text = "cpu  100 20 30 800 50 1 2 7 9 9\ncpu0 1 2 3 4\n";
        assert_eq!(
            ticks(text),
            Some(Ticks {
                busy: 160,
                all: 1010
            })
        );
        assert_eq!(ticks("cpu 1 2"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn memory_is_read() {
        assert_eq!(
            memory_permille("MemTotal:  1000 kB\nMemFree: 10 kB\nMemAvailable:  250 kB\n"),
            Some(750)
        );
        assert_eq!(memory_permille("MemTotal: x kB\n"), None);
        assert_eq!(
            memory_permille("MemTotal: 0 kB\nMemAvailable: 0 kB\n"),
            Some(0)
        );
    }

    #[test]
    fn this_machine_has_figures() {
        let mut meter = LoadMeter::new();
        assert!(meter.sample().memory_permille > 0);
        let again = meter.sample();
        assert!(
            again.cpu_permille <= 1000 && again.memory_permille <= 1000,
            "{again:?}"
        );
        assert!(disk_free(Path::new("/")) > 0);
        assert_eq!(disk_free(Path::new("/no/such/folder")), 0);
    }
}
