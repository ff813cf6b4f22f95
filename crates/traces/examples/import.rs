//! Reads a trace and tells what is in it: `cargo run -p traces --example import -- LOG.swf.gz`.

use std::path::Path;
use std::process::ExitCode;

use traces::{Options, TraceError, Width, fit, read};
use twin::config::published_types;

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: import FILE");
        return ExitCode::from(2);
    };
    match tell(Path::new(&path)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed to {error}");
            ExitCode::FAILURE
        }
    }
}

fn tell(path: &Path) -> Result<(), TraceError> {
    let import = read(path, &Options::default(), &mut |p| eprint!("\r{} of {} bytes", p.bytes_read, p.bytes_total))?;
    eprintln!();
    for header in &import.headers {
        println!("{}: {}", header.key.as_deref().unwrap_or(""), header.value);
    }
    println!("{:?}", import.skipped);
    println!("{} bad lines: {}", import.bad.count, import.bad.in_words());
    let jobs = &import.jobs;
    let core_hours = jobs.iter().map(|j| f64::from(j.cores) * j.runtime_ms as f64).sum::<f64>() / 3.6e6;
    let days = jobs.last().map_or(0.0, |j| j.submit_ms as f64 / 86.4e6);
    let mut runtimes_ms: Vec<u64> = jobs.iter().map(|j| j.runtime_ms).collect();
    runtimes_ms.sort_unstable();
    println!("{} tasks in {days:.1} days, {core_hours:.0} core-hours", jobs.len());
    println!("median run time {} s", runtimes_ms[runtimes_ms.len() / 2] as f64 / 1000.0);
    println!("at most {:?} cores, {:?} MB", jobs.iter().map(|j| j.cores).max(), jobs.iter().map(|j| j.memory_mb).max());
    for width in [Width::Refuse, Width::Split] {
        match fit(import.jobs.clone(), &published_types(), width) {
            Ok(fitted) => {
                println!("{width:?}: {} split into {}, {} in all", fitted.split, fitted.pieces, fitted.jobs.len())
            }
            Err(error) => println!("{width:?}: failed to {error}"),
        }
    }
    Ok(())
}
