//! Writes the seeds of every harness into a folder, each harness a folder of its own, and says on standard output which harnesses
//! there are: name, longest input, what it covers, with tabs between.

use std::path::PathBuf;

use anyhow::{Context, Result};

#[expect(clippy::print_stdout, reason = "what the program is for")]
fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.context("which folder?")?;
    for target in fuzz::TARGETS {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            let path = folder.join(format!("seed-{number}"));
            std::fs::write(&path, seed).with_context(|| format!("writing {}", path.display()))?;
        }
        println!("{}\t{}\t{}", target.name, target.longest, target.covers);
    }
    Ok(())
}
