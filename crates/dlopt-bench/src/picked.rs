//! What was chosen for each tensor, as the passes that do it: zeros stored as bitmasks first, then schemes.

use dlopt_checkpoint::{Carry, Checkpoint, NameGlob, Pass, Result};
use dlopt_prune::{Prune, PruneOptions, ShareRule};
use dlopt_quantize::{Quantize, Room, Rule, RuleTarget};

use crate::sensitivity::{Change, prune, read};

/// Rules of one pass or two. A tensor that becomes a bitmask is stored in parts before the second pass, whose rules do not
/// name it.
#[derive(Clone, Debug)]
pub struct Picked {
    /// Those of `prune`, one a tensor; empty when it has nothing to do.
    pub shares: Vec<ShareRule>,
    /// Those of `quantize`, one a tensor.
    pub schemes: Vec<Rule>,
    base: Quantize,
}

impl Picked {
    /// Rules for tensors, with what is done to each; the passes are otherwise like `base`.
    ///
    /// # Errors
    /// When the name of a tensor is no glob.
    pub(crate) fn of<'a>(
        base: &Quantize,
        each: impl Iterator<Item = (&'a String, &'a Option<Change>)>,
    ) -> Result<Self> {
        let mut picked = Self { shares: Vec::new(), schemes: Vec::new(), base: base.clone() };
        for (name, change) in each {
            let glob = NameGlob::new(name)?;
            match change {
                Some(Change::Sparsity(share)) => picked.shares.push(ShareRule { glob, share: Some(*share) }),
                Some(Change::Scheme(scheme)) => {
                    picked.schemes.push(Rule { glob, target: RuleTarget::Scheme(scheme.clone()) });
                }
                None => picked.schemes.push(Rule { glob, target: RuleTarget::Skip }),
            }
        }
        Ok(picked)
    }

    /// Whether all stays as it is.
    pub fn is_nothing(&self) -> bool {
        self.shares.is_empty() && !self.quantizes()
    }

    /// Whether some tensor gets a scheme.
    pub fn quantizes(&self) -> bool {
        self.schemes.iter().any(|rule| matches!(rule.target, RuleTarget::Scheme(_)))
    }

    /// The passes, in order; one that copies where all stays as it is.
    ///
    /// # Errors
    /// When zeros cannot be set as chosen.
    pub fn passes(&self) -> Result<Vec<Box<dyn Pass>>> {
        let mut passes: Vec<Box<dyn Pass>> = Vec::new();
        if !self.shares.is_empty() {
            passes.push(Box::new(Prune::new(PruneOptions {
                rules: self.shares.clone(),
                store: "bitmask".to_owned(),
                selection: self.base.selection.clone(),
                allow_nonfinite: self.base.allow_nonfinite,
                ..PruneOptions::default()
            })?));
        }
        if self.quantizes() {
            passes.push(Box::new(Quantize { rules: self.schemes.clone(), ..self.base.clone() }));
        }
        if passes.is_empty() {
            passes.push(Box::new(Carry));
        }
        Ok(passes)
    }

    /// The weights that the passes change, as a reader gets them back, by name.
    ///
    /// # Errors
    /// When a pass does not apply, or weights cannot be read.
    pub fn changed_weights(&self, checkpoint: &Checkpoint) -> Result<Vec<(String, Vec<f32>)>> {
        let header = &checkpoint.header;
        let mut changed = Vec::new();
        for (at, tensor) in header.tensors.iter().enumerate() {
            let rule = self.shares.iter().find(|rule| rule.glob.matches(&tensor.name));
            if let Some(share) = rule.and_then(|rule| rule.share) {
                let mut values = read(checkpoint, at)?;
                prune(&mut values, share)?;
                changed.push((tensor.name.clone(), values));
            }
        }
        if !self.quantizes() {
            return Ok(changed);
        }
        // Of the whole checkpoint, in which nothing is stored in parts yet.
        let skipped = self.shares.iter().map(|rule| Rule { glob: rule.glob.clone(), target: RuleTarget::Skip });
        let rules = skipped.chain(self.schemes.iter().cloned()).collect();
        for simulated in (Quantize { rules, ..self.base.clone() }).simulate(header)? {
            let mut values = read(checkpoint, simulated.tensor)?;
            let piece = (simulated.quantum() * simulated.columns).max(1);
            let mut room = Room::default();
            values.chunks_mut(piece).for_each(|rows| simulated.apply(rows, &mut room));
            changed.push((header.tensors[simulated.tensor].name.clone(), values));
        }
        Ok(changed)
    }
}
