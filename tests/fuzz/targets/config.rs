//! Configs of networks as checkpoints carry them: read, resolved and counted, or refused.
#![no_main]

use dlopt_model::{FlatLayout, ModelConfig, Summary};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(config) = ModelConfig::from_json(text) else { return };
    let Ok(nodes) = config.resolve() else { return };
    FlatLayout::of(&nodes);
    if let Ok(summary) = Summary::of(&config, &nodes, 32, 2) {
        summary.text();
    }
});
