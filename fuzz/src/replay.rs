//! Puts every input of the corpora below the working directory through its target, and prints its name before.

use std::time::{Duration, Instant};
use tatara_fuzz::{TARGETS, inputs};

/// No input takes longer, not even unoptimised on a slow machine; in the fuzzer the limit is libFuzzer's `-timeout`.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> std::io::Result<()> {
    for target in TARGETS {
        for path in inputs(target.name)? {
            println!("{}", path.display());
            let input = std::fs::read(&path)?;
            let begun = Instant::now();
            (target.run)(&input);
            if begun.elapsed() > PATIENCE {
                return Err(std::io::Error::other(format!("{} took {:?}", path.display(), begun.elapsed())));
            }
        }
    }
    Ok(())
}
