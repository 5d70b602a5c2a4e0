//! Somebody else's speech detector on real sound, whole, quantized and pruned: the figures of a separate implementation in
//! numpy. `scripts/check-silero.sh` fetches the sound and runs this.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dlopt_checkpoint::Checkpoint;
use dlopt_kernels::nn::Team;
use dlopt_model::{FlatLayout, Network, load};
use support::*;

/// The values of a WAV file of one channel and 16 bits, in -1..=1, 16,000 a second by linear interpolation of 8,000.
fn signal(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!((&bytes[..4], &bytes[8..12]), (&b"RIFF"[..], &b"WAVE"[..]));
    let mut at = 12;
    while &bytes[at..at + 4] != b"data" {
        if &bytes[at..at + 4] == b"fmt " {
            assert_eq!((word(at + 8), word(at + 12)), (0x0001_0001, 8000), "PCM, one channel, 8 kHz");
        }
        at += 8 + word(at + 4) as usize;
    }
    let data = &bytes[at + 8..][..word(at + 4) as usize];
    let slow: Vec<f32> = data.as_chunks().0.iter().map(|b| f32::from(i16::from_le_bytes(*b)) / 32_768.0).collect();
    let next = slow[1..].iter().chain(slow.last());
    slow.iter().zip(next).flat_map(|(a, b)| [*a, 0.5 * (a + b)]).collect()
}

/// The probabilities that a checkpoint gives for each window of a signal.
fn probabilities(checkpoint: &Path, signal: &[f32]) -> Vec<f32> {
    let mut loaded = load(&Checkpoint::open(checkpoint).unwrap()).unwrap();
    let layout: &FlatLayout = &loaded.layout;
    let mut network = Network::new(&loaded.nodes, layout, &[], Arc::new(Team::new(2)));
    network.load(&loaded.params, false);
    let mut states = network.stream().unwrap();
    let windows = loaded.config.stream.unwrap().windows(signal);
    let sample = loaded.config.input.len();
    let mut all = Vec::new();
    for windows in windows.chunks(100 * sample) {
        all.extend(network.forward_with(&loaded.params, &mut loaded.buffers, windows, None, &mut states).unwrap());
    }
    all
}

fn mean(values: impl ExactSizeIterator<Item = f32>) -> f64 {
    let count = values.len() as f64;
    values.map(f64::from).sum::<f64>() / count
}

fn share(probabilities: &[f32]) -> f64 {
    mean(probabilities.iter().map(|p| f32::from(u8::from(*p > 0.5))))
}

fn silero() -> PathBuf {
    fixture("silero/silero_vad_16k.safetensors")
}

#[test]
fn speech_and_silence_are_told_apart_as_in_numpy() {
    let Some(folder) = fetched("speech") else { return };
    for (file, windows, wanted_mean, wanted_share) in [
        ("prompts/demo-congrats.wav", 947, 0.9311, 0.9282),
        ("digits/0.wav", 28, 0.7893, 0.7857),
        ("silence/1.wav", 32, 0.0103, 0.0),
    ] {
        let found = probabilities(&silero(), &signal(&folder.join(file)));
        println!(
            "{file}: {} windows, mean {:.5}, over 0.5 {:.4}",
            found.len(),
            mean(found.iter().copied()),
            share(&found)
        );
        assert_eq!(found.len(), windows, "{file}");
        assert!((mean(found.iter().copied()) - wanted_mean).abs() < 1e-4, "{file}");
        assert!((share(&found) - wanted_share).abs() < 5.1e-5, "{file}");
    }
    let found = probabilities(&silero(), &signal(&folder.join("prompts/demo-congrats.wav")));
    println!("first: {:?}", &found[..5]);
    for (found, wanted) in found.iter().zip([0.0199, 0.0239, 0.0175, 0.0154, 0.0135]) {
        assert!((found - wanted).abs() < 1e-4, "{found}, wanted {wanted}");
    }
}

#[test]
fn compressed_it_decides_as_in_numpy() {
    let Some(folder) = fetched("speech") else { return };
    let signal = signal(&folder.join("prompts/demo-congrats.wav"));
    let before = probabilities(&silero(), &signal);
    let dir = temp_dir();
    let path = silero().display().to_string();
    // Mean change of probability, share of decisions kept.
    for (name, command, change, kept) in [
        ("int8", "quantize IN --scheme w8a16 --group channel -o int8.safetensors", 0.0012, 0.999),
        ("int4", "quantize IN --scheme w4a16 --group channel --method absmax -o int4.safetensors", 0.054, 0.970),
        // The same with 7.5 steps to the largest weight, as the runtimes have it: dlopt's own figures.
        ("rtn4", "quantize IN --scheme w4a16 --group channel -o rtn4.safetensors", 0.065, 0.926),
        ("half", "prune IN --sparsity 0.5 -o half.safetensors", 0.028, 0.970),
        ("bits", "prune IN --sparsity 0.5 --store bitmask -o bits.safetensors", 0.028, 0.970),
    ] {
        ok_in(dir.path(), &command.replace("IN", &path));
        let after = probabilities(&dir.path().join(format!("{name}.safetensors")), &signal);
        let pairs = || before.iter().zip(&after);
        let found_change = mean(pairs().map(|(a, b)| (a - b).abs()));
        let found_kept = mean(pairs().map(|(a, b)| f32::from(u8::from((*a > 0.5) == (*b > 0.5)))));
        println!("{name}: mean change {found_change:.4}, {:.1} % of decisions kept", 100.0 * found_kept);
        assert!((found_change - change).abs() <= 0.1 * change, "{name}: {found_change}, wanted {change}");
        assert!((found_kept - kept).abs() < 0.0025, "{name}: {found_kept}, wanted {kept}");
    }
}

#[test]
fn sound_files_are_judged_on_the_command_line() {
    let dir = temp_dir();
    let predict = |more: &str| ok_in(dir.path(), &format!("predict {} {more}", silero().display()));
    // 2,000 samples at 8,000 a second, of one channel or two, are 8 windows.
    for file in ["tone.flac", "stereo.flac", "tone.ogg"] {
        let path = fixture(&format!("sounds/{file}")).display().to_string();
        let text = out(&predict(&path));
        assert!(text.starts_with(&format!("{path}\tmean probability 0.")) && text.contains("% of 8 windows"), "{text}");
    }
    let Some(folder) = fetched("speech") else { return };
    for (file, windows, wanted_mean, wanted_share) in
        [("prompts/demo-congrats.wav", 947, 0.9311, 0.9282), ("silence/1.wav", 32, 0.0103, 0.0)]
    {
        let found = json_out(&predict(&format!("{} --json", folder.join(file).display())));
        println!("{file}: mean {}, over half {}", found["mean"], found["over_half"]);
        assert_eq!(found["probabilities"].as_array().unwrap().len(), windows, "{file}");
        // The figures are of sound resampled by straight lines.
        assert!((found["mean"].as_f64().unwrap() - wanted_mean).abs() < 0.02, "{file}: {}", found["mean"]);
        assert!((found["over_half"].as_f64().unwrap() - wanted_share).abs() < 0.02, "{file}: {}", found["over_half"]);
        assert_eq!(found["seconds_of_window"], 0.032);
    }
}
