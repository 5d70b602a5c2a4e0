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
fn work() -> f64 {
    (0..400_000).fold(black_box(0.5), |x, i| x * 0.999 + f64::from(i) * 1e-9)
}

fn main() {
    const CALLS: u32 = 500;
    let mut nothing = || {
        black_box(0);
        Ok(())
    };
    let empty = in_turns(&mut [&mut nothing], 0.5).expect("nothing fails");
    println!("a call that does nothing: {:.3} µs", empty[0].median);
    // By turns, as a busy machine slows down whoever runs.
    let mut shares = Vec::new();
    for _ in 0..7 {
        let began = Instant::now();
        (0..CALLS).for_each(|_| drop(black_box(work())));
        let plain = began.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS);
        let mut timed = || {
            black_box(work());
            Ok(())
        };
        let timing = in_turns(&mut [&mut timed], plain * f64::from(CALLS) / 1e6).expect("work does not fail");
        let own = timing[0].rounds.iter().sum::<f64>() / timing[0].rounds.len() as f64;
        shares.push(own / plain);
        println!("{plain:.1} µs a call in a plain loop, {own:.1} µs timed");
    }
    shares.sort_by(f64::total_cmp);
    println!("timed over plain: {:.4} (median of 7)", shares[3]);
}
