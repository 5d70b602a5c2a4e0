//! Windows that slide over pictures and series.

use dlopt_checkpoint::{Error, Result};

use super::{MAX_EXTENT, extent};
use crate::description::Padding;

/// A window that slides over a picture.
pub(super) struct Window<'a> {
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    pub(super) padding: &'a Padding,
    /// 2 for pictures, 1 for series.
    pub(super) axes: usize,
}

impl Window<'_> {
    /// Zeros at the top, bottom, left, right, and how many windows fit into `size` rows and columns.
    pub(super) fn slide(&self, size: [usize; 2]) -> Result<([usize; 4], [usize; 2])> {
        for axis in 0..2 {
            extent("kernel", self.kernel[axis])?;
            extent("stride", self.stride[axis])?;
            extent("dilation", self.dilation[axis])?;
        }
        let mut sides = [0; 4];
        match self.padding {
            Padding::Valid => {}
            Padding::Same => {
                for axis in 0..2 {
                    let wanted = size[axis].div_ceil(self.stride[axis]);
                    let covered = (wanted - 1) * self.stride[axis] + self.reach(axis);
                    let zeros = covered.saturating_sub(size[axis]);
                    sides[2 * axis] = zeros / 2;
                    sides[2 * axis + 1] = zeros - zeros / 2;
                }
            }
            Padding::All(cells) => {
                let rows = if self.axes == 2 { *cells } else { 0 };
                sides = [rows, rows, *cells, *cells];
            }
            Padding::Sides(list) => match (self.axes, list.as_slice()) {
                (2, &[top, bottom, left, right]) => sides = [top, bottom, left, right],
                (2, &[rows, columns]) => sides = [rows, rows, columns, columns],
                (1, &[before, after]) => sides = [0, 0, before, after],
                (axes, list) => {
                    let wanted =
                        if axes == 2 { "[rows, columns] or [top, bottom, left, right]" } else { "[before, after]" };
                    return Err(Error::input(format!("`padding` lists {} numbers; it is {wanted}", list.len())));
                }
            },
        }
        if let Some(cells) = sides.iter().find(|cells| **cells > MAX_EXTENT) {
            return Err(Error::input(format!("`padding` of {cells} is too large")));
        }
        let mut fits = [0; 2];
        for axis in 0..2 {
            let (kernel, stride) = (self.kernel[axis], self.stride[axis]);
            let padded = size[axis] + sides[2 * axis] + sides[2 * axis + 1];
            let reach = self.reach(axis);
            if reach > padded {
                let way = match (self.axes, axis) {
                    (1, _) => "steps",
                    (_, 0) => "rows",
                    _ => "columns",
                };
                let spread = if reach > kernel { format!(", spread over {reach}") } else { String::new() };
                let zeros =
                    if padded > size[axis] { format!(" with padding, {} without", size[axis]) } else { String::new() };
                return Err(Error::input(format!(
                    "a window of {kernel} {way}{spread} does not fit the {padded} {way} that reach it{zeros}: nothing would come out"
                ))
                .hint("use padding = \"same\", a smaller kernel, or fewer layers that shrink; or larger inputs"));
            }
            fits[axis] = (padded - reach) / stride + 1;
        }
        Ok((sides, fits))
    }

    /// Cells from the first tap to the last.
    fn reach(&self, axis: usize) -> usize {
        self.dilation[axis].saturating_mul(self.kernel[axis].saturating_sub(1)).saturating_add(1)
    }
}
