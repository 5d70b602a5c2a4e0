//! Small texts that people write: recipes of augmentation, sweeps, steps, rules, schemes, learning-rate schedules.
#![no_main]

use dlopt_augment::Recipe;
use dlopt_bench::sweep::Sweep;
use dlopt_data::Pipeline;
use dlopt_quantize::{Rule, Scheme};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = Sweep::parse(text, "sweep.toml", |_| Ok(()));
    let _ = Recipe::of_toml(text);
    if let Ok(step) = Pipeline::spec(text) {
        let _ = Pipeline::of(&[step]);
    }
    let _ = Recipe::of_ops(&[text]);
    let _ = Rule::parse(text);
    if let Ok(scheme) = Scheme::parse(text) {
        scheme.text();
    }
});
