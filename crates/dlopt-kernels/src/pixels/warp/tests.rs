//! Places, filters and fills against plain arithmetic.

use super::*;
use crate::level::at_every_level;

const FILLS: [Fill<f64>; 3] = [Fill::Constant(77.0), Fill::Edge, Fill::Reflect];

fn maps(width: f64, height: f64) -> Vec<[f64; 6]> {
    let (sine, cosine) = 0.6_f64.sin_cos();
    vec![
        [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        [0.0, 1.0, 0.0, 1.0, 0.0, 0.0],
        [-1.0, 0.0, width - 1.0, 0.0, 1.0, 0.0],
        [cosine, -sine, 1.3, sine, cosine, -2.7],
        [0.31, 0.02, 2.237, -0.0513, 0.413, height / 3.0],
        [9.0, 3.17, -40.31, 2.2, 7.71, -31.13],
    ]
}

/// The same in plain `f64`, of places rounded to 1/65536.
fn plain(
    picture: &[f64],
    [height, width, channels]: [usize; 3],
    map: &[f64; 6],
    filter: Filter,
    fill: Fill<f64>,
) -> Vec<f64> {
    let mirrored = |at: i64, extent: usize| {
        let period = (2 * (extent as i64 - 1)).max(1);
        let at = at.rem_euclid(period);
        at.min(period - at).min(extent as i64 - 1)
    };
    let pixel = |x: i64, y: i64, channel: usize| {
        let is_inside = (0..width as i64).contains(&x) && (0..height as i64).contains(&y);
        let (x, y) = match fill {
            Fill::Constant(value) if !is_inside => return value,
            Fill::Constant(_) => (x, y),
            Fill::Edge => (x.clamp(0, width as i64 - 1), y.clamp(0, height as i64 - 1)),
            Fill::Reflect => (mirrored(x, width), mirrored(y, height)),
        };
        picture[(y as usize * width + x as usize) * channels + channel]
    };
    let mut out = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let [a, b, c, d, e, f] = *map;
            let place = |p: f64| (p * 65536.0).round() / 65536.0;
            let (px, py) = (place(a * x as f64 + b * y as f64 + c), place(d * x as f64 + e * y as f64 + f));
            for channel in 0..channels {
                out.push(match filter {
                    Filter::Nearest => pixel((px + 0.5).floor() as i64, (py + 0.5).floor() as i64, channel),
                    Filter::Bilinear => {
                        let (left, top) = (px.floor() as i64, py.floor() as i64);
                        let (right, down) = (px - px.floor(), py - py.floor());
                        let line = |y| pixel(left, y, channel) * (1.0 - right) + pixel(left + 1, y, channel) * right;
                        line(top) * (1.0 - down) + line(top + 1) * down
                    }
                });
            }
        }
    }
    out
}

#[test]
fn pixels_come_from_their_places() {
    for shape @ [height, width, channels] in
        [[9, 40, 1], [33, 7, 3], [5, 6, 2], [8, 8, 4], [3, 35, 6], [1, 1, 1], [1, 9, 3]]
    {
        let bytes: Vec<u8> = (0..height * width * channels).map(|at| (at * 89 % 256) as u8).collect();
        let floats: Vec<f32> = bytes.iter().map(|&x| f32::from(x)).collect();
        let exact: Vec<f64> = bytes.iter().map(|&x| f64::from(x)).collect();
        for map in maps(width as f64, height as f64) {
            for (fill, filter) in FILLS.into_iter().flat_map(|fill| [(fill, Filter::Bilinear), (fill, Filter::Nearest)])
            {
                let wanted = plain(&exact, shape, &map, filter, fill);
                let own = at_every_level(|| {
                    let mut own = bytes.clone();
                    let fill = match fill {
                        Fill::Constant(_) => Fill::Constant(77),
                        Fill::Edge => Fill::Edge,
                        Fill::Reflect => Fill::Reflect,
                    };
                    warp_u8(&mut own, shape, Map::Affine(map), filter, fill, &mut Room::default());
                    own
                });
                for (own, wanted) in own.iter().zip(&wanted) {
                    assert!(
                        (f64::from(*own) - wanted).abs() < 1.6,
                        "{shape:?} {map:?} {fill:?} {filter:?}: {own} {wanted}"
                    );
                }
                let own = at_every_level(|| {
                    let mut own = floats.clone();
                    let fill = match fill {
                        Fill::Constant(_) => Fill::Constant(77.0),
                        Fill::Edge => Fill::Edge,
                        Fill::Reflect => Fill::Reflect,
                    };
                    warp_f32(&mut own, shape, Map::Affine(map), filter, fill, &mut Room::default());
                    own.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
                });
                for (own, wanted) in own.iter().zip(&wanted) {
                    let own = f64::from(f32::from_bits(*own));
                    assert!((own - wanted).abs() < 1e-3, "{shape:?} {map:?} {fill:?} {filter:?}: {own} {wanted}");
                }
            }
        }
    }
}

#[test]
fn single_places_are_those_of_the_map() {
    let shape = [9, 37, 3];
    let picture: Vec<u8> = (0..9 * 37 * 3).map(|at| (at * 31 % 256) as u8).collect();
    let [a, b, c, d, e, f] = maps(37.0, 9.0)[3];
    let places = |u: f64, v: f64, w: f64| -> Vec<f64> {
        (0..9 * 37).map(|at| u * f64::from(at % 37) + (v * f64::from(at / 37) + w)).collect()
    };
    let [mut one, mut other] = [picture.clone(), picture];
    let mut room = Room::default();
    warp_u8(&mut one, shape, Map::Affine([a, b, c, d, e, f]), Filter::Bilinear, Fill::Reflect, &mut room);
    let (xs, ys) = (places(a, b, c), places(d, e, f));
    warp_u8(&mut other, shape, Map::Places(&xs, &ys), Filter::Bilinear, Fill::Reflect, &mut room);
    assert_eq!(one, other);
    // What is no place at all is somewhere in the picture.
    warp_u8(
        &mut one,
        shape,
        Map::Places(&[f64::NAN; 333], &[f64::INFINITY; 333]),
        Filter::Nearest,
        Fill::Edge,
        &mut room,
    );
    assert!(one.chunks(3).all(|pixel| *pixel == one[..3]));
}
