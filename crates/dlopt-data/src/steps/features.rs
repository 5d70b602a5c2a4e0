//! Features in the place of a sample: a row of numbers, those of each feature side by side.

use std::sync::OnceLock;

use dlopt_checkpoint::{Error, Result};
use serde_json::{Map, Value};

use crate::dataset::quoted;
use crate::features::{FEATURES, Feature, FeatureKind, FitFeature};
use crate::options;
use crate::pipeline::StepSpec;
use crate::raw::{Raw, Values};
use crate::step::{FitStep, Step, StepKind};

/// The step that `--features` asks for.
pub(super) const KIND: StepKind = StepKind {
    name: "features",
    summary: "numbers that say something about a sample; `dlopt list features` names them",
    main: "of",
    make: |_, options| Ok(Box::new(Features::read(options)?)),
};

/// Features, side by side.
#[derive(Debug)]
struct Features {
    features: Vec<(&'static str, Box<dyn Feature>)>,
    /// How many numbers each gave for the first sample.
    counts: OnceLock<Vec<usize>>,
}

/// The step that takes these features, each `NAME`, `NAME=VALUE` or `NAME=VALUE,key=value…`.
///
/// # Errors
/// When a feature is unknown or an option is wrong.
pub fn features_spec(texts: &[String]) -> Result<StepSpec> {
    let mut all = Vec::new();
    for text in texts {
        let (name, options) = options::parse(text, |name| Ok(named(name)?.main))?;
        let mut table = Map::from_iter([("feature".to_owned(), Value::String(name))]);
        table.extend(options);
        all.push(Value::Object(table));
    }
    Ok(StepSpec { step: "features".to_owned(), options: Map::from_iter([("of".to_owned(), Value::Array(all))]) })
}

fn named(name: &str) -> Result<&'static FeatureKind> {
    FEATURES.iter().find(|kind| kind.name == name).ok_or_else(|| {
        let names: Vec<&str> = FEATURES.iter().map(|kind| kind.name).collect();
        Error::usage(format!("no feature `{name}`; there are {}", quoted(&names)))
    })
}

impl Features {
    fn read(mut options: Map<String, Value>) -> Result<Self> {
        let Some(Value::Array(all)) = options.remove("of") else {
            return Err(Error::usage("`features` wants a list of features"));
        };
        let mut features = Vec::new();
        for one in all {
            let Value::Object(mut table) = one else {
                return Err(Error::usage("`features`: each is a table with `feature`, its name"));
            };
            let Some(Value::String(name)) = table.remove("feature") else {
                return Err(Error::usage("`features`: each is a table with `feature`, its name"));
            };
            let kind = named(&name)?;
            let feature = kind.make(table).map_err(|e| e.within(format!("`{name}`")))?;
            features.push((kind.name, feature));
        }
        if features.is_empty() || !options.is_empty() {
            return Err(Error::usage("`features` wants a list of features, and nothing else"));
        }
        Ok(Self { features, counts: OnceLock::new() })
    }
}

impl Step for Features {
    fn name(&self) -> &'static str {
        "features"
    }

    fn options(&self) -> Map<String, Value> {
        let tables = self.features.iter().map(|(name, feature)| {
            let mut table = Map::from_iter([("feature".to_owned(), Value::String((*name).to_owned()))]);
            table.extend(feature.options());
            Value::Object(table)
        });
        Map::from_iter([("of".to_owned(), Value::Array(tables.collect()))])
    }

    fn apply(&self, raw: Raw) -> Result<Raw> {
        let (mut all, mut counts) = (Vec::new(), Vec::with_capacity(self.features.len()));
        for (name, feature) in &self.features {
            let before = all.len();
            feature.extract(&raw, &mut all).map_err(|e| e.within(format!("feature `{name}`")))?;
            counts.push(all.len() - before);
        }
        let first = self.counts.get_or_init(|| counts.clone());
        if let Some(at) = first.iter().zip(&counts).position(|(a, b)| a != b) {
            return Err(Error::input(format!(
                "feature `{}` gives {} numbers here, and {} for other samples",
                self.features[at].0, counts[at], first[at]
            ))
            .hint("bring all samples to one size first, such as with --resize"));
        }
        Ok(Raw::Row(Values::F32(all)))
    }

    fn fitting(&self) -> Option<Box<dyn FitStep>> {
        let fits: Vec<_> = self.features.iter().map(|(_, feature)| feature.fitting()).collect();
        if fits.iter().all(Option::is_none) {
            return None;
        }
        let all = self.options().remove("of")?;
        Some(Box::new(FitFeatures { fits, all }))
    }

    fn column_names(&self) -> Vec<String> {
        let counts = self.counts.get().map(Vec::as_slice).unwrap_or_default();
        self.features.iter().zip(counts).flat_map(|((name, feature), &count)| feature.names(name, count)).collect()
    }
}

/// Lets the features learn that must.
struct FitFeatures {
    fits: Vec<Option<Box<dyn FitFeature>>>,
    /// The features as they are asked for.
    all: Value,
}

impl FitStep for FitFeatures {
    fn see(&mut self, raw: &Raw) -> Result<()> {
        self.fits.iter_mut().flatten().try_for_each(|fit| fit.see(raw))
    }

    fn fitted(self: Box<Self>) -> Result<Box<dyn Step>> {
        let mut features = Features::read(Map::from_iter([("of".to_owned(), self.all)]))?;
        for ((_, feature), fit) in features.features.iter_mut().zip(self.fits) {
            if let Some(fit) = fit {
                *feature = fit.fitted()?;
            }
        }
        Ok(Box::new(features))
    }
}
