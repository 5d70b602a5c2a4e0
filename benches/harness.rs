//! What the timing of a sweep adds to a call: work of about a millisecond timed call by call in turns, against the same work
//! in one plain loop, and a call that does nothing.
//!
//! ```sh
//! cargo bench -p dlopt-bench --bench harness
//! ```

use std::hint::black_box;
use std::time::Instant;

use dlopt_bench::in_turns;

/// Multiply-adds in a chain, about a millisecond of them.
#[inline(never)]
fn work() -> f64 {
    (0..400_000).fold(black_box(0.5), |x, i| x * 0.999 + f64::from(i) * 1e-9)
}

/// The median time of a call, in microseconds, of pieces of a plain loop: other work on the machine stretches few of them.
fn plain_loop() -> f64 {
    const CALLS: u32 = 2;
    let piece = |_| {
        let began = Instant::now();
        for _ in 0..CALLS {
            black_box(work());
        }
        began.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
    };
    let mut pieces: Vec<f64> = (0..250).map(piece).collect();
    pieces.sort_by(f64::total_cmp);
    pieces[pieces.len() / 2]
}

fn main() {
    let mut nothing = || {
        black_box(0);
        Ok(())
    };
    let empty = in_turns(&mut [&mut nothing], 0.5).expect("nothing fails");
    println!("a call that does nothing: {:.3} µs", empty[0].median);
    let mut shares: Vec<f64> = (0..7)
        .map(|_| {
            let plain = plain_loop();
            let mut timed = || {
                black_box(work());
                Ok(())
            };
            let timing = in_turns(&mut [&mut timed], 0.5).expect("work does not fail");
            println!("{plain:.1} µs a call in a plain loop, {:.1} µs timed", timing[0].median);
            timing[0].median / plain
        })
        .collect();
    shares.sort_by(f64::total_cmp);
    println!("timed over plain: {:.4} (median of 7)", shares[3]);
}
