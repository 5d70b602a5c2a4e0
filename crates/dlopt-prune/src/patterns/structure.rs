//! Structure: whole channels, neurons, hidden units or layers leave the checkpoint, and what is left is a smaller network.

use std::fmt;

use dlopt_checkpoint::{Error, Result};

use crate::Plugin;
use crate::coupling::Maker;

pub(super) const PLUGINS: [Plugin; 4] = [
    Plugin {
        name: "channels",
        summary: "whole filters of convolutions leave, with all that reads them",
        source: "Li et al. 2017, arXiv 1608.08710; Fang et al. 2023, arXiv 2301.12900",
    },
    Plugin {
        name: "neurons",
        summary: "whole units of dense layers leave, with all that reads them",
        source: "Hu et al. 2016, arXiv 1607.03250",
    },
    Plugin {
        name: "hidden",
        summary: "whole hidden units of recurrent layers leave, from all gates",
        source: "Wen et al. 2018, arXiv 1709.05027",
    },
    Plugin {
        name: "layers",
        summary: "whole residual blocks leave, and layers of recurrent stacks",
        source: "Fan et al. 2019, arXiv 1909.11556",
    },
];

/// What leaves a network as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Structure {
    /// Channels that were made by layers of these kinds.
    Channels(Vec<Maker>),
    /// Layers.
    Layers,
}

impl Structure {
    /// Reads `channels`, `neurons`, `hidden`, several of them with commas between, or `layers`; nothing where the text does
    /// not begin with one of them.
    ///
    /// # Errors
    /// When another word follows, or one is given twice.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        let words: Vec<&str> = text.split(',').map(str::trim).collect();
        if PLUGINS.iter().all(|plugin| plugin.name != words[0]) {
            return Ok(None);
        }
        if words == ["layers"] {
            return Ok(Some(Self::Layers));
        }
        let mut makers = Vec::new();
        for word in words {
            let maker = match word {
                "channels" => Maker::Convolution,
                "neurons" => Maker::Dense,
                "hidden" => Maker::Recurrent,
                _ => {
                    return Err(Error::usage(format!("`{word}` in pattern `{text}`"))
                        .hint("channels, neurons, hidden, several with commas between; or layers alone"));
                }
            };
            if makers.contains(&maker) {
                return Err(Error::usage(format!("`{word}` stands twice in pattern `{text}`")).hint("give it once"));
            }
            makers.push(maker);
        }
        Ok(Some(Self::Channels(makers)))
    }
}

/// As [`Structure::parse`] reads it.
impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |maker: &Maker| match maker {
            Maker::Convolution => "channels",
            Maker::Dense => "neurons",
            _ => "hidden",
        };
        match self {
            Self::Layers => f.write_str("layers"),
            Self::Channels(makers) => f.write_str(&makers.iter().map(word).collect::<Vec<_>>().join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_read_as_they_are_written() {
        for text in ["channels", "neurons", "hidden", "layers", "channels,neurons", "hidden,channels,neurons"] {
            assert_eq!(Structure::parse(text).unwrap().unwrap().to_string(), text);
        }
        for text in ["unstructured", "2:4", "", "filters"] {
            assert_eq!(Structure::parse(text).unwrap(), None, "{text}");
        }
        for (text, wanted) in [
            ("channels,layers", "`layers` in pattern `channels,layers`"),
            ("hidden,2:4", "`2:4` in pattern `hidden,2:4`"),
            ("neurons,neurons", "`neurons` stands twice in pattern `neurons,neurons`"),
        ] {
            assert_eq!(Structure::parse(text).unwrap_err().message(), wanted);
        }
    }
}
