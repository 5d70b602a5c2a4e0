//! Hints: a layer of the student is to say, through a regressor learned beside it, what the teacher's layer says.
//!
//! `mean_(places, channels) (s W + b - t)^2` for features `s`, `[height, width, student's channels]`, `t`,
//! `[height, width, teacher's channels]`, `W [student's channels, teacher's channels]`, `b [teacher's channels]`: the same
//! map at every place, that is a 1 x 1 convolution, or a dense layer where there is one place. Different places are averaged
//! down to the smaller grid first, which an affine map does not notice.
//! What is learned lies as `W`, then `b`; `W` starts uniform in +-sqrt(6 / (in + out)) (Glorot and Bengio, 2010), `b` at 0.
//! Source: Romero, Ballas, Kahou, Chassang, Gatta and Bengio, 2014, arXiv:1412.6550, equation 3. There it is half of the sum,
//! and the regressor is as wide as the difference of the grids: averaging keeps it small. `s W` is summed in 32 bits.

use dlopt_checkpoint::{Error, Result};
use dlopt_kernels::nn::{Dense, Team};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::places::{Pooling, smaller};
use super::{DistillLoss, Kind, Learned, On, Pair, Values};
use crate::options::Options;

/// The stream of a seed that regressors start from: `hint` in ASCII.
const STREAM: u64 = 0x6869_6e74;

pub(super) const KIND: Kind = Kind {
    name: "hint",
    summary: "FitNets: squared difference of a layer's features, through a learned regressor",
    source: "Romero et al., 2014, arXiv:1412.6550",
    on: On::Features,
    needs_classes: false,
    needs_labels: false,
    options: &[("regressor", "linear, learned, or none where channels agree; linear")],
    make,
};

struct Hint {
    is_linear: bool,
    regressor: Option<Regressor>,
    student: Averaged,
    teacher: Averaged,
    /// Gradient with respect to what is compared, `[rows, grid, teacher's channels]`.
    slopes: Vec<f32>,
}

fn make(options: &mut Options) -> Result<Box<dyn DistillLoss>> {
    let is_linear = match options.text("regressor").as_deref() {
        None | Some("linear") => true,
        Some("none") => false,
        Some(text) => return Err(Error::usage(format!("regressor is {text}; it must be linear or none"))),
    };
    let (student, teacher) = (Averaged::default(), Averaged::default());
    Ok(Box::new(Hint { is_linear, regressor: None, student, teacher, slopes: Vec::new() }))
}

impl DistillLoss for Hint {
    fn begin(&mut self, student: ([usize; 2], usize), teacher: ([usize; 2], usize), seed: u64) -> Result<()> {
        let (own, wanted) = (student.1, teacher.1);
        if !self.is_linear && own != wanted {
            return Err(Error::usage(format!(
                "the student's layer has {own} channels and the teacher's {wanted}; they can be compared only through a regressor"
            ))
            .hint("regressor=linear, or layers of as many channels"));
        }
        self.regressor = self.is_linear.then(|| Regressor::new(own, wanted, seed));
        Ok(())
    }

    fn evaluate(&mut self, pair: &Pair<'_>, scale: f32, gradient: &mut [f32]) -> f64 {
        let grid = smaller(pair.student.places, pair.teacher.places);
        let student = self.student.of(&pair.student, grid);
        let teacher = self.teacher.of(&pair.teacher, grid);
        let count = (grid[0] * grid[1] * pair.teacher.channels) as f64;
        let said = match &mut self.regressor {
            Some(regressor) => regressor.forward(student),
            None => student,
        };
        let slope = 2.0 * f64::from(scale) / count;
        let mut sum = 0.0;
        self.slopes.clear();
        self.slopes.extend(said.iter().zip(teacher).map(|(said, wanted)| {
            let difference = f64::from(*said) - f64::from(*wanted);
            sum += difference * difference;
            (slope * difference) as f32
        }));
        let slopes = match &mut self.regressor {
            Some(regressor) => regressor.backward(student, &self.slopes),
            None => &self.slopes,
        };
        let pooling = Pooling { from: pair.student.places, to: grid };
        if pooling.is_identity() {
            gradient.iter_mut().zip(slopes).for_each(|(gradient, slope)| *gradient += slope);
            return sum / count;
        }
        pooling.spread(slopes, pair.student.channels, |at, share| gradient[at] += share as f32);
        sum / count
    }

    fn learned(&mut self) -> Option<&mut Learned> {
        self.regressor.as_mut().map(|regressor| &mut regressor.learned)
    }

    fn kept(&self) -> Option<&Learned> {
        self.regressor.as_ref().map(|regressor| &regressor.learned)
    }
}

/// A layer's values on a smaller grid, and the memory for them.
#[derive(Default)]
struct Averaged {
    sums: Vec<f64>,
    values: Vec<f32>,
}

impl Averaged {
    /// `[rows, grid, channels]`; the layer's own values where nothing is to be averaged.
    fn of<'a>(&'a mut self, layer: &Values<'a>, grid: [usize; 2]) -> &'a [f32] {
        let pooling = Pooling { from: layer.places, to: grid };
        if pooling.is_identity() {
            return layer.values;
        }
        pooling.average(layer.values, layer.channels, &mut self.sums);
        self.values.clear();
        self.values.extend(self.sums.iter().map(|v| *v as f32));
        &self.values
    }
}

/// `x W + b` for `x`, `[places of all rows, student's channels]`.
struct Regressor {
    layer: Dense,
    team: Team,
    learned: Learned,
    packed: Vec<f32>,
    out: Vec<f32>,
    dx: Vec<f32>,
}

impl Regressor {
    fn new(inputs: usize, outputs: usize, seed: u64) -> Self {
        let mut draws = ChaCha8Rng::seed_from_u64(seed);
        draws.set_stream(STREAM);
        let bound = (6.0 / (inputs + outputs) as f64).sqrt();
        let mut values: Vec<f32> =
            (0..inputs * outputs).map(|_| (bound * (2.0 * draws.random::<f64>() - 1.0)) as f32).collect();
        values.resize((inputs + 1) * outputs, 0.0);
        let gradients = vec![0.0; values.len()];
        let learned = Learned { values, gradients };
        let (packed, out, dx) = (Vec::new(), Vec::new(), Vec::new());
        Self { layer: Dense::new(inputs, outputs, false), team: Team::new(1), learned, packed, out, dx }
    }

    fn forward(&mut self, x: &[f32]) -> &[f32] {
        let (inputs, outputs) = (self.layer.inputs(), self.layer.outputs());
        let rows = x.len() / inputs;
        let (weight, bias) = self.learned.values.split_at(inputs * outputs);
        self.layer.pack_forward(&self.team, weight, &mut self.packed);
        self.out.resize(rows * outputs, 0.0);
        self.layer.forward(rows, x, &self.packed, Some(bias), &mut self.out);
        &self.out
    }

    /// Adds to the gradients of what is learned; gives that of `x`.
    fn backward(&mut self, x: &[f32], gradient: &[f32]) -> &[f32] {
        let (inputs, outputs) = (self.layer.inputs(), self.layer.outputs());
        let rows = x.len() / inputs;
        let (of_weight, of_bias) = self.learned.gradients.split_at_mut(inputs * outputs);
        self.layer.weight_gradient(rows, x, gradient, 0..inputs, of_weight);
        self.layer.bias_gradient(rows, gradient, of_bias);
        self.layer.pack_backward(&self.team, &self.learned.values[..inputs * outputs], &mut self.packed);
        self.dx.resize(rows * inputs, 0.0);
        self.layer.input_gradient(rows, gradient, &self.packed, &mut self.dx);
        &self.dx
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check_gradient, numbers};
    use super::*;

    fn with(option: &str) -> Box<dyn DistillLoss> {
        make(&mut Options::parse(std::iter::once(option)).unwrap()).unwrap()
    }

    #[test]
    fn two_places_by_hand() {
        let student = Values { values: &[1.0, 2.0], places: [1, 2], channels: 1 };
        let teacher = Values { values: &[2.0, 0.0, 5.0, 1.0], places: [1, 2], channels: 2 };
        let pair = Pair { student, teacher, labels: &[], progress: 0.0 };
        let mut loss = with("regressor=linear");
        loss.begin(([1, 2], 1), ([1, 2], 2), 0).unwrap();
        // W = (2, -1), b = (0, 1): says (2, 0), (4, -1); wanted (2, 0), (5, 1).
        loss.learned().unwrap().values.copy_from_slice(&[2.0, -1.0, 0.0, 1.0]);
        let mut gradient = [0.0; 2];
        assert_eq!(loss.evaluate(&pair, 4.0, &mut gradient), 1.25);
        // 4 2/4 (-1, -2) at the second place.
        assert_eq!(gradient, [0.0, 2.0 * (-2.0 + 2.0)]);
        assert_eq!(loss.learned().unwrap().gradients, [-4.0, -8.0, -2.0, -4.0]);
    }

    #[test]
    fn a_regressor_starts_the_same_from_the_same_seed() {
        let start = |seed: u64| {
            let mut loss = with("regressor=linear");
            loss.begin(([1, 2], 3), ([1, 2], 5), seed).unwrap();
            loss.learned().unwrap().values.clone()
        };
        let one = start(7);
        assert_eq!(one, start(7));
        assert_ne!(one, start(8));
        assert_eq!((one.len(), &one[15..]), (20, &[0.0; 5][..]));
        assert!(one[..15].iter().all(|w| w.abs() <= 0.75_f32.sqrt() && *w != 0.0), "{one:?}");
    }

    #[test]
    fn channels_that_differ_need_a_regressor() {
        let error = with("regressor=none").begin(([2, 2], 3), ([2, 2], 6), 0).unwrap_err();
        assert!(error.message().contains("3 channels") && error.message().contains("teacher's 6"), "{error}");
        assert!(error.what_to_try().is_some_and(|hint| hint.contains("regressor=linear")));
        let mut loss = with("regressor=none");
        loss.begin(([2, 2], 3), ([1, 2], 3), 0).unwrap();
        assert!(loss.learned().is_none());
        let error = make(&mut Options::parse(std::iter::once("regressor=deep")).unwrap()).err().unwrap();
        assert!(error.message().contains("linear or none"), "{error}");
    }

    #[test]
    fn averaging_and_regressing_can_change_places() {
        // The larger student through the regressor place by place, then averaged, is the averaged one through it.
        let (own, said) = (numbers(2 * 6 * 2, 0.4), numbers(2 * 2 * 3, 0.9));
        let mut loss = with("regressor=linear");
        loss.begin(([2, 3], 2), ([1, 2], 3), 5).unwrap();
        let teacher = Values { values: &said, places: [1, 2], channels: 3 };
        let student = Values { values: &own, places: [2, 3], channels: 2 };
        let pair = Pair { student, teacher, labels: &[], progress: 0.0 };
        let found = loss.evaluate(&pair, 0.0, &mut [0.0; 24]);
        let learned = loss.learned().unwrap().values.clone();
        let at = |x: &[f32]| (0..3).map(|o| x[0] * learned[o] + x[1] * learned[3 + o]).collect::<Vec<f32>>();
        let mapped: Vec<f32> = own.chunks_exact(2).flat_map(at).collect();
        let (mut averaged, pooling) = (vec![], Pooling { from: [2, 3], to: [1, 2] });
        pooling.average(&mapped, 3, &mut averaged);
        let wanted: f64 = averaged.iter().zip(&said).map(|(a, t)| (a - f64::from(*t)).powi(2)).sum::<f64>() / 6.0;
        assert!((found - wanted).abs() < 1e-5 * wanted, "{found}, wanted {wanted}");
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        check_gradient(&KIND, &[], ([3, 5], 4), ([3, 5], 6));
        check_gradient(&KIND, &[], ([3, 5], 2), ([2, 7], 3));
        check_gradient(&KIND, &[], ([1, 1], 3), ([1, 1], 2));
        check_gradient(&KIND, &["regressor=none"], ([1, 4], 3), ([1, 3], 3));
    }
}
