//! Samples that are changed between the file and the network: what augmentation does while a network is trained.

use dlopt_checkpoint::Result;

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Changed {
    /// Steps that count, of series and tokens.
    pub steps: usize,
    /// The sample that was mixed in, and the share, in 0..=1, that the sample's own label keeps.
    pub mixed: Option<(usize, f32)>,
}

/// Changes samples, one thread at a time.
pub trait Change: Send {
    /// Whether samples are mixed, so that labels become shares of classes.
    fn mixes(&self) -> bool {
        false
    }

    /// Changes the stored bytes of a sample, of which `steps` steps count. What comes out must depend on the number of the
    /// sample and on nothing that was changed before.
    ///
    /// # Errors
    /// When it cannot be changed.
    fn change(&mut self, sample: usize, bytes: &mut [u8], steps: usize) -> Result<Changed>;
}

/// Gives every thread that changes samples its own [`Change`].
pub trait Changes: Send + Sync {
    /// One more, which does the same as all others.
    fn change(&self) -> Box<dyn Change>;
}
