//! Sums of neighbouring pixels by weight, in 32-bit floats; beyond the edge, the picture mirrored at its outermost pixels.

use crate::sample::{Data, Element, Form, Sample, Scratch};

/// The place that stands for one beyond an axis of `extent` pixels.
pub(super) fn mirrored(place: isize, extent: usize) -> usize {
    let last = extent as isize - 1;
    if last <= 0 {
        return 0;
    }
    let within = place.rem_euclid(2 * last);
    within.min(2 * last - within) as usize
}

/// Along each row and then along each column, with the same symmetric kernel of odd length.
pub(crate) fn separable(sample: &mut Sample, kernel: &[f32], scratch: &mut Scratch) {
    let Form::Image { height, width, channels, .. } = sample.form else { return };
    let shape = [height, width, channels];
    let (mut plane, mut room) = (std::mem::take(&mut scratch.floats), std::mem::take(&mut scratch.more_floats));
    plane.clear();
    match &mut sample.data {
        Data::U8(pixels) => {
            plane.extend(pixels.iter().map(|&x| f32::from(x)));
            both_ways(&mut plane, shape, kernel, &mut room);
            pixels.iter_mut().zip(&plane).for_each(|(to, &from)| *to = u8::of(from));
        }
        Data::F32(pixels) => both_ways(pixels, shape, kernel, &mut room),
        Data::Tokens(_) => {}
    }
    (scratch.floats, scratch.more_floats) = (plane, room);
}

/// The same of floats.
pub(super) fn both_ways(
    pixels: &mut [f32],
    [height, width, channels]: [usize; 3],
    kernel: &[f32],
    room: &mut Vec<f32>,
) {
    let (row, radius) = (width * channels, kernel.len() / 2);
    // A row with its border, and then all rows.
    room.clear();
    room.resize(row + 2 * radius * channels + pixels.len(), 0.0);
    let (wide, rows) = room.split_at_mut(row + 2 * radius * channels);
    for (own, out) in pixels.chunks_exact(row).zip(rows.chunks_exact_mut(row)) {
        wide[radius * channels..][..row].copy_from_slice(own);
        for step in 1..=radius {
            let beyond = [radius - step, radius + width - 1 + step];
            for (to, place) in beyond.into_iter().zip([-(step as isize), (width - 1 + step) as isize]) {
                let from = mirrored(place, width) * channels;
                wide[to * channels..][..channels].copy_from_slice(&own[from..][..channels]);
            }
        }
        for (place, weight) in kernel.iter().enumerate() {
            let own = &wide[place * channels..][..row];
            out.iter_mut().zip(own).for_each(|(sum, x)| *sum += weight * x);
        }
    }
    for (y, out) in pixels.chunks_exact_mut(row).enumerate() {
        out.fill(0.0);
        for (place, weight) in kernel.iter().enumerate() {
            let from = mirrored(y as isize + place as isize - radius as isize, height);
            let own = &rows[from * row..][..row];
            out.iter_mut().zip(own).for_each(|(sum, x)| *sum += weight * x);
        }
    }
}

/// With weights at places `[right, down]` from each pixel.
pub(super) fn sparse(sample: &mut Sample, weights: &[([isize; 2], f32)], scratch: &mut Scratch) {
    let Form::Image { height, width, channels, .. } = sample.form else { return };
    let (mut plane, mut room) = (std::mem::take(&mut scratch.floats), std::mem::take(&mut scratch.more_floats));
    plane.clear();
    match &sample.data {
        Data::U8(pixels) => plane.extend(pixels.iter().map(|&x| f32::from(x))),
        Data::F32(pixels) => plane.extend_from_slice(pixels),
        Data::Tokens(_) => return,
    }
    let row = width * channels;
    room.clear();
    room.resize(plane.len(), 0.0);
    for (y, out) in room.chunks_exact_mut(row).enumerate() {
        for &([right, down], weight) in weights {
            let own = &plane[mirrored(y as isize + down, height) * row..][..row];
            // Columns whose neighbour lies in the row, and then the others.
            let begin = (-right).clamp(0, width as isize) as usize;
            let end = (width as isize - right).clamp(begin as isize, width as isize) as usize;
            if begin < end {
                let from = (begin as isize + right) as usize * channels;
                let inner = &mut out[begin * channels..end * channels];
                inner.iter_mut().zip(&own[from..]).for_each(|(sum, x)| *sum += weight * x);
            }
            for x in (0..begin).chain(end..width) {
                let from = mirrored(x as isize + right, width) * channels;
                let pixel = &mut out[x * channels..][..channels];
                pixel.iter_mut().zip(&own[from..]).for_each(|(sum, x)| *sum += weight * x);
            }
        }
    }
    match &mut sample.data {
        Data::U8(pixels) => pixels.iter_mut().zip(&room).for_each(|(to, &from)| *to = u8::of(from)),
        Data::F32(pixels) => pixels.copy_from_slice(&room),
        Data::Tokens(_) => {}
    }
    (scratch.floats, scratch.more_floats) = (plane, room);
}
