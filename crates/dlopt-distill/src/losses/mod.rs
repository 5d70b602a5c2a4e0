//! What a student's values are compared with a teacher's by: one file each, with formula, shapes, source.
//!
//! Losses on outputs see logits, one row for each sample, or for each token of sequences. Losses on features see what a
//! layer puts out, one row for each sample. Adding one: a file, and a line in [`LOSSES`].

mod attention;
mod dist;
mod distribution;
mod dkd;
#[cfg(test)]
mod golden_tests;
mod hint;
mod js;
mod kd;
mod logit_mse;
mod places;
mod relations;
mod reverse_kl;
mod rkd_angle;
mod rkd_distance;
mod similarity;

use dlopt_checkpoint::{Error, Result};

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

    /// All of them, with how many a row has.
    fn flat(&self) -> (&[f32], usize) {
        (self.values, self.row_len())
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

impl<'a> Pair<'a> {
    /// Each row of outputs, `[classes]`, the student's and the teacher's.
    fn outputs(&self) -> impl Iterator<Item = (&'a [f32], &'a [f32])> + use<'a> {
        let classes = self.student.channels;
        self.student.values.chunks_exact(classes).zip(self.teacher.values.chunks_exact(classes))
    }
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
pub const LOSSES: &[Kind] = &[
    kd::KIND,
    dkd::KIND,
    reverse_kl::KIND,
    js::KIND,
    dist::KIND,
    logit_mse::KIND,
    hint::KIND,
    attention::KIND,
    rkd_distance::KIND,
    rkd_angle::KIND,
    similarity::KIND,
];

impl Kind {
    /// Begins a loss of this kind with the sizes of rows, see [`DistillLoss::begin`]; outputs are compared one by one, so
    /// both networks must have the same.
    ///
    /// # Errors
    /// When rows of these sizes cannot be compared.
    pub(crate) fn begin(
        &self,
        loss: &mut dyn DistillLoss,
        student: ([usize; 2], usize),
        teacher: ([usize; 2], usize),
        seed: u64,
    ) -> Result<()> {
        if self.on == On::Outputs {
            same_outputs(student, teacher)?;
        }
        loss.begin(student, teacher, seed)
    }
}

/// Refuses outputs that cannot be compared one by one.
fn same_outputs(student: ([usize; 2], usize), teacher: ([usize; 2], usize)) -> Result<()> {
    if student == teacher {
        return Ok(());
    }
    let in_words = |([height, width], classes): ([usize; 2], usize)| match height * width {
        1 => format!("{classes} outputs"),
        places => format!("{classes} outputs at {places} places"),
    };
    let (student, teacher) = (in_words(student), in_words(teacher));
    Err(Error::usage(format!("the student has {student} and the teacher {teacher}; they are compared one by one"))
        .hint("a teacher of the same classes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A pair of logits without labels.
    pub(super) fn logits<'a>(student: &'a [f32], teacher: &'a [f32], classes: usize) -> Pair<'a> {
        let values = |values: &'a [f32]| Values { values, places: [1, 1], channels: classes };
        Pair { student: values(student), teacher: values(teacher), labels: &[], progress: 0.25 }
    }

    /// A pair of features of one place, each with its channels.
    pub(super) fn features<'a>(student: (&'a [f32], usize), teacher: (&'a [f32], usize)) -> Pair<'a> {
        let values = |(values, channels)| Values { values, places: [1, 1], channels };
        Pair { student: values(student), teacher: values(teacher), labels: &[], progress: 0.25 }
    }

    /// Numbers in about -2..2.
    pub(super) fn numbers(len: usize, seed: f32) -> Vec<f32> {
        (0..len).map(|i| ((i as f32 * 1.37 + seed) * 12.9898).sin() * 2.0).collect()
    }

    /// Places and channels of a layer, or one place and classes.
    type Extent = ([usize; 2], usize);

    /// A loss with made-up values of five rows, to be moved and evaluated.
    struct Case {
        kind: &'static str,
        loss: Box<dyn DistillLoss>,
        student: (Vec<f32>, Extent),
        teacher: (Vec<f32>, Extent),
        labels: Vec<u32>,
    }

    impl Case {
        const ROWS: usize = 5;

        fn new(kind: &Kind, options: &[&str], student: Extent, teacher: Extent) -> Self {
            let values =
                |extent: Extent, seed| (numbers(Self::ROWS * extent.0[0] * extent.0[1] * extent.1, seed), extent);
            let mut loss = (kind.make)(&mut Options::parse(options.iter().copied()).unwrap()).unwrap();
            loss.begin(student, teacher, 3).unwrap();
            let labels = (0..Self::ROWS).map(|row| (row % student.1) as u32).collect();
            Self { kind: kind.name, loss, student: values(student, 0.5), teacher: values(teacher, 0.1), labels }
        }

        /// The loss, and its gradients times `scale` with respect to the student's values and to what is learned.
        fn evaluate(&mut self, scale: f32) -> (f64, Vec<f32>, Vec<f32>) {
            let mut gradient = vec![0.0; self.student.0.len()];
            let values = |(values, (places, channels)): &'_ (Vec<f32>, Extent)| (values.clone(), *places, *channels);
            let (own, own_places, own_channels) = values(&self.student);
            let (said, places, channels) = values(&self.teacher);
            let pair = Pair {
                student: Values { values: &own, places: own_places, channels: own_channels },
                teacher: Values { values: &said, places, channels },
                labels: &self.labels,
                progress: 0.25,
            };
            if let Some(learned) = self.loss.learned() {
                learned.gradients.fill(0.0);
            }
            let sum = self.loss.evaluate(&pair, scale, &mut gradient);
            let learned = self.loss.learned().map(|learned| learned.gradients.clone());
            (sum, gradient, learned.unwrap_or_default())
        }

        /// All that may be moved: the student's values, then what is learned.
        fn at(&mut self, place: usize) -> &mut f32 {
            let own = self.student.0.len();
            if place < own { &mut self.student.0[place] } else { &mut self.loss.learned().unwrap().values[place - own] }
        }
    }

    /// Compares the gradient with central differences, with respect to the student's values and what is learned.
    pub(super) fn check_gradient(kind: &Kind, options: &[&str], student: Extent, teacher: Extent) {
        let mut case = Case::new(kind, options, student, teacher);
        let scale = 0.5;
        let (_, gradient, learned) = case.evaluate(scale);
        let step = 2e-3_f32;
        for (place, found) in gradient.into_iter().chain(learned).enumerate() {
            let here = *case.at(place);
            let mut value = |moved: f32| {
                *case.at(place) = moved;
                case.evaluate(0.0).0
            };
            let (high, low) = (here + step, here - step);
            let slope = (value(high) - value(low)) / f64::from(high - low) * f64::from(scale);
            value(here);
            // What is left of the third derivative, and rounding of 32-bit products over the step.
            assert!(
                (f64::from(found) - slope).abs() < 1e-3 * (1.0 + slope.abs()),
                "{}: gradient {found} at {place}, differences say {slope}",
                case.kind
            );
        }
    }

    /// Sizes that a loss can compare: classes, or layers of different places and channels.
    fn sizes(kind: &Kind) -> (Extent, Extent) {
        match kind.on {
            On::Outputs => (([1, 1], 5), ([1, 1], 5)),
            On::Features => (([3, 5], 2), ([2, 7], 3)),
        }
    }

    #[test]
    fn going_down_the_gradient_brings_the_student_to_the_teacher() {
        for kind in LOSSES {
            let (student, teacher) = sizes(kind);
            let mut case = Case::new(kind, &[], student, teacher);
            let (first, mut gradient, mut learned) = case.evaluate(1.0);
            assert_eq!(case.loss.kept().map_or(0, |kept| kept.values.len()), learned.len(), "{}", kind.name);
            let (mut sum, mut step) = (first, 1.0);
            for _ in 0..300 {
                let before: Vec<f32> = (0..gradient.len() + learned.len()).map(|place| *case.at(place)).collect();
                for (place, slope) in gradient.iter().chain(&learned).enumerate() {
                    *case.at(place) -= step * slope;
                }
                let next = case.evaluate(1.0);
                if next.0 < sum {
                    (sum, gradient, learned) = next;
                    step *= 1.5;
                } else {
                    before.iter().enumerate().for_each(|(place, value)| *case.at(place) = *value);
                    step *= 0.3;
                }
            }
            assert!(sum < 0.2 * first, "{}: from {first} to {sum}", kind.name);
        }
    }

    #[test]
    fn gradients_are_added_and_grow_with_the_scale() {
        for kind in LOSSES {
            let (student, teacher) = sizes(kind);
            let mut case = Case::new(kind, &[], student, teacher);
            let (one, half) = (case.evaluate(1.0), case.evaluate(0.5));
            assert_eq!(one.0, half.0, "{}", kind.name);
            for (one, half) in one.1.iter().chain(&one.2).zip(half.1.iter().chain(&half.2)) {
                assert!((one - 2.0 * half).abs() <= 1e-6 * one.abs(), "{}: {one} and twice {half}", kind.name);
            }
            let pair = Pair {
                student: Values { values: &case.student.0, places: student.0, channels: student.1 },
                teacher: Values { values: &case.teacher.0, places: teacher.0, channels: teacher.1 },
                labels: &case.labels,
                progress: 0.25,
            };
            let mut gradient = vec![3.0; one.1.len()];
            case.loss.evaluate(&pair, 1.0, &mut gradient);
            for (found, one) in gradient.iter().zip(&one.1) {
                assert!((found - one - 3.0).abs() < 1e-5 * (1.0 + one.abs()), "{}", kind.name);
            }
            let twice = case.loss.learned().map(|learned| learned.gradients.clone()).unwrap_or_default();
            for (found, (one, half)) in twice.iter().zip(one.2.iter().zip(&half.2)) {
                assert!((found - one - half).abs() < 1e-5 * (1.0 + one.abs()), "{}: what is learned", kind.name);
            }
        }
    }

    #[test]
    fn nothing_is_nan_for_a_single_row_one_class_equal_rows_or_zeros() {
        for kind in LOSSES {
            for (rows, channels, fill) in
                [(1, 4, None), (0, 4, None), (3, 1, None), (1, 1, None), (4, 3, Some(0.0)), (4, 3, Some(2.5))]
            {
                let places = if kind.on == On::Features { [2, 3] } else { [1, 1] };
                let len = rows * places[0] * places[1] * channels;
                let values = |seed| fill.map_or_else(|| numbers(len, seed), |fill| vec![fill; len]);
                for (own, said) in [
                    (values(0.3), values(0.8)),
                    (values(0.3), numbers(len, 0.8)),
                    (numbers(len, 0.3), values(0.8)),
                    (numbers(len, 0.3), numbers(len, 0.3)),
                ] {
                    let mut loss = (kind.make)(&mut Options::default()).unwrap();
                    loss.begin((places, channels), (places, channels), 1).unwrap();
                    let values = |values| Values { values, places, channels };
                    let (student, teacher) = (values(&own), values(&said));
                    let labels = vec![0; rows];
                    let mut gradient = vec![0.0; len];
                    let sum =
                        loss.evaluate(&Pair { student, teacher, labels: &labels, progress: 1.0 }, 1.0, &mut gradient);
                    let learned = loss.learned().map(|learned| learned.gradients.clone()).unwrap_or_default();
                    let all_finite = gradient.iter().chain(&learned).all(|g| g.is_finite() && g.abs() < 1e4);
                    assert!(sum.is_finite() && all_finite, "{}: {rows} x {channels} of {fill:?}: {sum}", kind.name);
                    assert!(sum > -1e-9, "{}: {sum}", kind.name);
                }
            }
        }
    }

    #[test]
    fn a_row_of_zeros_among_others_and_equal_neighbours_stay_finite() {
        for kind in LOSSES {
            let (student, teacher) = sizes(kind);
            let mut case = Case::new(kind, &[], student, teacher);
            // The student's first row, the teacher's last; each of them has two that are equal.
            for ((values, extent), zero) in [(&mut case.student, 0), (&mut case.teacher, 4)] {
                let len = extent.0[0] * extent.0[1] * extent.1;
                values[zero * len..][..len].fill(0.0);
                values.copy_within(len..2 * len, 2 * len);
            }
            let (sum, gradient, learned) = case.evaluate(1.0);
            let all_finite = gradient.iter().chain(&learned).all(|g| g.abs() < 1e3);
            assert!(sum.is_finite() && all_finite, "{}: {sum} {gradient:?}", kind.name);
        }
    }

    #[test]
    fn outputs_of_other_classes_are_refused_with_both_counts() {
        for kind in LOSSES.iter().filter(|kind| kind.on == On::Outputs) {
            let mut loss = (kind.make)(&mut Options::default()).unwrap();
            let error = kind.begin(&mut *loss, ([1, 1], 10), ([1, 1], 12), 0).unwrap_err();
            assert!(error.message().contains("10 outputs") && error.message().contains("12"), "{error}");
            let error = kind.begin(&mut *loss, ([1, 4], 10), ([1, 1], 10), 0).unwrap_err();
            assert!(error.message().contains("10 outputs at 4 places"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_shift_of_logits_is_no_difference_to_losses_on_probabilities(
            values in prop::collection::vec((-3.0_f32..3.0, -3.0_f32..3.0), 12),
            shift in -8.0_f32..8.0,
        ) {
            let (student, teacher): (Vec<f32>, Vec<f32>) = values.iter().copied().unzip();
            let moved: Vec<f32> = student.iter().map(|v| v + shift).collect();
            for kind in LOSSES.iter().filter(|kind| kind.on == On::Outputs) {
                let options = (kind.name == "logit-mse").then_some("center=yes");
                let mut loss = (kind.make)(&mut Options::parse(options.into_iter()).unwrap()).unwrap();
                let mut value = |student: &[f32]| {
                    let pair = Pair { labels: &[2, 0, 3], ..logits(student, &teacher, 4) };
                    loss.evaluate(&pair, 0.0, &mut [0.0; 12])
                };
                let (here, there) = (value(&student), value(&moved));
                prop_assert!(here >= -1e-9, "{}: {here}", kind.name);
                // The shift rounds the student's values.
                prop_assert!((here - there).abs() < 1e-4 * (1.0 + here), "{}: {here} and {there}", kind.name);
            }
        }
    }

    #[test]
    fn options_are_described_with_their_defaults() {
        for kind in LOSSES {
            let (student, teacher) = sizes(kind);
            let value = |options: &[&str]| Case::new(kind, options, student, teacher).evaluate(0.0).0;
            for (name, what) in kind.options {
                let (_, default) = what.rsplit_once("; ").unwrap();
                let said = format!("{name}={default}");
                assert_eq!(value(&[&said]), value(&[]), "{}: {said}", kind.name);
            }
        }
    }

    #[test]
    fn a_temperature_is_known_where_it_is_an_option() {
        for kind in LOSSES {
            let is_option = kind.options.iter().any(|(name, _)| *name == "temperature");
            let mut options = Options::parse(is_option.then_some("temperature=3..1").into_iter()).unwrap();
            let temperature = (kind.make)(&mut options).unwrap().temperature();
            assert_eq!(temperature.map(|ramp| ramp.at(0.5)), is_option.then_some(2.0), "{}", kind.name);
            assert!(!is_option || kind.needs_classes, "{}", kind.name);
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
