//! Hue: colours turned about the circle of hues by a share of a whole turn, at the same saturation and value (HSV, Smith
//! 1978): red becomes green at 1/3. Opacity stays as it is, and so does the label where colours do not carry it. Source:
//! torchvision's `adjust_hue`, which cuts fractions off; bytes are rounded to nearest here.

use serde::{Deserialize, Serialize};

use super::grey::in_colour;
use crate::draws::Draws;
use crate::operation::{Kinds, Operation, OperationKind};
use crate::range::Range;
use crate::sample::{Data, Element, Form, Sample, Scratch};

/// The operation.
pub(super) const KIND: OperationKind = OperationKind::of::<Hue>(
    "hue",
    "shift",
    Kinds::IMAGES,
    "colours turned about the circle of hues by a share of a turn (±0.05)",
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Hue {
    /// Share of a whole turn, -0.5..=0.5.
    shift: Range,
}

impl Default for Hue {
    fn default() -> Self {
        Self { shift: Range::new(-0.05, 0.05) }
    }
}

impl Operation for Hue {
    fn validate(&self) -> Result<(), String> {
        self.shift.within("shift", "of a turn", -0.5, 0.5)
    }

    fn check(&self, form: &Form) -> Result<(), String> {
        in_colour(form)
    }

    fn apply(&self, sample: &mut Sample, draws: &mut Draws, scratch: &mut Scratch) {
        let shift = draws.of(self.shift);
        scratch.note(|| format!("hue {shift:+.2}"));
        turn(sample, shift);
    }
}

/// Turns hues by a share of a whole turn.
fn turn(sample: &mut Sample, shift: f32) {
    let Form::Image { channels: channels @ (3 | 4), .. } = sample.form else { return };
    if shift == 0.0 {
        return;
    }
    let sixths = 6.0 * shift;
    match &mut sample.data {
        Data::U8(values) => {
            for pixel in values.chunks_exact_mut(channels) {
                let turned = turned([pixel[0], pixel[1], pixel[2]].map(f32::from), sixths);
                pixel.iter_mut().zip(turned).for_each(|(to, from)| *to = u8::of(from));
            }
        }
        Data::F32(values) => {
            for pixel in values.chunks_exact_mut(channels) {
                let turned = turned([pixel[0], pixel[1], pixel[2]], sixths);
                pixel[..3].copy_from_slice(&turned);
            }
        }
        Data::Tokens(_) => {}
    }
}

/// A colour with its hue turned by sixths of a turn.
fn turned([r, g, b]: [f32; 3], sixths: f32) -> [f32; 3] {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    let range = most - least;
    if range == 0.0 {
        return [r, g, b];
    }
    let hue = match () {
        () if most == r => (g - b) / range,
        () if most == g => 2.0 + (b - r) / range,
        () => 4.0 + (r - g) / range,
    };
    let hue = (hue + sixths).rem_euclid(6.0);
    // How much each channel has of the range: full within a sixth of its own hue, none beyond two (in a trapezium).
    let share = |own: f32| {
        let away = (hue - own).abs();
        let away = away.min(6.0 - away);
        (2.0 - away).clamp(0.0, 1.0)
    };
    [share(0.0), share(2.0), share(4.0)].map(|share| least + range * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_a_turn_takes_red_to_green() {
        assert_eq!(turned([200.0, 10.0, 10.0], 2.0), [10.0, 200.0, 10.0]);
        assert_eq!(turned([10.0, 200.0, 10.0], -2.0), [200.0, 10.0, 10.0]);
        assert_eq!(turned([7.0, 7.0, 7.0], 1.0), [7.0, 7.0, 7.0]);
        assert_eq!(turned([100.0, 50.0, 0.0], 3.0), [0.0, 50.0, 100.0]);
    }
}
