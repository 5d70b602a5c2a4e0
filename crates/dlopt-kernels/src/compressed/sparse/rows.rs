//! The weights of a matrix that are not 0, output by output: what every layout is packed from.

/// Places and values of the weights that are not 0, in order of outputs and inputs.
pub(in crate::compressed) struct Rows<W> {
    pub(in crate::compressed) inputs: usize,
    start: Vec<usize>,
    place: Vec<u32>,
    value: Vec<W>,
}

impl<W: Copy + Default + PartialEq> Rows<W> {
    /// Reads `outputs` rows of `inputs` values.
    ///
    /// # Panics
    /// When there are no outputs or no inputs, or more than `u32` counts.
    pub(in crate::compressed) fn read(outputs: usize, inputs: usize, row: &mut dyn FnMut(usize, &mut [W])) -> Self {
        assert!(outputs > 0 && inputs > 0, "a matrix has outputs and inputs, found {outputs} and {inputs}");
        assert!(outputs.max(inputs) < 1 << 31, "places are counted in 31 bits, found {inputs} to {outputs}");
        let (mut start, mut place, mut value) = (vec![0], vec![], vec![]);
        let mut values = vec![W::default(); inputs];
        for output in 0..outputs {
            row(output, &mut values);
            for (at, &weight) in values.iter().enumerate() {
                if weight != W::default() {
                    place.push(at as u32);
                    value.push(weight);
                }
            }
            start.push(place.len());
        }
        Self { inputs, start, place, value }
    }

    pub(in crate::compressed) fn outputs(&self) -> usize {
        self.start.len() - 1
    }

    /// Weights that are not 0.
    pub(in crate::compressed) fn nonzeros(&self) -> usize {
        self.place.len()
    }

    /// Ascending inputs of an output, and their weights.
    pub(in crate::compressed) fn of(&self, output: usize) -> (&[u32], &[W]) {
        let range = self.start[output]..self.start[output + 1];
        (&self.place[range.clone()], &self.value[range])
    }

    /// Outputs by how many weights they have, fewest first.
    pub(in crate::compressed) fn by_count(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.outputs() as u32).collect();
        order.sort_by_key(|&output| self.start[output as usize + 1] - self.start[output as usize]);
        order
    }
}
