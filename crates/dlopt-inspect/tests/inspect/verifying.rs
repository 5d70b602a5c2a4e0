use std::path::Path;

use dlopt_checkpoint::{Checkpoint, Dtype, NameGlob, Pass, Selection};
use dlopt_inspect::{Finding, Severity, Verification, VerifyOptions, verify, verify_path};
use dlopt_prune::{Prune, PruneOptions, PruneScope};
use dlopt_quantize::{Quantize, Scheme};

use crate::fixture::{Model, fixture, noise, run, usual};

const LAYERS: &str = "model.layers.0.mlp.up_proj";

fn check(path: &Path) -> Verification {
    verify_path(path, VerifyOptions::default(), &usual()).unwrap()
}

fn check_model(model: &Model) -> Verification {
    let dir = tempfile::tempdir().unwrap();
    check(&model.write(dir.path()))
}

fn errors(found: &Verification) -> Vec<&Finding> {
    found.findings.iter().filter(|f| f.severity == Severity::Error).collect()
}

#[track_caller]
fn assert_error(found: &Verification, tensor: &str, what: &str) {
    let is = |f: &&&Finding| f.tensor.as_deref().unwrap_or_default().contains(tensor) && f.what.contains(what);
    assert!(!found.is_ok && errors(found).iter().any(|f| is(&f)), "{:#?}", found.findings);
}

fn llama(name: &str) -> Model {
    Model::read(&fixture(&format!("golden/tiny_llama/{name}")))
}

#[test]
fn golden_folders_are_fine() {
    for name in ["dense", "w8a8_int8", "w4a16_g32", "w4a16_g32_asym", "nvfp4a16"] {
        let found = check(&fixture(&format!("golden/tiny_llama/{name}")));
        assert_eq!(found.findings, [], "{name}");
        assert!(found.is_ok);
        let quick = VerifyOptions { is_quick: true };
        let found = verify_path(&fixture(&format!("golden/tiny_llama/{name}")), quick, &usual()).unwrap();
        assert_eq!(found.findings, [], "{name}");
        assert!(found.checks.iter().any(|c| c.name == "weights" && c.skipped.is_some()));
    }
    assert!(check(&fixture("silero/silero_vad_16k.safetensors")).is_ok);
}

#[test]
fn scales_must_be_positive_numbers() {
    let mut model = llama("w4a16_g32");
    model.bytes_of(&format!("{LAYERS}.weight_scale"))[..2].copy_from_slice(&[0xc0, 0x7f]);
    assert_error(&check_model(&model), LAYERS, "scale");
}

#[test]
fn recorded_shapes_must_be_those_in_use() {
    let mut model = llama("w4a16_g32");
    model.bytes_of(&format!("{LAYERS}.weight_shape"))[8] = 63;
    assert_error(&check_model(&model), LAYERS, "shape");
}

#[test]
fn parts_must_have_their_shapes() {
    let mut model = llama("w4a16_g32");
    let at = model.place(&format!("{LAYERS}.weight_scale"));
    model.header.tensors[at].shape = vec![64, 3];
    assert!(!check_model(&model).is_ok);
}

#[test]
fn missing_and_stray_parts_are_found() {
    for part in ["weight_scale", "weight_shape", "weight_packed"] {
        let found = check_model(&llama("w4a16_g32").without(&format!("{LAYERS}.{part}")));
        assert_error(&found, LAYERS, "");
    }
    let zero = llama("w4a16_g32").with(&format!("{LAYERS}.weight_zero_point"), Dtype::I32, &[12, 2], vec![0; 96]);
    assert_error(&check_model(&zero), "weight_zero_point", "symmetric");
    let mut bare = llama("w8a8_int8");
    bare.header.metadata.remove("config");
    assert_error(&check_model(&bare), "weight_scale", "no `quantization_config`");
    let nothing = llama("w4a16_g32_asym").without(&format!("{LAYERS}.weight_zero_point"));
    assert_error(&check_model(&nothing), "weight_zero_point", "asymmetric");
}

#[test]
fn config_and_tensors_must_agree() {
    let with_config = |model: Model, from: &str, to: &str| {
        let text = model.header.metadata["config"].replace(from, to);
        assert_ne!(text, model.header.metadata["config"], "{from}");
        check_model(&model.with_metadata("config", &text))
    };
    assert_error(&with_config(llama("dense"), "\"vocab_size\": 48", "\"vocab_size\": 50"), "lm_head", "vocab_size");
    assert_error(&with_config(llama("dense"), "\"hidden_size\": 64", "\"hidden_size\": 32"), "embed_tokens", "hidden");
    assert_error(&with_config(llama("dense"), "\"num_hidden_layers\": 1", "\"num_hidden_layers\": 2"), "", "layers");
    let ignore = with_config(llama("w4a16_g32"), "\"lm_head\"", "\"lm_head\", \"re:.*up_proj$\"");
    assert_error(&ignore, LAYERS, "`ignore` says");
    let status = with_config(llama("w4a16_g32"), "\"compressed\"", "\"frozen\"");
    assert_error(&status, "", "quantization_status");
    assert!(with_config(llama("w4a16_g32"), "\"lm_head\"", "\"re:.*_head$\"").is_ok);
    let dense = llama("w4a16_g32").with("model.layers.0.extra.weight", Dtype::BF16, &[4, 4], vec![0; 32]);
    assert_error(&check_model(&dense), "extra", "is dense");
}

#[test]
fn nan_in_weights_is_a_warning() {
    let found = check_model(&Model::new().with_f32("w", &[3], &[1.0, f32::NAN, f32::INFINITY]));
    assert!(found.is_ok);
    let told: Vec<_> = found.findings.iter().map(|f| f.what.as_str()).collect();
    assert_eq!(told, ["1 NaN, the first at index 1", "1 infinities, the first at index 2"]);
}

fn dense(dir: &Path) -> std::path::PathBuf {
    Model::new()
        .with_f32("a.fc1.weight", &[24, 40], &noise(960, 1))
        .with_f32("a.fc2.weight", &[9, 64], &noise(576, 2))
        .with_f32("b.conv.weight", &[6, 8, 3], &noise(144, 3))
        .with_f32("b.conv.bias", &[6], &noise(6, 4))
        .write(dir)
}

fn prune(pattern: &str, sparsity: Option<f64>, scope: Option<PruneScope>, store: &str) -> Prune {
    Prune::new(PruneOptions {
        pattern: pattern.to_owned(),
        sparsity,
        scope,
        store: store.to_owned(),
        ..PruneOptions::default()
    })
    .unwrap()
}

#[test]
fn what_passes_write_is_fine() {
    let dir = tempfile::tempdir().unwrap();
    let from = dense(dir.path());
    let half = prune("unstructured", Some(0.5), None, "dense");
    let global = prune("unstructured", Some(0.3), Some(PruneScope::Global), "dense");
    let pattern = prune("2:4", None, None, "dense");
    let mask = prune("unstructured", Some(0.6), None, "bitmask");
    let mask_pattern = prune("2:4", None, None, "bitmask");
    let int4 = Quantize::new(Scheme::parse("w4a16:8").unwrap());
    let asym = Quantize::new(Scheme::parse("w4a16_asym:8").unwrap());
    let int8 = Quantize::new(Scheme::parse("w8a8").unwrap());
    let fp8 = Quantize::new(Scheme::parse("fp8").unwrap());
    let chains: [&[&dyn Pass]; 10] = [
        &[&half],
        &[&global],
        &[&pattern],
        &[&mask],
        &[&mask_pattern],
        &[&int4],
        &[&asym],
        &[&int8],
        &[&fp8],
        &[&pattern, &int4],
    ];
    for (i, chain) in chains.iter().enumerate() {
        let to = dir.path().join(format!("{i}/out.safetensors"));
        run(&from, chain, &to).unwrap();
        let found = check(&to);
        assert!(errors(&found).is_empty(), "chain {i}: {:#?}", found.findings);
    }
}

#[test]
fn a_llama_that_passes_wrote_is_fine() {
    let dir = tempfile::tempdir().unwrap();
    for (i, scheme) in ["w4a16:32", "w8a8", "fp8", "w8a16:32", "fp8_block"].iter().enumerate() {
        let to = dir.path().join(format!("{i}/out.safetensors"));
        let pass = Quantize::new(Scheme::parse(scheme).unwrap());
        run(&fixture("golden/tiny_llama/dense"), &[&pass], &to).unwrap();
        let found = check(&to);
        assert!(found.findings.is_empty(), "{scheme}: {:#?}", found.findings);
    }
}

#[test]
fn broken_claims_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let from = dense(dir.path());
    for (pass, what) in [
        (prune("2:4", None, None, "dense"), "2:4"),
        (prune("unstructured", Some(0.5), None, "dense"), "sparsity 0.5"),
        (prune("unstructured", Some(0.5), Some(PruneScope::Global), "dense"), "tensors together"),
    ] {
        let to = dir.path().join("claims/out.safetensors");
        run(&from, &[&pass], &to).unwrap();
        let mut model = Model::read(&to);
        let bytes = model.bytes_of("a.fc1.weight");
        let zero = bytes.as_chunks::<4>().0.iter().position(|b| f32::from_le_bytes(*b) == 0.0).unwrap();
        bytes[4 * zero..4 * zero + 4].copy_from_slice(&1f32.to_le_bytes());
        assert_error(&check_model(&model), "", what);
    }
}

#[test]
fn selected_tensors_only_are_held_to_their_claims() {
    let dir = tempfile::tempdir().unwrap();
    let from = dense(dir.path());
    let include = vec![NameGlob::new("a.fc2.*").unwrap()];
    let selection = Selection { include, ..Selection::default() };
    let options = PruneOptions { pattern: "2:4".to_owned(), selection, ..PruneOptions::default() };
    let to = dir.path().join("one/out.safetensors");
    run(&from, &[&Prune::new(options).unwrap()], &to).unwrap();
    assert_eq!(errors(&check(&to)).len(), 0);
}

#[test]
fn patterns_down_the_inputs_are_held_to_their_claims() {
    let dir = tempfile::tempdir().unwrap();
    let from = Model::new()
        .with_f32("h.0.attn.c_attn.weight", &[16, 12], &noise(192, 5))
        .with_metadata("config", r#"{"model_type":"gpt2"}"#)
        .write(dir.path());
    let include = vec![NameGlob::new("h.0.attn.c_attn.weight").unwrap()];
    let selection = Selection { include, ..Selection::default() };
    let options = PruneOptions { pattern: "2:4".to_owned(), selection, ..PruneOptions::default() };
    let to = dir.path().join("down/out.safetensors");
    run(&from, &[&Prune::new(options).unwrap()], &to).unwrap();
    let found = check(&to);
    assert!(found.is_ok && found.checks.iter().any(|c| c.name == "claims" && c.skipped.is_none()), "{found:#?}");
    let mut model = Model::read(&to);
    model.bytes_of("h.0.attn.c_attn.weight")[..4 * 48]
        .chunks_mut(4)
        .for_each(|b| b.copy_from_slice(&[0, 0, 0x80, 0x3f]));
    assert_error(&check_model(&model), "c_attn", "2:4");
}

#[test]
fn folders_must_be_whole() {
    let dir = tempfile::tempdir().unwrap();
    let model = |name: &str| Model::new().with_f32(name, &[2], &[1.0, 2.0]).file();
    let file = |name: &str| dir.path().join(name);
    std::fs::write(file("model-00001-of-00002.safetensors"), model("a")).unwrap();
    std::fs::write(file("model-00002-of-00002.safetensors"), model("b")).unwrap();
    let index = |total: u64| {
        let map = serde_json::json!({
            "a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"
        });
        let index = serde_json::json!({"metadata": {"total_size": total}, "weight_map": map});
        std::fs::write(file("model.safetensors.index.json"), index.to_string()).unwrap();
    };
    index(16);
    assert_eq!(check(dir.path()).findings, []);
    index(17);
    assert!(check(dir.path()).findings[0].what.contains("total_size"));
    index(16);
    std::fs::write(file("tokenizer.json"), "{").unwrap();
    assert_eq!(check(dir.path()).findings[0].file.as_deref(), Some("tokenizer.json"));
    std::fs::remove_file(file("tokenizer.json")).unwrap();
    std::fs::write(file("model-00003-of-00003.safetensors"), model("c")).unwrap();
    assert!(!check(dir.path()).is_ok);
    std::fs::remove_file(file("model-00003-of-00003.safetensors")).unwrap();
    std::fs::remove_file(file("model-00002-of-00002.safetensors")).unwrap();
    assert_error(&check(dir.path()), "", "missing");
}

#[test]
fn broken_layouts_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("m/out.safetensors");
    run(&dense(dir.path()), &[&prune("unstructured", Some(0.6), None, "bitmask")], &to).unwrap();
    let whole = Model::read(&to);
    let part = whole.header.tensors.iter().map(|t| t.name.clone()).find(|n| n.ends_with(".bitmask")).unwrap();
    assert_error(&check_model(&Model::read(&to).without(&part)), "", "missing");
    let mut bits = Model::read(&to);
    bits.bytes_of(&part)[0] ^= 1;
    assert!(!check_model(&bits).is_ok);
    let text = whole.header.metadata["dlopt.layout"].replacen("\"shape\":[24", "\"shape\":[25", 1);
    assert!(!check_model(&Model::read(&to).with_metadata("dlopt.layout", &text)).is_ok);
    assert!(!check_model(&Model::read(&to).with_metadata("dlopt.layout", "{}")).is_ok);
    assert!(!check_model(&Model::read(&to).with_metadata("dlopt.history", "{}")).is_ok);
}

#[test]
fn streams_are_verified_whole() {
    let open =
        |bytes: Vec<u8>| Checkpoint::from_stream(Box::new(std::io::Cursor::new(bytes)), "pipe".to_owned()).unwrap();
    let bytes = Model::new().with_f32("w", &[2], &[1.0, 2.0]).file();
    assert!(verify(&open(bytes.clone()), VerifyOptions::default(), &usual()).unwrap().is_ok);
    let short = verify(&open(bytes[..bytes.len() - 1].to_vec()), VerifyOptions::default(), &usual()).unwrap();
    assert_error(&short, "", "ended");
}
