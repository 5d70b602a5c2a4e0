//! Whether a sound is speech: the 16 kHz network of the Python package `silero-vad` 6.2.3 (Silero Team, 2024).
//!
//! A window of 512 values with the 64 before it, mirrored at its end, goes through a fixed Fourier transform
//! (`stft_conv.weight` `[258, 1, 256]`: cosines, then sines) to magnitudes, four convolutions over the four steps that are
//! left, and an LSTM that reads one step a window and goes on from window to window. What comes out is a probability: the
//! sigmoid is the network's last layer.

use dlopt_checkpoint::Header;
use serde_json::json;

use super::{Architecture, shape};
use crate::config::{ModelConfig, Stream};
use crate::description::{
    ActivationLayer, Conv1d, Description, Flatten, Layer, LayerType, Magnitude, Pad1d, Padding, RecurrentStack, Units,
};
use crate::plan::{Activation, PadKind, Shape};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "silero-vad",
    summary: "speech or not, 32 ms at a time: the 16 kHz network of silero-vad",
    source: "Silero Team, 2024, silero-vad 6.2.3",
    recognize,
    names: &[
        ("stft_conv.weight", "stft_conv.weight"),
        ("conv1.weight", "conv1.weight"),
        ("conv1.bias", "conv1.bias"),
        ("conv2.weight", "conv2.weight"),
        ("conv2.bias", "conv2.bias"),
        ("conv3.weight", "conv3.weight"),
        ("conv3.bias", "conv3.bias"),
        ("conv4.weight", "conv4.weight"),
        ("conv4.bias", "conv4.bias"),
        ("lstm_cell.weight_ih_l0", "lstm_cell.weight_ih"),
        ("lstm_cell.weight_hh_l0", "lstm_cell.weight_hh"),
        ("lstm_cell.bias_ih_l0", "lstm_cell.bias_ih"),
        ("lstm_cell.bias_hh_l0", "lstm_cell.bias_hh"),
        ("final_conv.weight", "final_conv.weight"),
        ("final_conv.bias", "final_conv.bias"),
    ],
};

const STREAM: Stream = Stream { window: 512, context: 64, rate: 16_000 };
/// Values that the transform sees at once, and how far apart.
const FRAME: usize = 256;
const HOP: usize = 128;
/// Values mirrored at the end of a window.
const MIRRORED: usize = 64;
/// Steps between the windows of `conv1` to `conv4`.
const STRIDES: [usize; 4] = [1, 2, 2, 1];

fn recognize(header: &Header) -> Option<ModelConfig> {
    let is_its = |(_, name): &(&str, &str)| shape(header, name).is_some();
    if header.tensors.len() != ARCHITECTURE.names.len() || !ARCHITECTURE.names.iter().all(is_its) {
        return None;
    }
    let &[bins, 1, FRAME] = shape(header, "stft_conv.weight")? else { return None };
    if bins != FRAME + 2 {
        return None;
    }
    let mut layers = vec![
        layer("pad", LayerType::Pad1d(Pad1d { left: 0, right: MIRRORED, mode: PadKind::Reflect })),
        layer("stft_conv", LayerType::Conv1d(Conv1d { bias: false, ..convolution(bins, FRAME, HOP, 0) })),
        layer("magnitude", LayerType::Magnitude(Magnitude {})),
    ];
    for (number, stride) in (1..).zip(STRIDES) {
        let name = format!("conv{number}");
        let &[filters, _, kernel] = shape(header, &format!("{name}.weight"))? else { return None };
        let own = Conv1d { activation: Some(Activation::Relu), ..convolution(filters, kernel, stride, kernel / 2) };
        layers.push(layer(&name, LayerType::Conv1d(own)));
    }
    let &[_, hidden] = shape(header, "lstm_cell.weight_hh")? else { return None };
    let cell = RecurrentStack { hidden, layers: 1, bidirectional: false, return_sequences: true, dropout: 0.0 };
    let &[outputs @ 1, _, 1] = shape(header, "final_conv.weight")? else { return None };
    let last = Conv1d { activation: Some(Activation::Sigmoid), ..convolution(outputs, 1, 1, 0) };
    layers.extend([
        layer("lstm_cell", LayerType::Lstm(cell)),
        layer("relu", LayerType::Activation(ActivationLayer { function: Activation::Relu })),
        layer("final_conv", LayerType::Conv1d(last)),
        layer("flatten", LayerType::Flatten(Flatten { order: None })),
    ]);
    let description = Description {
        summary: Some(ARCHITECTURE.summary.to_owned()),
        source: Some(ARCHITECTURE.source.to_owned()),
        layers,
        ..Description::default()
    };
    let input = Shape::Series { time: STREAM.context + STREAM.window, features: 1 };
    let mut config = ModelConfig::new(&description, input, outputs, Vec::new()).ok()?;
    config.stream = Some(STREAM);
    config.preprocessing = json!({
        "elements": { "kind": "series", "time": STREAM.context + STREAM.window, "features": 1 },
        "dtype": "F32",
        "scale": 1.0,
        "raw": { "kind": "sound" },
        "steps": [{ "step": "mono" }, { "step": "resample", "rate": STREAM.rate, "quality": "sinc" }],
    });
    Some(config)
}

fn layer(name: &str, kind: LayerType) -> Layer {
    Layer { name: Some(name.to_owned()), kind }
}

fn convolution(filters: usize, kernel: usize, stride: usize, zeros: usize) -> Conv1d {
    Conv1d {
        filters: Units::Count(filters),
        kernel,
        stride,
        padding: if zeros == 0 { Padding::Valid } else { Padding::All(zeros) },
        dilation: 1,
        groups: 1,
        bias: true,
        activation: None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use dlopt_checkpoint::{Checkpoint, Dtype, TensorInfo};
    use dlopt_kernels::nn::Team;

    use super::*;
    use crate::network::Network;
    use crate::weights::{Loaded, load};

    fn loaded() -> Loaded {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/silero/silero_vad_16k.safetensors");
        load(&Checkpoint::open(&path).unwrap()).unwrap()
    }

    /// Two tones and a little of everything, in whole numbers, so that every machine makes the same.
    fn signal(len: usize) -> Vec<f32> {
        let triangle = |at: usize, period: usize| (at % period).abs_diff(period / 2) as f32 / period as f32 - 0.25;
        let noise = |at: usize| ((at as u32).wrapping_mul(2_654_435_761) >> 16) as f32 / 65_536.0 - 0.5;
        (0..len).map(|at| 0.5 * triangle(at, 128) + 0.25 * triangle(at, 37) + 0.05 * noise(at)).collect()
    }

    /// The forward pass once more, in 64 bits and plainly, window by window.
    fn reference(loaded: &Loaded, signal: &[f32]) -> Vec<f64> {
        let tensors = loaded.layout.params_to_checkpoint(&loaded.params);
        let get = |name: &str| -> Vec<f64> {
            let tensor = tensors.iter().find(|t| t.name == name).unwrap();
            tensor.values.iter().map(|v| f64::from(*v)).collect()
        };
        // `x` is `[channels][time]`.
        let convolve = |x: &[Vec<f64>], name: &str, kernel: usize, stride: usize, zeros: usize| -> Vec<Vec<f64>> {
            let (w, time) = (get(&format!("{name}.weight")), x[0].len());
            let channels = x.len();
            let filters = w.len() / kernel / channels;
            let bias = if name == "stft_conv" { vec![0.0; filters] } else { get(&format!("{name}.bias")) };
            let steps = (time + 2 * zeros - kernel) / stride + 1;
            let at = |f: usize, step: usize| {
                let mut sum = bias[f];
                for (c, x) in x.iter().enumerate() {
                    for k in 0..kernel {
                        let place = (step * stride + k).wrapping_sub(zeros);
                        sum += x.get(place).map_or(0.0, |x| x * w[(f * channels + c) * kernel + k]);
                    }
                }
                sum
            };
            (0..filters).map(|f| (0..steps).map(|step| at(f, step)).collect()).collect()
        };
        let relu = |x: Vec<Vec<f64>>| -> Vec<Vec<f64>> {
            x.into_iter().map(|x| x.into_iter().map(|v| v.max(0.0)).collect()).collect()
        };
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let [w_ih, w_hh, b_ih, b_hh] =
            ["weight_ih", "weight_hh", "bias_ih", "bias_hh"].map(|n| get(&format!("lstm_cell.{n}_l0")));
        let (mut h, mut c) = (vec![0.0; 128], vec![0.0; 128]);
        let mut all = Vec::new();
        for window in STREAM.windows(signal).chunks_exact(576) {
            let mut x: Vec<f64> = window.iter().map(|v| f64::from(*v)).collect();
            x.extend((1..=64).map(|back| f64::from(window[575 - back])));
            let spectrum = convolve(&[x], "stft_conv", 256, 128, 0);
            let (real, imaginary) = spectrum.split_at(129);
            let bins = real.iter().zip(imaginary);
            let mut x: Vec<Vec<f64>> = bins.map(|(a, b)| a.iter().zip(b).map(|(a, b)| a.hypot(*b)).collect()).collect();
            for (name, stride) in ["conv1", "conv2", "conv3", "conv4"].into_iter().zip([1, 2, 2, 1]) {
                x = relu(convolve(&x, name, 3, stride, 1));
            }
            assert_eq!((x.len(), x[0].len()), (128, 1));
            let gate = |unit: usize, h: &[f64]| {
                let row = |w: &[f64], x: &[f64]| w[unit * 128..][..128].iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
                let x: Vec<f64> = x.iter().map(|x| x[0]).collect();
                row(&w_ih, &x) + b_ih[unit] + row(&w_hh, h) + b_hh[unit]
            };
            let gates: Vec<f64> = (0..512).map(|unit| gate(unit, &h)).collect();
            for unit in 0..128 {
                let [i, f, g, o] = [0, 1, 2, 3].map(|gate| gates[gate * 128 + unit]);
                c[unit] = sigmoid(f) * c[unit] + sigmoid(i) * g.tanh();
                h[unit] = sigmoid(o) * c[unit].tanh();
            }
            let out = convolve(&h.iter().map(|h| vec![h.max(0.0)]).collect::<Vec<_>>(), "final_conv", 1, 1, 0);
            all.push(sigmoid(out[0][0]));
        }
        all
    }

    #[test]
    fn the_real_network_says_what_its_forward_pass_says() {
        let mut loaded = loaded();
        assert_eq!(loaded.config.stream, Some(STREAM));
        assert_eq!(ModelConfig::from_json(&loaded.config.to_json()).unwrap(), loaded.config);
        let signal = signal(512 * 6 + 100);
        let wanted = reference(&loaded, &signal);
        let mut network = Network::new(&loaded.nodes, &loaded.layout, &[], Arc::new(Team::new(2)));
        network.load(&loaded.params, false);
        let mut states = network.stream().unwrap();
        let windows = STREAM.windows(&signal);
        let found = network.forward_with(&loaded.params, &mut loaded.buffers, &windows, None, &mut states).unwrap();
        assert_eq!(found.len(), 7);
        for (found, wanted) in found.iter().zip(&wanted) {
            // Sums of up to 387 products in 32 bits.
            assert!((f64::from(*found) - wanted).abs() < 1e-5, "{found}, wanted {wanted}");
        }
        assert!(wanted.iter().any(|p| (p - wanted[0]).abs() > 1e-3), "{wanted:?}");
    }

    #[test]
    fn other_tensors_are_not_its() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/silero/silero_vad_16k.safetensors");
        let header = Checkpoint::open(&path).unwrap().header;
        assert_eq!(Architecture::of(&header).unwrap().0.name, "silero-vad");
        let mut more = header.clone();
        more.tensors.push(TensorInfo::new("more", Dtype::F32, [3]));
        assert!(Architecture::of(&more).is_none());
        // The 8 kHz network has shorter windows.
        let mut other = header;
        let stft = other.tensors.iter_mut().find(|t| t.name == "stft_conv.weight").unwrap();
        stft.shape = vec![130, 1, 128];
        assert!(Architecture::of(&other).is_none());
    }
}
