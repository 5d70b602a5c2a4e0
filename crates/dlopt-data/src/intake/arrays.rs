//! Arrays of new samples: one of a `.npy`, `.npz` or safetensors file, `[samples, …]` or a single sample.

use std::path::Path;

use dlopt_checkpoint::{Checkpoint, Dtype, Error, Result, Tensors, alignment_bytes, dtype_name};

use super::{Each, Intake};
use crate::convert::{Affine, STORABLE};
use crate::dataset::quoted;
use crate::info::RawInput;
use crate::raw::{Image, Raw, Series, Values};

/// What the array is called where a file holds several.
const NAMES: [&str; 7] = ["inputs", "x", "X", "data", "images", "x_test", "X_test"];

/// Endings of such files.
pub(super) const EXTENSIONS: [&str; 3] = ["npy", "npz", "safetensors"];

/// How samples lie in an array.
struct Form {
    samples: usize,
    /// Extents of one.
    shape: Vec<usize>,
    is_channels_first: bool,
}

pub(super) fn read(intake: &Intake, path: &Path, each: &mut Each<'_>) -> Result<()> {
    let checkpoint = Checkpoint::open_spooling_in(path, &std::env::temp_dir())?;
    let tensors = &checkpoint.header.tensors;
    let place = match tensors.len() {
        1 => Some(0),
        _ => NAMES.iter().find_map(|name| tensors.iter().position(|tensor| tensor.name == *name)),
    };
    let place = place.ok_or_else(|| {
        let names: Vec<&str> = tensors.iter().map(|t| t.name.as_str()).take(8).collect();
        Error::input(format!("{}: holds {}, and none is called `inputs` or `x`", path.display(), quoted(&names)))
            .hint("a file with one array needs no name")
    })?;
    let info = &tensors[place];
    let within = |e: Error| e.within(format!("{}: array `{}`", path.display(), info.name));
    if !STORABLE.contains(&info.dtype) {
        return Err(within(Error::input(format!("is {}; wanted whole numbers or floats", dtype_name(info.dtype)))));
    }
    let form = form(intake.raw(), &info.shape).map_err(within)?;
    let elements: usize = form.shape.iter().product();
    let mut bytes = vec![0; elements * alignment_bytes(info.dtype)];
    for sample in 0..form.samples {
        checkpoint.read(place, (sample * bytes.len()) as u64, &mut bytes)?;
        let values = match info.dtype {
            Dtype::U8 => Values::U8(bytes.clone()),
            dtype => {
                let mut values = vec![0.0; elements];
                // What is not finite is refused where it is scaled.
                Affine::plain().apply(dtype, &bytes, &mut values);
                Values::F32(values)
            }
        };
        each(format!("{}:{}", path.display(), sample + 1), Ok(form.raw(intake.raw(), values)))?;
    }
    Ok(())
}

impl Form {
    fn raw(&self, raw: &RawInput, values: Values) -> Raw {
        match *raw {
            RawInput::Pixels { height, width, channels } => {
                let pixels = match (self.is_channels_first, values) {
                    (false, values) => values,
                    (true, Values::U8(values)) => Values::U8(channels_last(&values, channels)),
                    (true, Values::F32(values)) => Values::F32(channels_last(&values, channels)),
                };
                Raw::Image(Image { height, width, channels, pixels })
            }
            RawInput::Series { features } => {
                Raw::Series(Series { time: values.len() / features.max(1), features, rate: None, values })
            }
            _ => Raw::Row(values),
        }
    }
}

/// How samples of this kind lie in an array of this shape.
fn form(raw: &RawInput, shape: &[usize]) -> Result<Form> {
    let of = |samples: usize, shape: &[usize], is_channels_first: bool| {
        Ok(Form { samples, shape: shape.to_vec(), is_channels_first })
    };
    let one = match raw {
        RawInput::Pixels { height, width, channels } => {
            let last = [*height, *width, *channels];
            let first = [*channels, *height, *width];
            let is_last = |own: &[usize]| own == last || (*channels == 1 && own == &last[..2]);
            let rest = shape.get(1..).unwrap_or_default();
            match (is_last(shape), is_last(rest)) {
                (true, _) => return of(1, shape, false),
                (_, true) => return of(shape[0], rest, false),
                _ if *shape == first => return of(1, shape, true),
                _ if *rest == first => return of(shape[0], rest, true),
                _ => format!("[samples, {height}, {width}, {channels}]"),
            }
        }
        RawInput::Series { features } => match *shape {
            [samples, time, own] if own == *features => return of(samples, &[time, own], false),
            [time, own] if own == *features => return of(1, &[time, own], false),
            [samples, time] if *features == 1 => return of(samples, &[time], false),
            [time] if *features == 1 => return of(1, &[time], false),
            _ => format!("[samples, time, {features}]"),
        },
        RawInput::Row { columns } => match *shape {
            [samples, own] if own == columns.len() => return of(samples, &[own], false),
            [own] if own == columns.len() => return of(1, &[own], false),
            [samples] if columns.len() == 1 => return of(samples, &[1], false),
            _ => format!("[samples, {}]", columns.len()),
        },
        _ => return Err(Error::usage("is an array, and the network takes none")),
    };
    Err(Error::input(format!("has shape {shape:?}; the network takes {one}")))
}

/// `[channels, height, width]` to `[height, width, channels]`.
fn channels_last<T: Copy>(values: &[T], channels: usize) -> Vec<T> {
    let pixels = values.len() / channels.max(1);
    (0..pixels).flat_map(|pixel| (0..channels).map(move |channel| values[channel * pixels + pixel])).collect()
}
