//! The model's config against the shapes of the decoded tensors, for common architectures.

use std::collections::BTreeSet;

use dlopt_checkpoint::Header;
use serde_json::{Map, Value};

use super::Found;

/// What a config says of a family of models, and where.
struct Family {
    model_types: &'static [&'static str],
    vocabulary: &'static str,
    /// The first of these keys that the config has is the width of the embedding.
    width: &'static [&'static str],
    layers: &'static str,
    /// The end of the embedding's name.
    embedding: &'static str,
    /// What stands before the number of a layer.
    layer: &'static str,
    /// The output head, `[vocabulary, width]`.
    head: Option<&'static str>,
}

const FAMILIES: [Family; 4] = [
    Family {
        model_types: &["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi3", "olmo2", "mixtral", "stablelm"],
        vocabulary: "vocab_size",
        width: &["hidden_size"],
        layers: "num_hidden_layers",
        embedding: "embed_tokens.weight",
        layer: "layers",
        head: Some("lm_head.weight"),
    },
    Family {
        model_types: &["bert", "roberta", "xlm-roberta", "camembert", "electra", "mpnet"],
        vocabulary: "vocab_size",
        width: &["embedding_size", "hidden_size"],
        layers: "num_hidden_layers",
        embedding: "embeddings.word_embeddings.weight",
        layer: "encoder.layer",
        head: None,
    },
    Family {
        model_types: &["distilbert"],
        vocabulary: "vocab_size",
        width: &["dim"],
        layers: "n_layers",
        embedding: "embeddings.word_embeddings.weight",
        layer: "transformer.layer",
        head: None,
    },
    Family {
        model_types: &["gpt2"],
        vocabulary: "vocab_size",
        width: &["n_embd"],
        layers: "n_layer",
        embedding: "wte.weight",
        layer: "h",
        head: None,
    },
];

pub(super) fn check(header: &Header, found: &mut Found) {
    const WHAT: &str = "vocabulary, width and layers of the config are those of the tensors";
    let config = match header.config() {
        Ok(Some(config)) => config,
        Ok(None) => return found.skip("config", WHAT, "there is no config"),
        Err(error) => {
            found.check("config", WHAT);
            return found.model_error(error.message());
        }
    };
    let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let Some(family) = FAMILIES.iter().find(|f| f.model_types.contains(&model_type)) else {
        return found.skip("config", WHAT, format!("nothing is known of model type `{model_type}`"));
    };
    found.check("config", WHAT);
    check_family(family, &config, header, found);
}

fn check_family(family: &Family, config: &Map<String, Value>, header: &Header, found: &mut Found) {
    let number = |key: &str| config.get(key).and_then(Value::as_u64);
    let vocabulary = number(family.vocabulary);
    let width = family.width.iter().find_map(|key| number(key));
    let tables = header.tensors.iter().filter(|t| {
        let is_head = family.head.is_some_and(|head| t.name == head);
        is_head || t.name == family.embedding || t.name.ends_with(&format!(".{}", family.embedding))
    });
    for table in tables {
        for (extent, said, key) in [(0, vocabulary, family.vocabulary), (1, width, family.width[0])] {
            if let (Some(&extent), Some(said)) = (table.shape.get(extent), said)
                && extent as u64 != said
            {
                found.error(&table.name, format!("has shape {:?}; the config says `{key}` {said}", table.shape));
            }
        }
    }
    let numbers = layer_numbers(family, header);
    if let (Some(said), false) = (number(family.layers), numbers.is_empty()) {
        let is_all = numbers.len() as u64 == said && numbers.last().is_some_and(|&last| last as u64 + 1 == said);
        if !is_all {
            let last = numbers.last().copied().unwrap_or(0);
            found.model_error(format!(
                "the tensors have {} layers, up to number {last}; the config says `{}` {said}",
                numbers.len(),
                family.layers
            ));
        }
    }
}

fn layer_numbers(family: &Family, header: &Header) -> BTreeSet<usize> {
    let inner = format!(".{}.", family.layer);
    let first = format!("{}.", family.layer);
    let number = |name: &str| {
        let rest = name.strip_prefix(&first).or_else(|| name.split_once(&inner).map(|(_, rest)| rest))?;
        rest.split('.').next()?.parse().ok()
    };
    header.tensors.iter().filter_map(|t| number(&t.name)).collect()
}
