//! Losses, optimisers and schedules against PyTorch's; `fixtures/layers/generate_steps.py` made the files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dlopt_checkpoint::{Checkpoint, Dtype, Tensors};
use dlopt_data::Batch;
use dlopt_kernels::nn::Team;
use serde_json::Value;

use crate::loss::{Loss, LossOptions};
use crate::optimizer::{Group, Optimizer, Step, update};
use crate::schedule::{PlateauState, Position, Schedule};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/layers")
}

/// The cases of a file and its tensors, whatever their type, as doubles.
fn read(name: &str) -> (Vec<Value>, BTreeMap<String, Vec<f64>>) {
    let checkpoint = Checkpoint::open(&folder().join(name)).unwrap();
    let cases: Value = serde_json::from_str(&checkpoint.header.metadata["cases"]).unwrap();
    let mut tensors = BTreeMap::new();
    for (index, info) in checkpoint.header.tensors.iter().enumerate() {
        let mut bytes = vec![0; info.bytes() as usize];
        checkpoint.read(index, 0, &mut bytes).unwrap();
        let values = match info.dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
            Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            Dtype::I64 => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
            other => panic!("{}: {other:?}", info.name),
        };
        tensors.insert(info.name.clone(), values);
    }
    (cases["cases"].as_array().unwrap().clone(), tensors)
}

fn floats(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}

fn close(found: &[f32], wanted: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    for (f, w) in found.iter().zip(wanted) {
        assert!((f64::from(*f) - w).abs() <= tolerance * w.abs().max(0.1), "{what}: {f}, wanted {w}");
    }
}

fn number(options: &Value, key: &str) -> f32 {
    options[key].as_f64().unwrap_or(0.0) as f32
}

#[test]
fn losses_and_their_gradients_are_pytorchs() {
    let (cases, tensors) = read("losses.safetensors");
    assert!(cases.len() >= 12);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let get = |part: &str| tensors.get(&format!("{name}.{part}"));
        let logits = floats(get("logits").unwrap());
        let rows = if name.contains("entropy") || name.contains("soft") { 5 } else { 4 };
        let batch = Batch {
            indices: (0..rows).collect(),
            labels: get("labels").map_or(Vec::new(), |l| l.iter().map(|v| *v as u32).collect()),
            targets: get("targets").map_or(Vec::new(), |t| floats(t)),
            ..Batch::default()
        };
        let loss = match case["loss"].as_str().unwrap() {
            "cross_entropy" => Loss::CrossEntropy,
            "bce_with_logits" => Loss::BinaryCrossEntropy,
            "mse" => Loss::Mse,
            _ => Loss::Huber { delta: number(&case["options"], "delta") },
        };
        let class_weights = get("class_weights").map_or(Vec::new(), |w| floats(w));
        let total: f64 = if class_weights.is_empty() {
            rows as f64
        } else {
            batch.labels.iter().map(|l| f64::from(class_weights[*l as usize])).sum()
        };
        let options = LossOptions {
            class_weights: &class_weights,
            label_smoothing: number(&case["options"], "label_smoothing"),
            scale: (1.0 / total) as f32,
        };
        let mut gradient = vec![0.0; logits.len()];
        let sum = loss.evaluate(&options, &logits, &batch, &mut gradient);
        let wanted = get("loss").unwrap()[0];
        assert!(
            (sum / total - wanted).abs() <= 2e-6 * wanted.abs().max(1.0),
            "{name}: {}, wanted {wanted}",
            sum / total
        );
        close(&gradient, get("gradient").unwrap(), 2e-6, name);
    }
}

#[test]
fn updates_are_pytorchs() {
    let (cases, tensors) = read("optimizers.safetensors");
    let mut tried = 0;
    for case in cases {
        let (name, options) = (case["name"].as_str().unwrap(), &case["options"]);
        // Keras and this crate have neither.
        if options["centered"] == true || number(options, "dampening") > 0.0 {
            continue;
        }
        let get = |key: &str| number(options, key);
        let betas = [0, 1].map(|i| options["betas"][i].as_f64().unwrap_or(0.0) as f32);
        let optimizer = match case["optimizer"].as_str().unwrap() {
            "sgd" => Optimizer::Sgd { momentum: get("momentum"), nesterov: options["nesterov"] == true },
            "adam" => Optimizer::Adam { beta1: betas[0], beta2: betas[1], epsilon: get("eps") },
            "adamw" => Optimizer::Adamw { beta1: betas[0], beta2: betas[1], epsilon: get("eps") },
            _ => Optimizer::Rmsprop { rho: get("alpha"), epsilon: get("eps"), momentum: get("momentum") },
        };
        let mut weights = floats(&tensors["start"]);
        let length = weights.len();
        let mut moments = vec![vec![0.0; length]; optimizer.moments()];
        let groups = [Group { range: 0..3, decays: true }, Group { range: 3..length, decays: true }];
        for step in 0..5 {
            let gradients = floats(&tensors["gradients"][step * length..(step + 1) * length]);
            let options = Step {
                number: step as u64 + 1,
                learning_rate: options["lr"].as_f64().unwrap(),
                weight_decay: options["weight_decay"].as_f64().unwrap(),
                gradient_scale: 1.0,
            };
            update(&optimizer, &Team::new(1), &groups, options, &mut weights, &gradients, &mut moments);
            close(&weights, &tensors[name][step * length..(step + 1) * length], 1e-5, &format!("{name}, step {step}"));
        }
        tried += 1;
    }
    assert!(tried >= 14, "{tried} cases");
}

#[test]
fn schedules_are_pytorchs() {
    let text = std::fs::read_to_string(folder().join("schedules.json")).unwrap();
    let told: Value = serde_json::from_str(&text).unwrap();
    let mut tried = 0;
    for case in told["cases"].as_array().unwrap() {
        let (name, base, options) = (case["name"].as_str().unwrap(), case["base"].as_f64().unwrap(), &case["options"]);
        let number = |key: &str| options[key].as_f64().unwrap();
        let (schedule, steps) = match name {
            "step" => (Schedule::Step { every: 3, gamma: number("gamma") }, 12),
            "cosine" => (Schedule::Cosine { floor: number("eta_min") / base }, number("T_max") as u64),
            "linear" => (Schedule::Linear { floor: number("end_factor") }, number("total_iters") as u64),
            "one_cycle" => (Schedule::OneCycle, number("total_steps") as u64),
            "plateau" => (Schedule::Plateau { factor: number("factor"), patience: 2 }, 100),
            _ => continue,
        };
        tried += 1;
        let mut plateau = PlateauState::default();
        for (index, wanted) in case["values"].as_array().unwrap().iter().enumerate().take(steps as usize) {
            let at = Position { step: index as u64, steps, warmup: 0, epoch: index };
            let (found, wanted) = (base * schedule.factor(at, plateau.factor), wanted.as_f64().unwrap());
            // PyTorch's plateau has a least rate here, which this one has not.
            if wanted <= 0.002 && name == "plateau" {
                break;
            }
            assert!((found - wanted).abs() <= 1e-9 + 1e-6 * wanted, "{name}, {index}: {found}, wanted {wanted}");
            if name == "plateau" {
                plateau.observe(&schedule, case["metrics"][index].as_f64().unwrap());
            }
        }
    }
    assert_eq!(tried, 5);
}
