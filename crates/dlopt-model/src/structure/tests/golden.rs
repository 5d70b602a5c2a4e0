//! The same channels, cut by torch-pruning: the same parameters go, and the same comes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use dlopt_kernels::nn::Team;
use dlopt_prune::{Cut, Part};

use crate::config::ModelConfig;
use crate::coupling::coupling;
use crate::description::Description;
use crate::layout::FlatLayout;
use crate::network::{Mode, Network};
use crate::plan::Shape;
use crate::structure::network::Prunable;
use crate::testing::assert_close;
use crate::weights::to_tensors;

/// A file of `fixtures/pruning`.
struct Golden(safetensors::SafeTensors<'static>, serde_json::Value);

impl Golden {
    fn open(name: &str) -> Self {
        let path = format!("{}/../../fixtures/pruning/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let bytes: &'static [u8] = std::fs::read(path).unwrap().leak();
        let (_, metadata) = safetensors::SafeTensors::read_metadata(bytes).unwrap();
        let metadata = serde_json::to_value(metadata.metadata().clone().unwrap()).unwrap();
        Self(safetensors::SafeTensors::deserialize(bytes).unwrap(), metadata)
    }

    fn values(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let view = self.0.tensor(name).unwrap();
        let values = view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        (view.shape().to_vec(), values)
    }
}

#[test]
fn torch_pruning_takes_the_same_parameters_out() {
    for (name, groups_cut) in [("plain", 3), ("residual", 4), ("depthwise", 3)] {
        let golden = Golden::open(name);
        let text = format!("layers = [{}]", golden.1["layers"].as_str().unwrap());
        let input = Shape::Image { height: 8, width: 6, channels: 3 };
        let config = ModelConfig::new(&Description::from_toml(&text).unwrap(), input, 4, Vec::new()).unwrap();
        let graph = coupling(&config.resolve().unwrap());
        let cuts: BTreeMap<String, Vec<usize>> = serde_json::from_str(golden.1["cuts"].as_str().unwrap()).unwrap();
        let mut kept: Vec<Vec<usize>> = graph.groups.iter().map(|group| (0..group.channels).collect()).collect();
        for (layer, gone) in &cuts {
            let writes = |group: &dlopt_prune::Group| {
                group
                    .members
                    .iter()
                    .any(|m| m.tensor == format!("{layer}.weight") && m.axis == 0 && m.part == Part::Writes)
            };
            let at = graph.groups.iter().position(writes).unwrap();
            kept[at].retain(|channel| !gone.contains(channel));
        }
        assert_eq!(
            kept.iter().zip(&graph.groups).filter(|(own, group)| own.len() < group.channels).count(),
            groups_cut
        );
        // Every tensor bit for bit.
        let cut = Cut::new(&graph, kept);
        let before = golden.0.names().into_iter().filter_map(|name| name.strip_prefix("before."));
        for tensor in before {
            let (from, values) = golden.values(&format!("before.{tensor}"));
            let slices = cut.slices(tensor, &from);
            let (shape, wanted) = golden.values(&format!("after.{tensor}"));
            assert_eq!((&slices.shape, slices.of(&values)), (&shape, wanted), "{name}, {tensor}");
        }
        // And what comes out.
        let layout = FlatLayout::of(&config.resolve().unwrap());
        let nothing = (vec![0.0; layout.params_len], vec![0.0; layout.buffers_len]);
        let (header, _) = to_tensors(&config, &layout, &nothing.0, &nothing.1, &BTreeMap::new());
        let left = Prunable::of(&header).unwrap().narrowed(&cut).unwrap();
        let layout = FlatLayout::of(&left.nodes);
        let after = |own: &crate::layout::FlatTensor| Ok(golden.values(&format!("after.{}", own.name)).1);
        let (params, mut buffers) = layout.from_checkpoint(after).unwrap();
        let mut network = Network::new(&left.nodes, &layout, &[], Arc::new(Team::new(1)));
        network.load(&params, false);
        let (shape, pictures) = golden.values("input");
        let [samples, channels, places] = [shape[0], shape[1], shape[2] * shape[3]];
        let mut inputs = vec![0.0; pictures.len()];
        for (at, value) in pictures.iter().enumerate() {
            let (sample, channel, place) = (at / (channels * places), at / places % channels, at % places);
            inputs[(sample * places + place) * channels + channel] = *value;
        }
        let outputs = network.forward(&params, &mut buffers, &inputs, None, Mode::Inference);
        assert_eq!(outputs.len(), samples * 4);
        assert_close(&outputs, &golden.values("logits").1, name);
    }
}
