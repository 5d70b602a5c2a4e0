//! Precision, recall and F1 from counts of true, predicted and rightly predicted samples of each class.
//!
//! precision = TP / predicted, recall = TP / support, F1 = 2·TP / (predicted + support); 0/0 counts as 0. Averages go
//! over the classes that occur, as label or as prediction: their mean (macro), or their mean weighted by support.
//! These are scikit-learn's conventions (`precision_recall_fscore_support` with its defaults).

/// Counts per class `[classes]`, of samples.
pub(crate) struct Counts {
    pub(crate) right: Vec<u64>,
    pub(crate) predicted: Vec<u64>,
    pub(crate) support: Vec<u64>,
}

/// How many averages [`Counts::averages`] gives.
pub(crate) const AVERAGES: usize = 6;

impl Counts {
    pub(crate) fn new(classes: usize) -> Self {
        Self { right: vec![0; classes], predicted: vec![0; classes], support: vec![0; classes] }
    }

    /// Counts the samples anew, each `draws` times.
    pub(crate) fn recount(&mut self, labels: &[u32], predicted: &[u32], draws: &[u32]) {
        self.right.fill(0);
        self.predicted.fill(0);
        self.support.fill(0);
        for ((label, class), draws) in labels.iter().zip(predicted).zip(draws) {
            let draws = u64::from(*draws);
            self.support[*label as usize] += draws;
            self.predicted[*class as usize] += draws;
            self.right[*label as usize] += if label == class { draws } else { 0 };
        }
    }

    /// Macro precision, recall, F1, then the same weighted by support.
    pub(crate) fn averages(&self) -> [f64; AVERAGES] {
        let mut sums = [0.0; AVERAGES];
        let (mut occurring, mut samples) = (0u64, 0u64);
        for ((right, predicted), support) in self.right.iter().zip(&self.predicted).zip(&self.support) {
            if predicted + support == 0 {
                continue;
            }
            let scores = [ratio(*right, *predicted), ratio(*right, *support), ratio(2 * right, predicted + support)];
            for (k, score) in scores.into_iter().enumerate() {
                sums[k] += score;
                sums[3 + k] += score * *support as f64;
            }
            occurring += 1;
            samples += support;
        }
        for k in 0..3 {
            sums[k] /= occurring as f64;
            sums[3 + k] /= samples as f64;
        }
        sums
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
