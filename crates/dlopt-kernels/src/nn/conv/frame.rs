//! The map that a correlation reads: the image itself, or a copy with columns of zeros or repeated channels.

/// A map with columns of zeros at its sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    /// How often each channel of the image comes in the map.
    pub(super) repeat: usize,
    /// Columns of zeros.
    pub(super) left: usize,
    pub(super) right: usize,
}

impl Frame {
    /// Floats from one row to the next.
    pub(super) fn row(&self) -> usize {
        (self.left + self.width + self.right) * self.channels
    }

    /// Floats of the copy; 0 where the image itself will do.
    pub(super) fn copy_len(&self) -> usize {
        if self.left + self.right == 0 && self.repeat == 1 { 0 } else { self.height * self.row() }
    }

    /// Zeroes the columns at the sides of a copy, once for all images that are put in it.
    pub(super) fn clear_sides(&self, copy: &mut [f32]) {
        for line in copy.chunks_exact_mut(self.row()) {
            line[..self.left * self.channels].fill(0.0);
            line[(self.left + self.width) * self.channels..].fill(0.0);
        }
    }

    /// The map of an image, `[height, width, channels / repeat]`.
    pub(super) fn map<'a>(&self, image: &'a [f32], copy: &'a mut [f32]) -> &'a [f32] {
        if copy.is_empty() {
            return image;
        }
        let line = self.width * self.channels;
        for (from, to) in image.chunks_exact(line / self.repeat).zip(copy.chunks_exact_mut(self.row())) {
            let to = &mut to[self.left * self.channels..][..line];
            if self.repeat == 1 {
                to.copy_from_slice(from);
            } else {
                for (value, copies) in from.iter().zip(to.chunks_exact_mut(self.repeat)) {
                    copies.fill(*value);
                }
            }
        }
        copy
    }
}
