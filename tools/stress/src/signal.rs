//! Ctrl-C and SIGTERM: the first asks the run to leave off, clear up and report; the second ends the process at once.

use crate::engine::Stop;
use tokio::signal::unix::{SignalKind, signal};

/// The exit status of a process that a second signal ended: 128 + SIGINT, as shells have it.
const STATUS_KILLED: i32 = 130;

/// Hears the signals from now on, on a thread of its own.
///
/// # Errors
/// The thread or its handlers cannot be made.
pub fn stop_on_signals() -> std::io::Result<Stop> {
    let stop = Stop::default();
    let asked = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let hear = move || {
        runtime.block_on(async {
            for heard in 0.. {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                if heard > 0 {
                    std::process::exit(STATUS_KILLED);
                }
                eprintln!("\nstopping, clearing up; once more to end at once and leave the files");
                asked.set();
            }
        });
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(hear)?;
    Ok(stop)
}
