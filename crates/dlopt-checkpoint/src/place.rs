//! Where every part of an output goes: which file, at which byte. Known before the first weight is read.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::header::Header;
use crate::order::{align, order_plan, parts_in_input_order};
use crate::pass::Plan;

/// How a folder's output is cut into shards; always between units.
#[derive(Clone, Debug)]
pub(crate) enum Sharding {
    /// One file.
    One,
    /// The shard of each unit, as the input had it.
    ByUnit(Vec<usize>),
    /// A new shard when the next unit would exceed this many bytes.
    AtMost(u64),
}

/// One output file.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    /// Its name in the folder.
    pub(crate) file: String,
    /// Its header.
    pub(crate) header: Header,
    /// The length, the header text and its padding.
    pub(crate) head: Vec<u8>,
    /// Size of the whole file.
    pub(crate) bytes: u64,
}

/// The files of an output, and where each part of the plan lies in them.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    /// The files.
    pub(crate) shards: Vec<Shard>,
    /// For each unit and each of its writes: the shard and the byte in its file.
    pub(crate) parts: Vec<Vec<(usize, u64)>>,
}

impl Placement {
    /// Bytes of all files together.
    pub(crate) fn bytes(&self) -> u64 {
        self.shards.iter().map(|s| s.bytes).sum()
    }

    /// Places a plan. `metadata` goes into every file.
    ///
    /// # Errors
    /// When a header would be longer than readers accept.
    pub(crate) fn new(plan: &Plan, sharding: &Sharding, metadata: &BTreeMap<String, String>) -> Result<Self> {
        let of_unit = shard_of_units(plan, sharding);
        let count = of_unit.iter().max().map_or(1, |last| last + 1);
        let mut placement = Self { shards: Vec::with_capacity(count), parts: Vec::with_capacity(plan.units.len()) };
        placement.parts.extend(plan.units.iter().map(|u| vec![(0, 0); u.writes.len()]));
        let mut own = vec![Vec::new(); count];
        if count == 1 {
            own[0] = order_plan(plan).parts;
        } else {
            for part in parts_in_input_order(plan) {
                own[of_unit[part.0]].push(part);
            }
        }
        for (s, parts) in own.into_iter().enumerate() {
            let mut ordered = align(plan, parts);
            ordered.header.metadata = metadata.clone();
            let head = ordered.header.to_bytes()?;
            let mut at = head.len() as u64;
            for (&(unit, write), info) in ordered.parts.iter().zip(&ordered.header.tensors) {
                placement.parts[unit][write] = (s, at);
                at += info.bytes();
            }
            let file = if count == 1 {
                "model.safetensors".to_owned()
            } else {
                format!("model-{:05}-of-{count:05}.safetensors", s + 1)
            };
            placement.shards.push(Shard { file, header: ordered.header, head, bytes: at });
        }
        Ok(placement)
    }

    /// `model.safetensors.index.json`, `None` when one file needs none.
    pub(crate) fn index(&self) -> Option<String> {
        #[derive(serde::Serialize)]
        struct Index<'a> {
            metadata: IndexMetadata,
            weight_map: BTreeMap<&'a str, &'a str>,
        }
        #[derive(serde::Serialize)]
        struct IndexMetadata {
            total_size: u64,
        }
        if self.shards.len() == 1 {
            return None;
        }
        let mut index = Index { metadata: IndexMetadata { total_size: 0 }, weight_map: BTreeMap::new() };
        for shard in &self.shards {
            index.metadata.total_size += shard.header.data_bytes();
            for tensor in &shard.header.tensors {
                index.weight_map.insert(&tensor.name, &shard.file);
            }
        }
        let mut text = serde_json::to_string_pretty(&index).expect("maps of strings always serialise");
        text.push('\n');
        Some(text)
    }
}

fn shard_of_units(plan: &Plan, sharding: &Sharding) -> Vec<usize> {
    match sharding {
        Sharding::One => vec![0; plan.units.len()],
        Sharding::ByUnit(shards) => {
            // Shards that no unit goes to leave no gap in the numbers.
            let used: std::collections::BTreeSet<_> = shards.iter().copied().collect();
            let number: BTreeMap<_, _> = used.into_iter().enumerate().map(|(n, s)| (s, n)).collect();
            shards.iter().map(|s| number[s]).collect()
        }
        Sharding::AtMost(limit) => {
            let (mut shard, mut filled) = (0, 0);
            let mut shards = Vec::with_capacity(plan.units.len());
            for unit in &plan.units {
                let bytes: u64 = unit.writes.iter().map(|w| w.info.bytes()).sum();
                if filled > 0 && filled + bytes > *limit {
                    shard += 1;
                    filled = 0;
                }
                filled += bytes;
                shards.push(shard);
            }
            shards
        }
    }
}
