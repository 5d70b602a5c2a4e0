//! From what a user names (a preset, a description, a checkpoint) and a dataset to a network with its first weights.

use std::collections::BTreeMap;
use std::path::Path;

use dlopt_checkpoint::{Checkpoint, Context, Error, HISTORY_KEY, Header, Result, extend_history, read_history};
use dlopt_data::{Dataset, Elements, Learns, Preprocessing, available_memory_bytes};
use dlopt_model::{
    Adopted, Answers, Description, FlatLayout, Initialization, ModelConfig, Node, Op, Preset, Shape, Tokens,
    adopt_weights, config_of, initial_values, load_weights, to_tensors, vocabulary,
};
use sha2::{Digest, Sha256};

use crate::settings::Settings;
use crate::trainer::Trained;

/// A network, ready to be trained.
#[derive(Debug)]
pub struct Model {
    /// What a checkpoint will say of it.
    pub config: ModelConfig,
    /// Its plan.
    pub nodes: Vec<Node>,
    /// Where its values lie.
    pub layout: FlatLayout,
    /// First weights.
    pub weights: Vec<f32>,
    /// First running statistics.
    pub buffers: Vec<f32>,
    /// What came from where, for people.
    pub origin: String,
    /// The header of the checkpoint that the weights came from.
    source: Header,
}

/// What a network is made from.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// A preset, the path of a description, or of a checkpoint that says what it is.
    pub model: Option<&'a str>,
    /// A checkpoint whose weights are taken.
    pub init: Option<&'a Path>,
    /// Whether weights of another shape may start anew.
    pub adopts: bool,
    /// How fresh weights start, if not as the description says.
    pub initialization: Option<Initialization>,
    /// Decides fresh weights.
    pub seed: u64,
    /// Whether the scale and statistics of the checkpoint replace those of the data.
    pub uses_own_preprocessing: bool,
}

impl Model {
    /// Makes the network that `request` asks for, for this data.
    ///
    /// # Errors
    /// When the model is unknown, does not fit the data, or the weights do not fit the model.
    pub fn make(request: &Request<'_>, dataset: &mut Dataset) -> Result<Self> {
        let init = request.init.map(Checkpoint::open).transpose()?;
        let (named, from_model) = match request.model {
            Some(name) => named_model(name)?,
            None => (None, None),
        };
        let source = init.as_ref().or(from_model.as_ref());
        let (mut config, has_own_config) = match (named, source) {
            (Some(mut description), _) => {
                if let Some(initialization) = request.initialization {
                    description.init = initialization;
                }
                (fitted(&description, dataset)?, false)
            }
            (None, Some(source)) => (refit(config_of(source)?, source, dataset, request.adopts)?, true),
            (None, None) => {
                return Err(Error::usage("no model to train").hint(
                    "--model NAME, --model DESCRIPTION.toml or --init CHECKPOINT; `dlopt list` names the models",
                ));
            }
        };
        let nodes = config.resolve()?;
        check_vocabulary(&nodes, dataset)?;
        check_learns(&nodes, dataset)?;
        let layout = FlatLayout::of(&nodes);
        check_memory(&layout)?;
        let (weights, buffers, adopted) = match source {
            None => {
                let (weights, buffers) = initial_values(&nodes, &layout, request.seed)?;
                (weights, buffers, None)
            }
            Some(source) if request.adopts => {
                let (mut weights, mut buffers) = initial_values(&nodes, &layout, request.seed)?;
                let adopted = adopt_weights(source, &layout, &mut weights, &mut buffers)?;
                (weights, buffers, Some(adopted))
            }
            Some(source) => {
                let (weights, buffers) = load_weights(source, &layout)?;
                (weights, buffers, None)
            }
        };
        if let (true, Some(source)) = (has_own_config, source) {
            if request.uses_own_preprocessing {
                use_own_preprocessing(&config, &source.name, dataset)?;
            }
            check_preprocessing(&config, &source.name, dataset)?;
        }
        config.preprocessing =
            serde_json::to_value(dataset.preprocessing()).expect("strings and numbers always serialise");
        config.other.remove("quantization_config");
        let origin = origin_of(request, source, adopted.as_ref());
        let source = source.map(|s| s.header.clone()).unwrap_or_default();
        Ok(Self { config, nodes, layout, weights, buffers, origin, source })
    }

    /// The network of a description, for this data, with fresh weights from a seed.
    ///
    /// # Errors
    /// When it does not fit the data.
    pub fn of_description(description: &Description, seed: u64, dataset: &Dataset) -> Result<Self> {
        let mut config = fitted(description, dataset)?;
        let nodes = config.resolve()?;
        check_vocabulary(&nodes, dataset)?;
        check_learns(&nodes, dataset)?;
        let layout = FlatLayout::of(&nodes);
        check_memory(&layout)?;
        let (weights, buffers) = initial_values(&nodes, &layout, seed)?;
        config.preprocessing =
            serde_json::to_value(dataset.preprocessing()).expect("strings and numbers always serialise");
        let origin = format!("fresh weights from seed {seed}");
        Ok(Self { config, nodes, layout, weights, buffers, origin, source: Header::default() })
    }

    /// The header of the checkpoint that the first weights came from; empty for fresh ones.
    pub fn source(&self) -> &Header {
        &self.source
    }

    /// The header of what [`Model::checkpoint`] makes, but for the history.
    pub fn header(&self) -> Header {
        to_tensors(&self.config, &self.layout, &self.weights, &self.buffers, &BTreeMap::new()).0
    }

    /// SHA-256 of the first values: part of what a resumed run must agree on.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for value in self.weights.iter().chain(&self.buffers) {
            digest.update(value.to_le_bytes());
        }
        dlopt_checkpoint::hex(&digest.finalize())
    }

    /// The checkpoint of trained values, in memory. Equal runs give equal bytes: no time, no path, no thread count.
    ///
    /// # Errors
    /// When the history of the checkpoint that the weights came from cannot be read.
    pub fn checkpoint(
        &self,
        verb: &str,
        settings: &Settings,
        dataset: &Dataset,
        trained: &Trained,
    ) -> Result<(Header, Vec<Vec<u8>>)> {
        let mut config = self.config.clone();
        let options = serde_json::to_value(settings).expect("strings and numbers always serialise");
        config.training = serde_json::json!({
            "settings": options,
            "epoch": trained.epoch,
            "updates": trained.steps,
            "data": dataset_digest(dataset),
        });
        let mut metadata: BTreeMap<String, String> = BTreeMap::new();
        read_history(&self.source)?;
        metadata.insert(HISTORY_KEY.to_owned(), extend_history(&self.source, verb, options)?);
        Ok(to_tensors(&config, &self.layout, &trained.weights, &trained.buffers, &metadata))
    }
}

/// A preset or description, or a checkpoint.
fn named_model(name: &str) -> Result<(Option<Description>, Option<Checkpoint>)> {
    let path = Path::new(name);
    if path.extension().is_some_and(|e| e == "toml") {
        let text = std::fs::read_to_string(path).at(path.display())?;
        let description = Description::from_toml(&text).map_err(|e| e.within(path.display()))?;
        return Ok((Some(description), None));
    }
    if path.exists() && Preset::named(name).is_err() {
        return Ok((None, Some(Checkpoint::open(path)?)));
    }
    Ok((Some(Preset::named(name)?.description()), None))
}

/// Refuses a network whose weights and gradients alone do not fit into memory: most likely a size with digits too many.
fn check_memory(layout: &FlatLayout) -> Result<()> {
    let values = (layout.params_len as u64).saturating_mul(2).saturating_add(layout.buffers_len as u64);
    let (wanted, free) = (values.saturating_mul(4), available_memory_bytes());
    if wanted <= free {
        return Ok(());
    }
    let error = Error::input(format!(
        "the network has {} parameters; with their gradients they take {wanted} bytes, and {free} bytes of memory are free",
        layout.params_len
    ));
    let largest = layout.tensors().iter().max_by_key(|t| t.range.len());
    Err(match largest {
        Some(largest) => {
            error.hint(format!("smaller layers; the largest tensor is `{}` {:?}", largest.name, largest.shape))
        }
        None => error,
    })
}

/// The shape of a sample, as a network sees it.
pub fn shape_of(dataset: &Dataset) -> Shape {
    match dataset.info().elements {
        Elements::Image { height, width, channels } => Shape::Image { height, width, channels },
        Elements::Series { time, features } => Shape::Series { time, features },
        Elements::Vector { features, .. } => Shape::Vector { features },
        Elements::Tokens { time, .. } => Shape::Tokens { time },
    }
}

/// What the data say about tokens.
fn tokens_of(dataset: &Dataset) -> Tokens {
    let vocabulary = match dataset.info().elements {
        Elements::Tokens { vocabulary, .. } => Some(vocabulary),
        _ => None,
    };
    let answers = match dataset.info().learns {
        Learns::Sequence { time, start, end, .. } => Some(Answers { steps: time, start, end }),
        _ => None,
    };
    Tokens { vocabulary, answers }
}

/// Refuses a decoder on data without sequences, one that was made for others, and data with sequences without one.
///
/// # Errors
/// When they do not fit.
pub fn check_learns(nodes: &[Node], dataset: &Dataset) -> Result<()> {
    let decoder = nodes.iter().find_map(|node| match &node.op {
        Op::Seq2seq(plan) => Some(plan),
        _ => None,
    });
    match (decoder, dataset.info().learns.clone()) {
        (None, Learns::Sequence { .. }) => {
            Err(Error::usage(format!("{}: has sequences to put out, and the network has no decoder", dataset.name()))
                .hint("--model seq2seq"))
        }
        (Some(_), Learns::Sample | Learns::NextToken) => {
            Err(Error::usage(format!("{}: has no sequences for a decoder to put out", dataset.name()))
                .hint("prepare pairs of texts; for classes --model gru behind an embedding, for text --model charlstm"))
        }
        (Some(plan), Learns::Sequence { start, end, .. }) if (start, end) != (plan.start, plan.end) => {
            Err(Error::input(format!(
                "{}: sequences stand between the tokens {start} and {end}, and the network puts them between {} and {}",
                dataset.name(),
                plan.start,
                plan.end
            )))
        }
        _ => Ok(()),
    }
}

/// How many outputs the data ask for, and the names of the classes.
fn outputs_of(dataset: &Dataset) -> (usize, Vec<String>) {
    if dataset.targets().is_some() || dataset.info().learns != Learns::Sample {
        return (dataset.outputs(), Vec::new());
    }
    (dataset.classes().len(), dataset.classes().to_vec())
}

/// The config of a description for these data.
fn fitted(description: &Description, dataset: &Dataset) -> Result<ModelConfig> {
    let (outputs, classes) = outputs_of(dataset);
    let description = description.with_tokens(&tokens_of(dataset));
    let mut config = ModelConfig::new(&description, shape_of(dataset), outputs, classes)?;
    config.is_per_step = dataset.info().learns != Learns::Sample;
    Ok(config)
}

/// Refuses data that a checkpoint's network does not take; with `adopts`, gives it other outputs.
fn refit(mut config: ModelConfig, source: &Checkpoint, dataset: &Dataset, adopts: bool) -> Result<ModelConfig> {
    check_shape(&config, &source.name, dataset)?;
    if config.is_per_step != (dataset.info().learns != Learns::Sample) {
        let (own, wanted) = match config.is_per_step {
            true => ("scores tokens at every step", "asks for one answer a sample"),
            false => ("gives one answer a sample", "has tokens to learn at every step"),
        };
        return Err(Error::input(format!("{}: {own}, and {} {wanted}", source.name, dataset.name())));
    }
    let (outputs, classes) = outputs_of(dataset);
    if config.outputs != outputs || config.classes != classes {
        if !adopts {
            return Err(Error::input(format!(
                "{}: has {} outputs{}, and {} asks for {outputs}{}",
                source.name,
                config.outputs,
                of_classes(&config.classes),
                dataset.name(),
                of_classes(&classes)
            ))
            .hint("--adopt keeps what fits and starts the last layer anew"));
        }
        (config.outputs, config.classes) = (outputs, classes);
    }
    Ok(config)
}

fn of_classes(classes: &[String]) -> String {
    match classes {
        [] => String::new(),
        few if few.len() <= 4 => format!(" ({})", few.join(", ")),
        [first, second, ..] => format!(" ({first}, {second}, …)"),
        [one] => format!(" ({one})"),
    }
}

/// Refuses tokens that the network has no row for.
///
/// # Errors
/// When the vocabulary of the data is larger; both are named.
pub fn check_vocabulary(nodes: &[Node], dataset: &Dataset) -> Result<()> {
    let Some(known) = vocabulary(nodes) else { return Ok(()) };
    match dataset.info().elements {
        Elements::Tokens { vocabulary, .. } if vocabulary <= known => Ok(()),
        Elements::Tokens { vocabulary, .. } => Err(Error::input(format!(
            "{}: has {vocabulary} tokens, and the network's embedding knows {known}",
            dataset.name()
        ))
        .hint("an embedding with a larger `vocabulary`")),
        _ => Err(Error::input(format!("{}: has no tokens, and the network begins with an embedding", dataset.name()))),
    }
}

/// Refuses data whose samples have another shape than a network takes.
///
/// # Errors
/// When they differ; both are named.
pub fn check_shape(config: &ModelConfig, name: &str, dataset: &Dataset) -> Result<()> {
    let shape = shape_of(dataset);
    let agrees = match (&config.input, &shape) {
        // A shorter or longer series is one to a network that reads it step by step.
        (Shape::Series { features: a, .. }, Shape::Series { features: b, .. }) => a == b && config.input == shape,
        (a, b) => a == b,
    };
    if agrees {
        return Ok(());
    }
    Err(Error::input(format!("{name}: takes samples of {:?}, and {} has {:?}", config.input, dataset.name(), shape))
        .hint("prepare the data as those it was trained on (`dlopt inspect` shows how)"))
}

/// Refuses data that were prepared differently from what a checkpoint was trained on.
///
/// # Errors
/// When they differ; both ways are named.
pub fn check_preprocessing(config: &ModelConfig, name: &str, dataset: &Dataset) -> Result<()> {
    if config.preprocessing.is_null() {
        return Ok(());
    }
    let own = Preprocessing::of(&config.preprocessing).map_err(|e| e.within(name))?;
    match own.difference(dataset.preprocessing(), name, dataset.name()) {
        None => Ok(()),
        Some(what) => {
            Err(Error::input(format!("{} was prepared differently from the data of {name}: {what}", dataset.name()))
                .hint("--use-own-preprocessing applies the checkpoint's numbers to the raw elements"))
        }
    }
}

/// Applies the scale and statistics of a checkpoint to the raw elements of the data.
///
/// # Errors
/// When the elements mean something else.
pub fn use_own_preprocessing(config: &ModelConfig, name: &str, dataset: &mut Dataset) -> Result<()> {
    if config.preprocessing.is_null() {
        return Ok(());
    }
    let own = Preprocessing::of(&config.preprocessing).map_err(|e| e.within(name))?;
    dataset.set_preprocessing(own)
}

/// What identifies the data: the digests of their sources, or their own facts.
pub(crate) fn dataset_digest(dataset: &Dataset) -> serde_json::Value {
    let info = dataset.info();
    serde_json::json!({
        "sources": info.sources.iter().map(|s| &s.sha256).collect::<Vec<_>>(),
        "splits": info.splits,
        "samples": dataset.samples(),
    })
}

/// What a resumed run must agree on.
pub fn run_facts(settings: &Settings, model: &Model, dataset: &Dataset) -> serde_json::Value {
    let config: serde_json::Value = serde_json::from_str(&model.config.to_json()).expect("a config's text is JSON");
    serde_json::json!({
        "settings": settings,
        "model": config,
        "data": dataset_digest(dataset),
        "first weights": model.digest(),
    })
}

fn origin_of(request: &Request<'_>, source: Option<&Checkpoint>, adopted: Option<&Adopted>) -> String {
    match (source, adopted) {
        (None, _) => format!("fresh weights from seed {}", request.seed),
        (Some(source), None) => format!("weights of {}", source.name),
        (Some(source), Some(adopted)) if adopted.fresh.is_empty() => format!("weights of {}", source.name),
        (Some(source), Some(adopted)) => {
            format!("weights of {}; anew: {}", source.name, adopted.fresh.join(", "))
        }
    }
}
