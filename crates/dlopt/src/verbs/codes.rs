//! How weights become codes: flags that `quantize` and training with quantized weights share.

use clap::{Args, ValueEnum};
use dlopt_checkpoint::Result;
use dlopt_quantize::{Fallback, Granularity, Overrides, Quantize, Rule, Scheme};

use super::sensitivity::method;

/// How scales are chosen, for which weights together, and what some tensors get instead.
#[derive(Args, Debug, Default, Clone)]
pub(crate) struct CodesArgs {
    /// Which weights share a scale: tensor, channel, or so many consecutive ones of a row [default: the scheme's]
    #[arg(long, value_name = "SIZE")]
    group: Option<String>,

    /// How scales are chosen: rtn (from the extremes), absmax (the same, nothing clipped) or mse (the clip with the least
    /// squared error) [default: rtn]; codebooks have the values with the least squared error, whatever it says
    #[arg(long)]
    method: Option<String>,

    /// GLOB=SCHEME for tensors whose whole name matches, SCHEME:SIZE for another group, GLOB=skip for none; the first
    /// that matches wins; may be repeated
    #[arg(long, value_name = "GLOB=SCHEME")]
    rule: Vec<String>,

    /// What to do with a tensor whose columns the group size does not divide [default: skip]
    #[arg(long, value_enum)]
    fallback: Option<Unfit>,
}

/// What to do with a tensor whose columns the group size does not divide.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Unfit {
    /// Leave it dense and say so
    Skip,
    /// One scale for each output
    Channel,
}

impl CodesArgs {
    /// The pass that stores weights by a scheme.
    pub(super) fn quantize(&self, scheme: &str, bits: Option<u32>, is_symmetric: Option<bool>) -> Result<Quantize> {
        let granularity = self.group.as_deref().map(Granularity::parse).transpose()?;
        let scheme = match (bits, is_symmetric, granularity) {
            (None, None, None) => Scheme::parse(scheme)?,
            _ => Scheme::new(scheme, Overrides { bits, is_symmetric, granularity })?,
        };
        let mut quantize = Quantize::new(scheme);
        if let Some(name) = &self.method {
            quantize.method = method(name)?;
        }
        quantize.rules = self.rule.iter().map(|text| Rule::parse(text)).collect::<Result<Vec<_>>>()?;
        quantize.fallback = match self.fallback {
            None | Some(Unfit::Skip) => Fallback::Skip,
            Some(Unfit::Channel) => Fallback::Channel,
        };
        Ok(quantize)
    }

    /// How scales are chosen, if that was asked for.
    pub(super) fn chosen_method(&self) -> Option<&str> {
        self.method.as_deref()
    }

    /// The first of these flags that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let given = [
            ("--group", self.group.is_some()),
            ("--method", self.method.is_some()),
            ("--rule", !self.rule.is_empty()),
            ("--fallback", self.fallback.is_some()),
        ];
        given.into_iter().find(|(_, is_given)| *is_given).map(|(flag, _)| flag)
    }
}
