//! What a checkpoint's history promises of its zeros, for `dlopt verify`.
//!
//! Each `prune` in the history says what it selected and how far it went. Later passes keep exact zeros, so all of it
//! should hold of the weights as decoded. The selection is worked out again from the header, by logical names: parts of
//! quantized and bitmask-stored tensors count as the tensor they make up. A tensor that the history means and the header
//! no longer names (renamed, fused) is passed over: a claim that cannot be tied to a tensor is not made.

use std::collections::BTreeSet;

use dlopt_checkpoint::{
    Dtype, Header, HistoryEntry, LAYOUT_KEY, NameGlob, Result, Selection, TensorInfo, dtype_named, read_history,
    read_layout,
};
use serde_json::Value;

use crate::patterns::{Pattern, Structure};
use crate::prune::{PruneScope, inputs_down, refusal};
use crate::rules::{self, ShareRule, share_of};
use crate::stores::bitmask::FORMAT;

/// Whether weights were pruned, as far as the header tells: the history says so (they left in a pass or in training), or they are stored as bitmasks.
///
/// # Errors
/// When history or layout are unreadable.
pub fn is_pruned(header: &Header) -> Result<bool> {
    let sets_zeros =
        |pass: &HistoryEntry| pass.verb == "prune" && !is_structural(pass) || pass.options.get("pruning").is_some();
    let is_claimed = read_history(header)?.iter().any(sets_zeros);
    let is_stored = read_layout(header)?.values().any(|stored| stored.format == FORMAT)
        || header.tensors.iter().any(|tensor| tensor.name.ends_with(".bitmask"));
    Ok(is_claimed || is_stored)
}

/// Whether whole channels or layers left, and no zeros were set.
fn is_structural(pass: &HistoryEntry) -> bool {
    let pattern = pass.options.get("pattern").and_then(Value::as_str).unwrap_or_default();
    pass.verb == "prune" && matches!(Structure::parse(pattern), Ok(Some(_)))
}

/// What must hold of some tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The tensors, by logical name. One, unless the sparsity was reached over all of them together.
    pub tensors: Vec<String>,
    /// Where zeros may stand.
    pub pattern: Pattern,
    /// For N:M: groups run along the columns of each row when `None`, else down the rows of matrices of so many rows.
    pub inputs_down: Option<usize>,
    /// Share of zeros, 0..=1, that the tensors together have at least ([`crate::zeros_at`] of their weights); `None`
    /// for N:M.
    pub sparsity: Option<f64>,
}

/// What the history of a checkpoint claims. Empty when nothing was pruned.
///
/// # Errors
/// When history, layout or config are unreadable.
pub fn claims(header: &Header) -> Result<Vec<Claim>> {
    let passes = read_history(header)?;
    if passes.iter().all(|p| p.verb != "prune") {
        return Ok(Vec::new());
    }
    let logical = logical_header(header)?;
    let mut claims = Vec::new();
    // Tensors that lost rows and columns are no longer what earlier passes spoke of.
    let first = passes.iter().rposition(is_structural).map_or(0, |last| last + 1);
    for pass in passes[first..].iter().filter(|p| p.verb == "prune") {
        let text = |key: &str| pass.options.get(key).and_then(Value::as_str).unwrap_or_default();
        let Ok(pattern) = Pattern::parse(text("pattern")) else { continue };
        let sparsity = pass.options.get("sparsity").and_then(Value::as_f64);
        let Some(selection) = selection_of(&pass.options, &logical) else { continue };
        let rules = rules_of(&pass.options, &logical);
        let has_share = sparsity.is_some() || pass.options.get("rules").is_none();
        let choices = rules::choose(&logical, &selection, &rules, has_share)?;
        let mut own = Vec::new();
        for (tensor, choice) in logical.tensors.iter().zip(&choices) {
            let kind = choice.layer.kind;
            if choice.skipped.is_some() || refusal(pattern, kind).is_some() || tensor.elements() == 0 {
                continue;
            }
            own.push(Claim {
                tensors: vec![tensor.name.clone()],
                pattern,
                inputs_down: if pattern == Pattern::Unstructured { None } else { inputs_down(kind, &tensor.shape) },
                sparsity: if pattern == Pattern::Unstructured {
                    share_of(&rules, sparsity, &tensor.name)
                } else {
                    None
                },
            });
        }
        if text("scope") == PruneScope::Global.name() && pattern == Pattern::Unstructured && !own.is_empty() {
            let tensors = own.into_iter().flat_map(|claim| claim.tensors).collect();
            own = vec![Claim { tensors, pattern, inputs_down: None, sparsity }];
        }
        claims.append(&mut own);
    }
    Ok(claims)
}

/// The rules that options hold, without those that match nothing any more.
fn rules_of(options: &Value, logical: &Header) -> Vec<ShareRule> {
    let texts = options.get("rules").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let rules = texts.filter_map(|text| ShareRule::parse(text).ok());
    rules.filter(|rule| logical.tensors.iter().any(|tensor| rule.glob.matches(&tensor.name))).collect()
}

/// The selection that options resolve to, without globs that match nothing any more. `None` when what was included is
/// gone altogether.
fn selection_of(options: &Value, logical: &Header) -> Option<Selection> {
    let globs = |key: &str| -> Vec<NameGlob> {
        let texts = options.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        texts.filter_map(|text| NameGlob::new(text).ok()).collect()
    };
    let still_match = |globs: Vec<NameGlob>| -> Vec<NameGlob> {
        globs.into_iter().filter(|g| logical.tensors.iter().any(|t| g.matches(&t.name))).collect()
    };
    let asked = globs("include");
    let has_include = !asked.is_empty();
    let include = still_match(asked);
    if has_include && include.is_empty() {
        return None;
    }
    let change_tied = options.get("tied").and_then(Value::as_str) == Some("both");
    Some(Selection { include, exclude: still_match(globs("exclude")), change_tied })
}

/// The header with tensors in place of their parts, as far as the header tells.
fn logical_header(header: &Header) -> Result<Header> {
    let layout = read_layout(header)?;
    let by_name = header.by_name();
    let mut parts: BTreeSet<String> = layout.values().flat_map(|stored| stored.parts.values().cloned()).collect();
    let mut metadata = header.metadata.clone();
    metadata.remove(LAYOUT_KEY);
    let mut tensors: Vec<TensorInfo> = layout
        .iter()
        .map(|(name, stored)| {
            TensorInfo::new(name, dtype_named(&stored.dtype).unwrap_or(Dtype::F32), stored.shape.clone())
        })
        .collect();
    for tensor in &header.tensors {
        // `weight_packed` with `weight_scale`, and `weight` with `weight_scale`, are a `weight`; so it goes for
        // `weight_ih` and others. Only the rank and the rows of packed tensors are known.
        let stem = tensor.name.strip_suffix("_packed").unwrap_or(&tensor.name);
        if by_name.contains_key(format!("{stem}_scale").as_str()) && !parts.contains(&tensor.name) {
            tensors.push(TensorInfo::new(stem, Dtype::F32, tensor.shape.clone()));
            parts.insert(tensor.name.clone());
            for suffix in ["_scale", "_zero_point", "_shape", "_global_scale", "_g_idx"] {
                parts.insert(format!("{stem}{suffix}"));
            }
        }
    }
    tensors.extend(header.tensors.iter().filter(|t| !parts.contains(&t.name)).cloned());
    Ok(Header { tensors, metadata })
}
