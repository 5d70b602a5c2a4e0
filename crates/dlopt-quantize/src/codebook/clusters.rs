//! The optimal clusters of points on a line, by dynamic programming.
//!
//! ```text
//! D[q, j] = min over i of D[q - 1, i - 1] + cost(i, j)
//! ```
//! with `cost(i, j)` the squared error of points `i..=j` about their mean, or about 0 if zero is one of them. Both obey the
//! quadrangle inequality, so the best `i` never falls as `j` grows, and a row takes `n log n` steps by halving. Sources:
//! Wang and Song, 2011, Ckmeans.1d.dp; Grønlund et al., 2017, arXiv:1701.07204. The anchor at zero is ours: a pruned
//! weight must stay 0, so its cluster has no other center.

use super::census::Point;

/// Sums over the points before each.
struct Sums {
    weight: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
    /// The place of zero, or beyond all.
    zero: usize,
}

/// The centers of at most `most` clusters with the least squared error, ascending. Points ascend.
pub(super) fn centers(points: &[Point], most: usize) -> Vec<f64> {
    if points.len() <= most {
        return points.iter().map(|p| p.value).collect();
    }
    let sums = Sums::of(points);
    let mut cost: Vec<f64> = (0..points.len()).map(|j| sums.cost(0, j)).collect();
    let mut firsts: Vec<Vec<u32>> = Vec::with_capacity(most);
    for clusters in 1..most {
        let mut next = Row { cost: vec![0.0; points.len()], first: vec![0; points.len()] };
        let (low, high) = (clusters, points.len() - 1);
        fill(&sums, &cost, &mut next, low..high + 1, low..high + 1);
        cost = next.cost;
        firsts.push(next.first);
    }
    let mut end = points.len();
    let mut centers = Vec::with_capacity(most);
    for first in firsts.iter().rev() {
        let begin = first[end - 1] as usize;
        centers.push(sums.center(points, begin, end));
        end = begin;
    }
    centers.push(sums.center(points, 0, end));
    centers.reverse();
    centers
}

/// The least errors with one more cluster, and where its last one begins.
struct Row {
    cost: Vec<f64>,
    first: Vec<u32>,
}

/// Fills the places in `ends`, whose last clusters begin in `begins`.
fn fill(sums: &Sums, cost: &[f64], next: &mut Row, ends: std::ops::Range<usize>, begins: std::ops::Range<usize>) {
    if ends.is_empty() {
        return;
    }
    let end = ends.start + ends.len() / 2;
    let (mut best, mut least) = (begins.start, f64::INFINITY);
    for begin in begins.start..begins.end.min(end + 1) {
        let found = cost[begin - 1] + sums.cost(begin, end);
        if found < least {
            (best, least) = (begin, found);
        }
    }
    next.cost[end] = least;
    next.first[end] = best as u32;
    fill(sums, cost, next, ends.start..end, begins.start..best + 1);
    fill(sums, cost, next, end + 1..ends.end, best..begins.end);
}

impl Sums {
    fn of(points: &[Point]) -> Self {
        let zero = points.iter().position(|p| p.value == 0.0);
        // Near their mean differences of sums lose less; the anchor needs sums about 0.
        let shift = match zero {
            Some(_) => 0.0,
            None => {
                points.iter().map(|p| p.value * p.weight).sum::<f64>() / points.iter().map(|p| p.weight).sum::<f64>()
            }
        };
        let sums = |of: fn(f64, f64) -> f64| {
            let each = points.iter().scan(0.0, |sum, p| {
                *sum += of(p.weight, p.value - shift);
                Some(*sum)
            });
            std::iter::once(0.0).chain(each).collect()
        };
        Self {
            weight: sums(|w, _| w),
            first: sums(|w, x| w * x),
            second: sums(|w, x| w * x * x),
            zero: zero.unwrap_or(usize::MAX),
        }
    }

    /// The squared error of points `i..=j` in one cluster.
    fn cost(&self, i: usize, j: usize) -> f64 {
        let second = self.second[j + 1] - self.second[i];
        if i == j {
            return 0.0;
        }
        if (i..=j).contains(&self.zero) {
            return second;
        }
        let first = self.first[j + 1] - self.first[i];
        (second - first * first / (self.weight[j + 1] - self.weight[i])).max(0.0)
    }

    fn center(&self, points: &[Point], begin: usize, end: usize) -> f64 {
        let points = &points[begin..end];
        match points {
            _ if (begin..end).contains(&self.zero) => 0.0,
            [one] => one.value,
            _ => {
                let weight: f64 = points.iter().map(|p| p.weight).sum();
                points.iter().map(|p| p.value * p.weight).sum::<f64>() / weight
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The squared error of the nearest of some centers.
    fn error(points: &[Point], centers: &[f64]) -> f64 {
        let nearest = |p: &Point| centers.iter().map(|c| (p.value - c).powi(2)).fold(f64::INFINITY, f64::min);
        points.iter().map(|p| p.weight * nearest(p)).sum()
    }

    /// The least error over all ways to cut the points, by trying each.
    fn least(points: &[Point], clusters: usize) -> f64 {
        let of_one = |points: &[Point]| {
            let weight: f64 = points.iter().map(|p| p.weight).sum();
            let mean = points.iter().map(|p| p.value * p.weight).sum::<f64>() / weight;
            let center = if points.iter().any(|p| p.value == 0.0) { 0.0 } else { mean };
            points.iter().map(|p| p.weight * (p.value - center).powi(2)).sum::<f64>()
        };
        if clusters == 1 {
            return of_one(points);
        }
        let cut = |at: usize| least(&points[..at], clusters - 1) + of_one(&points[at..]);
        (clusters - 1..points.len()).map(cut).fold(f64::INFINITY, f64::min)
    }

    proptest! {
        #[test]
        fn no_other_clusters_are_better(
            values in prop::collection::btree_map(-40i32..40, 1u32..5, 3..11), clusters in 1usize..5, shift in -3i32..3,
        ) {
            let point = |(value, weight): (&i32, &u32)| Point {
                value: f64::from(*value + shift * 41) / 8.0, weight: f64::from(*weight),
            };
            let points: Vec<Point> = values.iter().map(point).collect();
            prop_assume!(clusters < points.len());
            let found = centers(&points, clusters);
            prop_assert!(found.windows(2).all(|c| c[0] <= c[1]));
            let (own, least) = (error(&points, &found), least(&points, clusters));
            prop_assert!(own <= least + 1e-9, "{own} {least}");
        }
    }
}
