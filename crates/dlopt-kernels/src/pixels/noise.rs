//! Noise that was drawn, added to numbers.

/// `x + sigma z`, rounded to nearest (ties to even) and held to 0..=255.
pub fn add_noise_u8(values: &mut [u8], sigma: f32, noise: &[f32]) {
    assert_eq!(values.len(), noise.len());
    dispatch!(bytes(values: &mut [u8], sigma: f32, noise: &[f32]));
}

/// `x + sigma z`.
pub fn add_noise_f32(values: &mut [f32], sigma: f32, noise: &[f32]) {
    assert_eq!(values.len(), noise.len());
    dispatch!(floats(values: &mut [f32], sigma: f32, noise: &[f32]));
}

#[inline(always)]
fn bytes(values: &mut [u8], sigma: f32, noise: &[f32]) {
    for (x, z) in values.iter_mut().zip(noise) {
        *x = super::byte(f32::from(*x) + sigma * z);
    }
}

#[inline(always)]
fn floats(values: &mut [f32], sigma: f32, noise: &[f32]) {
    for (x, z) in values.iter_mut().zip(noise) {
        *x += sigma * z;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;

    #[test]
    fn sums_are_rounded_and_held() {
        let values: Vec<u8> = (0..301).map(|at| (at * 7 % 256) as u8).collect();
        let noise: Vec<f32> = (0..301).map(|at| (at as f32 * 0.37).sin() * 3.0).collect();
        let sums = at_every_level(|| {
            let mut values = values.clone();
            add_noise_u8(&mut values, 20.0, &noise);
            values
        });
        for ((x, z), sum) in values.iter().zip(&noise).zip(&sums) {
            let wanted = (f64::from(*x) + f64::from(20.0 * z)).clamp(0.0, 255.0);
            assert!((wanted - f64::from(*sum)).abs() <= 0.5001, "{x} {z} {sum}");
        }
        let mut ends = [10, 250, 3, 100];
        add_noise_u8(&mut ends, 1.0, &[-11.0, 6.0, f32::NAN, f32::INFINITY]);
        assert_eq!(ends, [0, 255, 0, 255]);
        let floats = at_every_level(|| {
            let mut values = noise.clone();
            add_noise_f32(&mut values, 2.0, &noise);
            values.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        });
        assert!(floats.iter().zip(&noise).all(|(sum, z)| f32::from_bits(*sum) == z + 2.0 * z));
    }
}
