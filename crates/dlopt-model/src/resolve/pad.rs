//! Layers that only move or join values of a series: `pad1d` and `magnitude`.

use dlopt_checkpoint::{Error, Result};

use super::{Builder, MAX_EXTENT};
use crate::description::Pad1d;
use crate::plan::{Op, PadKind, Shape};

impl Builder {
    pub(super) fn pad(&mut self, name: &str, layer: &Pad1d) -> Result<()> {
        let Shape::Series { time, features } = self.shape else {
            return Err(Error::input(format!("takes series; {} reaches it", self.shape.describe()))
                .hint("pictures are padded by conv2d itself; for tokens put an embedding first"));
        };
        for (option, steps) in [("left", layer.left), ("right", layer.right)] {
            if steps > MAX_EXTENT {
                return Err(Error::input(format!("`{option}` is {steps}; it is at most {MAX_EXTENT}")));
            }
            if layer.mode == PadKind::Reflect && steps >= time {
                return Err(Error::input(format!(
                    "`{option}` is {steps}, and a reflection of {time} steps has {}",
                    time - 1
                ))
                .hint("mode = \"edge\" repeats the last one"));
            }
        }
        let output = Shape::Series { time: layer.left + time + layer.right, features };
        let op = Op::Pad { kind: layer.mode, before: layer.left, after: layer.right };
        self.push(name, op, output, Vec::new());
        Ok(())
    }

    pub(super) fn magnitude(&mut self, name: &str) -> Result<()> {
        self.refuse_tokens()?;
        self.refuse_flattened("a magnitude")?;
        let features = self.shape.features();
        if !features.is_multiple_of(2) {
            return Err(Error::input(format!("{features} features reach it, which are not two halves")));
        }
        let half = features / 2;
        let output = match self.shape {
            Shape::Image { height, width, .. } => Shape::Image { height, width, channels: half },
            Shape::Series { time, .. } => Shape::Series { time, features: half },
            _ => Shape::Vector { features: half },
        };
        self.push(name, Op::Magnitude, output, Vec::new());
        Ok(())
    }
}
