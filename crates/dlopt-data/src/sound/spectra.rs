//! Spectra of short stretches of a sound: `|FFT(window * frame)|^2`, one every `hop` samples.
//!
//! As librosa's `stft` has them: frames are centred, with silence before and after the sound, the window is Hann's for
//! periodic signals and stands in the middle of the frame when it is shorter.

use std::fmt;
use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

/// Longest frame, in samples.
const MOST: usize = 1 << 20;

/// Cuts sounds into frames and transforms each.
#[derive(Clone)]
pub(crate) struct Spectra {
    window: Vec<f64>,
    hop: usize,
    fft: Arc<dyn RealToComplex<f64>>,
}

impl fmt::Debug for Spectra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spectra").field("frame", &self.window.len()).field("hop", &self.hop).finish()
    }
}

impl Spectra {
    /// Frames of `frame` samples, one every `hop`, under a window of `window` samples (as long as the frame when nobody
    /// says).
    ///
    /// # Errors
    /// When one of the lengths makes no sense.
    pub(crate) fn new(frame: usize, window: Option<usize>, hop: usize) -> Result<Self, String> {
        if !(2..=MOST).contains(&frame) || !(1..=MOST).contains(&hop) {
            return Err(format!("frames of {frame} samples every {hop}; wanted 2 to {MOST}, every 1 to {MOST}"));
        }
        let length = window.unwrap_or(frame);
        if length == 0 || length > frame {
            return Err(format!("a window of {length} samples; wanted 1 to {frame}, those of `frame`"));
        }
        let mut padded = vec![0.0; frame];
        let angle = 2.0 * std::f64::consts::PI / length as f64;
        let begin = (frame - length) / 2;
        for (at, to) in padded[begin..begin + length].iter_mut().enumerate() {
            *to = 0.5 - 0.5 * (angle * at as f64).cos();
        }
        Ok(Self { window: padded, hop, fft: RealFftPlanner::new().plan_fft_forward(frame) })
    }

    /// Numbers of a spectrum.
    pub(crate) fn bins(&self) -> usize {
        self.window.len() / 2 + 1
    }

    /// Gives the power spectrum of each frame, in order.
    pub(crate) fn each(&self, sound: &[f32], mut give: impl FnMut(&[f64])) {
        let (length, before) = (self.window.len(), self.window.len() / 2);
        let (mut frame, mut spectrum) = (self.fft.make_input_vec(), self.fft.make_output_vec());
        let mut scratch = self.fft.make_scratch_vec();
        let mut power = vec![0.0; self.bins()];
        for centre in (0..=sound.len()).step_by(self.hop) {
            frame.fill(0.0);
            let begin = centre.saturating_sub(before);
            let end = (centre + length - before).min(sound.len());
            let shift = before - (centre - begin);
            for (at, &x) in sound[begin.min(end)..end].iter().enumerate() {
                frame[shift + at] = f64::from(x) * self.window[shift + at];
            }
            if self.fft.process_with_scratch(&mut frame, &mut spectrum, &mut scratch).is_err() {
                unreachable!("buffers are as long as the transform wants them");
            }
            power.iter_mut().zip(&spectrum).for_each(|(to, from)| *to = from.norm_sqr());
            give(&power);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_stands_in_its_bin() {
        let tone: Vec<f32> = (0..64).map(|t| (2.0 * std::f32::consts::PI * 4.0 * t as f32 / 16.0).sin()).collect();
        let spectra = Spectra::new(16, None, 5).unwrap();
        let mut frames = Vec::new();
        spectra.each(&tone, |power| frames.push(power.to_vec()));
        assert_eq!((frames.len(), spectra.bins()), (1 + 64 / 5, 9));
        // The sum of the window is 8: half of it for each of the two tones of a sine, and a quarter in the neighbours.
        let middle = &frames[5];
        assert!((middle[4] - 16.0).abs() < 1e-4 && (middle[3] - 4.0).abs() < 1e-4 && middle[8] < 1e-6, "{middle:?}");
    }

    #[test]
    fn sounds_shorter_than_a_frame_have_one() {
        let spectra = Spectra::new(16, Some(9), 5).unwrap();
        let mut frames = 0;
        spectra.each(&[1.0; 3], |power| {
            frames += 1;
            assert!(power.iter().all(|x| x.is_finite()));
        });
        assert_eq!(frames, 1);
        assert!(Spectra::new(1, None, 1).is_err() && Spectra::new(8, None, 0).is_err());
        assert!(Spectra::new(8, Some(9), 1).is_err() && Spectra::new(8, Some(0), 1).is_err());
    }
}
