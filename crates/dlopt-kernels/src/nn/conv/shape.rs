//! The sizes of a convolution, and what follows from them alone.

/// The sizes of a two-dimensional convolution on images `[y, x, channel]`.
///
/// `out[y, x, o] = sum over (ky, kx, i) of in[y * stride + ky * dilation - top, ..., group(o) * inputs / groups + i] *
/// weight[ky, kx, i, o]`: a cross-correlation, as everywhere in deep learning. One-dimensional convolutions have height 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Channels of the input; a multiple of `groups`.
    pub inputs: usize,
    /// Channels of the output; a multiple of `groups`.
    pub outputs: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Steps from one output to the next, in rows and columns of the input.
    pub stride: [usize; 2],
    /// Steps from one tap of the kernel to the next, in rows and columns of the input.
    pub dilation: [usize; 2],
    /// Zeros around the input: above, below, left, right.
    pub padding: [usize; 4],
    /// Groups of channels that do not see each other; `inputs` of them make a depthwise convolution.
    pub groups: usize,
}

impl ConvShape {
    /// Rows of the output, before any pool; 0 when the kernel does not fit.
    pub fn out_height(&self) -> usize {
        let [top, bottom, ..] = self.padding;
        extent(self.height + top + bottom, self.kernel[0], self.stride[0], self.dilation[0])
    }

    /// Columns of the output, before any pool; 0 when the kernel does not fit.
    pub fn out_width(&self) -> usize {
        let [.., left, right] = self.padding;
        extent(self.width + left + right, self.kernel[1], self.stride[1], self.dilation[1])
    }

    /// Values of an input image.
    pub fn input_len(&self) -> usize {
        self.height * self.width * self.inputs
    }

    /// Values of an output map, before any pool.
    pub fn output_len(&self) -> usize {
        self.out_height() * self.out_width() * self.outputs
    }

    /// Values of the weight, `[ky, kx, inputs / groups, outputs]`.
    pub fn weight_len(&self) -> usize {
        self.kernel[0] * self.kernel[1] * (self.inputs / self.groups) * self.outputs
    }

    /// Multiply-adds of the forward pass of one image, those with padding included.
    pub fn multiply_adds(&self) -> usize {
        self.out_height() * self.out_width() * self.weight_len()
    }

    /// Each channel has kernels of its own.
    pub(crate) fn is_depthwise(&self) -> bool {
        self.groups == self.inputs && self.groups > 1
    }

    pub(crate) fn check(&self) {
        let positive = [self.height, self.width, self.inputs, self.outputs, self.groups];
        let steps = [self.kernel, self.stride, self.dilation];
        assert!(
            positive.iter().chain(steps.as_flattened()).all(|&n| n > 0),
            "sizes of a convolution are at least 1, found {self:?}"
        );
        assert!(
            self.inputs.is_multiple_of(self.groups) && self.outputs.is_multiple_of(self.groups),
            "inputs and outputs of a convolution are multiples of its groups, found {self:?}"
        );
        let [top, bottom, left, right] = self.padding.map(|n| n as u128);
        let extents = [self.height as u128 + top + bottom, self.width as u128 + left + right];
        let factors = [self.inputs, self.outputs].into_iter().chain(steps.into_iter().flatten()).map(|n| n as u128);
        let product = extents.into_iter().chain(factors).fold(1_u128, u128::saturating_mul);
        assert!(product < 1 << 58, "a convolution's places are counted in 64 bits, found {self:?}");
    }
}

/// How many windows fit.
pub(crate) fn extent(len: usize, kernel: usize, stride: usize, dilation: usize) -> usize {
    (len + stride).saturating_sub(dilation * (kernel - 1) + 1) / stride
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_counted_as_they_fit() {
        assert_eq!(extent(13, 3, 1, 1), 11);
        assert_eq!(extent(9, 3, 2, 1), 4);
        assert_eq!(extent(8, 3, 2, 2), 2);
        assert_eq!(extent(3, 3, 2, 1), 1);
        assert_eq!(extent(2, 3, 1, 1), 0);
        assert_eq!(extent(2, 3, 2, 1), 0);
    }
}
