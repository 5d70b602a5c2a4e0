//! Four neighbours put together by weight.

use super::RUN;

/// Two neighbours of every pixel of a run: up to four elements of the left one, and those of the right one from the element
/// of its number of channels on.
pub(super) type Pairs<P> = [[P; 8]; RUN];

/// Elements that can be put together by weight.
pub(super) trait Blend: Copy + Default {
    /// Of pairs of `C` channels above and below; `right` and `down` are what is behind the point of their places, in
    /// 1/65536.
    fn blend<const C: usize>(
        pairs: &[Pairs<Self>; 2],
        right: &[u32; RUN],
        down: &[u32; RUN],
        out: &mut [[Self; 4]; RUN],
    );

    /// The same of pixels of one element, whose corners stand side by side.
    fn blend_one(corners: &[[Self; 4]; RUN], right: &[u32; RUN], down: &[u32; RUN], out: &mut [Self; RUN]);
}

/// A part in 1/65536 as one in 1/256, rounded.
#[inline(always)]
fn in_256(part: u32) -> u32 {
    (part + 128) >> 8
}

impl Blend for u8 {
    #[inline(always)]
    fn blend<const C: usize>(pairs: &[Pairs<u8>; 2], right: &[u32; RUN], down: &[u32; RUN], out: &mut [[u8; 4]; RUN]) {
        let mut corners = [[[0; 4]; RUN]; 4];
        let (mut rights, mut downs) = ([[0_u16; 4]; RUN], [[0_u16; 4]; RUN]);
        for at in 0..RUN {
            let [top, bottom] = [u64::from_le_bytes(pairs[0][at]), u64::from_le_bytes(pairs[1][at])];
            corners[0][at] = (top as u32).to_le_bytes();
            corners[1][at] = ((top >> (8 * C)) as u32).to_le_bytes();
            corners[2][at] = (bottom as u32).to_le_bytes();
            corners[3][at] = ((bottom >> (8 * C)) as u32).to_le_bytes();
            rights[at] = [in_256(right[at]) as u16; 4];
            downs[at] = [in_256(down[at]) as u16; 4];
        }
        let [a, b, c, d] = corners.each_ref().map(|corner| corner.as_flattened());
        let (rights, downs) = (rights.as_flattened(), downs.as_flattened());
        for (at, out) in out.as_flattened_mut().iter_mut().enumerate() {
            let [a, b, c, d] = [a[at], b[at], c[at], d[at]].map(u16::from);
            // Sums are at most 65280; on the way they wrap.
            let pair = |a: u16, b: u16| (a << 8).wrapping_add(b.wrapping_sub(a).wrapping_mul(rights[at])) >> 1;
            let (top, bottom) = (u32::from(pair(a, b)), u32::from(pair(c, d)));
            let down = u32::from(downs[at]);
            *out = ((top * (256 - down) + bottom * down + (1 << 14)) >> 15) as u8;
        }
    }

    #[inline(always)]
    fn blend_one(corners: &[[u8; 4]; RUN], right: &[u32; RUN], down: &[u32; RUN], out: &mut [u8; RUN]) {
        for at in 0..RUN {
            let all = u32::from_le_bytes(corners[at]);
            let [a, b, c, d] = [all & 255, all >> 8 & 255, all >> 16 & 255, all >> 24];
            let (right, down) = (in_256(right[at]), in_256(down[at]));
            let pair = |a: u32, b: u32| (a * (256 - right) + b * right) >> 1;
            out[at] = ((pair(a, b) * (256 - down) + pair(c, d) * down + (1 << 14)) >> 15) as u8;
        }
    }
}

impl Blend for f32 {
    #[inline(always)]
    fn blend<const C: usize>(
        [top, bottom]: &[Pairs<f32>; 2],
        right: &[u32; RUN],
        down: &[u32; RUN],
        out: &mut [[f32; 4]; RUN],
    ) {
        for at in 0..RUN {
            let (right, down) = (share(right[at]), share(down[at]));
            for lane in 0..4 {
                let four = [top[at][lane], top[at][lane + C], bottom[at][lane], bottom[at][lane + C]];
                out[at][lane] = float(four, right, down);
            }
        }
    }

    #[inline(always)]
    fn blend_one(corners: &[[f32; 4]; RUN], right: &[u32; RUN], down: &[u32; RUN], out: &mut [f32; RUN]) {
        for at in 0..RUN {
            out[at] = float(corners[at], share(right[at]), share(down[at]));
        }
    }
}

#[inline(always)]
fn share(part: u32) -> f32 {
    part as i32 as f32 / 65536.0
}

#[inline(always)]
fn float([a, b, c, d]: [f32; 4], right: f32, down: f32) -> f32 {
    let (top, bottom) = (a + (b - a) * right, c + (d - c) * right);
    top + (bottom - top) * down
}
