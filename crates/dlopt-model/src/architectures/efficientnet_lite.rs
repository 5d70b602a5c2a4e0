//! What a picture shows, of the 1,000 classes of ImageNet: EfficientNet-Lite0 as the Python package `efficientnet_lite_pytorch`
//! stores it (Tan and Le, 2019, arXiv:1905.11946, without squeeze-and-excitation and with ReLU6; Liu, 2020).
//!
//! Sixteen blocks: widen by a 1 x 1 convolution (but for the first block), a depthwise convolution, narrow by another 1 x 1
//! convolution, each with a batch norm; what went in is added where the size stays. Padding is TensorFlow's `same`. Pruned
//! ones are no longer told by their shapes: their config says what they are.

use dlopt_checkpoint::Header;

use super::{Architecture, shape};
use crate::config::ModelConfig;
use crate::description::{
    BatchNorm, Conv2d, Dense, DepthwiseConv2d, Description, Dropout, Extents, GlobalPool, Layer, LayerType, Padding,
    Residual, Units,
};
use crate::plan::{Activation, Shape};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "efficientnet-lite0",
    summary: "pictures of 224 x 224 to the classes of ImageNet: EfficientNet-Lite0",
    source: "Tan and Le, 2019, arXiv:1905.11946; efficientnet_lite_pytorch 0.1.0",
    recognize,
    // Layers are called what the checkpoint calls them.
    names: &[],
};

/// Steps of the depthwise convolutions.
const STRIDES: [usize; 16] = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1];
/// Tensors of the checkpoint, counters of batches included.
const TENSORS: usize = 296;
const SIDE: usize = 224;

fn recognize(header: &Header) -> Option<ModelConfig> {
    if header.tensors.len() != TENSORS || shape(header, "_conv_stem.weight")? != [32, 3, 3, 3] {
        return None;
    }
    let mut layers = convolved(header, "_conv_stem", "_bn0", 2, true)?;
    let mut channels = 32;
    for (number, stride) in STRIDES.into_iter().enumerate() {
        let name = format!("_blocks.{number}");
        let of = |part: &str| format!("{name}.{part}");
        let mut body = match number {
            0 => Vec::new(),
            _ => convolved(header, &of("_expand_conv"), &of("_bn0"), 1, true)?,
        };
        body.extend(depthwise(header, &of("_depthwise_conv"), &of("_bn1"), stride)?);
        body.extend(convolved(header, &of("_project_conv"), &of("_bn2"), 1, false)?);
        let out = shape(header, &of("_project_conv.weight"))?[0];
        match stride == 1 && out == channels {
            true => {
                layers
                    .push(layer(&name, LayerType::Residual(Residual { body, shortcut: Vec::new(), activation: None })));
            }
            false => layers.extend(body),
        }
        channels = out;
    }
    layers.extend(convolved(header, "_conv_head", "_bn1", 1, true)?);
    let &[outputs, _] = shape(header, "_fc.weight")? else { return None };
    layers.extend([
        layer("_avg_pooling", LayerType::GlobalAvgPool(GlobalPool {})),
        layer("_dropout", LayerType::Dropout(Dropout { rate: 0.2 })),
        layer("_fc", LayerType::Dense(Dense { units: Units::Count(outputs), bias: true, activation: None })),
    ]);
    let description = Description {
        summary: Some(ARCHITECTURE.summary.to_owned()),
        source: Some(ARCHITECTURE.source.to_owned()),
        layers,
        ..Description::default()
    };
    let input = Shape::Image { height: SIDE, width: SIDE, channels: 3 };
    ModelConfig::new(&description, input, outputs, Vec::new()).ok()
}

/// A convolution and its batch norm, with ReLU6 behind them or not.
fn convolved(header: &Header, name: &str, norm: &str, stride: usize, is_active: bool) -> Option<Vec<Layer>> {
    let &[filters, _, rows, columns] = shape(header, &format!("{name}.weight"))? else { return None };
    let own = Conv2d {
        filters: Units::Count(filters),
        kernel: Extents([rows, columns]),
        stride: Extents([stride, stride]),
        padding: Padding::Same,
        dilation: Extents::default(),
        groups: 1,
        bias: false,
        activation: None,
    };
    Some(vec![layer(name, LayerType::Conv2d(own)), batch_norm(norm, is_active)])
}

/// A depthwise convolution and its batch norm, with ReLU6.
fn depthwise(header: &Header, name: &str, norm: &str, stride: usize) -> Option<Vec<Layer>> {
    let &[_, 1, rows, columns] = shape(header, &format!("{name}.weight"))? else { return None };
    let own = DepthwiseConv2d {
        kernel: Extents([rows, columns]),
        multiplier: 1,
        stride: Extents([stride, stride]),
        padding: Padding::Same,
        dilation: Extents::default(),
        bias: false,
        activation: None,
    };
    Some(vec![layer(name, LayerType::DepthwiseConv2d(own)), batch_norm(norm, true)])
}

fn batch_norm(name: &str, is_active: bool) -> Layer {
    let activation = is_active.then_some(Activation::Relu6);
    layer(name, LayerType::BatchNorm(BatchNorm { epsilon: 1e-3, momentum: 0.01, activation }))
}

fn layer(name: &str, kind: LayerType) -> Layer {
    Layer { name: Some(name.to_owned()), kind }
}

#[cfg(test)]
mod tests;
