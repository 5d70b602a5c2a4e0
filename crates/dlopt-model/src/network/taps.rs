//! Places in a network whose values can be seen, and given a gradient, from outside.

use dlopt_checkpoint::{Error, Result};

use crate::plan::{Node, Shape};

/// What a layer puts out, its own activation included.
#[derive(Clone, Debug, PartialEq)]
pub struct Tap {
    /// The layer, as a description names it.
    pub name: String,
    /// One sample of what it puts out.
    pub shape: Shape,
    /// The node of the plan that puts it out.
    pub(crate) node: usize,
}

/// The places of these names. Layers within residual blocks have none: their values are no result of their own.
///
/// # Errors
/// When there is no such layer; those that there are are named.
pub fn taps(nodes: &[Node], names: &[String]) -> Result<Vec<Tap>> {
    let layers = places(nodes);
    let find = |name: &String| {
        layers.iter().find(|tap| tap.name == *name).cloned().ok_or_else(|| {
            let known: Vec<String> =
                layers.iter().map(|tap| format!("{} ({})", tap.name, tap.shape.describe())).collect();
            Error::usage(format!("the network has no layer `{name}` to compare"))
                .hint(format!("it has {}", known.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

/// The place behind a node of the outermost chain, its number given.
pub fn tap_at(nodes: &[Node], node: usize) -> Option<Tap> {
    nodes.get(node).map(|own| Tap { name: own.name.clone(), shape: own.output.clone(), node })
}

/// Every layer of the outermost chain, with the last of the nodes that are its own.
fn places(nodes: &[Node]) -> Vec<Tap> {
    let mut all: Vec<Tap> = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let is_part = |tap: &Tap| node.name.strip_prefix(&tap.name).is_some_and(|rest| rest.starts_with('.'));
        match all.last_mut() {
            Some(last) if is_part(last) || last.name == node.name => {
                last.node = at;
                last.shape = node.output.clone();
            }
            _ => all.push(Tap { name: node.name.clone(), shape: node.output.clone(), node: at }),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dlopt_kernels::nn::Team;

    use super::*;
    use crate::presets::Preset;
    use crate::{FlatLayout, Mode, Network, initial_values, resolve};

    fn plan(preset: &str) -> Vec<Node> {
        let input = Shape::Image { height: 13, width: 12, channels: 2 };
        resolve(&Preset::named(preset).unwrap().description(), &input, 3).unwrap()
    }

    #[test]
    fn a_layer_ends_behind_its_activation() {
        let nodes = plan("cnn");
        let found = taps(&nodes, &["conv1".to_owned(), "fc2".to_owned()]).unwrap();
        assert_eq!(found[0].shape, Shape::Image { height: 11, width: 10, channels: 32 });
        assert_eq!(nodes[found[0].node].name, "conv1.relu");
        assert_eq!(found[1].shape, Shape::Vector { features: 3 });
        let error = taps(&nodes, &["conv9".to_owned()]).unwrap_err();
        assert!(error.what_to_try().unwrap_or_default().contains("conv2 (a picture of"), "{error:?}");
        let nodes = plan("resnet20");
        let block = &taps(&nodes, &["layer2.1".to_owned()]).unwrap()[0];
        assert_eq!(block.shape.features(), 32);
        assert!(taps(&nodes, &["layer2.1.conv1".to_owned()]).is_err());
    }

    #[test]
    fn taps_change_no_output_and_their_gradients_reach_the_weights() {
        for (preset, names) in
            [("cnn", vec!["conv1", "pool2", "fc1"]), ("resnet20", vec!["bn1", "layer1.0", "layer3.2"])]
        {
            let nodes = plan(preset);
            let layout = FlatLayout::of(&nodes);
            let (weights, mut buffers) = initial_values(&nodes, &layout, 2).unwrap();
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            let found = taps(&nodes, &names).unwrap();
            let team = Arc::new(Team::new(2));
            let mut plain = Network::new(&nodes, &layout, &[], Arc::clone(&team));
            let mut tapped = Network::with_taps(&nodes, &layout, &[], team, &found);
            let inputs: Vec<f32> = (0..3 * 312).map(|i| (i as f32 * 0.37).sin()).collect();
            let mode = Mode::Training { key: 1 };
            let mut other = buffers.clone();
            plain.load(&weights, true);
            tapped.load(&weights, true);
            let wanted = plain.forward(&weights, &mut other, &inputs, None, mode);
            let outputs = tapped.forward(&weights, &mut buffers, &inputs, None, mode);
            assert!(outputs.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-5), "{preset}");
            // The loss is half the sum of squares of all taps: its gradient with respect to a tap is the tap.
            let gradients_of_taps: Vec<Vec<f32>> = tapped.tapped().iter().map(|tap| tap.to_vec()).collect();
            for (tap, values) in found.iter().zip(&gradients_of_taps) {
                assert_eq!(values.len(), 3 * tap.shape.len(), "{}", tap.name);
            }
            let mut gradients = vec![0.0; weights.len()];
            tapped.backward_from(&weights, vec![0.0; outputs.len()], gradients_of_taps, &mut gradients, false);
            let loss = |network: &mut Network, weights: &[f32]| {
                network.load(weights, true);
                let _ = network.forward(weights, &mut vec![0.0; layout.buffers_len], &inputs, None, mode);
                let tapped = network.tapped();
                let squares = tapped.iter().flat_map(|tap| tap.iter()).map(|v| f64::from(*v).powi(2));
                squares.sum::<f64>() / 2.0
            };
            let size = gradients.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            let step = 1e-3;
            let moved = |sign: f64| -> Vec<f32> {
                let change = |(w, g): (&f32, &f32)| (f64::from(*w) + sign * step * f64::from(*g) / size) as f32;
                weights.iter().zip(&gradients).map(change).collect()
            };
            let slope = (loss(&mut tapped, &moved(1.0)) - loss(&mut tapped, &moved(-1.0))) / (2.0 * step);
            assert!((slope - size).abs() < 0.05 * size, "{preset}: slope {slope}, gradient {size}");
        }
    }
}
