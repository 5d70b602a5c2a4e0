//! What holds for all inputs.

use dlopt_metrics::{
    ClassificationReport, Estimate, Options, PairedReport, binary, classification, paired, predictions, regression,
    worst_mistakes,
};
use proptest::prelude::*;

fn quick() -> Options {
    Options { resamples: 100, ..Options::default() }
}

/// Logits `[samples, classes]` on a coarse grid, so that some tie, and labels.
fn samples() -> impl Strategy<Value = (usize, Vec<f32>, Vec<u32>)> {
    (1usize..8, 1usize..40).prop_flat_map(|(classes, samples)| {
        (
            Just(classes),
            prop::collection::vec((-24i32..24).prop_map(|v| v as f32 / 4.0), classes * samples),
            prop::collection::vec(0..classes as u32, samples),
        )
    })
}

fn estimates(report: &ClassificationReport) -> Vec<Estimate> {
    let averages = [&report.macro_average, &report.weighted_average];
    let mut all = vec![report.loss, report.accuracy, report.brier, report.entropy, report.calibration.expected_error];
    all.extend(averages.iter().flat_map(|a| [a.precision, a.recall, a.f1]));
    all.extend(report.top_accuracy.into_iter().chain(report.auroc));
    all.extend(report.classes.iter().flat_map(|c| [c.precision, c.recall, c.f1, c.auroc]).flatten());
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_number_is_finite_and_every_share_within_its_interval((classes, logits, labels) in samples()) {
        let report = classification(&logits, classes, &labels, &[], &quick()).unwrap();
        for estimate in estimates(&report) {
            prop_assert!(estimate.value.is_finite());
            if let Some(i) = estimate.interval {
                prop_assert!(i.low.is_finite() && i.high.is_finite() && i.low <= i.high, "{i:?}");
            }
        }
        for estimate in estimates(&report).into_iter().skip(4).chain([report.accuracy]) {
            prop_assert!((0.0..=1.0).contains(&estimate.value));
            if let Some(i) = estimate.interval {
                prop_assert!(i.low >= 0.0 && i.low <= estimate.value && estimate.value <= i.high, "{estimate:?}");
            }
        }
    }

    #[test]
    fn counts_add_up((classes, logits, labels) in samples()) {
        let report = classification(&logits, classes, &labels, &[], &quick()).unwrap();
        let total = labels.len() as u64;
        prop_assert_eq!(report.confusion.iter().flatten().sum::<u64>(), total);
        prop_assert_eq!(report.calibration.bins.iter().map(|b| b.samples).sum::<u64>(), total);
        prop_assert_eq!(report.classes.iter().map(|c| c.support).sum::<u64>(), total);
        prop_assert_eq!(report.classes.iter().map(|c| c.predicted).sum::<u64>(), total);
        let right: u64 = (0..classes).map(|c| report.confusion[c][c]).sum();
        prop_assert_eq!(report.accuracy.value, right as f64 / total as f64);
        // Recall weighted by support is accuracy.
        prop_assert!((report.weighted_average.recall.value - report.accuracy.value).abs() < 1e-12);
    }

    #[test]
    fn a_constant_added_to_a_samples_logits_changes_nothing((classes, logits, labels) in samples(), shift in -40i32..40) {
        let moved: Vec<f32> = logits.iter().map(|v| v + shift as f32).collect();
        let a = classification(&logits, classes, &labels, &[], &quick()).unwrap();
        let b = classification(&moved, classes, &labels, &[], &quick()).unwrap();
        prop_assert_eq!(&a.confusion, &b.confusion);
        for (a, b) in estimates(&a).into_iter().zip(estimates(&b)) {
            prop_assert!((a.value - b.value).abs() < 1e-9, "{a:?} and {b:?}");
        }
    }

    #[test]
    fn the_order_of_samples_changes_no_value((classes, logits, labels) in samples()) {
        let backward: Vec<f32> = logits.chunks(classes).rev().flatten().copied().collect();
        let labels_backward: Vec<u32> = labels.iter().rev().copied().collect();
        let a = classification(&logits, classes, &labels, &[], &quick()).unwrap();
        let b = classification(&backward, classes, &labels_backward, &[], &quick()).unwrap();
        prop_assert_eq!(&a.confusion, &b.confusion);
        for (a, b) in estimates(&a).into_iter().zip(estimates(&b)) {
            prop_assert!((a.value - b.value).abs() < 1e-12);
        }
    }

    #[test]
    fn scores_turned_round_give_the_other_side_of_the_area(
        scores in prop::collection::vec(-12i32..12, 2..50),
        seed in any::<u64>(),
    ) {
        let logits: Vec<f32> = scores.iter().map(|v| *v as f32).collect();
        let turned: Vec<f32> = logits.iter().map(|v| -v).collect();
        let targets: Vec<f32> = (0..scores.len()).map(|i| (seed >> (i % 64) & 1) as f32).collect();
        let a = binary(&logits, 1, &targets, &[], &quick()).unwrap().auroc;
        let b = binary(&turned, 1, &targets, &[], &quick()).unwrap().auroc;
        prop_assert_eq!(a.is_some(), b.is_some());
        if let (Some(a), Some(b)) = (a, b) {
            prop_assert!((a.value + b.value - 1.0).abs() < 1e-12);
            if let (Some(i), Some(j)) = (a.interval, b.interval) {
                prop_assert!((i.low + j.high - 1.0).abs() < 1e-9 && (i.high + j.low - 1.0).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn models_exchanged_turn_the_differences_round((classes, logits, labels) in samples(), by in 1i32..9) {
        let other: Vec<f32> = logits.iter().enumerate().map(|(i, v)| v + ((i as i32 * by) % 5) as f32).collect();
        let a = paired(&logits, &other, classes, &labels, &quick()).unwrap();
        let b = paired(&other, &logits, classes, &labels, &quick()).unwrap();
        prop_assert_eq!((a.only_first, a.only_second), (b.only_second, b.only_first));
        prop_assert_eq!(a.mcnemar, b.mcnemar);
        prop_assert_eq!(a.agreement, b.agreement);
        let differences = |r: &PairedReport| [r.accuracy, r.loss, r.brier, r.macro_f1, r.calibration_error];
        for (a, b) in differences(&a).into_iter().zip(differences(&b)) {
            prop_assert!((a.difference.value + b.difference.value).abs() < 1e-12);
            prop_assert_eq!(a.p_value, b.p_value);
            if let (Some(i), Some(j)) = (a.difference.interval, b.difference.interval) {
                prop_assert!((i.low + j.high).abs() < 1e-6 && (i.high + j.low).abs() < 1e-6, "{i:?} {j:?}");
            }
        }
    }

    #[test]
    fn errors_scale_with_their_unit_and_shares_of_variance_do_not(
        values in prop::collection::vec((-500i32..500, -500i32..500), 2..40),
    ) {
        let predictions: Vec<f32> = values.iter().map(|v| v.0 as f32 / 8.0).collect();
        let targets: Vec<f32> = values.iter().map(|v| v.1 as f32 / 8.0).collect();
        let double = |values: &[f32]| -> Vec<f32> { values.iter().map(|v| v * 2.0 + 1024.0).collect() };
        let a = regression(&predictions, 1, &targets, &[], &quick()).unwrap();
        let b = regression(&double(&predictions), 1, &double(&targets), &[], &quick()).unwrap();
        prop_assert!((b.mse.value - 4.0 * a.mse.value).abs() <= 1e-9 * b.mse.value);
        prop_assert!((b.rmse.value - 2.0 * a.rmse.value).abs() <= 1e-9 * b.rmse.value);
        prop_assert!((b.mae.value - 2.0 * a.mae.value).abs() <= 1e-9 * b.mae.value);
        prop_assert_eq!(a.r2.is_some(), b.r2.is_some());
        if let (Some(a), Some(b)) = (a.r2, b.r2) {
            prop_assert!((a.value - b.value).abs() <= 1e-6 * a.value.abs().max(1.0));
        }
    }

    #[test]
    fn the_worst_mistakes_are_wrong_and_in_order((classes, logits, labels) in samples(), count in 0usize..12) {
        let all = predictions(&logits, classes, Some(&labels)).unwrap();
        let worst = worst_mistakes(&logits, classes, &labels, count).unwrap();
        let wrong = all.iter().filter(|p| p.label != Some(p.predicted)).count();
        prop_assert_eq!(worst.len(), wrong.min(count));
        prop_assert!(worst.iter().all(|p| p.label != Some(p.predicted)));
        prop_assert!(worst.windows(2).all(|w| w[0].loss >= w[1].loss));
        let unlabelled = predictions(&logits, classes, None).unwrap();
        for (a, b) in all.iter().zip(&unlabelled) {
            prop_assert_eq!((a.predicted, b.label), (b.predicted, None));
            prop_assert!((a.confidence - b.confidence).abs() < 1e-12);
        }
    }
}

#[test]
fn threads_change_no_byte() {
    let logits: Vec<f32> = (0..5000 * 3).map(|i| ((i * 7919) % 101) as f32 / 25.0).collect();
    let labels: Vec<u32> = (0..5000).map(|i| (i * 31 % 97 % 3) as u32).collect();
    let json = |threads| {
        let options = Options { threads, resamples: 203, ..Options::default() };
        serde_json::to_string(&classification(&logits, 3, &labels, &[], &options).unwrap()).unwrap()
    };
    assert_eq!(json(1), json(2));
    assert_eq!(json(1), json(7));
}

#[test]
fn another_seed_moves_the_bootstrap_and_nothing_else() {
    let logits: Vec<f32> = (0..300 * 3).map(|i| ((i * 7919) % 101) as f32 / 25.0).collect();
    let labels: Vec<u32> = (0..300).map(|i| (i * 31 % 97 % 3) as u32).collect();
    let report = |seed| classification(&logits, 3, &labels, &[], &Options { seed, ..quick() }).unwrap();
    let (a, b) = (report(1), report(2));
    assert_eq!(a.loss.value, b.loss.value);
    assert_ne!(a.loss.interval, b.loss.interval);
    assert_eq!(a.accuracy, b.accuracy);
    assert_eq!(a.auroc, b.auroc);
}

/// The promise of every interval, on data whose truth is known: 200 data sets, of which at least 90 % must be held.
#[test]
fn intervals_of_loss_accuracy_and_area_hold_the_truth_about_as_often_as_they_say() {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let (mut loss, mut accuracy, mut area) = (0, 0, 0);
    for seed in 0..200 {
        // A calibrated classifier of two classes: the label is drawn from the predicted probabilities, which are
        // uniform. Its accuracy is 3/4, its loss ∫ −p ln p − (1−p) ln(1−p) dp = 1/2, its area 5/6 (below).
        let probabilities: Vec<f64> = (0..150).map(|_| uniform().clamp(1e-6, 1.0 - 1e-6)).collect();
        let labels: Vec<u32> = probabilities.iter().map(|p| u32::from(uniform() < *p)).collect();
        let logits: Vec<f32> = probabilities.iter().flat_map(|p| [0.0, (p / (1.0 - p)).ln() as f32]).collect();
        let report = classification(&logits, 2, &labels, &[], &Options { seed, resamples: 400, ..quick() }).unwrap();
        let holds = |e: Estimate, truth: f64| e.interval.is_some_and(|i| i.low <= truth && truth <= i.high);
        loss += u32::from(holds(report.loss, 0.5));
        accuracy += u32::from(holds(report.accuracy, 0.75));
        // Positives have density 2p, negatives 2(1−p): P(positive above) = ∫ 2p (2p − p²) dp = 4/3 − 1/2 = 5/6.
        area += u32::from(holds(report.classes[1].auroc.unwrap(), 5.0 / 6.0));
    }
    assert!(loss >= 180 && accuracy >= 180 && area >= 180, "{loss}, {accuracy}, {area} of 200");
}
