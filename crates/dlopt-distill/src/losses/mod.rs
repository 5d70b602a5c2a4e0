//! What a student's values are compared with a teacher's by: one file each, with formula, shapes, source.
//!
//! Losses on outputs see logits, one row for each sample, or for each token of sequences. Losses on features see what a
//! layer puts out, one row for each sample. Adding one: a file, and a line in [`LOSSES`].

mod kd;

use dlopt_checkpoint::Result;

use crate::options::Options;
use crate::ramp::Ramp;

/// Values of a batch, `[rows, height, width, channels]`; logits are `[rows, 1, 1, classes]`, series `[rows, 1, time, features]`.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// All of them.
    pub values: &'a [f32],
    /// Height and width of a row.
    pub places: [usize; 2],
    /// Channels, features or classes of a place.
    pub channels: usize,
}

impl Values<'_> {
    /// Values of one row.
    pub fn row_len(&self) -> usize {
        self.places[0] * self.places[1] * self.channels
    }

    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        self.values.len() / self.row_len().max(1)
    }
}

/// What a loss compares.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// What the student says.
    pub student: Values<'a>,
    /// What the teacher says; as many rows.
    pub teacher: Values<'a>,
    /// The class of each row, or its token; empty where nobody knows.
    pub labels: &'a [u32],
    /// How much of the training is done, 0..=1.
    pub progress: f64,
}

/// Values that a loss learns beside the student.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Learned {
    /// The values.
    pub values: Vec<f32>,
    /// Their gradients, of the same scale as the student's; [`DistillLoss::evaluate`] adds to them.
    pub gradients: Vec<f32>,
}

/// One way to compare.
pub trait DistillLoss: Send {
    /// Sizes of rows, before the first batch: the place to refuse what cannot be compared and to start what is learned,
    /// with `seed`.
    ///
    /// # Errors
    /// When rows of these sizes cannot be compared.
    fn begin(&mut self, _student: ([usize; 2], usize), _teacher: ([usize; 2], usize), _seed: u64) -> Result<()> {
        Ok(())
    }

    /// The loss summed over rows, and `scale` times its gradient with respect to the student's values added to
    /// `gradient`. A loss that compares rows with each other gives its mean times the rows.
    fn evaluate(&mut self, pair: &Pair<'_>, scale: f32, gradient: &mut [f32]) -> f64;

    /// The temperature of its distributions, if it has one.
    fn temperature(&self) -> Option<Ramp> {
        None
    }

    /// What it learns, if it does.
    fn learned(&mut self) -> Option<&mut Learned> {
        None
    }

    /// The same, to be looked at.
    fn kept(&self) -> Option<&Learned> {
        None
    }
}

/// What a loss looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// The outputs of both networks.
    Outputs,
    /// A layer of both.
    Features,
}

/// A row of the table of losses.
pub struct Kind {
    /// As a user writes it.
    pub name: &'static str,
    /// What it compares, in one line.
    pub summary: &'static str,
    /// Author, year, arXiv number.
    pub source: &'static str,
    /// What it looks at.
    pub on: On,
    /// Whether outputs must be scores of classes.
    pub needs_classes: bool,
    /// Whether it uses the labels.
    pub needs_labels: bool,
    /// Its options, each with what it is and its default.
    pub options: &'static [(&'static str, &'static str)],
    /// Makes one, taking its options.
    pub make: fn(&mut Options) -> Result<Box<dyn DistillLoss>>,
}

/// All losses.
pub const LOSSES: &[Kind] = &[kd::KIND];

/// `out = ln softmax(x / temperature)` of one row.
fn log_softmax(x: &[f32], temperature: f64, out: &mut [f64]) {
    let most = x.iter().fold(f32::NEG_INFINITY, |most, &v| most.max(v));
    let mut sum = 0.0;
    for (out, &x) in out.iter_mut().zip(x) {
        *out = f64::from(x - most) / temperature;
        sum += out.exp();
    }
    let log = sum.ln();
    out.iter_mut().for_each(|out| *out -= log);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pair of logits with the classes 0, 1, 2, … as labels.
    pub(super) fn logits<'a>(student: &'a [f32], teacher: &'a [f32], classes: usize) -> Pair<'a> {
        let values = |values: &'a [f32]| Values { values, places: [1, 1], channels: classes };
        Pair { student: values(student), teacher: values(teacher), labels: &[], progress: 0.25 }
    }

    /// Five rows of numbers in about -2..2.
    pub(super) fn numbers(len: usize, seed: f32) -> Vec<f32> {
        (0..len).map(|i| ((i as f32 * 1.37 + seed) * 12.9898).sin() * 2.0).collect()
    }

    /// Compares the gradient with central differences, with respect to the student's values and what is learned.
    pub(super) fn check_gradient(
        kind: &Kind,
        options: &[&str],
        student: ([usize; 2], usize),
        teacher: ([usize; 2], usize),
    ) {
        const ROWS: usize = 5;
        let len = |(places, channels): ([usize; 2], usize)| ROWS * places[0] * places[1] * channels;
        let (own, said) = (numbers(len(student), 0.5), numbers(len(teacher), 0.1));
        let labels: Vec<u32> = (0..ROWS as u32).map(|row| row % student.1.max(1) as u32).collect();
        let mut loss = (kind.make)(&mut Options::parse(options.iter().copied()).unwrap()).unwrap();
        loss.begin(student, teacher, 3).unwrap();
        let mut at = |own: &[f32], scale: f32, gradient: &mut [f32]| {
            let pair = Pair {
                student: Values { values: own, places: student.0, channels: student.1 },
                teacher: Values { values: &said, places: teacher.0, channels: teacher.1 },
                labels: &labels,
                progress: 0.25,
            };
            let sum = loss.evaluate(&pair, scale, gradient);
            (sum, loss.learned().map(|learned| learned.clone()))
        };
        let scale = 0.5;
        let mut gradient = vec![0.0; own.len()];
        let (_, _) = at(&own, scale, &mut gradient);
        let mut unused = vec![0.0; own.len()];
        let step = 1e-2_f32;
        for place in 0..own.len() {
            let mut moved = own.clone();
            moved[place] = own[place] + step;
            let (above, _) = at(&moved, 0.0, &mut unused);
            let high = moved[place];
            moved[place] = own[place] - step;
            let (below, _) = at(&moved, 0.0, &mut unused);
            let slope = (above - below) / f64::from(high - moved[place]) * f64::from(scale);
            let found = f64::from(gradient[place]);
            assert!(
                (found - slope).abs() < 2e-3 * (1.0 + slope.abs()),
                "{}: gradient {found} at {place}, differences say {slope}",
                kind.name
            );
        }
    }

    #[test]
    fn every_loss_has_a_name_of_its_own_and_a_source() {
        for (at, kind) in LOSSES.iter().enumerate() {
            assert!(LOSSES[..at].iter().all(|other| other.name != kind.name), "{}", kind.name);
            assert!(kind.source.contains(char::is_numeric), "{}", kind.name);
        }
    }
}
