//! The budget solver on 1,000 tensors of 12 choices each: time, and how far from the bound of the linear program.
//!
//! ```sh
//! cargo bench -p dlopt-bench --bench budget
//! ```

use criterion::{Criterion, criterion_group, criterion_main};
use dlopt_bench::budget::{Choice, Item, solve};

/// Sizes of 1e3 to 1e6 weights, sensitivities over four orders of magnitude, 2 to 13 bits, errors that do not fall evenly.
fn items(random: &mut impl FnMut() -> f64) -> Vec<Item> {
    let item = |at: usize, random: &mut dyn FnMut() -> f64| {
        let weights = 10f64.powf(3.0 + 3.0 * random()) as u64;
        let sensitivity = 10f64.powf(4.0 * random() - 2.0);
        let choices = (2..14u64).map(|bits| Choice {
            bytes: weights * bits / 8,
            damage: sensitivity * 4f64.powf(-(bits as f64)) * (0.5 + random()),
        });
        Item { name: format!("t{at}"), choices: choices.collect() }
    };
    (0..1000).map(|at| item(at, random)).collect()
}

fn budgets(criterion: &mut Criterion) {
    let mut seed = 1u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as f64 / f64::from(1u32 << 31)
    };
    let items = items(&mut random);
    let weights: u64 = items.iter().map(|item| item.choices[0].bytes * 4).sum();
    let mut group = criterion.benchmark_group("budget_1000x12");
    group.sample_size(10);
    for bits in [2.5, 3.0, 4.0, 5.0, 8.0, 12.0] {
        let budget = (weights as f64 * bits / 8.0) as u64;
        let solution = solve(&items, budget).expect("the budget holds the smallest");
        println!("{bits} bits: {:.5} % above the bound, optimal: {}", 100.0 * solution.gap(), solution.is_optimal);
        group.bench_function(format!("{bits}_bits"), |bencher| bencher.iter(|| solve(&items, budget)));
    }
    group.finish();
}

criterion_group!(benches, budgets);
criterion_main!(benches);
