use dlopt_checkpoint::{Checkpoint, Dtype};
use dlopt_inspect::{metadata, summary};

use crate::fixture::{Model, fixture};

#[test]
fn a_quantized_folder_is_summed_up_from_its_headers() {
    let checkpoint = Checkpoint::open(&fixture("golden/tiny_llama/w4a16_g32_asym")).unwrap();
    let found = summary(&checkpoint);
    assert_eq!(found.warnings, [""; 0]);
    assert_eq!(found.model_type.as_deref(), Some("llama"));
    assert_eq!(found.parameters, 37_056);
    let group = &found.quantization.as_ref().unwrap().groups[0];
    assert_eq!((group.format.as_str(), group.weights.as_str()), ("pack-quantized", "int4 asymmetric, group 32"));
    assert_eq!(found.quantization.as_ref().unwrap().compressed_tensors, 7);
    let packed = found.tensors.iter().find(|t| t.name.ends_with("q_proj.weight_packed")).unwrap();
    assert_eq!(packed.part_of.as_deref(), Some("model.layers.0.self_attn.q_proj.weight"));
    assert_eq!(packed.kind, "linear");
    let modules: Vec<_> = found.modules.iter().map(|m| m.module.as_str()).collect();
    assert!(modules.contains(&"model.layers.*.self_attn") && modules.contains(&"lm_head"), "{modules:?}");
    assert_eq!(found.modules.iter().map(|m| m.parameters).sum::<u64>(), found.parameters);
    assert_eq!(found.modules.iter().map(|m| m.bytes).sum::<u64>(), found.bytes);
    assert_eq!(found.dtypes.iter().map(|d| d.bytes).sum::<u64>(), found.bytes);
    assert!((found.dtypes.iter().map(|d| d.share).sum::<f64>() - 1.0).abs() < 1e-12);
    assert_eq!(found.shards[0].tensors, found.tensor_count);
    assert!(metadata(&checkpoint)["config"]["quantization_config"].is_object());
}

#[test]
fn parts_of_integers_are_their_weight() {
    let checkpoint = Checkpoint::open(&fixture("golden/tiny_llama/w8a8_int8")).unwrap();
    let found = summary(&checkpoint);
    let codes = found.tensors.iter().find(|t| t.name.ends_with("q_proj.weight")).unwrap();
    assert_eq!((codes.dtype, codes.kind), ("I8", "linear"));
    assert_eq!(codes.part_of.as_deref(), Some("model.layers.0.self_attn.q_proj.weight"));
}

#[test]
fn what_is_broken_becomes_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::new()
        .with("a.weight_packed", Dtype::I32, &[2, 2], vec![0; 16])
        .with_metadata("dlopt.history", "[")
        .with_metadata("config", "no");
    let found = summary(&model.open(dir.path()));
    assert!(found.warnings.len() >= 2, "{:?}", found.warnings);
    assert_eq!(found.parameters, 4);
}

#[test]
fn plain_checkpoints_have_no_quantization() {
    let found = summary(&Checkpoint::open(&fixture("silero/silero_vad_16k.safetensors")).unwrap());
    assert!(found.quantization.is_none());
    assert!(found.tensors.iter().all(|t| t.part_of.is_none()));
}
