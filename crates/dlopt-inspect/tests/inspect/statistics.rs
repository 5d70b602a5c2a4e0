use dlopt_checkpoint::{Checkpoint, Dtype};
use dlopt_inspect::{TensorStats, stats};

use crate::fixture::{Model, fixture, noise, resources, usual};

fn one(model: &Model) -> TensorStats {
    let dir = tempfile::tempdir().unwrap();
    stats(&model.open(dir.path()), &usual()).unwrap().remove(0)
}

/// Figures of numpy 2.4 in double precision:
/// `x = np.frombuffer(...).astype(np.float64); x.min(), x.max(), x.mean(), x.std(), (x == 0).sum()`.
#[test]
fn figures_of_silero_are_those_of_numpy() {
    let checkpoint = Checkpoint::open(&fixture("silero/silero_vad_16k.safetensors")).unwrap();
    let found = stats(&checkpoint, &usual()).unwrap();
    let expected = [
        ("stft_conv.weight", -1.0, 1.0, 0.0009689922457988543, 0.43301161699075025, 2433),
        ("conv1.weight", -10.660642623901367, 1.7404811382293701, -0.01784948489058539, 0.27321423295202346, 0),
        ("conv4.weight", -2.1366496086120605, 36.702232360839844, -0.0005524583903786517, 0.2826790762573275, 0),
        ("lstm_cell.weight_hh", -2.440246343612671, 2.34049916267395, -0.0038314566560810857, 0.3667805320185906, 0),
        ("final_conv.bias", -0.5740388631820679, -0.5740388631820679, -0.5740388631820679, 0.0, 0),
    ];
    for (name, min, max, mean, deviation, zeros) in expected {
        let own = found.iter().find(|s| s.name == name).unwrap();
        assert_eq!((own.min, own.max, own.zeros), (Some(min), Some(max), zeros), "{name}");
        // Sums run in f32 over 4096 values at a time.
        assert!((own.mean.unwrap() - mean).abs() < 1e-7, "{name}: {:?}", own.mean);
        assert!((own.standard_deviation.unwrap() - deviation).abs() < 1e-6 * deviation + 1e-12, "{name}");
    }
}

#[test]
fn special_values_are_counted_and_found() {
    let mut values = noise(600_000, 1);
    values[300_007] = f32::NAN;
    values[300_008] = f32::NAN;
    values[599_999] = f32::NEG_INFINITY;
    let own = one(&Model::new().with_f32("w", &[2, 300_000], &values));
    assert_eq!((own.nans, own.first_nan, own.infinities, own.first_infinity), (2, Some(300_007), 1, Some(599_999)));
    assert!(own.min.unwrap() >= -0.5 && own.max.unwrap() <= 0.5);
}

#[test]
fn the_narrowest_pattern_is_told() {
    let patterned = |rows: usize, columns: usize, n: usize, m: usize| -> Vec<f32> {
        (0..rows * columns).map(|i| if i % columns % m < n { 1.0 } else { 0.0 }).collect()
    };
    let patterns = |shape: &[usize], values: &[f32]| one(&Model::new().with_f32("w", shape, values)).patterns;
    assert_eq!(patterns(&[3, 8], &patterned(3, 8, 2, 4)), ["2:4"]);
    assert_eq!(patterns(&[3, 10], &patterned(3, 10, 1, 4)), ["1:4"]);
    assert_eq!(patterns(&[3, 16], &patterned(3, 16, 4, 8)), ["4:8"]);
    assert_eq!(patterns(&[3, 5], &patterned(3, 5, 3, 4)), [""; 0]);
    assert_eq!(patterns(&[4, 4], &[0.0; 16]), [""; 0]);
    assert_eq!(patterns(&[16], &patterned(1, 16, 2, 4)), [""; 0]);
    // Rows of 300_002 are cut inside; the tail of each row is two long and may keep one.
    let mut long = patterned(2, 300_002, 2, 4);
    long[300_001] = 0.0;
    long[600_003] = 0.0;
    assert_eq!(patterns(&[2, 300_002], &long), ["2:4"]);
    long[262_147] = 1.0;
    assert_eq!(patterns(&[2, 300_002], &long), [""; 0]);
}

#[test]
fn every_dtype_has_figures() {
    for (dtype, _) in dlopt_checkpoint::DTYPES {
        let bytes = 16 * dtype.bitsize() / 8;
        let own = one(&Model::new().with("t", dtype, &[4, 4], (0..bytes as u8).collect()));
        assert!(own.min.is_some() || own.nans > 0, "{dtype:?}");
    }
    let own = one(&Model::new().with("t", Dtype::I64, &[2], [(-3i64).to_le_bytes(), 5i64.to_le_bytes()].concat()));
    assert_eq!((own.min, own.max, own.mean, own.standard_deviation), (Some(-3.0), Some(5.0), Some(1.0), Some(4.0)));
    let own = one(&Model::new().with_f32("t", &[0, 3], &[]));
    assert_eq!((own.min, own.values, own.sparsity), (None, 0, 0.0));
}

#[test]
fn threads_and_memory_change_no_bit() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = Model::new().with_f32("w", &[700, 1000], &noise(700_000, 3)).open(dir.path());
    let all: Vec<_> = [(1, 1 << 20), (1, 1 << 30), (3, 1 << 24), (4, 1 << 30)]
        .into_iter()
        .map(|(threads, memory)| stats(&checkpoint, &resources(threads, memory)).unwrap())
        .collect();
    assert!(all.iter().all(|s| s == &all[0]));
}

#[test]
fn a_stream_is_spooled_and_a_short_one_refused() {
    let model = Model::new().with_f32("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let stream =
        |bytes: Vec<u8>| Checkpoint::from_stream(Box::new(std::io::Cursor::new(bytes)), "pipe".to_owned()).unwrap();
    assert_eq!(stats(&stream(model.file()), &usual()).unwrap()[0].mean, Some(2.5));
    let mut short = model.file();
    short.pop();
    assert!(stats(&stream(short), &usual()).unwrap_err().message().contains("pipe"));
}

#[test]
fn quantized_weights_are_seen_decoded() {
    let checkpoint = Checkpoint::open(&fixture("golden/tiny_llama/w4a16_g32")).unwrap();
    let found = stats(&checkpoint, &usual()).unwrap();
    let own = found.iter().find(|s| s.name == "model.layers.0.mlp.up_proj.weight").unwrap();
    assert_eq!((own.dtype, own.shape.as_slice(), own.kind), ("BF16", [96, 64].as_slice(), "linear"));
    assert!((own.standard_deviation.unwrap() - 0.08).abs() < 0.01);
}
