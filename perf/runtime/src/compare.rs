//! Five rounds of all engines, turn by turn, so that a disturbance of the machine falls on all of them.

use std::path::Path;
use std::process::{Command, ExitCode};

const ENGINES: [&str; 3] = ["bare", "glommio", "forebay"];
/// Block in bytes, reads in flight.
const SHAPES: [(usize, usize); 4] = [(4096, 1), (4096, 32), (1 << 20, 1), (1 << 20, 8)];
const ROUNDS: usize = 5;
const SECONDS: usize = 2;
/// What the runtime must reach of bare io_uring.
const TARGET: f64 = 0.95;

/// What one turn measured.
#[derive(Debug, Clone, Copy)]
struct Turn {
    reads_per_second: f64,
    cpu_micros_per_read: f64,
}

fn turn(engine: &str, file: &Path, (block, depth): (usize, usize)) -> Turn {
    let me = std::env::current_exe().expect("the program has a path");
    let arguments = [block, depth, SECONDS].map(|n| n.to_string());
    let output = Command::new(me).args(["run", engine]).arg(file).args(arguments).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [reads, time, cpu] = numbers[..] else {
        panic!("{engine} failed: {}", String::from_utf8_lossy(&output.stderr))
    };
    Turn { reads_per_second: reads / time, cpu_micros_per_read: cpu / reads * 1e6 }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints the table; fails when Forebay is below the target in any shape.
pub fn run(file: &Path) -> ExitCode {
    println!("| block | depth | engine | reads/s | GB/s | CPU us/read | of bare | per round |");
    println!("|---|---|---|---|---|---|---|---|");
    let missed = SHAPES.iter().filter(|shape| !compare(file, **shape)).count();
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn compare(file: &Path, shape: (usize, usize)) -> bool {
    let rounds: Vec<[Turn; 3]> =
        (0..ROUNDS).map(|_| ENGINES.map(|engine| turn(engine, file, shape))).collect();
    let speed = |e: usize| median(rounds.iter().map(|round| round[e].reads_per_second).collect());
    let cpu = |e: usize| median(rounds.iter().map(|round| round[e].cpu_micros_per_read).collect());
    // Within a round the machine is the same for all, so the ratio is taken there and then its median.
    let ratios =
        |e: usize| rounds.iter().map(|r| r[e].reads_per_second / r[0].reads_per_second).collect::<Vec<f64>>();
    for (e, engine) in ENGINES.iter().enumerate() {
        let (block, depth) = shape;
        let each = ratios(e).iter().map(|r| format!("{r:.2}")).collect::<Vec<_>>().join(" ");
        let rate = speed(e) * block as f64 / 1e9;
        let of_bare = median(ratios(e));
        println!(
            "| {block} | {depth} | {engine} | {:.0} | {rate:.2} | {:.2} | {of_bare:.3} | {each} |",
            speed(e),
            cpu(e)
        );
    }
    median(ratios(2)) >= TARGET
}
