//! Codebooks against optimal ones of others (`fixtures/golden/gen_codebooks.py`), and what holds for each.

use std::path::Path;

use dlopt_checkpoint::{Dtype, Pass};
use dlopt_quantize::{Dequantize, Quantize, Scheme, Values};
use proptest::prelude::*;
use serde_json::Value;

use crate::executor::{Memory, block, blocks, run};

fn quantize(scheme: &str) -> Quantize {
    Quantize::new(Scheme::parse(scheme).unwrap())
}

/// Weights as two layers of so many rows, one of them a convolution.
fn model(rows: usize, x: &[f32]) -> Memory {
    let bytes = |x: &[f32]| -> Vec<u8> { x.iter().flat_map(|x| x.to_le_bytes()).collect() };
    let mut model = Memory::default();
    model.add("m.up.weight", Dtype::F32, &[rows, x.len() / rows], bytes(x));
    model.add("conv.weight", Dtype::F32, &[rows, x.len() / rows, 1], bytes(x));
    model.with_config("{}")
}

fn floats(values: &Value) -> Vec<f64> {
    values.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn codebooks_are_the_optimal_ones_of_others() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/codebooks/optimal.json");
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(cases.len(), 7);
    for case in cases {
        let weights: Vec<f32> = floats(&case["weights"]).iter().map(|x| *x as f32).collect();
        let done = run(&quantize(&format!("codebook{}", case["bits"])), &model(1, &weights), 1).unwrap();
        let (found, expected) = (done.output.values("m.up.weight_codebook"), floats(&case["values"]));
        let (name, size) = (&case["name"], weights.iter().fold(0f32, |m, x| m.max(x.abs())));
        assert_eq!(found.len(), expected.len(), "{name}");
        for (found, expected) in found.iter().zip(&expected) {
            // A value is rounded to F32 once.
            assert!((found - expected).abs() <= f64::from(size) * 1e-7, "{name}: {found} {expected}");
        }
        let (noise, least) = (done.report("m.up.weight").noise, case["error"].as_f64().unwrap());
        assert!((noise - least).abs() <= 1e-5 * least, "{name}: {noise} {least}");
    }
}

#[test]
fn many_weights_are_shared_almost_as_well_as_could_be() {
    // Uniform weights: evenly spread values are the best, their error is that of the step.
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 * 2.0 - 1.0
    };
    let x: Vec<f32> = (0..512 * 300).map(|_| next()).collect();
    for (bits, tolerance) in [(4, 0.005), (8, 0.02)] {
        let report =
            run(&quantize(&format!("codebook{bits}")), &model(300, &x), 7).unwrap().report("m.up.weight").clone();
        let step = 2.0 / f64::from(1 << bits);
        let ratio = report.noise / (x.len() as f64 * step * step / 12.0);
        assert!((ratio - 1.0).abs() < tolerance, "{bits} bits: {ratio}");
    }
}

#[test]
fn the_plan_says_where_codes_and_values_lie() {
    let model = model(6, &[0.5; 6 * 35]);
    for (scheme, codes, values) in [
        ("codebook", [6, 6], vec![32]),
        ("codebook3:channel", [6, 4], vec![6, 1, 8]),
        ("codebook8:7", [6, 9], vec![6, 5, 256]),
    ] {
        let plan = quantize(scheme).plan(&model.header).unwrap();
        let names: Vec<&str> = plan.units[0].writes.iter().map(|w| w.info.name.as_str()).collect();
        assert_eq!(names, ["m.up.weight_packed", "m.up.weight_codebook"]);
        let shapes: Vec<&[usize]> = plan.units[0].writes.iter().map(|w| w.info.shape.as_slice()).collect();
        assert_eq!(shapes, [&codes[..], &values]);
        assert!(!plan.metadata["config"].contains("quantization_config"), "no runtime reads it");
    }
}

#[test]
fn broken_codebooks_are_named() {
    let done = run(&quantize("codebook2"), &model(3, &(0..21u8).map(f32::from).collect::<Vec<_>>()), 3).unwrap();
    let check = |file: &Memory| -> String {
        let plan = match Dequantize.plan(&file.header) {
            Ok(plan) => plan,
            Err(error) => return error.to_string(),
        };
        let check = |unit: &dlopt_checkpoint::Unit| -> Option<String> {
            let mut all = blocks(unit, unit.rows);
            all.find_map(|rows| Values::check(unit, &block(unit, file, rows)).err().map(|e| e.to_string()))
        };
        plan.units.iter().filter(|u| !u.is_copy).find_map(check).unwrap_or_default()
    };
    assert_eq!(check(&done.output), "");
    let values = done.output.header.tensors.iter().position(|t| t.name == "m.up.weight_codebook").unwrap();
    let mut broken = done.output.clone();
    broken.data[values][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(check(&broken).contains("`m.up.weight` has NaN among its shared values"), "{}", check(&broken));
    let mut broken = done.output.clone();
    broken.data[values][..4].copy_from_slice(&99f32.to_le_bytes());
    assert!(check(&broken).contains("behind 99; they ascend"), "{}", check(&broken));
    let mut broken = done.output.clone();
    broken.header.tensors[values].shape = vec![3];
    assert!(check(&broken).contains("as many values as codes"), "{}", check(&broken));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn few_distinct_weights_come_back_exactly_and_again(
        values in prop::collection::vec(-3.0f32..3.0, 1..8), picks in prop::collection::vec(0usize..9, 24), block in 1usize..5,
    ) {
        let x: Vec<f32> = picks.iter().map(|p| values.get(*p).copied().unwrap_or(0.0)).collect();
        for scheme in ["codebook3", "codebook3:channel", "codebook4:3"] {
            let done = run(&quantize(scheme), &model(4, &x), block).unwrap();
            let back = run(&Dequantize, &done.output, block).unwrap().output;
            for name in ["m.up.weight", "conv.weight"] {
                let expected: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
                prop_assert_eq!(&back.values(name), &expected);
                prop_assert_eq!(done.report(name).noise, 0.0);
            }
            let again = run(&quantize(scheme), &back, block).unwrap();
            prop_assert!(again.output.data == done.output.data, "{}", scheme);
        }
    }
}
