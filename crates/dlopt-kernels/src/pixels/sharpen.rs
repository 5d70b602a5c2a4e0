//! Pictures against their smoothed selves.

/// `s + factor (x - s)` of bytes, with `s` the mean of a pixel and its eight neighbours that counts the pixel five times,
/// rounded to nearest; pixels of the rim stay. `own` is the picture, `[y, x, channel]`, and `out` a copy of it.
pub fn sharpen_u8(own: &[u8], out: &mut [u8], shape: [usize; 3], factor: f32) {
    check(own.len(), out.len(), shape);
    dispatch!(bytes(own: &[u8], out: &mut [u8], shape: [usize; 3], factor: f32));
}

/// The same of floats, held to 0..=white; the mean is not rounded.
pub fn sharpen_f32(own: &[f32], out: &mut [f32], shape: [usize; 3], factor: f32, white: f32) {
    check(own.len(), out.len(), shape);
    dispatch!(floats(own: &[f32], out: &mut [f32], shape: [usize; 3], factor: f32, white: f32));
}

fn check(own: usize, out: usize, [height, width, channels]: [usize; 3]) {
    assert_eq!([own, out], [height * width * channels; 2]);
}

/// Calls `line` with the nine pixels around every one of a line, but for its ends, and where they go.
#[inline(always)]
fn lines<P>(
    own: &[P],
    out: &mut [P],
    [height, width, channels]: [usize; 3],
    mut line: impl FnMut([[&[P]; 3]; 3], &mut [P]),
) {
    if height < 3 || width < 3 {
        return;
    }
    let (row, inner) = (width * channels, (width - 2) * channels);
    for y in 1..height - 1 {
        let around = [y - 1, y, y + 1].map(|y| [0, 1, 2].map(|x| &own[y * row + x * channels..][..inner]));
        line(around, &mut out[y * row + channels..][..inner]);
    }
}

#[inline(always)]
fn bytes(own: &[u8], out: &mut [u8], shape: [usize; 3], factor: f32) {
    lines(own, out, shape, |[[a, b, c], [d, e, f], [g, h, i]], out| {
        for (at, out) in out.iter_mut().enumerate() {
            let around = [a[at], b[at], c[at], d[at], f[at], g[at], h[at], i[at]];
            let sum = around.iter().map(|&x| u16::from(x)).sum::<u16>() + 5 * u16::from(e[at]);
            let smooth = f32::from((sum + 6) / 13);
            *out = super::byte(smooth + factor * (f32::from(e[at]) - smooth));
        }
    });
}

#[inline(always)]
fn floats(own: &[f32], out: &mut [f32], shape: [usize; 3], factor: f32, white: f32) {
    lines(own, out, shape, |[[a, b, c], [d, e, f], [g, h, i]], out| {
        for (at, out) in out.iter_mut().enumerate() {
            let sum = (a[at] + b[at] + c[at]) + (d[at] + e[at] + f[at]) + (g[at] + h[at] + i[at]) + 4.0 * e[at];
            let smooth = sum / 13.0;
            *out = (smooth + factor * (e[at] - smooth)).clamp(0.0, white);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::at_every_level;

    #[test]
    fn pixels_move_away_from_the_mean_around_them() {
        let shape @ [height, width, channels] = [7, 41, 3];
        let own: Vec<u8> = (0..height * width * channels).map(|at| (at * 89 % 256) as u8).collect();
        let sharp = at_every_level(|| {
            let mut out = own.clone();
            sharpen_u8(&own, &mut out, shape, 1.7);
            out
        });
        let floats: Vec<f32> = own.iter().map(|&x| f32::from(x)).collect();
        let sharp_floats = at_every_level(|| {
            let mut out = floats.clone();
            sharpen_f32(&floats, &mut out, shape, 1.7, 255.0);
            out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        });
        for at in 0..own.len() {
            let (y, x) = (at / (width * channels), at / channels % width);
            if [0, height - 1].contains(&y) || [0, width - 1].contains(&x) {
                assert_eq!((sharp[at], sharp_floats[at]), (own[at], floats[at].to_bits()));
                continue;
            }
            let mut sum = 4.0 * f64::from(own[at]);
            for line in [at - width * channels, at, at + width * channels] {
                sum += [line - channels, line, line + channels].iter().map(|&at| f64::from(own[at])).sum::<f64>();
            }
            let smooth = (sum / 13.0).round();
            let wanted = (smooth + 1.7 * (f64::from(own[at]) - smooth)).clamp(0.0, 255.0);
            assert!((f64::from(sharp[at]) - wanted).abs() < 0.501);
            let wanted = (sum / 13.0 + 1.7 * (f64::from(own[at]) - sum / 13.0)).clamp(0.0, 255.0);
            assert!((f64::from(f32::from_bits(sharp_floats[at])) - wanted).abs() < 1e-3);
        }
        let mut small = [1, 2, 3, 4];
        sharpen_u8(&[1, 2, 3, 4], &mut small, [2, 2, 1], 3.0);
        assert_eq!(small, [1, 2, 3, 4]);
    }
}
