//! What a sweep found: a report that people and programs read, and that a later sweep is compared with.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::measure::Measurement;
use crate::quality::Quality;
use crate::sweep::{Goal, Wanted};

/// The form of `results.json`.
pub(crate) const SCHEMA: u32 = 1;
/// A machine is called unsteady when the rounds of a timing spread by more.
pub(crate) const NOISY: f64 = 0.1;

/// Names of variants in one warning.
const NAMES: usize = 5;
/// A latency over the original's that is called slower.
const SLOWER: f64 = 1.03;

/// What a sweep found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// The form of the file.
    pub schema: u32,
    /// What it is called.
    pub title: String,
    /// What measured.
    pub dlopt: String,
    /// Where.
    pub machine: Machine,
    /// The dataset's name.
    pub data: String,
    /// The split that figures are of.
    pub split: String,
    /// The split that variants were chosen on.
    pub chosen_on: Option<String>,
    /// The command that makes this report.
    pub command: String,
    /// What was wanted.
    pub goal: Option<Goal>,
    /// What came of it, in words; one for each model.
    pub verdicts: Vec<String>,
    /// What a reader should know before believing the figures.
    pub warnings: Vec<String>,
    /// The variants, in the order of the sweep.
    pub variants: Vec<VariantResult>,
    /// What each tensor of the first model can bear, as `dlopt sensitivity --json` says it.
    pub sensitivity: Option<Value>,
}

/// Where figures were taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Its cores that may be used.
    pub cores: usize,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// The system.
    pub system: String,
    /// The instructions that kernels use.
    pub level: String,
    /// The processors that threads stayed on while they were timed; empty where they were free.
    #[serde(default)]
    pub pinned: Vec<usize>,
}

impl Machine {
    /// Whether times here can be compared with those of another report.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let but_pinned = |own: &Self| Self { pinned: Vec::new(), ..own.clone() };
        but_pinned(self) == but_pinned(other) && self.pinned.is_empty() == other.pinned.is_empty()
    }

    /// Where threads were, in words.
    pub(crate) fn pinning(&self) -> String {
        match self.pinned.as_slice() {
            [] => "threads not pinned".to_owned(),
            cores => {
                let cores: Vec<_> = cores.iter().map(usize::to_string).collect();
                format!("threads pinned to {}", cores.join(", "))
            }
        }
    }
}

/// What became of a variant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VariantResult {
    /// Its name.
    pub name: String,
    /// The file of its model.
    pub model: String,
    /// The name of its original.
    pub original: String,
    /// Whether every sweep has it.
    pub is_baseline: bool,
    /// The commands that make it and its figures, in order.
    pub commands: Vec<String>,
    /// Why there are no figures, or not all of them.
    pub failure: Option<String>,
    /// What it takes and how fast it runs.
    pub measurement: Option<Measurement>,
    /// What it is worth on the split of the figures.
    pub quality: Option<Quality>,
    /// The same on the split that variants are chosen on.
    pub validation: Option<Quality>,
    /// The axes on whose front it stands: nothing takes less and is worth more.
    pub fronts: Vec<String>,
    /// Bytes where only those are known, as of an original under zstd.
    pub disk_bytes: Option<u64>,
}

impl VariantResult {
    /// Of all its files.
    pub fn bytes(&self) -> Option<u64> {
        self.measurement.as_ref().map(|m| m.disk_bytes).or(self.disk_bytes)
    }

    /// Whether it is slower than its original on this machine: in all rounds but one, and by more than is worth a word.
    pub fn is_slower(&self) -> bool {
        let ratio = self.measurement.as_ref().and_then(|m| m.latency_ratio);
        self.name != self.original && ratio.is_some_and(|ratio| ratio.low > 1.0 && ratio.median > SLOWER)
    }

    /// What there is least of to be wanted: bytes, microseconds, bytes of weights in memory.
    pub fn cost(&self, wanted: Wanted) -> Option<f64> {
        match wanted {
            Wanted::Smallest => self.bytes().map(|bytes| bytes as f64),
            Wanted::Fastest => self.measurement.as_ref().map(|m| m.latency.median),
            Wanted::LeastMemory => self.measurement.as_ref().map(|m| m.weight_bytes as f64),
        }
    }
}

impl Results {
    /// The original of a variant.
    fn original_of(&self, variant: &VariantResult) -> Option<&VariantResult> {
        self.variants.iter().find(|other| other.name == variant.original)
    }

    /// Works out fronts, verdicts and warnings.
    pub fn conclude(&mut self) {
        for wanted in [Wanted::Smallest, Wanted::Fastest, Wanted::LeastMemory] {
            for at in self.front(wanted) {
                self.variants[at].fronts.push(wanted.name().to_owned());
            }
        }
        self.verdicts = self.goal.map_or(Vec::new(), |goal| self.verdicts_of(goal));
        let slower: Vec<&str> = self.variants.iter().filter(|v| v.is_slower()).map(|v| v.name.as_str()).collect();
        if !slower.is_empty() {
            let more = slower.len().saturating_sub(NAMES);
            let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
            self.warnings.push(format!(
                "slower here than their original, one sample at a time: {}{rest}",
                slower[..slower.len() - more].join("; ")
            ));
        }
        let noise = |v: &VariantResult| v.measurement.as_ref().map(|m| m.latency.noise());
        let noisy: Vec<f64> = self.variants.iter().filter_map(noise).filter(|noise| *noise > NOISY).collect();
        if !noisy.is_empty() {
            let worst = noisy.iter().copied().fold(0.0, f64::max);
            self.warnings.push(format!(
                "the machine was busy: of {} variants the rounds of a timing spread by more than {:.0} %, by {:.0} % at \
                 worst; ratios are of rounds in turns, and hold better than microseconds",
                noisy.len(),
                100.0 * NOISY,
                100.0 * worst
            ));
        }
    }

    /// The variants than which none takes less and is worth as much, or is worth more and takes as little.
    fn front(&self, wanted: Wanted) -> Vec<usize> {
        let points: Vec<(usize, f64, f64)> = self
            .variants
            .iter()
            .enumerate()
            .filter_map(|(at, v)| {
                let quality = v.quality.as_ref()?;
                let worth = if quality.is_gain { quality.value } else { -quality.value };
                Some((at, v.cost(wanted)?, worth))
            })
            .collect();
        let is_beaten = |(_, cost, worth): &(usize, f64, f64)| {
            points.iter().any(|(_, c, w)| c <= cost && w >= worth && (c < cost || w > worth))
        };
        points.iter().filter(|point| !is_beaten(point)).map(|(at, _, _)| *at).collect()
    }

    /// For each original the best variant that keeps the quality, chosen on the validation split where there is one.
    fn verdicts_of(&self, goal: Goal) -> Vec<String> {
        let mut originals: Vec<&str> = self.variants.iter().map(|v| v.original.as_str()).collect();
        originals.dedup();
        originals.into_iter().map(|original| self.verdict(goal, original)).collect()
    }

    fn verdict(&self, goal: Goal, original: &str) -> String {
        let deciding = |v: &VariantResult| match self.chosen_on {
            Some(_) => v.validation.clone(),
            None => v.quality.clone(),
        };
        let split = self.chosen_on.as_ref().unwrap_or(&self.split);
        let Some(before) = self.variants.iter().find(|v| v.name == original).and_then(deciding) else {
            return format!("{}: {original} itself has no figures", goal.text());
        };
        let best = self
            .variants
            .iter()
            .filter(|v| v.original == original && deciding(v).is_some_and(|own| own.lost(&before) <= goal.within))
            .filter_map(|v| Some((v, v.cost(goal.wanted)?)))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        let Some((best, _)) = best else { return format!("{}: none", goal.text()) };
        if best.name == original {
            return format!("{} on {split}: the original itself", goal.text());
        }
        let mut text = format!("{} on {split}: {}", goal.text(), best.name);
        let own = self.original_of(best);
        if let (Some(bytes), Some(whole)) = (best.bytes(), own.and_then(VariantResult::bytes)) {
            text.push_str(&format!(", {:.1} times smaller", whole as f64 / bytes as f64));
        }
        if let Some(ratio) = best.measurement.as_ref().and_then(|m| m.latency_ratio) {
            let (how, times) =
                if ratio.median <= 1.0 { ("faster", 1.0 / ratio.median) } else { ("slower", ratio.median) };
            text.push_str(&format!(", {times:.2} times {how}"));
        }
        if let Some(quality) = &best.quality {
            text.push_str(&format!("; {} {} on {}", quality.metric, quality.text(), self.split));
            if let Some(paired) = &quality.paired {
                let scale = if quality.is_share { 100.0 } else { 1.0 };
                text.push_str(&format!(", {:+.2} against the original", scale * paired.difference));
                if let Some([low, high]) = paired.interval {
                    text.push_str(&format!(" ({:+.2} to {:+.2})", scale * low, scale * high));
                }
            }
        }
        text
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::timing::{Ratio, Timing};

    pub(crate) fn timing(median: f64) -> Timing {
        let rounds = vec![median; 10];
        Timing {
            median,
            p95: median,
            p99: median,
            least: median,
            most: median,
            calls: 100,
            warm_up: 3,
            outliers: 0,
            rounds,
        }
    }

    pub(crate) fn variant(name: &str, bytes: u64, micros: f64, accuracy: f64) -> VariantResult {
        let quality = Quality {
            metric: "accuracy".to_owned(),
            is_gain: true,
            is_share: true,
            value: accuracy,
            interval: Some([accuracy - 0.01, accuracy + 0.01]),
            method: Some("wilson".to_owned()),
            samples: 1000,
            calibration_error: Some(0.02),
            paired: None,
        };
        let ratio = micros / 100.0;
        VariantResult {
            name: name.to_owned(),
            model: "cnn.safetensors".to_owned(),
            original: "original".to_owned(),
            is_baseline: name == "original",
            commands: vec!["dlopt eval".to_owned()],
            failure: None,
            measurement: Some(Measurement {
                disk_bytes: bytes,
                bits_per_weight: 8.0,
                parameters: 1000,
                multiply_adds: 2000,
                weight_bytes: 2 * bytes,
                peak_bytes: None,
                load_seconds: 0.01,
                threads: 2,
                pinned: vec![0, 1],
                level: "avx2".to_owned(),
                latency: timing(micros),
                other_latency: None,
                latency_ratio: Some(Ratio { median: ratio, low: ratio, high: ratio }),
                throughput: Vec::new(),
            }),
            quality: Some(quality.clone()),
            validation: Some(quality),
            fronts: Vec::new(),
            disk_bytes: None,
        }
    }

    pub(crate) fn results(variants: Vec<VariantResult>) -> Results {
        Results {
            schema: SCHEMA,
            title: "a sweep".to_owned(),
            dlopt: "0".to_owned(),
            machine: Machine::default(),
            data: "d.safetensors".to_owned(),
            split: "test".to_owned(),
            chosen_on: Some("validation".to_owned()),
            command: "dlopt bench sweep.toml".to_owned(),
            goal: Some(Goal::parse("smallest within 0.5").unwrap()),
            verdicts: Vec::new(),
            warnings: Vec::new(),
            variants,
            sensitivity: None,
        }
    }

    #[test]
    fn the_front_the_verdict_and_what_is_slower() {
        let mut results = results(vec![
            variant("original", 4000, 100.0, 0.92),
            variant("int8", 1000, 120.0, 0.919),
            variant("int4", 500, 80.0, 0.90),
            variant("worse", 1100, 130.0, 0.89),
        ]);
        results.conclude();
        let fronts: Vec<bool> = results.variants.iter().map(|v| v.fronts.contains(&"smallest".to_owned())).collect();
        assert_eq!(fronts, [true, true, true, false]);
        assert!(results.verdicts[0].starts_with("smallest within 0.5 points on validation: int8, 4.0 times smaller"));
        assert!(results.warnings[0].contains("int8; worse"));
        results.variants[1].validation.as_mut().unwrap().value = 0.9;
        results.conclude();
        assert!(results.verdicts[0].ends_with("the original itself"));
    }
}
