//! The largest logits of a row, and the mass of the others.
//!
//! The others, `m` of them, are given one logit `r` with `m e^(r / T) = sum e^(z / T)`: at the temperature `T` their mass is
//! what it was, spread evenly.

use super::facts::Top;

/// Splits a row `[classes]` into its `top.count` largest logits, their classes, and the logit of the others.
pub(super) fn split(row: &[f32], top: Top, logits: &mut Vec<f32>, classes: &mut Vec<u32>) -> f32 {
    let mut order: Vec<u32> = (0..row.len() as u32).collect();
    // Largest first, and the first of equals.
    order.sort_by(|a, b| row[*b as usize].total_cmp(&row[*a as usize]).then(a.cmp(b)));
    let count = top.count.min(row.len());
    for &class in &order[..count] {
        logits.push(row[class as usize]);
        classes.push(class);
    }
    let others = &order[count..];
    let Some(&largest) = others.first() else { return 0.0 };
    let most = f64::from(row[largest as usize]);
    let sum: f64 = others.iter().map(|&class| ((f64::from(row[class as usize]) - most) / top.temperature).exp()).sum();
    (most + top.temperature * (sum / others.len() as f64).ln()) as f32
}

/// The row `[classes]` that [`split`] took apart, as far as it is known.
pub(super) fn join(logits: &[f32], classes: &[u32], rest: f32, row: &mut [f32]) {
    row.fill(rest);
    for (&class, &logit) in classes.iter().zip(logits) {
        if let Some(place) = row.get_mut(class as usize) {
            *place = logit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mass(row: &[f32], temperature: f64, classes: &[usize]) -> f64 {
        let e: Vec<f64> = row.iter().map(|z| (f64::from(*z) / temperature).exp()).collect();
        classes.iter().map(|&class| e[class]).sum::<f64>() / e.iter().sum::<f64>()
    }

    #[test]
    fn the_largest_come_back_and_the_mass_of_the_others_is_right() {
        let row = [0.5, 3.0, -2.0, 3.0, 1.0, 0.0];
        let top = Top { count: 2, temperature: 4.0 };
        let (mut logits, mut classes) = (Vec::new(), Vec::new());
        let rest = split(&row, top, &mut logits, &mut classes);
        assert_eq!((logits.as_slice(), classes.as_slice()), ([3.0, 3.0].as_slice(), [1, 3].as_slice()));
        let mut back = [0.0; 6];
        join(&logits, &classes, rest, &mut back);
        let others = [0, 2, 4, 5];
        assert!((mass(&row, 4.0, &others) - mass(&back, 4.0, &others)).abs() < 1e-7);
        assert!((mass(&row, 1.0, &others) - mass(&back, 1.0, &others)).abs() > 1e-3, "at another one it is not");
    }

    #[test]
    fn all_of_a_row_is_the_row() {
        let row = [0.5, -1.0, 2.0];
        let (mut logits, mut classes) = (Vec::new(), Vec::new());
        let rest = split(&row, Top { count: 9, temperature: 1.0 }, &mut logits, &mut classes);
        let mut back = [0.0; 3];
        join(&logits, &classes, rest, &mut back);
        assert_eq!(back, row);
    }
}
