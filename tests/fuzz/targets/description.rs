//! Descriptions of networks, for samples of every kind: read, resolved and counted, or refused.
#![no_main]

use dlopt_model::{Description, FlatLayout, ModelConfig, Shape, Summary};
use libfuzzer_sys::fuzz_target;

const SAMPLES: [Shape; 4] = [
    Shape::Image { height: 8, width: 6, channels: 3 },
    Shape::Series { time: 9, features: 4 },
    Shape::Vector { features: 12 },
    Shape::Tokens { time: 7 },
];

fuzz_target!(|text: &str| {
    let Ok(description) = Description::from_toml(text) else { return };
    for input in SAMPLES {
        let Ok(config) = ModelConfig::new(&description, input, 3, Vec::new()) else { continue };
        if let Ok(nodes) = config.resolve() {
            FlatLayout::of(&nodes);
            if let Ok(summary) = Summary::of(&config, &nodes, 32, 2) {
                summary.text();
            }
        }
        let back = ModelConfig::from_json(&config.to_json());
        assert!(back.is_ok_and(|back| back == config), "a config is read as it was written");
    }
});
