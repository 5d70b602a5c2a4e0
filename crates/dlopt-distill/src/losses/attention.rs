//! Attention transfer: the student's layer is to be strong where the teacher's is.
//!
//! A map `a = mean_c f_c^2` of each row, `[height, width]`, from features `f`, `[height, width, channels]`, and
//! `mean_places (a_s / |a_s| - a_t / |a_t|)^2`. Channels may differ; maps of different places are averaged down to the
//! smaller grid before they are divided by their length. A map of zeros stays zero and has no gradient.
//! Source: Zagoruyko and Komodakis, 2016, arXiv:1612.03928, section 3.1. The mean of squares is that of the authors' code;
//! equation 2 has half the length of the difference.

use dlopt_checkpoint::Result;

use super::places::{Pooling, smaller};
use super::{DistillLoss, Kind, On, Pair, Values};
use crate::options::Options;

/// A length below which a map is zero.
const NOTHING: f64 = 1e-12;

pub(super) const KIND: Kind = Kind {
    name: "attention",
    summary: "attention transfer: squared difference of where a layer is strong",
    source: "Zagoruyko and Komodakis, 2016, arXiv:1612.03928",
    on: On::Features,
    needs_classes: false,
    needs_labels: false,
    options: &[],
    make,
};

#[derive(Default)]
struct Attention {
    student: Maps,
    teacher: Maps,
    /// Gradients with respect to the maps, at the smaller grid and at the student's.
    slopes: Vec<f64>,
    spread: Vec<f64>,
}

fn make(_options: &mut Options) -> Result<Box<dyn DistillLoss>> {
    Ok(Box::new(Attention::default()))
}

impl DistillLoss for Attention {
    fn evaluate(&mut self, pair: &Pair<'_>, scale: f32, gradient: &mut [f32]) -> f64 {
        let grid = smaller(pair.student.places, pair.teacher.places);
        self.student.set(&pair.student, grid);
        self.teacher.set(&pair.teacher, grid);
        let places = grid[0] * grid[1];
        let mut sum = 0.0;
        self.slopes.clear();
        let rows = self.student.maps.chunks_exact(places).zip(self.teacher.maps.chunks_exact(places));
        for ((student, teacher), &length) in rows.zip(&self.student.lengths) {
            let differences = || student.iter().zip(teacher).map(|(s, t)| s - t);
            sum += differences().map(|d| d * d).sum::<f64>();
            let along: f64 = differences().zip(student).map(|(d, s)| d * s).sum();
            let slope = if length > NOTHING { 2.0 / (places as f64 * length) } else { 0.0 };
            self.slopes.extend(differences().zip(student).map(|(d, s)| slope * (d - along * s)));
        }
        self.spread.clear();
        self.spread.resize(pair.student.values.len() / pair.student.channels, 0.0);
        let pooling = Pooling { from: pair.student.places, to: grid };
        pooling.spread(&self.slopes, 1, |place, share| self.spread[place] += share);
        let channels = pair.student.channels;
        let slope = 2.0 * f64::from(scale) / channels as f64;
        let features = pair.student.values.chunks_exact(channels).zip(gradient.chunks_exact_mut(channels));
        for ((features, gradient), spread) in features.zip(&self.spread) {
            let slope = slope * spread;
            features.iter().zip(gradient).for_each(|(f, gradient)| *gradient += (slope * f64::from(*f)) as f32);
        }
        sum / places as f64
    }
}

/// Maps of all rows of a layer.
#[derive(Default)]
struct Maps {
    /// Before averaging, `[rows, height, width]` of the layer.
    raw: Vec<f64>,
    /// Averaged down and divided by their lengths, `[rows, grid]`.
    maps: Vec<f64>,
    /// Their lengths before that.
    lengths: Vec<f64>,
}

impl Maps {
    fn set(&mut self, layer: &Values<'_>, grid: [usize; 2]) {
        let squares = |place: &[f32]| place.iter().map(|f| f64::from(*f) * f64::from(*f)).sum::<f64>();
        self.raw.clear();
        let channels = layer.channels;
        self.raw.extend(layer.values.chunks_exact(channels).map(|place| squares(place) / channels as f64));
        Pooling { from: layer.places, to: grid }.average(&self.raw, 1, &mut self.maps);
        self.lengths.clear();
        for map in self.maps.chunks_exact_mut(grid[0] * grid[1]) {
            let length = map.iter().map(|a| a * a).sum::<f64>().sqrt();
            map.iter_mut().for_each(|a| *a /= length.max(NOTHING));
            self.lengths.push(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_gradient, numbers};
    use super::*;

    #[test]
    fn three_places_by_hand() {
        // Maps (9, 0, 16) / sqrt(337) and (0, 0, 1), whatever the channels.
        let student = Values { values: &[3.0, 0.0, 4.0], places: [1, 3], channels: 1 };
        let teacher = Values { values: &[0.0, 0.0, 0.0, 0.0, 1.0, -2.0], places: [1, 3], channels: 2 };
        let found = make(&mut Options::default()).unwrap().evaluate(
            &Pair { student, teacher, labels: &[], progress: 0.0 },
            0.0,
            &mut [0.0; 3],
        );
        let wanted = (2.0 - 2.0 * 16.0 / 337.0_f64.sqrt()) / 3.0;
        assert!((found - wanted).abs() < 1e-12, "{found}, wanted {wanted}");
    }

    #[test]
    fn a_layer_times_a_number_and_turned_in_sign_is_the_same() {
        let own = numbers(2 * 6 * 3, 0.4);
        let other: Vec<f32> = own.iter().map(|v| -2.5 * v).collect();
        let values = |values| Values { values, places: [2, 3], channels: 3 };
        let pair = Pair { student: values(&own), teacher: values(&other), labels: &[], progress: 0.0 };
        let mut gradient = [0.0; 36];
        let found = make(&mut Options::default()).unwrap().evaluate(&pair, 1.0, &mut gradient);
        assert!(found < 1e-12 && gradient.iter().all(|g| g.abs() < 1e-6), "{found} {gradient:?}");
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        check_gradient(&KIND, &[], ([3, 5], 2), ([3, 5], 4));
        check_gradient(&KIND, &[], ([3, 5], 2), ([2, 7], 3));
        check_gradient(&KIND, &[], ([1, 4], 3), ([1, 4], 3));
    }
}
