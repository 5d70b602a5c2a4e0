//! What the passes decide from headers, and what they refuse.

use dlopt_checkpoint::{Dtype, Fault, NameGlob, Pass, Selection, read_history, read_layout};
use dlopt_quantize::{Cast, Dequantize, Fallback, Quantize, Rule, Scheme};
use serde_json::{Value, json};

use crate::executor::{Memory, refusal, run};

fn ramp(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect()
}

/// A small decoder with a convolution: every kind that matters.
fn model() -> Memory {
    let mut model = Memory::default();
    for (name, shape) in [
        ("model.embed_tokens.weight", &[9, 32][..]),
        ("model.layers.0.self_attn.q_proj.weight", &[16, 32]),
        ("model.layers.0.self_attn.k_proj.weight", &[8, 32]),
        ("model.layers.0.self_attn.v_proj.weight", &[8, 32]),
        ("model.layers.0.self_attn.o_proj.weight", &[32, 16]),
        ("model.layers.0.input_layernorm.weight", &[32]),
        ("model.conv.weight", &[6, 4, 8]),
        ("model.rnn.weight_ih_l0", &[12, 32]),
        ("lm_head.weight", &[9, 32]),
    ] {
        model.add_f32(name, shape, &ramp(shape.iter().product()));
    }
    model.with_config(r#"{"z_first": 1, "architectures": ["LlamaForCausalLM"], "dtype": "float32", "a": [1]}"#)
}

fn without_config() -> Memory {
    let mut model = model();
    model.header.metadata.clear();
    model
}

fn pass(scheme: &str) -> Quantize {
    Quantize::new(Scheme::parse(scheme).unwrap())
}

fn globs(texts: &[&str]) -> Vec<NameGlob> {
    texts.iter().map(|t| NameGlob::new(t).unwrap()).collect()
}

fn rules(texts: &[&str]) -> Vec<Rule> {
    texts.iter().map(|t| Rule::parse(t).unwrap()).collect()
}

fn config(model: &Memory) -> serde_json::Map<String, Value> {
    model.header.config().unwrap().unwrap()
}

#[test]
fn every_tensor_is_read_by_one_unit_in_the_order_of_the_input() {
    let input = model();
    for scheme in ["w4a16:32", "w8a8", "fp8_block", "bf16", "w8a16:tensor"] {
        let plan = pass(scheme).plan(&input.header).unwrap();
        let read: Vec<usize> = plan.units.iter().flat_map(|u| &u.reads).map(|r| r.tensor).collect();
        assert_eq!(read, (0..input.data.len()).collect::<Vec<_>>(), "{scheme}");
        assert_eq!(plan.notes.len(), input.data.len());
    }
}

#[test]
fn linear_layers_follow_compressed_tensors_and_others_dlopt_layout() {
    let input = model();
    let mut pass = pass("w4a16:32");
    pass.fallback = Fallback::Channel;
    let done = run(&pass, &input, 5).unwrap();
    let layout = read_layout(&done.output.header).unwrap();
    assert_eq!(layout.keys().collect::<Vec<_>>(), ["model.conv.weight", "model.rnn.weight_ih_l0"]);
    let conv = &layout["model.conv.weight"];
    assert_eq!(
        (conv.format.as_str(), conv.dtype.as_str(), conv.shape.as_slice()),
        ("pack-quantized", "F32", &[6, 4, 8][..])
    );
    assert_eq!(conv.parts["packed"], "model.conv.weight_packed");
    assert_eq!(done.output.info("model.rnn.weight_ih_l0_scale").shape, [12, 1]);
    assert_eq!(done.output.info("model.layers.0.self_attn.q_proj.weight_shape").shape, [2]);
    assert_eq!(done.action("model.layers.0.self_attn.o_proj.weight"), "w4a16 channel");
    assert_eq!(done.action("lm_head.weight"), "skipped");

    let back = run(&Dequantize, &done.output, 3).unwrap().output;
    assert_eq!(back.header.tensors, input.header.tensors);
    assert_eq!(config(&back), config(&input));
    assert!(!back.header.metadata.contains_key("dlopt.layout"));
}

#[test]
fn without_a_config_every_weight_follows_dlopt_layout() {
    let done = run(&pass("w8a8"), &without_config(), 5).unwrap();
    assert_eq!(read_layout(&done.output.header).unwrap().len(), 6);
    assert!(!done.output.header.metadata.contains_key("config"));
    assert_eq!(done.output.info("model.conv.weight").shape, [6, 32]);
    let back = run(&Dequantize, &done.output, 3).unwrap().output;
    assert_eq!(back.header.tensors, without_config().header.tensors);
}

#[test]
fn the_config_keeps_its_keys_and_gains_the_groups() {
    let mut pass = pass("w4a16:32");
    pass.rules = rules(&["*.o_proj.*=w8a8", "lm_head.weight=w8a8", "model.conv.*=skip"]);
    let done = run(&pass, &model(), 5).unwrap();
    let text = &done.output.header.metadata["config"];
    assert!(text.starts_with("{\n  \"z_first\": 1,\n  \"architectures\""), "{text}");
    assert!(text.ends_with("}\n"));
    let quantization = &config(&done.output)["quantization_config"];
    assert_eq!(quantization["format"], "mixed-precision");
    let groups = &quantization["config_groups"];
    assert_eq!(groups["group_0"]["targets"], json!(["Linear"]));
    assert_eq!(groups["group_0"]["format"], "pack-quantized");
    assert_eq!(groups["group_0"]["weights"]["group_size"], 32);
    assert_eq!(groups["group_1"]["targets"], json!(["model.layers.0.self_attn.o_proj", "lm_head"]));
    assert_eq!(groups["group_1"]["input_activations"]["strategy"], "token");
    assert_eq!(quantization["ignore"], json!([]));
    let back = run(&Dequantize, &done.output, 3).unwrap().output;
    assert_eq!(back.header.tensors, model().header.tensors);
}

#[test]
fn presets_are_written_as_the_library_writes_them() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/golden/compressed-tensors/presets.json");
    let presets: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for name in ["W4A16", "W4A16_ASYM", "W8A16", "W2A16", "W8A8", "FP8_DYNAMIC", "FP8_BLOCK"] {
        let mut input = Memory::default();
        input.add_f32("m.weight", &[2, 256], &ramp(512));
        let done = run(&pass(name), &input.with_config("{}"), 2).unwrap();
        let ours = &config(&done.output)["quantization_config"]["config_groups"]["group_0"];
        let theirs = &presets[name]["scheme"];
        for key in ["weights", "input_activations", "output_activations", "targets"] {
            assert_eq!(ours[key], theirs[key], "{name} {key}");
        }
        assert_eq!(ours["format"], presets[name]["format"], "{name}");
    }
}

#[test]
fn a_head_that_is_tied_to_the_embeddings_is_ignored() {
    let mut input = model();
    input.header.tensors.pop();
    input.data.pop();
    let done = run(&pass("w8a8"), &input, 5).unwrap();
    assert_eq!(config(&done.output)["quantization_config"]["ignore"], json!(["lm_head"]));
}

#[test]
fn a_group_size_that_fits_nothing_is_refused_with_one_that_does() {
    let mut input = Memory::default();
    input.add_f32("a.weight", &[4, 96], &ramp(384));
    input.add_f32("b.weight", &[4, 160], &ramp(640));
    let error = refusal(&pass("w4a16"), &input);
    assert!(error.message().contains("groups of 128 fit none"), "{error}");
    assert!(error.what_to_try().unwrap().starts_with("--group 32 or 16"), "{error:?}");
}

#[test]
fn a_group_size_that_fits_less_than_half_is_a_gate() {
    let mut input = Memory::default();
    input.add_f32("a.weight", &[4, 128], &ramp(512));
    input.add_f32("b.weight", &[9, 96], &ramp(864));
    let done = run(&pass("w4a16"), &input, 4).unwrap();
    assert_eq!(done.action("b.weight"), "skipped");
    assert!(done.plan.gate.as_ref().unwrap().contains("37 %"), "{:?}", done.plan.gate);
    assert_eq!(done.plan.warnings.len(), 1);
    let mut all = pass("w4a16");
    all.fallback = Fallback::Channel;
    assert_eq!(run(&all, &input, 4).unwrap().plan.gate, None);
}

#[test]
fn a_tensor_named_in_full_has_to_fit() {
    let mut input = Memory::default();
    input.add_f32("a.weight", &[4, 128], &ramp(512));
    input.add_f32("b.weight", &[9, 96], &ramp(864));
    input.add_f32("norm.weight", &[96], &ramp(96));
    input.add("n", Dtype::I64, &[1], vec![0; 8]);
    let mut by_rule = pass("w4a16");
    by_rule.rules = rules(&["b.weight=w4a16"]);
    let error = refusal(&by_rule, &input);
    assert!(error.message().contains("do not divide its 96 columns"), "{error}");
    assert!(error.what_to_try().unwrap().contains("--group 32"));
    for (name, why) in [("b.weight", "96 columns"), ("norm.weight", "a vector"), ("n", "not a floating-point")] {
        let mut by_include = pass("w4a16");
        by_include.selection = Selection { include: globs(&["a.*", name]), ..Selection::default() };
        let error = refusal(&by_include, &input);
        assert!(error.message().contains(why), "{error}");
    }
}

#[test]
fn layers_that_runtimes_merge_get_one_scheme() {
    let mut uneven = pass("w4a16:32");
    uneven.rules = rules(&["*.k_proj.*=w8a16:32"]);
    let error = refusal(&uneven, &model());
    for part in ["self_attn.q_proj", "self_attn.k_proj", "w8a16 group 32", "w4a16 group 32"] {
        assert!(error.message().contains(part), "{error}");
    }
    let mut half = pass("w4a16:32");
    half.selection.exclude = globs(&["*.v_proj.*"]);
    assert!(refusal(&half, &model()).message().contains("dense"));
    half.selection.exclude = globs(&["*_proj.*"]);
    assert!(run(&half, &model(), 4).is_ok());
}

#[test]
fn rules_take_any_matrix_and_have_to_match() {
    let mut taken = pass("w8a8");
    taken.rules = rules(&["*embed*=w4a16:32", "*norm*=w4a16:32"]);
    let done = run(&taken, &model(), 4).unwrap();
    assert_eq!(done.action("model.embed_tokens.weight"), "w4a16 group 32");
    assert_eq!(done.action("model.layers.0.input_layernorm.weight"), "skipped");
    assert!(read_layout(&done.output.header).unwrap().contains_key("model.embed_tokens.weight"));
    taken.rules = rules(&["nothing.*=skip"]);
    assert!(refusal(&taken, &model()).message().contains("`nothing.*` matches no tensor"));
}

#[test]
fn what_is_compressed_is_not_compressed_again() {
    for input in [model(), without_config()] {
        let once = run(&pass("w4a16:16"), &input, 4).unwrap().output;
        let error = refusal(&pass("w8a8"), &once);
        assert!(error.message().contains("compressed already"), "{error}");
        assert!(error.what_to_try().unwrap().contains("dlopt convert --decompress"));
    }
    let mut foreign = Memory::default();
    foreign.add("m.qweight", Dtype::I32, &[1, 1], vec![0; 4]);
    assert!(refusal(&pass("w8a8"), &foreign).message().contains("m.qweight"));
}

#[test]
fn weights_that_are_no_numbers_are_refused_or_replaced() {
    let mut x = ramp(4 * 64);
    x[70] = f32::NAN;
    x[130] = f32::NEG_INFINITY;
    for scheme in ["w4a16:32", "w8a8:tensor", "fp8_block", "w4a16_asym:32"] {
        let mut input = Memory::default();
        input.add_f32("m.weight", &[4, 64], &x);
        let mut pass = pass(scheme);
        let error = refusal(&pass, &input);
        assert_eq!(error.message(), "tensor `m.weight` holds NaN at index 70");
        assert!(error.what_to_try().unwrap().contains("--allow-nonfinite"));
        pass.allow_nonfinite = true;
        let done = run(&pass, &input, 3).unwrap();
        let y = run(&Dequantize, &done.output, 3).unwrap().output.values("m.weight");
        assert_eq!(y[70], 0.0);
        assert!((-1.5..-0.9).contains(&y[130]), "{scheme} {}", y[130]);
        assert!(done.reports[0].noise.is_finite());
    }
}

#[test]
fn transposed_layers_and_empty_tensors_are_skipped_with_the_reason() {
    let mut input = Memory::default();
    input.add_f32("h.0.attn.c_attn.weight", &[4, 12], &ramp(48));
    input.add_f32("h.0.up.weight", &[4, 12], &ramp(48));
    input.add_f32("h.0.none.weight", &[0, 12], &[]);
    let input = input.with_config(r#"{"model_type": "gpt2"}"#);
    let mut pass = pass("w8a8");
    pass.selection.include = globs(&["*"]);
    let done = run(&pass, &input, 4).unwrap();
    let reason = |name: &str| &done.plan.notes.iter().find(|n| n.tensor == name).unwrap().reason;
    assert!(reason("h.0.attn.c_attn.weight").contains("stored [in, out]"));
    assert!(reason("h.0.none.weight").contains("empty"));
    assert!(!config(&done.output)["quantization_config"]["ignore"].to_string().contains("c_attn"));
}

#[test]
fn nothing_to_do_is_an_error() {
    let mut input = Memory::default();
    input.add_f32("norm.weight", &[4], &ramp(4));
    assert!(refusal(&pass("w8a8"), &input).message().contains("no tensor is selected"));
}

#[test]
fn history_holds_the_resolved_options() {
    let mut pass = pass("int4");
    pass.fallback = Fallback::Channel;
    pass.rules = rules(&["lm_head.*=skip"]);
    let done = run(&pass, &model(), 4).unwrap();
    let history = read_history(&done.output.header).unwrap();
    assert_eq!(history[0].verb, "quantize");
    let expected = json!({
        "scheme": "W4A16", "bits": 4, "symmetric": true, "granularity": "group 128", "method": "rtn",
        "include": [], "exclude": [], "rules": ["lm_head.*=skip"], "fallback": "channel", "tied": "skip",
        "allow_nonfinite": false,
    });
    assert_eq!(history[0].options, expected);
}

#[test]
fn a_cast_updates_the_config_and_refuses_overflow() {
    let done = run(&Cast::parse("bf16").unwrap(), &model(), 1).unwrap();
    assert_eq!(config(&done.output)["dtype"], "bfloat16");
    assert!(done.output.header.tensors.iter().all(|t| t.dtype == Dtype::BF16));
    let mut some = Cast::parse("f16").unwrap();
    some.selection.include = globs(&["*conv*"]);
    assert_eq!(config(&run(&some, &model(), 1).unwrap().output)["dtype"], "float32");

    let mut input = Memory::default();
    let mut x = vec![1.0; 5000];
    x[4999] = 1e6;
    x[3] = f32::INFINITY;
    input.add_f32("big", &[5000], &x);
    let mut cast = Cast::parse("f16").unwrap();
    let error = refusal(&cast, &input);
    assert!(error.message().contains("tensor `big` holds a number at index 4999 that F16 cannot hold"), "{error}");
    cast.allow_nonfinite = true;
    assert!(run(&cast, &input, 1).unwrap().output.values("big")[4999].is_infinite());
    assert_eq!(Cast::parse("i8").unwrap_err().fault(), Fault::Usage);
}

#[test]
fn a_cast_leaves_the_parts_of_compressed_weights_alone() {
    let stored = run(&pass("w4a16:16"), &model(), 4).unwrap().output;
    let done = run(&Cast::parse("f16").unwrap(), &stored, 1).unwrap();
    assert_eq!(done.output.info("model.layers.0.self_attn.q_proj.weight_scale").dtype, Dtype::F32);
    assert_eq!(done.output.info("lm_head.weight").dtype, Dtype::F16);
}

#[test]
fn other_ways_to_quantize_are_named() {
    let mut input = Memory::default();
    input.add("m.qweight", Dtype::I32, &[1, 1], vec![0; 4]);
    let input = input.with_config(r#"{"quantization_config": {"quant_method": "gptq", "bits": 4}}"#);
    assert!(refusal(&Dequantize, &input).message().contains("`gptq`"));

    let mut ordered = run(&pass("w4a16:16"), &model(), 4).unwrap().output;
    ordered.add("model.layers.0.self_attn.q_proj.weight_g_idx", Dtype::I32, &[32], vec![0; 128]);
    assert!(refusal(&Dequantize, &ordered).message().contains("weight_g_idx"));
}

#[test]
fn a_dense_checkpoint_decompresses_to_itself() {
    let done = run(&Dequantize, &model(), 4).unwrap();
    assert_eq!(done.output.data, model().data);
    assert!(done.plan.notes.is_empty());
}

#[test]
fn shapes_that_disagree_are_named() {
    let mut broken = run(&pass("w4a16:16"), &model(), 4).unwrap().output;
    let at = broken.position("model.layers.0.self_attn.q_proj.weight_scale");
    broken.header.tensors[at].shape = vec![15, 2];
    broken.data[at].truncate(120);
    let error = refusal(&Dequantize, &broken);
    assert!(error.message().contains("q_proj.weight_scale"), "{error}");
}
