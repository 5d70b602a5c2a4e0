//! Attention by dot products (Luong et al., 2015, arXiv:1508.04025, "global", score `dot`, without input feeding).
//!
//! For a sample with states `E` `[read, hidden]` of the encoder and `H` `[steps, hidden]` of the decoder, of valid steps
//! alone: `A = softmax(H E^T)` over what was read, `C = A E`; beside `H`, `[C, H]` `[steps, 2 hidden]`, it goes on.

use dlopt_kernels::nn::{Dense, Team, softmax_rows, softmax_rows_gradient};

/// Where the rows of each sample lie.
pub(super) struct Spans<'a> {
    pub(super) hidden: usize,
    /// Steps between two samples of the encoder's states.
    pub(super) read_time: usize,
    /// Valid steps that each sample's encoder read.
    pub(super) read: &'a [u32],
    /// Steps of each sample's decoder; their rows stand back to back.
    pub(super) steps: &'a [usize],
}

/// One sample's part of a pass.
struct Task<'t> {
    kernel: Dense,
    steps: usize,
    /// `E`
    encoder: &'t [f32],
    /// `H`
    decoder: &'t [f32],
    /// `A`
    shares: &'t mut [f32],
    /// `[C, H]`
    both: &'t mut [f32],
}

impl Spans<'_> {
    /// Values of all shares.
    pub(super) fn shares_len(&self) -> usize {
        self.steps.iter().zip(self.read).map(|(steps, &read)| steps * read as usize).sum()
    }

    /// The steps, what was read, and the encoder's states of each sample that has steps.
    fn samples<'s>(&'s self, encoder: &'s [f32]) -> impl Iterator<Item = (usize, usize, &'s [f32])> + 's {
        let stride = self.read_time * self.hidden;
        self.steps.iter().zip(self.read).enumerate().filter(|(_, (steps, _))| **steps > 0).map(
            move |(sample, (&steps, &read))| {
                (steps, read as usize, &encoder[sample * stride..][..read as usize * self.hidden])
            },
        )
    }

    /// Fills `shares` and `both` from the encoder's states, `[samples, read_time, hidden]`, and the decoder's.
    pub(super) fn forward(
        &self,
        team: &Team,
        encoder: &[f32],
        decoder: &[f32],
        mut shares: &mut [f32],
        mut both: &mut [f32],
    ) {
        let (hidden, mut decoder) = (self.hidden, decoder);
        let mut tasks = Vec::with_capacity(self.steps.len());
        for (steps, read, encoder) in self.samples(encoder) {
            let kernel = Dense::new(read, hidden, false);
            tasks.push(Task {
                kernel,
                steps,
                encoder,
                decoder: decoder.split_off(..steps * hidden).unwrap_or_default(),
                shares: shares.split_off_mut(..steps * read).unwrap_or_default(),
                both: both.split_off_mut(..steps * 2 * hidden).unwrap_or_default(),
            });
        }
        let alone = Team::new(1);
        team.each(&mut tasks, |_, task| {
            let (mut packed, mut context) = (Vec::new(), vec![0.0; task.steps * hidden]);
            let mut scores = vec![0.0; task.shares.len()];
            task.kernel.pack_backward(&alone, task.encoder, &mut packed);
            task.kernel.input_gradient(task.steps, task.decoder, &packed, &mut scores);
            softmax_rows(task.steps, task.kernel.inputs(), &scores, task.shares);
            task.kernel.pack_forward(&alone, task.encoder, &mut packed);
            task.kernel.forward(task.steps, task.shares, &packed, None, &mut context);
            let parts = context.chunks_exact(hidden).zip(task.decoder.chunks_exact(hidden));
            for (both, (context, state)) in task.both.chunks_exact_mut(2 * hidden).zip(parts) {
                both[..hidden].copy_from_slice(context);
                both[hidden..].copy_from_slice(state);
            }
        });
    }

    /// Writes the gradients of the decoder's states and, for valid steps, of the encoder's from that of `both`.
    #[allow(clippy::too_many_arguments, reason = "what the pass read, and what it writes")]
    pub(super) fn backward(
        &self,
        team: &Team,
        encoder: &[f32],
        mut decoder: &[f32],
        mut shares: &[f32],
        mut gradient: &[f32],
        of_encoder: &mut [f32],
        mut of_decoder: &mut [f32],
    ) {
        let hidden = self.hidden;
        let mut tasks = Vec::with_capacity(self.steps.len());
        let of_samples = of_encoder.chunks_mut((self.read_time * hidden).max(1));
        let of_samples = of_samples.zip(self.steps).filter(|(_, steps)| **steps > 0).map(|(own, _)| own);
        for ((steps, read, encoder), of_encoder) in self.samples(encoder).zip(of_samples) {
            tasks.push((
                Dense::new(read, hidden, false),
                encoder,
                decoder.split_off(..steps * hidden).unwrap_or_default(),
                shares.split_off(..steps * read).unwrap_or_default(),
                gradient.split_off(..steps * 2 * hidden).unwrap_or_default(),
                &mut of_encoder[..read * hidden],
                of_decoder.split_off_mut(..steps * hidden).unwrap_or_default(),
            ));
        }
        let alone = Team::new(1);
        team.each(&mut tasks, |_, (kernel, encoder, decoder, shares, gradient, of_encoder, of_decoder)| {
            let (read, steps) = (kernel.inputs(), decoder.len() / hidden);
            let of_context: Vec<f32> = gradient.chunks_exact(2 * hidden).flat_map(|g| g[..hidden].to_vec()).collect();
            let (mut packed, mut of_shares) = (Vec::new(), vec![0.0; steps * read]);
            kernel.pack_backward(&alone, encoder, &mut packed);
            kernel.input_gradient(steps, &of_context, &packed, &mut of_shares);
            let mut of_scores = vec![0.0; steps * read];
            softmax_rows_gradient(steps, read, shares, &of_shares, &mut of_scores);
            kernel.pack_forward(&alone, encoder, &mut packed);
            kernel.forward(steps, &of_scores, &packed, None, of_decoder);
            for (own, both) in of_decoder.chunks_exact_mut(hidden).zip(gradient.chunks_exact(2 * hidden)) {
                own.iter_mut().zip(&both[hidden..]).for_each(|(own, more)| *own += more);
            }
            of_encoder.fill(0.0);
            kernel.weight_gradient(steps, shares, &of_context, 0..read, of_encoder);
            kernel.weight_gradient(steps, &of_scores, decoder, 0..read, of_encoder);
        });
    }
}
