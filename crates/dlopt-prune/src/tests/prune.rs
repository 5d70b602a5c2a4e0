use dlopt_checkpoint::{Dtype, Fault, NameGlob, Pass, Selection, read_history, read_layout};
use dlopt_kernels::{Level, limit_level};
use proptest::prelude::*;

use super::executor::{Memory, decode, run};
use crate::{Claim, Densify, Pattern, Prune, PruneOptions, PruneScope, claims, is_pruned, zeros_at};

const FLOATS: [Dtype; 4] = [Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::F64];

fn unstructured(sparsity: f64) -> PruneOptions {
    PruneOptions { sparsity: Some(sparsity), ..PruneOptions::default() }
}

fn n_of_m(pattern: &str) -> PruneOptions {
    PruneOptions { pattern: pattern.to_owned(), ..PruneOptions::default() }
}

fn global(options: PruneOptions) -> PruneOptions {
    PruneOptions { scope: Some(PruneScope::Global), ..options }
}

fn bitmask(options: PruneOptions) -> PruneOptions {
    PruneOptions { store: "bitmask".to_owned(), ..options }
}

fn prune(options: PruneOptions, input: &Memory) -> Memory {
    prune_in(options, input, usize::MAX)
}

fn prune_in(options: PruneOptions, input: &Memory, quanta: usize) -> Memory {
    run(&Prune::new(options).unwrap(), input, quanta).unwrap().0
}

fn one(dtype: Dtype, shape: &[usize], values: &[f64]) -> Memory {
    Memory::default().with_values("a.weight", dtype, shape, values)
}

/// Values with many ties, zeros of both signs and some that no other type holds.
fn values(count: usize, seed: u64) -> Vec<f64> {
    (0..count as u64)
        .map(|i| {
            let x = (i + 1).wrapping_mul(seed | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            match x % 11 {
                0 => 0.0,
                1 => -0.0,
                2..6 => [1.0, -1.0, 0.5, -0.5][x as usize % 4],
                _ => (x % 1000) as f64 / 333.0 - 1.5,
            }
        })
        .collect()
}

/// The definition: the first `count` by (|w|, tensor, index) become +0.
fn expected(tensors: &[Vec<f64>], sparsity: f64) -> Vec<Vec<f64>> {
    let mut order: Vec<(f64, usize, usize)> =
        tensors.iter().enumerate().flat_map(|(t, v)| v.iter().enumerate().map(move |(i, x)| (x.abs(), t, i))).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let zeros = order.iter().filter(|(x, ..)| *x == 0.0).count();
    let count = zeros.max(zeros_at(sparsity, order.len() as u64) as usize);
    let mut pruned = tensors.to_vec();
    for (_, t, i) in &order[..count] {
        pruned[*t][*i] = 0.0;
    }
    pruned
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn ties_go_by_index() {
    // |1| stands at 0, 2, 3 and 5; three weights go: the 0.5 and the first two of them.
    let input = one(Dtype::F32, &[2, 3], &[1.0, 2.0, -1.0, 1.0, 0.5, -1.0]);
    assert_eq!(prune(unstructured(0.5), &input).values("a.weight"), [0.0, 2.0, 0.0, 1.0, 0.0, -1.0]);
}

#[test]
fn ties_go_by_tensor_when_the_scope_is_global() {
    let input = Memory::default()
        .with_values("a.weight", Dtype::F32, &[1, 3], &[1.0, 2.0, 1.0])
        .with_values("a.bias", Dtype::F32, &[1], &[0.1])
        .with_values("b.weight", Dtype::BF16, &[1, 3], &[-1.0, 3.0, 1.0]);
    let output = prune(global(unstructured(0.5)), &input);
    assert_eq!(output.values("a.weight"), [0.0, 2.0, 0.0]);
    assert_eq!(output.values("a.bias"), [decode(Dtype::F32, &0.1f32.to_le_bytes())[0]]);
    assert_eq!(output.values("b.weight"), [0.0, 3.0, 1.0]);
}

#[test]
fn two_of_four_are_kept_and_a_tail_keeps_its_share() {
    let row = [4.0, -3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 5.0, 6.0, 7.0];
    let expected = [4.0, -3.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 6.0, 7.0];
    for dtype in FLOATS {
        let output = prune(n_of_m("2:4"), &one(dtype, &[1, 11], &row));
        assert_eq!(output.values("a.weight"), expected, "{dtype:?}");
    }
}

#[test]
fn groups_run_down_the_rows_of_transposed_matrices() {
    // [in = 5, out = 2]: columns 0 and 1 are pruned one by one; the tail of one keeps one.
    let input = [1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0, 9.0, 0.5];
    let expected = [0.0, 8.0, 0.0, 7.0, 3.0, 0.0, 4.0, 0.0, 9.0, 0.5];
    let mut gpt2 = Memory::default().with_values("h.0.mlp.c_fc.weight", Dtype::F32, &[5, 2], &input);
    gpt2.header.metadata.insert("config".to_owned(), r#"{"model_type":"gpt2"}"#.to_owned());
    assert_eq!(prune(n_of_m("2:4"), &gpt2).values("h.0.mlp.c_fc.weight"), expected);
    let twice: Vec<f64> = input.iter().chain(&input).copied().collect();
    let experts = Memory::default().with_values("mlp.experts.down_proj", Dtype::F64, &[2, 5, 2], &twice);
    assert_eq!(prune(n_of_m("2:4"), &experts).values("mlp.experts.down_proj"), [expected, expected].concat());
    for memory in [gpt2, experts] {
        let name = memory.header.tensors[0].name.clone();
        let stored = prune_in(bitmask(n_of_m("2:4")), &memory, 1);
        let back = run(&Densify, &stored, 1).unwrap().0;
        assert_eq!(back.tensor(&name), prune(n_of_m("2:4"), &memory).tensor(&name));
    }
}

#[test]
fn zeros_that_are_there_are_kept_and_lose_their_sign() {
    for dtype in FLOATS {
        let output = prune(unstructured(0.25), &one(dtype, &[2, 2], &[-0.0, 0.0, -0.0, 1.0]));
        assert_eq!(bits(&output.values("a.weight")), bits(&[0.0, 0.0, 0.0, 1.0]), "{dtype:?}");
    }
}

#[test]
fn the_edges_do_what_the_rule_says() {
    for dtype in FLOATS {
        for store in ["dense", "bitmask"] {
            let with = |s| PruneOptions { store: store.to_owned(), ..unstructured(s) };
            let run_one = |s, shape: &[usize], x: &[f64]| {
                let output = prune(with(s), &one(dtype, shape, x));
                run(&Densify, &output, 1).unwrap().0.values("a.weight")
            };
            assert_eq!(run_one(0.5, &[1, 1], &[3.0]), [3.0]);
            assert_eq!(run_one(1.0, &[1, 1], &[3.0]), [0.0]);
            assert_eq!(run_one(0.5, &[2, 2], &[2.0; 4]), [0.0, 0.0, 2.0, 2.0]);
            assert_eq!(run_one(0.5, &[2, 2], &[0.0; 4]), [0.0; 4]);
            assert_eq!(run_one(0.0, &[2, 2], &[1.0; 4]), [1.0; 4]);
            assert_eq!(run_one(0.5, &[3, 0], &[]), [0.0; 0]);
        }
    }
}

#[test]
fn nonfinite_weights_are_refused_or_kept() {
    let input = one(Dtype::F16, &[2, 2], &[1.0, f64::NAN, f64::INFINITY, 2.0]);
    for options in [unstructured(0.5), n_of_m("1:2"), global(unstructured(0.5))] {
        let error = run(&Prune::new(options.clone()).unwrap(), &input, 1).unwrap_err();
        assert_eq!(error.message(), "tensor `a.weight` holds NaN at index 1");
        assert_eq!(error.what_to_try(), Some("--allow-nonfinite goes on"));
        let kept = prune(PruneOptions { allow_nonfinite: true, ..options }, &input).values("a.weight");
        assert!(kept[0] == 0.0 && kept[1].is_nan() && kept[2] == f64::INFINITY && kept[3] == 0.0, "{kept:?}");
    }
    let mut sampled = Prune::new(unstructured(0.5)).unwrap();
    sampled.sampled = 0..usize::MAX;
    for x in [[1.0, 1.0, f64::NAN, 1.0], [1.0, 2.0, f64::NAN, 4.0]] {
        let error = run(&sampled, &one(Dtype::F32, &[2, 2], &x), 1).unwrap_err();
        assert_eq!(error.message(), "tensor `a.weight` holds NaN at index 2");
    }
    let late = one(Dtype::F64, &[2, 3000], &[vec![1.0; 5999], vec![-f64::INFINITY]].concat());
    let error = run(&Prune::new(unstructured(0.5)).unwrap(), &late, 1).unwrap_err();
    assert_eq!(error.message(), "tensor `a.weight` holds infinity at index 5999");
}

#[test]
fn contradictions_are_wrong_usage() {
    let bad = [
        unstructured(-0.1),
        unstructured(1.1),
        unstructured(f64::NAN),
        PruneOptions::default(),
        PruneOptions { sparsity: Some(0.6), ..n_of_m("2:4") },
        global(n_of_m("2:4")),
        PruneOptions { criterion: "luck".to_owned(), ..unstructured(0.5) },
        PruneOptions { store: "csr".to_owned(), ..unstructured(0.5) },
    ];
    for options in bad {
        assert_eq!(Prune::new(options.clone()).unwrap_err().fault(), Fault::Usage, "{options:?}");
    }
    let agreeing = PruneOptions { sparsity: Some(1.0 - 1.0 / 3.0), ..n_of_m("1:3") };
    assert!(Prune::new(agreeing).is_ok());
}

#[test]
fn what_is_compressed_already_is_refused() {
    let pass = Prune::new(unstructured(0.5)).unwrap();
    let dense = one(Dtype::F32, &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let mut by_config = dense.clone();
    let config = r#"{"quantization_config":{"quant_method":"compressed-tensors"}}"#;
    by_config.header.metadata.insert("config".to_owned(), config.to_owned());
    let by_layout = prune(bitmask(unstructured(0.5)), &dense);
    let mut by_names = by_layout.clone();
    by_names.header.metadata.clear();
    let packed = dense.clone().with("b.weight_packed", Dtype::I32, &[1], vec![0; 4]);
    let scaled = Memory::default().with("c.weight", Dtype::I8, &[4], vec![0; 4]).with_values(
        "c.weight_scale",
        Dtype::F32,
        &[1],
        &[1.0],
    );
    for input in [by_config, by_layout, by_names, packed, scaled] {
        let error = pass.plan(&input.header).unwrap_err();
        assert!(error.what_to_try().unwrap().contains("convert --decompress"), "{error}");
    }
}

#[test]
fn nothing_to_prune_is_an_error_that_names_what_could_be() {
    let input = Memory::default().with_values("lm_head.weight", Dtype::F32, &[2, 2], &[1.0; 4]).with_values(
        "norm.weight",
        Dtype::F32,
        &[2],
        &[1.0; 2],
    );
    let error = Prune::new(unstructured(0.5)).unwrap().plan(&input.header).unwrap_err();
    assert!(error.what_to_try().unwrap().contains("`lm_head.weight`"), "{error:?}");
    assert!(Prune::new(unstructured(0.5)).unwrap().plan(&Memory::default().header).is_err());
}

#[test]
fn transposed_convolutions_are_skipped_by_n_of_m_only() {
    let input = one(Dtype::F32, &[2, 4], &[1.0, 2.0, 3.0, 4.0, 4.0, 3.0, 2.0, 1.0]).with_values(
        "deconv.weight",
        Dtype::F32,
        &[2, 2, 2],
        &[1.0; 8],
    );
    assert_eq!(prune(n_of_m("2:4"), &input).values("deconv.weight"), [1.0; 8]);
    assert_eq!(prune(unstructured(0.5), &input).values("deconv.weight").iter().sum::<f64>(), 4.0);
    let named = vec![NameGlob::new("deconv.weight").unwrap()];
    let named = Selection { include: named, ..Selection::default() };
    let options = PruneOptions { selection: named, ..n_of_m("2:4") };
    assert!(Prune::new(options).unwrap().plan(&input.header).is_err());
}

#[test]
fn random_depends_on_seed_and_name_and_takes_zeros_first() {
    let mut x = vec![1.0; 900];
    x[7] = 0.0;
    x[890] = -0.0;
    let input = one(Dtype::F32, &[30, 30], &x).with_values("b.weight", Dtype::F32, &[30, 30], &x);
    let with = |seed| PruneOptions { criterion: "random".to_owned(), seed, ..unstructured(0.3) };
    let first = prune(with(1), &input);
    assert_eq!(first, prune_in(with(1), &input, 1));
    assert_ne!(first.values("a.weight"), prune(with(2), &input).values("a.weight"));
    assert_ne!(first.values("a.weight"), first.values("b.weight"));
    assert_eq!(first.values("a.weight").iter().filter(|x| **x == 0.0).count(), 270);
    let all: usize = ["a.weight", "b.weight"]
        .iter()
        .map(|name| prune(global(with(3)), &input).values(name).iter().filter(|x| **x == 0.0).count())
        .sum();
    assert_eq!(all, 540);
    let groups = prune(PruneOptions { criterion: "random".to_owned(), ..n_of_m("2:4") }, &input);
    let row = &groups.values("a.weight")[30..60];
    assert!(row.chunks(4).all(|group| group.iter().filter(|x| **x != 0.0).count() == group.len().div_ceil(2)));
    assert_eq!(Prune::new(with(5)).unwrap().options()["seed"], 5);
    assert!(Prune::new(unstructured(0.5)).unwrap().options().get("seed").is_none());
}

#[test]
fn a_cut_deep_in_a_large_tensor_is_found() {
    // More than 1024 slots of 4096, so that the search goes through pieces and segments.
    let rows = 2000;
    let count = rows * 4099;
    let mut data = vec![0x3f80u16; count];
    data[count - 1] = 0x3f00;
    let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    let sparsity = 0.6123;
    let zeros = zeros_at(sparsity, count as u64) as usize;
    let half = Memory::default().with("a.weight", Dtype::BF16, &[rows, 4099], bytes);
    let both = half.clone().with_values("b.weight", Dtype::F32, &[1, 2], &[3.0, 4.0]);
    for (options, input) in [(unstructured(sparsity), &half), (global(unstructured(sparsity)), &both)] {
        let output = prune_in(options, input, 100);
        let kept: Vec<u16> = output.data[0].as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
        let zeros = if input.data.len() == 2 { zeros_at(sparsity, count as u64 + 2) as usize } else { zeros };
        assert!(kept[..zeros - 1].iter().all(|x| *x == 0));
        assert!(kept[zeros - 1..count - 1].iter().all(|x| *x == 0x3f80));
        assert_eq!(kept[count - 1], 0);
    }
}

#[test]
fn a_cut_between_slots_of_bitmasks_is_found() {
    // Slots of 17 rows; all weights tie, so that only the index decides.
    let rows = 60;
    let both = one(Dtype::F16, &[rows, 1000], &vec![1.0; rows * 1000]).with_values(
        "b.weight",
        Dtype::F32,
        &[rows, 1000],
        &vec![1.0; rows * 1000],
    );
    for sparsity in [0.0, 0.1, 17.0 / 120.0, 0.4567, 0.5, 0.51, 0.9, 1.0] {
        for options in [unstructured(sparsity), global(unstructured(sparsity))] {
            let dense = prune_in(options.clone(), &both, 3);
            let stored = prune_in(bitmask(options), &both, 1);
            let back = run(&Densify, &stored, 7).unwrap().0;
            assert!(back.data == dense.data, "{sparsity}");
            let zeros = dense.values("a.weight").into_iter().chain(dense.values("b.weight")).filter(|x| *x == 0.0);
            assert_eq!(zeros.count() as u64, 2 * zeros_at(sparsity, 60_000), "{sparsity}");
        }
    }
}

#[test]
fn the_history_and_the_layout_say_what_was_done() {
    let input = one(Dtype::BF16, &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let output = prune(bitmask(unstructured(0.5)), &input);
    let history = read_history(&output.header).unwrap();
    assert_eq!(history[0].verb, "prune");
    assert_eq!(history[0].options["sparsity"], 0.5);
    let layout = read_layout(&output.header).unwrap();
    assert_eq!(layout["a.weight"].shape, [2, 3]);
    assert_eq!(layout["a.weight"].parts["row_offsets"], "a.weight.row_offsets");
    assert_eq!(output.tensor("a.weight.bitmask").1, [0, 7]);
    assert_eq!(output.tensor("a.weight.row_offsets").1, [0; 16]);
    assert_eq!(output.values("a.weight.compressed"), [4.0, 5.0, 6.0]);
    let shape = [2i64.to_le_bytes(), 3i64.to_le_bytes()].concat();
    assert_eq!(output.tensor("a.weight.shape").1, shape);
    let claim = |sparsity| Claim {
        tensors: vec!["a.weight".to_owned()],
        pattern: Pattern::Unstructured,
        inputs_down: None,
        sparsity: Some(sparsity),
    };
    assert_eq!(claims(&output.header).unwrap(), [claim(0.5)]);
    let mut quantized = prune(unstructured(0.5), &input);
    quantized.header.tensors[0].name = "a.weight_packed".to_owned();
    quantized.header.tensors[0].dtype = Dtype::I32;
    let quantized = quantized.with_values("a.weight_scale", Dtype::BF16, &[2, 1], &[1.0, 1.0]);
    assert_eq!(claims(&quantized.header).unwrap(), [claim(0.5)]);
    let groups = claims(&prune(n_of_m("1:2"), &input).header).unwrap();
    assert_eq!((groups[0].pattern, groups[0].sparsity), (Pattern::NOfM { n: 1, m: 2 }, None));
    assert_eq!(claims(&input.header).unwrap(), []);
    for (header, wanted) in [(&input.header, false), (&output.header, true), (&quantized.header, true)] {
        assert_eq!(is_pruned(header).unwrap(), wanted);
    }
    // Files of others have no history.
    let mut stored = output.header;
    stored.metadata.clear();
    assert!(is_pruned(&stored).unwrap());
}

#[test]
fn convolutions_keep_their_shape_in_a_bitmask() {
    let input = Memory::default().with_values("conv.weight", Dtype::F32, &[3, 2, 3], &values(18, 5));
    for options in [unstructured(0.5), n_of_m("2:4"), global(unstructured(0.5))] {
        let stored = prune(bitmask(options.clone()), &input);
        let shape: Vec<u8> = [3i64, 2, 3].iter().flat_map(|d| d.to_le_bytes()).collect();
        assert_eq!(stored.tensor("conv.weight.shape").1, shape);
        let dense = prune(options, &input);
        assert_eq!(run(&Densify, &stored, 1).unwrap().0.tensor("conv.weight"), dense.tensor("conv.weight"));
        let mut bare = stored.clone();
        bare.header.metadata.clear();
        assert_eq!(run(&Densify, &bare, 2).unwrap().0.tensor("conv.weight"), dense.tensor("conv.weight"));
    }
}

fn any_dtype() -> impl Strategy<Value = Dtype> {
    (0..4usize).prop_map(|i| FLOATS[i])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn follows_the_definition_at_any_block_size(
        tensors in prop::collection::vec((any_dtype(), 1usize..9, 1usize..2500, any::<u64>()), 1..4),
        sparsity in prop_oneof![0.0..=1.0, Just(0.0), Just(1.0), Just(0.5)],
        quanta in 1usize..4,
    ) {
        let mut input = Memory::default();
        for (i, (dtype, rows, columns, seed)) in tensors.iter().enumerate() {
            input = input.with_values(&format!("l{i}.weight"), *dtype, &[*rows, *columns], &values(rows * columns, *seed));
        }
        let decoded: Vec<_> = input.header.tensors.iter().map(|t| input.values(&t.name)).collect();
        let alone: Vec<_> = decoded.iter().flat_map(|x| expected(std::slice::from_ref(x), sparsity)).collect();
        let together = expected(&decoded, sparsity);
        for (options, expected) in
            [(unstructured(sparsity), alone), (global(unstructured(sparsity)), together)]
        {
            let (output, reports) = run(&Prune::new(options.clone()).unwrap(), &input, quanta).unwrap();
            for (tensor, expected) in output.header.tensors.iter().zip(&expected) {
                prop_assert_eq!(bits(&output.values(&tensor.name)), bits(expected));
            }
            let zeros: u64 = reports.iter().map(|r| r.zeros_after).sum();
            prop_assert_eq!(zeros, expected.iter().flatten().filter(|x| **x == 0.0).count() as u64);
            let stored = prune_in(bitmask(options.clone()), &input, quanta);
            prop_assert_eq!(&stored, &prune(bitmask(options), &input));
            let back = run(&Densify, &stored, quanta).unwrap().0;
            prop_assert_eq!(&back.header.tensors, &output.header.tensors);
            prop_assert_eq!(&back.data, &output.data);
            prop_assert!(!back.header.metadata.contains_key("dlopt.layout"));
        }
    }

    #[test]
    fn a_sample_changes_no_byte(
        tensors in prop::collection::vec((1usize..9, 1usize..4000, 0usize..5, any::<u64>()), 1..4),
        sparsity in prop_oneof![0.0..=1.0, Just(0.0), Just(1.0), Just(0.5)],
        quanta in 1usize..4,
    ) {
        let mut input = Memory::default();
        for (i, (rows, columns, mix, seed)) in tensors.iter().enumerate() {
            let drawn = values(rows * columns, *seed);
            let x: Vec<f64> = drawn.iter().enumerate().map(|(i, x)| match mix {
                0 => *x,
                1 => 0.25,
                2 => 0.0,
                // Few ties, and some that no order of numbers holds.
                3 => x + i as f64 * 1e-5,
                _ => if *x > 1.4 { f64::NAN } else { x / (x.abs() - 1.0).max(0.0) },
            }).collect();
            input = input.with_values(&format!("l{i}.weight"), Dtype::F32, &[*rows, *columns], &x);
        }
        for options in [unstructured(sparsity), global(unstructured(sparsity))] {
            for options in [options.clone(), bitmask(options)] {
                let prune_with = |sampled| {
                    let options = PruneOptions { allow_nonfinite: true, ..options.clone() };
                    let mut prune = Prune::new(options).unwrap();
                    prune.sampled = sampled;
                    run(&prune, &input, quanta).unwrap()
                };
                let (by_digits, reports) = prune_with(0..0);
                for level in [Some(Level::Portable), Some(Level::Avx2), None] {
                    limit_level(level);
                    let (by_window, own) = prune_with(0..usize::MAX);
                    prop_assert!(by_window == by_digits);
                    prop_assert_eq!(format!("{own:?}"), format!("{reports:?}"));
                }
            }
        }
    }

    #[test]
    fn n_of_m_is_the_same_in_any_store_and_block(
        dtype in any_dtype(),
        rows in 1usize..20,
        columns in 1usize..40,
        m in 2usize..9,
        seed in any::<u64>(),
        is_random in any::<bool>(),
        quanta in 1usize..5,
    ) {
        let n = 1 + seed as usize % (m - 1);
        let criterion = if is_random { "random" } else { "magnitude" };
        let options = PruneOptions { criterion: criterion.to_owned(), ..n_of_m(&format!("{n}:{m}")) };
        let mut input = one(dtype, &[rows, columns], &values(rows * columns, seed))
            .with_values("h.c_fc.weight", dtype, &[rows, columns], &values(rows * columns, seed ^ 9))
            .with_values("experts.up", dtype, &[2, rows, columns], &values(2 * rows * columns, seed ^ 7));
        input.header.metadata.insert("config".to_owned(), r#"{"model_type":"gpt2"}"#.to_owned());
        let dense = prune_in(options.clone(), &input, quanta);
        prop_assert_eq!(&dense, &prune(options.clone(), &input));
        let before = input.values("a.weight");
        for (row, old) in dense.values("a.weight").chunks(columns).zip(before.chunks(columns)) {
            for (group, old) in row.chunks(m).zip(old.chunks(m)) {
                let zeros = old.iter().filter(|x| **x == 0.0).count();
                let wanted = group.len() - (group.len() * n).div_ceil(m);
                prop_assert_eq!(group.iter().filter(|x| **x == 0.0).count(), wanted.max(zeros));
            }
        }
        let stored = prune_in(bitmask(options), &input, quanta);
        let back = run(&Densify, &stored, quanta).unwrap().0;
        prop_assert_eq!(&back.header.tensors, &dense.header.tensors);
        prop_assert_eq!(&back.data, &dense.data);
    }
}
