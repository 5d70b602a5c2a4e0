//! What holds for every weight, scheme and way to cut blocks.

use dlopt_checkpoint::Dtype;
use dlopt_quantize::{Dequantize, Quantize, SCHEMES, Scheme, Storage, methods::method_named};
use proptest::prelude::*;

use crate::executor::{Done, Memory, run};

/// Every scheme with scales, in every granularity it has.
fn schemes() -> Vec<Scheme> {
    let texts = SCHEMES.iter().flat_map(|p| {
        let name = p.name;
        ["", ":tensor", ":channel", ":7"].map(|granularity| format!("{name}{granularity}"))
    });
    let schemes: Vec<_> = texts.filter_map(|t| Scheme::parse(&t).ok()).filter(|s| s.format().is_some()).collect();
    assert!(schemes.len() > 15);
    schemes
}

fn quantize(scheme: &Scheme, method: &str, model: &Memory, rows: usize) -> Done {
    let mut pass = Quantize::new(scheme.clone());
    pass.method = method_named(method).unwrap();
    pass.fallback = dlopt_quantize::Fallback::Channel;
    run(&pass, model, rows).unwrap()
}

fn bytes_of(dtype: Dtype, x: &[f32]) -> Vec<u8> {
    match dtype {
        Dtype::F64 => x.iter().flat_map(|x| f64::from(*x).to_le_bytes()).collect(),
        Dtype::F32 => x.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Dtype::F16 => x.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect(),
        _ => x.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect(),
    }
}

/// A linear layer, a convolution and recurrent weights of the same numbers, with and without a config.
fn model(dtype: Dtype, rows: usize, columns: usize, x: &[f32], has_config: bool) -> Memory {
    let mut model = Memory::default();
    model.add("m.up.weight", dtype, &[rows, columns], bytes_of(dtype, x));
    model.add("conv.weight", dtype, &[rows, columns, 1], bytes_of(dtype, x));
    model.add("rnn.weight_ih", dtype, &[rows, columns], bytes_of(dtype, x));
    model.add("m.up.bias", dtype, &[1], bytes_of(dtype, &[1.0]));
    if has_config { model.with_config("{}") } else { model }
}

const WEIGHTS: [&str; 3] = ["m.up.weight", "conv.weight", "rnn.weight_ih"];

fn float() -> impl Strategy<Value = Dtype> {
    prop_oneof![Just(Dtype::F32), Just(Dtype::BF16), Just(Dtype::F16), Just(Dtype::F64)]
}

fn weight() -> impl Strategy<Value = f32> {
    prop_oneof![6 => -1.0f32..1.0, 1 => Just(0.0), 1 => Just(-0.0), 1 => -30.0f32..30.0, 1 => 0.0f32..1e-3]
}

fn matrix() -> impl Strategy<Value = (usize, usize, Vec<f32>)> {
    let sizes =
        prop_oneof![3 => (1usize..20, 1usize..60), 1 => (100usize..150, 1usize..5), 1 => (1usize..3, 100usize..300)];
    sizes.prop_flat_map(|(r, c)| (Just(r), Just(c), prop::collection::vec(weight(), r * c)))
}

fn has_codebooks(scheme: &Scheme) -> bool {
    scheme.storage.name() == "codebook"
}

/// How far a decoded weight may be: half a step, or as much as lies beyond the last code.
fn tolerance(scheme: &Scheme, x: f64, y: f64, largest: f64) -> f64 {
    let steps = f64::from(2u32.pow(scheme.bits) - 1);
    let step = match (scheme.numbers, scheme.is_symmetric) {
        // A rare weight may be far from all values.
        _ if has_codebooks(scheme) => 4.0 * largest,
        ("float", _) => (x.abs() / 8.0).max(largest / 448.0 / 512.0) * 1.01,
        // 7.5 steps to each side, and 7 codes to the positive one.
        (_, true) => largest / (steps / 2.0),
        // Extremes on both sides of 0 are at most twice the largest.
        (_, false) => 2.0 * largest / steps,
    };
    // Scales and products of 16 bits lose up to a 256th each; the smallest scales are the type's epsilon.
    0.5 * step * 1.02
        + largest / 128.0
        + x.abs().max(y.abs()) / 128.0
        + 1.0 / 128.0 * f64::from(u8::from(largest < 0.06))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn weights_come_back_within_half_a_step(
        (rows, columns, x) in matrix(), dtype in float(), has_config in any::<bool>(), block in 1usize..40,
    ) {
        let model = model(dtype, rows, columns, &x, has_config);
        for scheme in schemes() {
            let done = quantize(&scheme, "rtn", &model, block);
            let back = run(&Dequantize, &done.output, block).unwrap().output;
            prop_assert_eq!(back.header.tensors.len(), 4);
            for name in WEIGHTS {
                let (before, after) = (model.info(name), back.info(name));
                prop_assert_eq!(&before.shape, &after.shape);
                let is_served = has_config && name == "m.up.weight" && !has_codebooks(&scheme);
                let expected = if is_served && dtype == Dtype::F64 { Dtype::F32 } else { dtype };
                prop_assert_eq!(after.dtype, expected, "{} {}", name, scheme.label());
                let (x, y) = (model.values(name), back.values(name));
                let largest = x.iter().fold(0f64, |m, x| m.max(x.abs()));
                for (x, y) in x.iter().zip(&y) {
                    let tolerance = tolerance(&scheme, *x, *y, largest);
                    prop_assert!((x - y).abs() <= tolerance, "{}: {x} came back as {y}", scheme.label());
                    prop_assert!(*x != 0.0 || *y == 0.0, "{}: 0 came back as {y}", scheme.label());
                }
                let report = done.report(name);
                let noise: f64 = x.iter().zip(&y).map(|(x, y)| (x - y) * (x - y)).sum();
                let rounding = x.iter().map(|x| x * x).sum::<f64>();
                prop_assert!((report.noise.sqrt() - noise.sqrt()).abs() <= rounding.sqrt() / 128.0 + 1e-6);
                prop_assert_eq!(report.weights as usize, rows * columns);
            }
        }
    }

    #[test]
    fn cuts_into_blocks_do_not_show(
        (rows, columns, x) in matrix(), dtype in float(), block in 1usize..40, other in 1usize..40,
    ) {
        let model = model(dtype, rows, columns, &x, true);
        for (i, scheme) in schemes().iter().enumerate() {
            let method = ["rtn", "mse", "absmax"][i % 3];
            let (a, b) = (quantize(scheme, method, &model, block), quantize(scheme, method, &model, other));
            prop_assert_eq!(&a.output.header, &b.output.header);
            prop_assert!(a.output.data == b.output.data, "{}", scheme.label());
            for (a, b) in a.reports.iter().zip(&b.reports) {
                prop_assert_eq!((a.signal, a.noise, a.plain_noise), (b.signal, b.noise, b.plain_noise));
            }
        }
    }

    #[test]
    fn a_search_is_never_worse_than_round_to_nearest((rows, columns, x) in matrix(), dtype in float()) {
        let model = model(dtype, rows, columns, &x, true);
        // Codebooks are the best there are, whatever the method.
        for scheme in schemes().into_iter().filter(|scheme| !has_codebooks(scheme)) {
            let (plain, search) = (quantize(&scheme, "rtn", &model, 16), quantize(&scheme, "mse", &model, 16));
            for (plain, search) in plain.reports.iter().zip(&search.reports) {
                let least = search.plain_noise.unwrap();
                prop_assert!(search.noise <= least, "{}", scheme.label());
                // Sums of f32 in another order.
                prop_assert!((least - plain.noise).abs() <= 1e-4 * least + 1e-12, "{} {least} {}", scheme.label(), plain.noise);
            }
        }
    }
}

#[test]
fn absmax_clips_nothing_and_never_uses_the_lowest_code() {
    let x: Vec<f32> = (0..8 * 16).map(|i| ((i * 37 % 101) as f32 - 50.0) / 10.0).collect();
    let model = model(Dtype::F32, 8, 16, &x, true);
    let scheme = Scheme::parse("w4a16:channel").unwrap();
    let done = quantize(&scheme, "absmax", &model, 8);
    let back = run(&Dequantize, &done.output, 8).unwrap().output;
    for name in WEIGHTS {
        for (x, y) in model.values(name).chunks(16).zip(back.values(name).chunks(16)) {
            let largest = x.iter().fold(0f64, |m, x| m.max(x.abs()));
            let step = largest / 7.0;
            assert!(x.iter().zip(y).all(|(x, y)| (x - y).abs() <= 0.5 * step * 1.0001 && y.abs() <= largest * 1.0001));
            assert!(y.iter().any(|y| (y.abs() - largest).abs() < 1e-5 * largest), "{name}");
        }
    }
}

#[test]
fn zeros_stay_zeros_under_every_scheme() {
    let mut x: Vec<f32> = (0..20 * 35).map(|i| if i % 3 == 0 { 0.0 } else { (i % 13) as f32 * 0.1 - 0.2 }).collect();
    x[..35].fill(0.0);
    let zeros = x.iter().filter(|x| **x == 0.0).count();
    for dtype in [Dtype::F32, Dtype::BF16, Dtype::F16, Dtype::F64] {
        let model = model(dtype, 20, 35, &x, true);
        for scheme in schemes() {
            for method in ["rtn", "absmax", "mse"] {
                let done = quantize(&scheme, method, &model, 11);
                let back = run(&Dequantize, &done.output, 11).unwrap().output;
                for name in WEIGHTS {
                    let (before, after) = (model.values(name), back.values(name));
                    let kept = before.iter().zip(&after).filter(|(x, y)| **x == 0.0 && **y == 0.0).count();
                    assert_eq!(kept, zeros, "{}", scheme.label());
                    let all = after.iter().filter(|y| **y == 0.0).count() as f64;
                    assert_eq!(done.report(name).sparsity_before, zeros as f64 / 700.0);
                    assert_eq!(done.report(name).sparsity_after, all / 700.0, "{}", scheme.label());
                }
            }
        }
    }
}

#[test]
fn a_search_helps_where_a_few_weights_stand_out() {
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let x: Vec<f32> = (0..64 * 256).map(|_| next() + next() + next() + next() + next() + next()).collect();
    let model = model(Dtype::BF16, 64, 256, &x, true);
    for (scheme, gain) in [("w4a16:128", 0.9), ("w2a16:128", 0.7), ("w4a16:channel", 0.9), ("w4a16:tensor", 0.9)] {
        let scheme = Scheme::parse(scheme).unwrap();
        let report = quantize(&scheme, "mse", &model, 16).report("m.up.weight").clone();
        let share = report.noise / report.plain_noise.unwrap();
        println!("{}: {share:.3} of the error of round to nearest", scheme.label());
        assert!(share < gain, "{}: {share}", scheme.label());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn damaged_headers_are_refused_or_read_but_never_panic(
        which in 0usize..8, dims in prop::collection::vec(0usize..40, 0..4), dtype in 0usize..22,
        group in prop_oneof![Just(-1i64), 0i64..40, Just(i64::MAX)], bits in 0u32..10, rows in 1usize..9,
    ) {
        let x: Vec<f32> = (0..12 * 16).map(|i| i as f32).collect();
        for text in ["w4a16:8", "w4a16_asym:8", "w8a8", "fp8_block"] {
            let done = quantize(&Scheme::parse(text).unwrap(), "rtn", &model(Dtype::F32, 12, 16, &x, true), 12);
            let mut broken = done.output;
            let at = which % broken.header.tensors.len();
            let dtype = dlopt_checkpoint::DTYPES[dtype].0;
            if let Ok(bytes) = dlopt_checkpoint::tensor_bytes(dtype, &dims) {
                broken.header.tensors[at].dtype = dtype;
                broken.header.tensors[at].shape = dims.clone();
                broken.data[at] = vec![0x5a; bytes as usize];
            }
            let _ = run(&Dequantize, &broken, rows);
            let config = broken.header.metadata["config"].clone();
            let config = config.replace("\"group_size\": 8", &format!("\"group_size\": {group}"));
            let config = config.replace("\"num_bits\": 4", &format!("\"num_bits\": {bits}"));
            broken.header.metadata.insert("config".into(), config);
            let _ = run(&Dequantize, &broken, rows);
        }
    }
}

#[test]
fn dense_schemes_are_casts() {
    let model = model(Dtype::F32, 3, 5, &[0.1; 15], true);
    for (text, dtype) in [("bf16", Dtype::BF16), ("f16", Dtype::F16)] {
        let scheme = Scheme::parse(text).unwrap();
        assert!(matches!(scheme.storage, Storage::Dense(d) if d == dtype));
        let done = quantize(&scheme, "rtn", &model, 2);
        assert_eq!(done.output.info("conv.weight").dtype, dtype);
        assert_eq!(done.output.info("m.up.bias").dtype, Dtype::F32);
        assert!(done.report("conv.weight").sqnr_db.unwrap() > 40.0);
    }
}
